package ledger_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// BenchmarkAppend writes a hundred entries a transaction, as group commit does.
func BenchmarkAppend(b *testing.B) {
	d := dbtest.SQLite(b)
	org := id.New()
	fact := ledger.Fact{Type: ledger.DeliveryAttempted, Message: id.New(), Delivery: id.New(), At: when, Data: evidence{"verified", 1}}
	for n := 0; n < b.N; n += 100 {
		if err := d.Write(ctx, org, func(tx *db.Tx) error {
			for range min(100, b.N-n) {
				if err := ledger.Append(tx, fact); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlace reports the time per entry of full transactions.
func BenchmarkPlace(b *testing.B) {
	d := dbtest.SQLite(b)
	org := id.New()
	for n := 0; n < b.N; n += 5000 {
		appendMany(b, d, org, n, min(5000, b.N-n))
	}
	b.ResetTimer()
	if _, err := ledger.Place(ctx, d, 0); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkVerify checks a file of b.N entries and reports the heap behind it.
func BenchmarkVerify(b *testing.B) {
	d := dbtest.SQLite(b)
	n, verifier := newNotary(b, d)
	org := id.New()
	appendMany(b, d, org, 0, 256)
	place(b, d, 0)
	var small bytes.Buffer
	if err := n.Export(ctx, org, &small); err != nil {
		b.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(small.String()), "\n")
	pr := &repeated{head: strings.Replace(lines[0], `"size":256`, fmt.Sprintf(`"size":%d`, b.N), 1), lines: lines[1:], n: b.N}
	b.ResetTimer()
	report, err := ledger.Verify(pr, verifier, nil)
	if err != nil || report.Checked != int64(b.N) {
		b.Fatalf("%v %v", report, err)
	}
	b.StopTimer()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapInuse)/1e6, "MB-heap")
}

// repeated gives the same 256 leaves again and again under new positions.
type repeated struct {
	head  string
	lines []string
	n, at int
	rest  []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		switch {
		case r.head != "":
			r.rest, r.head = append(r.rest, r.head+"\n"...), ""
		case r.at < r.n:
			_, tail, _ := strings.Cut(r.lines[r.at%256], ",")
			r.rest = fmt.Appendf(r.rest[:0], "{\"seq\":%d,%s\n", r.at, tail)
			r.at++
		default:
			return 0, errEOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
