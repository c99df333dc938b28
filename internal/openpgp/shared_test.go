package openpgp

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/private"
)

// TestSharedKeys reads the good and bad keys that ProtonMail/gopenpgp tests
// with.
func TestSharedKeys(t *testing.T) {
	for _, c := range []struct{ name, passphrase, want string }{
		{"keyring_publicKey", "", ""},
		{"issue11_publickey", "", ""},
		{"key_revoked", "", Revoked},
		{"key_futureKey", "", WeakAlgorithm}, // RSA-1024 besides
		{"key_expiredKey", "", WeakAlgorithm},
		{"issue11_privatekey", "1234", ""},
		{"keyring_privateKey", "apple", ""},
	} {
		data := shared(t, c.name)
		if data == nil {
			continue
		}
		var k Key
		if keys, err := ReadKeys(data); err == nil {
			k = keys[0]
		} else {
			wants(t, err, SecretGiven)
			s, err := ReadSecret(data, private.NewBytes([]byte(c.passphrase)))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			k = s.Public()
		}
		if got := word(t, k.JudgeAnyone(now)); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
	for name, want := range map[string]string{"key_mismatching_eddsa_key": WrongPassphrase, "keyring_userKey": ""} {
		if data := shared(t, name); data != nil {
			_, err := ReadSecret(data, private.NewBytes([]byte("no")))
			if got := word(t, err); got != want {
				t.Errorf("%s: %q, not %q", name, got, want)
			}
		}
	}
	if data := shared(t, "key_dummy"); data != nil { // the primary part is kept elsewhere
		s, err := ReadSecret(data, private.NewBytes([]byte("golang")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Renew(now, now.Add(year))
		wants(t, err, OfflinePrimary)
	}
}

func TestSharedMessages(t *testing.T) {
	for _, c := range []struct{ key, passphrase, message, want string }{
		{"sed_key", "", "sed_message", NotProtected},
		{"sed_key", "", "message_badmdc", NotIntact},
		{"gpg2.3-aead-test-key.asc", "test", "gpg2.3-aead-pgp-message.pgp", Unsupported},
		{"issue11_privatekey", "1234", "issue11_message", ""},
		{"keyring_privateKey", "apple", "message_mixedPasswordPublic", NotForUs},
		{"keyring_privateKey", "apple", "message_multipleKeyID", NotForUs},
	} {
		key, message := shared(t, c.key), shared(t, c.message)
		if key == nil || message == nil {
			continue
		}
		s, err := ReadSecret(key, private.NewBytes([]byte(c.passphrase)))
		if err != nil {
			t.Errorf("%s: %v", c.key, err)
			continue
		}
		o, err := Open(message, []*Secret{s}, []Key{s.Public()}, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), 1<<20)
		if got := word(t, err); got != c.want || (o == nil) != (err != nil) {
			t.Errorf("%s: %q, not %q", c.message, got, c.want)
		}
	}
}
