package openpgp

import "github.com/sealpost/sealpost/internal/mail"

// For is the key with the user ids of one address only, as directories publish
// it: what else its owner is called is nobody's business. It is also all that
// need be stored to write to the address.
func (k Key) For(a mail.Address) Key {
	if k.k == nil {
		return k
	}
	only := *k.k
	only.ids = nil
	for _, id := range k.k.ids {
		if !a.IsZero() && !id.address.IsZero() && id.address.Normal() == a.Normal() {
			only.ids = append(only.ids, id)
		}
	}
	return Key{&only}
}

// Armor is the key as text.
func (k Key) Armor() (string, error) {
	if k.k == nil {
		return "", refuse(Malformed)
	}
	text, err := enarmor("PUBLIC KEY BLOCK", k.Bytes(), k.Version() == 4)
	return string(text), err
}
