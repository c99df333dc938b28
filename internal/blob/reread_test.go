package blob_test

import (
	"bytes"
	"io"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
)

// What is staged can be read before it is saved, by many at once and again
// afterwards, in memory as in a file.
func TestAStagedBodyIsReadAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		key, err := h.c.NewDataKey(h.org)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 200_000, 1_000_000} {
			body := noise(size)
			g, err := h.s.Stage(key, id.New(), bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					got, err := io.ReadAll(g.Open())
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d octets: %d, %v", size, len(got), err)
					}
				})
			}
			wg.Wait()
			late := g.Open()
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(late); err == nil && size > 0 {
				t.Errorf("%d octets can be read after Close", size)
			}
		}
	})
}
