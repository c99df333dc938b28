package cms

import (
	"crypto/ecdh"
	"crypto/fips140"
	"crypto/x509"
	"errors"
	"testing"
)

// The keys are those of RFC 9216. X25519 has no other program here to be
// tested against: OpenSSL 3.0 and NSS know no such recipients.
func TestMessagesForTheKeysOfRFC9216(t *testing.T) {
	person := func(name string) Recipient {
		certificate, private := shared(t, name+".encrypt.crt"), shared(t, name+".decrypt.p8.pem")
		if certificate == nil || private == nil {
			return Recipient{}
		}
		cert, err := x509.ParseCertificate(certificate)
		if err != nil {
			t.Fatal(err)
		}
		var key any
		// The parser of crypto/x509 makes an X25519 key, which FIPS 140-3 does not approve of.
		fips140.WithoutEnforcement(func() { key, err = x509.ParsePKCS8PrivateKey(private) })
		if err != nil {
			t.Fatal(err)
		}
		return Recipient{key, cert}
	}
	bob, dana := person("lamps-bob"), person("lamps-dana")
	if bob.Key == nil || dana.Key == nil {
		return
	}
	if _, ok := dana.Key.(*ecdh.PrivateKey); !ok {
		t.Fatalf("Dana's key is a %T", dana.Key)
	}
	for _, tc := range []struct {
		file, want, integrity string
		to                    Recipient
	}{
		{"encryptedForBobRSAOaep.pem", "RSA-2048 OAEP-SHA256, AES-128-CBC", IntegrityNone, bob},
		{"encryptedForBobAndDana.pem", "RSA-2048 OAEP-SHA256, AES-128-CBC", IntegrityNone, bob},
		{"encryptedForBobAndDana.pem", "X25519, AES-128-CBC", IntegrityNone, dana},
		{"authEnvelopedForBobChaCha20Poly1305.pem", "RSA-2048 OAEP-SHA256, ChaCha20-Poly1305", IntegrityPoly1305, bob},
		{"authEnvelopedForDanaX25519HKDF.pem", "X25519, AES-128-GCM", IntegrityGCM, dana},
	} {
		message := shared(t, tc.file)
		got, err := Decrypt(message, []Recipient{tc.to}, 1000)
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
			continue
		}
		if string(got.Plain) != "This is some sample content." || got.Integrity != tc.integrity || got.Algorithms != tc.want {
			t.Errorf("%s: %d octets, %s, %s", tc.file, len(got.Plain), got.Integrity, got.Algorithms)
		}
	}
	if _, err := Decrypt(shared(t, "encryptedKekri.pem"), []Recipient{bob, dana}, 1000); !errors.Is(err, errNotForUs) {
		t.Errorf("encryptedKekri.pem: %v", err)
	}
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		for want, to := range map[string]Recipient{"X25519": dana, "RSA-2048 PKCS#1 v1.5": bob} {
			got, err := Decrypt(sealed(t, c, text(100), to, WrapOptions{}), []Recipient{bob, dana}, 100)
			if err != nil || got.Algorithms != want+", "+c.String() {
				t.Errorf("ours for %s: %+v, %v", want, got, err)
			}
		}
	}
}
