package cms

import (
	"bytes"
	"errors"
	"os/exec"
	"testing"
)

// nss runs a program of NSS, the library with which Thunderbird reads and
// writes S/MIME.
func (p peer) nss(program string, arguments ...string) ([]byte, error) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), program, append(arguments, "-d", "sql:.")...)
	cmd.Dir = p.dir
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		err = errors.New(program + ": " + complaint.String())
	}
	return out.Bytes(), err
}

// NSS 3.87 knows neither OAEP, nor GCM, nor recipients with elliptic curves: it
// also refuses what OpenSSL makes of these, and itself makes none.
func TestNSSReadsAndWritesRSA(t *testing.T) {
	p := newPeer(t)
	if _, err := p.nss("certutil", "-N", "--empty-password"); err != nil {
		t.Fatal(err)
	}
	p.write("plain", text(5000))
	for _, name := range []string{"rsa", "rsa3072"} {
		if _, err := p.openssl("pkcs12", "-export", "-inkey", name+".key", "-in", name+".crt", "-name", name, "-out", name+".p12", "-passout", "pass:x"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.nss("pk12util", "-i", name+".p12", "-W", "x"); err != nil {
			t.Fatal(err)
		}
		p.write("ours", sealed(t, AES256CBC, text(5000), everybody()[name], WrapOptions{}))
		got, err := p.nss("cmsutil", "-D", "-i", "ours")
		if err != nil || !bytes.Equal(got, text(5000)) {
			t.Errorf("NSS reads %d octets for %s: %v", len(got), name, err)
		}
		theirs, err := p.nss("cmsutil", "-E", "-r", name, "-i", "plain")
		if err != nil {
			t.Fatal(err)
		}
		opened, err := Decrypt(theirs, keysOf("P-256", name), 5000)
		if err != nil || !bytes.Equal(opened.Plain, text(5000)) {
			t.Errorf("from NSS for %s: %v", name, err)
		}
		if kind := KindOf(bytes.NewReader(theirs)); kind != KindEnveloped {
			t.Errorf("kind %q", kind)
		}
	}
}
