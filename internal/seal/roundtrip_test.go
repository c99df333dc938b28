package seal

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// TestOpenProvesWhatIsSealed: what we make is whole to what we read with,
// and the header that was hidden comes back.
func TestOpenProvesWhatIsSealed(t *testing.T) {
	from, to := addr(t, "ada@clinic.example"), addr(t, "pat@home.example")
	ada := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Ada", from, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
	pat, pat6 := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4RSA3072, "Pat", to, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour))),
		must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V6Curve25519, "Pat", to, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
	adaCert, patCert := newCertificate(t, "p256", from.Reveal()), newCertificate(t, "rsa", to.Reveal())
	options := OpenOptions{
		Secrets: Secrets{PGP: []*openpgp.Secret{pat, pat6}, SMIME: []cms.Recipient{{Key: patCert.key, Certificate: patCert.cert}}},
		Signers: func(mail.Address) ([]SignerKey, error) {
			return SignerKeys(ada.Public(), policy.Pinned), nil
		},
		CheckCertificate: func(*x509.Certificate, []*x509.Certificate, mail.Address, time.Time) error { return nil },
		At:               sealedAt.Add(time.Minute),
	}
	for name, seal := range map[string]func(Body) ([]byte, error){
		"OpenPGP v4": func(b Body) ([]byte, error) {
			batch, err := PGPBatch(background, b, false, ada, sealedAt)
			if err != nil {
				return nil, err
			}
			a, err := PGP(batch, from, to, policy.None, pat.Public(), sealedAt)
			if err != nil {
				return nil, err
			}
			return octets(t, a), nil
		},
		"OpenPGP v6": func(b Body) ([]byte, error) {
			batch, err := PGPBatch(background, b, true, ada, sealedAt)
			if err != nil {
				return nil, err
			}
			a, err := PGP(batch, from, to, policy.None, pat6.Public(), sealedAt)
			if err != nil {
				return nil, err
			}
			return octets(t, a), nil
		},
		"S/MIME": func(b Body) ([]byte, error) {
			batch, err := SMIMEBatch(background, b, cms.AES256GCM, adaCert.signer(), sealedAt)
			if err != nil {
				return nil, err
			}
			a, err := SMIME(batch, from, to, policy.None, patCert.cert, cms.WrapOptions{})
			if err != nil {
				return nil, err
			}
			return octets(t, a), nil
		},
		"OpenPGP, signed": func(b Body) ([]byte, error) {
			s, err := SignedBody(background, b, ada, nil, sealedAt)
			if err != nil {
				return nil, err
			}
			return contents(t, stream{s.Size, s.Open}), nil
		},
		"S/MIME, signed": func(b Body) ([]byte, error) {
			s, err := SignedBody(background, b, nil, adaCert.signer(), sealedAt)
			if err != nil {
				return nil, err
			}
			return contents(t, stream{s.Size, s.Open}), nil
		},
	} {
		for which, text := range map[string]string{"letter": letter, "attachment": letters["an attachment"]} {
			text = strings.Replace(text, "Mon, 05 Oct 2026 11:30:00 +0200", mail.FormatDate(sealedAt), 1)
			o, err := Open(must[[]byte](t)(seal(given(text))), options)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, which, err)
			}
			v := o.Verdict
			sealed := !strings.HasSuffix(name, "signed")
			if v.Signed != Whole || !v.Headers || sealed != (v.Encrypted == Whole) || sealed != (v.Integrity == Whole) || v.Outcome != Proved || sealed != v.Has("header_hidden") {
				t.Errorf("%s, %s: %+v", name, which, v)
			}
			original, _ := section(t, []byte(text))
			for _, field := range []string{"Subject", "From", "To", "Cc", "X-Patient", "Comments"} {
				if got := o.Header.Get(field); got != strings.Join(original[field], "") {
					t.Errorf("%s, %s: %s is %q", name, which, field, got)
				}
			}
			if len(o.Parts) == 0 || !strings.Contains(o.Parts[0].Text.Reveal(), "CANARY-body") || !strings.Contains(o.Parts[0].Text.Reveal(), "Gr\u00f6\u00dfe") {
				t.Errorf("%s, %s: the text does not come back", name, which)
			}
		}
	}
}
