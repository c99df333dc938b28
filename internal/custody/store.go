package custody

import (
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/id"
)

// Kind says what a key in the store is for.
type Kind string

// The kinds.
const (
	KindOrg     Kind = "org"
	KindIndex   Kind = "index"
	KindSigning Kind = "signing"
)

// Ref names a key in the store: an organization's key by version, its index
// key, or a signing key by name.
type Ref struct {
	Kind    Kind
	Org     id.ID
	Version int    // of an org key, from 1
	Name    string // of a signing key
}

func (r Ref) String() string {
	switch r.Kind {
	case KindOrg:
		return fmt.Sprintf("org key %s version %d", r.Org.Text(id.Org), r.Version)
	case KindIndex:
		return "index key " + r.Org.Text(id.Org)
	}
	return "signing key " + r.Name
}

// context is what a wrapped key is bound to, so that no key can stand in for
// another one. Fixed for ever.
func (r Ref) context() []byte {
	return fmt.Appendf(nil, "sealpost custody v1\n%s\n%s\n%d\n%s", r.Kind, r.Org.Text(id.Org), r.Version, r.Name)
}

// Key is a wrapped key as the store keeps it. It holds no clear secret.
type Key struct {
	Ref
	MasterID  string
	Wrapped   []byte
	CreatedAt time.Time
	// Rotating is set on an org key while data keys are re-wrapped to it.
	Rotating bool
}

// Tombstone records that an organization's keys were destroyed, and is the
// certificate of it. Versions are those that existed then.
type Tombstone struct {
	Org      id.ID
	Versions []int
	At       time.Time
}

// What stores answer.
var (
	ErrNoKey      = errors.New("no such key")
	ErrKeyExists  = errors.New("key exists already")
	ErrKeyChanged = errors.New("key was changed or removed meanwhile")
	ErrTombstone  = errors.New("the organization's keys are destroyed")
)

// KeyStore keeps wrapped keys and tombstones outside the database. Folder is
// the store for now; Vault and the clouds' stores are to come. Whatever a
// method reports as done is on disk. Several processes may use one store;
// custodytest.KeyStore holds what each must keep to.
type KeyStore interface {
	// All gives every key of organizations that are not destroyed, sorted by
	// kind, organization, version and name.
	All() ([]Key, error)
	// Org gives the org keys, by version, and the index key of one
	// organization, or ErrTombstone.
	Org(org id.ID) ([]Key, error)
	// Get gives one key, or ErrNoKey or ErrTombstone.
	Get(ref Ref) (Key, error)
	// Changed tells cheaply whether the organization is destroyed or its
	// newest key is another version than newest.
	Changed(org id.ID, newest int) (bool, error)
	// Create adds a key: ErrKeyExists or ErrTombstone if it must not.
	Create(k Key) error
	// Replace puts new, which has the same Ref, in the place of old; it gives
	// ErrKeyChanged if old is not what is there.
	Replace(old, new Key) error
	// Remove takes a key away. One that is not there is no error.
	Remove(ref Ref) error
	// Destroy writes the organization's tombstone and then removes its keys.
	// Again, it finishes what was begun and gives the first tombstone. An
	// organization without keys is ErrNoKey.
	Destroy(org id.ID, at time.Time) (Tombstone, error)
	// Tombstones gives all tombstones by organization.
	Tombstones() ([]Tombstone, error)
}
