package seal

import (
	"bytes"
	"crypto"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/policy"
)

func (p person) signer() *cms.Signer {
	return &cms.Signer{Key: p.key.(crypto.Signer), Certificate: p.cert}
}

// envelopedPart checks the form of RFC 8551 section 3.3 and gives the CMS.
func envelopedPart(t *testing.T, p part, kind string) []byte {
	t.Helper()
	if p.media != "application/pkcs7-mime" || p.params["smime-type"] != kind || p.params["name"] != "smime.p7m" || p.get("Content-Transfer-Encoding") != "base64" {
		t.Fatalf("%s %v", p.media, p.params)
	}
	for _, line := range strings.Split(string(p.body), "\r\n") {
		if len(line) > 76 {
			t.Fatalf("a line of %d columns", len(line))
		}
	}
	return unbase64(p.body)
}

func TestOpenSSLReadsWhatIsSealed(t *testing.T) {
	to, from := addr(t, "pat@home.example"), addr(t, "ada@clinic.example")
	for _, kind := range []string{"rsa", "p256", "p384"} {
		pat := newCertificate(t, kind)
		for cipher, smimeType := range map[cms.Cipher]string{cms.AES256CBC: "enveloped-data", cms.AES256GCM: "authEnveloped-data"} {
			for name, text := range letters {
				b := must[*Batch](t)(SMIMEBatch(background, given(text), cipher, nil, sealedAt))
				raw := octets(t, must[*Artifact](t)(SMIME(b, from, to, policy.None, pat.cert, cms.WrapOptions{})))
				noCanary(t, name, raw)
				der := envelopedPart(t, readPart(t, raw), smimeType)
				out, diagnostics, err := openssl(t, der, "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", pat.certFile, "-inkey", pat.keyFile)
				if err != nil {
					t.Fatalf("%s, %s, %s: openssl: %v: %s", kind, smimeType, name, err, diagnostics)
				}
				readPart(t, out).checkPayload(t, name, text, displayed(t, name), "cipher")
			}
			// As mail, with nothing of ours in between.
			b := must[*Batch](t)(SMIMEBatch(background, given(letter), cipher, nil, sealedAt))
			raw := octets(t, must[*Artifact](t)(SMIME(b, from, to, policy.None, pat.cert, cms.WrapOptions{})))
			if out, diagnostics, err := openssl(t, raw, "cms", "-decrypt", "-binary", "-recip", pat.certFile, "-inkey", pat.keyFile); err != nil || !bytes.HasSuffix(out, []byte("\r\n\r\n"+displayed(t, "the letter"))) {
				t.Errorf("%s, %s as mail: openssl: %v: %s", kind, smimeType, err, diagnostics)
			}
		}
	}
}

func TestOpenSSLVerifiesTheSignatureInside(t *testing.T) {
	to, from := addr(t, "pat@home.example"), addr(t, "ada@clinic.example")
	pat, ada := newCertificate(t, "rsa"), newCertificate(t, "p256")
	for name, text := range letters {
		b := must[*Batch](t)(SMIMEBatch(background, given(text), cms.AES256CBC, ada.signer(), sealedAt))
		raw := octets(t, must[*Artifact](t)(SMIME(b, from, to, policy.None, pat.cert, cms.WrapOptions{})))
		noCanary(t, name, raw)
		inner, diagnostics, err := openssl(t, envelopedPart(t, readPart(t, raw), "enveloped-data"), "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", pat.certFile, "-inkey", pat.keyFile)
		if err != nil {
			t.Fatalf("%s: openssl: %v: %s", name, err, diagnostics)
		}
		checkSMIMESignature(t, name, inner, ada, text, "cipher")
	}
}

