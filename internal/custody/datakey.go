package custody

import (
	"crypto/cipher"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/private"
)

const (
	boxVersion   = 1
	headerSize   = 1 + 16
	wrapVersion  = 1
	dataKeyLabel = "custody.data_key.v1"
)

// Overhead is how much longer a ciphertext is than its plaintext: version,
// data-key id, nonce and tag.
const Overhead = headerSize + 12 + 16

// DataKey encrypts one object of one organization. It shows nothing of itself
// however it is printed.
type DataKey struct {
	ID   id.ID
	Org  id.ID
	aead cipher.AEAD
	key  []byte // only of a new key: SaveDataKey wraps it
}

// String names the key by its id.
func (k *DataKey) String() string { return k.ID.Text(id.DataKey) }

// GoString is String.
func (k *DataKey) GoString() string { return k.String() }

// Format writes String for every verb.
func (k *DataKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue is String.
func (k *DataKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON refuses: a key has no place in a document.
func (k *DataKey) MarshalJSON() ([]byte, error) { return private.NewBytes(k.key).MarshalJSON() }

// NewDataKey makes a key in memory only. SaveDataKey must store it in the
// transaction that stores what it encrypted.
func (c *Custody) NewDataKey(org id.ID) (*DataKey, error) {
	if _, err := c.keys(org); err != nil {
		return nil, err
	}
	key := newKey()
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &DataKey{ID: id.New(), Org: org, aead: aead, key: key}, nil
}

// SaveDataKey stores a new key, wrapped by the organization's newest key. It
// looks at the store after the INSERT: from there on until the commit RotateOrg
// cannot take that version away.
func (c *Custody) SaveDataKey(tx *db.Tx, k *DataKey) error {
	if k.key == nil || tx.Org() != k.Org {
		return errors.New("save data key: the key is not new or belongs to another organization")
	}
	ks, err := c.keys(k.Org)
	if err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO custody_data_keys (id, org_id, org_key_version, wrapped) VALUES (?, ?, ?, ?)",
		k.ID, k.Org, ks.newest, ks.wrapKey(k.Org, k.ID, ks.newest, k.key)); err != nil {
		return fmt.Errorf("save data key: %w", err)
	}
	for {
		changed, err := c.d.Store.Changed(k.Org, ks.newest)
		if err != nil {
			return storeFailed(err)
		}
		if !changed {
			return nil
		}
		if ks, err = c.reload(k.Org); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE custody_data_keys SET org_key_version = ?, wrapped = ? WHERE id = ? AND org_id = ?",
			ks.newest, ks.wrapKey(k.Org, k.ID, ks.newest, k.key), k.ID, k.Org); err != nil {
			return fmt.Errorf("save data key: %w", err)
		}
	}
}

// DataKey loads a key of the transaction's organization. A key that is not
// there, is another organization's, or whose organization key is gone gives
// ErrDestroyed. It runs a query: on PostgreSQL, not while rows of tx are open.
func (c *Custody) DataKey(tx *db.Tx, keyID id.ID) (*DataKey, error) {
	var version int
	var wrapped []byte
	err := tx.Row("SELECT org_key_version, wrapped FROM custody_data_keys WHERE id = ? AND org_id = ?", keyID, tx.Org()).
		Scan(&version, &wrapped)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrDestroyed
	}
	if err != nil {
		return nil, fmt.Errorf("load data key: %w", err)
	}
	ks, err := c.keys(tx.Org())
	if err == nil && ks.wrap[version] == nil {
		ks, err = c.reload(tx.Org()) // another node may have made this version just now
	}
	if fault.Is(err, fault.NotFound) || err == nil && ks.wrap[version] == nil {
		return nil, ErrDestroyed
	}
	if err != nil {
		return nil, err
	}
	key, err := ks.unwrapKey(tx.Org(), keyID, version, wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &DataKey{ID: keyID, Org: tx.Org(), aead: aead}, nil
}

