package keyring_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/policy"
)

func armor(octets []byte) []byte {
	text := base64.StdEncoding.EncodeToString(octets)
	var b strings.Builder
	b.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: of a test\n\n")
	for len(text) > 64 {
		b.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	b.WriteString(text + "\n-----END PGP PUBLIC KEY BLOCK-----\n")
	return []byte(b.String())
}

func (s *site) imports(data []byte, o keyring.Options) (outcomes string, reason string) {
	s.t.Helper()
	entries, err := s.ring.Import(ctx, s.org, data, o)
	if err != nil {
		return "", fault.From(err).Reason
	}
	var words []string
	for _, e := range entries {
		words = append(words, e.Outcome)
		if e.Outcome == "refused" {
			words[len(words)-1] += ":" + e.Reason
		}
	}
	return strings.Join(words, " "), ""
}

func fold(line string) string {
	var b strings.Builder
	for len(line) > 75 {
		b.WriteString(line[:75] + "\r\n ")
		line = line[75:]
	}
	return b.String() + line + "\r\n"
}

func TestEveryFormIsRead(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	stranger := newAuthority(t, s.clk.Now())
	n := 0
	key := func() []byte {
		n++
		return s.key(address(t, fmt.Sprintf("k%d@practice.example", n))).Bytes()
	}
	cert := func() []byte {
		n++
		return stranger.issue(address(t, fmt.Sprintf("k%d@practice.example", n)), s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0)).Raw
	}
	inPEM := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	inPKCS7 := func(certs []byte, form string) []byte {
		file := filepath.Join(t.TempDir(), "certs.pem")
		s.check(os.WriteFile(file, certs, 0o600))
		out, err := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", file, "-outform", form).Output()
		s.check(err)
		return out
	}
	card := func(lines ...string) []byte {
		return []byte("BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Jane\r\n" + strings.Join(lines, "") + "END:VCARD\r\n")
	}
	b64 := base64.StdEncoding.EncodeToString
	known, expired := key(), s.secret(address(t, "old@practice.example"), s.clk.Now().Add(-time.Hour)).Public().Bytes()
	for _, tc := range []struct {
		name, want string
		data       []byte
	}{
		{"binary", "added", known},
		{"armored", "known", armor(known)},
		{"with text around and a byte order mark", "added", []byte("\xef\xbb\xbfHello,\r\n" + strings.ReplaceAll(string(armor(key())), "\n", "\r\n") + "Jane\r\n")},
		{"a ring", "added added added", bytes.Join([][]byte{key(), key(), key()}, nil)},
		{"an armored ring with one that has expired", "added refused:expired added", armor(bytes.Join([][]byte{key(), expired, key()}, nil))},
		{"two blocks", "added added", append(armor(key()), armor(key())...)},
		{"a ring with nonsense in it", "refused:unsupported added", append([]byte{0xc6, 3, 1, 2, 3}, key()...)},
		{"DER", "added", cert()},
		{"PEM with its authority", "added", append(inPEM(cert()), inPEM(stranger.cert.Raw)...)},
		{"PKCS #7 in DER", "added added", inPKCS7(append(inPEM(cert()), inPEM(cert())...), "DER")},
		{"PKCS #7 in PEM", "added", inPKCS7(inPEM(cert()), "PEM")},
		{"vCard 4, OpenPGP and S/MIME", "added added", card(fold("KEY:data:application/pgp-keys;base64,"+b64(key())), fold("KEY;TYPE=work:data:application/pkix-cert;base64,"+b64(cert())))},
		{"vCard 3", "added added", []byte("begin:vcard\r\nVERSION:3.0\r\n" + fold("KEY;TYPE=PGP;ENCODING=b:"+b64(armor(key()))) + fold("KEY;TYPE=X509;ENCODING=BASE64:"+b64(cert())) + "END:VCARD\r\n")},
		{"vCard 2.1 as old programs fold it", "added", []byte("BEGIN:VCARD\nVERSION:2.1\nKEY;X509;ENCODING=BASE64:\n " + strings.TrimSpace(fold(b64(cert()))) + "\n\nEND:VCARD\n")},
		{"several vCards, one without", "added added", append(append(card(fold("KEY:data:application/pgp-keys;base64,"+b64(key()))), card()...), card(fold("KEY:data:application/pgp-keys;base64,"+b64(key())))...)},
		{"vCard with a link", "refused:unsupported", card("KEY:https://practice.example/jane.asc\r\n")},
		{"an authority alone", "refused:no_address", stranger.cert.Raw},
	} {
		if got, reason := s.imports(tc.data, keyring.Options{}); got != tc.want {
			t.Errorf("%s: %q %s, want %q", tc.name, got, reason, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		want string
		data []byte
	}{
		"nothing":             {"not_a_key", nil},
		"text":                {"not_a_key", []byte("Dear Jane")},
		"a secret key":        {"secret_key", []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxx\n-----END PGP PRIVATE KEY BLOCK-----\n")},
		"a secret key of TLS": {"secret_key", []byte("-----BEGIN EC PRIVATE KEY-----\nxx\n-----END EC PRIVATE KEY-----\n")},
		"a card without keys": {"no_key", card()},
		"too much":            {"too_large", make([]byte, 65<<20)},
	} {
		if got, reason := s.imports(tc.data, keyring.Options{}); reason != tc.want {
			t.Errorf("%s: %q %s, want %s", name, got, reason, tc.want)
		}
	}
	secret := s.secret(address(t, "me@practice.example"), time.Time{})
	if got, _ := s.imports(secret.Bytes().Reveal(), keyring.Options{}); got != "refused:secret_key" {
		t.Errorf("a binary secret key: %q", got)
	}
}

// What GnuPG exports is read as a whole.
func TestAKeyRingOfGnuPG(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	home, err := os.MkdirTemp("/tmp", "gpg")
	s.check(err)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) []byte {
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", "", "--faked-system-time", "20260101T000000!"}, args...)...).Output()
		s.check(err)
		return out
	}
	gpg("--quick-generate-key", "Jane <jane@practice.example>", "rsa2048", "default", "never")
	gpg("--quick-generate-key", "Bob <bob@practice.example>", "future-default", "default", "never")
	for _, export := range [][]byte{gpg("--export"), gpg("--armor", "--export")} {
		entries, err := s.ring.Import(ctx, s.org, export, keyring.Options{})
		s.check(err)
		if len(entries) != 2 {
			t.Fatalf("%+v", entries)
		}
		for _, e := range entries {
			if f := s.find(e.Address); (f.PGP == nil) != (e.Outcome == "refused") {
				t.Errorf("%+v %q", e, f.Why)
			}
		}
	}
	if f := s.find(address(t, "bob@practice.example")); f.PGP == nil || f.PGP.Algorithm != "X25519" {
		t.Errorf("%+v %q", f.PGP, f.Why)
	}
}

func TestAnotherImportSaysWhatItDid(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, b := jane(t), address(t, "front.desk@practice.example")
		key, next := s.key(a).Bytes(), s.younger(a).Bytes()
		for _, step := range []struct {
			name, want string
			data       []byte
			o          keyring.Options
		}{
			{"first", "added", key, keyring.Options{Tier: policy.Discovered}},
			{"again", "known", key, keyring.Options{Tier: policy.Discovered}},
			{"vouched for", "trusted", key, keyring.Options{}},
			{"said again with less", "known", key, keyring.Options{Tier: policy.Discovered}},
			{"another, less than a pin", "proposed", next, keyring.Options{Tier: policy.Confirmed}},
			{"another again", "known", next, keyring.Options{Tier: policy.Confirmed}},
			{"another, vouched for", "added", next, keyring.Options{}},
			{"for an address that it does not name", "refused:wrong_address", key, keyring.Options{Address: b, Tier: policy.Confirmed}},
			{"for it, vouched for", "added", key, keyring.Options{Address: b}},
		} {
			if got, reason := s.imports(step.data, step.o); got != step.want {
				t.Errorf("%s: %q %s, want %q", step.name, got, reason, step.want)
			}
		}
		if f := s.find(b); f.PGP == nil || f.PGP.Tier != policy.Pinned {
			t.Errorf("%q", f.Why)
		}
		s.wantFacts(s.org, "added trusted proposed replaced added refused added")
	})
}

