package app

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/job"
)

// tendEvery is how soon a key signs whose record was published.
const tendEvery = 5 * time.Minute

// openDKIM wires the keys that sign for domains.
func (c *Core) openDKIM() {
	c.DKIM = dkim.NewService(dkim.Deps{
		DB: c.DB, Custody: c.Custody, Clock: c.Clock, Log: c.Log, Hostname: c.Config.Hostname,
		RotateAfter: c.Config.DKIM.RotateAfter, Overlap: c.Config.DKIM.Overlap,
		TXT: func(ctx context.Context, name string) ([]string, error) {
			found, _, err := c.Resolver.Texts(ctx, name)
			return found, err
		},
	})
}

func (c *Core) dkimJobs() []job.Task {
	return []job.Task{{Name: "dkim.tend", Every: tendEvery, Do: c.DKIM.Tend}}
}
