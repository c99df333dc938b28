package cms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
)

func TestWeVerifyWhatOpenSSLSigned(t *testing.T) {
	b := newSignBench(t)
	b.put("text", []byte(signedText))
	for _, name := range []string{"RSA", "P-256", "P-384", "P-521"} {
		b.signer(name)
	}
	pss := []string{"-keyopt", "rsa_padding_mode:pss"}
	for _, tc := range []struct {
		name, signer, status, algorithm, digest string
		args                                    []string
	}{
		{"RSA", "RSA", "valid", "RSA-2048", "SHA-256", nil},
		{"RSA SHA-512", "RSA", "valid", "RSA-2048", "SHA-512", []string{"-md", "sha512"}},
		{"no attributes", "RSA", "valid", "RSA-2048", "SHA-256", []string{"-noattr"}},
		{"opaque", "RSA", "valid", "RSA-2048", "SHA-256", []string{"-nodetach"}},
		{"opaque without attributes", "P-256", "valid", "ECDSA P-256", "SHA-256", []string{"-nodetach", "-noattr"}},
		{"BER", "RSA", "valid", "RSA-2048", "SHA-256", []string{"-nodetach", "-indef", "-stream"}},
		{"BER without attributes", "P-384", "valid", "ECDSA P-384", "SHA-256", []string{"-nodetach", "-indef", "-stream", "-noattr", "-md", "sha256"}},
		{"by key id", "RSA", "valid", "RSA-2048", "SHA-256", []string{"-keyid"}},
		{"CAdES", "RSA", "valid", "RSA-2048", "SHA-256", []string{"-cades"}},
		{"PSS", "RSA", "valid", "RSA-2048 PSS", "SHA-256", pss},
		{"PSS salt as long as the hash", "RSA", "valid", "RSA-2048 PSS", "SHA-256", append(slices.Clone(pss), "-keyopt", "rsa_pss_saltlen:digest")},
		{"PSS SHA-384", "RSA", "valid", "RSA-2048 PSS", "SHA-384", append(slices.Clone(pss), "-md", "sha384")},
		{"PSS without attributes", "RSA", "valid", "RSA-2048 PSS", "SHA-256", append(slices.Clone(pss), "-noattr")},
		{"PSS with another MGF1", "RSA", "unsupported", "", "SHA-256", append(slices.Clone(pss), "-keyopt", "rsa_mgf1_md:sha512")},
		{"P-256", "P-256", "valid", "ECDSA P-256", "SHA-256", nil},
		{"P-384", "P-384", "valid", "ECDSA P-384", "SHA-384", []string{"-md", "sha384"}},
		{"P-521", "P-521", "valid", "ECDSA P-521", "SHA-512", []string{"-md", "sha512"}},
		{"SHA-1", "RSA", "weak_hash", "", "SHA-1", []string{"-md", "sha1"}},
		{"SHA-1 ECDSA", "P-256", "weak_hash", "", "SHA-1", []string{"-md", "sha1", "-noattr"}},
		{"MD5", "RSA", "weak_hash", "", "MD5", []string{"-md", "md5"}},
		{"no certificates", "RSA", "unknown_signer", "", "SHA-256", []string{"-nocerts"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"cms", "-sign", "-binary", "-in", "text", "-out", "sig", "-outform", "DER",
				"-signer", tc.signer + ".crt", "-inkey", tc.signer + ".key"}, tc.args...)
			if out, err := b.openssl(args...); err != nil {
				t.Fatal(out)
			}
			sig := b.get("sig")
			got := verified(t, sig, signedText)
			s := got.Signatures[0]
			if s.Status != tc.status || s.Algorithm != tc.algorithm || s.Digest != tc.digest {
				t.Errorf("%s by %q, %q; want %s by %q, %q", s.Status, s.Algorithm, s.Digest, tc.status, tc.algorithm, tc.digest)
			}
			opaque := slices.Contains(tc.args, "-nodetach")
			if opaque && string(got.Content) != signedText || !opaque && got.Content != nil {
				t.Errorf("content is %q", got.Content)
			}
			if noattr := slices.Contains(tc.args, "-noattr"); noattr != s.At.IsZero() && tc.status != "unsupported" {
				t.Errorf("signed at %v", s.At)
			}
			changed := strings.Replace(signedText, "4.1", "6.1", 1)
			if opaque {
				sig = bytes.Replace(sig, []byte("4.1"), []byte("6.1"), 1)
			}
			if got := verified(t, sig, changed).Signatures[0].Status; got == "valid" || tc.status == "valid" && got != "invalid" {
				t.Errorf("another text is %s", got)
			}
		})
	}
}

