package spool_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

func ids(items []spool.Item) (all []id.ID) {
	for _, it := range items {
		all = append(all, it.ID)
	}
	return all
}

func TestTakeGivesTheLongestDueFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		now := s.clk.Now()
		put := func(g given, ahead time.Duration) spool.Delivery {
			g.nextAt = now.Add(ahead)
			_, d := s.one(g)
			return d
		}
		// The ids' order is not the order in which they are due.
		third := put(given{}, -time.Second)
		second := put(given{state: spool.Scheduled}, -time.Minute)
		first := put(given{org: s.other, state: spool.Deferred}, -time.Hour)
		put(given{state: spool.Held}, -time.Hour)
		put(given{owner: s.runs[2]}, -time.Hour)
		later := put(given{state: spool.Scheduled}, time.Microsecond)
		if got, want := ids(s.takeOf(s.runs[1], 1, item(first).Line(), item(second).Line())), []id.ID{first.ID, second.ID}; !slices.Equal(got, want) {
			t.Errorf("took %v, want %v", got, want)
		}
		rest := s.take(s.runs[1])
		if !slices.Equal(ids(rest), []id.ID{third.ID}) {
			t.Fatalf("then took %v, want %v", rest, third.ID)
		}
		if rest[0] != item(third) {
			t.Errorf("took %+v, want %+v", rest[0], item(third))
		}
		s.clk.Advance(time.Microsecond)
		if got := s.take(s.runs[2]); !slices.Equal(ids(got), []id.ID{later.ID}) {
			t.Errorf("when it is due took %v", got)
		}
	})
}

func TestManyDueAtOnceComeInOrderOfAcceptance(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		var to []string
		for i := range 100 {
			to = append(to, fmt.Sprintf("p%d@home.example", i))
		}
		_, all := s.accept(given{}, to...)
		got := s.take(s.runs[1])
		for i := range got {
			if got[i].ID != all[i].ID {
				t.Fatalf("place %d has another delivery than was accepted there", i)
			}
		}
		if len(got) != len(all) {
			t.Errorf("%d taken", len(got))
		}
	})
}

// TestTakersPassEachOther: on PostgreSQL two nodes take side by side.
func TestTakersPassEachOther(t *testing.T) {
	s := newSite(t, dbtest.PostgreSQL(t))
	var all []spool.Delivery
	for range 10 {
		_, d := s.one(given{})
		all = append(all, d)
	}
	line := item(all[0]).Line()
	var first, second []spool.Item
	var err error
	s.check(s.db.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		if first, err = spool.Take(tx, s.runs[1], s.clk.Now(), []spool.Want{{Line: line, N: 4}}); err != nil {
			return err
		}
		soon, cancel := context.WithTimeout(ctx, 5*time.Second) // it must not wait for the first
		defer cancel()
		return s.db.WriteAlone(soon, db.System, func(tx *db.Tx) (err error) {
			second, err = spool.Take(tx, s.runs[2], s.clk.Now(), []spool.Want{{Line: line, N: 10}})
			return err
		})
	}))
	if len(first) != 4 || len(second) != 6 || slices.ContainsFunc(second, func(it spool.Item) bool { return slices.Contains(first, it) }) {
		t.Errorf("%d and %d taken", len(first), len(second))
	}
}

