package keyring

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// Labels are fixed for ever.
const (
	addressLabel     = "keyring.address.v1"
	fingerprintLabel = "keyring.fingerprint.v1"
	namedLabel       = "keyring.named.v1"
	dataLabel        = "keyring.data.v1"
)

const (
	rowsPerName = 50  // entries of an address that sources alone may fill
	rowLimit    = 200 // that are read of an address
)

// row is an entry with what only this package sees of it.
type row struct {
	Entry
	m           *material // nil: it cannot be read, or nobody asked for it
	key         *custody.DataKey
	keyID       id.ID
	named, data []byte // sealed
	addressHMAC []byte
	printHMAC   []byte
	sightings   map[string]policy.Tier // what each source proves
}

// named is the part of an entry that names a person.
type named struct {
	Address     string `json:"address"`
	Fingerprint string `json:"fingerprint"`
}

// proof is what the sources that show the entry prove.
func (r *row) proof() (best policy.Tier) {
	for _, t := range r.sightings {
		best = max(best, t)
	}
	return best
}

// best is the source that proves the entry best; of several the first by name.
func (r *row) best() string {
	name, tier := r.Source, policy.NoTier
	for s, t := range r.sightings {
		if t > tier || t == tier && s < name {
			name, tier = s, t
		}
	}
	return name
}

const columns = `id, org_id, kind, state, tier, source, algorithm, opens, reason, address_hmac, fingerprint_hmac,
	key_id, named_sealed, data_sealed, first_seen, last_seen, expires_at`

func scan(from db.Row) (*row, error) {
	r := &row{}
	var tier, opens string
	var first, last int64
	var expires *int64
	if err := from.Scan(&r.ID, &r.Org, &r.Kind, &r.State, &tier, &r.Source, &r.Algorithm, &opens, &r.Reason, &r.addressHMAC, &r.printHMAC,
		&r.keyID, &r.named, &r.data, &first, &last, &expires); err != nil {
		return nil, err
	}
	r.Tier, _ = policy.ParseTier(tier) // "none" is no tier
	r.Opens = Opens{GCM: strings.Contains(opens, "gcm"), OAEP: strings.Contains(opens, "oaep")}
	r.FirstSeen, r.LastSeen = clock.FromMicros(first), clock.FromMicros(last)
	if expires != nil {
		r.Expires = clock.FromMicros(*expires)
	}
	return r, nil
}

// open decrypts whose entry it is and, where withData, reads the key. A key
// that this version cannot read leaves m nil.
func (r *row) open(tx *db.Tx, keys *custody.Custody, withData bool) error {
	var err error
	if r.key, err = keys.DataKey(tx, r.keyID); err != nil {
		return err
	}
	plain, err := r.key.Open(namedLabel, r.ID, r.named)
	if err != nil {
		return err
	}
	var n named
	if json.Unmarshal(plain, &n) != nil { // its error could quote an address
		return errors.New("an entry of the keyring has an unknown form")
	}
	if r.Address, err = mail.ParseAddress(n.Address); err != nil {
		return errors.New("an entry of the keyring has an unknown form")
	}
	r.Fingerprint = private.NewString(n.Fingerprint)
	if !withData {
		return nil
	}
	return r.read()
}

// read reads the key.
func (r *row) read() error {
	plain, err := r.key.Open(dataLabel, r.ID, r.data)
	if err != nil {
		return err
	}
	if r.m, err = stored(r.Kind, plain); err != nil {
		r.m = nil
	}
	return nil
}

// idle reports whether an entry neither is used nor waits to be.
func (r *row) idle() bool {
	return r.State == Superseded || r.State == Withdrawn || r.State == Removed
}

