package seal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/openpgp"
)

// letters are messages of all sorts: their bodies must arrive octet for octet.
var letters = map[string]string{
	"the letter":       letter,
	"no MIME":          "From: ada@clinic.example\r\nTo: pat@home.example\r\nSubject: CANARY\r\n\r\nDear CANARY-body\r\n",
	"no body":          "From: ada@clinic.example\r\nSubject: CANARY\r\n\r\n",
	"no end of line":   "From: ada@clinic.example\r\n\r\nCANARY-body without an end",
	"odd lines":        "From: ada@clinic.example\r\n\r\n.\r\n..CANARY-body\r\nFrom here\r\n-- \r\ntrailing \t \r\n-----BEGIN PGP MESSAGE-----\r\n\r\n\r\n",
	"a long line":      "From: ada@clinic.example\r\n\r\n" + strings.Repeat("CANARY-body ", 600) + "\r\n",
	"8-bit, no type":   "From: ada@clinic.example\r\n\r\nCANARY-body Gr\xf6\xdfe \xff\xfe\r\n",
	"broken multipart": "From: ada@clinic.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n--x\r\nCANARY-body \xc3\xa4\r\n",
	"broken type":      "From: ada@clinic.example\r\nMIME-Version: 1.0\r\nContent-Type: ;;; charset\r\nContent-Type: text/html\r\n\r\nCANARY-body\r\n",
	"an attachment": "From: ada@clinic.example\r\nTo: pat@home.example\r\nSubject: CANARY\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b 1\"\r\n\r\n" +
		"preamble\r\n--b 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nCANARY-body Gr\u00f6\u00dfe\r\n--b 1\r\n" +
		"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=CANARY.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		strings.Repeat("JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoKPDwvTGVuZ3RoIDMgMCBSL0ZpbHRlci9G\r\n", 40) + "--b 1--\r\nepilogue",
}

func bodyOf(text string) string {
	_, rest, _ := strings.Cut(text, "\r\n\r\n")
	return rest
}

func isPlain7(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 127 })
}

// part is a MIME entity as the standard library reads it.
type part struct {
	header map[string][]string
	media  string
	params map[string]string
	body   []byte
}

func (p part) get(name string) string { return netmail.Header(p.header).Get(name) }

func readPart(t *testing.T, text []byte) part {
	t.Helper()
	header, rest := section(t, text)
	return typedPart(t, header, rest)
}

func typedPart(t *testing.T, header map[string][]string, rest []byte) part {
	t.Helper()
	p := part{header: header, body: rest}
	var err error
	if p.media, p.params, err = mime.ParseMediaType(p.get("Content-Type")); err != nil {
		t.Logf("Content-Type: %v", err)
	}
	return p
}

func (p part) parts(t *testing.T) (all []part) {
	t.Helper()
	r := multipart.NewReader(bytes.NewReader(p.body), p.params["boundary"])
	for {
		next, err := r.NextRawPart()
		if err != nil {
			if err.Error() != "EOF" {
				t.Fatal(err)
			}
			return all
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(next); err != nil {
			t.Fatal(err)
		}
		all = append(all, typedPart(t, next.Header, b.Bytes()))
	}
}

// signedPart is the first part of multipart/signed as it stands, with its
// header, up to the line end before the delimiter.
func (p part) signedPart(t *testing.T) []byte {
	t.Helper()
	delimiter := []byte("\r\n--" + p.params["boundary"])
	between := bytes.Split(append([]byte("\r\n"), p.body...), delimiter)
	if len(between) != 4 {
		t.Fatalf("%d delimiters", len(between)-1)
	}
	return bytes.TrimPrefix(between[1], []byte("\r\n"))
}

func unbase64(text []byte) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(text)))
	if err != nil {
		return nil
	}
	return b
}

// checkPayload checks what came out of an artifact against what was sealed.
func (p part) checkPayload(t *testing.T, name, original, want, hp string) {
	t.Helper()
	if string(p.body) != want {
		t.Errorf("%s: the body is changed, %d octets, were %d", name, len(p.body), len(want))
	}
	header, _ := section(t, []byte(original))
	if got := p.get("Subject"); got != header.Get("Subject") {
		t.Errorf("%s: the subject is %q", name, got)
	}
	if p.get("Bcc") != "" || len(p.header["Received"]) > 0 {
		t.Errorf("%s: fields that do not belong inside", name)
	}
	if name == "broken type" {
		return
	}
	if p.params["hp"] != hp || p.params["protected-headers"] != "v1" {
		t.Errorf("%s: parameters %v", name, p.params)
	}
}

func noCanary(t *testing.T, name string, raw []byte) {
	t.Helper()
	for _, word := range []string{"CANARY", "Dear", "Gr\u00f6\u00dfe", "canary-return", "blind@"} {
		if i := bytes.Index(raw, []byte(word)); i >= 0 {
			t.Errorf("%s: the artifact shows %q at octet %d", name, word, i)
		}
	}
}

// gnupg is a home of GnuPG with one secret key.
type gnupg struct {
	home string
	key  openpgp.Key
}

// run gives standard output, standard error and the status lines.
func (g gnupg) run(t *testing.T, in []byte, args ...string) (out, diagnostics string, err error) {
	t.Helper()
	cmd := exec.Command("gpg", append([]string{"--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+g.home, "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(in)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

func newGnuPG(t *testing.T, address string, args ...string) gnupg {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // short: the agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	g := gnupg{home: home}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		_ = cmd.Run()
		_ = os.RemoveAll(home)
	})
	if address == "" {
		return g
	}
	if _, diagnostics, err := g.run(t, nil, append([]string{"--quick-gen-key", address}, args...)...); err != nil {
		t.Fatalf("gpg: %v: %s", err, diagnostics)
	}
	exported, _, err := g.run(t, nil, "--export", address)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := openpgp.ReadKeys([]byte(exported))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	g.key = keys[0]
	return g
}

// person has a certificate, in files as openssl wants them.
type person struct {
	cert              *x509.Certificate
	key               crypto.PrivateKey
	certFile, keyFile string
}

func newCertificate(t testing.TB, kind string, addresses ...string) person {
	t.Helper()
	var key crypto.Signer
	var err error
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	switch kind {
	case "rsa":
		usage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: kind},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: usage,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: addresses}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := person{key: key}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p.certFile, p.keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{p.certFile: {Type: "CERTIFICATE", Bytes: der}, p.keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func openssl(t *testing.T, in []byte, args ...string) (out []byte, diagnostics string, err error) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(in)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.Bytes(), e.String(), err
}

func tempFile(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var background = context.Background()
