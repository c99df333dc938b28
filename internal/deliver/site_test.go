package deliver

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/shaping"
)

// TestASuspensionIsRemembered however long nothing is sent to the site, and
// forgotten once it is over.
func TestASuspensionIsRemembered(t *testing.T) {
	clk := clock.NewFake(time.Now())
	e := New(Deps{Clock: clk})
	shape := shaping.Site{Name: "mx.example", Reactions: []shaping.Reaction{{Name: "blocked", Code: 554, Act: shaping.Suspend, For: 2 * time.Hour}}}
	s := e.siteOf("main", shape)
	s.gov.Heard(clk.Now(), shaping.Event{Kind: shaping.Refused, Code: 554})
	clk.Advance(time.Hour)
	e.tick()
	again := e.siteOf("main", shape)
	if until, _ := again.gov.Suspended(clk.Now()); until.IsZero() || again != s {
		t.Error("a site that is left alone was forgotten")
	}
	clk.Advance(90 * time.Minute)
	e.tick()
	if len(e.sites) != 0 {
		t.Error("a site that nobody uses is kept")
	}
}
