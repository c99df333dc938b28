package interop

import (
	"strings"

	"github.com/sealpost/sealpost/internal/openpgp"
)

// ribose is RNP, with which Thunderbird reads and writes OpenPGP.
type ribose struct {
	folder
	p *people
}

func (n *ribose) name() string { return "RNP" }

func (n *ribose) version() (string, error) {
	out, _, err := n.run(nil, "rnp", "--version")
	return firstLine(out), err
}

func (n *ribose) rnp(in []byte, program string, args ...string) ([]byte, string, error) {
	return n.run(in, program, append([]string{"--homedir", n.dir, "--password", "", "--notty"}, args...)...)
}

func (n *ribose) own(r row) (k openpgp.Key, err error) {
	// Answers to the questions for an algorithm and a curve.
	answers, ok := map[string]string{"rsa3072": "", "cv25519": "22\n", "p256": "19\n1\n", "p384": "19\n2\n"}[r.key]
	if !ok {
		s := n.p.secrets[r.theirs()]
		return s.Public(), n.take(s.Bytes().Reveal())
	}
	args := []string{"--generate-key", "--userid", r.theirs()}
	if answers == "" {
		args = append(args, "--numbits", "3072")
	} else {
		args = append(args, "--expert")
	}
	if _, _, err := n.rnp([]byte(answers), "rnpkeys", args...); err != nil {
		return k, err
	}
	if _, _, err := n.rnp(nil, "rnpkeys", "--export-key", r.theirs(), "--output", r.key+".asc"); err != nil {
		return k, err
	}
	public, err := n.read(r.key + ".asc")
	if err != nil {
		return k, err
	}
	return oneKey(public)
}

func (n *ribose) take(secret []byte) error { return n.load("secret", secret) }

func (n *ribose) learn(ours openpgp.Key) error { return n.load("public", ours.Bytes()) }

func (n *ribose) load(file string, key []byte) error {
	if err := n.write(file, key); err != nil {
		return err
	}
	_, _, err := n.rnp(nil, "rnpkeys", "--import-keys", file)
	return err
}

func (n *ribose) decrypt(message []byte, by openpgp.Key) ([]byte, error) {
	if err := n.write("message", message); err != nil {
		return nil, err
	}
	_, said, err := n.rnp(nil, "rnp", "--decrypt", "message", "--output", "plain", "--overwrite")
	if err == nil {
		err = n.good(said, by)
	}
	if err != nil {
		return nil, err
	}
	return n.read("plain")
}

// good finds the verdict on the one signature; RNP names the key that made it.
func (n *ribose) good(said string, by openpgp.Key) error {
	id := strings.ToLower(by.Fingerprint())
	id = id[len(id)-16:]
	if !strings.Contains(said, "Good signature made") || !strings.Contains(strings.ToLower(said), id) {
		return notSaid("rnp", "Good signature made … "+id, said)
	}
	return nil
}

func (n *ribose) verify(content, signature []byte, by openpgp.Key) error {
	if err := n.write("content", content); err != nil {
		return err
	}
	if err := n.write("signature", signature); err != nil {
		return err
	}
	_, said, err := n.rnp(nil, "rnp", "--verify", "signature", "--source", "content")
	if err == nil {
		err = n.good(said, by)
	}
	return err
}

func (n *ribose) encrypt(r row, content []byte) ([]byte, error) {
	return n.make(content, "--encrypt", "--sign", "-u", r.theirs(), "-r", r.ours())
}

func (n *ribose) sign(r row, content []byte) ([]byte, error) {
	return n.make(content, "--sign", "--detach", "-u", r.theirs())
}

func (n *ribose) make(content []byte, args ...string) ([]byte, error) {
	if err := n.write("content", content); err != nil {
		return nil, err
	}
	if _, _, err := n.rnp(nil, "rnp", append(args, "content", "--armor", "--output", "made", "--overwrite")...); err != nil {
		return nil, err
	}
	return n.read("made")
}
