package deliver

import (
	"context"
	"errors"
	"net/netip"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/posture"
)

// way is how the mail of one organization reaches a domain: what the domain
// can do, and what the organization has arranged with it. A domain with a route
// has the host of that in place of all that its public posture says.
type way struct {
	posture.Posture
	terms  partner.Terms
	routed bool
	port   int // of the route; zero: the usual one
}

// way learns what holds today.
func (d *Deps) way(ctx context.Context, org id.ID, domain string) (way, error) {
	k, err := d.toHosts(ctx, domain)
	if err != nil || d.Partner == nil {
		return k, err
	}
	k.terms, err = d.Partner(ctx, org, domain)
	return k, err
}

// toHosts finds the hosts of a domain: that of its route, or what it publishes.
func (d *Deps) toHosts(ctx context.Context, domain string) (way, error) {
	if d.Route != nil {
		r, found, err := d.Route(ctx, domain)
		if err != nil || found {
			return way{routed: true, port: r.Port,
				Posture: posture.Posture{Domain: domain, MX: []posture.MX{{Host: r.Host, Addrs: r.Addrs}}}}, err
		}
	}
	known, err := d.Posture.Refresh(ctx, domain)
	return way{Posture: known}, err
}

// Route is where the mail of a domain goes by the word of its own organization.
type Route struct {
	Host  string
	Port  int // zero: the usual one
	Addrs []netip.Addr
}

// target is a mail host of the domain, and all that it must prove.
func (k *way) target(mx posture.MX, domain string, port int) smtpclient.Target {
	t := smtpclient.Target{Host: mx.Host, Addrs: mx.Addrs, Port: port, Domain: domain, STS: k.STSFor(mx.Host), DANE: daneOf(mx.DANE),
		Client: k.terms.Client, Floor: k.terms.Floor, Routed: k.routed}
	if k.port != 0 {
		t.Port = k.port
	}
	if k.terms.Pinned() {
		t.Pin = &smtpclient.Pin{Hosts: k.terms.Hosts, Certificates: k.terms.Certificates, Keys: k.terms.Keys, CAs: k.terms.CAs}
	}
	return t
}

// daneOf gives the client the records that it may hold a certificate against.
func daneOf(d *posture.DANE) *smtpclient.DANE {
	if d == nil {
		return nil
	}
	out := &smtpclient.DANE{Base: d.Base, Names: d.Names, Failed: d.Error != ""}
	for _, t := range d.Usable() {
		out.Records = append(out.Records, smtpclient.TLSA(t))
	}
	return out
}

func (w *worker) target(known way, mx posture.MX) smtpclient.Target {
	return known.target(mx, w.q.domain, w.e.SMTPPort)
}

func (w *worker) dial(ctx context.Context, known way, mx posture.MX, floor policy.Grade) (*smtpclient.Conn, error) {
	e, t := w.e, w.target(known, mx)
	conn, evidence, err := smtpclient.Dial(ctx, w.dialer(&t), t, floor)
	var weak *smtpclient.WeakError
	arranged := t.Pin != nil || t.Client != nil || t.Routed // and so nothing for others to know of the domain
	if !arranged && (err == nil || errors.As(err, &weak) && !weak.Temporary) {
		e.Posture.Learn(ctx, w.q.domain, evidence.Grade, mx.Host)
	}
	if !t.Routed {
		e.tellTLS(ctx, known.Posture, mx, t, evidence, err)
	}
	return conn, err
}

// Probed is what a mail host shows to an organization.
type Probed struct {
	Preference uint16
	Evidence   smtpclient.Evidence
	Err        error // nil: mail of the organization may go to it
}

// Probe connects to the mail hosts of a domain as a delivery of the
// organization would, and sends nothing.
func Probe(ctx context.Context, d Deps, org id.ID, domain string) ([]Probed, error) {
	known, err := d.way(ctx, org, domain)
	if err != nil {
		return nil, err
	}
	var all []Probed
	for _, mx := range known.MX {
		conn, evidence, err := smtpclient.Dial(ctx, d.SMTP, known.target(mx, domain, d.SMTPPort), policy.Encrypted)
		if err == nil {
			_ = conn.Close() // it has shown what it has
		}
		all = append(all, Probed{mx.Preference, evidence, err})
	}
	return all, nil
}
