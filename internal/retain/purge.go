package retain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// nightHour is when a night's purge begins, in the machine's time zone.
const nightHour = 2

// What one transaction reads and destroys: little enough that writers on
// SQLite, which wait for it, do not notice.
const (
	skipMessages = 2000 // reading only
	pageMessages = 300
	batchItems   = 100
	batchOctets  = 32 << 20
)

// Result is what a run did.
type Result struct {
	Run       id.ID
	Destroyed map[Stage]map[policy.Purpose]int
	Left      map[Stage]map[Reason]int
	Pruned    int64 // ledger entries
}

func newResult(run id.ID) Result {
	return Result{Run: run, Destroyed: map[Stage]map[policy.Purpose]int{}, Left: map[Stage]map[Reason]int{}}
}

func add[K comparable](all map[Stage]map[K]int, stage Stage, key K, n int) {
	if all[stage] == nil {
		all[stage] = map[K]int{}
	}
	all[stage][key] += n
}

// Count is how many messages a stage destroyed something of.
func (r Result) Count(stage Stage) (n int) {
	for _, c := range r.Destroyed[stage] {
		n += c
	}
	return n
}

// PurgeDue runs the purge of every organization that had none since the last
// night began. A new organization's first one is in the night that follows.
// What fails for one is reported after the others are done. Nothing is done
// while the clock is in doubt.
func (s *Service) PurgeDue(ctx context.Context) error {
	orgs, err := s.Accounts.Orgs(ctx)
	if err != nil {
		return err
	}
	now := s.Clock.Now()
	if err := s.believe(ctx, now); err != nil {
		return err
	}
	var bad []error
	for _, o := range orgs {
		due, err := s.due(ctx, o.ID, now)
		if err == nil && due {
			_, err = s.purge(ctx, o.ID, now)
		}
		if ctx.Err() != nil {
			return errors.Join(append(bad, err)...)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("purge of %s: %w", o.ID.Text(id.Org), err))
		}
	}
	return errors.Join(bad...)
}

// lastNight is when the last night began.
func lastNight(now time.Time) time.Time {
	t := now.In(time.Local)
	night := time.Date(t.Year(), t.Month(), t.Day(), nightHour, 0, 0, 0, t.Location())
	if night.After(t) {
		night = night.AddDate(0, 0, -1)
	}
	return night
}

func (s *Service) due(ctx context.Context, org id.ID, now time.Time) (due bool, err error) {
	var state orgState
	if err := s.DB.Read(ctx, org, func(tx *db.Tx) (err error) { state, err = readState(tx); return err }); err != nil {
		return false, err
	}
	if state.purgedAt != 0 {
		return state.purgedAt < clock.Micros(lastNight(now)), nil
	}
	return false, s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if _, err := lock(tx); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE retain_orgs SET purged_at = ? WHERE org_id = ? AND purged_at = 0", clock.Micros(now), org)
		return err
	})
}

// run is the purge of one organization.
type run struct {
	s      *Service
	org    id.ID
	now    time.Time // all of it: a clock that jumps meanwhile changes nothing
	result Result
}

// purge destroys what an organization need not keep any more. A run that was
// interrupted is taken up.
func (s *Service) purge(ctx context.Context, org id.ID, now time.Time) (Result, error) {
	r := &run{s: s, org: org, now: now}
	if err := r.begin(ctx); err != nil {
		return r.result, err
	}
	for _, stage := range stages() {
		if err := r.stage(ctx, stage); err != nil {
			return r.result, err
		}
	}
	for _, last := range []func(*batch) (more bool, err error){(*batch).prune, (*batch).forgetLists, (*batch).forgetAnswers} {
		if err := r.repeat(ctx, last); err != nil {
			return r.result, err
		}
	}
	if err := r.end(ctx); err != nil {
		return r.result, err
	}
	s.Log.Info("retention purge", "org", org.Text(id.Org), "run", r.result.Run.Text(id.Run), "bodies", r.result.Count(Bodies),
		"metadata", r.result.Count(Metadata), "records", r.result.Count(Records), "ledger", r.result.Pruned)
	return r.result, nil
}

