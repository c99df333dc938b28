// Package keyring keeps other people's public keys and certificates: which
// there are for an address, where they came from, how far they are trusted,
// and which one a delivery is sealed with now.
//
// The state of an entry, which is one key for one address in one organization
// (the organization "system" holds what the whole installation shares):
//
//	        first for its address, or may take over
//	┌─ new ──────────────────────────────────────► active ──► superseded  another took its place
//	│   │                                          ▲   │ │
//	│   └─ changed, not proved well enough ─► proposed │ └──► withdrawn   its last source says: absent
//	│                                          accepted│                  (a proposal, too)
//	└──── judged and refused ─► refused ───────────────┘
//	                               ▲    passes when judged again
//	              active ──────────┘    revoked
//	any state ──► removed   by a person; only a person brings it back
//
// A superseded or withdrawn key that a source shows again is treated as new.
//
// Invariants:
//   - No key is active before it was judged (openpgp.Key.Judge, package
//     certs), and no key is chosen before it is judged again against the
//     clock. What is refused stays on record with its word.
//   - In one organization, one address has at most one active key of a kind.
//   - A changed key takes over by itself when its tier is confirmed or better
//     and not lower than that of the old one, or when the old one has expired
//     or was revoked, and then at its own tier. Otherwise it is a proposal and
//     the old one stays in use.
//   - A pinned key is never replaced without a person, not even when it cannot
//     be used any more; where an organization pinned a key, it uses no shared
//     one.
//   - A source that proves it has nothing withdraws what came from it alone;
//     where only plain DNS says so, what is known stays, because somebody on
//     the way could say it too. A source that fails changes nothing, and no failure makes Find
//     fail: the caller learns of it by Found.Failing.
//   - A revoked key never becomes active again: a server that shows an old copy
//     does not undo the revocation. Only the revocation of the key itself is
//     final; where a part of it was revoked, the key is judged anew each time.
//   - Copies of one OpenPGP key are united, so that none takes anything back.
//     It does not matter who shows one: what counts of it the key has signed.
//   - That a source has nothing withdraws only what was found under a spelling of
//     the address that it was asked for: the normal form, or the same one.
//   - What one source can fill is bounded: octets of a key, entries of an
//     address, and facts of a day.
//   - Keys, addresses and fingerprints are encrypted at rest; equality is
//     asked through HMACs of the organization's index key. Each change leaves
//     a ledger fact in the same transaction.
//   - Known never asks the network. Find asks a source only when its last
//     answer is too old, and callers who come together ask once.
package keyring

import (
	"context"
	"crypto/x509"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// State is where an entry stands.
type State string

// The states.
const (
	Active     State = "active"
	Proposed   State = "proposed"
	Superseded State = "superseded"
	Withdrawn  State = "withdrawn"
	Removed    State = "removed"
	Refused    State = "refused"
)

// Sources beside those of package discover.
const (
	SourceImport  = "import"  // handed in by a person
	SourceTrust   = "trust"   // a person vouched for what a source showed
	SourceHarvest = "harvest" // seen in mail that the recipient sent
)

// Entry is one key for one address.
type Entry struct {
	ID, Org     id.ID
	Address     mail.Address
	Kind        policy.Seal // policy.PGP or policy.SMIME
	State       State
	Tier        policy.Tier
	Source      string // that proves it best
	Algorithm   string // "X25519", "RSA-2048"
	Reason      string // why it is not active, or empty
	Fingerprint private.String
	Opens       Opens // what its owner's program can open beyond the ordinary (S/MIME)
	FirstSeen   time.Time
	LastSeen    time.Time
	Expires     time.Time // zero: never
	Outcome     string    // what Import or Trust did: added, proposed, known, …
}

// Choice is the key a delivery can be sealed with.
type Choice struct {
	Entry
	PGP         openpgp.Key       // when Kind is pgp
	Certificate *x509.Certificate // when Kind is smime
}

// Found is what there is for a recipient now.
type Found struct {
	PGP, SMIME *Choice  // nil: none that can be used
	Why        []string // sentences: what was refused and why
	Failing    bool     // a source could not be asked now
}

// Opens says what the program of a certificate's owner can open beyond
// AES-256-CBC and RSA by PKCS #1 v1.5, which all can.
type Opens struct {
	GCM  bool // AES-256-GCM
	OAEP bool // RSA by OAEP
}

// of keeps what a kind of key has a use for.
func (o Opens) of(kind policy.Seal) Opens {
	if kind != policy.SMIME {
		return Opens{}
	}
	return o
}

func (o Opens) with(p Opens) Opens { return Opens{o.GCM || p.GCM, o.OAEP || p.OAEP} }

// Deps are what a Keyring works with.
type Deps struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
	Log     *slog.Logger // nil: nothing is logged
	// Discover asks all sources for keys of an address; nil: there are none.
	Discover func(context.Context, mail.Address) []discover.Answer
	// Standing gives the answers that hold for every address of a domain, as
	// far as all sources have such; nil: none have.
	Standing func(mail.Address) ([]discover.Answer, bool)
	// Sources are the names of those that Discover asks.
	Sources []string
	Certs   *certs.Judge // nil: no certificate is proved by its chain
}

// Options say how keys are imported.
type Options struct {
	Tier    policy.Tier  // zero: pinned
	Address mail.Address // binds a key to an address it does not name (pinned only)
	Opens   Opens        // for certificates: what their owners' programs can open
}

// Keyring is the keys of everybody we write to. It is safe for concurrent use.
type Keyring struct {
	d       Deps
	flights singleflight.Group
	epoch   atomic.Int64 // counts what was forgotten
	orgs    *lru[id.ID, orgMemo]
	asked   *lru[string, asking]
	held    *lru[holder, *holding]
}

// New makes a Keyring.
func New(d Deps) *Keyring {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Keyring{d: d, orgs: newLRU[id.ID, orgMemo](10_000, nil), asked: newLRU[string, asking](100_000, nil),
		held: newLRU[holder](heldOctets, func(h *holding) int { return h.octets })}
}

// Facts are what the policy decides by.
func (f Found) Facts() policy.Keys {
	k := policy.Keys{Looked: true}
	if f.PGP != nil {
		k.PGP = f.PGP.Tier
	}
	if f.SMIME != nil {
		k.SMIME = f.SMIME.Tier
	}
	return k
}
