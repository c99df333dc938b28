package fake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Cert is what certificate a host shows.
type Cert int

// The certificates.
const (
	CertValid      Cert = iota // for the host's name, by the trusted authority
	CertExpired                // the same, but it ended in 2020
	CertWrongName              // for another name
	CertSelfSigned             // right name, signed by itself
)

// StartTLS is what a host makes of STARTTLS.
type StartTLS int

// The ways with STARTTLS.
const (
	StartTLSOffered StartTLS = iota
	StartTLSAbsent           // not offered; mail is taken in clear
	StartTLSRefused          // offered, and answered 454
	StartTLSGarbage          // answered 220, then no TLS is spoken
)

// Stage is a place in a session where a host can fall silent. It stays silent
// until the peer goes or the internet is closed.
type Stage int

// The stages.
const (
	HangNowhere  Stage = iota
	HangBanner         // no banner
	HangEHLO           // no answer to EHLO
	HangStartTLS       // no answer to STARTTLS
	HangTLS            // 220 to STARTTLS, then no handshake
	HangMail           // no answer to MAIL
	HangRcpt           // no answer to RCPT
	HangData           // no answer to DATA or BDAT
	HangDot            // no answer to the final dot; the message is not stored
)

// Behavior is everything that can be peculiar about an SMTP host. The zero
// value is a good host: TLS 1.2 and 1.3 with a valid certificate, every
// extension, mail taken at once.
type Behavior struct {
	Cert           Cert
	Own            *tls.Certificate // shown in place of Cert, with its chain
	AskClient      bool             // for a certificate, which may be any
	MinTLS, MaxTLS uint16           // zero: TLS 1.2 and the newest
	Suites         []uint16         // of TLS 1.2 and older; nil: Go's own choice
	StartTLS       StartTLS
	Inject         string // sent in clear together with the 220 to STARTTLS

	NoPipelining, No8BitMIME, NoSMTPUTF8, NoEnhancedCodes bool
	Chunking, RequireTLS                                  bool
	Size                                                  int64 // zero: 50 MiB

	Hang         Stage
	Delay        time.Duration // before every reply
	Drip         time.Duration // before it takes each line of a message
	MaxPerConn   int           // messages before 421, zero: any number
	Returns      string        // status with which each message taken is returned a moment later (RFC 3463); empty: none is
	DropAfterDot int           // for each recipient, the first so many messages are stored but not answered

	// Rcpt gives a whole reply ("550 5.1.1 no such user") that refuses a
	// recipient, or "" to take it. attempt counts from 1 for each recipient.
	Rcpt func(to string, attempt int) string
}

func (b *Behavior) size() int64 {
	if b.Size == 0 {
		return 50 << 20
	}
	return b.Size
}

// host is one SMTP server on an address of its own.
type host struct {
	name    string
	addr    netip.Addr
	posture atomic.Pointer[hostPosture]

	connections, open, handshakes, messages atomic.Int64

	mu       sync.Mutex
	attempts map[string]int
	clear    []string
	hello    Hello
}

// hostPosture is a behavior with what was prepared for it. It is replaced
// whole and never changed.
type hostPosture struct {
	Behavior
	tls *tls.Config
}

// Stats counts what a host has seen.
type Stats struct {
	Connections, Handshakes, Messages int64
	Open                              int64 // connections that are there now
}

func (h *host) attempt(what, to string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := what + " " + strings.ToLower(to)
	h.attempts[key]++
	return h.attempts[key]
}

// transcriptLimit bounds the ordinary lines that are remembered per host; a
// line that ought not to have come in clear is always kept.
const transcriptLimit = 10000

// note remembers a command line that arrived in clear.
func (h *host) note(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	verb, _, _ := strings.Cut(line, " ")
	ordinary := strings.EqualFold(verb, "EHLO") || line == "STARTTLS"
	if !ordinary || len(h.clear) < transcriptLimit {
		h.clear = append(h.clear, line)
	}
}

