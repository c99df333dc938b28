// Package smtpclient speaks SMTP to mail hosts. It is the only thing in
// Sealpost that sends mail.
//
// Invariants:
//   - In clear nothing is sent but EHLO and STARTTLS (RFC 3207), not even QUIT.
//     There is no way to send mail without TLS.
//   - A Conn exists only when TLS stands and its grade is at least the floor it
//     was dialed with. Send takes only a seal.Artifact, for the domain the
//     connection is bound to, and refuses one whose floor is above the grade.
//   - Where the recipient's domain enforces MTA-STS, a connection must satisfy
//     that too, whatever the floor (RFC 8461 section 4).
//   - What proves a host is, in this order: a pin of the sender's organization,
//     its name where the domain's own organization has routed the domain to it,
//     its TLSA records (RFC 7672), MTA-STS, or nothing but its name. The first
//     that there is decides: where a host fails it, nothing weaker is taken in
//     its place, for messages and notices alike (RFC 8461 section 2).
//   - Everything learned before TLS is forgotten (RFC 3207 section 4.2). Octets
//     that stand behind the reply to STARTTLS end the connection: they could
//     have been injected.
//   - Certificates are verified here and not by crypto/tls, so that a failure
//     leaves Evidence.
//   - An error never holds a reply's text, which may quote addresses; only
//     Reply.Text does, and it redacts itself.
//   - What a peer says before it has the final dot does not tell that it took the
//     message, and what it says too much afterwards answers no later command.
//   - When the connection is lost after the final dot, nobody knows what became
//     of the message, and Send says so with an UnknownError.
//   - Replies are bounded in length and lines, every stage in time, and so is all
//     that comes before the final dot, by the size of the message and its expiry.
package smtpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/policy"
)

// Deps are what a connection is made with.
type Deps struct {
	// Dial opens TCP connections; nil stands for a plain net.Dialer.
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	RootCAs  *x509.CertPool // nil: the system's
	Name     string         // given with EHLO
	Clock    clock.Clock    // against which certificates are checked
	Timeouts Timeouts
}

// Timeouts bound each stage. A zero field stands for its default, which
// follows RFC 5321 section 4.5.3.2 where that gives one.
type Timeouts struct {
	Connect  time.Duration // one address
	Banner   time.Duration
	EHLO     time.Duration
	StartTLS time.Duration // the reply to STARTTLS
	TLS      time.Duration // the handshake
	Mail     time.Duration // also RSET
	Rcpt     time.Duration
	Data     time.Duration // 354
	Block    time.Duration // each write of the message
	Whole    time.Duration // all of it before the final dot, and a second more for each KiB
	Dot      time.Duration // the reply to the final dot
	Quit     time.Duration
}

func (t Timeouts) orDefault() Timeouts {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&t.Connect, 30*time.Second)
	set(&t.Banner, 5*time.Minute)
	set(&t.EHLO, 5*time.Minute)
	set(&t.StartTLS, 2*time.Minute)
	set(&t.TLS, 2*time.Minute)
	set(&t.Mail, 5*time.Minute)
	set(&t.Rcpt, 5*time.Minute)
	set(&t.Data, 2*time.Minute)
	set(&t.Block, 3*time.Minute)
	set(&t.Whole, 30*time.Minute)
	set(&t.Dot, 10*time.Minute)
	set(&t.Quit, 2*time.Second)
	return t
}

// Target is one mail host, reached on behalf of one recipient domain.
type Target struct {
	Host   string       // MX name: A-labels, lower case, no final dot
	Addrs  []netip.Addr // tried in order
	Port   int
	Domain string // of the recipients
	STS    STS    // what Domain's MTA-STS policy says of Host

	DANE   *DANE            // what DNSSEC says of Host; nil: nothing
	Pin    *Pin             // what the sender's organization knows of it; nil: nothing
	Client *tls.Certificate // with which the organization shows itself; the host must ask for one. nil: with none
	Floor  policy.Grade     // the least that the organization asks for Domain, whatever the message asks
	// Routed says that the domain's own organization named Host as the one that
	// its mail goes to. Then a certificate for that name proves it, and nothing
	// but that or a pin does; STS and DANE are not of this host and left empty.
	Routed bool
}

