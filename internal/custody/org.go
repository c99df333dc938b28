package custody

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// freshFor is how long cached keys are used without a look at the store.
const freshFor = time.Second

// entry caches the unwrapped keys of one organization.
type entry struct {
	mu      sync.Mutex
	keys    *orgKeys
	checked time.Time
}

// orgKeys is never changed once made.
type orgKeys struct {
	newest int
	wrap   map[int]cipher.AEAD // by version
	index  []byte
}

var errUnknownOrg = fault.New(fault.NotFound, "organization_unknown", "There is no such organization.")

// CreateOrg makes the first key and the index key of an organization. Again,
// it does nothing; for a destroyed organization it is refused.
func (c *Custody) CreateOrg(org id.ID) error {
	have, err := c.d.Store.Org(org)
	if errors.Is(err, ErrTombstone) {
		return fault.New(fault.Conflict, "organization_destroyed",
			"The keys of this organization were destroyed; it cannot be brought back. Make a new organization.")
	}
	if err != nil {
		return storeFailed(err)
	}
	missing := map[Kind]Ref{
		KindIndex: {Kind: KindIndex, Org: org},
		KindOrg:   {Kind: KindOrg, Org: org, Version: 1},
	}
	for _, k := range have {
		delete(missing, k.Kind)
	}
	for _, ref := range missing {
		if _, err := c.store(ref, newKey(), false); err != nil && !errors.Is(err, ErrKeyExists) {
			return storeFailed(err)
		}
	}
	return nil
}

func newKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// keys gives an organization's keys, after a look at the store if the last one
// is more than a moment ago.
func (c *Custody) keys(org id.ID) (*orgKeys, error) {
	e := c.entry(org)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := c.d.Clock.Now()
	if age := now.Sub(e.checked); e.keys != nil && age >= 0 && age < freshFor {
		return e.keys, nil
	}
	if e.keys != nil {
		changed, err := c.d.Store.Changed(org, e.keys.newest)
		if err != nil {
			return nil, storeFailed(err)
		}
		if !changed {
			e.checked = now
			return e.keys, nil
		}
	}
	return c.load(org, e, now)
}

// Living gives no error as long as the organization's keys are there, as this
// process saw them within the last second.
func (c *Custody) Living(org id.ID) error {
	_, err := c.keys(org)
	return err
}

// reload gives an organization's keys as they are in the store now.
func (c *Custody) reload(org id.ID) (*orgKeys, error) {
	e := c.entry(org)
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.load(org, e, c.d.Clock.Now())
}

func (c *Custody) entry(org id.ID) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.orgs[org]
	if e == nil {
		e = &entry{}
		c.orgs[org] = e
	}
	return e
}

func (c *Custody) load(org id.ID, e *entry, now time.Time) (*orgKeys, error) {
	e.keys = nil
	stored, err := c.d.Store.Org(org)
	if errors.Is(err, ErrTombstone) {
		return nil, ErrDestroyed
	}
	if err != nil {
		return nil, storeFailed(err)
	}
	ks := &orgKeys{wrap: map[int]cipher.AEAD{}}
	for _, k := range stored {
		secret, err := c.unwrap(k)
		if err != nil {
			return nil, fault.Newf(fault.Unavailable, "key_unusable",
				"The %s cannot be unwrapped by master key %s.", k.Ref, k.MasterID).Because(err)
		}
		if k.Kind == KindIndex {
			ks.index = secret
			continue
		}
		if ks.wrap[k.Version], err = newAEAD(secret); err != nil {
			return nil, err
		}
		clear(secret)
		ks.newest = max(ks.newest, k.Version)
	}
	if ks.newest == 0 || ks.index == nil {
		return nil, errUnknownOrg
	}
	e.keys, e.checked = ks, now
	return ks, nil
}

// Index gives the value by which something is found without being stored: an
// HMAC-SHA-256 under the organization's index key, different for each label.
// Labels are constants without NUL.
func (c *Custody) Index(org id.ID, label, value string) ([]byte, error) {
	ks, err := c.keys(org)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, ks.index)
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write([]byte(value))
	return h.Sum(nil), nil
}

// DestroyOrg destroys an organization's keys, and with them its content in
// this database and in every copy of it. The tombstone is the certificate.
// Other processes follow within a second.
func (c *Custody) DestroyOrg(org id.ID) (Tombstone, error) {
	if org.IsZero() {
		return Tombstone{}, fault.New(fault.Invalid, "organization_system",
			"The keys of the installation itself cannot be destroyed.")
	}
	t, err := c.d.Store.Destroy(org, c.d.Clock.Now())
	c.mu.Lock()
	delete(c.orgs, org)
	c.mu.Unlock()
	if errors.Is(err, ErrNoKey) {
		return Tombstone{}, errUnknownOrg
	}
	if err != nil {
		return Tombstone{}, storeFailed(err)
	}
	return t, nil
}
