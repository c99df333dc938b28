package partner

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
)

// Change is what to arrange with a domain, beside what is arranged already.
type Change struct {
	Domain     string
	Subdomains *bool // nil: as it is
	Require    *bool
	Hosts      []string // in place of those there are; nil: as they are
	Pins       []Pin    // added
	Unpin      []string // fingerprints that are taken away

	Client    []*x509.Certificate // in place of the one there is; nil: as it is
	ClientKey crypto.Signer
	NoClient  bool // shows itself no more
}

// Put arranges something with a domain. It gives what is arranged now.
func (s *Service) Put(ctx context.Context, org id.ID, c Change) (Entry, error) {
	if err := c.check(s.d.Clock.Now()); err != nil {
		return Entry{}, err
	}
	var secret []byte
	if c.ClientKey != nil {
		var err error
		if secret, err = x509.MarshalPKCS8PrivateKey(c.ClientKey); err != nil {
			return Entry{}, err
		}
	}
	var out Entry
	err := s.change(ctx, org, func(tx *db.Tx) error {
		r, err := s.forChange(tx, org, c.Domain)
		if err != nil {
			return err
		}
		if err := r.apply(c, s.d.Clock.Now()); err != nil {
			return err
		}
		if secret != nil {
			r.secret = secret
		}
		if err := s.save(tx, r); err != nil {
			return err
		}
		out = r.Entry
		return ledger.Append(tx, r.fact(ledger.PartnerChanged, r.Changed, 0))
	})
	return out, err
}

func (c *Change) check(now time.Time) error {
	name, err := mail.ParseDomain(c.Domain)
	if err != nil {
		return fault.New(fault.Invalid, "bad_domain", "An arrangement is with a domain of recipients, such as partner.example.")
	}
	c.Domain = name
	if c.Hosts, err = hostNames(c.Hosts); err != nil {
		return err
	}
	for _, p := range c.Pins {
		if p.Kind == CA && !isAuthority(p.DER) {
			return fault.New(fault.Invalid, "bad_pin", "This certificate is not one of an authority: pin it as the certificate of a mail host.")
		}
		if !p.Expires.IsZero() && !p.Expires.After(now) {
			return fault.Newf(fault.Refused, "pin_expired", "The certificate %s expired on %s.", p.Subject, p.Expires.Format(time.DateOnly))
		}
	}
	return c.checkClient(now)
}

func isAuthority(der []byte) bool {
	c, err := x509.ParseCertificate(der)
	return err == nil && c.BasicConstraintsValid && c.IsCA
}

func hostNames(hosts []string) ([]string, error) {
	if len(hosts) > maxHosts {
		return nil, fault.Newf(fault.Invalid, "too_many_hosts", "Up to %d mail hosts can be named; a wildcard names many.", maxHosts)
	}
	var out []string
	for _, h := range hosts {
		name, wildcard := strings.CutPrefix(h, "*.")
		clean, err := mail.ParseDomain(name)
		if err != nil || wildcard && !strings.Contains(clean, ".") {
			return nil, fault.New(fault.Invalid, "bad_host", "A mail host is a name such as mx.partner.example, or *.partner.example for all one label below.")
		}
		if wildcard {
			clean = "*." + clean
		}
		out = append(out, clean)
	}
	return out, nil
}

func (c *Change) checkClient(now time.Time) error {
	if (len(c.Client) == 0) != (c.ClientKey == nil) || len(c.Client) > maxChain {
		return fault.New(fault.Invalid, "bad_client", "A client certificate comes with its key and with a chain of a few certificates.")
	}
	if len(c.Client) == 0 {
		return nil
	}
	pub, ok := c.ClientKey.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(c.Client[0].PublicKey) {
		return fault.New(fault.Refused, "other_key", "The client certificate does not belong to this key.")
	}
	if !c.Client[0].NotAfter.After(now) {
		return fault.Newf(fault.Refused, "client_expired", "The client certificate expired on %s.", c.Client[0].NotAfter.UTC().Format(time.DateOnly))
	}
	switch k := c.Client[0].PublicKey.(type) {
	case *rsa.PublicKey:
		ok = k.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		ok = k.Curve == elliptic.P256() || k.Curve == elliptic.P384()
	default:
		ok = false
	}
	if !ok {
		return fault.New(fault.Refused, "weak_key", "A client certificate needs an RSA key from 2048 bits, P-256 or P-384.")
	}
	return nil
}

