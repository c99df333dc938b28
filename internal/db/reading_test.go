package db_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
)

// More readers than there are connections, all with queries that nobody has
// asked before, and then again: none waits for another, each gets its own
// answer, and texts without end do no harm.
func TestManyReadersWithNewQueries(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var readers sync.WaitGroup
		for reader := range 40 {
			readers.Go(func() {
				for n := range 60 {
					err := d.Read(ctx, id.New(), func(tx *db.Tx) error {
						for _, query := range []string{fmt.Sprintf("SELECT %d + ?", reader*30+n%30), "SELECT 0 + ?"} {
							var got, base int
							if _, err := fmt.Sscanf(query, "SELECT %d", &base); err != nil {
								return err
							}
							if err := tx.Row(query, int64(n)).Scan(&got); err != nil {
								return err
							}
							if got != base+n {
								t.Errorf("%s with %d is %d", query, n, got)
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		readers.Wait()
	})
}
