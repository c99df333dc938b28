// Package identity keeps an organization's own keys of its own addresses: what
// is sent from them is signed, and what comes back encrypted is opened.
//
// A signature tells that the organization sent mail under this name, not that a
// certain person did: any of its credentials that may send, and whoever its
// relay listener lets in, can send from any address of its verified domains,
// and is signed for.
//
//	create --kind smime               install
//	──────────────────► ┌───────────┐ ───────► ┌────────┐   a successor is   ┌─────────┐
//	                    │ requested │          │ active │ ─────────────────► │ retired │
//	create --kind pgp,  └───────────┘          └────────┘ made or installed  └─────────┘
//	import ──────────────────│──────────────────►  │                              │ ▲
//	import --retired ────────│─────────────────────│──────────────────────────────│─┘
//	                         │ revoke              │ revoke                       │ revoke
//	                         ▼                     ▼                              ▼
//	                    ┌──────────────────────────────────────────────────────────────┐
//	                    │                           revoked                            │
//	                    └──────────────────────────────────────────────────────────────┘
//
// Invariants:
//   - A key is made for an address at a domain that the organization has
//     verified, and only while that is so its public part is published.
//   - An address has at most one active key of a kind. Only active keys that
//     have not expired sign. All keys that ever could receive mail open it,
//     retired and revoked ones too: old mail stays readable.
//   - A successor takes over, and the one before it retires, in one
//     transaction. Changes of an organization's keys come one by one.
//   - Secret keys are sealed by a data key of the organization of their own;
//     so are certificates, OpenPGP keys and requests, which hold names and
//     addresses. With the organization's keys all of them are gone.
//   - Every change is a ledger entry in the same transaction: in clear the
//     kind, the algorithm and a reason's word, sealed the address and the
//     fingerprint.
package identity

import (
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// State is where in its life a key is.
type State string

// The states.
const (
	Requested State = "requested" // a certificate is asked for and not there yet
	Active    State = "active"
	Retired   State = "retired" // opens old mail, never signs
	Revoked   State = "revoked"
)

// Reason is the word for why a key is revoked (RFC 9580 section 5.2.3.31).
type Reason string

// The reasons.
const (
	Unspecified Reason = "unspecified"
	Superseded  Reason = "superseded"
	Compromised Reason = "compromised"
	Unused      Reason = "unused"
)

// Algorithm is what kind of key is made.
type Algorithm string

// The algorithms: the first four for OpenPGP, the others for S/MIME.
const (
	Curve25519 Algorithm = "curve25519"
	RSA3072    Algorithm = "rsa3072"
	V6         Algorithm = "v6"
	NISTP256   Algorithm = "nistp256"

	ECP256      Algorithm = "ec-p256"
	RSA2048     Algorithm = "rsa-2048"
	RSA3072Cert Algorithm = "rsa-3072"
)

// Identity is one key of one address, without its secret.
type Identity struct {
	ID          id.ID
	Org         id.ID
	Kind        policy.Seal // PGP or SMIME
	State       State
	Address     mail.Address
	Algorithm   string         // of the key: "X25519", "RSA-3072", "ECDSA P-256"
	Fingerprint private.String // of the OpenPGP key, the certificate (SHA-256) or, while requested, the public key (SHA-256)
	Reason      Reason         // why it is revoked
	CreatedAt   time.Time
	ExpiresAt   time.Time // when it ceases to sign or to be encrypted to; zero: never, or not known yet
	RetiredAt   time.Time
	RevokedAt   time.Time
	Unreadable  bool // the organization's keys are destroyed
}

// Signing are the active keys of an address; nil where there is none.
type Signing struct {
	PGP   *openpgp.Secret
	SMIME *cms.Signer
}

// Secrets are all keys with which an organization opens mail.
type Secrets struct {
	PGP   []*openpgp.Secret
	SMIME []cms.Recipient
}

// Detail is an identity with its public part.
type Detail struct {
	Identity
	Replaces    id.ID               // the key that this one took over from, or will
	Key         openpgp.Key         // the OpenPGP key, with this address alone
	Certificate *x509.Certificate   // once it is installed
	Chain       []*x509.Certificate // from its issuer towards a root
	CSR         []byte              // PKCS #10 in DER
}

// Request says which key to make.
type Request struct {
	Address   mail.Address
	Kind      policy.Seal
	Algorithm Algorithm // empty: Curve25519, ECP256
	Name      string    // of the member, in the OpenPGP user id; may be empty
	Expires   time.Time // of an OpenPGP key; zero: never
}

// Deps are what the service works with.
type Deps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Accounts *account.Accounts
	Clock    clock.Clock
	Log      *slog.Logger
}

// Service keeps identities. It is safe for concurrent use.
type Service struct {
	d    Deps
	mu   sync.Mutex
	orgs map[id.ID]*snapshot // of organizations that have asked
}

// New makes the service.
func New(d Deps) *Service { return &Service{d: d, orgs: map[id.ID]*snapshot{}} }