// DestroyDataKey removes one object's key: its content cannot be read any more
// in this database. Backups made before keep a copy until they age out.
func (c *Custody) DestroyDataKey(tx *db.Tx, keyID id.ID) error {
	// SQLite leaves the bytes of a deleted row in the file until the page is
	// used again, so they are overwritten first.
	blank := make([]byte, 1+12+keySize+16)
	if _, err := tx.Exec("UPDATE custody_data_keys SET wrapped = ? WHERE id = ? AND org_id = ?", blank, keyID, tx.Org()); err != nil {
		return fmt.Errorf("destroy data key: %w", err)
	}
	if _, err := tx.Exec("DELETE FROM custody_data_keys WHERE id = ? AND org_id = ?", keyID, tx.Org()); err != nil {
		return fmt.Errorf("destroy data key: %w", err)
	}
	return nil
}

// DataKeyStored reports whether the database holds a key of the transaction's
// organization, whoever can unwrap it.
func DataKeyStored(tx *db.Tx, keyID id.ID) (bool, error) {
	var n int
	err := tx.Row("SELECT count(*) FROM custody_data_keys WHERE id = ? AND org_id = ?", keyID, tx.Org()).Scan(&n)
	return n > 0, err
}

// wrapKey binds a data key to its organization, its id and the version of the
// organization key that wraps it.
func (ks *orgKeys) wrapKey(org, keyID id.ID, version int, key []byte) []byte {
	return ks.wrap[version].Seal([]byte{wrapVersion}, nil, key, aad(org, dataKeyLabel, keyID, uint64(version), true))
}

func (ks *orgKeys) unwrapKey(org, keyID id.ID, version int, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 1 || wrapped[0] != wrapVersion {
		return nil, ErrDamaged
	}
	key, err := ks.wrap[version].Open(nil, nil, wrapped[1:], aad(org, dataKeyLabel, keyID, uint64(version), true))
	if err != nil {
		return nil, ErrDamaged
	}
	return key, nil
}

// aad is the associated data: org, label, NUL, row, chunk, last. Everything
// but the label has a fixed length, so no two places have the same.
func aad(org id.ID, label string, row id.ID, n uint64, last bool) []byte {
	b := make([]byte, 0, 16+len(label)+1+16+8+1)
	b = append(b, org[:]...)
	b = append(b, label...)
	b = append(b, 0)
	b = append(b, row[:]...)
	b = binary.BigEndian.AppendUint64(b, n)
	if last {
		return append(b, 1)
	}
	return append(b, 0)
}

// Seal encrypts a value for one place: a label, which says what it is, and the
// row it stands in.
func (k *DataKey) Seal(label string, row id.ID, plaintext []byte) []byte {
	return k.SealChunk(make([]byte, 0, Overhead+len(plaintext)), label, row, 0, true, plaintext)
}

// Open decrypts what Seal made for the same place, or gives ErrDamaged.
func (k *DataKey) Open(label string, row id.ID, box []byte) ([]byte, error) {
	return k.OpenChunk(nil, label, row, 0, true, box)
}

// SealChunk encrypts one chunk of a longer value and appends it to dst.
func (k *DataKey) SealChunk(dst []byte, label string, row id.ID, n uint64, last bool, plaintext []byte) []byte {
	dst = append(append(dst, boxVersion), k.ID[:]...)
	return k.aead.Seal(dst, nil, plaintext, aad(k.Org, label, row, n, last))
}

// OpenChunk decrypts what SealChunk made for the same place and appends it to
// dst, or gives ErrDamaged.
func (k *DataKey) OpenChunk(dst []byte, label string, row id.ID, n uint64, last bool, box []byte) ([]byte, error) {
	of, err := KeyIDOf(box)
	if err != nil || of != k.ID {
		return nil, ErrDamaged
	}
	out, err := k.aead.Open(dst, nil, box[headerSize:], aad(k.Org, label, row, n, last))
	if err != nil {
		return nil, ErrDamaged
	}
	return out, nil
}

// KeyIDOf names the data key that a ciphertext needs.
func KeyIDOf(box []byte) (id.ID, error) {
	if len(box) < Overhead || box[0] != boxVersion {
		return id.ID{}, ErrDamaged
	}
	return id.ID(box[1:headerSize]), nil
}
