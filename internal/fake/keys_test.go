package fake

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/miekg/dns"
)

func run(t *testing.T, stdin []byte, env []string, name string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("the tests need the program %s", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin, cmd.Env = bytes.NewReader(stdin), append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return out
}

const secretEntity = "Subject: Your results\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe culture is negative.\r\n"

func pgpMail(armored []byte) string {
	return "From: ada@clinic.test\r\nSubject: ...\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n" +
		"--b\r\nContent-Type: application/octet-stream\r\n\r\n" + string(armored) + "\r\n--b--\r\n"
}

func cmsMail(der []byte) string {
	return "From: ada@clinic.test\r\nSubject: ...\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n\r\n" +
		base64.StdEncoding.EncodeToString(der) + "\r\n"
}

func gpgHome(t *testing.T) []string {
	home, err := os.MkdirTemp("", "gpg") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + home}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), env...)
		_ = cmd.Run()
		os.RemoveAll(home)
	})
	return env
}

// TestMailboxesOpenWhatIsSealed has programs that share nothing with us seal,
// and the mailboxes open.
func TestMailboxesOpenWhatIsSealed(t *testing.T) {
	n := start(t, Options{})
	gpg := gpgHome(t)
	put := func(to, raw string) Message {
		n.boxes.add(Message{From: "ada@clinic.test", To: to, Raw: []byte(raw), TLS: "TLS 1.3", Host: "mx", ReceivedAt: time.Now()})
		all := n.Messages(to)
		return all[len(all)-1]
	}
	check := func(m Message, by string) {
		t.Helper()
		got, err := n.Open(t.Context(), m)
		if err != nil || string(got.Raw) != secretEntity || !strings.Contains(got.By, by) {
			t.Fatalf("%s: %q by %q, %v", m.To, got.Raw, got.By, err)
		}
		_, page := fetch(t, "GET", fmt.Sprintf("%s/mail/%d", n.MailboxesURL, m.N), "")
		for _, want := range []string{"<h1>Your results</h1>", "The culture is negative.", by, "As it traveled"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q on the page", m.To, want)
			}
		}
	}
	for _, to := range []string{"rita@pgp-rsa.example", "cora@pgp-curve.example"} {
		run(t, n.PGPKey(to), gpg, "gpg", "--batch", "--import")
		armored := run(t, []byte(secretEntity), gpg, "gpg", "--batch", "--trust-model", "always", "-a", "-e", "-r", to)
		check(put(to, pgpMail(armored)), goCryptoName)
		if _, err := n.Open(t.Context(), put("anna@modern.example", pgpMail(armored))); !errors.Is(err, ErrNoKey) {
			t.Errorf("opened by somebody else: %v", err)
		}
	}
	check(put("vera@pgp-v6.example", pgpMail(sealV6(t, n.PGPKey("vera@pgp-v6.example")))), goCryptoName)

	for _, to := range []string{"simon@smime-rsa.example", "elsa@smime-ec.example"} {
		cert := filepath.Join(t.TempDir(), "cert.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.MailCertificate(to).Raw})
		if err := os.WriteFile(cert, block, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, cipher := range []string{"-aes-256-cbc", "-aes-256-gcm"} {
			der := run(t, []byte(secretEntity), nil, "openssl", "cms", "-encrypt", "-binary", "-outform", "DER", cipher, cert)
			check(put(to, cmsMail(der)), "openssl cms")
		}
	}
	_, page := fetch(t, "GET", n.MailboxesURL+"/messages?open=1&to=simon@smime-rsa.example", "")
	var all []openedMessage
	if err := json.Unmarshal([]byte(page), &all); err != nil && !strings.Contains(page, "culture is negative") {
		t.Errorf("%v in %s", err, page)
	}
	m := put("simon@smime-rsa.example", cmsMail([]byte("no CMS at all")))
	if _, err := n.Open(t.Context(), m); err == nil {
		t.Error("nonsense was opened")
	}
	_, page = fetch(t, "GET", fmt.Sprintf("%s/mail/%d", n.MailboxesURL, m.N), "")
	if !strings.Contains(page, "not opened here") {
		t.Errorf("the page does not say that nobody could open it:\n%s", page)
	}
}

func sealV6(t *testing.T, key []byte) []byte {
	t.Helper()
	list, err := openpgp.ReadKeyRing(bytes.NewReader(key))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := openpgp.Encrypt(&out, list, nil, nil, nil, &packet.Config{AEADConfig: &packet.AEADConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, secretEntity); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// web gives a client that finds every host of the fake internet.
func webClient(t *testing.T, n *Internet) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: n.CAPool()}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, p, _ := net.SplitHostPort(addr)
			if p == "443" {
				p = port(n.HTTPSPort)
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(stsAddr.String(), p))
		},
	}
	return &http.Client{Transport: tr, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func get(t *testing.T, c *http.Client, url string) (int, []byte) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

// TestKeyDirectories: gpg names the pages as we do, and the keys are there.
func TestKeyDirectories(t *testing.T) {
	n := start(t, Options{})
	gpg, c := gpgHome(t), webClient(t, n)
	for _, p := range keyPeople() {
		if secret, err := keyFiles.ReadFile("keys/" + p.file); err == nil && strings.HasSuffix(p.file, ".asc") {
			if public, err := n.HoldPGP("again@"+p.domain, secret); err != nil || !bytes.Equal(public, n.PGPKey(p.address())) {
				t.Errorf("%s: the public key is not that of the secret one: %v", p.file, err)
			}
		}
		if !strings.HasSuffix(p.file, ".asc") || p.file == "pgp-v6.asc" || p.file == "pgp-hangs.asc" {
			continue
		}
		run(t, n.PGPKey(p.address()), gpg, "gpg", "--batch", "--import")
		out := run(t, nil, gpg, "gpg", "--batch", "--with-wkd-hash", "--with-colons", "-k", p.address())
		direct := p.file == "pgp-rsa.asc"
		path := WKDPath(p.domain, p.local, direct)
		hash := path[strings.LastIndexByte(path, '/')+1:]
		listed := run(t, nil, gpg, "gpg", "--batch", "--with-wkd-hash", "-k", p.address())
		if !strings.Contains(string(listed), hash+"@"+p.domain) {
			t.Errorf("gpg does not know %s@%s:\n%s%s", hash, p.domain, listed, out)
		}
		url := "https://" + WKDHost(p.domain, direct) + path
		if code, got := get(t, c, url+"?l="+p.local); code != 200 || !bytes.Equal(got, n.PGPKey(p.address())) {
			t.Errorf("%s: %d with %d octets", p.domain, code, len(got))
		}
		if code, _ := get(t, c, url); code != 404 {
			t.Errorf("%s: %d without a local part", p.domain, code)
		}
	}
	if n.Fetches("openpgpkey.pgp-curve.example") != 2 || n.Fetches("pgp-rsa.example") != 2 {
		t.Error("fetches are not counted")
	}
	const domain = "faults.example"
	for fault, want := range map[WebFault]int{PageRedirects: 301, PageNotFound: 404, PageFails: 503, PageGarbage: 200, PageHuge: 200} {
		if err := n.PutWKD(domain, "a", []byte("key"), WKDOptions{Fault: fault}); err != nil {
			t.Fatal(err)
		}
		code, got := get(t, c, "https://"+WKDHost(domain, false)+WKDPath(domain, "a", false)+"?l=A")
		if code != want || string(got) == "key" || fault == PageHuge && len(got) != 1<<20 {
			t.Errorf("fault %d: %d with %d octets", fault, code, len(got))
		}
	}
	if err := n.PutHKPS("keys.example", "cora+x@pgp-curve.example", []byte("key"), NoWebFault); err != nil {
		t.Fatal(err)
	}
	if code, got := get(t, c, "https://keys.example/vks/v1/by-email/cora%2Bx%40pgp-curve.example"); code != 200 || string(got) != "key" {
		t.Errorf("key server: %d %q", code, got)
	}
}

func TestSignedZones(t *testing.T) {
	n := start(t, Options{})
	n.SetSecure("signed.example", true)
	n.SetSecure("island.signed.example", false)
	n.SetTXT("a.signed.example", "x")
	n.SetTXT("b.island.signed.example", "x")
	n.SetCNAME("out.signed.example", "modern.example")
	n.SetCNAME("in.signed.example", "a.signed.example")
	for name, want := range map[string]bool{
		"a.signed.example": true, "none.signed.example": true, "b.island.signed.example": false,
		"out.signed.example": false, "in.signed.example": true, "modern.example": false, "unsigned.example": false,
	} {
		for _, ad := range []bool{true, false} {
			q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeTXT)
			q.AuthenticatedData = ad
			resp, _, err := new(dns.Client).ExchangeContext(t.Context(), q, n.ResolverAddr)
			if err != nil || resp.AuthenticatedData != (want && ad) {
				t.Errorf("%s asked with AD %v: AD %v, %v", name, ad, resp != nil && resp.AuthenticatedData, err)
			}
		}
	}
}

