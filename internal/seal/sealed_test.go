package seal

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/mail"
)

func sealedText(text string) bool {
	r := bufio.NewReader(strings.NewReader(text))
	h, err := mail.ParseHeader(r)
	return err == nil && Sealed(h, r)
}

func crlfEnds(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

const versionPart = "Content-Type: application/pgp-encrypted\n\nVersion: 1\n"

// pgpMail is multipart/encrypted as mail programs write it, with a place for
// everything that can be wrong.
func pgpMail(preamble, version, second, end string) string {
	return crlfEnds("From: ada@clinic.example\nMIME-Version: 1.0\nContent-Type: multipart/encrypted;\n protocol=\"application/pgp-encrypted\"; boundary=\"b 1\"\n\n" +
		preamble + "--b 1\n" + version + "\n--b 1\n" + second + end)
}

func octetStream(armor string) string {
	return "Content-Type: application/octet-stream; name=encrypted.asc\n\n" + armor
}

func smimeMail(kind string, der []byte) string {
	text := base64.StdEncoding.EncodeToString(der)
	return "From: ada@clinic.example\r\nContent-Type: " + kind + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + text + "\r\n"
}

// foreign are messages that GnuPG and OpenSSL made.
type foreign struct{ armor, signedArmor, enveloped, signedMail string }

func foreignMails(t *testing.T) foreign {
	t.Helper()
	g := newGnuPG(t, "pat@home.example", "future-default", "default", "never")
	text := []byte("Content-Type: text/plain\r\n\r\nDear Pat\r\n")
	armor, d, err := g.run(t, text, "--trust-model", "always", "-r", "pat@home.example", "--comment", "by hand", "-a", "-e")
	if err != nil {
		t.Fatal(d)
	}
	signedArmor, d, err := g.run(t, text, "-a", "-s")
	if err != nil {
		t.Fatal(d)
	}
	p := newCertificate(t, "rsa")
	enveloped, d, err := openssl(t, text, "cms", "-encrypt", "-aes256", "-stream", p.certFile)
	if err != nil {
		t.Fatal(d)
	}
	signedMail, d, err := openssl(t, text, "cms", "-sign", "-nodetach", "-signer", p.certFile, "-inkey", p.keyFile)
	if err != nil {
		t.Fatal(d)
	}
	return foreign{armor, signedArmor, string(enveloped), string(signedMail)}
}

func TestSealedKnowsEncryptedMail(t *testing.T) {
	f := foreignMails(t)
	mails := map[string]string{
		"GnuPG":               pgpMail("This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\n", versionPart, octetStream(f.armor), "\n--b 1--\n"),
		"GnuPG, no last line": pgpMail("", versionPart, octetStream(f.armor), "--b 1--"),
		"GnuPG in base64":     pgpMail("", versionPart, "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"+base64.StdEncoding.EncodeToString([]byte(f.armor)), "\n--b 1--\n"),
		"OpenSSL, streamed":   f.enveloped,
	}
	for _, s := range sealings(t) {
		for size, b := range map[string]Body{"small": given(letter), "large": large(400 << 10)} {
			batch := must[*Batch](t)(s.batch(background, b))
			mails[s.name+", "+size] = string(octets(t, must[*Artifact](t)(s.seal(batch))))
		}
	}
	for name, text := range mails {
		if !sealedText(text) {
			t.Errorf("%s: not taken for sealed", name)
		}
		if cut := strings.LastIndex(strings.TrimRight(text, "\r\n"), "\n"); sealedText(text[:cut]) {
			t.Errorf("%s: taken for sealed without its last line", name)
		}
	}
}

func TestSealedIsNotTakenIn(t *testing.T) {
	f := foreignMails(t)
	good := func() (string, string, string, string) { return "", versionPart, octetStream(f.armor), "\n--b 1--\n" }
	with := func(change func(p, v, s, e *string)) string {
		p, v, s, e := good()
		change(&p, &v, &s, &e)
		return pgpMail(p, v, s, e)
	}
	if !sealedText(with(func(_, _, _, _ *string) {})) {
		t.Fatal("the good one is not sealed: this test shows nothing")
	}
	enveloped := f.enveloped
	_, der, _ := strings.Cut(crlfEnds(enveloped), "\r\n\r\n")
	for name, text := range map[string]string{
		"armor in a text":           crlfEnds("Content-Type: text/plain\n\n" + f.armor),
		"armor, no type":            crlfEnds("From: a@b.example\n\n" + f.armor),
		"an attached message":       crlfEnds("Content-Type: multipart/mixed; boundary=o\n\n--o\n\nSee below\n--o\n"+strings.TrimPrefix(with(func(_, _, _, _ *string) {}), "From: ada@clinic.example\r\n")) + "\r\n--o--\r\n",
		"a forwarded message":       "Content-Type: message/rfc822\r\n\r\n" + with(func(_, _, _, _ *string) {}),
		"text in the preamble":      with(func(p, _, _, _ *string) { *p = strings.Repeat("Dear Pat, your results are in.\n", 40) }),
		"text in the epilogue":      with(func(_, _, _, e *string) { *e += "Dear Pat\n" }),
		"a third part":              with(func(_, _, _, e *string) { *e = "\n--b 1\nContent-Type: text/plain\n\nDear Pat\n--b 1--\n" }),
		"one part":                  with(func(_, v, _, _ *string) { *v = "Content-Type: text/plain\n\nx\n" }),
		"text beside the version":   with(func(_, v, _, _ *string) { *v += "Dear Pat\n" }),
		"another version":           with(func(_, v, _, _ *string) { *v = strings.Replace(*v, "1", "2", 1) }),
		"the second part a text":    with(func(_, _, s, _ *string) { *s = strings.Replace(*s, "application/octet-stream", "text/plain", 1) }),
		"text before the armor":     with(func(_, _, s, _ *string) { *s = octetStream("Dear Pat\n" + f.armor) }),
		"text behind the armor":     with(func(_, _, s, _ *string) { *s += "Dear Pat\n" }),
		"a signed message in armor": with(func(_, _, s, _ *string) { *s = octetStream(f.signedArmor) }),
		"no message": with(func(_, _, s, _ *string) {
			*s = octetStream("-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n")
		}),
		"text for a message": with(func(_, _, s, _ *string) {
			*s = octetStream("-----BEGIN PGP MESSAGE-----\n\nRGVhciBQYXQ=\n-----END PGP MESSAGE-----\n")
		}),
		"no close delimiter":         with(func(_, _, _, e *string) { *e = "\n" }),
		"another protocol":           strings.Replace(with(func(_, _, _, _ *string) {}), "protocol=\"application/pgp-encrypted\"", "protocol=\"application/x\"", 1),
		"no boundary":                strings.Replace(with(func(_, _, _, _ *string) {}), "boundary=", "b=", 1),
		"two types":                  "Content-Type: text/plain\r\n" + with(func(_, _, _, _ *string) {}),
		"two types, the other way":   strings.Replace(with(func(_, _, _, _ *string) {}), "\r\n\r\n", "\r\nContent-Type: text/plain\r\n\r\n", 1),
		"a transfer encoding":        "Content-Transfer-Encoding: base64\r\n" + with(func(_, _, _, _ *string) {}),
		"multipart/signed":           strings.Replace(with(func(_, _, _, _ *string) {}), "multipart/encrypted", "multipart/signed", 1),
		"S/MIME, signed":             f.signedMail,
		"S/MIME, signed, says else":  strings.Replace(f.signedMail, "signed-data", "enveloped-data", 1),
		"S/MIME, text":               smimeMail("application/pkcs7-mime; smime-type=enveloped-data", []byte("Dear Pat")),
		"S/MIME, nothing":            smimeMail("application/pkcs7-mime; smime-type=enveloped-data", nil),
		"S/MIME, text behind":        enveloped + "\nDear Pat\n",
		"S/MIME, text in the base64": smimeMail("application/pkcs7-mime", append(unbase64([]byte(der)), "Dear Pat"...)),
		"S/MIME, attached":           "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + enveloped + "\r\n--o--\r\n",
		"S/MIME, another type":       strings.Replace(enveloped, "pkcs7-mime", "octet-stream", 1),
		"S/MIME, strange encoding":   strings.Replace(enveloped, "base64", "x-uuencode", 1),
	} {
		if sealedText(text) {
			t.Errorf("%s: taken for sealed", name)
		}
	}
}

// endless gives the same octets for ever and counts them.
type endless struct {
	line string
	n    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.line)
	if e.n += n; e.n > 1<<20 {
		return n, io.ErrNoProgress
	}
	return n, nil
}