// checkSMIMESignature has OpenSSL verify multipart/signed and checks what is
// signed.
func checkSMIMESignature(t *testing.T, name string, entity []byte, by person, text, hp string) {
	t.Helper()
	if _, diagnostics, err := openssl(t, entity, "cms", "-verify", "-CAfile", by.certFile); err != nil {
		t.Fatalf("%s: openssl, as mail: %v: %s", name, err, diagnostics)
	}
	p := readPart(t, entity)
	parts := p.parts(t)
	content := p.signedPart(t)
	_, diagnostics, err := openssl(t, unbase64(parts[1].body), "cms", "-verify", "-binary", "-inform", "DER", "-content", tempFile(t, content), "-CAfile", by.certFile)
	if err != nil {
		t.Fatalf("%s: openssl, octet for octet: %v: %s", name, err, diagnostics)
	}
	if p.media != "multipart/signed" || p.params["protocol"] != "application/pkcs7-signature" || p.params["micalg"] != "sha-256" || len(parts) != 2 || parts[1].media != "application/pkcs7-signature" {
		t.Errorf("%s: %s %v, %d parts", name, p.media, p.params, len(parts))
	}
	inner := readPart(t, content)
	if isPlain7(text) {
		want := bodyOf(text)
		if hp == "cipher" {
			want = displayed(t, name)
		}
		inner.checkPayload(t, name, text, want, hp)
	} else if high := !isPlain7(string(inner.body)); high && name != "broken multipart" {
		t.Errorf("%s: the signed part is 8-bit", name)
	}
}

func TestTripleWrapping(t *testing.T) {
	to, from := addr(t, "pat@home.example"), addr(t, "ada@clinic.example")
	pat, ada, gateway := newCertificate(t, "rsa"), newCertificate(t, "rsa"), newCertificate(t, "p256")
	b := must[*Batch](t)(SMIMEBatch(background, given(letters["no MIME"]), cms.AES256CBC, ada.signer(), sealedAt))
	raw := octets(t, must[*Artifact](t)(SMIMETriple(background, b, from, to, policy.None, pat.cert, cms.WrapOptions{}, gateway.signer(), sealedAt)))
	noCanary(t, "triple", raw)
	out, diagnostics, err := openssl(t, raw, "cms", "-verify", "-CAfile", gateway.certFile)
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, diagnostics)
	}
	inner, diagnostics, err := openssl(t, out, "cms", "-decrypt", "-binary", "-recip", pat.certFile, "-inkey", pat.keyFile)
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, diagnostics)
	}
	checkSMIMESignature(t, "no MIME", inner, ada, letters["no MIME"], "cipher")
	if h, rest, _ := strings.Cut(string(raw), "\r\n\r\n"); Sealed(must[mailHeader](t)(parseHeader([]byte(h+"\r\n\r\n"))), strings.NewReader(rest)) {
		t.Error("a signature outside counts as sealed")
	}
}

func TestABlindCopyDoesNotShowInSMIME(t *testing.T) {
	from := addr(t, "ada@clinic.example")
	people := map[string]person{"pat": newCertificate(t, "rsa"), "blind": newCertificate(t, "rsa")}
	for _, c := range []cms.Cipher{cms.AES256CBC, cms.AES256GCM} {
		b := must[*Batch](t)(SMIMEBatch(background, given(letter), c, nil, sealedAt))
		for name, own := range people {
			other := people[map[string]string{"pat": "blind", "blind": "pat"}[name]]
			raw := octets(t, must[*Artifact](t)(SMIME(b, from, addr(t, name+"@home.example"), policy.None, own.cert, cms.WrapOptions{})))
			noCanary(t, name, raw)
			shown, diagnostics, err := openssl(t, raw, "cms", "-cmsout", "-print", "-noout")
			if err != nil || strings.Count(string(shown), "d.ktri:") != 1 {
				t.Errorf("%s: openssl counts %d recipients, %v %s", name, strings.Count(string(shown), "d.ktri:"), err, diagnostics)
			}
			if out, _, err := openssl(t, raw, "cms", "-decrypt", "-binary", "-recip", own.certFile, "-inkey", own.keyFile); err != nil || bytes.Contains(out, []byte("blind@")) {
				t.Errorf("%s: %v, or a trace of a blind copy", name, err)
			}
			if _, _, err := openssl(t, raw, "cms", "-decrypt", "-binary", "-recip", other.certFile, "-inkey", other.keyFile); err == nil {
				t.Errorf("%s: somebody else opens it", name)
			}
		}
	}
	b := must[*Batch](t)(SMIMEBatch(background, given(letter), cms.AES256CBC, nil, sealedAt))
	if b.SMIMEAlgorithms(people["pat"].cert, cms.WrapOptions{}) == "" {
		t.Error("the algorithms are not told")
	}
}
