package discover

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/policy"
)

// silence is a port that takes connections and says nothing.
func silence(t *testing.T) string {
	return serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

func serve(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				talk(c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return ln.Addr().String()
}

// slapd is Debian's LDAP server on loopback with a small directory.
type slapd struct{ plain, secure string }

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.3401.8.2.11 NAME 'pgpKey' SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.3.6.1.4.1.3401.8.2.12 NAME 'pgpKeyV2' SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.99999.1 NAME 'keyed' SUP top AUXILIARY MAY ( pgpKey $ pgpKeyV2 ) )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
argsfile %[1]s/args
%[2]sdatabase mdb
suffix "dc=clinic,dc=test"
directory %[1]s/data
maxsize 104857600
access to * by * read
`

func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return filepath.Join(dir, name)
		}
	}
	t.Fatalf("the tests need Debian's packages slapd and ldap-utils: %s is missing", name)
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// startSlapd starts a server; without a certificate it has no TLS.
func startSlapd(t *testing.T, cert, key, ldif string) slapd {
	t.Helper()
	dir := t.TempDir()
	lines := ""
	if cert != "" {
		lines = fmt.Sprintf("TLSCertificateFile %s\nTLSCertificateKeyFile %s\n", cert, key)
	}
	conf, data := filepath.Join(dir, "slapd.conf"), filepath.Join(dir, "data.ldif")
	for name, text := range map[string]string{conf: fmt.Sprintf(slapdConf, dir, lines), data: ldif} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program(t, "slapadd"), "-f", conf, "-l", data).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v: %s", err, out)
	}
	s := slapd{plain: freePort(t), secure: freePort(t)}
	urls := "ldap://127.0.0.1:" + s.plain
	if cert != "" {
		urls += " ldaps://127.0.0.1:" + s.secure
	}
	cmd := exec.Command(program(t, "slapd"), "-f", conf, "-h", urls, "-d", "0")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+s.plain); err == nil {
			c.Close()
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("slapd does not answer: %s", log.String())
		}
	}
}

func personEntry(name, mail string, values ...string) string {
	text := fmt.Sprintf("\ndn: cn=%s,dc=clinic,dc=test\nobjectClass: inetOrgPerson\nobjectClass: keyed\ncn: %s\nsn: %s\nmail: %s\n", name, name, name, mail)
	return text + strings.Join(values, "")
}

func value(attr string, data []byte) string {
	return attr + ":: " + base64.StdEncoding.EncodeToString(data) + "\n"
}

// spy records what is written in clear.
type spy struct {
	net.Conn
	mu  *sync.Mutex
	all *bytes.Buffer
}

func (s spy) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.all.Write(p)
	s.mu.Unlock()
	return s.Conn.Write(p)
}

func TestDirectories(t *testing.T) {
	w := start(t, nil)
	key, der := w.net.PGPKey("cora@pgp-curve.example"), w.net.MailCertificate("simon@smime-rsa.example").Raw
	other := w.net.MailCertificate("elsa@smime-ec.example").Raw
	bundle := []byte("\x30\x80 a bundle")
	var large []string
	for i := range 20 {
		large = append(large, value("pgpKey", append([]byte{0x99, byte(i)}, bytes.Repeat([]byte("x"), 200<<10)...)))
	}
	var many []string
	for i := range 60 {
		many = append(many, value("pgpKey", []byte{0x99, byte(i)}))
	}
	ldif := "dn: dc=clinic,dc=test\nobjectClass: organization\nobjectClass: dcObject\no: clinic\ndc: clinic\n" +
		personEntry("cert", "cert@clinic.test", value("userCertificate;binary", der), value("userCertificate;binary", other)) +
		personEntry("bundle", "bundle@clinic.test", value("userSMIMECertificate", bundle)) +
		personEntry("pgp", "pgp@clinic.test", value("pgpKey", key), value("pgpKeyV2", []byte("no key"))) +
		personEntry("large", "large@clinic.test", large...) +
		personEntry("many", "many@clinic.test", many...) +
		personEntry("none", "none@clinic.test")
	for i := range maxEntries + 1 {
		ldif += personEntry(fmt.Sprintf("crowd%d", i), "crowd@clinic.test")
	}
	ldif += "\ndn: ou=elsewhere,dc=clinic,dc=test\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\nref: ldap://other.test/ou=elsewhere,dc=clinic,dc=test\n" +
		"\ndn: ou=whole,dc=clinic,dc=test\nobjectClass: organizationalUnit\nou: whole\n" +
		strings.Replace(personEntry("bare", "bare@clinic.test"), "cn=bare,", "cn=bare,ou=whole,", 1)
	dir := t.TempDir()
	cert, certKey, err := w.net.IssueFiles(dir, "ldap", []string{"localhost"}, fake.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server := startSlapd(t, cert, certKey, ldif)
	bare := startSlapd(t, "", "", ldif)

	var mu sync.Mutex
	var clear bytes.Buffer
	ask := func(url, to string, change func(*Deps)) Answer {
		t.Helper()
		x := &world{net: w.net, clock: w.clock}
		x.Sources = x.sources(t, true, func(n *fake.Internet, d *Deps) {
			d.Directories, d.Roots, d.Limit = []string{url}, n.CAPool(), 0
			d.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				return spy{c, &mu, &clear}, err
			}
			if change != nil {
				change(d)
			}
		})
		return x.from(t, LDAP, to)
	}
	for _, url := range []string{"ldaps://localhost:" + server.secure + "/dc=clinic,dc=test", "ldap://localhost:" + server.plain + "/dc=clinic,dc=test"} {
		a := ask(url, "cert@clinic.test", nil)
		if len(a.Findings) != 2 || a.Findings[0].Kind != policy.SMIME || a.Findings[0].Proof != policy.Discovered {
			t.Fatalf("%s: %+v", url, a)
		}
		for _, want := range [][]byte{der, other} {
			if !slices.ContainsFunc(a.Findings, func(f Finding) bool { return bytes.Equal(f.Data, want) }) {
				t.Errorf("%s: a certificate is missing", url)
			}
		}
		w.check(t, ask(url, "bundle@clinic.test", nil), policy.SMIME, policy.Discovered, bundle)
		w.check(t, ask(url, "PGP@clinic.test", nil), policy.PGP, policy.Discovered, key)
		if a := ask(url, "many@clinic.test", nil); len(a.Findings) != maxFindings {
			t.Errorf("%d findings", len(a.Findings))
		}
		// What stands in an address is no part of the question's syntax.
		for _, to := range []string{"none@clinic.test", "nobody@clinic.test", "*@clinic.test", `"x)(mail=*"@clinic.test`, `"x)(|(mail=cert@clinic.test)"@clinic.test`, `"\\2a"@clinic.test`} {
			if a := ask(url, to, nil); !a.Absent || len(a.Findings) != 0 || a.Word != "" {
				t.Errorf("%s at %s: %+v", to, url, a)
			}
		}
		if a := ask(strings.TrimSuffix(url, ",dc=test")+",dc=elsewhere", "pgp@clinic.test", nil); !a.Absent || a.Certain || a.Word != "" {
			t.Errorf("a base that is not there: %+v", a)
		}
		// Only a whole result proves that there is nothing: not one that names
		// another directory, and not one that is too long.
		part := strings.Replace(url, "/dc=clinic", "/ou=whole,dc=clinic", 1)
		for to, at := range map[string]string{"nobody@clinic.test": part, "bare@clinic.test": part} {
			if a := ask(at, to, nil); !a.Absent || !a.Certain {
				t.Errorf("%s: %+v", to, a)
			}
		}
		for _, to := range []string{"nobody@clinic.test", "crowd@clinic.test"} {
			if a := ask(url, to, nil); !a.Absent || a.Certain {
				t.Errorf("%s: %+v", to, a)
			}
		}
		for what, tc := range map[string]struct {
			word   string
			change func(*Deps)
		}{
			"an authority that is not ours": {fetch.Certificate, func(d *Deps) { d.Roots = w.net.MailCAPool() }},
			"another name":                  {fetch.Certificate, func(d *Deps) { d.Directories[0] = strings.Replace(url, "localhost", "127.0.0.1", 1) }},
		} {
			if a := ask(url, "pgp@clinic.test", tc.change); a.Word != tc.word || a.Absent || len(a.Findings) != 0 {
				t.Errorf("%s: %+v", what, a)
			}
		}
		if a := ask(url, "large@clinic.test", nil); a.Word != fetch.TooLarge || a.Absent || len(a.Findings) != 0 {
			t.Errorf("too much: %s %+v", a.Word, a.Absent)
		}
	}
	// Without StartTLS nothing is asked.
	if a := ask("ldap://localhost:"+bare.plain+"/dc=clinic,dc=test", "pgp@clinic.test", nil); a.Word != Failed || a.Absent || len(a.Findings) != 0 {
		t.Errorf("a server without TLS: %+v", a)
	}
	if a := ask("ldap://localhost:"+freePort(t)+"/dc=clinic,dc=test", "pgp@clinic.test", nil); a.Word != fetch.Connect || a.Absent {
		t.Errorf("no server: %+v", a)
	}
	if got := clear.String(); strings.Contains(got, "clinic.test") || strings.Contains(got, "mail") || clear.Len() == 0 {
		t.Error("a question crossed in clear")
	}
}

// TestHostileDirectory sends what no directory sends.
func TestHostileDirectory(t *testing.T) {
	w := start(t, nil)
	cert, err := w.net.Issue([]string{"localhost"}, fake.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string][]byte{
		"nothing":         nil,
		"no BER":          []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"a huge length":   {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff},
		"endless nesting": bytes.Repeat([]byte{0x30, 0x80}, 4<<20),
		"empty sequences": bytes.Repeat([]byte{0x30, 0x00}, 4<<20),
		"no entry":        {0x30, 0x05, 0x02, 0x01, 0x01, 0x64, 0x00},
		"no result":       {0x30, 0x05, 0x02, 0x01, 0x01, 0x65, 0x00},
	} {
		addr := serve(t, func(c net.Conn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
			_, _ = s.Read(make([]byte, 512))
			_, _ = s.Write(answer)
			_ = s.Close()
		})
		_, port, _ := net.SplitHostPort(addr)
		x := &world{net: w.net, clock: w.clock}
		x.Sources = x.sources(t, true, func(n *fake.Internet, d *Deps) {
			d.Directories, d.Roots = []string{"ldaps://localhost:" + port + "/"}, n.CAPool()
		})
		if a := x.from(t, LDAP, "a@modern.example"); a.Word == "" || a.Absent || len(a.Findings) != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
