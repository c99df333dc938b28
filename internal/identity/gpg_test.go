package identity_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// gnupg is GnuPG with a folder of its own.
type gnupg struct {
	*testing.T
	home string
}

func newGnuPG(t *testing.T) *gnupg {
	// A socket of its agent lies in there, and its path must be short.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupg{t, home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return g
}

func (g *gnupg) run(stdin string, args ...string) string {
	g.Helper()
	c := exec.Command("gpg", append([]string{"--homedir", g.home, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--trust-model", "always"}, args...)...)
	c.Stdin = strings.NewReader(stdin)
	var errors strings.Builder
	c.Stderr = &errors
	out, err := c.Output()
	if err != nil {
		g.Fatalf("gpg %v: %v\n%s%s", args, err, out, errors.String())
	}
	return string(out)
}

// validity is the second field of the key's line.
func (g *gnupg) validity(address string) string {
	g.Helper()
	for line := range strings.Lines(g.run("", "--with-colons", "--list-keys", address)) {
		if f := strings.Split(line, ":"); f[0] == "pub" {
			return f[1]
		}
	}
	g.Fatal("no such key")
	return ""
}

func (o *office) armor(k openpgp.Key) string {
	o.Helper()
	text, err := k.Armor()
	o.must(err)
	return text
}

func TestGnuPGUsesOurKeys(t *testing.T) {
	o, g := open(t, dbtest.SQLite(t)), newGnuPG(t)
	for _, algorithm := range []identity.Algorithm{identity.Curve25519, identity.RSA3072, identity.NISTP256} {
		address := string(algorithm) + "@clinic.example"
		d, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address(address), Kind: policy.PGP, Algorithm: algorithm, Name: "Dr. Ädä"})
		o.must(err)
		g.run(o.armor(d.Key), "--import")
		if v := g.validity(address); v == "r" || v == "i" {
			t.Fatalf("%s: GnuPG finds the new key %q", algorithm, v)
		}
		message := g.run("for us", "--encrypt", "--recipient", address, "--output", "-")
		all, err := o.Openers(ctx, o.clinic)
		o.must(err)
		o.opens(all, []byte(message), "for us")
		signature, _, err := o.signer(address).PGP.SignDetached(strings.NewReader("signed"), o.clock.Now())
		o.must(err)
		file := filepath.Join(g.home, "sig")
		o.must(os.WriteFile(file, signature, 0o600))
		g.run("signed", "--verify", file, "-")

		kept, err := o.Revocation(ctx, o.clinic, d.ID)
		o.must(err)
		g.run(o.armor(kept), "--import")
		if v := g.validity(address); v != "r" {
			t.Errorf("%s: GnuPG does not take the revocation that was kept: %q", algorithm, v)
		}
		if s := o.signer(address); s.PGP == nil {
			t.Error("printing the revocation revoked the key")
		}
	}
}

func TestGnuPGTakesARevocation(t *testing.T) {
	o, g := open(t, dbtest.SQLite(t)), newGnuPG(t)
	for reason, want := range map[identity.Reason]string{
		identity.Compromised: "[revoked", identity.Superseded: "[revoked", identity.Unused: "[revoked", identity.Unspecified: "[revoked",
	} {
		address := string(reason) + "@clinic.example"
		d := o.create(policy.PGP, address)
		g.run(string(d.Key.Bytes()), "--import")
		d, err := o.Revoke(ctx, o.clinic, d.ID, reason)
		o.must(err)
		g.run(string(d.Key.Bytes()), "--import")
		if v := g.validity(address); v != "r" {
			t.Errorf("%s: %q, want %s", reason, v, want)
		}
	}
}

func TestImportOfWhatGnuPGExports(t *testing.T) {
	o, g := open(t, dbtest.SQLite(t)), newGnuPG(t)
	g.run("", "--passphrase", "pass", "--quick-generate-key", "Dr. Ada <"+ada+">", "future-default", "default", "1y")
	g.run("", "--passphrase", "pass", "--quick-add-uid", ada, "Ada at home <ada@home.example>")
	secret := g.run("", "--passphrase", "pass", "--armor", "--export-secret-keys", ada)
	o.catchUp()
	right := identity.ImportOptions{Passphrase: private.NewBytes([]byte("pass"))}
	for what, o2 := range map[string]identity.ImportOptions{
		"a wrong passphrase": {Passphrase: private.NewBytes([]byte("other"))}, "none": {},
	} {
		_, err := o.Import(ctx, o.clinic, []byte(secret), o2)
		o.refused(what, err, "passphrase")
	}
	_, err := o.Import(ctx, o.other, []byte(secret), right)
	o.refused("another organization's address", err, "wrong_address")
	_, err = o.Import(ctx, o.clinic, []byte(g.run("", "--armor", "--export", ada)), right)
	o.refused("a public key", err, "malformed")
	late := right
	late.Address = o.address("ada@home.example")
	_, err = o.Import(ctx, o.clinic, []byte(secret), late)
	o.refused("an address at no domain of ours", err, "wrong_address")

	d, err := o.Import(ctx, o.clinic, []byte(secret), right)
	o.must(err)
	if d.State != identity.Active || d.Address.Reveal() != ada || d.ExpiresAt.IsZero() {
		t.Errorf("imported: %+v", d.Identity)
	}
	all, err := o.Openers(ctx, o.clinic)
	o.must(err)
	o.opens(all, []byte(g.run("for us", "--encrypt", "--recipient", ada, "--output", "-")), "for us")
	if strings.Contains(string(d.Key.Bytes()), "home.example") {
		t.Error("what we publish names the member's other addresses")
	}
	_, err = o.Import(ctx, o.clinic, []byte(secret), right)
	o.refused("the same again", err, "identity_exists")

	g.run("", "--passphrase", "pass", "--quick-generate-key", "Bo <bo@clinic.example>", "rsa2048", "default", "1d")
	old := []byte(g.run("", "--passphrase", "pass", "--export-secret-keys", "bo@clinic.example"))
	o.clock.Advance(48 * time.Hour)
	_, err = o.Import(ctx, o.clinic, old, right)
	if err == nil {
		t.Error("an expired key is taken for signing")
	}
	right.Retired = true
	b, err := o.Import(ctx, o.clinic, old, right)
	if o.must(err); b.State != identity.Retired || o.signer("bo@clinic.example").PGP != nil {
		t.Errorf("an old key: %+v", b.Identity)
	}
	o.wantTold("created", "created", "retired")
}

// TestImportLooksAtThePartThatSigns: the primary part of some keys only
// certifies, and then it is a subkey that must be there and last.
func TestImportLooksAtThePartThatSigns(t *testing.T) {
	o, g := open(t, dbtest.SQLite(t)), newGnuPG(t)
	quick := func(args ...string) { g.run("", append([]string{"--passphrase", ""}, args...)...) }
	quick("--quick-generate-key", "<"+ada+">", "ed25519", "cert", "never")
	_, after, _ := strings.Cut(g.run("", "--with-colons", "--list-keys"), "\nfpr:")
	print := strings.Split(after, ":")[8]
	quick("--quick-add-key", print, "cv25519", "encr", "never")
	for _, what := range []string{"--export-secret-keys", "--export-secret-subkeys"} {
		o.catchUp()
		_, err := o.Import(ctx, o.clinic, []byte(g.run("", what, print)), identity.ImportOptions{})
		o.refused("a key that cannot sign, by "+what, err, "no_signing_key")
	}
	old, err := o.Import(ctx, o.clinic, []byte(g.run("", "--export-secret-subkeys", print)), identity.ImportOptions{Retired: true})
	if o.must(err); old.State != identity.Retired {
		t.Errorf("for old mail: %+v", old.Identity)
	}
	all, err := o.Openers(ctx, o.clinic)
	o.must(err)
	o.opens(all, []byte(g.run("for us", "--encrypt", "--recipient", ada, "--output", "-")), "for us")

	quick("--quick-generate-key", "<bo@clinic.example>", "ed25519", "cert", "never")
	_, after, _ = strings.Cut(g.run("", "--with-colons", "--list-keys", "bo@clinic.example"), "\nfpr:")
	print = strings.Split(after, ":")[8]
	quick("--quick-add-key", print, "cv25519", "encr", "never")
	quick("--quick-add-key", print, "ed25519", "sign", "40d")
	o.catchUp()
	d, err := o.Import(ctx, o.clinic, []byte(g.run("", "--export-secret-keys", print)), identity.ImportOptions{})
	o.must(err)
	if left := identity.DaysLeft(d.ExpiresAt, o.clock.Now()); left != 40 {
		t.Errorf("the key ends in %d days, and signs for 40", left)
	}
	o.must(o.WarnExpiring(ctx))
	if !strings.Contains(o.log.String(), "days=40") {
		t.Errorf("not warned: %s", o.log.String())
	}
	if _, _, err := o.signer("bo@clinic.example").PGP.SignDetached(strings.NewReader("x"), o.clock.Now()); err != nil {
		t.Error(err)
	}
	o.clock.Advance(41 * 24 * time.Hour)
	if o.signer("bo@clinic.example").PGP != nil {
		t.Error("a key that cannot sign any more is given for signing")
	}
	d, err = o.Renew(ctx, o.clinic, d.ID, o.clock.Now().AddDate(1, 0, 0))
	o.must(err)
	if s := o.signer("bo@clinic.example").PGP; s == nil || !d.ExpiresAt.Equal(o.clock.Now().AddDate(1, 0, 0)) {
		t.Errorf("renewed until %v", d.ExpiresAt)
	} else if _, _, err := s.SignDetached(strings.NewReader("x"), o.clock.Now()); err != nil {
		t.Error(err)
	}
}
