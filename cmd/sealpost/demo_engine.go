package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/spool"
)

const reasonBounced = spool.ReasonBounced

// engineEntries are recipients whose domains the demonstration brings up
// beside those of every loopback internet.
func engineEntries() []fake.Entry {
	return []fake.Entry{
		{Address: "dora@dane.example", Domain: "dane.example", Posture: "a TLSA record in a signed zone (DANE)",
			EndState: fake.Delivered, Seal: fake.TLS, Grade: fake.Authenticated},
		{Address: "paul@partner.example", Domain: "partner.example", Posture: "self-signed, but its key is pinned by us",
			EndState: fake.Delivered, Seal: fake.TLS, Grade: fake.Authenticated},
		{Address: "bella@returns.example", Domain: "returns.example", Posture: "takes mail and returns it a moment later",
			EndState: fake.Failed, Seal: fake.TLS, Reason: reasonBounced},
	}
}

// findEntry is what must become of a delivery to one of the samples' recipients.
func findEntry(address string) (fake.Entry, bool) {
	for _, e := range engineEntries() {
		if e.Address == address {
			return e, true
		}
	}
	e, ok := fake.Find(address)
	return e.WithKeys(), ok
}

// engineDomains brings up the domains of engineEntries.
func (d *demo) engineDomains() error {
	for name, b := range map[string]fake.Behavior{
		"dane.example": {}, "partner.example": {Cert: fake.CertSelfSigned}, "returns.example": {Returns: "5.1.1"},
	} {
		if err := d.net.AddDomain(fake.Domain{Name: name, Host: &b}); err != nil {
			return err
		}
	}
	d.net.SetSecure("dane.example", true)
	d.net.PutTLSA("mx.dane.example", fake.TLSAOf(3, 1, 1, d.net.Certificate("mx.dane.example")))
	return nil
}

// settleEngine pins the partner's key, signs what leaves, and gives what comes
// back a way.
func (d *demo) settleEngine(ctx context.Context, org id.ID) error {
	cert := d.net.Certificate("mx.partner.example")
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	if _, err := d.core.Partners.Put(ctx, org, partner.Change{Domain: "partner.example",
		Pins: []partner.Pin{{Kind: partner.Key, Fingerprint: hex.EncodeToString(sum[:])}}}); err != nil {
		return fmt.Errorf("pin the partner's key: %w", err)
	}
	keys, err := d.core.DKIM.List(ctx, org, demoDomain)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		k, err := d.core.DKIM.Create(ctx, org, demoDomain, dkim.RSA)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	for _, k := range keys {
		d.net.SetTXT(k.Name(), k.Value)
	}
	if _, err := d.core.DKIM.Activate(ctx, org, demoDomain); err != nil {
		return err
	}
	return d.settleReturns(ctx, org)
}

func (d *demo) settleReturns(ctx context.Context, org id.ID) error {
	us, host := d.core.Config.Hostname, inbound.DefaultHost(demoDomain)
	addr := netip.MustParseAddr("127.0.0.1")
	d.net.SetA(us, addr)
	d.net.SetPTR(addr, us)
	d.net.SetTXT(demoDomain, "v=spf1 a:"+us+" -all")
	d.net.SetTXT("_dmarc."+demoDomain, "v=DMARC1; p=reject; rua=mailto:dmarc@"+host)
	d.net.SetMX(host, fake.MX{Preference: 10, Host: us})
	for _, r := range d.core.ReturnPaths.Records(host) {
		if r.Type == "TXT" {
			d.net.SetTXT(r.Name, r.Value)
		}
	}
	d.net.PutOutside(us, d.core.Config.Listen.Relay)
	return d.core.ReturnPaths.Set(ctx, org, demoDomain, host)
}
