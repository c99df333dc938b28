package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/fault"
)

// peer is a folder with everybody's keys, and the program that uses them.
type peer struct {
	t   *testing.T
	dir string
}

func newPeer(t *testing.T) peer {
	t.Helper()
	p := peer{t, t.TempDir()}
	for name, r := range everybody() {
		key, err := x509.MarshalPKCS8PrivateKey(r.Key)
		if err != nil {
			t.Fatal(err)
		}
		p.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
		p.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate.Raw}))
	}
	return p
}

func (p peer) write(name string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p peer) openssl(arguments ...string) ([]byte, error) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "openssl", arguments...)
	cmd.Dir = p.dir
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		err = errors.New(strings.Join(arguments, " ") + ": " + complaint.String())
	}
	return out.Bytes(), err
}

func TestOpenSSLReadsWhatWeSeal(t *testing.T) {
	p := newPeer(t)
	plain := text(chunkSize + 1000)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		for _, tc := range []struct {
			to string
			o  WrapOptions
		}{{"rsa", WrapOptions{}}, {"rsa", WrapOptions{OAEP: true}}, {"rsa3072", WrapOptions{}}, {"P-256", WrapOptions{}}, {"P-384", WrapOptions{}}, {"P-521", WrapOptions{}}} {
			der := sealed(t, c, plain, everybody()[tc.to], tc.o)
			p.write("message", der)
			decrypt := []string{"cms", "-decrypt", "-inform", "DER", "-in", "message", "-binary", "-inkey", tc.to + ".key", "-recip", tc.to + ".crt"}
			got, err := p.openssl(decrypt...)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v for %s %+v: %d octets, %v", c, tc.to, tc.o, len(got), err)
			}
			if c == AES256GCM {
				der[len(der)-1] ^= 1
				p.write("message", der)
				if _, err := p.openssl(decrypt...); err == nil {
					t.Errorf("%s reads a message whose tag is wrong", tc.to)
				}
			}
		}
	}
}

