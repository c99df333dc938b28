package dnssec

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/await"
	"github.com/sealpost/sealpost/e2e/internal/postfix"
	"github.com/sealpost/sealpost/e2e/internal/product"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(product.Main(m, &binary)) }

// chain is a certificate of a mail host from an authority that nobody knows.
type chain struct {
	leaf, ca *x509.Certificate
	pem      []byte // the certificates
	key      []byte
}

func issue(t *testing.T, names ...string) chain {
	t.Helper()
	make := func(tmpl, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = tmpl, key
		}
		tmpl.NotBefore, tmpl.NotAfter, tmpl.BasicConstraintsValid = time.Now().Add(-time.Hour), time.Now().Add(time.Hour), true
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, caKey := make(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the mail host"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, key := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := chain{leaf: leaf, ca: ca, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	for _, cert := range []*x509.Certificate{leaf, ca} {
		c.pem = append(c.pem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return c
}

func (c chain) caPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw})
}

// file writes a file beside the configuration and gives its path.
func (s *site) file(name string, parts ...[]byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// mailHostOfAll receives mail for all domains. It gives the folder that mail
// is put into, and a function that tells for whom mail has arrived.
func mailHostOfAll(t *testing.T, port int, certs chain) (folder string, arrived func() map[string]bool) {
	t.Helper()
	dir := postfix.Dir(t)
	for name, text := range map[string][]byte{"mx.crt": certs.pem, "mx.key": certs.key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder = postfix.Start(t, dir, postfix.Host{Addr: mailHost, Port: port,
		Main: "myhostname = mx.hoster.example\nsmtpd_tls_ask_ccert = yes\nvirtual_mailbox_domains = static:all"})
	return folder, func() map[string]bool {
		out := map[string]bool{}
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		for _, m := range regexp.MustCompile(`to=<([^>]+)>.*status=sent`).FindAllSubmatch(log, -1) {
			out[string(m[1])] = true
		}
		return out
	}
}

// site is an installation that asks a resolver that it trusts.
type site struct {
	t                  *testing.T
	dir, http, metrics string
	key                string
}

func newSite(t *testing.T, resolver string, smtpPort int) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.http, s.metrics = fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	conf := fmt.Sprintf(`data_dir = %q
public_url = "http://localhost:%s"
hostname = "mail.clinic.example"
[keys]
master_file = %q
[listen]
http = %q
http_tls = false
submission = ""
submissions = ""
relay = ""
metrics = %q
[network]
resolver = %q
smtp_port = %d
dnssec = true
[delivery]
retry_min = "1s"
retry_max = "2s"
connect_timeout = "3s"
command_timeout = "3s"
final_timeout = "3s"
`, filepath.Join(s.dir, "data"), s.http[strings.LastIndexByte(s.http, ':')+1:], filepath.Join(s.dir, "master.key"), s.http, s.metrics, resolver, smtpPort)
	if err := os.WriteFile(filepath.Join(s.dir, "sealpost.toml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"migrate --apply", "keys init", "org create clinic --name Clinic", "domain add clinic.example", "domain verify clinic.example --force"} {
		s.run(strings.Fields(args)...)
	}
	var made struct{ Key string }
	if err := json.Unmarshal(s.run("--json", "apikey", "create", "--name", "e2e", "--scope", "messages:send,messages:read"), &made); err != nil {
		t.Fatal(err)
	}
	s.key = made.Key
	return s
}

func (s *site) command(args ...string) *exec.Cmd {
	return exec.Command(binary, append([]string{"--config", filepath.Join(s.dir, "sealpost.toml")}, args...)...)
}

func (s *site) run(args ...string) []byte {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("sealpost %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes()
}

// start runs the server until the test ends.
func (s *site) start() {
	s.t.Helper()
	var log bytes.Buffer
	cmd := s.command("serve")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s", log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	await.Until(s.t, func() string {
		resp, err := http.Get("http://" + s.metrics + "/readyz")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return "/readyz: " + resp.Status
		}
		return ""
	})
}

func (s *site) call(method, path string, body, into any) {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://"+s.http+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = "localhost"
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) send(to string) (id string) {
	s.t.Helper()
	var r struct{ Deliveries []struct{ ID string } }
	s.call(http.MethodPost, "/api/v1/messages", map[string]any{"from": "dr.ada@clinic.example", "to": []string{to}, "subject": "Results", "text": "private"}, &r)
	return r.Deliveries[0].ID
}

type delivery struct {
	State, Seal, Grade string
	Reason             string `json:"reason_code"`
	Attempts           []struct {
		Evidence struct {
			VerifiedBy string `json:"verified_by"`
			TLSA       string `json:"tlsa"`
			MX         string `json:"mx"`
			Client     string `json:"client_certificate"`
		}
	}
}

func (s *site) delivery(id string) (d delivery) {
	s.t.Helper()
	s.call(http.MethodGet, "/api/v1/deliveries/"+id, nil, &d)
	return d
}
