package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/bounce"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
	"github.com/sealpost/sealpost/internal/submit"
)

// runFill is the process that fills the queue of a server that is stopped, by
// the front door that the server has.
func runFill(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("bench fill", flag.ContinueOnError)
	file := f.String("config", "", "configuration")
	n := f.Int("n", 0, "deliveries")
	domains := f.Int("domains", 1, "domains of the crowd that they go to")
	after := f.Duration("after", 0, "when they are due from now")
	due := f.Bool("due", false, "make all that is scheduled due now")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg, err := config.Load(*file, os.Environ())
	if err != nil {
		return err
	}
	core, err := app.Open(ctx, cfg, app.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, core.Close()) }()
	if *due {
		return core.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			return spooltest.DueNow(tx, core.Clock.Now())
		})
	}
	org, err := core.Accounts.OrgBySlug(ctx, "clinic")
	if err != nil {
		return err
	}
	if err := (&filler{door: doorOf(core), org: org.ID, domains: *domains, after: *after}).fill(ctx, *n); err != nil {
		return err
	}
	return catchUp(ctx, core)
}

// catchUp does what the server's jobs would have done meanwhile: what is
// measured is a server that has a full queue, not one that was away.
func catchUp(ctx context.Context, c *app.Core) error {
	if _, err := ledger.Place(ctx, c.DB, 0); err != nil {
		return err
	}
	if _, err := c.Ledger.CheckpointDue(ctx); err != nil {
		return err
	}
	return bounce.New(bounce.Deps{DB: c.DB, Custody: c.Custody, Clock: c.Clock, Log: c.Log, Hostname: c.Config.Hostname,
		DelayAfter: c.Config.Delivery.DelayNoticeAfter, Posted: func([]spool.Item) {}}).Run(ctx)
}

func doorOf(c *app.Core) *submit.Door {
	return submit.New(submit.Deps{
		Config: submit.Config{Hostname: "bench", MaxSize: 1 << 20, MaxRecipients: perMessage, ExpireAfter: 48 * time.Hour, IdempotencyTTL: time.Hour},
		DB:     c.DB, Custody: c.Custody, Blob: c.Blob, Accounts: c.Accounts, Clock: c.Clock, Log: c.Log,
		Posture: func(context.Context, string) policy.Posture { return policy.Posture{} },
		Reserve: func([]spool.Item) id.ID { return id.ID{} }, // all wait in the database
		Push:    func(id.ID, []spool.Item, []spool.Work) {},
	})
}

type filler struct {
	door    *submit.Door
	org     id.ID
	domains int
	after   time.Duration
}

// fill accepts messages to many recipients each, recipient i in domain i
// modulo their number.
func (f *filler) fill(ctx context.Context, n int) error {
	const hands = 4
	errs := make([]error, hands)
	var work sync.WaitGroup
	for h := range hands {
		work.Go(func() {
			for first := h * perMessage; first < n && errs[h] == nil; first += hands * perMessage {
				errs[h] = f.one(ctx, first, min(first+perMessage, n))
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

func (f *filler) one(ctx context.Context, first, end int) error {
	from, err := mail.ParseAddress(sender)
	if err != nil {
		return err
	}
	d := submit.Draft{
		Principal: auth.Principal{Org: f.org, Client: id.New(), Scopes: auth.Scopes()}, Source: spool.FromRelay, Protocol: "ESMTP", Sender: from,
		Message: io.MultiReader(strings.NewReader("From: <"+sender+">\r\nTo: undisclosed-recipients:;\r\nSubject: A message of the benchmark\r\n\r\n"),
			strings.NewReader(strings.Repeat(strings.Repeat("X", 78)+"\r\n", 10<<10/80))),
	}
	if f.after > 0 {
		d.SendAt = time.Now().Add(f.after)
	}
	for i := first; i < end; i++ {
		to, err := mail.ParseAddress("p" + strconv.Itoa(i) + "@" + crowdDomain(i%f.domains))
		if err != nil {
			return err
		}
		d.Recipients = append(d.Recipients, to)
	}
	_, err = f.door.Accept(ctx, d)
	return err
}

// fill has a queue filled by a process of its own.
func (p *sealpost) fill(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"fill", "-config", p.config}, args...)...)
	cmd.Env = p.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill the queue: %w: %s", err, out)
	}
	return nil
}