// load reads all entries of an address, the active one first. Keys of idle ones
// are read when somebody shows them again.
func (k *Keyring) load(tx *db.Tx, addressHMAC []byte) ([]*row, error) {
	rows, err := db.All(tx, scan, `SELECT `+columns+` FROM keyring_entries WHERE org_id = ? AND address_hmac = ?
		ORDER BY CASE WHEN state = 'active' THEN 0 ELSE 1 END, id DESC LIMIT ?`, tx.Org(), addressHMAC, rowLimit)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	by := map[id.ID]*row{}
	for _, r := range rows {
		r.sightings = map[string]policy.Tier{}
		by[r.ID] = r
		if err := r.open(tx, k.d.Custody, !r.idle()); err != nil {
			return nil, err
		}
	}
	type sighting struct {
		entry         id.ID
		source, proof string
	}
	all, err := db.All(tx, func(from db.Row) (s sighting, err error) {
		err = from.Scan(&s.entry, &s.source, &s.proof)
		return s, err
	}, `SELECT s.entry_id, s.source, s.proof FROM keyring_sightings s JOIN keyring_entries e ON e.id = s.entry_id
		WHERE e.org_id = ? AND e.address_hmac = ?`, tx.Org(), addressHMAC)
	for _, s := range all {
		if r := by[s.entry]; r != nil {
			r.sightings[s.source], _ = policy.ParseTier(s.proof)
		}
	}
	return rows, err
}

// same reads the entry of one key of an address, if there is one.
func (k *Keyring) same(tx *db.Tx, addressHMAC []byte, kind policy.Seal, printHMAC []byte) (*row, error) {
	r, err := scan(tx.Row(`SELECT `+columns+` FROM keyring_entries WHERE org_id = ? AND address_hmac = ? AND kind = ? AND fingerprint_hmac = ?`,
		tx.Org(), addressHMAC, string(kind), printHMAC))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.open(tx, k.d.Custody, true); err != nil {
		return nil, err
	}
	r.sightings = map[string]policy.Tier{}
	_, err = db.All(tx, func(from db.Row) (none struct{}, err error) {
		var source, proof string
		if err = from.Scan(&source, &proof); err == nil {
			r.sightings[source], _ = policy.ParseTier(proof)
		}
		return none, err
	}, "SELECT source, proof FROM keyring_sightings WHERE entry_id = ? AND org_id = ?", r.ID, r.Org)
	return r, err
}

// remove deletes an entry with what is told of it here.
func (r *row) remove(tx *db.Tx) error {
	for _, query := range []string{
		"DELETE FROM keyring_sightings WHERE entry_id = ? AND org_id = ?",
		"DELETE FROM keyring_history WHERE entry_id = ? AND org_id = ?",
		"DELETE FROM keyring_entries WHERE id = ? AND org_id = ?",
	} {
		if _, err := tx.Exec(query, r.ID, r.Org); err != nil {
			return fmt.Errorf("delete an old key: %w", err)
		}
	}
	return nil
}

// lock keeps two transactions from settling one address at the same time.
// SQLite has one writer.
func lock(tx *db.Tx, addressHMAC []byte) error {
	org := tx.Org()
	n := int64(binary.BigEndian.Uint64(addressHMAC)) ^ int64(binary.BigEndian.Uint64(org[8:]))
	if tx.Pick("", "lock") == "" {
		return nil
	}
	_, err := tx.Exec("SELECT pg_advisory_xact_lock(?)", n)
	return err
}

// insert stores a new entry.
func (k *Keyring) insert(tx *db.Tx, r *row) error {
	plain, err := json.Marshal(named{r.Address.Reveal(), r.m.fingerprint})
	if err != nil {
		return err
	}
	if err := k.d.Custody.SaveDataKey(tx, r.key); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO keyring_entries (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.ID, r.Org, string(r.Kind), string(r.State), r.Tier.String(), r.Source, r.Algorithm, r.Opens.words(), r.Reason, r.addressHMAC, r.printHMAC,
		r.key.ID, r.key.Seal(namedLabel, r.ID, plain), r.key.Seal(dataLabel, r.ID, r.m.kept()), clock.Micros(r.FirstSeen), clock.Micros(r.LastSeen), micros(r.Expires))
	if err != nil {
		return fmt.Errorf("store a key: %w", err)
	}
	_, err = tx.Exec("INSERT INTO keyring_orgs (org_id, changes) VALUES (?, 1) ON CONFLICT (org_id) DO NOTHING", r.Org)
	return err
}

