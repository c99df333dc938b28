// Package custody keeps the installation's own keys: who can read content is
// decided here and nowhere else.
//
// The keys, from the outside in:
//
//	master key      a file only we can read (later Vault or a KMS); wraps
//	 ├ org key      one per organization and version, in the key store; wraps
//	 │  └ data key  one per object, in the table custody_data_keys; encrypts
//	 ├ index key    one per organization, for ever; makes values that only
//	 │              equality can be asked of
//	 └ signing key  signs the ledger's checkpoints
//
// Invariants:
//   - The key store is in neither the database nor its backup. A restored
//     database is read with today's key store, so what was destroyed stays
//     destroyed: tombstones are written, and on disk, before keys are removed.
//   - Every ciphertext names its data key and is bound to its organization, a
//     label, its row, its chunk and whether that chunk is the last. Moved
//     anywhere else it does not open. Labels are constants fixed for ever.
//   - A row of custody_data_keys is never committed under an organization key
//     that is gone. SaveDataKey looks at the store after its INSERT, and
//     RotateOrg removes an old version only while it keeps out all inserts and
//     sees no row that uses it.
//   - Organization keys are cached in unwrapped form for at most one second
//     without a look at the store; in the process that destroys them they are
//     forgotten at once. A data key that was handed out earlier stays usable
//     until its holder drops it.
//   - Rotation re-wraps keys and never touches content or its ciphertext.
//   - An organization key wraps fewer than 2^32 data keys, and a data key
//     seals fewer than 2^32 chunks (NIST SP 800-38D section 8.3, random
//     nonces). Rotate an organization's key long before.
//   - Versions an earlier backup of the database needs are kept for Deps.Retain
//     after a rotation; with zero, only backups younger than the last rotation
//     can be read.
package custody

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// ErrDestroyed is the answer for content whose key is gone: destroyed, or
// never there. The two look alike on purpose.
var ErrDestroyed = fault.New(fault.NotFound, "content_destroyed",
	"This content does not exist, or its key was destroyed and nobody can read it any more.")

// ErrDamaged is the answer for ciphertext that does not verify.
var ErrDamaged = fault.New(fault.Internal, "content_damaged",
	"Stored content does not match its seal: it was changed, cut short or moved. Restore it from a backup.")

// Deps are what custody works with.
type Deps struct {
	DB     *db.DB
	Master MasterKeys
	Store  KeyStore
	Clock  clock.Clock
	// Retain is how long an organization's old key versions stay in the store
	// after a rotation, so that older backups of the database can be read.
	Retain time.Duration
}

// Custody hands out keys. It is safe for concurrent use.
type Custody struct {
	d    Deps
	mu   sync.Mutex
	orgs map[id.ID]*entry
}

// Open checks that every key in the store can be unwrapped and that the store
// is the one that belongs to the database, which must be migrated. It makes
// the keys of the organization "system" where they are missing.
func Open(ctx context.Context, d Deps) (*Custody, error) {
	c := &Custody{d: d, orgs: map[id.ID]*entry{}}
	keys, err := d.Store.All()
	if err != nil {
		return nil, storeFailed(err)
	}
	if err := c.check(keys); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		if err := c.refuseForeignStore(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.CreateOrg(db.System); err != nil {
		return nil, err
	}
	return c, nil
}

// check unwraps every key and names all master keys that are missing.
func (c *Custody) check(keys []Key) error {
	missing, damaged := map[string]bool{}, map[string]bool{}
	for _, k := range keys {
		secret, err := c.unwrap(k)
		clear(secret)
		switch {
		case errors.Is(err, ErrNoMaster):
			missing[k.MasterID] = true
		case errors.Is(err, errWrap):
			damaged[fmt.Sprintf("%s (master key %s)", k.Ref, k.MasterID)] = true
		case err != nil:
			return err
		}
	}
	if len(missing) > 0 {
		return fault.Newf(fault.Invalid, "master_key_missing",
			"The key store needs master key %s, which is not at hand. Put the line of this key back into the master key file; without it the content it protects cannot be read.", names(missing))
	}
	if len(damaged) > 0 {
		return fault.Newf(fault.Invalid, "key_damaged",
			"Keys in the key store do not unwrap: %s. Restore these files of the key store from a copy.", names(damaged))
	}
	return nil
}

// refuseForeignStore keeps an empty key store from being filled with new keys
// beside a database whose content needs the old ones.
func (c *Custody) refuseForeignStore(ctx context.Context) error {
	stones, err := c.d.Store.Tombstones()
	if err != nil {
		return storeFailed(err)
	}
	if len(stones) > 0 {
		return nil
	}
	err = c.d.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		var one int
		return tx.Row("SELECT 1 FROM custody_data_keys LIMIT 1").Scan(&one)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for content: %w", err)
	}
	return fault.New(fault.Invalid, "key_store_missing",
		"The key store is empty, but the database holds encrypted content. Point to the key store that belongs to it.")
}

func names(set map[string]bool) string {
	var all []string
	for n := range set {
		all = append(all, n)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// Status lists the keys for people.
type Status struct {
	MasterID  string // the master key that new keys are wrapped with
	Keys      []Key
	Destroyed []Tombstone
}

// Status tells which keys there are. It holds no secret.
func (c *Custody) Status() (Status, error) {
	var s Status
	var err error
	if s.MasterID, err = c.d.Master.KeyID(); err != nil {
		return s, err
	}
	if s.Keys, err = c.d.Store.All(); err != nil {
		return s, storeFailed(err)
	}
	if s.Destroyed, err = c.d.Store.Tombstones(); err != nil {
		return s, storeFailed(err)
	}
	return s, nil
}

func (c *Custody) unwrap(k Key) ([]byte, error) {
	return c.d.Master.Unwrap(k.MasterID, k.Ref.context(), k.Wrapped)
}

// store wraps a secret with the current master key and creates its key.
func (c *Custody) store(ref Ref, secret []byte, rotating bool) (Key, error) {
	master, wrapped, err := c.d.Master.Wrap(ref.context(), secret)
	if err != nil {
		return Key{}, err
	}
	k := Key{Ref: ref, MasterID: master, Wrapped: wrapped, CreatedAt: c.d.Clock.Now().UTC().Truncate(time.Microsecond), Rotating: rotating}
	return k, c.d.Store.Create(k)
}

func storeFailed(err error) error {
	return fault.New(fault.Unavailable, "key_store_unavailable",
		"The key store cannot be read or written now. Nothing was stored; try again later.").Because(err)
}

// newAEAD makes the only cipher in use: AES-256-GCM that draws its own nonces,
// which is also what the FIPS 140-3 module approves.
func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, errWrap
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(b)
}
