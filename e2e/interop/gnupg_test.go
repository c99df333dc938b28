package interop

import (
	"strings"

	"github.com/sealpost/sealpost/internal/openpgp"
)

// gnupg is GnuPG with a home of its own.
type gnupg struct {
	folder
	p *people
}

func (g *gnupg) name() string { return "GnuPG" }

func (g *gnupg) version() (string, error) {
	out, _, err := g.run(nil, "gpg", "--version")
	return firstLine(out), err
}

func (g *gnupg) gpg(in []byte, args ...string) ([]byte, string, error) {
	return g.run(in, "gpg", append([]string{"--batch", "--no-tty", "--yes", "--status-fd", "2", "--trust-model", "always",
		"--pinentry-mode", "loopback", "--passphrase", "", "--no-auto-key-locate"}, args...)...)
}

func (g *gnupg) own(r row) (k openpgp.Key, err error) {
	kinds, ok := map[string][2]string{
		"rsa3072": {"rsa3072", "rsa3072"}, "cv25519": {"ed25519", "cv25519"}, "p256": {"nistp256", "nistp256"}, "p384": {"nistp384", "nistp384"},
	}[r.key]
	if !ok {
		s := g.p.secrets[r.theirs()]
		return s.Public(), g.take(s.Bytes().Reveal())
	}
	return g.generate(r.theirs(), kinds[0], kinds[1])
}

func (g *gnupg) generate(address, primary, sub string) (k openpgp.Key, err error) {
	if _, _, err = g.gpg(nil, "--quick-generate-key", "Somebody <"+address+">", primary, "sign,cert", "2y"); err != nil {
		return k, err
	}
	fingerprint, err := g.fingerprint(address)
	if err != nil {
		return k, err
	}
	if _, _, err = g.gpg(nil, "--quick-add-key", fingerprint, sub, "encr", "2y"); err != nil {
		return k, err
	}
	public, _, err := g.gpg(nil, "--export", address)
	if err != nil {
		return k, err
	}
	return oneKey(public)
}

func (g *gnupg) fingerprint(address string) (string, error) {
	list, _, err := g.gpg(nil, "--with-colons", "--list-keys", address)
	_, rest, _ := strings.Cut(string(list), "\nfpr:::::::::")
	fingerprint, _, _ := strings.Cut(rest, ":")
	return fingerprint, err
}

func oneKey(public []byte) (k openpgp.Key, err error) {
	keys, err := openpgp.ReadKeys(public)
	if err != nil {
		return k, err
	}
	return keys[0], nil
}

func (g *gnupg) take(secret []byte) error {
	_, _, err := g.gpg(secret, "--import")
	return err
}

func (g *gnupg) learn(ours openpgp.Key) error {
	_, _, err := g.gpg(ours.Bytes(), "--import")
	return err
}

func (g *gnupg) decrypt(message []byte, by openpgp.Key) ([]byte, error) {
	plain, said, err := g.gpg(message, "--decrypt")
	for _, want := range []string{"GOODMDC", "DECRYPTION_OKAY", "VALIDSIG " + by.Fingerprint()} {
		if err == nil && !strings.Contains(said, want) {
			err = notSaid("gpg", want, said)
		}
	}
	return plain, err
}

func (g *gnupg) verify(content, signature []byte, by openpgp.Key) error {
	if err := g.write("signature", signature); err != nil {
		return err
	}
	_, said, err := g.gpg(content, "--verify", "signature", "-")
	if err == nil && !strings.Contains(said, "VALIDSIG "+by.Fingerprint()) {
		err = notSaid("gpg", "VALIDSIG", said)
	}
	return err
}

func (g *gnupg) encrypt(r row, content []byte) ([]byte, error) {
	out, _, err := g.gpg(content, "--armor", "--sign", "--local-user", r.theirs(), "--encrypt", "--recipient", r.ours())
	return out, err
}

func (g *gnupg) sign(r row, content []byte) ([]byte, error) {
	out, _, err := g.gpg(content, "--armor", "--detach-sign", "--local-user", r.theirs())
	return out, err
}

// addP384 has GnuPG make the keys of a kind that Sealpost takes, but does not
// make.
func (p *people) addP384() error {
	f, err := makeFolder()
	if err != nil {
		return err
	}
	g := &gnupg{f, p}
	for _, address := range []string{"p384@clinic.example", "p384@home.example"} {
		if _, err := g.generate(address, "nistp384", "nistp384"); err != nil {
			return err
		}
		secret, _, err := g.gpg(nil, "--export-secret-keys", address)
		if err != nil {
			return err
		}
		if p.secrets[address], err = openpgp.ReadSecret(secret, noPassphrase); err != nil {
			return err
		}
	}
	return f.remove()
}
