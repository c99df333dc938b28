package seal

import (
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
)

type mailHeader = mail.Header

// signedLetter signs and checks what every signed message has to be.
func signedLetter(t *testing.T, name, text string, b Body, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	raw := contents(t, stream{b.Size, b.Open})
	if int64(len(raw)) != b.Size || !bytes.Equal(raw, contents(t, stream{b.Size, b.Open})) {
		t.Errorf("%s: the size, or a second reading, is another", name)
	}
	if b.EightBit || !b.UTF8 && !isPlain7(string(raw)) {
		t.Errorf("%s: not 7-bit", name)
	}
	was, _ := section(t, []byte(text))
	is := readPart(t, raw)
	for field, values := range was {
		if !strings.HasPrefix(field, "Content-") && !transport[strings.ToLower(field)] && !strings.HasPrefix(field, "Arc-") && strings.Join(is.header[field], "|") != strings.Join(values, "|") {
			t.Errorf("%s: the field %s is changed outside", name, field)
		}
	}
	return raw
}

func TestSignedMailIsVerifiedByOpenSSL(t *testing.T) {
	ada := newCertificate(t, "rsa")
	for name, text := range letters {
		body, err := SignedBody(background, given(text), nil, ada.signer(), sealedAt)
		if name == "broken multipart" {
			if !errors.Is(err, mail.ErrNotSevenBit) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		checkSMIMESignature(t, name, signedLetter(t, name, text, body, err), ada, text, "clear")
	}
}

func TestSignedMailIsVerifiedByGnuPG(t *testing.T) {
	g := newGnuPG(t, "")
	for kind, profile := range map[string]openpgp.Profile{"Curve25519": openpgp.V4Curve25519, "RSA": openpgp.V4RSA3072} {
		signer := must[*openpgp.Secret](t)(openpgp.Generate(profile, "Ada", addr(t, "ada@clinic.example"), sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
		if _, diagnostics, err := g.run(t, signer.Public().Bytes(), "--import"); err != nil {
			t.Fatal(diagnostics)
		}
		for name, text := range letters {
			if name == "broken multipart" {
				continue
			}
			body, err := SignedBody(background, given(text), signer, nil, sealedAt)
			p := readPart(t, signedLetter(t, name, text, body, err))
			parts := p.parts(t)
			if p.media != "multipart/signed" || p.params["protocol"] != "application/pgp-signature" || !strings.HasPrefix(p.params["micalg"], "pgp-sha") || len(parts) != 2 || parts[1].media != "application/pgp-signature" {
				t.Fatalf("%s, %s: %s %v, %d parts", kind, name, p.media, p.params, len(parts))
			}
			content := p.signedPart(t)
			_, diagnostics, err := g.run(t, content, "--status-fd", "2", "--trust-model", "always", "--verify", tempFile(t, parts[1].body), "-")
			if err != nil || !strings.Contains(diagnostics, "GOODSIG") {
				t.Fatalf("%s, %s: gpg: %v: %s", kind, name, err, diagnostics)
			}
			if isPlain7(text) {
				readPart(t, content).checkPayload(t, name, text, bodyOf(text), "clear")
			}
		}
	}
}

func TestTheSignedPartSaysTheSameInSevenBits(t *testing.T) {
	ada := newCertificate(t, "p256")
	body, err := SignedBody(background, given(letter), nil, ada.signer(), sealedAt)
	p := readPart(t, signedLetter(t, "letter", letter, body, err))
	inner := readPart(t, p.signedPart(t))
	if back := must[[]byte](t)(io.ReadAll(quotedprintable.NewReader(bytes.NewReader(inner.body)))); string(back) != bodyOf(letter) || inner.get("Content-Transfer-Encoding") != "quoted-printable" {
		t.Error("the body says something else")
	}
	if inner.params["hp"] != "clear" || len(inner.header["Hp-Outer"]) > 0 || inner.get("Subject") != p.get("Subject") || inner.get("Bcc")+p.get("Bcc") != "" {
		t.Errorf("the header inside: %v", inner.header)
	}
}

func TestSignedHeadersBeyondASCII(t *testing.T) {
	const text = "From: Gr\u00f6\u00dfe <ada@clinic.example>\r\nTo: p\u00e4t@home.example\r\nSubject: Gr\u00f6\u00dfe\r\n\r\nx\r\n"
	body := given(text)
	body.EightBit, body.UTF8 = false, true
	b, err := SignedBody(background, body, nil, newCertificate(t, "p256").signer(), sealedAt)
	p := readPart(t, signedLetter(t, "UTF-8", text, b, err))
	if part := p.signedPart(t); !isPlain7(string(part)) || !bytes.Contains(part, []byte("Subject: =?utf-8?")) || bytes.Contains(part, []byte("To:")) {
		t.Errorf("the signed part:\n%s", part)
	}
}

func TestWhatIsSignedAlreadyAndWhatHasNoKeyStaysAsItIs(t *testing.T) {
	signer := newCertificate(t, "p256").signer()
	for name, text := range map[string]string{
		"signed":         "From: a@b.example\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b--\r\n",
		"opaque, signed": "From: a@b.example\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\nx\r\n",
		"encrypted":      "From: a@b.example\r\nContent-Type: multipart/encrypted; boundary=b\r\n\r\n--b--\r\n",
	} {
		b := must[Body](t)(SignedBody(background, given(text), nil, signer, sealedAt))
		if got := contents(t, stream{b.Size, b.Open}); string(got) != text {
			t.Errorf("%s: changed", name)
		}
	}
	if b := must[Body](t)(SignedBody(background, given(letter), nil, nil, sealedAt)); string(contents(t, stream{b.Size, b.Open})) != letter {
		t.Error("changed without a key")
	}
}

func TestAMessageOfAnotherSizeIsNotSigned(t *testing.T) {
	signer := newCertificate(t, "p256").signer()
	for _, off := range []int64{1, -1, 1 << 20, -int64(len(letter))} {
		for _, eight := range []bool{true, false} {
			body := given(letter)
			body.EightBit, body.Size = eight, body.Size+off
			if _, err := SignedBody(background, body, nil, signer, sealedAt); err == nil {
				t.Errorf("signed, although it is off by %d", off)
			}
		}
	}
}
