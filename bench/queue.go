package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealpost/sealpost/internal/db/dbtest"
)

// withPostgres runs fn with the URL of a new PostgreSQL server's database.
func withPostgres(fn func(url string) error) (err error) {
	p, err := dbtest.NewPostgres()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.Dir)) }()
	if err := p.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop("fast")) }()
	return fn(p.URL("postgres"))
}

// backlog is how many deliveries of a queue are timed.
const backlog = 20_000

// fullQueue compares a server with an empty queue with itself when a million
// deliveries wait: first for another day, then to be sent now.
func fullQueue(ctx context.Context, o options, dir, url string, out io.Writer) error {
	o.dkim = false // it costs the same in both, and hides what the queue costs
	engine, env := "SQLite", []string(nil)
	if url != "" {
		engine, env = "PostgreSQL", []string{"SEALPOST_DATABASE_URL=" + url}
	}
	fmt.Fprintf(out, "full queue on %s: %d deliveries to %d domains\n", engine, o.queued, o.queuedFor)
	s, err := startSink(ctx, dir, crowd{domains: o.queuedFor, hosts: 200})
	if err != nil {
		return err
	}
	defer s.stop()
	p, err := prepareSealpost(ctx, o, dir, s, env...)
	if err != nil {
		return err
	}
	q := &queueRun{o: o, s: s, p: p, url: url, out: out}
	return q.run(ctx)
}

type queueRun struct {
	o   options
	s   *sink
	p   *sealpost
	url string // of PostgreSQL, or empty
	out io.Writer
}

func (q *queueRun) run(ctx context.Context) error {
	empty, err := q.relay(ctx, "empty queue")
	if err != nil {
		return err
	}
	if err := q.p.fill(ctx, "-n", strconv.Itoa(backlog), "-domains", strconv.Itoa(q.o.queuedFor)); err != nil {
		return err
	}
	few, err := q.drain(ctx, fmt.Sprintf("%d due", backlog))
	if err != nil {
		return err
	}
	began := time.Now()
	if err := q.p.fill(ctx, "-n", strconv.Itoa(q.o.queued), "-domains", strconv.Itoa(q.o.queuedFor), "-after", "24h"); err != nil {
		return err
	}
	fmt.Fprintf(q.out, "  %d deliveries accepted in %.0f s\n", q.o.queued, time.Since(began).Seconds())
	full, err := q.relay(ctx, "full queue")
	if err != nil {
		return err
	}
	if err := q.p.fill(ctx, "-due"); err != nil {
		return err
	}
	many, err := q.drain(ctx, "all of it due")
	if err != nil {
		return err
	}
	fmt.Fprintf(q.out, "  ratio full to empty: accepted %.2f, end to end %.2f, out of the queue %.2f\n",
		full.accepted/empty.accepted, full.endToEnd/empty.endToEnd, many/few)
	return nil
}

// tidy lets PostgreSQL do now what it does in the minutes after a load: its
// cleaning would be measured in place of the queue.
func (q *queueRun) tidy(ctx context.Context) error {
	if q.url == "" {
		return nil
	}
	c, err := pgx.Connect(ctx, q.url)
	if err != nil {
		return err
	}
	for _, do := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err = c.Exec(ctx, do); err != nil {
			break
		}
	}
	return errors.Join(err, c.Close(ctx))
}

// start starts the server and says how long that took.
func (q *queueRun) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := q.p.start(ctx, q.o)
	return time.Since(began), err
}

func (q *queueRun) relay(ctx context.Context, what string) (r round, err error) {
	if err := q.tidy(ctx); err != nil {
		return r, err
	}
	awaitRest(ctx, q.o.patient)
	before, err := q.s.count(0)
	if err != nil {
		return r, err
	}
	ready, err := q.start(ctx)
	if err != nil {
		return r, err
	}
	defer q.p.stop()
	if r, err = measureRound(ctx, q.o, q.s, q.p, before.Received); err == nil {
		fmt.Fprintf(q.out, "  %-14s  ready after %4d ms  %s\n", what, ready.Milliseconds(), row(sealpostName, r))
	}
	return r, err
}

// drain tells how many deliveries a second leave a queue of what is due.
func (q *queueRun) drain(ctx context.Context, what string) (perSecond float64, err error) {
	if err := q.tidy(ctx); err != nil {
		return 0, err
	}
	awaitRest(ctx, q.o.patient)
	before, err := q.s.count(0)
	if err != nil {
		return 0, err
	}
	ready, err := q.start(ctx)
	if err != nil {
		return 0, err
	}
	defer q.p.stop()
	if err := profileSignal(q.o, q.p); err != nil {
		return 0, err
	}
	began, stopWatching := time.Now(), watchMemory(q.p.pids()...)
	after, err := q.s.count(before.Received + backlog)
	if err != nil {
		return 0, err
	}
	if after.Received < before.Received+backlog {
		return 0, fmt.Errorf("only %d of %d deliveries arrived", after.Received-before.Received, backlog)
	}
	perSecond = float64(after.Received-before.Received) / after.At.Sub(began).Seconds()
	fmt.Fprintf(q.out, "  %-14s  ready after %4d ms  out of the queue %5.0f/s  VmHWM %d MB\n",
		what, ready.Milliseconds(), perSecond, stopWatching().peaks>>20)
	return perSecond, nil
}