// name is asked for in SNI.
func (t *Target) name() string {
	if t.DANE != nil && t.DANE.Base != "" {
		return t.DANE.Base
	}
	return t.Host
}

// insists reports whether the host is known to be able to do better than
// what an attempt shows, so that a later one may.
func (t *Target) insists() bool { return t.DANE != nil || t.Pin != nil || t.Client != nil || t.Routed }

// STS is the bearing of a recipient domain's MTA-STS policy on a mail host.
type STS struct {
	Enforce bool   // the policy is in mode enforce
	Match   bool   // the host matches one of its mx patterns
	ID      string // of the policy
}

// Stage is where in the conversation something happened.
type Stage string

// The stages.
const (
	StageConnect  Stage = "connect"
	StageBanner   Stage = "banner"
	StageEHLO     Stage = "ehlo"
	StageStartTLS Stage = "starttls"
	StageTLS      Stage = "tls"
	StageReset    Stage = "rset"
	StageMail     Stage = "mail"
	StageRcpt     Stage = "rcpt"
	StageData     Stage = "data" // from DATA to before the final dot
	StageDot      Stage = "dot"  // from the final dot on
)

// Evidence says how a transport was proved. It holds nothing private.
type Evidence struct {
	Grade           policy.Grade `json:"grade"`
	TLSVersion      string       `json:"tls_version,omitempty"`        // "TLS 1.3"
	Suite           string       `json:"suite,omitempty"`              // IANA name
	KeyExchange     string       `json:"key_exchange,omitempty"`       // "X25519MLKEM768", "P256"; empty for RSA
	PeerFingerprint string       `json:"peer_fingerprint,omitempty"`   // SHA-256 of the leaf certificate, hex
	VerifiedBy      string       `json:"verified_by,omitempty"`        // one of the By words
	TLSA            string       `json:"tlsa,omitempty"`               // the record that proved the host, or TLSAUnusable
	ClientCert      string       `json:"client_certificate,omitempty"` // SHA-256 of the one that we showed, hex
	VerifyError     string       `json:"verify_error,omitempty"`       // one of the Cert words
	MX              string       `json:"mx"`
	Addr            string       `json:"addr,omitempty"`
	Local           string       `json:"-"` // our own address
	STSPolicyID     string       `json:"sts_policy_id,omitempty"`
	RequireTLS      bool         `json:"require_tls,omitempty"` // the last message was sent under REQUIRETLS
}

// How a certificate was verified.
const (
	ByNone = "none"
	ByPKIX = "pkix"         // valid for an MX name that came from plain DNS
	BySTS  = "mta-sts+pkix" // and that name is in an enforced MTA-STS policy

	ByDANETA = "dane-ta" // by an issuer in a TLSA record
	ByDANEEE = "dane-ee" // by a TLSA record of its own
	ByPin    = "pin"     // by what the organization pinned

	ByRoute = "route+pkix" // valid for the name that the domain's own organization gave
)

// TLSAUnusable stands where there are TLSA records and none can be used: TLS
// is mandatory then, and proves nobody (RFC 7672 section 2.2).
const TLSAUnusable = "unusable"

// What may be wrong with a certificate.
const (
	CertExpired          = "expired"
	CertNotYetValid      = "not_yet_valid"
	CertWrongName        = "wrong_name"
	CertUnknownAuthority = "unknown_authority"
	CertWrongUsage       = "wrong_usage"
	CertMissing          = "no_certificate"
	CertInvalid          = "invalid"
	CertNoTLSA           = "no_tlsa_match" // no TLSA record is of this certificate
	CertNotPinned        = "not_pinned"
)
