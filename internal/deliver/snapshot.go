package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

const (
	tellEvery = 2 * time.Second
	tellMost  = 300 // sites of one run
)

// Snapshot is what one living run last said of its sites. It stands in the
// run's own row, so that whoever can read the database sees all nodes, and
// nobody else sees which domains mail goes to.
type Snapshot struct {
	Node  string     `json:"node"`
	At    time.Time  `json:"at"`
	Sites []SiteStat `json:"-"`
	More  int        `json:"more_sites"` // that did not fit
}

// told is the document of a snapshot.
type told struct {
	Sites []SiteStat `json:"sites"`
	More  int        `json:"more"`
}

// tellStats writes down how the sites stand, while anything is going on.
func (e *Engine) tellStats() {
	defer e.loops.Done()
	last := ""
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.Clock.After(tellEvery):
		}
		text, busy := e.statsText()
		if !busy && text == last {
			continue
		}
		err := e.DB.Write(e.ctx, db.System, func(tx *db.Tx) error {
			now, err := tx.Now()
			if err == nil {
				_, err = tx.Exec("UPDATE deliver_runs SET stats = ?, stats_at = ? WHERE id = ?", text, now, e.lease.run())
			}
			return err
		})
		if err == nil {
			last = text
		}
	}
}

func (e *Engine) statsText() (text string, busy bool) {
	t := told{Sites: e.Stats()}
	busy = len(t.Sites) > 0
	slices.SortStableFunc(t.Sites, SiteStat.Before)
	if len(t.Sites) > tellMost {
		t.Sites, t.More = t.Sites[:tellMost], len(t.Sites)-tellMost
	}
	b, _ := json.Marshal(t) // words, numbers and times
	return string(b), busy
}

// Snapshots gives what each living run said last, of all nodes.
func Snapshots(ctx context.Context, d *db.DB) (all []Snapshot, err error) {
	err = d.Read(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		all, err = db.All(tx, scanSnapshot, "SELECT node, stats, stats_at FROM deliver_runs WHERE heartbeat_at > ? ORDER BY node, id",
			now-defaultLease.Microseconds())
		return err
	})
	return all, err
}

func scanSnapshot(row db.Row) (s Snapshot, err error) {
	var text string
	var at int64
	if err := row.Scan(&s.Node, &text, &at); err != nil || text == "" {
		return s, err
	}
	var t told
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return s, errors.New("a run's stored figures do not parse")
	}
	s.At, s.Sites, s.More = clock.FromMicros(at), t.Sites, t.More
	return s, nil
}
