package deliver

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/id"
)

// TestALeaseFromTheFutureIsInDoubt: where the clock was set back, nobody knows
// how long ago the lease was renewed.
func TestALeaseFromTheFutureIsInDoubt(t *testing.T) {
	clk := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	l := &lease{clock: clk, length: 10 * time.Second, id: id.New(), renewed: clk.Now()}
	for _, step := range []struct {
		jump time.Duration
		good bool
	}{{0, true}, {4 * time.Second, true}, {time.Second, false}, {-6 * time.Second, false}, {time.Second, true}, {-24 * time.Hour, false}, {365 * 24 * time.Hour, false}} {
		clk.Jump(step.jump)
		if l.good() != step.good {
			t.Errorf("%s after it was renewed: good %v", clk.Now().Sub(l.renewed), l.good())
		}
	}
}