// TestTakingUsesThePartialIndexes, so that its cost does not grow with what is
// held, owned or sent long ago, nor with the length of lines.
func TestTakingUsesThePartialIndexes(t *testing.T) {
	type query struct {
		text, index string
		args        []any
	}
	byOne := []any{int64(0), "", id.New()}
	all := map[db.Dialect][]query{
		db.SQLite: {
			{spool.LinesLite, "SEARCH spool_unsettled USING INDEX spool_unsettled_lines ((lane,domain,org_id,next_at)>(?,?,?,?))", append(slices.Clone(byOne), 10)},
			{spool.LinesLite, "SEARCH n USING INDEX spool_unsettled_lines ((lane,domain,org_id,next_at)>(?,?,?,?))", append(slices.Clone(byOne), 10)},
			{spool.DueInLine, "spool_unsettled_lines (lane=? AND domain=? AND org_id=? AND next_at<?)", append(slices.Clone(byOne), int64(0), 10)},
		},
		db.PostgreSQL: {
			{spool.LinesPostgres, `"Index Cond": "(ROW(lane, domain, org_id, next_at) > ROW(line_1.lane, line_1.domain, line_1.org_id, '9223372036854775807'::bigint))"`, append(slices.Clone(byOne), 10)},
			{spool.DueInLines, `"Index Cond": "((lane = ANY (ARRAY[want.lane])) AND (domain = want.domain) AND (org_id = want.org_id) AND (next_at <=`,
				[]any{[]int64{1}, []string{""}, [][]byte{{1}}, []int64{1}, int64(0)}},
		},
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for _, q := range append(all[d.Dialect],
			query{spool.DueLately, "spool_unsettled_due", []any{int64(0), int64(0), 10}}, query{spool.DueNotices, "spool_notices_due", []any{int64(0), 10}},
			query{spool.OldReports, "spool_notices_about_none", []any{id.New(), int64(0), 10}}) {
			got := dbtest.Explain(t, d, q.text, q.args...)
			if !strings.Contains(got, q.index) || strings.Contains(got, "B-TREE FOR ORDER") || strings.Contains(got, `"Node Type": "Sort"`) && q.text != spool.DueLately {
				t.Errorf("%s is not read in its order:\n%s", q.index, got)
			}
		}
	})
}

// TestShortLinesCostWhatTheyHold: a line that gives less than was asked for ends
// there, and is not looked for in all that stands behind it; also when the
// planner believes that there is one line, as there was once.
func TestShortLinesCostWhatTheyHold(t *testing.T) {
	d := dbtest.PostgreSQL(t) // SQLite tells no such figure
	now := time.Now()
	if err := spooltest.Preload(ctx, d, spooltest.Load{Deliveries: 12_000, Domains: 4000, Orgs: 1, DueAt: now}); err != nil {
		t.Fatal(err)
	}
	var lines []spool.Head
	if err := d.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		lines, err = spool.Lines(tx, spool.Line{}, 100)
		return err
	}); err != nil || len(lines) != 100 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	const oneLine = `ALTER TABLE spool_unsettled ALTER COLUMN lane SET (n_distinct = 1), ALTER COLUMN domain SET (n_distinct = 1), ALTER COLUMN org_id SET (n_distinct = 1)`
	for believed, statements := range map[string][]string{"what is": nil, "one line": {oneLine, "ANALYZE spool_unsettled"}} {
		rows, pages := costOfTaking(t, d, lines, now.Add(time.Hour), statements...)
		if most := 25 * len(lines); rows != 300 || pages > most {
			t.Errorf("believing %s: %d pages read for %d deliveries in 100 lines of 3, want at most %d", believed, pages, rows, most)
		}
	}
}

// costOfTaking asks PostgreSQL what taking from lines gives and how many pages
// it looks at, after some statements, and leaves all as it was.
func costOfTaking(t *testing.T, d *db.DB, lines []spool.Head, now time.Time, statements ...string) (rows, pages int) {
	t.Helper()
	var lanes, ns []int64
	var domains []string
	var orgs [][]byte
	for _, l := range lines {
		lanes, domains, orgs, ns = append(lanes, int64(l.Lane)), append(domains, l.Domain), append(orgs, l.Org.Bytes()), append(ns, 50)
	}
	var text string
	asItWas := errors.New("as it was")
	if err := d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		err := tx.Row("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+spool.DueInLines, lanes, domains, orgs, ns, clock.Micros(now)).Scan(&text)
		return cmp.Or(err, asItWas)
	}); err != asItWas {
		t.Fatal(err)
	}
	var plans []struct {
		Plan struct {
			Rows int `json:"Actual Rows"`
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatal(text, err)
	}
	return plans[0].Plan.Rows, plans[0].Plan.Hit + plans[0].Plan.Read
}

