package identity_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// TestHash has the draft's example, and the one that GnuPG's own tests use.
func TestHash(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	for address, want := range map[string]string{
		"Joe.Doe@Example.ORG": "iy9q119eutrkn8s1mk4r39qejnbu3n5q",
		"joe.doe@example.org": "iy9q119eutrkn8s1mk4r39qejnbu3n5q",
	} {
		if got := identity.Hash(o.address(address)); got != want {
			t.Errorf("%s", got)
		}
	}
	if identity.Hash(o.address("Ä@example.org")) == identity.Hash(o.address("ä@example.org")) {
		t.Error("letters beyond ASCII are folded")
	}
}

func TestWhatIsPublished(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		hash := identity.Hash(o.address(ada))
		published := func() []byte {
			t.Helper()
			keys, err := o.Published(ctx, "clinic.example", hash)
			if fault.Is(err, fault.NotFound) {
				return nil
			}
			o.must(err)
			return keys
		}
		if published() != nil {
			t.Error("there is no key yet")
		}
		first := o.create(policy.PGP, ada)
		o.create(policy.SMIME, ada)
		if !bytes.Equal(published(), first.Key.Bytes()) {
			t.Error("the active key is not published as it is")
		}
		for what, at := range map[string][2]string{
			"another name": {"clinic.example", identity.Hash(o.address("bo@clinic.example"))}, "another domain": {"other.example", hash},
			"nobody's domain": {"elsewhere.example", hash}, "in capitals": {"clinic.example", strings.ToUpper(hash)}, "no name": {"clinic.example", ""},
		} {
			if _, err := o.Published(ctx, at[0], at[1]); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		second, err := o.Rotate(ctx, o.clinic, first.ID, "", time.Time{})
		o.must(err)
		if !bytes.Equal(published(), second.Key.Bytes()) {
			t.Error("a retired key is published, or the active one is not")
		}
		revoked, err := o.Revoke(ctx, o.clinic, first.ID, identity.Superseded)
		o.must(err)
		if !bytes.Equal(published(), append(second.Key.Bytes(), revoked.Key.Bytes()...)) {
			t.Error("the active key first and the revoked one behind it are wanted")
		}
		o.clock.Advance(364 * day)
		keys, err := openpgp.ReadKeys(published())
		if err != nil || len(keys) != 2 || keys[0].Revoked(o.clock.Now()) || !keys[1].Revoked(o.clock.Now()) {
			t.Errorf("%d keys: %v", len(keys), err)
		}
		o.clock.Advance(2 * day)
		if !bytes.Equal(published(), second.Key.Bytes()) {
			t.Error("a revocation is published for more than a year")
		}
		if ours, err := o.Publishes(ctx, "clinic.example"); err != nil || !ours {
			t.Errorf("our domain: %v", err)
		}
		o.must(o.accounts.RemoveDomain(ctx, o.clinic, "clinic.example"))
		if published() != nil {
			t.Error("a domain that is not ours any more has a directory")
		}
		if ours, err := o.Publishes(ctx, "clinic.example"); err != nil || ours {
			t.Errorf("a domain that was given up: %v", err)
		}
	})
}

// TestRecords has them read by two programs that know their types, and by one
// as if it did not.
func TestRecords(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	ca := newAuthority(o)
	rsa, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address("Dr.Ada@clinic.example"), Kind: policy.PGP, Algorithm: identity.RSA3072})
	o.must(err)
	smime := o.create(policy.SMIME, "Dr.Ada@clinic.example")
	_, err = o.Records(ctx, o.clinic, smime.ID, false)
	o.refused("a key without a certificate", err, "identity_not_active")
	smime, err = o.Install(ctx, o.clinic, smime.ID, ca.issue(smime.CSR, "90"))
	o.must(err)
	zone := "clinic.example. 3600 IN SOA ns.clinic.example. root.clinic.example. 1 3600 600 86400 300\nclinic.example. 3600 IN NS ns.clinic.example.\nns.clinic.example. 3600 IN A 192.0.2.1\n"
	for _, generic := range []bool{false, true} {
		for _, d := range []identity.Detail{rsa, smime} {
			text, err := o.Records(ctx, o.clinic, d.ID, generic)
			o.must(err)
			parser := dns.NewZoneParser(strings.NewReader(text.Reveal()), "", "")
			var names []string
			for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
				names = append(names, checkRecord(t, rr, d))
			}
			// What printf dr.ada | sha256sum | cut -c-56 gives, and Dr.Ada.
			want := []string{"bfdf575b7df48e7fe44c72c6fc9dfc92958393fcaff42646fbd1c8a5", "765a1a1a1cb2d923b58c4c480799e5bb20ab4e43237cb9591ce1b80a"}
			if !slices.Equal(names, want) || parser.Err() != nil {
				t.Errorf("records %v, %v:\n%s", names, parser.Err(), text.Reveal())
			}
			kzonecheck(t, ca, zone+text.Reveal())
		}
	}
	_, err = o.Revoke(ctx, o.clinic, rsa.ID, identity.Unused)
	o.must(err)
	_, err = o.Records(ctx, o.clinic, rsa.ID, false)
	o.refused("a revoked key", err, "identity_not_active")
}

// checkRecord looks whether the record holds the key and gives its first label.
func checkRecord(t *testing.T, rr dns.RR, d identity.Detail) string {
	t.Helper()
	if unknown, ok := rr.(*dns.RFC3597); ok {
		t.Errorf("%s is not a type that is known", unknown.Header().String())
		return ""
	}
	buf := make([]byte, 65535)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	wire := hex.EncodeToString(buf[:end])
	want, label := d.Key.Bytes(), "._openpgpkey.clinic.example."
	if d.Kind == policy.SMIME {
		want, label = append([]byte{3, 0, 0}, d.Certificate.Raw...), "._smimecert.clinic.example."
	}
	name, ok := strings.CutSuffix(rr.Header().Name, label)
	if !ok || !strings.HasSuffix(wire, hex.EncodeToString(want)) {
		t.Errorf("the record %s does not hold the key", rr.Header().String())
	}
	return name
}

// kzonecheck is Knot DNS reading a zone file.
func kzonecheck(t *testing.T, ca *authority, zone string) {
	t.Helper()
	file := filepath.Join(ca.dir, "zone")
	if err := os.WriteFile(file, []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("kzonecheck", "-o", "clinic.example", file).CombinedOutput(); err != nil {
		t.Errorf("kzonecheck: %v\n%s\n%s", err, out, zone)
	}
}
