package openpgp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// peer runs another OpenPGP program in a folder of its own.
type peer struct {
	t    *testing.T
	name string
	dir  string
}

// newPeer gives nil where the program is not installed: it is not needed for
// the guarantees, GnuPG is.
func newPeer(t *testing.T, name string) *peer {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Logf("%s is not installed", name)
		return nil
	}
	return &peer{t, name, t.TempDir()}
}

func (p *peer) try(args ...string) ([]byte, error) {
	cmd := exec.Command(p.name, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "HOME="+p.dir)
	return cmd.CombinedOutput()
}

func (p *peer) run(args ...string) {
	p.t.Helper()
	if out, err := p.try(args...); err != nil {
		p.t.Fatalf("%s %v: %v\n%s", p.name, args, err, out)
	}
}

func (p *peer) write(name string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read(name string) []byte {
	p.t.Helper()
	return must(os.ReadFile(filepath.Join(p.dir, name)))(p.t)
}

// ours writes our key pair and a signed message to k for the other program.
func (p *peer) ours(us *Secret, k Key, at time.Time) {
	p.t.Helper()
	p.write("ours.pgp", us.Public().Bytes())
	p.write("body", []byte(body))
	c := must(NewContent(false))(p.t)
	if err := c.Sign(us, strings.NewReader(body), at); err != nil {
		p.t.Fatal(err)
	}
	out := bytes.NewBuffer(must(c.KeyPacket(k, at))(p.t))
	if err := c.Encrypt(out, strings.NewReader(body), int64(len(body))); err != nil {
		p.t.Fatal(err)
	}
	p.write("sealed.pgp", out.Bytes())
	sig, _, err := us.SignDetached(strings.NewReader(body), at)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("body.asc", sig)
}

// opens opens what the other program sealed to us.
func (p *peer) opens(message []byte, us *Secret, k Key) {
	p.t.Helper()
	if !Encrypted(bytes.NewReader(message)) {
		p.t.Error("not seen as encrypted")
	}
	o := must(Open(message, []*Secret{us}, []Key{k}, time.Now().Add(time.Minute), 1000))(p.t)
	if string(o.Plain) != body || len(o.Signatures) != 1 || o.Signatures[0].Status != SignatureValid {
		p.t.Errorf("%q %+v", o.Plain, o.Signatures)
	}
}

func TestSequoia(t *testing.T) {
	for suite, algorithm := range map[string]string{"cv25519": "X25519", "rsa3k": "RSA-3072"} {
		for name, profile := range profiles {
			p := newPeer(t, "sq")
			if p == nil || profile == V6Curve25519 { // version 0.27 does not know version 6
				continue
			}
			if profile == V4RSA3072 && suite != "cv25519" { // once is enough
				continue
			}
			t.Run(suite+" "+name, func(t *testing.T) {
				p.t = t
				at := time.Now()
				us := must(Generate(profile, "Clinic", address(t, "clinic@example.net"), at.Add(-time.Hour), at.Add(year)))(t)
				p.run("key", "generate", "-c", suite, "-u", "Sam <sam@example.org>", "-e", "sam.pgp")
				s := must(ReadSecret(p.read("sam.pgp"), none))(t)
				k := s.Public()
				wants(t, k.Judge(address(t, "sam@example.org"), at.Add(time.Minute)), "")
				if got := k.Algorithm(at.Add(time.Minute)); got != algorithm {
					t.Errorf("algorithm %q", got)
				}
				p.ours(us, k, time.Now())
				p.run("decrypt", "--recipient-key", "sam.pgp", "--signer-cert", "ours.pgp", "-n", "1", "-o", "plain", "sealed.pgp")
				if string(p.read("plain")) != body {
					t.Error("sq reads something else")
				}
				p.run("verify", "--signer-cert", "ours.pgp", "--detached", "body.asc", "body")
				p.run("encrypt", "--recipient-cert", "ours.pgp", "--signer-key", "sam.pgp", "-o", "answer", "body")
				p.opens(p.read("answer"), us, k)
				renewed := must(us.Renew(at, at.Add(3*year)))(t)
				p.write("ours.pgp", renewed.Public().Bytes())
				p.run("verify", "--signer-cert", "ours.pgp", "--detached", "body.asc", "body")
				p.write("ours.pgp", must(us.Revoke(at.Add(-time.Minute), "compromised"))(t).Bytes())
				if out, err := p.try("verify", "--signer-cert", "ours.pgp", "--detached", "body.asc", "body"); err == nil {
					t.Errorf("sq trusts a compromised key: %s", out)
				}
			})
		}
	}
}

func TestRNP(t *testing.T) {
	for name, profile := range profiles {
		p := newPeer(t, "rnp")
		if p == nil || profile == V6Curve25519 { // version 0.16 does not know version 6
			continue
		}
		t.Run(name, func(t *testing.T) {
			p.t = t
			at := time.Now()
			us := must(Generate(profile, "Clinic", address(t, "clinic@example.net"), at.Add(-time.Hour), at.Add(year)))(t)
			home := []string{"--homedir", p.dir, "--password", "", "--notty"}
			keys := func(args ...string) {
				cmd := exec.Command("rnpkeys", append(home[:4:4], args...)...)
				cmd.Dir = p.dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("rnpkeys %v: %v\n%s", args, err, out)
				}
			}
			keys("--generate-key", "--numbits", "2048", "--userid", "Rita <rita@example.org>")
			keys("--export-key", "rita@example.org", "--output", "rita.asc")
			k := oneKey(t, p.read("rita.asc"))
			wants(t, k.Judge(address(t, "rita@example.org"), at.Add(time.Minute)), "")
			p.ours(us, k, time.Now())
			keys("--import-keys", "ours.pgp")
			p.run(append(home, "--decrypt", "sealed.pgp", "--output", "plain", "--overwrite")...)
			if string(p.read("plain")) != body {
				t.Error("rnp reads something else")
			}
			p.run(append(home, "--verify", "body.asc", "--source", "body")...)
			p.run(append(home, "--encrypt", "--sign", "-u", "rita@example.org", "-r", "clinic@example.net", "body", "--output", "answer", "--overwrite")...)
			p.opens(p.read("answer"), us, k)
		})
	}
}
