package main

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/app"
)

type retentionResumeCmd struct {
	Today string `placeholder:"YYYY-MM-DD" help:"Today's date by UTC, from a calendar and not from this machine. Without it, nothing is changed and you see what is in doubt."`
}

// Help says when purges stop.
func (retentionResumeCmd) Help() string {
	return "Purges stop by themselves when the clock is more than five days ahead of the last time that one was looked for: a clock that jumps would have years of content destroyed in one night. " +
		"If the clock was wrong, set it right and they go on without this command. If it is right, because the installation was off or was restored from a backup, " +
		"place the legal holds again that are missing and confirm the date.\n\nExamples:\n\n  $ sealpost retention resume\n  $ sealpost retention resume --today 2026-06-01"
}

type retentionResumed struct {
	Stopped  time.Time `json:"stopped_at,omitzero"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Clock    time.Time `json:"clock"`
	Resumed  bool      `json:"resumed"`
}

// Run shows what is in doubt, or takes a person's word.
func (c retentionResumeCmd) Run(ctx context.Context, env *environment) error {
	today, err := time.Parse(time.DateOnly, c.Today)
	if c.Today != "" && err != nil {
		return usagef("--today is a date: 2026-06-01.")
	}
	return env.withCore(ctx, func(core *app.Core) error {
		stopped, seen, err := core.Retention.Stopped(ctx)
		if err != nil {
			return err
		}
		r := retentionResumed{Stopped: stopped, LastSeen: seen, Clock: core.Clock.Now().UTC()}
		if c.Today != "" {
			if err := core.Retention.Resume(ctx, today); err != nil {
				return err
			}
			r.Resumed = true
		}
		return env.result(r, r.tell)
	})
}

func (r retentionResumed) tell(p *page) {
	switch {
	case r.Resumed:
		p.linef("Purges run again; what is due begins within ten minutes.")
	case r.Stopped.IsZero():
		p.linef("Purges are not stopped.")
	default:
		p.linef("Nothing is purged since %s, when the clock was in doubt: the last time before was %s. Now it says %s.",
			when(r.Stopped, "-"), when(r.LastSeen, "-"), when(r.Clock, "-"))
		p.linef("If that is right, and all legal holds are in place: sealpost retention resume --today YYYY-MM-DD")
	}
}