// TestMailCertificates: openssl takes the certificates for mail, and the list
// takes one back.
func TestMailCertificates(t *testing.T) {
	dir := t.TempDir()
	n := start(t, Options{Dir: dir})
	c := webClient(t, n)
	who, err := n.IssueMail("eve@elsewhere.example", MailCertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(cert *x509.Certificate) string {
		code, crl := get(t, c, cert.CRLDistributionPoints[0])
		if code != 200 {
			t.Fatalf("the list gives %d", code)
		}
		for name, block := range map[string]*pem.Block{"leaf": {Type: "CERTIFICATE", Bytes: cert.Raw}, "crl": {Type: "X509 CRL", Bytes: crl}} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		purpose := "smimeencrypt"
		if cert.PublicKeyAlgorithm == x509.ECDSA {
			purpose = "smimesign" // openssl's smimeencrypt asks for keyEncipherment, which an EC key cannot do
		}
		out, _ := exec.CommandContext(t.Context(), "openssl", "verify", "-CAfile", n.MailCAFile, "-crl_check", "-CRLfile", filepath.Join(dir, "crl"),
			"-purpose", purpose, "-verify_email", cert.EmailAddresses[0], filepath.Join(dir, "leaf")).CombinedOutput()
		return string(out)
	}
	for _, cert := range []*x509.Certificate{who.Certificate, n.MailCertificate("simon@smime-rsa.example"), n.MailCertificate("elsa@smime-ec.example")} {
		if out := verify(cert); !strings.Contains(out, ": OK") {
			t.Error(out)
		}
	}
	n.RevokeMail(who.Certificate)
	if out := verify(who.Certificate); !strings.Contains(out, "certificate revoked") {
		t.Error(out)
	}
	if out := verify(n.MailCertificate("elsa@smime-ec.example")); !strings.Contains(out, ": OK") {
		t.Error(out)
	}
}
