package doctor_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/doctor"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/zone"
)

// healthy is an installation with nothing wrong, but that it is not reachable
// from the internet.
func healthy(t *testing.T, d *db.DB) doctor.Deps {
	t.Helper()
	n, err := fake.Start(context.Background(), fake.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	cfg := config.Default()
	dir := t.TempDir()
	cfg.DataDir, cfg.Hostname, cfg.PublicURL = dir, "mx.modern.example", "http://localhost"
	cfg.Keys = config.Keys{Dir: filepath.Join(dir, "keys"), MasterFile: filepath.Join(t.TempDir(), "master.key")}
	if err := os.Mkdir(cfg.Keys.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Keys.MasterFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg.TLS.CertFile, cfg.TLS.KeyFile, err = n.IssueFiles(dir, "server", []string{"mx.modern.example"}, fake.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	cfg.Network = config.Network{Resolver: n.ResolverAddr, SMTPPort: n.SMTPPort, DNSSEC: true}
	mail := listen(t, "220 here\r\n")
	cfg.Listen = config.Listen{HTTP: listen(t, ""), Submission: mail, Submissions: listen(t, ""), Relay: mail, Metrics: listen(t, "")}
	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Inbound.Rspamd = "http://" + listen(t, "")
	return doctor.Deps{Config: cfg,
		Jobs: func(context.Context) ([]job.Standing, error) {
			return []job.Standing{{Name: "retain.purge", Every: time.Hour, DoneAt: time.Now().Add(-time.Hour)}, {Name: "new", Every: time.Second}}, nil
		},
		Domains: func(context.Context) ([]zone.Report, error) {
			return []zone.Report{{Domain: "clinic.example", State: zone.Warning}}, nil
		},
		Routes: func(context.Context) ([]doctor.Route, error) {
			return []doctor.Route{{Domain: "clinic.example", Host: "mx.suite.example", Grade: policy.Authenticated}}, nil
		}, DB: d, Resolver: r, Roots: n.CAPool(), Clock: clock.System{}, MX: "modern.example",
		Disk:    func(string) (uint64, uint64, error) { return 50 << 30, 100 << 30, nil },
		Steered: func() (bool, error) { return true, nil },
		Files:   func() (uint64, error) { return 65536, nil },
	}
}

// listen answers every connection with a line.
func listen(t *testing.T, line string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(line))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// bad gives the checks that are not good.
func bad(found []doctor.Finding) (checks []string) {
	for _, f := range found {
		if f.State != doctor.Good {
			checks = append(checks, f.Check)
		}
	}
	return checks
}

func TestHealthyInstallation(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		found := doctor.Examine(context.Background(), healthy(t, d))
		// The fake internet is on loopback, which no peer can reach.
		if got := bad(found); !slices.Equal(got, []string{"hostname"}) {
			t.Errorf("not good: %v\n%+v", got, found)
		}
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Text == "The DNS of 1 sender domain has what mail needs." }) {
			t.Errorf("%+v", found)
		}
	})
}