func TestOpenSSLReadsWhatWeSealForOAEPAlone(t *testing.T) {
	p := newPeer(t)
	sha384 := (&oaep{hash: oaepHashes[3].hash, mgf: oaepHashes[2].hash}).der()
	to := Recipient{Certificate: oaepCertificate(everybody()["rsa"], sha384)}
	p.write("message", sealed(t, AES256CBC, text(100), to, WrapOptions{}))
	got, err := p.openssl("cms", "-decrypt", "-inform", "DER", "-in", "message", "-binary", "-inkey", "rsa.key", "-recip", "rsa.crt")
	if err != nil || !bytes.Equal(got, text(100)) {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

func TestWeReadWhatOpenSSLSeals(t *testing.T) {
	p := newPeer(t)
	plain := text(20_000)
	p.write("plain", plain)
	const oaep = " -keyopt rsa_padding_mode:oaep"
	for _, tc := range []struct{ to, options, want string }{
		{"rsa", "-aes256", "RSA-2048 PKCS#1 v1.5, AES-256-CBC"},
		{"rsa", "-aes192", "RSA-2048 PKCS#1 v1.5, AES-192-CBC"},
		{"rsa", "-aes128", "RSA-2048 PKCS#1 v1.5, AES-128-CBC"},
		{"rsa", "-des3", "RSA-2048 PKCS#1 v1.5, 3DES-CBC (legacy)"},
		{"rsa", "-aes-256-gcm", "RSA-2048 PKCS#1 v1.5, AES-256-GCM"},
		{"rsa", "-aes-192-gcm", "RSA-2048 PKCS#1 v1.5, AES-192-GCM"},
		{"rsa", "-aes-128-gcm", "RSA-2048 PKCS#1 v1.5, AES-128-GCM"},
		{"rsa3072", "-aes256 -stream", "RSA-3072 PKCS#1 v1.5, AES-256-CBC"},
		{"rsa", "-aes-256-gcm -indef", "RSA-2048 PKCS#1 v1.5, AES-256-GCM"},
		{"rsa", "-aes256 -keyid", "RSA-2048 PKCS#1 v1.5, AES-256-CBC"},
		{"rsa", "-aes256" + oaep, "RSA-2048 OAEP-SHA1, AES-256-CBC"},
		{"rsa", "-aes256" + oaep + " -keyopt rsa_oaep_md:sha256", "RSA-2048 OAEP-SHA256, AES-256-CBC"},
		{"rsa", "-aes256" + oaep + " -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha1", "RSA-2048 OAEP-SHA256, AES-256-CBC"},
		{"rsa", "-aes256 -keyid" + oaep + " -keyopt rsa_oaep_md:sha384 -keyopt rsa_oaep_label:6c6162656c", "RSA-2048 OAEP-SHA384, AES-256-CBC"},
		{"rsa", "-aes-256-gcm -stream" + oaep + " -keyopt rsa_oaep_md:sha512", "RSA-2048 OAEP-SHA512, AES-256-GCM"},
		{"P-256", "-aes256", "ECDH P-256, AES-256-CBC"},
		{"P-256", "-aes128 -keyid -stream", "ECDH P-256, AES-128-CBC"},
		{"P-256", "-aes256 -keyopt ecdh_kdf_md:sha224", "ECDH P-256, AES-256-CBC"},
		{"P-256", "-aes256 -keyopt ecdh_kdf_md:sha256 -keyopt ecdh_cofactor_mode:1", "ECDH P-256, AES-256-CBC"},
		{"P-256", "-aes256 -keyopt ecdh_kdf_md:sha1 -keyopt ecdh_cofactor_mode:1", "ECDH P-256, AES-256-CBC"},
		{"P-256", "-aes256 -keyopt ecdh_kdf_md:sha256 -aes128-wrap", "ECDH P-256, AES-256-CBC"},
		{"P-256", "-aes256 -keyopt ecdh_kdf_md:sha512 -aes192-wrap", "ECDH P-256, AES-256-CBC"},
		{"P-384", "-aes-256-gcm -keyopt ecdh_kdf_md:sha384", "ECDH P-384, AES-256-GCM"},
		{"P-521", "-aes-256-gcm -stream -keyopt ecdh_kdf_md:sha512", "ECDH P-521, AES-256-GCM"},
	} {
		for _, form := range []string{"DER", "SMIME"} {
			options := strings.Fields(tc.options)
			// Options of a key come behind its certificate.
			split := len(options)
			for i, o := range options {
				if o == "-keyopt" {
					split = i
					break
				}
			}
			arguments := append([]string{"cms", "-encrypt", "-binary", "-in", "plain", "-outform", form}, options[:split]...)
			arguments = append(append(arguments, "-recip", tc.to+".crt"), options[split:]...)
			ber, err := p.openssl(arguments...)
			if err != nil {
				t.Error(err)
				continue
			}
			if form == "SMIME" {
				ber = body(t, ber)
			}
			got, err := Decrypt(ber, keysOf("P-384", "rsa", "X25519", "rsa3072", "P-256", "P-521"), 20_000)
			if err != nil || !bytes.Equal(got.Plain, plain) || got.Algorithms != tc.want || got.Recipient != everybody()[tc.to].Certificate {
				t.Errorf("%s for %s as %s: %+v, %v", tc.options, tc.to, form, got, err)
			}
			if kind := KindOf(bytes.NewReader(ber)); kind != KindEnveloped && kind != KindAuthEnveloped || strings.Contains(tc.options, "gcm") != (kind == KindAuthEnveloped) {
				t.Errorf("%s: kind %q", tc.options, kind)
			}
			if strings.Contains(tc.options, "-stream") && form == "DER" && ber[1] != 0x80 {
				t.Errorf("%s: the length is not indefinite: this tests nothing", tc.options)
			}
		}
	}
}

func keysOf(names ...string) (keys []Recipient) {
	for _, name := range names {
		keys = append(keys, everybody()[name])
	}
	return keys
}

// body decodes the base64 below a MIME header.
func body(t *testing.T, message []byte) []byte {
	t.Helper()
	message = bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	_, encoded, ok := bytes.Cut(message, []byte("\n\n"))
	if !ok {
		t.Fatal("no body")
	}
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(encoded), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOneOfSeveralRecipients(t *testing.T) {
	p := newPeer(t)
	p.write("plain", text(100))
	everyone := []string{"rsa.crt", "P-256.crt", "rsa3072.crt", "P-384.crt"}
	ber, err := p.openssl(append([]string{"cms", "-encrypt", "-binary", "-stream", "-aes256", "-in", "plain", "-outform", "DER"}, everyone...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rsa", "P-256", "rsa3072", "P-384"} {
		got, err := Decrypt(ber, keysOf("X25519", name, "P-521"), 100)
		if err != nil || !bytes.Equal(got.Plain, text(100)) || got.Recipient != everybody()[name].Certificate {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, keys := range [][]Recipient{nil, keysOf("X25519", "P-521"), {{Key: everybody()["rsa"].Key}}} {
		if _, err := Decrypt(ber, keys, 100); !errors.Is(err, errNotForUs) {
			t.Errorf("without a key: %v", err)
		}
	}
}

func TestRC2IsNotRead(t *testing.T) {
	p := newPeer(t)
	p.write("plain", text(100))
	ber, err := p.openssl("cms", "-encrypt", "-binary", "-rc2-40", "-provider", "legacy", "-provider", "default", "-in", "plain", "-outform", "DER", "rsa.crt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decrypt(ber, keysOf("rsa"), 100); fault.From(err).Reason != "unsupported" {
		t.Error(err)
	}
}

// A key that another agrees on with the sender's password or with an earlier
// key is not for certificates; RFC 9216's sample of it is refused, too.
func TestPasswordsAreNotForUs(t *testing.T) {
	p := newPeer(t)
	p.write("plain", text(100))
	ber, err := p.openssl("cms", "-encrypt", "-binary", "-aes256", "-pwri_password", "secret", "-in", "plain", "-outform", "DER")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decrypt(ber, keysOf("rsa"), 100); !errors.Is(err, errNotForUs) {
		t.Error(err)
	}
}
