package openpgp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/private"
)

// gnupg is a GnuPG with a home of its own. The path is short, since that of
// the agent's socket has a limit of 107 octets.
type gnupg struct {
	t    *testing.T
	home string
}

func newGnuPG(t *testing.T) *gnupg {
	t.Helper()
	home := must(os.MkdirTemp("/tmp", "gpg"))(t)
	g := &gnupg{t, home}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--homedir", home, "--kill", "all")
		if err := kill.Run(); err != nil {
			t.Errorf("gpgconf --kill: %v", err)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return g
}

// run gives standard output, and what was said with --status-fd.
func (g *gnupg) run(in []byte, args ...string) (out []byte, status string, err error) {
	g.t.Helper()
	args = append([]string{"--homedir", g.home, "--batch", "--no-tty", "--yes", "--status-fd", "2", "--trust-model", "always",
		"--pinentry-mode", "loopback", "--passphrase", "", "--no-auto-key-locate"}, args...)
	cmd := exec.Command("gpg", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	err = cmd.Run()
	return stdout.Bytes(), stderr.String(), err
}

func (g *gnupg) must(in []byte, args ...string) ([]byte, string) {
	g.t.Helper()
	out, status, err := g.run(in, args...)
	if err != nil {
		g.t.Fatalf("gpg %v: %v\n%s", args, err, status)
	}
	return out, status
}

func (g *gnupg) file(name string, data []byte) string {
	g.t.Helper()
	path := filepath.Join(g.home, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// make makes a key with a subkey for encryption.
func (g *gnupg) make(id, primary, sub string) {
	g.t.Helper()
	g.must(nil, "--quick-generate-key", id, primary, "sign,cert", "2y")
	out, _ := g.must(nil, "--with-colons", "--list-keys", id)
	g.must(nil, "--quick-add-key", colons(string(out), "fpr", 9), sub, "encr", "2y")
}

// colons is a field of the first line of this type.
func colons(out, kind string, field int) string {
	for line := range strings.Lines(out) {
		if f := strings.Split(line, ":"); f[0] == kind && len(f) > field {
			return f[field]
		}
	}
	return ""
}

const body = "Content-Type: text/plain\r\n\r\nThe result is in.\r\n"

func TestGnuPGKeysAndOurMessages(t *testing.T) {
	g := newGnuPG(t)
	at := time.Now().Add(time.Minute)
	us := must(Generate(V4Curve25519, "Clinic", address(t, "clinic@example.net"), at.Add(-time.Hour), at.Add(year)))(t)
	g.must(us.Public().Bytes(), "--import")
	for _, c := range []struct{ name, primary, sub, algorithm string }{
		{"rsa", "rsa3072", "rsa3072", "RSA-3072"},
		{"cv25519", "ed25519", "cv25519", "X25519"},
		{"p256", "nistp256", "nistp256", "ECDH P-256"},
		{"p384", "nistp384", "nistp384", "ECDH P-384"},
		{"p521", "nistp521", "nistp521", "ECDH P-521"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := c.name + "@example.org"
			g.make("Someone <"+id+">", c.primary, c.sub)
			public, _ := g.must(nil, "--armor", "--export", id)
			k := oneKey(t, public)
			list, _ := g.must(nil, "--with-colons", "--list-keys", id)
			if got, want := k.Fingerprint(), colons(string(list), "fpr", 9); got != want {
				t.Errorf("fingerprint %s, GnuPG says %s", got, want)
			}
			wants(t, k.Judge(address(t, strings.ToUpper(id)), at), "")
			wants(t, k.Judge(address(t, "other@example.org"), at), WrongAddress)
			wants(t, k.Judge(address(t, id), at.Add(3*year)), Expired)
			wants(t, k.Judge(address(t, id), at.Add(-time.Hour)), NotYetValid)
			if got := k.Algorithm(at); got != c.algorithm {
				t.Errorf("algorithm %q, not %q", got, c.algorithm)
			}
			if got := k.Expires().Sub(at); got < 2*year-48*time.Hour || got > 2*year+48*time.Hour {
				t.Errorf("expires in %v", got)
			}
			g.must(k.Bytes(), "--import", "--import-options", "import-show,merge-only")
			gpgOpensOurs(t, g, us, k, at)
			gpgAnswers(t, g, us, k, id, at)
		})
	}
}

// gpgOpensOurs: what we seal, with and without a signature, GnuPG decrypts and
// verifies.
func gpgOpensOurs(t *testing.T, g *gnupg, us *Secret, k Key, at time.Time) {
	t.Helper()
	for _, signed := range []bool{false, true} {
		c := must(NewContent(false))(t)
		if signed {
			if err := c.Sign(us, strings.NewReader(body), at.Add(-2*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		out := bytes.NewBuffer(must(c.KeyPacket(k, at))(t))
		if err := c.Encrypt(out, strings.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
		plain, status := g.must(out.Bytes(), "--decrypt")
		if string(plain) != body {
			t.Errorf("GnuPG reads %q", plain)
		}
		if !strings.Contains(status, "GOODMDC") || strings.Contains(status, "VALIDSIG "+us.Public().Fingerprint()) != signed {
			t.Errorf("signed %v:\n%s", signed, status)
		}
	}
}

// gpgAnswers: what GnuPG encrypts and signs to us, we open and verify.
func gpgAnswers(t *testing.T, g *gnupg, us *Secret, k Key, id string, at time.Time) {
	t.Helper()
	for _, args := range [][]string{
		{"--armor"}, {"-z", "0"}, {"--compress-algo", "bzip2"}, {"--textmode"}, {"--throw-keyids"}, {"--cipher-algo", "AES128"},
	} {
		args = append(args, "--sign", "--local-user", id, "--encrypt", "--recipient", us.Public().Fingerprint())
		message, _ := g.must([]byte(body), args...)
		if !Encrypted(bytes.NewReader(message)) {
			t.Errorf("%v: not seen as encrypted", args)
		}
		o := must(Open(message, []*Secret{us}, []Key{k}, at, 1000))(t)
		if !o.Encrypted || o.Integrity != "mdc" || o.Recipient != us.Public().Fingerprint() || !strings.HasPrefix(o.Algorithms, "X25519, AES-") {
			t.Errorf("%v: %+v", args, o)
		}
		if string(o.Plain) != body && (args[0] != "--textmode" || !strings.Contains(string(o.Plain), "The result is in.")) {
			t.Errorf("%v: read %q", args, o.Plain)
		}
		if len(o.Signatures) != 1 || o.Signatures[0].Status != SignatureValid || o.Signatures[0].Fingerprint != k.Fingerprint() {
			t.Errorf("%v: %+v", args, o.Signatures)
		}
	}
	detached, _ := g.must([]byte(body), "--armor", "--detach-sign", "--local-user", id)
	sigs := must(VerifyDetached(strings.NewReader(body), detached, []Key{k}, at))(t)
	if len(sigs) != 1 || sigs[0].Status != SignatureValid {
		t.Errorf("detached: %+v", sigs)
	}
	if sigs = must(VerifyDetached(strings.NewReader(body+"x"), detached, []Key{k}, at))(t); sigs[0].Status != SignatureInvalid {
		t.Errorf("changed: %+v", sigs)
	}
}

func TestGnuPGUsesOurKeys(t *testing.T) {
	g := newGnuPG(t)
	at := time.Now().Add(-time.Minute)
	for name, p := range profiles {
		if p == V6Curve25519 {
			continue // GnuPG 2.2 does not know version 6
		}
		t.Run(name, func(t *testing.T) {
			s := must(Generate(p, "Dr. Who (GP) <x>", address(t, name+"@example.net"), at.Add(-time.Hour), at.Add(year)))(t)
			fpr := s.Public().Fingerprint()
			g.must(s.Public().Bytes(), "--import")
			message, _ := g.must([]byte(body), "--encrypt", "--recipient", name+"@example.net")
			if o := must(Open(message, []*Secret{s}, nil, at, 1000))(t); string(o.Plain) != body {
				t.Errorf("read %q", o.Plain)
			}
			sig, micalg, err := s.SignDetached(strings.NewReader(body), at)
			if err != nil || micalg != "pgp-sha256" {
				t.Fatalf("%s %v", micalg, err)
			}
			if _, status := g.must([]byte(body), "--verify", g.file("sig", sig), "-"); !strings.Contains(status, "VALIDSIG "+fpr) {
				t.Error(status)
			}
			if _, status, err := g.run([]byte(body+"x"), "--verify", g.file("sig", sig), "-"); err == nil || !strings.Contains(status, "BADSIG") {
				t.Error(status)
			}
			renewed := must(s.Renew(at, at.Add(3*year)))(t)
			g.must(renewed.Public().Bytes(), "--import")
			list, _ := g.must(nil, "--with-colons", "--list-keys", fpr)
			if got := colons(string(list), "pub", 6); got != colonTime(at.Add(3*year)) {
				t.Errorf("GnuPG says it expires at %s", got)
			}
			// The secret key, out and in again.
			g.must(s.Bytes().Reveal(), "--import")
			c := must(NewContent(false))(t)
			out := bytes.NewBuffer(must(c.KeyPacket(s.Public(), at))(t))
			if err := c.Encrypt(out, strings.NewReader(body), int64(len(body))); err != nil {
				t.Fatal(err)
			}
			if plain, _ := g.must(out.Bytes(), "--decrypt"); string(plain) != body {
				t.Errorf("GnuPG reads %q", plain)
			}
			exported, _ := g.must(nil, "--armor", "--export-secret-keys", fpr)
			back := must(ReadSecret(exported, private.Bytes{}))(t)
			if back.Public().Fingerprint() != fpr {
				t.Error("another key came back")
			}
			revoked := must(s.Revoke(at, "superseded"))(t)
			g.must(revoked.Bytes(), "--import")
			if list, _ = g.must(nil, "--with-colons", "--list-keys", fpr); colons(string(list), "pub", 1) != "r" {
				t.Errorf("GnuPG does not see the revocation:\n%s", list)
			}
		})
	}
}

func colonTime(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

func TestGnuPGPassphraseAndRevocation(t *testing.T) {
	g := newGnuPG(t)
	g.must(nil, "--passphrase", "correct horse", "--quick-generate-key", "A <a@example.org>", "rsa2048", "default", "2y")
	secret, _ := g.must(nil, "--passphrase", "correct horse", "--armor", "--export-secret-keys", "a@example.org")
	_, err := ReadSecret(secret, private.NewBytes([]byte("wrong")))
	wants(t, err, WrongPassphrase)
	_, err = ReadSecret(secret, private.Bytes{})
	wants(t, err, WrongPassphrase)
	s := must(ReadSecret(secret, private.NewBytes([]byte("correct horse"))))(t)
	must(ReadSecret(s.Bytes().Reveal(), private.Bytes{}))(t)
	_, err = ReadKeys(secret)
	wants(t, err, SecretGiven)
	_, err = ReadKeys(s.Bytes().Reveal())
	wants(t, err, SecretGiven)

	list, _ := g.must(nil, "--with-colons", "--list-keys")
	certificate := must(os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", colons(string(list), "fpr", 9)+".rev")))(t)
	certificate = bytes.Replace(certificate, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1)
	g.must(certificate, "--import")
	public, _ := g.must(nil, "--export", "a@example.org")
	k := oneKey(t, public)
	wants(t, k.Judge(address(t, "a@example.org"), time.Now()), Revoked)
	wants(t, oneKey(t, k.Bytes()).JudgeAnyone(time.Now()), Revoked)
}

// TestSignsUntil: keys whose primary part only certifies, as people keep them
// who have it offline, sign as long as their subkeys do.
func TestSignsUntil(t *testing.T) {
	g := newGnuPG(t)
	const day = 24 * time.Hour
	at := time.Now().Add(time.Minute)
	g.must(nil, "--quick-generate-key", "A <a@example.org>", "ed25519", "cert", "365d")
	list, _ := g.must(nil, "--with-colons", "--list-keys")
	fpr := colons(string(list), "fpr", 9)
	g.must(nil, "--quick-add-key", fpr, "cv25519", "encr", "never")
	until := func(s *Secret, want time.Duration) {
		t.Helper()
		got, ok := s.SignsUntil(at)
		if ok != (want != 0) || ok && got.Sub(at.Add(want)).Abs() > 10*time.Minute {
			t.Errorf("signs %v, until %v, not for %v", ok, got, want)
		}
		for _, when := range []time.Time{at, got.Add(-time.Second), got} {
			_, _, err := s.SignDetached(strings.NewReader(body), when)
			if !when.IsZero() && (err == nil) != (ok && when.Before(got)) {
				t.Errorf("at %v: %v", when, err)
			}
		}
	}
	export := func(what string) *Secret {
		t.Helper()
		out, _ := g.must(nil, what, fpr)
		return must(ReadSecret(out, private.Bytes{}))(t)
	}
	until(export("--export-secret-keys"), 0)
	g.must(nil, "--quick-add-key", fpr, "ed25519", "sign", "30d")
	s := export("--export-secret-keys")
	until(s, 30*day)
	until(export("--export-secret-subkeys"), 30*day)
	until(must(s.Renew(at, at.Add(3*year)))(t), 3*year)
	g.must(nil, "--quick-add-key", fpr, "ed25519", "sign", "60d")
	until(export("--export-secret-keys"), 60*day)
	g.must(nil, "--quick-add-key", fpr, "ed25519", "sign", "never")
	until(export("--export-secret-keys"), 365*day)
	if _, ok := s.SignsUntil(at.Add(year + day)); ok {
		t.Error("an expired key signs")
	}

	forever := must(Generate(V6Curve25519, "", address(t, "a@example.org"), at, time.Time{}))(t)
	if end, ok := forever.SignsUntil(at); !ok || !end.IsZero() {
		t.Errorf("%v %v", end, ok)
	}
	soon := Secret{k: must(forever.Revoke(at.Add(day), "superseded"))(t).k, parts: forever.parts}
	until(&soon, day)
}
