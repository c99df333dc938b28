// Package dkim signs mail for the domain it comes from (RFC 6376, RFC 8463),
// and keeps the keys for that, per organization and domain.
//
//	create, rotate, age            the DNS shows        a successor is active,
//	of the active key              the exact record     or retire
//	──────────────────► ┌───────┐ ────────────────► ┌────────┐ ────────► ┌──────────┐
//	                    │  new  │                   │ active │           │ retiring │
//	                    └───────┘                   └────────┘           └──────────┘
//	                        │ retire                    │ retire --now        │ overlap has passed,
//	                        ▼                           ▼                     ▼ retire --now
//	                    ┌───────────────────────────────────────────────────────────┐
//	                    │                          retired                          │
//	                    └───────────────────────────────────────────────────────────┘
//
// Invariants:
//   - Only an active key signs, and a key is active only after the DNS showed
//     its exact record. An algorithm has at most one active and one new key per
//     domain.
//   - The record of an active and of a retiring key stays in the DNS: mail that
//     was signed is verified later. That of a retired key may go.
//   - Private keys are sealed by a data key of the organization of their own.
//     The data key is destroyed when the key is retired.
//   - What is signed is the header and the whole body in their final form: no
//     l=, no bare CR or LF. A message is read once, in constant memory.
//   - Nobody can add a second From, Subject or other field that readers are
//     shown: they are signed once more than they are there (RFC 6376 section
//     8.15).
//   - Domains, selectors and public keys stand in the DNS for everybody, and in
//     clear in the database and the ledger.
package dkim

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// State is where in its life a key is.
type State string

// The states.
const (
	New      State = "new"      // waits for its record
	Active   State = "active"   // signs
	Retiring State = "retiring" // signs no more; verifiers still look for it
	Retired  State = "retired"  // destroyed
)

// Algorithm is what kind of key it is, by the word of its k= tag.
type Algorithm string

// The algorithms.
const (
	RSA     Algorithm = "rsa"     // 2048 bits: what every verifier knows
	Ed25519 Algorithm = "ed25519" // RFC 8463; beside RSA, never in its place
)

// Key is one key without its secret.
type Key struct {
	ID        id.ID
	Org       id.ID
	Domain    string // A-label form, lower case
	Selector  string
	Algorithm Algorithm
	State     State
	Value     string // of its TXT record

	CreatedAt   time.Time
	ActivatedAt time.Time
	RetiringAt  time.Time
	RetiredAt   time.Time
}

// Name is where its record stands (RFC 6376 section 3.6.2.1).
func (k Key) Name() string { return k.Selector + "._domainkey." + k.Domain }

// Deps are what the service works with.
type Deps struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
	Log     *slog.Logger
	// TXT asks the DNS for the TXT records of a name. None is an answer.
	TXT func(ctx context.Context, name string) ([]string, error)
	// Hostname is the mail system's own name: reports and notices come from it,
	// and its keys are the installation's.
	Hostname    string
	RotateAfter time.Duration // age at which a key gets a successor; 0: never
	Overlap     time.Duration // how long the record of a key stays that signs no more
}

// Service keeps the keys. It is safe for concurrent use.
type Service struct {
	d    Deps
	mu   sync.Mutex
	orgs map[id.ID]*snapshot // of organizations that have asked
}

// NewService makes the service.
func NewService(d Deps) *Service { return &Service{d: d, orgs: map[id.ID]*snapshot{}} }
