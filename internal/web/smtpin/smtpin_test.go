package smtpin

import (
	"bufio"
	"bytes"
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
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

const host = "mail.clinic.example"

// world is a server with everything behind it.
type world struct {
	t       *testing.T
	db      *db.DB
	custody *custody.Custody
	blob    *blob.Store
	org     id.ID
	client  auth.Client
	words   map[string]string // for conversations
	clients *auth.Clients
	door    *submit.Door
	pool    *x509.CertPool
	tls     *tls.Config
	log     *logged
	server  *Server
	addrs   map[string]string
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
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
	ctx := context.Background()
	w := &world{t: t, db: d, custody: custodytest.New(t, d), log: &logged{}, words: map[string]string{}, addrs: map[string]string{}}
	w.blob = blob.New(d, t.TempDir())
	accounts := account.New(account.Deps{DB: d, Custody: w.custody, Clock: clock.System{}})
	org := must(accounts.CreateOrg(ctx, "clinic", "Clinic"))
	other := must(accounts.CreateOrg(ctx, "other", "Other"))
	w.org = org.ID
	for name, owner := range map[string]id.ID{"clinic.example": org.ID, "other.example": other.ID} {
		must(accounts.AddDomain(ctx, owner, name))
		must(accounts.ForceDomain(ctx, owner, name))
	}
	w.clients = auth.New(auth.Deps{DB: d, Custody: w.custody, Clock: clock.System{}})
	var key private.String
	var err error
	w.client, key, err = w.clients.Create(ctx, auth.Client{Org: org.ID, Name: "test", Scopes: []auth.Scope{auth.Send}})
	if err != nil {
		t.Fatal(err)
	}
	_, reader, err := w.clients.Create(ctx, auth.Client{Org: org.ID, Name: "reader", Scopes: []auth.Scope{auth.Read}})
	if err != nil {
		t.Fatal(err)
	}
	w.credentials(key.Reveal(), reader.Reveal())
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.door = submit.New(submit.Deps{
		Config: submit.Config{Hostname: host, MaxSize: 200_000, MaxRecipients: 10, ExpireAfter: 48 * time.Hour, IdempotencyTTL: 72 * time.Hour},
		DB:     d, Custody: w.custody, Blob: w.blob, Accounts: accounts, Clock: clock.System{}, Log: log,
		Posture: func(context.Context, string) policy.Posture { return policy.Posture{} },
		Reserve: func(int) id.ID { return id.ID{} }, Push: func(int, []spool.Work) {},
	})
	w.certificate()
	deps := Deps{
		Config: Config{Hostname: host, MaxSize: 200_000, MaxRecipients: 10, AuthDelay: -1},
		Door:   w.door, Clients: w.clients, TLS: w.tls, Clock: clock.System{}, Log: log,
		Sources: []Source{{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Org: org.ID}},
	}
	if change != nil {
		change(&deps)
	}
	w.server = New(deps)
	for name, role := range map[string]Role{"submission": Submission, "submissions": Submissions, "relay": Relay} {
		w.listen(name, role)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.server.Shutdown(ctx)
	})
	return w
}

func (w *world) listen(name string, role Role) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	w.addrs[name] = l.Addr().String()
	go func() {
		if err := w.server.Serve(l, role); err != nil {
			w.t.Errorf("Serve: %v", err)
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

func (w *world) certificate() {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key))
	w.pool = x509.NewCertPool()
	w.pool.AddCert(must(x509.ParseCertificate(der)))
	w.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// stored gives the messages in the spool, newest first.
func (w *world) stored() []string {
	w.t.Helper()
	var all []string
	err := w.db.Read(context.Background(), w.org, func(tx *db.Tx) error {
		ids, err := spool.Find(tx, spool.Search{Limit: 10_000})
		if err != nil {
			return err
		}
		all = nil
		for _, i := range ids {
			m, err := spool.LoadMessage(tx, w.custody, i)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(w.blob.Open(context.Background(), m.Key, m.Blob))
			if err != nil {
				return err
			}
			all = append(all, string(m.Header)+string(body))
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
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
