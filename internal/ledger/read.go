package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Start is the cursor in front of the first entry, whose position is 0.
const Start int64 = -1

// Event is an entry as it is read back.
type Event struct {
	ID       id.ID
	Seq      int64 // -1 from ForDelivery and ForMessage, which read by object
	Type     Type
	V        int
	At       time.Time
	Message  id.ID
	Delivery id.ID
	Data     json.RawMessage // an object; "{}" if the entry has none
	Key      id.ID           // data key of the private part, or zero
	box      []byte
}

// stored is the form of a leaf.
type stored struct {
	V        int             `json:"v"`
	ID       string          `json:"id"`
	Org      string          `json:"org"`
	Type     Type            `json:"type"`
	At       time.Time       `json:"at"`
	Message  string          `json:"message_id"`
	Delivery string          `json:"delivery_id"`
	Data     json.RawMessage `json:"data"`
	Private  *struct {
		Key string `json:"key"`
		Box []byte `json:"box"`
	} `json:"private"`
}

// decode reads a leaf that this organization wrote.
func decode(org id.ID, leaf []byte) (Event, error) {
	var s stored
	if err := json.Unmarshal(leaf, &s); err != nil {
		return Event{}, damaged(org, "an entry cannot be read")
	}
	e := Event{Seq: Start, Type: s.Type, V: s.V, At: s.At, Data: s.Data}
	if len(e.Data) == 0 {
		e.Data = json.RawMessage("{}")
	}
	parse := func(prefix, text string, into *id.ID) (err error) {
		if text != "" {
			*into, err = id.Parse(prefix, text)
		}
		return err
	}
	err := errors.Join(parse(id.Event, s.ID, &e.ID), parse(id.Message, s.Message, &e.Message), parse(id.Delivery, s.Delivery, &e.Delivery))
	if s.Private != nil {
		e.box = s.Private.Box
		err = errors.Join(err, parse(id.DataKey, s.Private.Key, &e.Key))
	}
	if err != nil || s.Org != org.Text(id.Org) {
		return Event{}, damaged(org, "an entry cannot be read")
	}
	return e, nil
}

// HasPrivate reports whether the event has a private part.
func (e Event) HasPrivate() bool { return e.box != nil }

// OpenPrivate reads the private part into the struct it was written from.
func OpenPrivate(key *custody.DataKey, e Event, into any) error {
	if e.box == nil {
		return errors.New("the ledger entry has no private part")
	}
	plain, err := key.Open(PrivateLabel, e.ID, e.box)
	if err != nil {
		return fmt.Errorf("open the private part of a ledger entry: %w", err)
	}
	if json.Unmarshal(plain, into) != nil { // its error could quote content
		return errors.New("the private part of a ledger entry has an unknown form")
	}
	return nil
}

// Read gives up to limit events behind the position after, in the order of
// positions and without gaps, and the position to go on from. Entries that are
// pruned are passed over: the first event is then the oldest there is.
func Read(ctx context.Context, d *db.DB, org id.ID, after int64, limit int) (events []Event, next int64, err error) {
	err = d.Read(ctx, org, func(tx *db.Tx) error {
		events, next, err = ReadTx(tx, after, limit)
		return err
	})
	return events, next, err
}

// ReadTx is Read within a transaction.
func ReadTx(tx *db.Tx, after int64, limit int) (events []Event, next int64, err error) {
	return read(tx, after, limit, func([]byte) bool { return true })
}

// ReadTypes is ReadTx for a reader who asks for some types only. It looks at
// up to limit entries, and next is the position of the last of them, whatever
// its type; the others are not taken apart.
func ReadTypes(tx *db.Tx, after int64, limit int, types ...Type) (events []Event, next int64, err error) {
	marks := make([][]byte, len(types))
	for i, t := range types {
		marks[i] = []byte(`","type":"` + string(t) + `",`) // as encode writes it
	}
	return read(tx, after, limit, func(leaf []byte) bool {
		head := leaf[:min(len(leaf), typeWithin)]
		return slices.ContainsFunc(marks, func(m []byte) bool { return bytes.Contains(head, m) })
	})
}

// typeWithin is the part of a leaf that its type stands in: version, two ids
// and the longest type come before the time.
const typeWithin = 160