func TestSealedDoesNotReadAPreambleWithoutEnd(t *testing.T) {
	head, _, _ := strings.Cut(pgpMail("", "", "", ""), "\r\n\r\n")
	h := must[mail.Header](t)(parseHeader([]byte(head + "\r\n\r\n")))
	e := &endless{line: "Dear Pat\r\n"}
	if Sealed(h, e) || e.n > 64<<10 {
		t.Errorf("%d octets are read", e.n)
	}
}

func FuzzSealed(f *testing.F) {
	f.Add([]byte(pgpMail("", versionPart, octetStream("-----BEGIN PGP MESSAGE-----\n\nRGVhciBQYXQ=\n-----END PGP MESSAGE-----\n"), "\n--b 1--\n")))
	f.Add([]byte(smimeMail("application/pkcs7-mime", []byte{0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03, 0xa0, 0x80, 0, 0})))
	f.Fuzz(func(t *testing.T, text []byte) {
		if sealedText(string(text)) && !bytes.Contains(text, []byte("/")) {
			t.Error("sealed without a type")
		}
	})
}

// FuzzProtectedHeader: whatever a header is, what is put outside is a header
// of known fields, and the payload keeps the body.
func FuzzProtectedHeader(f *testing.F) {
	f.Add([]byte(letter))
	for _, text := range letters {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, rest, err := given(string(text)).parted(background)
		if err != nil {
			return
		}
		outer, record := envelopeHeader(h)
		o, err := parseHeader(append(outer, "\r\n"...))
		if err != nil {
			t.Fatalf("the outer header does not parse: %v", err)
		}
		for _, f := range fieldsOf(o) {
			if f.name != "received" && f.name != "mime-version" && f.outside() == nil {
				t.Errorf("%q stands outside", f.raw)
			}
		}
		if o.Has("Bcc") || strings.TrimSpace(o.Get("Subject")) != "" && o.Get("Subject") != "[...]" {
			t.Error("the outer header tells too much")
		}
		payload := contents(t, rest.between(payloadHeader(h, hpCipher, record), nil))
		if len(h.Bytes())+len(payload) > mail.MaxHeaderBytes/4 || h.Len() > mail.MaxHeaderFields/4 {
			return
		}
		r := bufio.NewReader(bytes.NewReader(payload))
		inner, err := mail.ParseHeader(r)
		if err != nil {
			t.Fatalf("the payload does not parse: %v", err)
		}
		left := must[[]byte](t)(io.ReadAll(r))
		if int64(len(left)) != rest.size || !bytes.Equal(left, contents(t, rest)) {
			t.Error("the body is changed")
		}
		if inner.Has("Bcc") || !inner.Has("Content-Type") || len(inner.Values("HP-Outer")) != strings.Count(string(record), "HP-Outer: ") {
			t.Error("the inner header lacks something, or has too much")
		}
	})
}
