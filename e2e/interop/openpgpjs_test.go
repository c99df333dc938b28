package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealpost/sealpost/internal/openpgp"
)

// openpgpjs is OpenPGP.js, the only other program here that knows version 6.
type openpgpjs struct {
	folder
	p       *people
	script  string
	secrets map[string][]byte // by the name of a row's key
}

func newOpenPGPjs(f folder, p *people) (*openpgpjs, error) {
	if _, err := os.Stat(filepath.Join("node_modules", "openpgp")); err != nil {
		return nil, fmt.Errorf("run make test, or npm ci in e2e/interop: %w", err)
	}
	script, err := filepath.Abs("openpgp.mjs")
	return &openpgpjs{f, p, script, map[string][]byte{}}, err
}

func (o *openpgpjs) name() string { return "OpenPGP.js" }

func (o *openpgpjs) version() (string, error) {
	out, err := o.node("version", nil)
	return strings.TrimSpace(string(out)), err
}

// node runs a command. Octets become base64 in JSON by themselves.
func (o *openpgpjs) node(command string, arguments map[string]any) ([]byte, error) {
	in, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	out, _, err := o.run(in, "node", o.script, command)
	return out, err
}

func (o *openpgpjs) own(r row) (k openpgp.Key, err error) {
	made, err := o.node("generate", map[string]any{"kind": r.key, "address": r.theirs()})
	if err != nil {
		return k, err
	}
	secret, err := openpgp.ReadSecret(made, noPassphrase)
	if err != nil {
		return k, err
	}
	o.secrets[r.key] = made
	return secret.Public(), nil
}

func (o *openpgpjs) take(secret []byte) error {
	o.secrets["taken"] = secret
	return nil
}

// learn has nothing to do: nothing is kept.
func (o *openpgpjs) learn(openpgp.Key) error { return nil }

func (o *openpgpjs) decrypt(message []byte, by openpgp.Key) ([]byte, error) {
	var own [][]byte
	for _, s := range o.secrets {
		own = append(own, s)
	}
	return o.node("decrypt", map[string]any{"own": own, "by": by.Bytes(), "message": message})
}

func (o *openpgpjs) verify(content, signature []byte, by openpgp.Key) error {
	_, err := o.node("verify", map[string]any{"by": by.Bytes(), "content": content, "signature": signature})
	return err
}

func (o *openpgpjs) encrypt(r row, content []byte) ([]byte, error) {
	return o.node("encrypt", map[string]any{"own": o.secrets[r.key], "to": o.p.secrets[r.ours()].Public().Bytes(), "content": content})
}

func (o *openpgpjs) sign(r row, content []byte) ([]byte, error) {
	return o.node("sign", map[string]any{"own": o.secrets[r.key], "content": content})
}