func read(tx *db.Tx, after int64, limit int, wanted func(leaf []byte) bool) (events []Event, next int64, err error) {
	pruned, err := Pruned(tx)
	if err != nil {
		return nil, after, err
	}
	next = max(after, pruned-1)
	err = eachPlaced(tx, next, limit, func(seq int64, leaf []byte) error {
		if seq != next+1 {
			return damaged(tx.Org(), fmt.Sprintf("the entry at position %d is missing", next+1))
		}
		if !wanted(leaf) {
			next = seq
			return nil
		}
		e, err := decode(tx.Org(), leaf)
		if err != nil {
			return err
		}
		e.Seq, next = seq, seq
		events = append(events, e)
		return nil
	})
	if isDamage(err) && next > max(after, pruned-1) {
		return events, next, nil // up to the damage; the next call reports it
	}
	if err != nil {
		return nil, after, err
	}
	return events, next, nil
}

// eachPlaced calls fn for the entries behind a position. leaf is valid only
// during the call.
func eachPlaced(tx *db.Tx, after int64, limit int, fn func(seq int64, leaf []byte) error) error {
	rows, err := tx.Query(`SELECT p.seq, e.leaf FROM ledger_positions p
		JOIN ledger_entries e ON e.num = p.num AND e.org_id = p.org_id
		WHERE p.org_id = ? AND p.seq > ? ORDER BY p.seq LIMIT ?`, tx.Org(), after, limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	var leaf sql.RawBytes
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq, &leaf); err != nil {
			return err
		}
		if err := fn(seq, leaf); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ForDelivery gives the events about one delivery in the order they happened,
// those without a position too.
func ForDelivery(tx *db.Tx, message, delivery id.ID) ([]Event, error) {
	return byObject(tx, `SELECT leaf FROM ledger_entries
		WHERE message_id = ? AND delivery_id = ? AND org_id = ? ORDER BY num`, message, delivery, tx.Org())
}

// ForMessage gives the events about a message and all of its deliveries.
func ForMessage(tx *db.Tx, message id.ID) ([]Event, error) {
	return byObject(tx, `SELECT leaf FROM ledger_entries
		WHERE message_id = ? AND org_id = ? ORDER BY num`, message, tx.Org())
}

// ByNumber gives the entry of a number that AppendNumbered gave, if it is not
// pruned.
func ByNumber(tx *db.Tx, num int64) (e Event, found bool, err error) {
	events, err := byObject(tx, "SELECT leaf FROM ledger_entries WHERE num = ? AND org_id = ?", num, tx.Org())
	if err != nil || len(events) == 0 {
		return e, false, err
	}
	return events[0], true, nil
}

func byObject(tx *db.Tx, query string, args ...any) ([]Event, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []Event
	var leaf sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&leaf); err != nil {
			return nil, err
		}
		e, err := decode(tx.Org(), leaf)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// Cursor is the position up to which the reader of this name has read.
func Cursor(tx *db.Tx, name string) (seq int64, err error) {
	err = tx.Row("SELECT seq FROM ledger_cursors WHERE name = ? AND org_id = ?", name, tx.Org()).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return Start, nil
	}
	return seq, err
}

// ErrCursorMoved means that another reader of the same name was quicker. What
// was done in the transaction must not be done twice, so it must roll back.
var ErrCursorMoved = fault.New(fault.Conflict, "cursor_moved", "Somebody else has read these events already.")

// Advance moves a cursor in the transaction of what its reader did with the
// events: both happen or neither. from is what Cursor said.
func Advance(tx *db.Tx, name string, from, to int64) error {
	if to < from || to < 0 {
		return fmt.Errorf("cursor %s cannot go from %d to %d", name, from, to)
	}
	query, args := "UPDATE ledger_cursors SET seq = ? WHERE name = ? AND org_id = ? AND seq = ?", []any{to, name, tx.Org(), from}
	if from == Start {
		query, args = "INSERT INTO ledger_cursors (name, org_id, seq) VALUES (?, ?, ?) ON CONFLICT (name, org_id) DO NOTHING", []any{name, tx.Org(), to}
	}
	n, err := tx.Exec(query, args...)
	if err == nil && n != 1 {
		return ErrCursorMoved
	}
	return err
}

// OrgsBehind names up to limit organizations that have entries behind the
// cursor of this name.
func OrgsBehind(ctx context.Context, d *db.DB, name string, limit int) (orgs []id.ID, err error) {
	err = d.Read(ctx, db.System, func(tx *db.Tx) error {
		orgs, err = db.All(tx, db.Value[id.ID], `SELECT h.org_id FROM ledger_heads h
			LEFT JOIN ledger_cursors c ON c.name = ? AND c.org_id = h.org_id
			WHERE h.size > COALESCE(c.seq, -1) + 1 LIMIT ?`, name, limit)
		return err
	})
	return orgs, err
}
