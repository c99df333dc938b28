package identity_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
)

const day = 24 * time.Hour

func (o *office) endsIn(address string, left time.Duration) identity.Detail {
	o.Helper()
	d, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address(address), Kind: policy.PGP, Expires: o.clock.Now().Add(left)})
	o.must(err)
	return d
}

// warned lists the days of the ledger's warnings.
func (o *office) warned() (days []string) {
	o.Helper()
	_, err := ledger.Place(ctx, o.db, 0)
	o.must(err)
	o.must(o.db.Read(ctx, o.clinic, func(tx *db.Tx) error {
		days = nil
		events, _, err := ledger.ReadTx(tx, -1, 500)
		for _, e := range events {
			if e.Type == ledger.IdentityExpiring {
				_, text, _ := strings.Cut(string(e.Data), `"days":`)
				days = append(days, strings.TrimRight(text, "}"))
			}
		}
		return err
	}))
	return days
}

func TestTheEndIsToldOfOncePerThreshold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		first := o.endsIn(ada, 100*day)
		_, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address("never@clinic.example"), Kind: policy.PGP})
		o.must(err)
		o.create(policy.SMIME, "requested@clinic.example")
		for _, tt := range []struct {
			pass time.Duration
			want string
		}{
			{39*day + 23*time.Hour, ""}, {time.Hour, "60"}, {time.Hour, "60"}, {10 * day, "60"},
			{20 * day, "60 30"}, {22 * day, "60 30"}, {day, "60 30 7"}, {6 * day, "60 30 7"}, {5 * day, "60 30 7"},
		} {
			o.clock.Advance(tt.pass)
			o.must(o.WarnExpiring(ctx))
			o.must(o.node().WarnExpiring(ctx)) // another node, or the same again
			if got := strings.Join(o.warned(), " "); got != tt.want {
				t.Fatalf("%v before the end: %q, want %q", first.ExpiresAt.Sub(o.clock.Now()), got, tt.want)
			}
		}
		if n := strings.Count(o.log.String(), "expires soon"); n != 3 || strings.Contains(o.log.String(), "ada") || !strings.Contains(o.log.String(), "level=WARN") {
			t.Errorf("the log: %s", o.log)
		}
		// Several nodes look at the same moment.
		o.endsIn("at.once@clinic.example", 20*day)
		var group sync.WaitGroup
		for range 6 {
			node := o.node()
			group.Go(func() {
				if err := node.WarnExpiring(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if got := strings.Join(o.warned(), " "); got != "60 30 7 30" {
			t.Fatalf("told of at the same moment: %q", got)
		}
		// A machine that was off passes several at once, and says so once.
		o.endsIn("bo@clinic.example", 70*day)
		retired := o.endsIn("cy@clinic.example", 70*day)
		_, err = o.Rotate(ctx, o.clinic, retired.ID, "", time.Time{})
		o.must(err)
		o.clock.Advance(65 * day)
		o.must(o.WarnExpiring(ctx))
		if got := strings.Join(o.warned(), " "); got != "60 30 7 30 7" {
			t.Errorf("passed together: %q", got)
		}
		_, err = o.Renew(ctx, o.clinic, first.ID, o.clock.Now().Add(20*day))
		o.must(err)
		o.must(o.WarnExpiring(ctx))
		if got := strings.Join(o.warned(), " "); got != "60 30 7 30 7 30" {
			t.Errorf("after it was renewed: %q", got)
		}
	})
}

func TestHowManyEnd(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	o.endsIn("a@clinic.example", 61*day)
	o.endsIn("b@clinic.example", 60*day)
	o.endsIn("c@clinic.example", 30*day)
	o.endsIn("d@clinic.example", 29*day)
	o.endsIn("e@clinic.example", 7*day)
	o.endsIn("f@clinic.example", time.Hour)
	o.endsIn("g@clinic.example", time.Second)
	o.clock.Advance(time.Second)
	var e identity.Ending
	o.must(o.db.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		e, err = identity.CountEnding(tx, o.clock.Now())
		return err
	}))
	if e.Within[60] != 1 || e.Within[30] != 2 || e.Within[7] != 2 || e.Ended != 1 {
		t.Errorf("%+v", e)
	}
}

func TestDaysLeft(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]int{
		6 * day: 6, 6*day - time.Second: 6, 5*day + time.Second: 6, day: 1, time.Second: 1, 0: 0, -time.Second: 0, -day: -1,
	} {
		if got := identity.DaysLeft(now.Add(left), now); got != want {
			t.Errorf("%v: %d, want %d", left, got, want)
		}
	}
}