func TestSeveralSigners(t *testing.T) {
	b := newSignBench(t)
	b.put("text", []byte(signedText))
	b.signer("RSA")
	b.signer("P-384")
	b.signer("P-256")
	if out, err := b.openssl("cms", "-sign", "-binary", "-in", "text", "-out", "two", "-outform", "DER", "-nodetach",
		"-signer", "RSA.crt", "-inkey", "RSA.key", "-signer", "P-384.crt", "-inkey", "P-384.key"); err != nil {
		t.Fatal(out)
	}
	if out, err := b.openssl("cms", "-resign", "-binary", "-in", "two", "-inform", "DER", "-out", "three", "-outform", "DER", "-nodetach",
		"-signer", "P-256.crt", "-inkey", "P-256.key"); err != nil {
		t.Fatal(out)
	}
	count := func(sig []byte) map[string]int {
		out := map[string]int{}
		for _, s := range verified(t, sig, "").Signatures {
			out[s.Status]++
		}
		return out
	}
	sig := b.get("three")
	if got := count(sig); len(got) != 1 || got["valid"] != 3 {
		t.Errorf("%v", got)
	}
	sig[len(sig)-1] ^= 1
	if got := count(sig); len(got) != 2 || got["valid"] != 2 || got["invalid"] != 1 {
		t.Errorf("with a broken one: %v", got)
	}
}

// TestSignedAttributesAreNoContent re-creates the confusion of RFC 5652
// section 5.3: the attributes of one message, sent as the content of another
// with the same signature, which then has none.
func TestSignedAttributesAreNoContent(t *testing.T) {
	s := *ourSigners().of["RSA"]
	s.Chain = nil
	der, err := cms.SignOpaque(&s, []byte(signedText), signedAt)
	if err != nil {
		t.Fatal(err)
	}
	forged, attributes := withoutAttributes(t, der)
	got, err := cms.Verify(forged, bytes.NewReader(attributes), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got.Signatures[0].Status != cms.SignatureInvalid {
		t.Errorf("attributes pass for content: %s", got.Signatures[0].Status)
	}
	// That it would have passed otherwise is shown by OpenSSL.
	b := newSignBench(t)
	b.put("forged", forged)
	b.put("attributes", attributes)
	if out, err := b.openssl("cms", "-verify", "-binary", "-inform", "DER", "-in", "forged", "-content", "attributes", "-CAfile", "root.pem", "-out", "out"); err != nil {
		t.Errorf("the forgery is a bad one: %s", out)
	}
}

func TestVerifyRefuses(t *testing.T) {
	s := ourSigners().of["P-256"]
	detached, _, err := cms.Sign(s, strings.NewReader(signedText), signedAt)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		message []byte
		max     int64
		reason  string
	}{
		"nothing":   {nil, 1 << 20, "malformed"},
		"a text":    {[]byte("Dear colleague"), 1 << 20, "malformed"},
		"cut short": {detached[:len(detached)-1], 1 << 20, "malformed"},
		"more":      {append(slices.Clone(detached), 0), 1 << 20, "malformed"},
		"too large": {detached, 100, "too_large"},
		"id-data":   {[]byte{0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}, 1 << 20, "unsupported"},
	} {
		_, err := cms.Verify(tc.message, strings.NewReader(signedText), tc.max)
		if f := fault.From(err); err == nil || f.Kind != fault.Refused || f.Reason != tc.reason {
			t.Errorf("%s: %v, want %s", name, err, tc.reason)
		}
	}
	if _, err := cms.Verify(detached, nil, 1<<20); fault.From(err).Reason != "malformed" {
		t.Errorf("detached without content: %v", err)
	}
	long := strings.NewReader(strings.Repeat("x", 5000))
	if _, err := cms.Verify(detached, long, 4000); fault.From(err).Reason != "too_large" {
		t.Errorf("content longer than allowed: %v", err)
	}
}