func TestWhatADeadRunLeft(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		dead, alive := s.runs[1], s.runs[2]
		_, ready := s.one(given{owner: dead})
		m, sending := s.one(given{owner: dead})
		s.step(t, sending, starts(1), model{spool.Ready, 1, 0})
		_, other := s.one(given{owner: alive})
		notice := s.notice(m, sending, "code:1", dead)
		system := func(fn func(tx *db.Tx) error) { s.check(s.db.WriteAlone(ctx, db.System, fn)) }
		system(func(tx *db.Tx) error {
			owners, err := spool.Owners(tx)
			slices.SortFunc(owners, func(a, b id.ID) int { return strings.Compare(string(a[:]), string(b[:])) })
			if !slices.Equal(owners, []id.ID{dead, alive}) {
				t.Errorf("owners %v", owners)
			}
			owned, oerr := spool.Owned(tx, dead)
			if len(owned) != 2 || owned[0] != item(ready) || !owned[1].Notice || owned[1].ID != notice.ID {
				t.Errorf("owned and not begun: %+v", owned)
			}
			if err == nil {
				err = oerr
			}
			return err
		})
		var left []spool.Item
		system(func(tx *db.Tx) (err error) {
			if err := spool.Release(tx, dead); err != nil {
				return err
			}
			left, err = spool.Abandoned(tx, dead, 10)
			return err
		})
		if !slices.Equal(left, []spool.Item{item(sending)}) {
			t.Fatalf("abandoned: %+v", left)
		}
		for range 2 { // a second heir finds nothing to do
			s.check(spool.TakeOver(ctx, d, left[0], dead, s.clk.Now()))
		}
		now := s.delivery(sending)
		if now.Attempts != 1 || now.State != spool.Ready || now.Reason != spool.ReasonUnknown {
			t.Errorf("taken over: %+v", now)
		}
		var fact struct {
			Number         int
			Result, Reason string
		}
		s.read(s.org, func(tx *db.Tx) error {
			events, err := ledger.ForDelivery(tx, sending.Message, sending.ID)
			if err != nil {
				return err
			}
			return json.Unmarshal(events[len(events)-1].Data, &fact)
		})
		if fact.Number != 1 || fact.Result != spool.ResultUnknown || fact.Reason != "node_died" {
			t.Errorf("the ledger says %+v", fact)
		}
		if got := s.take(alive); len(got) != 2 || slices.Contains(ids(got), other.ID) {
			t.Errorf("taken: %v", got)
		}
	})
}

// notice posts one about a delivery.
func (s *site) notice(m spool.Message, d spool.Delivery, once string, owner id.ID) spool.Notice {
	s.t.Helper()
	n := spool.Notice{ID: id.New(), Org: m.Org, Message: m.ID, Delivery: d.ID, Kind: spool.KindCode, Once: once, Key: m.Key,
		To: address(s.t, canary+".to@home.example"), Text: private.NewBytes([]byte(canary + " notice")), CreatedAt: s.clk.Now(), ExpiresAt: s.clk.Now().Add(10 * time.Minute)}
	s.write(m.Org, func(tx *db.Tx) error {
		posted, err := spool.PostNotice(tx, n, owner)
		if err == nil && !posted {
			err = fmt.Errorf("not posted")
		}
		return err
	})
	return n
}

