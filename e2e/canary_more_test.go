package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

// collector takes traces by OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu   sync.Mutex
	body []byte
}

func newCollector(t *testing.T) *collector {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "200") // milliseconds, for the server: it is killed
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.body = append(c.body, b...)
	}))
	t.Cleanup(c.Close)
	return c
}

// settings are for the configuration file.
func (c *collector) settings() string {
	return fmt.Sprintf("[telemetry]\ntraces = %q\n", c.URL)
}

// traces waits for the spans of the messages that were handed in.
func (c *collector) traces(t *testing.T) []byte {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c.mu.Lock()
		got := bytes.Clone(c.body)
		c.mu.Unlock()
		if bytes.Count(got, []byte("accept")) >= 3 {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%d octets of traces, too few for all messages", len(got))
		}
	}
}

// plant gives marked things to every command that takes some.
func (s *site) plant(t *testing.T) {
	t.Helper()
	outside := t.TempDir() // what administrators have in their own files is theirs
	s.fewerSources(t)
	s.addDomain("ward.test")
	s.net.SetMX("bounce.clinic.test", fake.MX{Preference: 10, Host: "mail.clinic.test"})
	s.net.SetA("mail.clinic.test", netip.MustParseAddr("127.0.0.1"))
	s.net.SetTXT("bounce.clinic.test", "v=spf1 a:mail.clinic.test -all")
	s.run("domain", "return-path", "clinic.test")
	s.net.SetMX("ward.test", fake.MX{Preference: 10, Host: "mx.modern.example"})
	s.run("domain", "route", "ward.test", "mx.modern.example")
	s.run("retention", "journal", canaries["archive"]+"@modern.example")
	s.run("hold", "place", "--matter", canaries["matter"], "--reason", canaries["hold reason"], "--by", canaries["holder"],
		"--recipient", canaries["held"]+"@modern.example")
	s.run("suppress", "add", canaries["suppressed"]+"@modern.example", "--note", canaries["note"])
	list := filepath.Join(outside, "list.csv")
	if err := os.WriteFile(list, []byte("address,note\n"+canaries["imported"]+"@modern.example,"+canaries["note"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("suppress", "import", list)
	s.run("dkim", "create", "clinic.test")
	s.run("partner", "add", "lab.example", "--client", partnerKey(t, outside))
}

// partnerKey writes a certificate whose private key is a marked word.
func partnerKey(t *testing.T, dir string) (file string) {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(canaries["partner key"]))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"clinic.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	file = filepath.Join(dir, "client.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// bring is a mail host elsewhere that brings a message by TLS.
func (s *site) bring(t *testing.T, from, to, message string) {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp", s.relay)
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, conn)
	if reply := d.ask(t, "STARTTLS"); !strings.HasPrefix(reply, "220 ") {
		t.Fatal(reply)
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: s.net.CAPool(), ServerName: "localhost"})
	d = overTLS(t, secure)
	d.mail(t, from, to)
	if reply := d.data(t, message); !strings.HasPrefix(reply, "250 ") {
		t.Fatalf("to %s: %s", to, reply)
	}
}

// comesIn brings what others send: a bounce that quotes, reports that chat, and
// mail for a member.
func (s *site) comesIn(t *testing.T, delivered string) {
	t.Helper()
	to := canaries["local part"] + "@modern.example"
	sender := s.net.Messages(to)[0].From // a return path
	s.bring(t, "", sender, "From: mailer@modern.example\r\nSubject: "+canaries["diagnostic"]+"\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"+
		"--b\r\n\r\n"+canaries["diagnostic"]+" is gone\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.modern.example\r\n\r\n"+
		"Final-Recipient: rfc822; "+to+"\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 <"+to+">: "+canaries["diagnostic"]+"\r\n\r\n"+
		"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: "+canaries["subject"]+"\r\n\r\n"+canaries["text"]+"\r\n--b--\r\n")
	if d := s.settles(delivered, "failed"); d.Reason != returnedLater {
		t.Errorf("reason %q", d.Reason)
	}
	now := time.Now().UTC()
	head := "From: reports@modern.example\r\nSubject: " + canaries["report comment"] + "\r\nContent-Type: multipart/report; report-type=x; boundary=b\r\n\r\n--b\r\n\r\n" +
		canaries["report comment"] + "\r\n--b\r\nContent-Type: application/"
	s.bring(t, "", "dmarc@bounce.clinic.test", fmt.Sprintf(head+"xml\r\n\r\n<feedback><report_metadata><org_name>modern.example</org_name>"+
		"<email>%[1]s@modern.example</email><extra_contact_info>%[2]s</extra_contact_info><report_id>1</report_id><date_range><begin>%[3]d</begin><end>%[4]d</end></date_range></report_metadata>"+
		"<policy_published><domain>clinic.test</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip><count>1</count>"+
		"<policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf><reason><type>other</type><comment>%[2]s</comment></reason></policy_evaluated></row>"+
		"<identifiers><envelope_from>%[1]s@clinic.test</envelope_from><header_from>clinic.test</header_from></identifiers>"+
		"<auth_results><spf><domain>clinic.test</domain><result>fail</result></spf></auth_results></record></feedback>\r\n--b--\r\n",
		canaries["report contact"], canaries["report comment"], now.Add(-26*time.Hour).Unix(), now.Add(-2*time.Hour).Unix()))
	s.bring(t, "", "tlsrpt@bounce.clinic.test", fmt.Sprintf(head+"tlsrpt+json\r\n\r\n"+`{"organization-name":"modern.example","date-range":{"start-datetime":"%[3]s","end-datetime":"%[4]s"},`+
		`"contact-info":"%[1]s@modern.example","report-id":"1","policies":[{"policy":{"policy-type":"no-policy-found","policy-domain":"clinic.test"},`+
		`"summary":{"total-successful-session-count":1,"total-failure-session-count":1},"failure-details":[{"result-type":"validation-failure","failed-session-count":1,`+
		`"additional-information":"%[2]s"}]}]}`+"\r\n--b--\r\n", canaries["report contact"], canaries["report comment"], now.Add(-26*time.Hour).Format(time.RFC3339), now.Add(-2*time.Hour).Format(time.RFC3339)))
	member := canaries["member"] + "@ward.test"
	s.bring(t, canaries["stranger"]+"@modern.example", member, "From: "+canaries["stranger"]+"@modern.example\r\nSubject: "+canaries["inbound"]+"\r\n\r\n"+canaries["inbound"]+"\r\n")
	for _, want := range []string{member, canaries["archive"] + "@modern.example"} {
		if _, err := s.net.Wait(t.Context(), want, 1); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
	}
}

// tells searches what administrators and programs are shown of the whole.
func (s *site) tells(t *testing.T) {
	t.Helper()
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := read(t, resp)
	if !strings.Contains(page, "sealpost_") {
		t.Errorf("the page of metrics says\n%.300s", page)
	}
	search(t, "the page of metrics", []byte(page))
	for _, command := range []string{"doctor", "pool show", "report dmarc clinic.test", "report tls clinic.test", "dkim list", "partner list", "retention preview", "ledger verify"} {
		out, _ := s.command(strings.Fields(command)...).CombinedOutput() // the doctor finds something
		if len(out) < 20 || bytes.Contains(out, []byte("unexpected argument")) {
			t.Errorf("%s says %q", command, out)
		}
		search(t, command, out)
	}
}