func TestCertificatesOfABundle(t *testing.T) {
	b := newSignBench(t)
	b.signer("RSA")
	for _, form := range []string{"DER", "PEM"} {
		if out, err := b.openssl("crl2pkcs7", "-nocrl", "-certfile", "root.pem", "-certfile", "RSA.crt", "-outform", form, "-out", "bundle"); err != nil {
			t.Fatal(out)
		}
		data := b.get("bundle")
		if form == "PEM" {
			block, _ := pem.Decode(data)
			data = block.Bytes
		}
		got, err := cms.Certificates(data)
		if err != nil || len(got) != 2 {
			t.Fatalf("%d certificates, %v", len(got), err)
		}
	}
	if _, err := cms.Certificates([]byte("no bundle")); fault.From(err).Reason != "malformed" {
		t.Errorf("%v", err)
	}
}

// sharedData finds the collections that are not part of this repository.
func sharedData(t *testing.T, parts ...string) []byte {
	t.Helper()
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	data, err := os.ReadFile(filepath.Join(append([]string{dir}, parts...)...))
	if err != nil {
		t.Logf("not looked at, because the test data is absent: %v", err)
		return nil
	}
	return data
}

func TestRFC9216Signatures(t *testing.T) {
	const text = "This is some sample content."
	for _, tc := range []struct {
		file       string
		detached   bool
		signatures []string
	}{
		{"signedByAliceRSA.pem", false, []string{"valid RSA-2048"}},
		{"signedByAliceRSAPSS.pem", false, []string{"valid RSA-2048 PSS"}},
		{"signedByCarlosEd25519.pem", false, []string{"valid Ed25519"}},
		{"signedByCarlosDetached.pem", true, []string{"valid Ed25519"}},
		{"signedByAliceAndCarlosNoCerts.pem", false, []string{"unknown_signer ", "unknown_signer "}},
	} {
		data := sharedData(t, "smime-rfc9216", tc.file)
		if data == nil {
			return
		}
		block, _ := pem.Decode(data)
		got := verified(t, block.Bytes, text)
		var verdicts []string
		for _, s := range got.Signatures {
			verdicts = append(verdicts, s.Status+" "+s.Algorithm)
		}
		if !slices.Equal(verdicts, tc.signatures) || (got.Content == nil) != tc.detached {
			t.Errorf("%s: %q %q", tc.file, verdicts, got.Content)
		}
		if tc.detached {
			if got := verified(t, block.Bytes, text+"!").Signatures[0].Status; got != "invalid" {
				t.Errorf("%s: another text is %s", tc.file, got)
			}
		}
	}
}

// TestThunderbird reads a mail of 2013, whose signature is over SHA-1.
func TestThunderbird(t *testing.T) {
	raw := sharedData(t, "smime-mimekit", "thunderbird-signed.txt")
	if raw == nil {
		return
	}
	raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	parts := bytes.Split(raw, []byte("\r\n--------------ms000505020301050400050509"))
	_, encoded, _ := bytes.Cut(parts[2], []byte("\r\n\r\n"))
	sig, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(encoded)), ""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cms.Verify(sig, bytes.NewReader(parts[1][2:]), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	s := got.Signatures[0]
	if s.Status != cms.SignatureWeakHash || s.Digest != "SHA-1" || s.Certificate == nil || s.At.Year() != 2013 || len(got.Certificates) < 2 {
		t.Errorf("%+v with %d certificates", s, len(got.Certificates))
	}
}

// The seeds of the fuzz targets are in testdata/fuzz, made by openssl and by
// Sign.
func FuzzVerify(f *testing.F) {
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := cms.Verify(message, strings.NewReader(signedText), 1<<16)
		if err != nil {
			return
		}
		for _, s := range got.Signatures {
			if s.Status == cms.SignatureValid && (s.Certificate == nil || s.Algorithm == "") {
				t.Errorf("valid by nobody: %+v", s)
			}
		}
	})
}

func FuzzCertificates(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := cms.Certificates(data)
		for _, c := range got {
			cms.PublicKey(c)
		}
	})
}
