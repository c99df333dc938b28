package web_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/web"
)

// TestGnuPGImportsWhatTheDirectoryServes goes the way of a key from making it
// to the key ring of somebody else, and that of its revocation. GnuPG asks
// only real hosts by HTTPS, so the test fetches in its place, by GnuPG's name
// for the entry.
func TestGnuPGImportsWhatTheDirectoryServes(t *testing.T) {
	ctx := context.Background()
	d := dbtest.SQLite(t)
	keys := custodytest.New(t, d)
	now := clock.NewFake(time.Now().UTC().Truncate(time.Second))
	accounts := account.New(account.Deps{DB: d, Custody: keys, Clock: now})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	org := accounttest.Org(t, accounts, "clinic")
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	service := identity.New(identity.Deps{DB: d, Custody: keys, Accounts: accounts, Clock: now, Log: logger})
	a, err := mail.ParseAddress("Dr.Canary@clinic.example")
	must(err)
	made, err := service.Create(ctx, org, identity.Request{Address: a, Kind: policy.PGP, Name: "Dr. Ada", Expires: now.Now().AddDate(2, 0, 0)})
	must(err)

	limit, err := web.NewLimiter(now, 60, 30)
	must(err)
	mux := http.NewServeMux()
	web.Directory{Keys: service.Published, Serves: service.Publishes, Limit: limit}.Routes(mux)
	server := httptest.NewServer(web.Wrap(web.Deps{Log: logger, Clock: now, PublicURL: "https://portal.example"}, mux))
	defer server.Close()

	home, err := os.MkdirTemp("", "gpg")
	must(err)
	defer func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	}()
	gpg := func(stdin []byte, args ...string) string {
		t.Helper()
		c := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--no-tty", "--with-colons"}, args...)...)
		c.Stdin = bytes.NewReader(stdin)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	fetch := func(host, path string) ([]byte, int) {
		t.Helper()
		q, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
		must(err)
		q.Host = host
		r, err := http.DefaultClient.Do(q)
		must(err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		must(err)
		return b, r.StatusCode
	}

	gpg(made.Key.Bytes(), "--import")
	var name string // as GnuPG computes it, with the domain behind it
	for _, word := range strings.Fields(plainList(t, home)) {
		if hash, ok := strings.CutSuffix(word, "@clinic.example"); ok && len(hash) == 32 {
			name = hash
		}
	}
	if name == "" {
		t.Fatalf("GnuPG names no entry:\n%s", plainList(t, home))
	}
	gpg(nil, "--yes", "--delete-keys", made.Fingerprint.Reveal())
	root := "/.well-known/openpgpkey/"
	served, status := fetch("openpgpkey.clinic.example", root+"clinic.example/hu/"+name+"?l=Dr.Canary")
	if status != 200 || !strings.Contains(gpg(served, "--import-options", "show-only", "--import"), made.Fingerprint.Reveal()) {
		t.Fatalf("advanced: %d", status)
	}
	if direct, status := fetch("clinic.example", root+"hu/"+name+"?l=Dr.Canary"); status != 200 || !bytes.Equal(direct, served) {
		t.Errorf("direct: %d", status)
	}
	gpg(served, "--import")

	_, err = service.Revoke(ctx, org, made.ID, identity.Compromised)
	must(err)
	served, status = fetch("clinic.example", root+"hu/"+name)
	gpg(served, "--import")
	if list := gpg(nil, "--list-keys"); status != 200 || !strings.Contains(list, "\npub:r:") {
		t.Errorf("the revocation: %d\n%s", status, list)
	}
	if strings.Contains(log.String(), "anary") || strings.Contains(log.String(), name) {
		t.Errorf("the log: %s", log.String())
	}
}

// plainList is GnuPG's list for people, which has the names of entries.
func plainList(t *testing.T, home string) string {
	t.Helper()
	out, err := exec.Command("gpg", "--homedir", home, "--batch", "--no-tty", "--with-wkd-hash", "--list-keys").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
