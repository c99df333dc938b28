package custody

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// SigningKey gives the installation's Ed25519 key of this name, which signs
// notes in the form of C2SP signed-note, and the verifier key to hand out. It
// is made on first use.
func (c *Custody) SigningKey(name string) (signer note.Signer, vkey string, err error) {
	ref := Ref{Kind: KindSigning, Name: name}
	k, err := c.d.Store.Get(ref)
	if errors.Is(err, ErrNoKey) {
		if err := c.newSigningKey(ref); err != nil {
			return nil, "", err
		}
		k, err = c.d.Store.Get(ref)
	}
	if err != nil {
		return nil, "", storeFailed(err)
	}
	secret, err := c.unwrap(k)
	if err != nil {
		return nil, "", err
	}
	skey, vkey, _ := strings.Cut(string(secret), "\n")
	signer, err = note.NewSigner(skey)
	if err != nil || signer.Name() != name {
		return nil, "", fmt.Errorf("%s: %w", ref, errWrap)
	}
	return signer, vkey, nil
}

func (c *Custody) newSigningKey(ref Ref) error {
	skey, vkey, err := note.GenerateKey(rand.Reader, ref.Name)
	if err != nil {
		return fmt.Errorf("make signing key: %w", err)
	}
	if _, err := note.NewSigner(skey); err != nil {
		return fmt.Errorf("make signing key: the name is not usable in notes: %w", err)
	}
	if _, err := c.store(ref, []byte(skey+"\n"+vkey), false); err != nil && !errors.Is(err, ErrKeyExists) {
		return storeFailed(err)
	}
	return nil
}
