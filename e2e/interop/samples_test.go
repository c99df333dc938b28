package interop

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
)

// sample is a message that others have published.
type sample struct {
	folder, file string
	row          string // the row of the table that it stands for, if any
	what         string
	keys         string // of OpenPGP: the file with the secret key
	passphrase   string
	// What must come of it: the words of all doubts, and of the layer that was
	// taken off its algorithms and how alteration is noticed.
	doubts     string
	algorithms string
	integrity  string
	result     string // for the document
}

const (
	rfc9216, gopenpgp, mimekit = "smime-rfc9216", "openpgp-gopenpgp", "smime-mimekit"
	rfc9580                    = "RFC 9580" // samples_pgp_test.go

	// The content of many samples is a sentence and no mail. It is decrypted or
	// verified, and then not shown.
	noMail = "malformed_inside"
)

var publishedSamples = []sample{
	{rfc9216, "encryptedForBobRSAOaep.pem", "oaep-cbc", "RSA-2048 OAEP, AES-128-CBC", "", "", noMail, "RSA-2048 OAEP-SHA256, AES-128-CBC", "none", "opened"},
	{rfc9216, "encryptedForBobAndDana.pem", "x25519-cbc", "X25519, AES-128-CBC (read as Dana)", "dana", "", noMail, "X25519, AES-128-CBC", "none", "opened"},
	{rfc9216, "authEnvelopedForDanaX25519HKDF.pem", "x25519-gcm", "X25519 with HKDF, AES-128-GCM", "dana", "", noMail, "X25519, AES-128-GCM", "gcm", "opened"},
	{rfc9216, "authEnvelopedForBobChaCha20Poly1305.pem", "", "RSA-2048 OAEP, ChaCha20-Poly1305", "", "", noMail, "RSA-2048 OAEP-SHA256, ChaCha20-Poly1305", "chacha20-poly1305", "opened"},
	{rfc9216, "signedByAliceRSA.pem", "sign-rsa", "RSA-2048 PKCS #1 v1.5", "", "", noMail, "RSA-2048 SHA-256", "", "verified"},
	{rfc9216, "signedByAliceRSAPSS.pem", "sign-pss", "RSA-2048 PSS", "", "", noMail, "RSA-2048 PSS SHA-256", "", "verified"},
	{rfc9216, "signedByCarlosEd25519.pem", "sign-ed25519", "Ed25519", "", "", noMail, "Ed25519 SHA-512", "", "verified"},
	{rfc9580, "appendix A.8", "", "version 6: X25519, AES-128-OCB", "", "", noMail, "X25519, AES-128-OCB, SEIPDv2", "aead", "opened"},
	{rfc9216, "encryptedKekri.pem", "", "a key that both have agreed on before (KEKRecipientInfo)", "", "", "other_key", "", "", "closed: no key of ours"},
	{gopenpgp, "sed_message", "", "encrypted without integrity protection", "sed_key", "", "no_integrity_packet", "", "", "closed: anybody could have altered it"},
	{gopenpgp, "message_badmdc", "", "its MDC is wrong", "sed_key", "", "cannot_decrypt", "", "", "closed: altered"},
	{gopenpgp, "gpg2.3-aead-pgp-message.pgp", "", "packet 20 of GnuPG 2.3, which is in no standard", "gpg2.3-aead-test-key.asc", "test", "cannot_decrypt", "", "", "closed: not supported"},
	{gopenpgp, "issue11_message", "", "a text to an RSA key", "issue11_privatekey", "1234", noMail, "", "mdc", "opened"},
	{mimekit, "thunderbird-signed.txt", "", "a mail of Thunderbird, signed over SHA-1", "", "", "signature_weak", "", "", "shown, and the signature not believed"},
}

func sampleFile(folder, file string) ([]byte, error) {
	if folder == rfc9580 {
		return map[string][]byte{"appendix A.8": []byte(rfcMessage), "": []byte(rfcSecret)}[file], nil
	}
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	return os.ReadFile(filepath.Join(dir, folder, file))
}

