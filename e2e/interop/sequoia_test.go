package interop

import (
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/openpgp"
)

// sequoia is sq, with the command line of its versions before 1.0. It keeps
// nothing: keys are files.
type sequoia struct {
	folder
	p    *people
	keys []string // options that name the secret keys
}

func (s *sequoia) name() string { return "Sequoia" }

func (s *sequoia) version() (string, error) {
	out, said, err := s.run(nil, "sq", "--version")
	return firstLine(append(out, said...)), err
}

func (s *sequoia) own(r row) (k openpgp.Key, err error) {
	suite, ok := map[string]string{"rsa3072": "rsa3k", "cv25519": "cv25519"}[r.key]
	if !ok {
		secret := s.p.secrets[r.theirs()]
		if err := s.write("own-"+r.key, secret.Bytes().Reveal()); err != nil {
			return k, err
		}
		return secret.Public(), s.take(secret.Bytes().Reveal())
	}
	if _, _, err := s.run(nil, "sq", "--force", "key", "generate", "-c", suite, "-u", "Somebody <"+r.theirs()+">", "-e", "own-"+r.key); err != nil {
		return k, err
	}
	armored, err := s.read("own-" + r.key)
	if err != nil {
		return k, err
	}
	secret, err := openpgp.ReadSecret(armored, noPassphrase)
	if err != nil {
		return k, err
	}
	return secret.Public(), s.take(armored)
}

func (s *sequoia) take(secret []byte) error {
	file := "secret" + strconv.Itoa(len(s.keys))
	if err := s.write(file, secret); err != nil {
		return err
	}
	_, _, err := s.run(nil, "sq", "key", "extract-cert", file)
	if err == nil {
		s.keys = append(s.keys, "--recipient-key", file)
	}
	return err
}

func (s *sequoia) learn(ours openpgp.Key) error {
	if err := s.write("ours", ours.Bytes()); err != nil {
		return err
	}
	_, _, err := s.run(nil, "sq", "inspect", "ours")
	return err
}

func (s *sequoia) files(by openpgp.Key, files map[string][]byte) error {
	files["by"] = by.Bytes()
	for name, data := range files {
		if err := s.write(name, data); err != nil {
			return err
		}
	}
	return nil
}

func (s *sequoia) decrypt(message []byte, by openpgp.Key) ([]byte, error) {
	if err := s.files(by, map[string][]byte{"message": message}); err != nil {
		return nil, err
	}
	args := append([]string{"--force", "decrypt", "--signer-cert", "by", "-n", "1", "-o", "plain"}, s.keys...)
	_, said, err := s.run(nil, "sq", append(args, "message")...)
	if err == nil && !strings.Contains(said, "1 good signature") {
		err = notSaid("sq", "1 good signature", said)
	}
	if err != nil {
		return nil, err
	}
	return s.read("plain")
}

func (s *sequoia) verify(content, signature []byte, by openpgp.Key) error {
	if err := s.files(by, map[string][]byte{"content": content, "signature": signature}); err != nil {
		return err
	}
	_, said, err := s.run(nil, "sq", "verify", "--signer-cert", "by", "--detached", "signature", "content")
	if err == nil && !strings.Contains(said, "1 good signature") {
		err = notSaid("sq", "1 good signature", said)
	}
	return err
}

func (s *sequoia) encrypt(r row, content []byte) ([]byte, error) {
	return s.make(r, content, "encrypt", "--recipient-cert", "ours", "--signer-key", "own-"+r.key)
}

func (s *sequoia) sign(r row, content []byte) ([]byte, error) {
	return s.make(r, content, "sign", "--detached", "--signer-key", "own-"+r.key)
}

func (s *sequoia) make(r row, content []byte, args ...string) ([]byte, error) {
	if err := s.files(s.p.secrets[r.ours()].Public(), map[string][]byte{"content": content, "ours": s.p.secrets[r.ours()].Public().Bytes()}); err != nil {
		return nil, err
	}
	if _, _, err := s.run(nil, "sq", append(append([]string{"--force"}, args...), "-o", "made", "content")...); err != nil {
		return nil, err
	}
	return s.read("made")
}
