package retain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// item names what was destroyed of one message.
type item struct{ message, key, blob id.ID }

const itemSize = 3 * 16

// line is how an item is hashed and shown.
func (i item) line() string {
	return i.message.Text(id.Message) + " " + i.key.Text(id.DataKey) + " " + i.blob.Text(id.Blob) + "\n"
}

func sumOf(items []item) string {
	h := sha256.New()
	for _, i := range items {
		h.Write([]byte(i.line()))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func pack(items []item) []byte {
	b := make([]byte, 0, len(items)*itemSize)
	for _, i := range items {
		b = append(append(append(b, i.message[:]...), i.key[:]...), i.blob[:]...)
	}
	return b
}

func unpack(b []byte) (items []item) {
	for ; len(b) >= itemSize; b = b[itemSize:] {
		items = append(items, item{id.ID(b[:16]), id.ID(b[16:32]), id.ID(b[32:itemSize])})
	}
	return items
}

// settle destroys what a stage may destroy of a message, or gives why not.
func (b *batch) settle(stage Stage, m spool.Kept) (Reason, error) {
	why, deliveries, err := b.look(stage, m)
	if err != nil {
		return "", err
	}
	if why != "" {
		b.left[why]++
		return why, nil
	}
	if err := b.destroy(stage, m, deliveries); err != nil {
		return "", err
	}
	g := b.groups[m.Purpose]
	if g == nil {
		g = &group{}
		b.groups[m.Purpose] = g
	}
	g.items = append(g.items, item{m.ID, m.Key, m.Blob})
	if !m.BodyGone {
		g.octets += m.Size
		b.octets += m.Size
	}
	return "", nil
}

// destroy does everything up to the stage that was not done before.
func (b *batch) destroy(stage Stage, m spool.Kept, deliveries []spool.KeptDelivery) error {
	if !m.BodyGone {
		if err := b.r.s.Blob.Delete(b.tx, m.Blob); err != nil {
			return err
		}
	}
	if stage == Bodies {
		return spool.ForgetBody(b.tx, m.ID, b.now)
	}
	if !m.Gone {
		if err := b.r.s.Custody.DestroyDataKey(b.tx, m.Key); err != nil {
			return err
		}
	}
	if stage == Metadata {
		return spool.ForgetContent(b.tx, m.ID, b.now)
	}
	for _, d := range deliveries {
		if err := pickup.ForgetDelivery(b.tx, d.ID); err != nil {
			return err
		}
	}
	return spool.ForgetRecord(b.tx, m.ID)
}

// purgedFact is the clear part of retention.purged. Items are what "sealpost
// retention proof" prints: a line for each message, in the order of their ids.
type purgedFact struct {
	Run         string         `json:"run"`
	Destroyed   Stage          `json:"destroyed"`
	Purpose     policy.Purpose `json:"purpose"`
	Count       int            `json:"count"`
	First       string         `json:"first"`
	Last        string         `json:"last"`
	Octets      int64          `json:"octets"`
	ItemsSHA256 string         `json:"items_sha256"`
	Policy      int64          `json:"retention_version"`
}

// record writes the proof of what the batch destroyed, in its transaction.
func (b *batch) record() error {
	for _, purpose := range policy.Purposes() {
		g := b.groups[purpose]
		if g == nil {
			continue
		}
		slices.SortFunc(g.items, func(x, y item) int { return bytes.Compare(x.message[:], y.message[:]) })
		num, err := ledger.AppendNumbered(b.tx, ledger.Fact{Type: ledger.RetentionPurged, At: b.now, Data: purgedFact{
			Run: b.r.result.Run.Text(id.Run), Destroyed: b.stage, Purpose: purpose, Count: len(g.items),
			First: g.items[0].message.Text(id.Message), Last: g.items[len(g.items)-1].message.Text(id.Message),
			Octets: g.octets, ItemsSHA256: sumOf(g.items), Policy: b.policy.Version,
		}})
		if err != nil {
			return err
		}
		if _, err := b.tx.Exec("INSERT INTO retain_destroyed (id, org_id, run_id, stage, purpose, items, num, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			id.New(), b.tx.Org(), b.r.result.Run, string(b.stage), string(purpose), pack(g.items), num, clock.Micros(b.now)); err != nil {
			return err
		}
	}
	return nil
}
