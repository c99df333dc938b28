package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/web"
	"github.com/sealpost/sealpost/internal/zone"
)

// openZone wires what compares the DNS of our domains with what it must say.
func (c *Core) openZone(outside *fetch.Client) {
	c.Zone = zone.New(zone.Deps{
		DB: c.DB, Clock: c.Clock, Log: c.Log, Accounts: c.Accounts, Resolver: c.Resolver, Fetch: outside, Hostname: c.Config.Hostname,
		SMTPPort: c.Config.Network.SMTPPort,
		Keys: func(ctx context.Context, org id.ID, domain string) ([]dkim.Key, error) {
			return c.DKIM.List(ctx, org, domain)
		},
		Certificates: c.shownCertificates,
		Sources:      c.mailSources,
		ReturnPath: func(ctx context.Context, org id.ID, domain string) (string, error) {
			all, err := c.ReturnPaths.List(ctx, org)
			for _, p := range all {
				if p.Domain == domain && p.OffAt.IsZero() {
					return p.Host, nil
				}
			}
			return "", err
		},
	})
}

// mailSources are the addresses of the pools that an organization's mail leaves
// from, as others see them.
func (c *Core) mailSources(ctx context.Context, org id.ID) (all []zone.Source, err error) {
	o, err := c.Accounts.Org(ctx, org)
	if err != nil {
		return nil, err
	}
	for _, stream := range []string{"transactional", "bulk"} {
		for _, p := range poolsOf(c.Config.Pool, o.Slug, stream) {
			for _, s := range sourcesOf(p, c.Config.Hostname) {
				if !slices.Contains(all, s) {
					all = append(all, s)
				}
			}
		}
	}
	return all, nil
}

// poolsOf are the pool that mail of a stream leaves from and those that take
// over from it.
func poolsOf(pools []config.Pool, slug, stream string) (chosen []config.Pool) {
	byName := map[string]config.Pool{config.DefaultPool: {Name: config.DefaultPool}}
	best, weight := config.DefaultPool, 0
	for _, p := range pools {
		byName[p.Name] = p
		w := 0
		if slices.Contains(p.Orgs, slug) {
			w += 2
		}
		if slices.Contains(p.Streams, stream) {
			w++
		}
		named := len(p.Orgs) == 0 || slices.Contains(p.Orgs, slug)
		if named && (len(p.Streams) == 0 || slices.Contains(p.Streams, stream)) && w > weight {
			best, weight = p.Name, w
		}
	}
	for name := best; name != "" && len(chosen) <= len(pools); name = byName[name].Overflow {
		chosen = append(chosen, byName[name])
	}
	return chosen
}

func sourcesOf(p config.Pool, hostname string) (all []zone.Source) {
	addrs, helo := p.PublicAddresses, p.Helo
	if len(addrs) == 0 {
		addrs = p.Addresses
	}
	if len(helo) == 0 {
		helo = []string{hostname}
	}
	for i, text := range addrs {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, zone.Source{Addr: a, Helo: helo[min(i, len(helo)-1)]})
		}
	}
	if len(addrs) == 0 {
		all = append(all, zone.Source{Helo: helo[0]})
	}
	return all
}

// shownCertificates are the leaf of the listeners' certificate, and of the one
// that comes next where the configuration names it.
func (c *Core) shownCertificates() (all []*x509.Certificate, err error) {
	if c.ACME != nil {
		return c.obtainedCertificate()
	}
	for _, file := range []string{c.Config.TLS.CertFile, c.Config.TLS.NextCertFile} {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Invalid, "bad_certificate", "A certificate file holds no certificate in PEM.")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.Join(errors.New("a certificate cannot be read"), err)
		}
		all = append(all, cert)
	}
	return all, nil
}

func (c *Core) zoneJobs() []job.Task {
	return []job.Task{{Name: "zone.check", Every: time.Hour, Do: c.Zone.CheckDue}}
}

// policiesPerMinute is how many MTA-STS policies one client may ask for.
const policiesPerMinute = 120

func (s *Server) serveZone(mux *http.ServeMux) error {
	limit, err := web.NewLimiter(s.Clock, policiesPerMinute, policiesPerMinute)
	if err != nil {
		return err
	}
	web.MTASTS{Policy: s.Zone.Served, Limit: limit}.Routes(mux)
	return nil
}

var domainsDesc = prometheus.NewDesc("sealpost_sender_domains", "Verified sender domains by what the DNS said of them when it was last asked.", []string{"state"}, nil)

// domains counts the verdicts when somebody asks.
type domains struct{ s *Server }

func (domains) Describe(ch chan<- *prometheus.Desc) { ch <- domainsDesc }

func (d domains) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var n map[zone.State]int
	if err := d.s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		n, err = zone.Count(tx)
		return err
	}); err != nil {
		return
	}
	for state, count := range n {
		ch <- prometheus.MustNewConstMetric(domainsDesc, prometheus.GaugeValue, float64(count), string(state))
	}
}
