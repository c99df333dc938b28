// Package discover asks the outside for the keys of an address. It knows
// nothing of trust: it says where something was found and what the way it came
// proves, and the keyring judges.
package discover

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
)

// The sources.
const (
	WKD        = "wkd"        // draft-koch-openpgp-webkey-service
	OPENPGPKEY = "openpgpkey" // RFC 7929
	SMIMEA     = "smimea"     // RFC 8162
	LDAP       = "ldap"
	HKPS       = "hkps"
)

// Finding is a key or a bundle of certificates that a source gave for an
// address. Nothing of it has been looked at.
type Finding struct {
	Source string
	Kind   policy.Seal // PGP or SMIME
	Data   []byte      // OpenPGP: armored or binary; S/MIME: DER, or PKCS#7
	Proof  policy.Tier // what the way it came proves
	Usage  int         // of SMIMEA: the certificate usage
}

// Answer is what one source said of an address.
type Answer struct {
	Source   string
	Findings []Finding
	Absent   bool   // the source says for certain that it has nothing
	Word     string // why it could not be asked; empty where it could
	Took     time.Duration
	Until    time.Time // how long this answer may be believed
}

// Deps are what Sources are made with.
type Deps struct {
	Resolver *resolve.Resolver
	Fetch    *fetch.Client
	Clock    clock.Clock
	Log      *slog.Logger   // nil: nothing is logged
	Roots    *x509.CertPool // for directories; nil: the system's
	// Dial opens connections to directories; nil stands for a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	KeyServers  []string // hosts of the keys.openpgp.org kind; asking them tells a third party who is written to
	Directories []string // LDAP URLs: ldaps://host/base, or ldap://host/base with StartTLS
}

// Sources are all places that are asked.
type Sources struct{}

// New makes Sources.
func New(d Deps) (*Sources, error) { return &Sources{}, nil }

// Names are the sources that are asked, in the order of their answers.
func (s *Sources) Names() []string { return nil }

// Ask asks all sources at once.
func (s *Sources) Ask(ctx context.Context, a mail.Address) []Answer { return nil }

// ParseAutocrypt reads an Autocrypt header field (Level 1).
func ParseAutocrypt(header string) (mail.Address, []byte, error) {
	return mail.Address{}, nil, errors.New("not built yet")
}
