package deliver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/tlsrpt"
)

// TestDomainsReadOfTheirTLS: mail goes to domains with good TLS and with TLS
// that fails in several ways. Once the day is over, each that asks for reports
// has one, by https or by a mail that the same engine delivers over TLS, and
// what it reads there is what the engine told of its sessions.
func TestDomainsReadOfTheirTLS(t *testing.T) {
	n := internet(t)
	d := dbtest.SQLite(t)
	// The engine's day is over already: its sessions are counted two days back.
	const back = 48 * time.Hour
	counter := tlsrpt.NewCounter(tlsrpt.CounterDeps{DB: d, Clock: clock.System{}, Log: logs})
	var mu sync.Mutex
	told := map[string]map[string]int64{} // by domain, sessions by policy and result
	over := false                         // the day is: what is tried again later is not of it
	h := start(t, d, n, func(deps *deliver.Deps) {
		deps.TLSResult = func(_ context.Context, r deliver.TLSResult) {
			mu.Lock()
			defer mu.Unlock()
			if over {
				return
			}
			if told[r.Domain] == nil {
				told[r.Domain] = map[string]int64{}
			}
			told[r.Domain][r.PolicyType+" "+r.Result]++
			s := tlsrpt.Session{At: r.At.Add(-back), Domain: r.Domain,
				Policy: tlsrpt.Applied{Type: r.PolicyType, Strings: r.PolicyString, Domain: r.PolicyDomain, MX: r.MXPatterns}}
			if r.Result != "" {
				s.Detail = tlsrpt.Cause{Result: r.Result, MX: r.MX, ReceivingIP: r.ReceivingIP, SendingIP: r.SendingIP, Reason: r.Reason}
			}
			counter.Count(s)
		}
	})
	posted := map[string]*tlsrpt.Report{}
	if err := n.PutHandler("collector.example", "/v1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		report, err := tlsrpt.Read(bytes.NewReader(b))
		if err != nil {
			t.Errorf("what was posted cannot be read: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		posted[report.ID] = report
		w.WriteHeader(http.StatusCreated)
	})); err != nil {
		t.Fatal(err)
	}
	domains := []string{"modern.example", "no-starttls.example", "sts-enforce.example", "sts-wrong-cert.example", "sts-unlisted-mx.example", "sts-testing-expired.example"}
	for i, domain := range domains {
		rua := "https://collector.example/v1"
		if i == 2 {
			rua = "mailto:tls@modern.example"
		}
		n.SetTXT("_smtp._tls."+domain, "v=TLSRPTv1; rua="+rua)
		h.accept(submit.Draft{}, "somebody@"+domain, "else@"+domain)
	}
	h.until("sessions with all of them", func() bool {
		mu.Lock()
		defer mu.Unlock()
		over = len(told) == len(domains)
		return over
	})
	if err := counter.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	report(t, h)
	mails, err := n.Wait(t.Context(), "tls@modern.example", 1)
	if err != nil {
		t.Fatal(err)
	}
	mailed, err := tlsrpt.Read(bytes.NewReader(mails[0].Raw))
	if err != nil || mails[0].TLS == "" || mails[0].From != "" {
		t.Fatalf("the mailed report: %v, TLS %q", err, mails[0].TLS)
	}
	mu.Lock()
	defer mu.Unlock()
	posted[mailed.ID] = mailed
	for _, domain := range domains {
		got := map[string]int64{}
		for id, r := range posted {
			if !strings.Contains(id, "."+domain+".") {
				continue
			}
			for _, p := range r.Policies {
				if p.Successes > 0 {
					got[p.Type+" "] += p.Successes
				}
				for _, detail := range p.Details {
					got[p.Type+" "+detail.Result] += detail.Sessions
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(told[domain]) {
			t.Errorf("%s reads of %v, and %v were told", domain, got, told[domain])
		}
	}
}

// report lets the reports of days past be sent.
func report(t *testing.T, h *node) {
	t.Helper()
	r, err := resolve.New(resolve.Deps{Servers: []string{h.net.ResolverAddr}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tlsrpt.NewReporter(tlsrpt.ReporterDeps{
		DB: h.DB, Custody: h.Custody, Clock: clock.System{}, Log: logs, Resolver: r, Hostname: "mail.clinic.test",
		Fetch:  fetch.New(fetch.Deps{Resolver: r, Roots: h.net.CAPool(), AnyAddress: true, HTTPSPort: h.net.HTTPSPort}),
		Signed: func(context.Context) (bool, error) { return true, nil },
		Posted: func([]spool.Item) { h.engine.Poke() },
	}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var states map[string]int
	if err := h.DB.Read(t.Context(), db.System, func(tx *db.Tx) (err error) {
		states, err = tlsrpt.Outgoing(tx)
		return err
	}); err != nil || states["sent"] != 6 || states["due"]+states["failed"] != 0 {
		t.Fatalf("reports: %v, %v", states, err)
	}
}