func TestNotices(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, dl := s.one(given{})
		run := s.runs[1]
		first := s.notice(m, dl, "code:1", id.ID{})
		twice := first
		twice.ID = id.New()
		s.write(s.org, func(tx *db.Tx) error {
			if posted, err := spool.PostNotice(tx, twice, id.ID{}); posted || err != nil {
				t.Errorf("the same notice is posted twice: %v", err)
			}
			return nil
		})
		s.clk.Advance(time.Second)
		second := s.notice(m, dl, "code:2", id.ID{})
		take := func() (items []spool.Item) {
			s.check(d.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
				items, err = spool.TakeNotices(tx, run, s.clk.Now(), 10)
				return err
			}))
			return items
		}
		items := take()
		if !slices.Equal(ids(items), []id.ID{first.ID, second.ID}) || !items[0].Notice || items[0].Domain != "home.example" {
			t.Fatalf("taken: %+v", items)
		}
		if more := take(); len(more) != 0 {
			t.Errorf("taken again: %+v", more)
		}
		var n spool.Notice
		s.read(s.org, func(tx *db.Tx) (err error) {
			n, err = spool.LoadNotice(tx, s.keys, first.ID)
			return err
		})
		if string(n.Text.Reveal()) != canary+" notice" || n.To != first.To || n.Domain != "home.example" || !n.ExpiresAt.Equal(first.ExpiresAt) {
			t.Errorf("loaded %+v", n)
		}
		in := func(fn func(tx *db.Tx) (bool, error)) (done bool) {
			s.write(s.org, func(tx *db.Tx) (err error) {
				done, err = fn(tx)
				return err
			})
			return done
		}
		finish := func(n spool.Notice, run id.ID, o spool.Outcome) bool {
			o.At = s.clk.Now()
			return in(func(tx *db.Tx) (bool, error) { return spool.FinishNotice(tx, n, run, o) })
		}
		start := func(it spool.Item, run id.ID) bool {
			return in(func(tx *db.Tx) (bool, error) { return spool.StartNotice(tx, it, run) })
		}
		if start(items[0], s.runs[2]) || !start(items[0], run) || start(items[0], run) {
			t.Error("a notice is begun once, by its owner")
		}
		if finish(n, s.runs[2], spool.Outcome{State: spool.Delivered}) {
			t.Error("another run finished it")
		}
		if !finish(n, run, spool.Outcome{State: spool.Deferred, NextAt: s.clk.Now().Add(time.Minute)}) || len(take()) != 0 {
			t.Error("a deferred notice is due at once")
		}
		s.clk.Advance(time.Minute)
		if again := take(); !slices.Equal(ids(again), []id.ID{first.ID}) || !start(again[0], run) {
			t.Errorf("due again: %+v", again)
		}
		s.check(spool.TakeOver(ctx, d, items[0], run, s.clk.Now()))
		if again := take(); len(again) != 1 || !start(again[0], run) {
			t.Errorf("after the run's death: %+v", again)
		}
		s.write(s.org, func(tx *db.Tx) error { return spool.GiveBack(tx, items[0], run) })
		if again := take(); len(again) != 1 {
			t.Errorf("given back: %+v", again)
		}
		if !finish(n, run, spool.Outcome{State: spool.Delivered, Attempt: &spool.Attempt{Evidence: &spool.Evidence{Grade: policy.Verified}}}) {
			t.Error("not finished")
		}
		for i, state := range []spool.State{spool.Failed, spool.Expired} {
			third := s.notice(m, dl, fmt.Sprintf("dsn:%d", i), run)
			third.Domain = "home.example"
			if !finish(third, run, spool.Outcome{State: state, Reason: "why"}) || finish(third, run, spool.Outcome{State: state}) {
				t.Errorf("%s is not final", state)
			}
		}
		var sealed int
		s.read(s.org, func(tx *db.Tx) error {
			return tx.Row("SELECT count(*) FROM spool_notices WHERE state IN ('delivered', 'failed', 'expired') AND length(sealed) > 0").Scan(&sealed)
		})
		if sealed != 0 {
			t.Error("a settled notice keeps its text")
		}
		if got := s.told(dl); !slices.Equal(got, []ledger.Type{ledger.NoticeSent, ledger.NoticeFailed, ledger.NoticeFailed}) {
			t.Errorf("the ledger says %v", got)
		}
	})
}
