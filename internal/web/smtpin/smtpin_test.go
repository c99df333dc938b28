package smtpin

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/private/privatetest"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

const host = "mail.clinic.example"

// world is a server with everything behind it.
type world struct {
	*submittest.House
	client auth.Client
	words  map[string]string // for conversations
	door   *submit.Door
	pool   *x509.CertPool
	tls    *tls.Config
	log    *privatetest.Log
	server *Server
	addrs  map[string]string

	incoming *inbound.Door
	sent     []spool.Item // deliveries that {VERP}, {VERP2} and {VERP3} stand for
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newWorld starts a server on one listener of each role. 127.0.0.1 may relay.
func newWorld(t *testing.T, d *db.DB, change func(*Deps)) *world {
	t.Helper()
	w, deps := prepare(t, d)
	if change != nil {
		change(&deps)
	}
	w.start(deps)
	return w
}

// prepare gives everything that a server needs.
func prepare(t *testing.T, d *db.DB) (*world, Deps) {
	t.Helper()
	w := &world{House: submittest.New(t, d, clock.System{}, "clinic.example"), log: &privatetest.Log{}, words: map[string]string{}, addrs: map[string]string{}}
	w.NewOrg("other", "other.example")
	var key string
	w.client, key = w.NewKey(w.Org.ID, auth.Send)
	_, reader := w.NewKey(w.Org.ID, auth.Read)
	w.credentials(key, reader)
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.door = w.Door(func(deps *submit.Deps) {
		deps.Hostname, deps.MaxSize, deps.Log, deps.TenantFields = host, 200_000, log, []string{"X-Tenant"}
	})
	w.certificate()
	w.incoming = inboundtest.Door(t, w.House, w.Org.ID, "clinic.example", func(deps *inbound.Deps) { deps.Log, deps.Hostname = log, host })
	return w, Deps{
		Config: Config{Hostname: host, MaxSize: 200_000, MaxRecipients: 10, AuthDelay: -1},
		Door:   w.door, Clients: w.Clients, TLS: w.tls, Clock: clock.System{}, Log: log,
		Sources: []Source{{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Org: w.Org.ID}},
		Inbound: w.incoming,
	}
}

func (w *world) start(deps Deps) {
	w.server = New(deps)
	for name, role := range map[string]Role{"submission": Submission, "submissions": Submissions, "relay": Relay} {
		w.listen(name, role)
	}
	w.T.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.server.Shutdown(ctx)
	})
}

func (w *world) listen(name string, role Role) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	w.addrs[name] = l.Addr().String()
	go func() {
		if err := w.server.Serve(l, role); err != nil {
			w.T.Errorf("Serve: %v", err)
		}
	}()
}

func (w *world) credentials(key, reader string) {
	b64 := base64.StdEncoding.EncodeToString
	name := w.client.ID.Text(id.Client)
	w.words["KEY"], w.words["USER"], w.words["CLIENT"] = b64([]byte(key)), b64([]byte("apikey")), b64([]byte(name))
	w.words["PLAIN"] = b64([]byte("\x00apikey\x00" + key))
	w.words["PLAIN_CLIENT"] = b64([]byte(name + "\x00" + name + "\x00" + key))
	w.words["PLAIN_OTHER_USER"] = b64([]byte("\x00root\x00" + key))
	w.words["PLAIN_ACT_AS"] = b64([]byte("root\x00apikey\x00" + key))
	w.words["PLAIN_READER"] = b64([]byte("\x00apikey\x00" + reader))
	w.words["PLAIN_WRONG"] = b64([]byte("\x00apikey\x00" + key[:len(key)-4] + "AAAA"))
	w.words["PLAIN_NONSENSE"] = b64([]byte("apikey"))
}

// returnPaths makes addresses of deliveries, and one that is forged.
func (w *world) returnPaths() {
	for _, name := range []string{"VERP", "VERP2", "VERP3"} {
		w.sent = append(w.sent, inboundtest.Sent(w.T, w.House, w.Org.ID, "ada@clinic.example", "patient@example.org", spool.Delivered))
		a := must(w.incoming.Paths.Address(context.Background(), w.Org.ID, inboundtest.Sender(w.T, "ada@clinic.example"), w.sent[len(w.sent)-1].ID))
		w.words[name] = a.Reveal()
	}
	w.words["FORGED"] = w.words["VERP"][:10] + "aaaa" + w.words["VERP"][14:]
}

func (w *world) certificate() {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key))
	w.pool = x509.NewCertPool()
	w.pool.AddCert(must(x509.ParseCertificate(der)))
	w.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// peer is a client that shows every octet.
type peer struct {
	t    *testing.T
	w    *world
	conn net.Conn
	r    *bufio.Reader
}

func (w *world) dial(t *testing.T, name string) *peer {
	t.Helper()
	dialer := net.Dialer{}
	if name == "stranger" {
		name, dialer.LocalAddr = "relay", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	}
	p := &peer{t: t, w: w, conn: must(dialer.Dial("tcp", w.addrs[name]))}
	t.Cleanup(func() { _ = p.conn.Close() })
	_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	p.r = bufio.NewReader(p.conn)
	return p
}

func (p *peer) secure() {
	p.t.Helper()
	c := tls.Client(p.conn, &tls.Config{ServerName: host, RootCAs: p.w.pool})
	if err := c.Handshake(); err != nil {
		p.t.Fatalf("handshake: %v", err)
	}
	p.conn, p.r = c, bufio.NewReader(c)
}

func (p *peer) send(raw string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, raw); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// reply reads one reply, several lines perhaps.
func (p *peer) reply() []string {
	p.t.Helper()
	var lines []string
	for {
		l, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("read a reply: %v (after %q)", err, l)
		}
		l = strings.TrimSuffix(l, "\r\n")
		lines = append(lines, l)
		if len(l) < 4 || l[3] != '-' {
			return lines
		}
	}
}

func (p *peer) expect(prefix string) string {
	p.t.Helper()
	got := p.reply()
	if last := got[len(got)-1]; !strings.HasPrefix(last, prefix) {
		p.t.Fatalf("reply %q, want %q", last, prefix)
	}
	return got[len(got)-1]
}

func (p *peer) talk(line, want string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.expect(want)
}

// login brings a submission session to where MAIL can come.
func (p *peer) login() {
	p.t.Helper()
	p.expect("220 ")
	p.talk("EHLO client.example", "250 ")
	p.talk("STARTTLS", "220 ")
	p.secure()
	p.talk("EHLO client.example", "250 ")
	p.talk("AUTH PLAIN "+p.w.words["PLAIN"], "235 ")
}

func (p *peer) end() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); err != nil || len(rest) > 0 {
		p.t.Fatalf("the connection goes on with %q, %v", rest, err)
	}
}

func decode(b64 string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(b64)
	return string(b), err
}
