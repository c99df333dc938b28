package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/private/privatetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func newRunner(t testing.TB, d *db.DB, c clock.Clock, log *privatetest.Log) (*job.Runner, id.ID) {
	t.Helper()
	run := id.New()
	r := job.New(job.Deps{DB: d, Clock: c, Log: slog.New(slog.NewTextHandler(log, nil)), Run: run})
	t.Cleanup(r.Stop)
	return r, run
}

func start(t testing.TB, r *job.Runner) {
	t.Helper()
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// soon fails a test that would wait for ever.
func soon[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

// pass moves a fake clock in small steps until ch gives something.
func pass[T any](t testing.TB, c *clock.Fake, ch <-chan T, what string) T {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); {
		select {
		case v := <-ch:
			return v
		case <-time.After(100 * time.Microsecond):
			c.Advance(50 * time.Millisecond)
		}
	}
	t.Fatalf("waited in vain: %s", what)
	panic("unreachable")
}

func setLease(t testing.TB, d *db.DB, name string, owner id.ID, in time.Duration) {
	t.Helper()
	if err := d.Write(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO job_leases (name, owner, expires_at) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at`, name, owner, now+in.Microseconds())
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func leases(t testing.TB, d *db.DB) (n int) {
	t.Helper()
	if err := d.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM job_leases").Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOneRunnerAtATime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var running atomic.Int32
		runs := make(chan int)
		var runners [2]*job.Runner
		for i := range runners {
			runners[i], _ = newRunner(t, d, clock.System{}, &privatetest.Log{})
			runners[i].Add(job.Task{Name: "count", Every: 2 * time.Millisecond, Do: func(ctx context.Context) error {
				if running.Add(1) != 1 {
					t.Error("two runners at once")
				}
				defer running.Add(-1)
				select {
				case runs <- i:
				case <-ctx.Done():
				}
				return nil
			}})
			start(t, runners[i])
		}
		leader := soon(t, runs, "the first run")
		for range 30 {
			if i := soon(t, runs, "another run"); i != leader {
				t.Fatal("the task went from one runner to the other")
			}
		}
		runners[leader].Stop()
		if i := soon(t, runs, "the other runner takes over"); i == leader {
			t.Fatal("a stopped runner runs")
		}
		runners[1-leader].Stop()
		if n := leases(t, d); n != 0 {
			t.Errorf("%d leases are left", n)
		}
	})
}

func TestTheLeaseOfADeadRunExpires(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		setLease(t, d, "task", id.New(), time.Hour)
		r, _ := newRunner(t, d, clock.System{}, &privatetest.Log{})
		ran, other := make(chan bool, 100), make(chan bool)
		r.Add(job.Task{Name: "task", Every: time.Millisecond, Do: func(context.Context) error { ran <- true; return nil }})
		r.Add(job.Task{Name: "other", Every: time.Millisecond, Do: func(ctx context.Context) error {
			select {
			case other <- true:
			case <-ctx.Done():
			}
			return nil
		}})
		start(t, r)
		for range 30 {
			soon(t, other, "the task that is free")
		}
		if len(ran) > 0 {
			t.Fatal("ran under another run's lease")
		}
		setLease(t, d, "task", id.New(), -time.Second)
		soon(t, ran, "takeover of an expired lease")
	})
}

func TestALostLeaseEndsTheTask(t *testing.T) {
	d, c := dbtest.SQLite(t), clock.NewFake(time.Unix(0, 0))
	r, _ := newRunner(t, d, c, &privatetest.Log{})
	began, ended := make(chan bool, 9), make(chan error, 9)
	r.Add(job.Task{Name: "long", Every: time.Second, Do: func(ctx context.Context) error {
		began <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	start(t, r)
	soon(t, began, "the run")
	setLease(t, d, "long", id.New(), time.Hour)
	pass(t, c, ended, "the task ends")
}

// While a task runs longer than its lease, the lease stays.
func TestALongTaskKeepsItsLease(t *testing.T) {
	d, c := dbtest.SQLite(t), clock.NewFake(time.Unix(0, 0))
	r, run := newRunner(t, d, c, &privatetest.Log{})
	began := make(chan bool, 1)
	r.Add(job.Task{Name: "long", Every: time.Second, Do: func(ctx context.Context) error {
		began <- true
		<-ctx.Done()
		return nil
	}})
	start(t, r)
	soon(t, began, "the run")
	setLease(t, d, "long", run, -time.Hour)
	renewed := make(chan bool)
	watch, done := context.WithCancel(ctx)
	defer done()
	go func() {
		for watch.Err() == nil {
			var left int64
			_ = d.Read(ctx, db.System, func(tx *db.Tx) error {
				now, err := tx.Now()
				if err == nil {
					err = tx.Row("SELECT expires_at - ? FROM job_leases", now).Scan(&left)
				}
				return err
			})
			if left > 0 {
				close(renewed)
				return
			}
		}
	}()
	pass(t, c, renewed, "the lease is renewed")
}

func TestFailuresAreLoggedAndTriedAgainLater(t *testing.T) {
	d, c, log := dbtest.SQLite(t), clock.NewFake(time.Unix(0, 0)), &privatetest.Log{}
	r, _ := newRunner(t, d, c, log)
	at := make(chan time.Time)
	n := 0
	r.Add(job.Task{Name: "shaky", Every: 100 * time.Millisecond, Do: func(ctx context.Context) error {
		n++
		select {
		case at <- c.Now():
		case <-ctx.Done():
		}
		switch n {
		case 1:
			return fmt.Errorf("ledger of ada@clinic.example: %w", fault.New(fault.Unavailable, "busy", "The disk is busy."))
		case 2:
			return errors.New("cannot read ada@clinic.example")
		case 3:
			panic("ada@clinic.example")
		}
		return nil
	}})
	start(t, r)
	last := pass(t, c, at, "the first run")
	for i, least := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 100 * time.Millisecond} {
		r.Poke("shaky") // does not shorten the wait
		next := pass(t, c, at, "the next run")
		if wait := next.Sub(last); wait < least && i < 3 || i == 3 && wait > time.Second {
			t.Errorf("run %d came after %v, want %v", i+2, wait, least)
		}
		last = next
	}
	r.Stop()
	text := log.String()
	for _, want := range []string{"reason=busy", `text="The disk is busy."`, "error=*errors.errorString", "panic=string", "reason=task_panicked", "failures=3"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(text, "ada") {
		t.Error("the log has content: " + text)
	}
}

func TestPoke(t *testing.T) {
	d := dbtest.SQLite(t)
	r, _ := newRunner(t, d, clock.System{}, &privatetest.Log{})
	runs, proceed := make(chan bool), make(chan bool)
	r.Add(job.Task{Name: "idle", Every: time.Hour, Rest: time.Nanosecond, Do: func(ctx context.Context) error {
		for _, ch := range []chan bool{runs, proceed} {
			select {
			case ch <- true:
			case <-ctx.Done():
			}
		}
		return nil
	}})
	start(t, r)
	soon(t, runs, "the first run")
	for range 50 {
		r.Poke("idle")
		r.Poke("nobody")
	}
	soon(t, proceed, "the first run ends")
	soon(t, runs, "the poked run")
	soon(t, proceed, "the poked run ends")
	r.Poke("idle")
	soon(t, runs, "the run of a later poke")
	soon(t, proceed, "its end")
	select {
	case <-runs:
		t.Error("fifty pokes during one run made more than one")
	case <-time.After(50 * time.Millisecond): // what must not happen has no event
	}
}

func TestStartAndStop(t *testing.T) {
	d := dbtest.SQLite(t)
	for i := range 60 {
		r, _ := newRunner(t, d, clock.System{}, &privatetest.Log{})
		for k := range 4 {
			r.Add(job.Task{Name: fmt.Sprint("task", k), Every: time.Millisecond, Do: func(ctx context.Context) error { return ctx.Err() }})
		}
		ctx, cancel := context.WithCancel(ctx)
		if err := r.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(ctx); err == nil {
			t.Fatal("started twice")
		}
		if i%2 == 0 {
			cancel()
		}
		var stopping sync.WaitGroup
		for range 3 {
			stopping.Go(r.Stop)
			stopping.Go(func() { r.Poke("task1") })
		}
		stopping.Wait()
		cancel()
	}
	r, _ := newRunner(t, d, clock.System{}, &privatetest.Log{})
	r.Stop()
	if err := r.Start(ctx); err == nil {
		t.Error("started after Stop")
	}
}

func TestWrongTasksAreRefused(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	for name, tasks := range map[string][]job.Task{
		"no name":       {{Every: 1, Do: nothing}},
		"no interval":   {{Name: "a", Do: nothing}},
		"nothing to do": {{Name: "a", Every: 1}},
		"twice":         {{Name: "a", Every: 1, Do: nothing}, {Name: "a", Every: 1, Do: nothing}},
	} {
		r := job.New(job.Deps{Run: id.New()})
		for _, task := range tasks {
			r.Add(task)
		}
		if r.Start(ctx) == nil {
			t.Errorf("%s: started", name)
		}
	}
	if job.New(job.Deps{}).Start(ctx) == nil {
		t.Error("started without the id of a run")
	}
}

func TestADatabaseThatIsGone(t *testing.T) {
	d, log := dbtest.SQLite(t), &privatetest.Log{}
	c := clock.NewFake(time.Unix(0, 0))
	r, _ := newRunner(t, d, c, log)
	ran := make(chan bool, 1000)
	r.Add(job.Task{Name: "task", Every: time.Second, Do: func(context.Context) error { ran <- true; return nil }})
	start(t, r)
	soon(t, ran, "the first run")
	d.Close()
	failed := make(chan bool)
	watch, done := context.WithCancel(ctx)
	defer done()
	go func() {
		for watch.Err() == nil && !strings.Contains(log.String(), "failures=3") {
			time.Sleep(time.Millisecond)
		}
		close(failed)
	}()
	pass(t, c, failed, "failures are logged")
	r.Stop()
}

func TestAloneDoesNotWaitForTheDead(t *testing.T) {
	d := dbtest.SQLite(t)
	ctx := context.Background()
	if err := d.Write(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO job_leases (name, owner, expires_at) VALUES ('t', ?, ?)", id.New(), now+time.Hour.Microseconds())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ran := make(chan bool, 1)
	r := job.New(job.Deps{DB: d, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Run: id.New(), Alone: true})
	r.Add(job.Task{Name: "t", Every: time.Hour, Do: func(context.Context) error { ran <- true; return nil }})
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	select {
	case <-ran:
	case <-time.After(5 * time.Second):
		t.Fatal("the lease of a dead run held the task up")
	}
}

// TestTheClockIsSet: set back by a day, the clock keeps no task waiting and its
// lease stays; set forward by a year, it makes none run again and again.
func TestTheClockIsSet(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := clock.NewFake(time.Now())
		r, run := newRunner(t, d, c, &privatetest.Log{})
		ran := make(chan time.Time, 1000)
		r.Add(job.Task{Name: "often", Every: 30 * time.Second, Do: func(context.Context) error {
			ran <- c.Now()
			return nil
		}})
		start(t, r)
		soon(t, ran, "the first run")
		for _, jump := range []time.Duration{-24 * time.Hour, 365 * 24 * time.Hour, -365 * 24 * time.Hour} {
			c.Jump(jump)
			setLease(t, d, "often", run, time.Millisecond) // so that a renewal shows
			began := c.Now()
			first := pass(t, c, ran, "a run after the clock was set")
			second := pass(t, c, ran, "another")
			if first.Sub(began) > 2*time.Minute || second.Sub(first) < 30*time.Second || second.Sub(first) > 2*time.Minute {
				t.Errorf("set by %s at %s, it ran at %s and %s", jump, began, first, second)
			}
			var left int64
			if err := d.Read(ctx, db.System, func(tx *db.Tx) error {
				now, err := tx.Now()
				if err != nil {
					return err
				}
				var expires int64
				err = tx.Row("SELECT expires_at FROM job_leases WHERE name = 'often'").Scan(&expires)
				left = expires - now
				return err
			}); err != nil || left < 30*time.Second.Microseconds() {
				t.Errorf("set by %s: the lease has %d us left, %v", jump, left, err)
			}
		}
	})
}
