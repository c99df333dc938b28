package seal

import (
	"bytes"
	"crypto/fips140"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

const entityText = "Content-Type: text/plain; charset=utf-8\r\n\r\n" + openSecret + "\r\n"

// output runs a real program.
func output(t *testing.T, env []string, stdin string, args ...string) string {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Stdin, c.Env = strings.NewReader(stdin), append(os.Environ(), env...)
	var out, bad bytes.Buffer
	c.Stdout, c.Stderr = &out, &bad
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, bad.String())
	}
	return out.String()
}

func letterOf(media, body string) []byte {
	return []byte("From: alice@sender.example\r\nTo: bob@clinic.example\r\nSubject: x\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\nMIME-Version: 1.0\r\nContent-Type: " + media + "\r\n" + body)
}

func pkcs7Mail(der string) []byte {
	return letterOf("application/pkcs7-mime; name=smime.p7m", "Content-Transfer-Encoding: base64\r\n\r\n"+folded(der))
}

func folded(s string) string {
	s = base64.StdEncoding.EncodeToString([]byte(s))
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s + "\r\n"
}

func encryptedMail(armor string) []byte {
	return letterOf(`multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b`,
		"\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"+crlf(armor)+"\r\n--b--\r\n")
}

func signedMail(kind, entity, signature string) []byte {
	return letterOf(`multipart/signed; protocol="`+kind+`"; boundary=b`,
		"\r\n--b\r\n"+entity+"\r\n--b\r\nContent-Type: "+kind+"\r\n\r\n"+crlf(signature)+"\r\n--b--\r\n")
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// expect opens a mail made a moment ago.
func expect(t *testing.T, name string, raw []byte, o OpenOptions, outcome Outcome, words string) *Opened {
	t.Helper()
	o.At = time.Now().Add(time.Minute)
	got, err := Open(raw, o)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	if got.Verdict.Outcome != outcome || doubts(got.Verdict) != words {
		t.Errorf("%s: %s %q, want %s %q", name, got.Verdict.Outcome, doubts(got.Verdict), outcome, words)
	}
	if outcome != Closed && !contains(got, openSecret) {
		t.Errorf("%s: the text is not shown", name)
	}
	return got
}

// TestOpenWhatOpenSSLMakes: every way in which openssl seals and signs.
func TestOpenWhatOpenSSLMakes(t *testing.T) {
	keys, err := filepath.Abs(filepath.Join(openFolder, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ec := filepath.Join(dir, "ec")
	output(t, nil, "", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ec+".key", "-out", ec+".crt",
		"-subj", "/CN=bob", "-addext", "subjectAltName=email:bob@clinic.example")
	o := bobs(t)
	text, err := os.ReadFile(ec + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(ec + ".key")
	if err != nil {
		t.Fatal(err)
	}
	o.Secrets.SMIME = append(o.Secrets.SMIME, cms.Recipient{Key: privateKey(t, key), Certificate: cert})

	run := func(stdin string, args ...string) string {
		return output(t, nil, stdin, append([]string{"openssl", "cms", "-binary", "-outform", "DER"}, args...)...)
	}
	bob, alice := filepath.Join(keys, "bob.crt"), []string{"-sign", "-signer", filepath.Join(keys, "alice.crt"), "-inkey", filepath.Join(keys, "alice.key")}
	for name, args := range map[string][]string{
		"AES-128":     {"-encrypt", "-aes128", bob},
		"triple DES":  {"-encrypt", "-des3", bob},
		"indefinite":  {"-encrypt", "-aes256", "-stream", bob},
		"OAEP":        {"-encrypt", "-aes256", "-recip", bob, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"},
		"key id":      {"-encrypt", "-aes256", "-keyid", bob},
		"P-256":       {"-encrypt", "-aes256", "-recip", ec + ".crt", "-keyopt", "ecdh_kdf_md:sha256", "-aes256-wrap"},
		"two, one us": {"-encrypt", "-aes256", filepath.Join(keys, "mallory.crt"), bob},
	} {
		got := expect(t, name, pkcs7Mail(run(entityText, args...)), o, Doubted, "not_signed no_integrity")
		if got != nil && (got.Verdict.Encrypted != Whole || got.Layers[0].Algorithms == "") {
			t.Errorf("%s: %+v", name, got.Layers)
		}
	}
	for name, tc := range map[string]struct {
		args    []string
		outcome Outcome
		words   string
	}{
		"SHA-256":        {[]string{"-md", "sha256"}, Proved, ""},
		"SHA-512":        {[]string{"-md", "sha512"}, Proved, ""},
		"SHA-1":          {[]string{"-md", "sha1"}, Doubted, "signature_weak"},
		"PSS":            {[]string{"-md", "sha256", "-keyopt", "rsa_padding_mode:pss"}, Proved, ""},
		"no certificate": {[]string{"-md", "sha256", "-nocerts"}, Doubted, "signer_unknown"},
		"no attributes":  {[]string{"-md", "sha256", "-noattr"}, Proved, ""},
		"two signers": {[]string{"-md", "sha256", "-signer", filepath.Join(keys, "mallory.crt"), "-inkey", filepath.Join(keys, "mallory.key")},
			Proved, ""},
	} {
		args := append(append([]string{}, alice...), tc.args...)
		detached := run(entityText, args...)
		raw := bytes.Replace(signedMail("application/pkcs7-signature", entityText, folded(detached)),
			[]byte("Content-Type: application/pkcs7-signature\r\n"), []byte("Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n"), 1)
		expect(t, name+", detached", raw, o, tc.outcome, tc.words)
		opaque := run(entityText, append(args, "-nodetach")...)
		expect(t, name+", opaque", pkcs7Mail(opaque), o, tc.outcome, tc.words)
		inner := "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n" + folded(opaque)
		words := tc.words
		if tc.outcome != Proved {
			words += " no_integrity"
		}
		expect(t, name+", encrypted", pkcs7Mail(run(inner, "-encrypt", "-aes256", bob)), o, tc.outcome, words)
		altered := strings.Replace(inner, folded(opaque), folded(strings.Replace(opaque, "negative", "positive", 1)), 1)
		if got, err := Open(pkcs7Mail(run(altered, "-encrypt", "-aes256", bob)), o); err != nil || got.Verdict.Outcome == Proved || got.Verdict.Integrity != Nothing {
			t.Errorf("%s: altered inside of the encryption: %+v, %v", name, got.Verdict, err)
		}
	}
}

// TestOpenWhatGnuPGMakes: every way in which gpg seals and signs.
func TestOpenWhatGnuPGMakes(t *testing.T) {
	home, err := os.MkdirTemp("", "gpg") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(stdin string, args ...string) string {
		return output(t, []string{"GNUPGHOME=" + home}, stdin, append([]string{"gpg", "--batch", "--quiet", "--no-tty", "--pinentry-mode=loopback", "--passphrase=", "--trust-model=always", "--armor"}, args...)...)
	}
	for _, name := range []string{"alice", "bob", "mallory"} {
		gpg("", "--import", filepath.Join(openFolder, "keys", name+".asc"))
	}
	const bob, alice, mallory = "bob@clinic.example", "alice@sender.example", "mallory@evil.example"
	gpg("", "--quick-gen-key", "stranger@else.example", "rsa2048", "sign", "never")
	o := bobs(t)
	for name, tc := range map[string]struct {
		args    []string
		outcome Outcome
		words   string
	}{
		"encrypted":              {[]string{"-e", "-r", bob}, Doubted, "not_signed"},
		"signed and encrypted":   {[]string{"-s", "-e", "-r", bob, "-u", alice}, Proved, ""},
		"zlib":                   {[]string{"-s", "-e", "-r", bob, "-u", alice, "--compress-algo=zlib"}, Proved, ""},
		"bzip2":                  {[]string{"-s", "-e", "-r", bob, "-u", alice, "--compress-algo=bzip2"}, Proved, ""},
		"AES-128":                {[]string{"-s", "-e", "-r", bob, "-u", alice, "--cipher-algo=AES"}, Proved, ""},
		"hidden recipient":       {[]string{"-s", "-e", "-R", bob, "-u", alice}, Proved, ""},
		"two recipients":         {[]string{"-s", "-e", "-r", mallory, "-r", bob, "-u", alice}, Proved, ""},
		"two signers":            {[]string{"-s", "-e", "-r", bob, "-u", alice, "-u", mallory}, Proved, ""},
		"SHA-1":                  {[]string{"-s", "-e", "-r", bob, "-u", alice, "--digest-algo=SHA1"}, Doubted, "signature_weak"},
		"a stranger":             {[]string{"-s", "-e", "-r", bob, "-u", "stranger@else.example"}, Doubted, "signer_unknown"},
		"somebody else":          {[]string{"-s", "-e", "-r", bob, "-u", mallory}, Doubted, "signer_differs"},
		"to somebody else":       {[]string{"-s", "-e", "-r", mallory, "-u", alice}, Closed, "other_key"},
		"not encrypted at all":   {[]string{"-s", "-u", alice}, Proved, ""},
		"not encrypted, altered": {nil, Doubted, "signature_invalid"},
	} {
		armor := ""
		if tc.args != nil {
			armor = gpg(entityText, tc.args...)
		} else {
			binary := gpg(entityText, "-s", "-u", alice, "--compress-algo=none", "--no-armor")
			armor = "-----BEGIN PGP MESSAGE-----\n\n" + folded(strings.Replace(binary, "negative", "positive", 1)) + "-----END PGP MESSAGE-----\n"
			got, err := Open(encryptedMail(armor), o)
			if err != nil || got.Verdict.Outcome == Proved || got.Verdict.Signed != Nothing {
				t.Errorf("%s: %+v %v", name, got.Verdict, err)
			}
			continue
		}
		expect(t, name, encryptedMail(armor), o, tc.outcome, tc.words)
	}
	for name, tc := range map[string]struct {
		args    []string
		entity  string
		outcome Outcome
		words   string
	}{
		"detached":           {[]string{"-b", "-u", alice}, entityText, Proved, ""},
		"detached, text":     {[]string{"-b", "--textmode", "-u", alice}, entityText, Proved, ""},
		"detached, SHA-1":    {[]string{"-b", "-u", alice, "--digest-algo=SHA1"}, entityText, Doubted, "signature_weak"},
		"detached, altered":  {[]string{"-b", "-u", alice}, entityText + "\r\n", Doubted, "signature_invalid"},
		"detached, stranger": {[]string{"-b", "-u", "stranger@else.example"}, entityText, Doubted, "signer_unknown"},
	} {
		expect(t, name, signedMail("application/pgp-signature", tc.entity, gpg(entityText, tc.args...)), o, tc.outcome, tc.words)
	}
	inner := string(signedMail("application/pgp-signature", strings.Replace(entityText, "negative", "negative, or not", 1), gpg(entityText, "-b", "-u", alice)))
	inner = inner[strings.Index(inner, "Content-Type:"):]
	if got, err := Open(encryptedMail(gpg(inner, "-e", "-r", bob)), o); err != nil || doubts(got.Verdict) != "signature_invalid" || got.Verdict.Signed != Nothing {
		t.Errorf("altered inside of the encryption: %+v %v", got.Verdict, err)
	}
}

// TestOpenPublicCollections: what other people's collections hold.
func TestOpenPublicCollections(t *testing.T) {
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Logf("not looked at, because the test data is absent: %v", err)
		return
	}
	read := func(parts ...string) []byte {
		b, err := os.ReadFile(filepath.Join(append([]string{dir}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	der := func(name string) string {
		block, _ := pem.Decode(read("smime-rfc9216", name))
		return string(block.Bytes)
	}
	lamps := func(name string) cms.Recipient {
		cert, err := x509.ParseCertificate([]byte(der("lamps-" + name + ".encrypt.crt")))
		if err != nil {
			t.Fatal(err)
		}
		var key any
		// FIPS 140-3 knows no X25519; the key is read for a message that has it.
		fips140.WithoutEnforcement(func() {
			key, err = x509.ParsePKCS8PrivateKey([]byte(der("lamps-" + name + ".decrypt.p8.pem")))
		})
		if err != nil {
			t.Fatal(err)
		}
		return cms.Recipient{Key: key, Certificate: cert}
	}
	o := OpenOptions{At: openedAt, Secrets: Secrets{SMIME: []cms.Recipient{lamps("bob"), lamps("dana")}}}
	// Their content is a sentence and no mail: opened, and not shown.
	for name, want := range map[string]string{
		"encryptedForBobRSAOaep.pem": "malformed_inside", "encryptedForBobAndDana.pem": "malformed_inside", "authEnvelopedForDanaX25519HKDF.pem": "malformed_inside",
		"authEnvelopedForBobChaCha20Poly1305.pem": "malformed_inside", "encryptedKekri.pem": "other_key", "signedByAliceRSAPSS.pem": "malformed_inside", "signedByCarlosEd25519.pem": "malformed_inside",
	} {
		got, err := Open(pkcs7Mail(der(name)), o)
		if err != nil || got.Verdict.Outcome != Closed || !got.Verdict.Has(want) {
			t.Errorf("%s: %s %q, %v", name, got.Verdict.Outcome, doubts(got.Verdict), err)
		}
	}
	got, err := Open(read("smime-mimekit", "thunderbird-signed.txt"), o)
	if err != nil || got.Verdict.Outcome != Doubted || doubts(got.Verdict) != "signature_weak" || !contains(got, "Hopefully this works") {
		t.Errorf("Thunderbird: %s %q, %v", got.Verdict.Outcome, doubts(got.Verdict), err)
	}
	bob, err := openpgp.ReadSecret(read("openpgp-gopenpgp", "sed_key"), private.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	o.Secrets.PGP = []*openpgp.Secret{bob}
	o.Signers = func(mail.Address) ([]SignerKey, error) { return SignerKeys(bob.Public(), policy.Pinned), nil }
	for name, want := range map[string]string{"sed_message": "no_integrity_packet", "message_badmdc": "cannot_decrypt", "message_signed": "other_key"} {
		got, err := Open(encryptedMail(string(read("openpgp-gopenpgp", name))), o)
		if err != nil || got.Verdict.Outcome != Closed || doubts(got.Verdict) != want {
			t.Errorf("%s: %s %q, %v", name, got.Verdict.Outcome, doubts(got.Verdict), err)
		}
	}
}