// update stores what can change of an entry; newData also its key.
func (k *Keyring) update(tx *db.Tx, r *row, newData bool) error {
	if newData {
		if _, err := tx.Exec("UPDATE keyring_entries SET data_sealed = ? WHERE id = ? AND org_id = ?",
			r.key.Seal(dataLabel, r.ID, r.m.kept()), r.ID, r.Org); err != nil {
			return fmt.Errorf("store a key: %w", err)
		}
	}
	_, err := tx.Exec(`UPDATE keyring_entries SET state = ?, tier = ?, source = ?, algorithm = ?, opens = ?, reason = ?, last_seen = ?, expires_at = ?
		WHERE id = ? AND org_id = ?`, string(r.State), r.Tier.String(), r.Source, r.Algorithm, r.Opens.words(), r.Reason, clock.Micros(r.LastSeen), micros(r.Expires), r.ID, r.Org)
	if err != nil {
		return fmt.Errorf("store a key: %w", err)
	}
	return nil
}

// words is how what an owner's program can open is stored.
func (o Opens) words() string {
	var all []string
	if o.GCM {
		all = append(all, "gcm")
	}
	if o.OAEP {
		all = append(all, "oaep")
	}
	return strings.Join(all, " ")
}

func micros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	us := clock.Micros(t)
	return &us
}

// sighted records that a source shows the entry.
func (r *row) sighted(tx *db.Tx, source string, proof policy.Tier, now time.Time) error {
	r.sightings[source] = proof
	_, err := tx.Exec(`INSERT INTO keyring_sightings (entry_id, source, org_id, proof, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (entry_id, source) DO UPDATE SET proof = excluded.proof, last_seen = excluded.last_seen`,
		r.ID, source, r.Org, proof.String(), clock.Micros(now), clock.Micros(now))
	return err
}

func (r *row) unsighted(tx *db.Tx, source string) error {
	delete(r.sightings, source)
	_, err := tx.Exec("DELETE FROM keyring_sightings WHERE entry_id = ? AND source = ? AND org_id = ?", r.ID, source, r.Org)
	return err
}

// told is the clear part of a fact about an entry.
type told struct {
	Entry     string      `json:"entry"`
	Kind      policy.Seal `json:"kind"`
	Tier      policy.Tier `json:"tier"`
	Source    string      `json:"source"`
	Algorithm string      `json:"algorithm,omitempty"`
	Reason    string      `json:"reason,omitempty"`
}

// record writes what happened to an entry into its history and the ledger.
func (r *row) record(tx *db.Tx, event ledger.Type, reason string, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO keyring_history (entry_id, n, org_id, at, event, tier, source, reason)
		SELECT ?, coalesce(max(n), 0) + 1, ?, ?, ?, ?, ?, ? FROM keyring_history WHERE entry_id = ?`,
		r.ID, r.Org, clock.Micros(now), string(event), r.Tier.String(), r.Source, reason, r.ID)
	if err != nil {
		return fmt.Errorf("write the history of a key: %w", err)
	}
	return ledger.Append(tx, ledger.Fact{
		Type: event, At: now, Key: r.key,
		Data:    told{r.ID.Text(id.Key), r.Kind, r.Tier, r.Source, r.Algorithm, reason},
		Private: named{r.Address.Reveal(), r.Fingerprint.Reveal()},
	})
}

// newRow makes an entry in memory.
func (k *Keyring) newRow(org id.ID, a mail.Address, addressHMAC, printHMAC []byte, m *material, now time.Time) (*row, error) {
	key, err := k.d.Custody.NewDataKey(org)
	if err != nil {
		return nil, err
	}
	r := &row{m: m, key: key, keyID: key.ID, addressHMAC: addressHMAC, printHMAC: printHMAC, sightings: map[string]policy.Tier{}}
	r.Entry = Entry{ID: id.New(), Org: org, Address: a, Kind: m.kind, Algorithm: m.algorithm(now),
		Fingerprint: private.NewString(m.fingerprint), FirstSeen: now, LastSeen: now, Expires: m.expires()}
	return r, nil
}

// rows reads the entries of an address, in a transaction of its own.
func (k *Keyring) rows(ctx context.Context, org id.ID, a mail.Address) (rows []*row, err error) {
	hmac, err := k.d.Custody.Index(org, addressLabel, a.Normal())
	if err != nil {
		return nil, err
	}
	err = k.d.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		rows, err = k.load(tx, hmac)
		return err
	})
	if fault.Is(err, fault.NotFound) { // the organization's keys are destroyed
		return nil, nil
	}
	return rows, err
}
