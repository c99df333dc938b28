package db

import (
	"sync/atomic"
	"time"
)

// figures count what the lanes commit.
type figures struct{ transactions, writes, failed, nanos atomic.Int64 }

// Figures tells what was written since the database was opened.
type Figures struct {
	Transactions int64         // committed
	Writes       int64         // in them
	Failed       int64         // transactions that were rolled back
	Took         time.Duration // for all transactions together
	Waiting      int           // writes that no lane has taken yet
}

// Figures gives the figures of now.
func (d *DB) Figures() Figures {
	return Figures{d.figures.transactions.Load(), d.figures.writes.Load(), d.figures.failed.Load(), time.Duration(d.figures.nanos.Load()), len(d.queue)}
}

func (f *figures) count(began time.Time, writes int, err error) {
	f.nanos.Add(int64(time.Since(began)))
	if err != nil {
		f.failed.Add(1)
		return
	}
	f.transactions.Add(1)
	f.writes.Add(int64(writes))
}
