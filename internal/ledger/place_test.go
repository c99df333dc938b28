package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

var ctx = context.Background()

// appendMany writes n entries that tell their order.
func appendMany(t testing.TB, d *db.DB, org id.ID, from, n int) {
	t.Helper()
	facts := make([]ledger.Fact, n)
	for i := range facts {
		facts[i] = ledger.Fact{Type: ledger.DeliveryAttempted, Message: org, At: when, Data: evidence{N: from + i}}
	}
	appendFacts(t, d, org, facts...)
}

func place(t testing.TB, d *db.DB, limit int) int {
	t.Helper()
	n, err := ledger.Place(ctx, d, limit)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// leaves reads an organization's leaves by position.
func leaves(t testing.TB, d *db.DB, org id.ID) (out [][]byte) {
	t.Helper()
	if err := d.Read(ctx, org, func(tx *db.Tx) error {
		rows, err := tx.Query(`SELECT p.seq, e.leaf FROM ledger_positions p JOIN ledger_entries e ON e.num = p.num
			WHERE p.org_id = ? ORDER BY p.seq`, org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seq int64
			var leaf []byte
			if err := rows.Scan(&seq, &leaf); err != nil {
				return err
			}
			if seq != int64(len(out)) {
				return fmt.Errorf("position %d, want %d", seq, len(out))
			}
			out = append(out, leaf)
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// plainTree computes roots without tiles.
func plainTree(t testing.TB, leaves [][]byte) tlog.HashReader {
	t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i, leaf := range leaves {
		h, err := tlog.StoredHashes(int64(i), leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
	}
	return reader
}

func TestTilesGiveTheTreeOfRFC6962(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		org := id.New()
		total := 0
		for _, n := range []int{1, 1, 253, 1, 1, 255, 1, 700} { // around the widths of tiles
			appendMany(t, d, org, total, n)
			total += n
			if got := place(t, d, 0); got != n {
				t.Fatalf("placed %d, want %d", got, n)
			}
		}
		all := leaves(t, d, org)
		if len(all) != total {
			t.Fatalf("%d leaves, want %d", len(all), total)
		}
		plain := plainTree(t, all)
		roots := map[int64]tlog.Hash{}
		for _, size := range []int64{0, 1, 2, 3, 254, 255, 256, 257, 511, 512, 513, 1000, int64(total)} {
			got, err := ledger.Root(ctx, d, org, size)
			want, _ := tlog.TreeHash(size, plain)
			if err != nil || got != want {
				t.Errorf("root of %d: %v, %v", size, got, err)
			}
			roots[size] = got
		}
		size := int64(total)
		for _, seq := range []int64{0, 255, 256, 700, size - 1} {
			p, err := ledger.ProveEntry(ctx, d, org, size, seq)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckRecord(p, size, roots[size], seq, tlog.RecordHash(all[seq])); err != nil {
				t.Errorf("entry %d: %v", seq, err)
			}
		}
		for _, older := range []int64{1, 255, 256, 1000} {
			p, err := ledger.ProveConsistency(ctx, d, org, size, older)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(p, size, roots[size], older, roots[older]); err != nil {
				t.Errorf("consistency with %d: %v", older, err)
			}
		}
		if _, err := ledger.Root(ctx, d, org, size+1); !fault.Is(err, fault.Invalid) {
			t.Errorf("a root beyond the tree: %v", err)
		}
	})
}

// The tree stands six entries in front of its third level; the tiles that it
// grows from are tlog's own.
func TestThreeLevelsOfTiles(t *testing.T) {
	d := dbtest.SQLite(t)
	org := id.New()
	const before = 256*256 - 6
	old := make([][]byte, before)
	for i := range old {
		old[i] = fmt.Appendf(nil, "leaf %d", i)
	}
	plain := plainTree(t, old)
	for _, tile := range tlog.NewTiles(8, 0, before) {
		data, err := tlog.ReadTileData(tile, plain)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, d, "INSERT INTO ledger_tiles (org_id, level, n, data) VALUES (?, ?, ?, ?)", org, tile.L, tile.N, data)
	}
	exec(t, d, "INSERT INTO ledger_heads (org_id, size, checkpoint_size, checkpoint_at) VALUES (?, ?, 0, 0)", org, before)
	appendMany(t, d, org, 0, 10)
	place(t, d, 0)
	var fresh [][]byte
	if err := d.Read(ctx, org, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT e.leaf FROM ledger_positions p JOIN ledger_entries e ON e.num = p.num WHERE p.seq >= ? ORDER BY p.seq", before)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var leaf []byte
			if err := rows.Scan(&leaf); err != nil {
				return err
			}
			fresh = append(fresh, leaf)
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	plain = plainTree(t, append(old, fresh...))
	for size := int64(before); size <= before+10; size++ {
		want, _ := tlog.TreeHash(size, plain)
		if got, err := ledger.Root(ctx, d, org, size); err != nil || got != want {
			t.Errorf("root of %d: %v, %v", size, got, err)
		}
	}
}

func TestPlacingIsFairAndBounded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		busy, last := id.ID{}, id.ID{}
		for i := range last {
			last[i] = 0xff // the id with no successor
		}
		orgs := []id.ID{busy, last}
		for range 5 {
			orgs = append(orgs, id.New())
		}
		appendMany(t, d, busy, 0, 2500) // the zero id is the first in order
		for _, org := range orgs[1:] {
			appendMany(t, d, org, 0, 3)
		}
		if got := place(t, d, 10); got != 10 {
			t.Fatalf("placed %d, want the limit", got)
		}
		if got := place(t, d, 2018); got != 2018 {
			t.Fatalf("placed %d, want the limit", got)
		}
		for _, org := range orgs[1:] {
			if n := len(leaves(t, d, org)); n != 3 {
				t.Errorf("a busy organization kept %s waiting: %d of 3", org.Text(id.Org), n)
			}
		}
		if got := place(t, d, 0); got != 2500+18-2028 {
			t.Errorf("placed %d of the rest", got)
		}
		if got := place(t, d, 0); got != 0 {
			t.Errorf("placed %d of nothing", got)
		}
	})
}

// Two nodes place at once while writers commit lower numbers behind higher ones.
func TestTwoNodesPlaceAtOnce(t *testing.T) {
	url := dbtest.PostgresURL(t)
	var nodes [2]*db.DB
	for i := range nodes {
		d, err := db.Open(ctx, db.Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		nodes[i] = d
	}
	if _, err := nodes[0].Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	orgs := []id.ID{id.New(), id.New(), id.New()}

	// A transaction takes a number and commits only after a later one was placed.
	took, commit, held := make(chan bool), make(chan bool), make(chan error)
	go func() {
		held <- nodes[0].WriteAlone(ctx, orgs[0], func(tx *db.Tx) error {
			err := ledger.Append(tx, ledger.Fact{Type: ledger.OrgCreated, At: when})
			took <- true
			<-commit
			return err
		})
	}()
	<-took
	appendMany(t, nodes[1], orgs[0], 0, 1)
	if got := place(t, nodes[1], 0); got != 1 {
		t.Fatalf("placed %d, want only what is committed", got)
	}

	writing, stop := sync.WaitGroup{}, make(chan bool)
	const each = 60
	for w := range 6 {
		writing.Go(func() {
			object := id.New()
			for i := range each {
				if err := nodes[w%2].Write(ctx, orgs[w%3], func(tx *db.Tx) error {
					return ledger.Append(tx, ledger.Fact{Type: ledger.DeliveryAttempted, Message: object, At: when, Data: evidence{N: i}})
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var placing sync.WaitGroup
	for i := range 4 {
		placing.Go(func() {
			for {
				if _, err := ledger.Place(ctx, nodes[i%2], 0); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(commit)
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	close(stop)
	placing.Wait()
	place(t, nodes[0], 0)

	for i, org := range orgs {
		want := 2 * each
		if i == 0 {
			want += 2
		}
		all := leaves(t, nodes[0], org) // checks that positions have no gap
		if len(all) != want {
			t.Errorf("%d positions, want %d", len(all), want)
			continue
		}
		root, err := ledger.Root(ctx, nodes[1], org, int64(want))
		plain, _ := tlog.TreeHash(int64(want), plainTree(t, all))
		if err != nil || root != plain {
			t.Errorf("root %v, %v", root, err)
		}
		seen := map[id.ID]int{}
		events, _, err := ledger.Read(ctx, nodes[0], org, ledger.Start, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for k, e := range events {
			if e.Type == ledger.OrgCreated && k == 0 {
				t.Error("a number that was not committed had a position")
			}
			if want := fmt.Sprintf(`{"n":%d}`, seen[e.Message]); e.Type == ledger.DeliveryAttempted && e.Message != org && string(e.Data) != want {
				t.Errorf("object out of order: %s, want %s", e.Data, want)
			}
			seen[e.Message]++
		}
	}
}

func TestOneDamagedTreeDoesNotStopTheOthers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		good, bad := id.New(), id.New()
		for _, org := range []id.ID{good, bad} {
			appendMany(t, d, org, 0, 3)
		}
		place(t, d, 0)
		exec(t, d, "DELETE FROM ledger_tiles WHERE org_id = ?", bad)
		for _, org := range []id.ID{good, bad} {
			appendMany(t, d, org, 3, 2)
		}
		n, err := ledger.Place(ctx, d, 0)
		if n != 2 || fault.From(err).Reason != "ledger_damaged" {
			t.Fatalf("placed %d, %v", n, err)
		}
		if got := len(leaves(t, d, good)); got != 5 {
			t.Fatalf("%d positions", got)
		}
	})
}

func exec(t testing.TB, d *db.DB, query string, args ...any) {
	t.Helper()
	if err := d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		n, err := tx.Exec(query, args...)
		if err == nil && n == 0 {
			return errors.New("nothing was changed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestReadingBehindACursor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		org, other := id.New(), id.New()
		appendMany(t, d, org, 0, 7)
		appendMany(t, d, other, 0, 1)
		place(t, d, 0)
		behind := func() []id.ID {
			orgs, err := ledger.OrgsBehind(ctx, d, "dsn", 10)
			if err != nil {
				t.Fatal(err)
			}
			return orgs
		}
		if got := behind(); len(got) != 2 || !slices.Contains(got, org) || !slices.Contains(got, other) {
			t.Fatalf("behind: %v", got)
		}
		var seqs []int64
		for {
			done := false
			if err := d.WriteAlone(ctx, org, func(tx *db.Tx) error {
				from, err := ledger.Cursor(tx, "dsn")
				if err != nil {
					return err
				}
				events, next, err := ledger.ReadTx(tx, from, 3)
				if done = len(events) == 0; err != nil || done {
					return err
				}
				for _, e := range events {
					if string(e.Data) != fmt.Sprintf(`{"n":%d}`, e.Seq) || e.V != 1 || !e.At.Equal(when) || e.Type != ledger.DeliveryAttempted {
						t.Errorf("event %+v", e)
					}
					seqs = append(seqs, e.Seq)
				}
				return ledger.Advance(tx, "dsn", from, next)
			}); err != nil {
				t.Fatal(err)
			}
			if done {
				break
			}
		}
		if !reflect.DeepEqual(seqs, []int64{0, 1, 2, 3, 4, 5, 6}) {
			t.Errorf("read %v", seqs)
		}
		if got := behind(); len(got) != 1 || got[0] != other {
			t.Errorf("behind: %v", got)
		}
		for _, from := range []int64{ledger.Start, 2} { // a slower reader of the same name
			err := d.Write(ctx, org, func(tx *db.Tx) error { return ledger.Advance(tx, "dsn", from, 6) })
			if !errors.Is(err, ledger.ErrCursorMoved) {
				t.Errorf("from %d: %v", from, err)
			}
		}
	})
}

func TestAMissingEntryIsNotSkipped(t *testing.T) {
	d := dbtest.SQLite(t)
	org := id.New()
	appendMany(t, d, org, 0, 5)
	place(t, d, 0)
	exec(t, d, "DELETE FROM ledger_entries WHERE num = 3")
	events, next, err := ledger.Read(ctx, d, org, ledger.Start, 10)
	if err != nil || len(events) != 2 || next != 1 {
		t.Fatalf("%d events up to %d, %v", len(events), next, err)
	}
	if _, next, err = ledger.Read(ctx, d, org, next, 10); fault.From(err).Reason != "ledger_damaged" || next != 1 {
		t.Fatalf("behind the gap: %d, %v", next, err)
	}
}

type person struct{ Name string }

func TestByObjectAndPrivatePart(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		org, msg, dlv := id.New(), id.New(), id.New()
		c := custodytest.New(t, d, org)
		key, err := c.NewDataKey(org)
		if err != nil {
			t.Fatal(err)
		}
		appendFacts(t, d, org,
			ledger.Fact{Type: ledger.MessageAccepted, Message: msg, At: when},
			ledger.Fact{Type: ledger.DeliverySealed, Message: msg, Delivery: dlv, At: when, Private: person{"Ada"}, Key: key},
		)
		place(t, d, 0)
		appendFacts(t, d, org, // stays unplaced
			ledger.Fact{Type: ledger.DeliveryDelivered, Message: msg, Delivery: dlv, At: when.Add(time.Second)},
			ledger.Fact{Type: ledger.DeliveryFailed, Message: msg, Delivery: id.New(), At: when})
		read := func(org id.ID, fn func(tx *db.Tx) ([]ledger.Event, error)) (events []ledger.Event) {
			t.Helper()
			if err := d.Read(ctx, org, func(tx *db.Tx) (err error) { events, err = fn(tx); return err }); err != nil {
				t.Fatal(err)
			}
			return events
		}
		ofDelivery := func(tx *db.Tx) ([]ledger.Event, error) { return ledger.ForDelivery(tx, msg, dlv) }
		ofMessage := func(tx *db.Tx) ([]ledger.Event, error) { return ledger.ForMessage(tx, msg) }
		events := read(org, ofDelivery)
		if len(events) != 2 || events[0].Type != ledger.DeliverySealed || events[1].Type != ledger.DeliveryDelivered || events[1].Delivery != dlv {
			t.Fatalf("events %+v", events)
		}
		if got := read(org, ofMessage); len(got) != 4 {
			t.Errorf("%d events of the message", len(got))
		}
		if got := read(id.New(), ofMessage); len(got) != 0 {
			t.Errorf("another organization sees %d events", len(got))
		}
		var p person
		if err := ledger.OpenPrivate(key, events[0], &p); err != nil || p.Name != "Ada" || events[0].Key != key.ID {
			t.Errorf("private part %+v, %v", p, err)
		}
		if err := ledger.OpenPrivate(key, events[1], &p); err == nil || events[1].HasPrivate() {
			t.Error("a private part out of nothing")
		}
		moved := events[0]
		moved.ID = id.New()
		if err := ledger.OpenPrivate(key, moved, &p); err == nil {
			t.Error("a private part opened in another entry")
		}
		err = d.Write(ctx, id.New(), func(tx *db.Tx) error {
			return ledger.Append(tx, ledger.Fact{Type: ledger.OrgCreated, At: when, Private: person{"Ada"}, Key: key})
		})
		if err == nil {
			t.Error("sealed under the key of another organization")
		}
	})
}
