package interop

import (
	"crypto/sha1"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sealpost/sealpost/internal/cms"
)

// gpgsm is the S/MIME of GnuPG.
type gpgsm struct {
	folder
	p *people
}

func newGpgsm(f folder, p *people) (*gpgsm, error) {
	g := &gpgsm{f, p.copied()}
	trust := fmt.Sprintf("%X S relax\n", sha1.Sum(p.root.Raw))
	if err := g.write("trustlist.txt", []byte(trust)); err != nil {
		return nil, err
	}
	_, _, err := g.gpgsm(certPEM(p.root), "--import")
	return g, err
}

func (g *gpgsm) name() string { return "gpgsm" }

func (g *gpgsm) version() (string, error) {
	out, _, err := g.run(nil, "gpgsm", "--version")
	return firstLine(out), err
}

func (g *gpgsm) gpgsm(in []byte, args ...string) ([]byte, string, error) {
	return g.run(in, "gpgsm", append([]string{"--batch", "--no-tty", "--yes", "--status-fd", "2", "--pinentry-mode", "loopback",
		"--disable-crl-checks", "--disable-policy-checks", "--disable-dirmngr"}, args...)...)
}

func (g *gpgsm) learn(r row) error {
	_, _, err := g.gpgsm(g.p.persons[r.ours()].certPEM(), "--import")
	return err
}

// own has the agent make a key by way of gpg, and certifies it: gpgsm 2.2
// cannot take EC keys from a file, nor ask for a certificate for one.
func (g *gpgsm) own(r row) error {
	kind, ok := map[string]string{"rsa": "rsa2048", "p256": "nistp256", "p384": "nistp384", "ed25519": "ed25519"}[r.key]
	if !ok {
		return g.file(r)
	}
	gpg := &gnupg{g.folder, g.p}
	if _, _, err := gpg.gpg(nil, "--quick-generate-key", r.theirs(), kind, "sign,cert,auth", "2y"); err != nil {
		return err
	}
	fingerprint, err := gpg.fingerprint(r.theirs())
	if err != nil {
		return err
	}
	line, _, err := gpg.gpg(nil, "--export-ssh-key", fingerprint+"!")
	if err != nil {
		return err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return err
	}
	if err := g.p.issue(r.key, r.theirs(), person{}, public.(ssh.CryptoPublicKey).CryptoPublicKey()); err != nil {
		return err
	}
	_, _, err = g.gpgsm(g.p.persons[r.theirs()].certPEM(), "--import")
	return err
}

// file takes a key from a file.
func (g *gpgsm) file(r row) error {
	if err := g.pkcs12(g.p, r.theirs()); err != nil {
		return err
	}
	_, said, err := g.gpgsm([]byte("x\n"), "--passphrase-fd", "0", "--import", r.theirs()+".p12")
	if err == nil && !strings.Contains(said, "secret keys imported: 1") {
		err = notSaid("gpgsm", "secret keys imported: 1", said)
	}
	return err
}

func (g *gpgsm) decrypt(_ row, der []byte) ([]byte, error) {
	out, said, err := g.gpgsm(der, "--decrypt")
	if err == nil && !strings.Contains(said, "DECRYPTION_OKAY") {
		err = notSaid("gpgsm", "DECRYPTION_OKAY", said)
	}
	return out, err
}

func (g *gpgsm) verify(_ row, content, signature []byte) error {
	if err := g.write("content", content); err != nil {
		return err
	}
	if err := g.write("signature", signature); err != nil {
		return err
	}
	_, said, err := g.gpgsm(nil, "--verify", "signature", "content")
	if err == nil && !strings.Contains(said, "VALIDSIG") {
		err = notSaid("gpgsm", "VALIDSIG", said)
	}
	return err
}

func (g *gpgsm) encrypt(r row, content []byte) ([]byte, error) {
	if r.oaep || r.cipher != cms.AES256CBC {
		return nil, errNoOption
	}
	out, _, err := g.gpgsm(content, "--encrypt", "--recipient", "<"+r.ours()+">")
	return out, err
}

func (g *gpgsm) sign(r row, content []byte) ([]byte, error) {
	if r.pss {
		return nil, errNoOption
	}
	digest := "SHA256"
	if r.key == "p384" {
		digest = "SHA384" // see TestGpgsmNeedsToBeToldTheDigest
	}
	out, _, err := g.gpgsm(content, "--digest-algo", digest, "--detach-sign", "--local-user", "<"+r.theirs()+">")
	return out, err
}
