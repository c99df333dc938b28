// Package smtpin takes mail by SMTP: submission from mail clients and
// programs (RFC 6409), with STARTTLS or with TLS from the first octet (RFC
// 8314), relay from networks an organization trusts, and on the same port,
// from everybody else, what comes in from outside (see package inbound).
//
// Invariants:
//   - 250 to DATA or the last BDAT is written only after the Accept of one of
//     the two doors returned, which is after the commit.
//   - One message in is one answer out: it is accepted whole or refused whole.
//     Only CRLF.CRLF ends DATA; a bare CR, a bare LF, a NUL or an overlong line
//     refuses the message, and in a command it ends the session, because what
//     follows may be somebody's attempt to hide a second message (RFC 5321
//     section 2.3.8).
//   - Whatever is refused is still read to its end, so the session stays in
//     step; what is too long to be read ends the session.
//   - Before TLS nothing is heard but EHLO, NOOP, QUIT, RSET and STARTTLS,
//     except on a relay listener from loopback and from outside, where TLS is
//     offered and not asked for (RFC 3207 section 4). What came in clear behind
//     STARTTLS ends the session.
//   - A relay's peer is known by its network, by the certificate it shows, or by
//     both. Where others come under the same, each message must prove whose it
//     is, and what is of no sender of ours is from outside.
//   - What comes from outside is never relayed: a recipient is one that
//     inbound.Door knows, and all others get one answer.
//   - A failed AUTH says nothing about why, takes its time, and a few of them
//     end the session. A revoked key stops working within a session too.
//   - Who has not authenticated yet, and is of no source that nobody shares, has
//     little time, few connections from one address and never all of them:
//     strangers cannot keep out the others. A peer of a shared source is one of
//     them until a message of the session has proved its tenant.
//   - Sessions are logged once, at their end, without addresses.
//
// The protocol is spoken here and not by a library: the one at hand takes LF
// for CRLF in commands, hides the stream behind TLS from its caller, reads DATA
// octet by octet and sends every reply on its own.
package smtpin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/web"
)

// Role is what a listener is for.
type Role string

// The roles of listeners.
const (
	Submission  Role = "submission"  // port 587: STARTTLS, then AUTH
	Submissions Role = "submissions" // port 465: TLS from the first octet, then AUTH
	Relay       Role = "relay"       // trusted networks, no AUTH
	// inboundRole is that of a session on the relay listener from any other network.
	inboundRole Role = "inbound"
)

// Config bounds sessions. Zero values get the defaults of New.
type Config struct {
	Hostname       string
	MaxSize        int64         // octets of a message; submit refuses more as well
	MaxRecipients  int           // of one message
	MaxConnections int           // 1,000; three quarters of them for strangers, an eighth more for shared sources
	MaxPerAddress  int           // of strangers from one address, loopback left out; 50
	StrangerTime   time.Duration // until they have authenticated; 2 minutes
	IdleTimeout    time.Duration // of one read or write; 5 minutes (RFC 5321 section 4.5.3.2.7)
	AuthDelay      time.Duration // before a failed AUTH is answered; 1 second, negative for none
}

// Deps are what the server needs.
type Deps struct {
	Config
	Door    *submit.Door
	Clients *auth.Clients
	TLS     *tls.Config // nil only where nothing but a relay on loopback listens
	Clock   clock.Clock
	Log     *slog.Logger
	Sources []Source // of the relay listener
	// SourceRoots are the authorities for certificates of sources. nil: the
	// system's.
	SourceRoots *x509.CertPool
	// Inbound takes what other networks bring to the relay listener. nil: they
	// may bring nothing.
	Inbound *inbound.Door
	// Strangers bounds the messages of each of their addresses. nil: nothing does.
	Strangers *web.Limiter
}

// Server speaks SMTP on any number of listeners.
type Server struct {
	Deps
	relayTLS *tls.Config
	ctx      context.Context // ends when the server is closed by force
	cancel   context.CancelFunc

	mu        sync.Mutex
	draining  bool
	listeners map[net.Listener]bool
	sessions  map[*session]bool
	strangers map[netip.Prefix]int // sessions by where they come from
	strange   int                  // all of them together
	wg        sync.WaitGroup
}

// New gives a server that listens nowhere yet.
func New(d Deps) *Server {
	if d.MaxConnections == 0 {
		d.MaxConnections = 1000
	}
	if d.IdleTimeout == 0 {
		d.IdleTimeout = 5 * time.Minute
	}
	if d.MaxPerAddress == 0 {
		d.MaxPerAddress = 50
	}
	if d.StrangerTime == 0 {
		d.StrangerTime = 2 * time.Minute
	}
	if d.AuthDelay == 0 {
		d.AuthDelay = time.Second
	}
	if d.TLS != nil {
		d.TLS = d.TLS.Clone()
		d.TLS.MinVersion = max(d.TLS.MinVersion, tls.VersionTLS12)
	}
	s := &Server{Deps: d, relayTLS: asksForCertificates(d.TLS, d.Sources), listeners: map[net.Listener]bool{}, sessions: map[*session]bool{}, strangers: map[netip.Prefix]int{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener, role Role) error {
	if s.TLS == nil && role != Relay {
		return errors.New("a submission listener needs a certificate")
	}
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = true
	s.mu.Unlock()
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(conn, role)
		case s.closing():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, most likely: others will go
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-s.Clock.After(pause):
			case <-s.ctx.Done():
			}
		}
	}
}

func (s *Server) closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) start(conn net.Conn, role Role) {
	n := newSession(s, conn, role)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		_ = conn.Close()
		return
	}
	n.crowded = len(s.sessions) >= s.MaxConnections || n.stranger && s.enough(n)
	s.sessions[n] = true
	if n.stranger = n.stranger && !n.crowded; n.stranger {
		s.strangers[n.from]++
		s.strange++
	}
	s.wg.Go(func() {
		n.run()
		s.mu.Lock()
		delete(s.sessions, n)
		s.known(n)
		s.mu.Unlock()
	})
}

// enough reports whether strangers have all the connections they may have.
// Those from the networks of a shared source have some more in all, so that the
// internet cannot keep them out, nor they those who authenticate.
func (s *Server) enough(n *session) bool {
	share := s.MaxConnections * 3 / 4
	if len(n.sources) > 0 {
		share = s.MaxConnections * 7 / 8
	}
	return s.strange >= max(1, share) || !n.from.Addr().IsLoopback() && s.strangers[n.from] >= s.MaxPerAddress
}

// known counts a session among the strangers no more. s.mu is held.
func (s *Server) known(n *session) {
	if !n.stranger {
		return
	}
	n.stranger = false
	s.strange--
	if s.strangers[n.from]--; s.strangers[n.from] <= 0 {
		delete(s.strangers, n.from)
	}
}

// welcome lets a session that has shown whose it is take the time it needs.
func (s *Server) welcome(n *session) {
	s.mu.Lock()
	s.known(n)
	s.mu.Unlock()
	n.line.until(time.Time{})
}

// neighborhood is what one peer can come from: its address, or the network of
// a household.
func neighborhood(peer net.Addr) netip.Prefix {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLoopback() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// Shutdown stops listening, lets transactions under way finish and answers 421
// to new ones. When ctx ends first, it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for n := range s.sessions {
		n.line.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for n := range s.sessions {
		_ = n.line.conn.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

func loopback(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
