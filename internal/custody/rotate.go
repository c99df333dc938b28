package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

const (
	rewrapBatch = 200                    // data keys in one transaction
	rewrapPause = 200 * time.Millisecond // while other nodes notice the new version
)

// Rotation says what RotateOrg did.
type Rotation struct {
	Org       id.ID
	Version   int   // the new version
	Rewrapped int   // data keys
	Removed   []int // old versions taken out of the store
	// Unreadable counts data keys of versions that the store did not have
	// before either, as after a restore of a backup older than Retain.
	Unreadable int
}

// RotateOrg gives an organization a new key, re-wraps its data keys in batches
// and takes old versions out of the store. Nodes may serve meanwhile. When it
// is interrupted, the next call goes on with the same new version.
//
// What ctx ends is the walk, between two transactions: a transaction under way
// still writes what this call reports.
func (c *Custody) RotateOrg(ctx context.Context, org id.ID) (Rotation, error) {
	newest, err := c.beginRotation(org)
	if err != nil {
		return Rotation{}, err
	}
	r := Rotation{Org: org, Version: newest.Version}
	for {
		ks, err := c.reload(org)
		if err != nil {
			return r, err
		}
		if err := c.rewrapAll(ctx, ks, &r); err != nil {
			return r, err
		}
		done, err := c.retire(ctx, &r)
		if err != nil {
			return r, err
		}
		if done {
			// Other nodes may keep a removed version in memory until the next
			// rotation; without rows that use it, it opens nothing.
			if _, err := c.reload(org); err != nil {
				return r, err
			}
			return r, c.endRotation(newest.Ref)
		}
		select {
		case <-c.d.Clock.After(rewrapPause):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// beginRotation makes the new version, or finds the one an earlier call left.
func (c *Custody) beginRotation(org id.ID) (Key, error) {
	keys, err := c.d.Store.Org(org)
	if errors.Is(err, ErrTombstone) {
		return Key{}, ErrDestroyed
	}
	if err != nil {
		return Key{}, storeFailed(err)
	}
	var newest Key
	for _, k := range keys {
		if k.Kind == KindOrg && k.Version > newest.Version {
			newest = k
		}
	}
	if newest.Version == 0 {
		return Key{}, errUnknownOrg
	}
	if newest.Rotating {
		return newest, nil
	}
	next, err := c.store(Ref{Kind: KindOrg, Org: org, Version: newest.Version + 1}, newKey(), true)
	if errors.Is(err, ErrKeyExists) {
		return Key{}, fault.New(fault.Conflict, "rotation_under_way", "Another rotation of this organization's key has just begun.")
	}
	if err != nil {
		return Key{}, storeFailed(err)
	}
	return next, nil
}

func (c *Custody) endRotation(ref Ref) error {
	for {
		k, err := c.d.Store.Get(ref)
		if errors.Is(err, ErrNoKey) || errors.Is(err, ErrTombstone) || err == nil && !k.Rotating {
			return nil // somebody else ended it, or the organization
		}
		if err != nil {
			return storeFailed(err)
		}
		done := k
		done.Rotating = false
		err = c.d.Store.Replace(k, done)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrKeyChanged) {
			return storeFailed(err)
		}
	}
}

type wrappedRow struct {
	id      id.ID
	version int
	wrapped []byte
}

// rewrapAll walks once through the organization's data keys in the order of
// the primary key and brings those of older versions to r.Version.
func (c *Custody) rewrapAll(ctx context.Context, ks *orgKeys, r *Rotation) error {
	if ks.wrap[r.Version] == nil {
		return fault.New(fault.Conflict, "rotation_overtaken", "A later rotation of this organization's key has taken over.")
	}
	r.Unreadable = 0
	for after := (id.ID{}); ; {
		rows, err := c.oldRows(ctx, r.Org, r.Version, after)
		if err != nil || len(rows) == 0 {
			return err
		}
		after = rows[len(rows)-1].id
		if err := c.rewrap(ctx, ks, rows, r); err != nil {
			return err
		}
	}
}

func (c *Custody) oldRows(ctx context.Context, org id.ID, below int, after id.ID) (rows []wrappedRow, err error) {
	err = c.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		rows, err = db.All(tx, func(row db.Row) (w wrappedRow, err error) {
			err = row.Scan(&w.id, &w.version, &w.wrapped)
			return w, err
		}, `SELECT id, org_key_version, wrapped FROM custody_data_keys
			WHERE id > ? AND org_id = ? AND org_key_version < ? ORDER BY id LIMIT ?`, after, org, below, rewrapBatch)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read data keys: %w", err)
	}
	return rows, nil
}

func (c *Custody) rewrap(ctx context.Context, ks *orgKeys, rows []wrappedRow, r *Rotation) error {
	var ready []wrappedRow // version is still the old one
	for _, w := range rows {
		if ks.wrap[w.version] == nil {
			r.Unreadable++
			continue
		}
		key, err := ks.unwrapKey(r.Org, w.id, w.version, w.wrapped)
		if err != nil {
			return fault.Newf(fault.Internal, "data_key_damaged",
				"The data key %s does not unwrap. The old version of the organization's key stays until it is restored or destroyed.", w.id.Text(id.DataKey))
		}
		w.wrapped = ks.wrapKey(r.Org, w.id, r.Version, key)
		clear(key)
		ready = append(ready, w)
	}
	if len(ready) == 0 {
		return nil
	}
	var changed int64
	err := c.d.DB.WriteAlone(context.WithoutCancel(ctx), r.Org, func(tx *db.Tx) error {
		changed = 0
		for _, w := range ready {
			n, err := tx.Exec("UPDATE custody_data_keys SET org_key_version = ?, wrapped = ? WHERE id = ? AND org_id = ? AND org_key_version = ?",
				r.Version, w.wrapped, w.id, r.Org, w.version)
			if err != nil {
				return err
			}
			changed += n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("re-wrap data keys: %w", err)
	}
	r.Rewrapped += int(changed)
	return nil
}

// retire removes old versions, oldest first, if no row uses any. It does so
// inside a transaction that nobody can insert beside: SQLite has one writer,
// and on PostgreSQL the lock waits for inserts that are not committed yet. The
// transaction itself changes nothing, so it does not matter how it ends.
func (c *Custody) retire(ctx context.Context, r *Rotation) (done bool, err error) {
	err = c.d.DB.WriteAlone(context.WithoutCancel(ctx), r.Org, func(tx *db.Tx) error {
		if tx.Pick("", "lock") != "" {
			if _, err := tx.Exec("LOCK TABLE custody_data_keys IN SHARE MODE"); err != nil {
				return err
			}
		}
		old, err := c.oldVersions(r.Org, r.Version)
		if err != nil {
			return err
		}
		for _, o := range old {
			var used int
			if err := tx.Row("SELECT count(*) FROM custody_data_keys WHERE org_id = ? AND org_key_version = ?", r.Org, o.version).Scan(&used); err != nil {
				return err
			}
			if used > 0 {
				return nil
			}
		}
		done = true
		for _, o := range old {
			if c.d.Clock.Now().Before(o.replacedAt.Add(c.d.Retain)) {
				break
			}
			if err := c.d.Store.Remove(Ref{Kind: KindOrg, Org: r.Org, Version: o.version}); err != nil {
				return storeFailed(err)
			}
			r.Removed = append(r.Removed, o.version)
		}
		return nil
	})
	return done && err == nil, err
}

type oldVersion struct {
	version    int
	replacedAt time.Time
}

func (c *Custody) oldVersions(org id.ID, below int) ([]oldVersion, error) {
	keys, err := c.d.Store.Org(org)
	if errors.Is(err, ErrTombstone) {
		return nil, ErrDestroyed
	}
	if err != nil {
		return nil, storeFailed(err)
	}
	var old []oldVersion
	for _, k := range keys {
		if k.Kind != KindOrg {
			continue
		}
		if len(old) > 0 && old[len(old)-1].replacedAt.IsZero() {
			old[len(old)-1].replacedAt = k.CreatedAt
		}
		if k.Version < below {
			old = append(old, oldVersion{version: k.Version})
		}
	}
	return old, nil
}

// RotateMaster wraps every key in the store again under the current master
// key and gives their number. Old master keys may leave the file afterwards.
func (c *Custody) RotateMaster(ctx context.Context) (int, error) {
	current, err := c.d.Master.KeyID()
	if err != nil {
		return 0, err
	}
	count := 0
	for {
		keys, err := c.d.Store.All()
		if err != nil {
			return count, storeFailed(err)
		}
		old := 0
		for _, k := range keys {
			if k.MasterID == current {
				continue
			}
			old++
			if err := ctx.Err(); err != nil {
				return count, err
			}
			switch err := c.rewrapKey(k); {
			case err == nil:
				count++
			case !errors.Is(err, ErrKeyChanged):
				return count, err
			}
		}
		if old == 0 {
			return count, nil
		}
	}
}

func (c *Custody) rewrapKey(k Key) error {
	secret, err := c.unwrap(k)
	if err != nil {
		return fault.Newf(fault.Invalid, "key_damaged", "The %s does not unwrap with master key %s.", k.Ref, k.MasterID).Because(err)
	}
	defer clear(secret)
	next := k
	if next.MasterID, next.Wrapped, err = c.d.Master.Wrap(k.Ref.context(), secret); err != nil {
		return err
	}
	switch err := c.d.Store.Replace(k, next); {
	case err == nil || errors.Is(err, ErrKeyChanged):
		return err
	default:
		return storeFailed(err)
	}
}