func (n *Internet) posture(name string, b Behavior) (*hostPosture, error) {
	names, opts := []string{name}, CertOptions{}
	switch b.Cert {
	case CertExpired:
		opts.NotAfter = time.Date(2020, 12, 31, 0, 0, 0, 0, time.UTC)
	case CertWrongName:
		names = []string{"mx.somebody-else.example"}
	case CertSelfSigned:
		opts.SelfSigned = true
	}
	cert, err := n.ca.issue(names, opts)
	if err != nil {
		return nil, err
	}
	if b.Own != nil {
		cert = *b.Own
	}
	conf := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   b.MinTLS,
		MaxVersion:   b.MaxTLS,
		CipherSuites: b.Suites,
	}
	if b.AskClient {
		conf.ClientAuth = tls.RequestClientCert
	}
	if conf.MinVersion == 0 {
		conf.MinVersion = tls.VersionTLS12
	}
	return &hostPosture{b, conf}, nil
}

// AddHost starts an SMTP host on an address of its own and publishes its A
// record.
func (n *Internet) AddHost(name string, b Behavior) error {
	name = strings.ToLower(name)
	p, err := n.posture(name, b)
	if err != nil {
		return err
	}
	h := &host{name: name, attempts: map[string]int{}}
	h.posture.Store(p)

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[name] != nil {
		return fmt.Errorf("host %s exists already", name)
	}
	ln, err := n.listenNext()
	if err != nil {
		return err
	}
	h.addr = netip.MustParseAddrPort(ln.Addr().String()).Addr()
	n.hosts[name] = h
	n.SetA(name, h.addr)
	n.accept(ln, func(c net.Conn) { n.serveSMTP(h, c) })
	return nil
}

// errPortTaken says that the SMTP port is in use on the next address.
var errPortTaken = errors.New("the SMTP port is taken")

// listenNext listens on the next free address from 127.23.2.1 on. The first
// listener chooses the port of all.
func (n *Internet) listenNext() (net.Listener, error) {
	for range 20 {
		n.nextAddr++
		addr := netip.AddrFrom4([4]byte{127, 23, byte(2 + n.nextAddr>>8), byte(n.nextAddr)})
		ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, uint16(n.SMTPPort)).String())
		if err != nil {
			continue
		}
		n.SMTPPort = ln.Addr().(*net.TCPAddr).Port
		return ln, nil
	}
	return nil, errPortTaken
}

// accept serves connections until Close, which also closes them.
func (n *Internet) accept(ln net.Listener, serve func(net.Conn)) {
	n.onClose(func() { _ = ln.Close() })
	n.work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if !n.track(conn) {
				_ = conn.Close()
				return
			}
			n.work.Go(func() {
				defer n.untrack(conn)
				serve(conn)
			})
		}
	})
}

func (n *Internet) track(c net.Conn) bool {
	n.connMu.Lock()
	defer n.connMu.Unlock()
	if n.closed {
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

func (n *Internet) untrack(c net.Conn) {
	n.connMu.Lock()
	defer n.connMu.Unlock()
	delete(n.conns, c)
}

func (n *Internet) host(name string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[strings.ToLower(name)]
}

// Change alters the behavior of a host for connections that come from now on.
// It shows a new certificate then.
func (n *Internet) Change(name string, change func(*Behavior)) error {
	h := n.host(name)
	if h == nil {
		return fmt.Errorf("no host %s", name)
	}
	b := h.posture.Load().Behavior
	change(&b)
	p, err := n.posture(h.name, b)
	if err != nil {
		return err
	}
	h.posture.Store(p)
	return nil
}

// Stats counts what a host has seen; an unknown host has seen nothing.
func (n *Internet) Stats(name string) Stats {
	h := n.host(name)
	if h == nil {
		return Stats{}
	}
	return Stats{h.connections.Load(), h.handshakes.Load(), h.messages.Load(), h.open.Load()}
}

// HostAddr is the address and port of a host, for clients that skip DNS.
func (n *Internet) HostAddr(name string) string {
	h := n.host(name)
	if h == nil {
		return ""
	}
	return netip.AddrPortFrom(h.addr, uint16(n.SMTPPort)).String()
}

// Transcript lists the command lines that the hosts of domain received in
// clear, before TLS began. Whatever is not EHLO or STARTTLS ought not to be
// there.
func (n *Internet) Transcript(domain string) []string {
	var out []string
	for _, name := range n.zone.hosts(domain) {
		h := n.host(name)
		if h == nil {
			continue
		}
		h.mu.Lock()
		out = append(out, h.clear...)
		h.mu.Unlock()
	}
	return out
}

// Dial connects to the SMTP port of a host, for tests that speak to it
// directly.
func (n *Internet) Dial(ctx context.Context, name string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", n.HostAddr(name))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", name, err)
	}
	return conn, nil
}
