package seal

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// signedFirst is the letter as a mail program signs it: around the text, with
// the header outside.
func signedFirst(t *testing.T, sign signing) string {
	t.Helper()
	h, rest, err := given(strings.Replace(letter, "Gr\u00f6\u00dfe", "Size", 1)).parted(background)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := signed(background, rest.between([]byte("Content-Type: text/plain; charset=utf-8\r\n\r\n"), nil), sign)
	if err != nil {
		t.Fatal(err)
	}
	fields := h.Where(func(name string) bool { return !structural(name) }).Bytes()
	text := append(bytes.TrimSuffix(fields, []byte("\r\n")), "MIME-Version: 1.0\r\n"...)
	text = append(text, contents(t, whole)...)
	return strings.Replace(string(text), "Mon, 05 Oct 2026 11:30:00 +0200", mail.FormatDate(sealedAt), 1)
}

// TestOpenTellsWhatStandsBesideASignature: the header of a message that its
// sender had signed stands inside of the encryption and outside of that
// signature. It comes back where the encryption notices alteration, and is not
// said to be signed.
func TestOpenTellsWhatStandsBesideASignature(t *testing.T) {
	from, to := addr(t, "ada@clinic.example"), addr(t, "pat@home.example")
	ada := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Ada", from, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
	pat := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Pat", to, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
	adaCert, patCert := newCertificate(t, "p256", from.Reveal()), newCertificate(t, "rsa", to.Reveal())
	options := OpenOptions{
		Secrets:          Secrets{PGP: []*openpgp.Secret{pat}, SMIME: []cms.Recipient{{Key: patCert.key, Certificate: patCert.cert}}},
		Signers:          func(mail.Address) ([]SignerKey, error) { return SignerKeys(ada.Public(), policy.Pinned), nil },
		CheckCertificate: func(*x509.Certificate, []*x509.Certificate, mail.Address, time.Time) error { return nil },
		At:               sealedAt.Add(time.Minute),
	}
	seals := map[string]func(Body) (*Artifact, error){
		"OpenPGP": func(b Body) (*Artifact, error) {
			batch, err := PGPBatch(background, b, false, ada, sealedAt)
			if err != nil {
				return nil, err
			}
			return PGP(batch, from, to, policy.None, pat.Public(), sealedAt)
		},
	}
	for name, c := range map[string]cms.Cipher{"GCM": cms.AES256GCM, "CBC": cms.AES256CBC} {
		seals[name] = func(b Body) (*Artifact, error) {
			batch, err := SMIMEBatch(background, b, c, adaCert.signer(), sealedAt)
			if err != nil {
				return nil, err
			}
			return SMIME(batch, from, to, policy.None, patCert.cert, cms.WrapOptions{})
		}
	}
	pgp, smime := signedFirst(t, signedByPGP(ada, sealedAt)), signedFirst(t, signedBySMIME(adaCert.signer(), sealedAt))
	whole := must[Body](t)(SignedBody(background, given(strings.Replace(letter, "Mon, 05 Oct 2026 11:30:00 +0200", mail.FormatDate(sealedAt), 1)), ada, nil, sealedAt))
	own := string(contents(t, stream{whole.Size, whole.Open}))
	altered := strings.Replace(smime, "Dear CANARY", "Dear Canary", 1)
	for _, tc := range []struct {
		name, text string
		doubts     string
		says       []string // of the findings about headers
		sayUnsure  []string // the same with CBC
	}{
		{"signed with OpenPGP", pgp, "", []string{"header_encrypted", "header_hidden"}, []string{"header_unprotected", "header_withheld"}},
		{"signed with S/MIME", smime, "", []string{"header_encrypted", "header_hidden"}, []string{"header_unprotected", "header_withheld"}},
		{"altered", altered, "signature_invalid", []string{"header_encrypted", "header_hidden"}, []string{"header_unprotected", "header_withheld"}},
		{"signed with its header", own, "", []string{"header_protected", "header_hidden"}, []string{"header_protected", "header_hidden"}},
	} {
		for with, seal := range seals {
			raw := octets(t, must[*Artifact](t)(seal(given(tc.text))))
			o, err := Open(raw, options)
			if err != nil {
				t.Fatal(err)
			}
			v, wanted := o.Verdict, tc.says
			if with == "CBC" {
				wanted = tc.sayUnsure
			}
			var says []string
			for _, f := range v.Findings {
				if strings.HasPrefix(f.Word, "header_") || f.Word == "outer_differs" {
					says = append(says, f.Word)
				}
			}
			want := tc.doubts
			if want != "" && with == "CBC" {
				want += " no_integrity"
			}
			if !slices.Equal(says, wanted) || doubts(v) != want || v.Headers != slices.Contains(wanted, "header_protected") || (want == "") != (v.Outcome == Proved) {
				t.Errorf("%s, %s: %s %q %q, headers %t", tc.name, with, v.Outcome, doubts(v), says, v.Headers)
			}
			subject := "CANARY-subject of a long letter"
			if slices.Contains(wanted, "header_withheld") {
				subject = "[...]"
			}
			if got := plainValue(o.Header.Get("Subject")); got != subject || o.Header.Has("HP-Outer") {
				t.Errorf("%s, %s: subject %q", tc.name, with, got)
			}
			if text := string(o.Message.Reveal()); text != "" && (strings.Contains(text, "hp=\"cipher\"") || strings.Contains(text, "HP-Outer") || !strings.Contains(text, "body,")) {
				t.Errorf("%s, %s: the message handed on is\n%s", tc.name, with, text)
			}
			// Another sender inside than outside: nothing signs the one inside.
			if other, err := Open(bytes.Replace(raw, []byte("ada@clinic.example"), []byte("eve@clinic.example"), 1), options); err != nil || other.Verdict.Has("from_differs") != slices.Contains(wanted, "header_encrypted") {
				t.Errorf("%s, %s: the sender outside is another: %q, %v", tc.name, with, doubts(other.Verdict), err)
			}
		}
	}
}
