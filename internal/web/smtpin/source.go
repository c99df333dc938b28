package smtpin

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/submit"
)

// Source says which peers may hand in the mail of an organization: those of
// some networks, those with a certificate, or those with both.
type Source struct {
	Networks []netip.Prefix // none: any
	Names    []string       // for one of which the client's certificate is valid; none: it needs none
	// Tenant is what each message must prove besides. Such a source is shared:
	// mail of others comes from the same peers, and among it mail for members.
	Tenant *submit.Tenant
	Org    id.ID
}

// matching gives the sources that a peer is one of, those known by a certificate
// first. A source with neither
// networks nor names is nobody's.
func (s *Server) matching(peer net.Addr, state *tls.ConnectionState) (all []Source) {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return nil
	}
	addr := tcp.AddrPort().Addr().Unmap()
	for _, src := range s.Sources {
		within := len(src.Networks) == 0 || slices.ContainsFunc(src.Networks, func(n netip.Prefix) bool { return n.Contains(addr) })
		shown := len(src.Names) == 0 || s.certified(state, src.Names)
		if within && shown && len(src.Networks)+len(src.Names) > 0 {
			all = append(all, src)
		}
	}
	// A certificate says more of who it is than a network does.
	slices.SortStableFunc(all, func(a, b Source) int { return cmp.Compare(min(1, len(b.Names)), min(1, len(a.Names))) })
	return all
}

// certified reports whether the client has shown a certificate that is valid
// for one of the names. One for a server will do: authorities put the other
// use into certificates of hosts no more.
func (s *Server) certified(state *tls.ConnectionState, names []string) bool {
	if state == nil || len(state.PeerCertificates) == 0 {
		return false
	}
	leaf, others := state.PeerCertificates[0], x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		others.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.SourceRoots, Intermediates: others, CurrentTime: s.Clock.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}); err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) == nil })
}

// asksForCertificates gives the TLS of a relay listener. What a client shows is
// looked at by certified, and it may show nothing.
func asksForCertificates(cfg *tls.Config, sources []Source) *tls.Config {
	if cfg == nil || !slices.ContainsFunc(sources, func(src Source) bool { return len(src.Names) > 0 }) {
		return cfg
	}
	cfg = cfg.Clone()
	cfg.ClientAuth = tls.RequestClientCert
	return cfg
}

// recognize finds out whose peer this is, at first and again after a
// handshake, in which it may have shown a certificate.
func (n *session) recognize() {
	if n.listener != Relay {
		return
	}
	n.sources, n.role = n.s.matching(n.line.conn.RemoteAddr(), n.tls), Relay
	if len(n.sources) == 0 && n.s.Inbound != nil {
		n.role = inboundRole
	}
}

func (src Source) principal() auth.Principal {
	return auth.Principal{Org: src.Org, Scopes: []auth.Scope{auth.Send}}
}

func (src Source) shared() bool { return src.Tenant != nil }

// trusted reports whether the peer is one of a source that nobody shares. Any
// customer of a suite comes under a shared one, so its peers are strangers until
// a message of theirs proves its tenant.
func (n *session) trusted() bool {
	return slices.ContainsFunc(n.sources, func(src Source) bool { return !src.shared() })
}

// whose reads the header and finds out of which source a message is, where it
// may be of several: the sender is null, or a secret is being replaced. What
// proves nothing is of the one that asks for no proof, if there is one; of
// several, that known by a certificate.
func (n *session) whose(message io.Reader) (Source, io.Reader, error) {
	all := n.tx.sources
	if len(all) == 1 {
		return all[0], message, nil
	}
	br := bufio.NewReader(message)
	h, err := mail.ParseHeader(br)
	if err != nil {
		return Source{}, nil, err
	}
	message = io.MultiReader(bytes.NewReader(h.Bytes()), br)
	for _, src := range all {
		if !src.shared() {
			continue
		}
		proved, err := n.s.Door.Proves(n.s.ctx, src.principal(), *src.Tenant, h)
		if err != nil && !permanent(err) || proved {
			return src, message, err
		}
	}
	i := slices.IndexFunc(all, func(src Source) bool { return !src.shared() })
	return all[max(i, 0)], message, nil
}

func permanent(err error) bool { return fault.SMTP(err).Code >= 500 }

// mayRelay reports whether one of the peer's sources may hand in mail of this
// sender. From a shared source also comes what other customers of the same
// suite send to members: that is mail from outside. Which source it is is not
// told while one of them cannot be asked.
func (n *session) mayRelay(tx *transaction) bool {
	refusal := error(fault.New(fault.Denied, "no_relay", "Your network may not relay here."))
	for _, src := range n.sources {
		if err := n.s.Door.CheckSender(n.s.ctx, src.principal(), tx.sender); err != nil {
			if refusal = err; !permanent(err) {
				n.replyFault(err)
				return false
			}
			continue
		}
		tx.sources = append(tx.sources, src)
	}
	if len(tx.sources) > 0 {
		n.principal = tx.sources[0].principal()
		return true
	}
	if n.s.Inbound != nil && slices.ContainsFunc(n.sources, Source.shared) {
		tx.outside = true
		return n.unhurried()
	}
	n.replyFault(refusal)
	return false
}

// nobodys reports whether mail has no sender, which shows nobody's domain, and
// comes from a shared source: to members another customer sends it.
func (n *session) nobodys() bool {
	return n.tx.sender.IsZero() && slices.ContainsFunc(n.tx.sources, Source.shared)
}
