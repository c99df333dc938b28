package seal

import (
	"crypto"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// TestWhatWeSealIsProvedWhenOpened: the header that was hidden is back, and
// nothing is left to doubt.
func TestWhatWeSealIsProvedWhenOpened(t *testing.T) {
	const text = "From: Alice <alice@sender.example>\r\nTo: bob@clinic.example\r\nSubject: Biopsy result\r\nDate: Sun, 22 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" + openSecret + "\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>" + openSecret + "</p>\r\n--b--\r\n"
	from, to := addr(t, "alice@sender.example"), addr(t, "bob@clinic.example")
	o := bobs(t)
	alice := recipientOf(t, "alice")
	signer := &cms.Signer{Key: alice.Key.(crypto.Signer), Certificate: alice.Certificate}
	v6 := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V6Curve25519, "Bob", to, openedAt.Add(-time.Hour), time.Time{}))
	o.Secrets.PGP = append(o.Secrets.PGP, v6)
	pgp := func(six bool, key openpgp.Key) *Artifact {
		b := must[*Batch](t)(PGPBatch(background, given(text), six, secretOf(t, "alice"), openedAt))
		return must[*Artifact](t)(PGP(b, from, to, policy.None, key, openedAt))
	}
	smime := func(c cms.Cipher) *Artifact {
		b := must[*Batch](t)(SMIMEBatch(background, given(text), c, signer, openedAt))
		return must[*Artifact](t)(SMIME(b, from, to, policy.None, certificateOf(t, "bob")))
	}
	triple := must[*Batch](t)(SMIMEBatch(background, given(text), cms.AES256CBC, signer, openedAt))
	signed := func(p *openpgp.Secret, s *cms.Signer) string {
		b := must[Body](t)(SignedBody(background, given(text), p, s, openedAt))
		r := must[io.ReadCloser](t)(b.Open(background))
		defer r.Close()
		return string(must[[]byte](t)(io.ReadAll(r)))
	}
	for name, tc := range map[string]struct {
		raw       string
		encrypted Scope
	}{
		"OpenPGP v4":     {string(octets(t, pgp(false, secretOf(t, "bob").Public()))), Whole},
		"OpenPGP v6":     {string(octets(t, pgp(true, v6.Public()))), Whole},
		"S/MIME CBC":     {string(octets(t, smime(cms.AES256CBC))), Whole},
		"S/MIME GCM":     {string(octets(t, smime(cms.AES256GCM))), Whole},
		"S/MIME triple":  {string(octets(t, must[*Artifact](t)(SMIMETriple(background, triple, from, to, policy.None, certificateOf(t, "bob"), signer, openedAt)))), Whole},
		"signed OpenPGP": {signed(secretOf(t, "alice"), nil), Nothing},
		"signed S/MIME":  {signed(nil, signer), Nothing},
	} {
		got, err := Open([]byte(tc.raw), o)
		if err != nil {
			t.Fatal(err)
		}
		v := got.Verdict
		if v.Outcome != Proved || v.Encrypted != tc.encrypted || !v.Headers || mail.DecodeText(got.Header.Get("Subject")) != "Biopsy result" || !contains(got, "<p>"+openSecret) {
			t.Errorf("%s: %s %q, encrypted %s, header inside %v", name, v.Outcome, doubts(v), v.Encrypted, v.Headers)
		}
		if tc.encrypted == Whole && strings.Contains(tc.raw, "Biopsy") {
			t.Errorf("%s: the subject is outside", name)
		}
		if !strings.Contains(string(got.Message.Reveal()), "Subject: Biopsy result\r\n") {
			t.Errorf("%s: the message has another subject", name)
		}
	}
}