// samples opens all of them, and says whether they are there.
func samples(t *testing.T) (present bool) {
	t.Helper()
	present = true
	for _, s := range publishedSamples {
		err := s.open()
		if errors.Is(err, os.ErrNotExist) {
			t.Logf("%s/%s is not here: not measured", s.folder, s.file)
			present = false
		} else if err != nil {
			t.Errorf("%s/%s: %v", s.folder, s.file, err)
		}
	}
	return present
}

func (s sample) open() error {
	data, err := sampleFile(s.folder, s.file)
	if err != nil {
		return err
	}
	o := seal.OpenOptions{At: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	raw := data
	switch s.folder {
	case rfc9216:
		raw, err = s.cms(data, &o)
	case gopenpgp, rfc9580:
		raw, err = s.pgp(data, &o)
	}
	if err != nil {
		return err
	}
	got, err := seal.Open(raw, o)
	if err != nil {
		return err
	}
	return s.check(got)
}

func (s sample) check(got *seal.Opened) error {
	words := map[string]bool{}
	for _, f := range got.Verdict.Findings {
		if f.Doubt {
			words[f.Word] = true
		}
	}
	for _, want := range strings.Fields(s.doubts) {
		if !words[want] {
			return fmt.Errorf("doubts %v, not %q", words, want)
		}
	}
	if got.Verdict.Outcome == seal.Proved {
		return errors.New("proved")
	}
	closed := strings.HasPrefix(s.result, "closed")
	for _, l := range got.Layers {
		if l.Opened == closed || !strings.HasPrefix(l.Algorithms, s.algorithms) || l.Integrity != s.integrity {
			return fmt.Errorf("layers %+v", got.Layers)
		}
	}
	if s.result == "verified" && (len(got.Verdict.Signers) != 1 || got.Verdict.Signers[0].Status != openpgp.SignatureValid) {
		return fmt.Errorf("signers %+v", got.Verdict.Signers)
	}
	if len(got.Layers) != 1 {
		return fmt.Errorf("%d layers", len(got.Layers))
	}
	return nil
}

func pemBlock(data []byte) []byte {
	if block, _ := pem.Decode(data); block != nil {
		return block.Bytes
	}
	return nil
}

// lamps is somebody of RFC 9216.
func lamps(name string) (own cms.Recipient, err error) {
	cert, err := sampleFile(rfc9216, "lamps-"+name+".encrypt.crt")
	if err != nil {
		return own, err
	}
	key, err := sampleFile(rfc9216, "lamps-"+name+".decrypt.p8.pem")
	if err != nil {
		return own, err
	}
	if own.Certificate, err = x509.ParseCertificate(pemBlock(cert)); err != nil {
		return own, err
	}
	own.Key, err = x509.ParsePKCS8PrivateKey(pemBlock(key))
	return own, err
}

func (s sample) cms(data []byte, o *seal.OpenOptions) ([]byte, error) {
	name := "bob"
	if s.keys != "" {
		name = s.keys
	}
	own, err := lamps(name)
	if err != nil {
		return nil, err
	}
	o.Secrets.SMIME = []cms.Recipient{own}
	o.CheckCertificate = func(c *x509.Certificate, _ []*x509.Certificate, _ mail.Address, _ time.Time) error {
		for _, known := range []string{"lamps-alice.crt", "lamps-carlos.crt"} {
			cert, err := sampleFile(rfc9216, known)
			if err == nil && bytes.Equal(pemBlock(cert), c.Raw) {
				return nil
			}
		}
		return errors.New("this is nobody of RFC 9216")
	}
	return letter("alice@smime.example", name+"@smime.example", "Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n"+folded(pemBlock(data))), nil
}

func (s sample) pgp(data []byte, o *seal.OpenOptions) ([]byte, error) {
	key, err := sampleFile(s.folder, s.keys)
	if err != nil {
		return nil, err
	}
	own, err := openpgp.ReadSecret(key, private.NewBytes([]byte(s.passphrase)))
	if err != nil {
		return nil, err
	}
	o.Secrets.PGP = []*openpgp.Secret{own}
	o.Signers = func(mail.Address) ([]seal.SignerKey, error) {
		return seal.SignerKeys(own.Public(), policy.Pinned), nil
	}
	return letter("alice@pgp.example", "bob@pgp.example", encryptedBody(data)), nil
}