// A page of a long list costs what a page of a short one costs.
func TestALongListStaysFlat(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	for i := range 20 {
		a := address(t, fmt.Sprintf("first%d@practice.example", i))
		_, err := s.ring.Import(ctx, s.org, s.key(a).Bytes(), keyring.Options{})
		s.check(err)
	}
	first, _, err := s.ring.List(ctx, s.org, keyring.Filter{Limit: 20})
	s.check(err)
	s.check(s.db.WriteAlone(ctx, s.org, func(tx *db.Tx) error {
		// Rows between the real ones: ids count up behind the first twenty.
		_, err := tx.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000),
			base AS (SELECT * FROM keyring_entries WHERE id = ?)
			INSERT INTO keyring_entries SELECT CAST(substr(b.id, 1, 8) || printf('~%07d', i) AS BLOB), b.org_id, b.kind, CASE WHEN i % 1000 = 0 THEN 'proposed' ELSE 'superseded' END, 'discovered', b.source, b.algorithm, b.opens, '',
			CAST(printf('%032d', i) AS BLOB), b.fingerprint_hmac, b.key_id, b.named_sealed, x'00', b.first_seen, b.last_seen, NULL FROM n, base b`, first[19].ID)
		return err
	}))
	var last keyring.Entry
	for i := range 20 {
		a := address(t, fmt.Sprintf("last%d@practice.example", i))
		entries, err := s.ring.Import(ctx, s.org, s.key(a).Bytes(), keyring.Options{})
		s.check(err)
		if i == 0 {
			last = entries[0]
		}
	}
	list := func(f keyring.Filter) time.Duration {
		t.Helper()
		best := time.Hour
		for range 5 {
			begin := time.Now()
			all, _, err := s.ring.List(ctx, s.org, f)
			s.check(err)
			if len(all) != f.Limit {
				t.Fatalf("%d entries, want %d", len(all), f.Limit)
			}
			best = min(best, time.Since(begin))
		}
		return best
	}
	begin, end := list(keyring.Filter{Limit: 19}), list(keyring.Filter{Limit: 19, After: last.ID})
	state := list(keyring.Filter{Limit: 19, After: last.ID, State: keyring.Active})
	if end > 10*begin+20*time.Millisecond || state > 10*begin+20*time.Millisecond {
		t.Errorf("a page takes %v at the beginning, %v at the end and %v by state", begin, end, state)
	}
	a := address(t, "last7@practice.example")
	one := list(keyring.Filter{Limit: 1, Address: a})
	if one > 10*begin+20*time.Millisecond {
		t.Errorf("one address takes %v", one)
	}
	s.check(s.db.Read(ctx, s.org, func(tx *db.Tx) error {
		for where, index := range map[string]string{
			"org_id = ? AND id > ? ORDER BY id LIMIT 9":                                                                "entries_list",
			"org_id = ? AND id > ? AND state = 'proposed' ORDER BY id LIMIT 9":                                         "entries_state",
			"org_id = ? AND id > ? AND kind = 'smime' ORDER BY id LIMIT 9":                                             "entries_kind",
			"org_id = ? AND address_hmac = ? ORDER BY CASE WHEN state = 'active' THEN 0 ELSE 1 END, id DESC LIMIT 200": "entries_same",
		} {
			plan, err := db.All(tx, func(r db.Row) (text string, err error) {
				var a, b, c int
				err = r.Scan(&a, &b, &c, &text)
				return text, err
			}, "EXPLAIN QUERY PLAN SELECT id FROM keyring_entries WHERE "+where, s.org, last.ID)
			if err != nil || !strings.Contains(strings.Join(plan, ";"), index) {
				t.Errorf("%s: %v %v", where, plan, err)
			}
		}
		return nil
	}))
}

// People who hand in the same keys at the same time do not stand in each
// other's way.
func TestImportingAtTheSameTime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		keys := [][]byte{s.key(a).Bytes(), s.younger(a).Bytes()}
		var all sync.WaitGroup
		for i := range 24 {
			node := s.node()
			all.Go(func() {
				if _, err := node.Import(ctx, s.org, keys[i%2], keyring.Options{}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		active := 0
		by := s.states(s.org, a)
		for _, e := range by {
			if e.State == keyring.Active {
				active++
			}
		}
		if len(by) != 2 || active != 1 {
			t.Errorf("%d entries, %d of them active", len(by), active)
		}
	})
}
