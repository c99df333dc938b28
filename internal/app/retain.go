package app

import (
	"time"

	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/retain"
)

// openRetention wires what lets go of things. Accounts ask it whether an
// organization's keys may be destroyed.
func (c *Core) openRetention() {
	c.Retention = retain.New(retain.Deps{DB: c.DB, Custody: c.Custody, Blob: c.Blob, Accounts: c.Accounts, Clock: c.Clock, Log: c.Log})
}

// purgeEvery is how often somebody looks whether a night's purge is due.
const purgeEvery = 10 * time.Minute

func (s *Server) retentionJob() job.Task {
	return job.Task{Name: "retain.purge", Every: purgeEvery, Do: s.Retention.PurgeDue}
}
