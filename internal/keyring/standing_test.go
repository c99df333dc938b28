package keyring_test

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/policy"
)

// TestWhatHoldsForTheDomainIsNotAskedForAnAddress: nor is anything written
// down, but where a key of the address is on record.
func TestWhatHoldsForTheDomainIsNotAskedForAnAddress(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		s.say(shows(discover.WKD, policy.Confirmed, key))
		s.wantPGP(s.find(a), key, policy.Confirmed)
		asked, rows := s.asked, s.lookups()
		s.stands = []discover.Answer{{Source: discover.WKD, Absent: true, Until: s.clk.Now().Add(time.Hour)},
			{Source: discover.SMIMEA, Word: "timeout", Until: s.clk.Now().Add(time.Minute)}}
		f := s.find(address(t, "stranger@practice.example"))
		s.wantNone(f, "Whether there are keys of the recipient could not be asked: smimea (timeout).")
		if !f.Failing || s.asked != asked || s.lookups() != rows {
			t.Errorf("failing %v, asked %d times, %d rows", f.Failing, s.asked-asked, s.lookups()-rows)
		}
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Confirmed)
		if s.asked != asked+1 {
			t.Error("a key on record was not asked for")
		}
	})
}

func (s *site) lookups() (n int) {
	s.t.Helper()
	s.check(s.db.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT COUNT(*) FROM keyring_lookups").Scan(&n)
	}))
	return n
}
