package app

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/acme"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/private"
)

// openACME wires what gets certificates from an authority, where the
// configuration names one.
func (c *Core) openACME() error {
	cfg := c.Config
	if !cfg.TLS.ByACME() {
		return nil
	}
	roots, err := loadRoots(cfg.TLS.ACMECAFile, "tls.acme_ca_file")
	if err != nil {
		return err
	}
	c.ACME = acme.New(acme.Deps{
		DB: c.DB, Custody: c.Custody, Clock: c.Clock, Log: c.Log, Resolver: c.Resolver,
		Directory: cfg.TLS.ACME, Contact: private.NewString(cfg.TLS.ACMEEmail), Roots: roots, DNS: cfg.Network.Resolver,
		Hostname: cfg.Hostname, TLSALPN: cfg.Listen.HTTPTLS && servesHTTP(cfg), HTTP: cfg.Listen.ACMEHTTP != "",
		Names: c.certified,
	})
	return nil
}

func servesHTTP(cfg *config.Config) bool {
	return cfg.Listen.HTTP != "" && (cfg.HasRole(config.RoleAPI) || cfg.HasRole(config.RolePortal))
}

// certified are the names that listeners are reached by.
func (c *Core) certified(ctx context.Context) ([]string, error) {
	names := []string{c.Config.Hostname}
	if u, err := url.Parse(c.Config.PublicURL); err == nil && u.Scheme == "https" {
		names = append(names, u.Hostname())
	}
	domains, err := c.Zone.ServedDomains(ctx)
	for _, d := range domains {
		names = append(names, "mta-sts."+d)
	}
	return names, err
}

// obtainedCertificate is the one that mail hosts are shown, if there is one.
func (c *Core) obtainedCertificate() ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	held, err := c.ACME.Held(ctx)
	for _, h := range held {
		if h.Name == c.Config.Hostname && h.Leaf != nil {
			return []*x509.Certificate{h.Leaf}, nil
		}
	}
	return nil, err
}

// listenACME opens the door for challenges in clear.
func (s *Server) listenACME() error {
	if s.ACME == nil || s.Config.Listen.ACMEHTTP == "" {
		return nil
	}
	public, err := url.Parse(s.Config.PublicURL)
	if err != nil {
		return err
	}
	base := func(host string) string {
		if host == public.Hostname() {
			return s.Config.PublicURL // it may have a port
		}
		return "https://" + host
	}
	return s.serveHTTP(s.Config.Listen.ACMEHTTP, false, http.Handler(s.ACME.Door(base)), &s.Addrs.ACMEHTTP)
}

var (
	daysDesc    = prometheus.NewDesc("sealpost_certificate_days_left", "Days until the first of the listeners' certificates ends.", nil, nil)
	missingDesc = prometheus.NewDesc("sealpost_certificates_missing", "Host names of ours that have no certificate yet.", nil, nil)
)

// validity tells how long certificates last when somebody asks.
type validity struct{ s *Server }

func (validity) Describe(ch chan<- *prometheus.Desc) { ch <- daysDesc; ch <- missingDesc }

func (v validity) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var ends []time.Time
	missing := 0
	if v.s.ACME != nil {
		held, err := v.s.ACME.Held(ctx)
		if err != nil {
			return
		}
		for _, h := range held {
			if h.Leaf == nil {
				missing++
				continue
			}
			ends = append(ends, h.Leaf.NotAfter)
		}
	} else if now := v.s.certs.current.Load(); now != nil {
		ends = append(ends, now.cert.Leaf.NotAfter)
	}
	ch <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, float64(missing))
	if len(ends) == 0 {
		return
	}
	first := ends[0]
	for _, e := range ends {
		if e.Before(first) {
			first = e
		}
	}
	ch <- prometheus.MustNewConstMetric(daysDesc, prometheus.GaugeValue, first.Sub(v.s.Clock.Now()).Hours()/24)
}
