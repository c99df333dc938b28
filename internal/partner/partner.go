// Package partner keeps what an organization has arranged with the domains of
// partners: which certificates their mail hosts are proved by, and with which
// certificate it shows itself to them.
//
// Invariants:
//   - An arrangement belongs to one organization and one domain of recipients,
//     and to the domains below it if that is said; the closest one counts. It
//     never belongs to a mail host, which may serve others too.
//   - A pin goes before all that the domain publishes. While a host fails it
//     nothing weaker is taken in its place, neither for messages nor for
//     notices: deliveries wait, and fail when their time is up.
//   - A certificate or public key that is pinned vouches for itself. An
//     authority vouches for names, so it is pinned for named hosts only.
//   - Several pins may stand beside each other, so that one can take over from
//     another.
//   - Terms and the secret key of a client certificate are sealed by a data key
//     of the organization of their own, and are gone with its keys.
//   - Every change is a ledger entry in the same transaction.
package partner

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
)

// Kind is what is pinned.
type Kind string

// The kinds.
const (
	CA          Kind = "ca"          // an authority
	Certificate Kind = "certificate" // of a mail host
	Key         Kind = "key"         // public key of a mail host
)

// Bounds of one organization.
const (
	maxDomains = 1000
	maxPins    = 16
	maxHosts   = 32
	maxChain   = 10
)

// Pin is one thing that proves the mail hosts of a domain.
type Pin struct {
	Kind        Kind      `json:"kind"`
	Fingerprint string    `json:"fingerprint"`         // SHA-256 of the certificate, or of the public key (SubjectPublicKeyInfo), hex
	Subject     string    `json:"subject,omitempty"`   // of a certificate
	Expires     time.Time `json:"expires_at,omitzero"` // of a certificate
	Added       time.Time `json:"added_at"`
	DER         []byte    `json:"der,omitempty"` // of a certificate
}

// Entry is what is arranged with one domain.
type Entry struct {
	Domain     string
	Subdomains bool
	Require    bool     // hosts must be proved to be the domain's, by whatever proves them
	Hosts      []string // the only mail hosts that may be used: names, or "*." and a parent; none: any
	Pins       []Pin
	Client     []*x509.Certificate // that the organization shows itself with, with its chain; none: it does not
	Changed    time.Time
	Unreadable bool // the organization's keys are destroyed
}

// Ends is when the first of the entry's certificates expires; zero: never.
func (e Entry) Ends() (end time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (end.IsZero() || t.Before(end)) {
			end = t
		}
	}
	for _, p := range e.Pins {
		sooner(p.Expires)
	}
	if len(e.Client) > 0 {
		sooner(e.Client[0].NotAfter)
	}
	return end
}

// Terms are an entry as deliveries use it. The zero value asks for nothing.
type Terms struct {
	Floor        policy.Grade // least grade for the domain
	Hosts        []string
	Certificates [][]byte // SHA-256
	Keys         [][]byte // SHA-256
	CAs          []*x509.Certificate
	Client       *tls.Certificate
}

// Pinned reports whether anything is said of the hosts.
func (t *Terms) Pinned() bool {
	return len(t.Hosts)+len(t.Certificates)+len(t.Keys)+len(t.CAs) > 0
}

// terms makes an entry's terms; the client's key comes from elsewhere.
func (e Entry) terms() (Terms, error) {
	t := Terms{Hosts: e.Hosts}
	if e.Require || len(e.Pins) > 0 {
		t.Floor = policy.Authenticated
	}
	for _, p := range e.Pins {
		sum, err := hex.DecodeString(p.Fingerprint)
		if err != nil {
			return t, errStored
		}
		switch p.Kind {
		case Certificate:
			t.Certificates = append(t.Certificates, sum)
		case Key:
			t.Keys = append(t.Keys, sum)
		case CA:
			ca, err := x509.ParseCertificate(p.DER)
			if err != nil {
				return t, errStored
			}
			t.CAs = append(t.CAs, ca)
		}
	}
	return t, nil
}

// Fingerprint is how certificates are named here.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// PinOf pins a certificate, as that of a host or of an authority.
func PinOf(kind Kind, c *x509.Certificate) Pin {
	return Pin{Kind: kind, Fingerprint: Fingerprint(c), Subject: c.Subject.String(), Expires: c.NotAfter.UTC(), DER: c.Raw}
}

func (e Entry) has(p Pin) bool {
	return slices.ContainsFunc(e.Pins, func(q Pin) bool { return q.Kind == p.Kind && q.Fingerprint == p.Fingerprint })
}

// Deps are what the service works with.
type Deps struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
	Log     *slog.Logger
}

// Service keeps arrangements. It is safe for concurrent use.
type Service struct {
	d    Deps
	mu   sync.Mutex
	orgs map[id.ID]*snapshot // of organizations that have asked
}

// New makes the service.
func New(d Deps) *Service { return &Service{d: d, orgs: map[id.ID]*snapshot{}} }
