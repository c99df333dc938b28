package posture

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/resolve"
)

// DANE is what DNSSEC says of the TLS of a mail host (RFC 7672). TLS is
// mandatory with it, whatever the records say.
type DANE struct {
	Base    string   `json:"base"`              // TLSA base domain (section 2.2.3)
	Names   []string `json:"names"`             // that a certificate may have under usage 2 (section 3.2.2)
	Records []TLSA   `json:"records,omitempty"` // as they are published
	Error   string   `json:"error,omitempty"`   // why they cannot be had now; the host is not to be used until they can
}

// TLSA is one record (RFC 6698 section 2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// Usages, selectors and matching types.
const (
	usageTA, usageEE                     = 2, 3
	selectCertificate, selectKey         = 0, 1
	matchExact, matchSHA256, matchSHA512 = 0, 1, 2
	maxTLSA                              = 32 // records of one host
	sizeSHA256, sizeSHA512               = 32, 64
)

// dane looks for the TLSA records of a host whose addresses are known. nil
// means that there is no DANE: a validated or an unsigned answer says so.
func (r resolver) dane(ctx context.Context, host string, h resolve.Host) (*DANE, time.Duration) {
	ttl := h.TTL
	candidates := []string{h.Name, host}
	switch {
	case h.Secure && h.Name == host:
		candidates = candidates[:1]
	case h.Secure:
	case h.Name == host:
		// Where the addresses are not signed the records are not either, and
		// many servers of such zones do not answer the question (section 2.2.2).
		return nil, ttl
	default: // an alias out of its zone; it may be signed where what it leads to is not
		a, err := r.Ask(ctx, host, dns.TypeCNAME)
		if err != nil {
			return &DANE{Base: host, Error: resolve.Word(err)}, ttl
		}
		ttl = min(ttl, a.TTL)
		if !a.Secure {
			return nil, ttl
		}
		candidates = candidates[1:]
	}
	for _, base := range candidates {
		a, err := r.Ask(ctx, "_"+strconv.Itoa(r.port)+"._tcp."+base, dns.TypeTLSA)
		if err != nil {
			return &DANE{Base: base, Error: resolve.Word(err)}, ttl
		}
		ttl = min(ttl, a.TTL)
		if a.Secure && len(a.RRs) > 0 {
			return &DANE{Base: base, Records: records(a.RRs)}, ttl
		}
	}
	return nil, ttl
}

func records(rrs []dns.RR) (out []TLSA) {
	for _, rr := range rrs[:min(len(rrs), maxTLSA)] {
		t := rr.(*dns.TLSA)
		data, err := hex.DecodeString(t.Certificate)
		if err != nil {
			data = nil // never usable
		}
		out = append(out, TLSA{t.Usage, t.Selector, t.MatchingType, data})
	}
	slices.SortFunc(out, func(a, b TLSA) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// serve notes the names that the host may be known by: its own, before and
// after aliases, and those of the domain whose mail it takes.
func (d *DANE) serve(names ...string) {
	if d == nil {
		return
	}
	for _, name := range append([]string{d.Base}, names...) {
		if !slices.Contains(d.Names, name) {
			d.Names = append(d.Names, name)
		}
	}
}

func (d *DANE) failed() bool { return d != nil && d.Error != "" }

// Usable gives the records that a certificate may be proved by. None where
// there are records means that TLS is mandatory and proves nobody (RFC 7672
// section 2.2).
func (d *DANE) Usable() (out []TLSA) {
	if d.failed() || d == nil {
		return nil
	}
	for _, t := range d.Records {
		if t.usable() && !d.outdated(t) {
			out = append(out, t)
		}
	}
	return out
}

// Lines are the records as zone files have them.
func (d *DANE) Lines() (out []string) {
	for _, t := range d.Records {
		out = append(out, t.String())
	}
	return out
}

// outdated reports whether a usable record of the same kind has a stronger
// digest; then only that counts (RFC 7671 section 9).
func (d *DANE) outdated(t TLSA) bool {
	return t.Matching == matchSHA256 && slices.ContainsFunc(d.Records, func(o TLSA) bool {
		return o.Usage == t.Usage && o.Selector == t.Selector && o.Matching == matchSHA512 && o.usable()
	})
}

// usable leaves out the usages that mean public authorities (RFC 7672 section
// 3.1.3), what is not known and what is malformed.
func (t TLSA) usable() bool {
	if t.Usage != usageTA && t.Usage != usageEE || t.Selector > selectKey {
		return false
	}
	switch t.Matching {
	case matchSHA256:
		return len(t.Data) == sizeSHA256
	case matchSHA512:
		return len(t.Data) == sizeSHA512
	case matchExact:
		var err error
		if t.Selector == selectCertificate {
			_, err = x509.ParseCertificate(t.Data)
		} else {
			_, err = x509.ParsePKIXPublicKey(t.Data)
		}
		return err == nil
	}
	return false
}

// String is the record as zone files and reports have it.
func (t TLSA) String() string {
	return fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.Matching, t.Data)
}

// MarshalText makes it so in JSON too.
func (t TLSA) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (t *TLSA) UnmarshalText(text []byte) error {
	fields := strings.Split(string(text), " ")
	if len(fields) != 4 {
		return errors.New("not a TLSA record")
	}
	for i, into := range []*uint8{&t.Usage, &t.Selector, &t.Matching} {
		n, err := strconv.ParseUint(fields[i], 10, 8)
		if err != nil {
			return fmt.Errorf("not a TLSA record: %w", err)
		}
		*into = uint8(n)
	}
	var err error
	t.Data, err = hex.DecodeString(fields[3])
	return err
}

func (d *DANE) list(line func(name, format string, args ...any)) {
	switch usable := d.Usable(); {
	case d == nil:
		return
	case d.failed():
		line("", "TLSA records of %s cannot be had now (%s): the host is not used until they can", d.Base, d.Error)
	case len(usable) == 0:
		line("", "TLSA records of %s: none can be used, so TLS is mandatory and proves nobody", d.Base)
	default:
		for _, t := range usable {
			line("", "TLSA of %s: %s", d.Base, t)
		}
	}
}
