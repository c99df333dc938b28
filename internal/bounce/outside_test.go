package bounce

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/spool"
)

// Strangers whose address may be forged are told nothing; one whose domain
// vouched for it is told of a failure, and never of a delay.
func TestStrangersAreToldOnlyWhenTheyAreProved(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, dl := s.accept(spool.FromOutside, "forged@example.org", "ada@clinic.test")
		s.finish(m, dl[0], s.refused(spool.Failed, spool.ReasonRejected, 554, "5.7.1"))
		s.proved = true
		m, dl = s.accept(spool.FromOutside, "bob@example.org", "ada@clinic.test")
		s.later(5 * time.Hour)
		s.finish(m, dl[0], s.refused(spool.Deferred, spool.ReasonUnreachable, 451, "4.3.0"))
		s.pass()
		if n := len(s.notices()); n != 0 {
			t.Fatalf("%d notices before anything failed for a proved sender", n)
		}
		s.later(2 * time.Hour)
		s.finish(m, dl[0], s.refused(spool.Failed, spool.ReasonRejected, 554, "5.7.1"))
		s.pass()
		if n, _ := s.only(); n.To.Reveal() != "bob@example.org" || n.Kind != spool.KindDSN {
			t.Errorf("kind %s", n.Kind)
		}
	})
}