// stage looks first at what was left in other nights, then goes on from where
// it stopped.
func (r *run) stage(ctx context.Context, stage Stage) error {
	after := id.ID{}
	if err := r.repeat(ctx, func(b *batch) (more bool, err error) {
		after, more, err = b.again(stage, after)
		return more, err
	}); err != nil {
		return err
	}
	for _, purpose := range policy.Purposes() {
		if err := r.walk(ctx, stage, purpose); err != nil {
			return err
		}
	}
	return nil
}

// walk goes on where the stage stopped for a purpose. What asks for nothing is
// passed over outside of the transactions that others wait for: it can never
// come to ask for something.
func (r *run) walk(ctx context.Context, stage Stage, purpose policy.Purpose) error {
	var from id.ID
	if err := r.s.DB.Read(ctx, r.org, func(tx *db.Tx) (err error) {
		from, err = progress(tx, stage, purpose)
		return err
	}); err != nil {
		return err
	}
	for more := true; more; {
		to, found, err := r.skip(ctx, stage, purpose, from)
		if err != nil || !found && to == from {
			return err
		}
		if more, err = r.one(ctx, func(b *batch) (more bool, err error) {
			from, more, err = b.walk(stage, purpose, to)
			return more, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// skip gives the last message in front of the first one that the stage may
// have to do with, and whether there is such a one.
func (r *run) skip(ctx context.Context, stage Stage, purpose policy.Purpose, from id.ID) (to id.ID, found bool, err error) {
	to = from
	for more := true; more && !found; {
		if err := ctx.Err(); err != nil {
			return to, false, err
		}
		err = r.s.DB.Read(ctx, r.org, func(tx *db.Tx) error {
			j, err := r.s.judge(tx, r.now)
			if err != nil {
				return err
			}
			page, err := spool.KeptAfter(tx, to, skipMessages)
			more = len(page) == skipMessages
			for _, m := range page {
				if j.tooYoung(stage, purpose, m) {
					more = false
					break
				}
				if found = m.Purpose == purpose && !done(stage, m); found {
					break
				}
				to = m.ID
			}
			return err
		})
		if err != nil {
			return to, false, err
		}
	}
	return to, found, nil
}

func (r *run) begin(ctx context.Context) error {
	return r.s.DB.WriteAlone(ctx, r.org, func(tx *db.Tx) error {
		state, err := lock(tx)
		if err != nil {
			return err
		}
		if state.run.IsZero() {
			state.run = id.New()
		}
		r.result = newResult(state.run)
		_, err = tx.Exec("UPDATE retain_orgs SET run_id = ? WHERE org_id = ?", state.run, r.org)
		return err
	})
}

// end notes that the night's work is done.
func (r *run) end(ctx context.Context) error {
	return r.s.DB.WriteAlone(ctx, r.org, func(tx *db.Tx) error {
		if _, err := lock(tx); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE retain_orgs SET run_id = ?, purged_at = ? WHERE org_id = ?", id.ID{}, clock.Micros(r.now), r.org)
		return err
	})
}

// batch is one transaction of a run.
type batch struct {
	judge
	r      *run
	groups map[policy.Purpose]*group
	octets int64
	left   map[Reason]int
	pruned int64
	stage  Stage
}

// group is what a batch destroyed of one purpose.
type group struct {
	items  []item
	octets int64
}

// repeat runs batches until one says that there is no more to do.
func (r *run) repeat(ctx context.Context, do func(*batch) (more bool, err error)) error {
	for more := true; more; {
		var err error
		if more, err = r.one(ctx, do); err != nil {
			return err
		}
	}
	return nil
}

// one runs a batch. What it counts is counted when it is committed. Holds and
// periods are those of this moment: a run may last for hours. While the whole
// organization is held nothing is looked at, so that all of it is when the hold
// is lifted.
func (r *run) one(ctx context.Context, do func(*batch) (more bool, err error)) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	var b *batch
	err = r.s.DB.WriteAlone(ctx, r.org, func(tx *db.Tx) (err error) {
		if _, err := lock(tx); err != nil {
			return err
		}
		b = &batch{r: r, groups: map[policy.Purpose]*group{}, left: map[Reason]int{}}
		if b.judge, err = r.s.judge(tx, r.now); err != nil || b.holds.all {
			return err
		}
		if more, err = do(b); err != nil {
			return err
		}
		return b.record()
	})
	if err != nil {
		return false, err
	}
	b.count()
	return more, nil
}

func (b *batch) count() {
	for purpose, g := range b.groups {
		add(b.r.result.Destroyed, b.stage, purpose, len(g.items))
	}
	for why, n := range b.left {
		add(b.r.result.Left, b.stage, why, n)
	}
	b.r.result.Pruned += b.pruned
}

// full reports whether the transaction has done enough.
func (b *batch) full() bool {
	n := 0
	for _, g := range b.groups {
		n += len(g.items)
	}
	return n >= batchItems || b.octets >= batchOctets
}

// walk destroys what the stage may destroy of a page of messages of a purpose
// behind an id, up to those that are too young, and keeps how far it came.
func (b *batch) walk(stage Stage, purpose policy.Purpose, from id.ID) (after id.ID, more bool, err error) {
	b.stage = stage
	page, err := spool.KeptAfter(b.tx, from, pageMessages)
	if err != nil {
		return from, false, err
	}
	after, more = from, len(page) == pageMessages
	for _, m := range page {
		if b.tooYoung(stage, purpose, m) {
			more = false
			break
		}
		if b.full() {
			more = true
			break
		}
		after = m.ID
		if m.Purpose != purpose || done(stage, m) {
			continue
		}
		why, err := b.settle(stage, m)
		if err == nil && why != "" {
			_, err = b.tx.Exec("INSERT INTO retain_left (org_id, stage, message_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", b.tx.Org(), string(stage), m.ID)
		}
		if err != nil {
			return from, false, err
		}
	}
	_, err = b.tx.Exec(`INSERT INTO retain_progress (org_id, stage, purpose, after_id) VALUES (?, ?, ?, ?)
		ON CONFLICT (org_id, stage, purpose) DO UPDATE SET after_id = excluded.after_id`, b.tx.Org(), string(stage), string(purpose), after)
	return after, more, err
}

// again looks at what was left in another night, behind an id.
func (b *batch) again(stage Stage, after id.ID) (next id.ID, more bool, err error) {
	b.stage = stage
	ids, err := left(b.tx, stage, after)
	if err != nil {
		return after, false, err
	}
	for _, i := range ids {
		if b.full() {
			return after, true, nil
		}
		after = i
		m, err := spool.KeptMessage(b.tx, i)
		gone := fault.Is(err, fault.NotFound)
		if err != nil && !gone {
			return after, false, err
		}
		var why Reason
		if !gone && !done(stage, m) {
			if why, err = b.settle(stage, m); err != nil {
				return after, false, err
			}
		}
		if why != "" {
			continue
		}
		if _, err := b.tx.Exec("DELETE FROM retain_left WHERE org_id = ? AND stage = ? AND message_id = ?", b.tx.Org(), string(stage), i); err != nil {
			return after, false, err
		}
	}
	return after, len(ids) == pageMessages, nil
}

func progress(tx *db.Tx, stage Stage, purpose policy.Purpose) (after id.ID, err error) {
	all, err := db.All(tx, db.Value[id.ID], "SELECT after_id FROM retain_progress WHERE org_id = ? AND stage = ? AND purpose = ?",
		tx.Org(), string(stage), string(purpose))
	if err == nil && len(all) == 1 {
		after = all[0]
	}
	return after, err
}

func left(tx *db.Tx, stage Stage, after id.ID) ([]id.ID, error) {
	return db.All(tx, db.Value[id.ID], "SELECT message_id FROM retain_left WHERE org_id = ? AND stage = ? AND message_id > ? ORDER BY message_id LIMIT ?",
		tx.Org(), string(stage), after, pageMessages)
}