// Each fault is found, by its own check alone, and comes with what to do.
func TestFaultsAreFound(t *testing.T) {
	d := dbtest.SQLite(t)
	for name, c := range map[string]struct {
		check string
		state doctor.State
		spoil func(*doctor.Deps)
	}{
		"no database":       {"database", doctor.Wrong, func(d *doctor.Deps) { d.DB, d.Failed = nil, fault.New(fault.Unavailable, "x", "The database is away.") }},
		"open master key":   {"keys", doctor.Wrong, func(d *doctor.Deps) { _ = os.Chmod(d.Config.Keys.MasterFile, 0o644) }},
		"no master key":     {"keys", doctor.Wrong, func(d *doctor.Deps) { _ = os.Remove(d.Config.Keys.MasterFile) }},
		"disk nearly full":  {"disk", doctor.Warning, func(d *doctor.Deps) { d.Disk = func(string) (uint64, uint64, error) { return 9 << 30, 100 << 30, nil } }},
		"disk full":         {"disk", doctor.Wrong, func(d *doctor.Deps) { d.Disk = func(string) (uint64, uint64, error) { return 1 << 20, 100 << 30, nil } }},
		"few files":         {"files", doctor.Warning, func(d *doctor.Deps) { d.Files = func() (uint64, error) { return 1024, nil } }},
		"clock runs free":   {"clock", doctor.Warning, func(d *doctor.Deps) { d.Steered = func() (bool, error) { return false, nil } }},
		"clock not known":   {"clock", doctor.Warning, func(d *doctor.Deps) { d.Steered = func() (bool, error) { return false, os.ErrInvalid } }},
		"resolver silent":   {"resolver", doctor.Wrong, func(d *doctor.Deps) { d.Resolver = silent(t) }},
		"certificate ends":  {"certificate", doctor.Warning, func(d *doctor.Deps) { d.Clock = clock.NewFake(ends(t, d).Add(-24 * time.Hour)) }},
		"certificate ended": {"certificate", doctor.Wrong, func(d *doctor.Deps) { d.Clock = clock.NewFake(ends(t, d).Add(time.Hour)) }},
		"nobody listens":    {"listeners", doctor.Wrong, func(d *doctor.Deps) { d.Config.Listen.Submissions = "127.0.0.1:1" }},
		"somebody else":     {"listeners", doctor.Wrong, func(d *doctor.Deps) { d.Config.Listen.Relay = listen(t, "HTTP/1.1 400 what\r\n") }},
		"no node":           {"listeners", doctor.Warning, func(d *doctor.Deps) { d.Config.Listen.Metrics = "127.0.0.1:1" }},
		"port 25 is closed": {"outgoing", doctor.Wrong, func(d *doctor.Deps) { d.Config.Network.SMTPPort = 1 }},
		"resolver is plain": {"resolver", doctor.Warning, func(d *doctor.Deps) { d.Config.Network.DNSSEC = false }},
		"a job is late": {"jobs", doctor.Warning, func(d *doctor.Deps) {
			d.Jobs = func(context.Context) ([]job.Standing, error) {
				return []job.Standing{{Name: "ledger.place", Every: time.Second, DoneAt: time.Now().Add(-time.Hour)}}, nil
			}
		}},
		"jobs not known": {"jobs", doctor.Warning, func(d *doctor.Deps) {
			d.Jobs = func(context.Context) ([]job.Standing, error) { return nil, os.ErrInvalid }
		}},
		"a domain is wrong": {"domains", doctor.Wrong, func(d *doctor.Deps) {
			d.Domains = func(context.Context) ([]zone.Report, error) {
				return []zone.Report{{Domain: "clinic.example", State: zone.Bad}}, nil
			}
		}},
		"routes not known": {"routes", doctor.Warning, func(d *doctor.Deps) {
			d.Routes = func(context.Context) ([]doctor.Route, error) { return nil, os.ErrInvalid }
		}},
		"a look that panics": {"routes", doctor.Wrong, func(d *doctor.Deps) {
			d.Routes = func(context.Context) ([]doctor.Route, error) { panic("content") }
		}},
		"no Rspamd":    {"scanners", doctor.Wrong, func(d *doctor.Deps) { d.Config.Inbound.Rspamd = "http://127.0.0.1:1" }},
		"no ClamAV":    {"scanners", doctor.Wrong, func(d *doctor.Deps) { d.Config.Inbound.ClamAV = "unix:///nowhere/clamd" }},
		"no such host": {"hostname", doctor.Wrong, func(d *doctor.Deps) { d.Config.Hostname = "nowhere.example" }},
	} {
		t.Run(name, func(t *testing.T) {
			deps := healthy(t, d)
			c.spoil(&deps)
			found := doctor.Examine(context.Background(), deps)
			i := slices.IndexFunc(found, func(f doctor.Finding) bool { return f.Check == c.check && f.State == c.state })
			if i < 0 {
				t.Fatalf("not found: %+v", found)
			}
			if found[i].Fix == "" || !strings.HasSuffix(found[i].Text, ".") {
				t.Errorf("a finding without advice: %+v", found[i])
			}
		})
	}
}

// Each way in which a route fails comes with words of its own.
func TestRoutesThatFail(t *testing.T) {
	for want, failed := range map[string]error{
		"certificate is not valid": &smtpclient.WeakError{Reason: smtpclient.WeakRouteFailed},
		"starttls_not_offered":     &smtpclient.WeakError{Reason: smtpclient.WeakNoStartTLS},
		"connection_refused":       &smtpclient.ConnError{Word: smtpclient.ConnRefused},
		"(554)":                    &smtpclient.RefusedError{Reply: smtpclient.Reply{Code: 554}},
		"(dns)":                    fault.New(fault.Unavailable, "dns", "x"),
	} {
		d := healthy(t, dbtest.SQLite(t))
		d.Routes = func(context.Context) ([]doctor.Route, error) {
			return []doctor.Route{{Domain: "good.example", Host: "mx.good.example", Grade: policy.Authenticated}, {Domain: "clinic.example", Host: "mx.suite.example", Failed: failed}}, nil
		}
		var texts []string
		for _, f := range doctor.Examine(context.Background(), d) {
			if f.Check == "routes" {
				texts = append(texts, string(f.State)+" "+f.Text+f.Fix)
			}
		}
		if len(texts) != 2 || !strings.HasPrefix(texts[0], "good ") || !strings.Contains(texts[0], "authenticated") || !strings.HasPrefix(texts[1], "wrong ") || !strings.Contains(texts[1], want) {
			t.Errorf("%s: %q", want, texts)
		}
	}
}

func silent(t *testing.T) *resolve.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	port := c.LocalAddr().(*net.UDPAddr).Port
	r, err := resolve.New(resolve.Deps{Servers: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ends is when the certificate of an installation ends.
func ends(t *testing.T, d *doctor.Deps) time.Time {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(d.Config.TLS.CertFile, d.Config.TLS.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.NotAfter
}