// ErrNoPin says that there is no such pin to remove.
var ErrNoPin = fault.New(fault.NotFound, "no_pin", "Nothing of this fingerprint is pinned. \"sealpost partner show\" lists what is.")

// apply makes the change in memory.
func (r *record) apply(c Change, now time.Time) error {
	for _, print := range c.Unpin {
		before := len(r.Pins)
		r.Pins = slices.DeleteFunc(r.Pins, func(p Pin) bool { return p.Fingerprint == strings.ToLower(print) })
		if len(r.Pins) == before {
			return ErrNoPin
		}
	}
	for _, p := range c.Pins {
		if p.Added = now; !r.has(p) {
			r.Pins = append(r.Pins, p)
		}
	}
	if c.Hosts != nil {
		r.Hosts = c.Hosts
	}
	if c.Subdomains != nil {
		r.Subdomains = *c.Subdomains
	}
	if c.Require != nil {
		r.Require = *c.Require
	}
	if c.Client != nil || c.NoClient {
		r.Client, r.secret, r.secretBox = c.Client, nil, nil
	}
	r.Changed = now
	switch {
	case len(r.Pins) > maxPins:
		return fault.Newf(fault.Invalid, "too_many_pins", "Up to %d pins can stand beside each other; remove those that are over.", maxPins)
	case slices.ContainsFunc(r.Pins, func(p Pin) bool { return p.Kind == CA }) && len(r.Hosts) == 0:
		return fault.New(fault.Invalid, "hosts_needed", "An authority vouches for names, and plain DNS can name any host: name the partner's mail hosts too.")
	case len(r.Pins) == 0 && len(r.Hosts) == 0 && len(r.Client) == 0 && !r.Require:
		return fault.New(fault.Invalid, "nothing_arranged", "Nothing would be left of the arrangement: say what is pinned or required, or remove it.")
	}
	return nil
}

// Remove ends what is arranged with a domain.
func (s *Service) Remove(ctx context.Context, org id.ID, domain string) error {
	return s.change(ctx, org, func(tx *db.Tx) error {
		r, err := s.load(tx, domain)
		if err != nil && !errors.Is(err, custody.ErrDestroyed) {
			return err
		}
		if _, err := tx.Exec("DELETE FROM partner_domains WHERE org_id = ? AND domain = ?", org, domain); err != nil {
			return err
		}
		return ledger.Append(tx, r.fact(ledger.PartnerRemoved, s.d.Clock.Now(), 0))
	})
}

// partnerFact is the clear part of the ledger entries. It holds no secret:
// certificates are shown to whoever connects.
type partnerFact struct {
	Domain     string   `json:"domain"`
	Subdomains bool     `json:"subdomains,omitempty"`
	Require    bool     `json:"require,omitempty"`
	Hosts      []string `json:"hosts,omitempty"`
	Pins       []string `json:"pins,omitempty"`   // kind and fingerprint
	Client     string   `json:"client,omitempty"` // fingerprint
	Days       int      `json:"days,omitempty"`
}

func (r *record) fact(t ledger.Type, at time.Time, days int) ledger.Fact {
	f := partnerFact{Domain: r.Domain, Subdomains: r.Subdomains, Require: r.Require, Hosts: r.Hosts, Days: days}
	for _, p := range r.Pins {
		f.Pins = append(f.Pins, string(p.Kind)+" "+p.Fingerprint)
	}
	if len(r.Client) > 0 {
		f.Client = Fingerprint(r.Client[0])
	}
	return ledger.Fact{Type: t, At: at, Data: f}
}
