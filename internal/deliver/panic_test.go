package deliver_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestAPanicEndsOneAttempt: before anything is sent, while a peer is dialed,
// and after it took the message. The delivery waits, the others go, and nothing
// that bounds the engine is lost with it.
func TestAPanicEndsOneAttempt(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var log locked
		var poisoned sync.Map // address or site, until it is tried again
		poison := func(what string) {
			if _, first := poisoned.LoadAndDelete(what); first {
				panic("Größe 8 bit of " + what)
			}
		}
		figures := deliver.NewFigures(nil)
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Concurrency, deps.PerDestination, deps.Figures = 1, 1, figures
			deps.Log = slog.New(slog.NewTextHandler(&log, nil))
			deps.Suppressed = func(context.Context, id.ID, mail.Address, bool) (string, error) {
				poison("list")
				return "", nil
			}
			deps.SMTP.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				poison("dial")
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			deps.Source = func(context.Context, id.ID, string, string) (pool.Source, error) {
				return pool.Source{Pool: "main"}, nil
			}
			deps.Told = func(_, site string, r pool.Result) {
				if r == pool.Accepted {
					poison("told")
				}
			}
		})
		for _, tc := range []struct{ what, result string }{
			{"list", spool.ResultTemporary}, {"dial", spool.ResultTemporary}, {"told", spool.ResultUnknown},
		} {
			name := tc.what + ".example"
			h.add(fake.Domain{Name: name, Host: &fake.Behavior{}})
			poisoned.Store(tc.what, true)
			i := h.accept(submit.Draft{}, "p@"+name).Deliveries[0].Delivery
			h.until("it is tried", func() bool { return h.delivery(i).Attempts > 0 })
			h.delivered(i)
			if tried := h.attempts(i); len(tried) != 2 || tried[0].Result != tc.result || tried[1].Result != spool.ResultDelivered {
				t.Errorf("%s: attempts %+v", tc.what, tried)
			}
			for range 3 {
				h.delivered(h.accept(submit.Draft{}, "q@"+name).Deliveries[0].Delivery)
			}
		}
		h.until("no connection is left", func() bool { l := h.engine.Load(); return l.Connections+l.Stalled+l.Ready == 0 })
		if text := log.String(); strings.Count(text, "panic_test.go") < 3 || strings.Contains(text, "Größe") {
			t.Errorf("the log tells nothing, or too much:\n%s", text)
		}
		if got := total(t, figures, "sealpost_attempt_panics_total"); got != 3 {
			t.Errorf("%v are counted", got)
		}
	})
}

func total(t *testing.T, c prometheus.Collector, name string) (n float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

// locked is a buffer that many may write to.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *locked) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
