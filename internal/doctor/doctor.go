// Package doctor looks at an installation and at what it stands on, and says
// what keeps mail from flowing and what to do about it.
//
// Invariants:
//   - It only looks: nothing is written, and no mail is sent.
//   - Every finding that is not good says what to do.
//   - What could not be looked at is never told as good.
//   - Each look is bounded in time, and one that hangs delays no other.
//   - Findings name hosts, ports, files and times, never a person.
package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/acme"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/zone"
)

// State is how a finding is to be taken.
type State string

// The states.
const (
	Good    State = "good"
	Warning State = "warning" // it works, and will not for long or not everywhere
	Wrong   State = "wrong"
)

// Finding is what one look came to.
type Finding struct {
	Check string `json:"check"` // stable word
	State State  `json:"state"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // what to do, unless good
}

// Deps are what is looked at, and with what.
type Deps struct {
	Config   *config.Config
	DB       *db.DB // nil: OpenFailed tells why there is none
	Failed   error  // why the database or the keys could not be opened
	Resolver *resolve.Resolver
	Roots    *x509.CertPool // nil: the system's
	Clock    clock.Clock
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a plain net.Dialer
	MX       string                                                            // domain whose mail host is tried; empty: none

	// Obtained gives the certificates that were got by ACME. nil: it is not used.
	Obtained func(ctx context.Context) ([]acme.Held, error)

	// Jobs tells when periodic tasks were last done. nil: nobody knows.
	Jobs func(ctx context.Context) ([]job.Standing, error)
	// Domains gives what the DNS said of sender domains when it was last asked.
	// nil: nobody knows.
	Domains func(ctx context.Context) ([]zone.Report, error)

	// Routes connects to where mail for members goes on to. nil: it is not
	// looked at.
	Routes func(ctx context.Context) ([]Route, error)

	// Disk gives the free and all octets of a folder's file system.
	Disk func(folder string) (free, all uint64, err error)
	// Steered reports whether the machine's clock is kept right by a time
	// service, as far as the system knows.
	Steered func() (bool, error)
	// Files is how many files the process may have open.
	Files func() (uint64, error)
}

// lookLimit bounds one look.
const lookLimit = 15 * time.Second

// look is one thing that is looked at.
type look struct {
	check string
	do    func(context.Context) []Finding
}

// Examine looks at everything, at the same time, and gives the findings in a
// fixed order.
func Examine(ctx context.Context, d Deps) []Finding {
	if d.Dial == nil {
		d.Dial = new(net.Dialer).DialContext
	}
	looks := d.looks()
	found := make([][]Finding, len(looks))
	var work sync.WaitGroup
	for i, l := range looks {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, lookLimit)
			defer cancel()
			if err := func() (err error) {
				defer private.Recover(&err)
				found[i] = l.do(ctx)
				return nil
			}(); err != nil {
				found[i] = wrong("Report it with the version of Sealpost.", "This could not be looked at, because of %v.", err)
			}
			for n := range found[i] {
				found[i][n].Check = l.check
			}
		})
	}
	work.Wait()
	var all []Finding
	for _, f := range found {
		all = append(all, f...)
	}
	return all
}

func (d Deps) looks() []look {
	return []look{
		{"database", d.database},
		{"keys", d.keys},
		{"disk", d.disk},
		{"files", d.files},
		{"clock", d.clock},
		{"resolver", d.resolver},
		{"hostname", d.hostname},
		{"certificate", d.certificate},
		{"listeners", d.listeners},
		{"outgoing", d.outgoing},
		{"jobs", d.jobs},
		{"domains", d.domains},
		{"routes", d.routes},
		{"scanners", d.scanners},
	}
}

func good(format string, args ...any) []Finding {
	return []Finding{{State: Good, Text: fmt.Sprintf(format, args...)}}
}

func warning(fix, format string, args ...any) []Finding {
	return []Finding{{State: Warning, Text: fmt.Sprintf(format, args...), Fix: fix}}
}

func wrong(fix, format string, args ...any) []Finding {
	return []Finding{{State: Wrong, Text: fmt.Sprintf(format, args...), Fix: fix}}
}
