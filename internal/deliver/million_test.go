package deliver_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

// BenchmarkStart says how long a node takes to begin, and to find the first
// work, with a million deliveries due to ten thousand domains, and how much
// memory it takes. Their messages are missing, so each fails when its turn
// comes.
func BenchmarkStart(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *db.DB{"SQLite": dbtest.SQLite, "PostgreSQL": dbtest.PostgreSQL} {
		b.Run(name, func(b *testing.B) {
			n, err := fake.Start(context.Background(), fake.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			d := open(b)
			if err := spooltest.Preload(context.Background(), d, spooltest.Load{Deliveries: 1_000_000, Domains: 10_000, Orgs: 2, DueAt: time.Now().Add(-time.Hour)}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				startOnce(b, d, n)
			}
		})
	}
}

func startOnce(b *testing.B, d *db.DB, n *fake.Internet) {
	h := prepare(b, d, n, func(deps *deliver.Deps) { deps.Log = quiet })
	began := time.Now()
	if err := h.engine.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(began).Seconds(), "s-to-start")
	h.until("work is taken", func() bool { return h.engine.Depth() > 0 })
	b.ReportMetric(time.Since(began).Seconds(), "s-to-work")
	var most, items uint64
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most, items = max(most, m.Sys), max(items, uint64(h.engine.Depth()))
	}
	b.ReportMetric(float64(most>>20), "MiB")
	b.ReportMetric(float64(items), "items-in-memory")
	h.engine.Stop(context.Background())
}
