package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"blitiri.com.ar/go/spf"

	"github.com/sealpost/sealpost/internal/verdict"
)

const whySPF = "Mail hosts take SPF as a sign that mail from our address is really the domain's."

// spf looks at the domain's own record.
func (c *checker) spf(ctx context.Context) { c.spfAt(ctx, SPF, c.domain) }

// spfAt looks at the SPF record of a name that our mail has in its envelope
// (RFC 7208).
func (c *checker) spfAt(ctx context.Context, check, name string) {
	item := Item{Check: check, Name: name, Needed: true}
	found, err := c.texts(ctx, name, "v=spf1")
	found = onlySPF(found)
	if err != nil {
		c.unknown(check, name, true)
		return
	}
	sources, err := c.leaving(ctx)
	if err != nil {
		c.unknown(check, c.Hostname, true)
		return
	}
	record := func(value string) []Record { return []Record{{name, "TXT", value}} }
	switch len(found) {
	case 0:
		item.Status, item.Publish = Missing, record(withSources("v=spf1 ~all", c.mechanisms()))
		item.Text = "There is no SPF record. " + whySPF
		c.add(item)
		return
	case 1:
	default:
		item.Status = Wrong
		item.Text = fmt.Sprintf("There are %d SPF records, which counts as an error (RFC 7208 section 4.5): take all away but one. %s", len(found), whySPF)
		c.add(item)
		return
	}
	base := found[0]
	item.Status, item.Text, base = c.judgeSPF(ctx, name, base, sources)
	if base != "" {
		item.Publish = record(withSources(base, c.mechanisms()))
	}
	c.add(item)
}

// onlySPF drops what only begins like a record: v=spf10 is another version.
func onlySPF(all []string) (found []string) {
	for _, t := range all {
		if len(t) == len("v=spf1") || t[len("v=spf1")] == ' ' {
			found = append(found, t)
		}
	}
	return found
}

// nobody is an address that is nobody's (RFC 5737). A record that it passes
// lets everybody pass, and a record that needs too many questions needs them
// for it, since nothing matches before the end.
var nobody = netip.AddrFrom4([4]byte{192, 0, 2, 233})

// judgeSPF says how the record of a name stands, and which record our
// addresses are to be put into, if that would make it right.
func (c *checker) judgeSPF(ctx context.Context, name, record string, sources []Source) (_ Status, text, base string) {
	const failed = "The DNS could not be asked for all that the record includes. Try again later."
	switch result, err := c.evaluate(ctx, nobody, name); {
	case result == spf.TempError:
		return Unknown, failed, ""
	case errors.Is(err, spf.ErrLookupLimitReached), errors.Is(err, spf.ErrVoidLookupLimitReached):
		return Wrong, "The record needs more DNS questions than hosts ask (10, and 2 for names that do not exist; RFC 7208 section 4.6.4): take includes out, or put addresses in their place. " + whySPF, ""
	case result == spf.PermError:
		return Wrong, "The record has a mistake, so that no host can use it. " + whySPF, "v=spf1 ~all"
	case result == spf.Pass:
		return Wrong, "The record lets everybody send as the domain (+all), which hosts count against it.", "v=spf1 ~all"
	}
	if len(sources) == 0 {
		return Wrong, "The address that mail leaves from is not known: " + c.Hostname + " has none in the DNS.", ""
	}
	for _, a := range sources {
		switch result, _ := c.evaluate(ctx, a.Addr, name); result {
		case spf.Pass:
		case spf.TempError:
			return Unknown, failed, ""
		default:
			return Wrong, fmt.Sprintf("The record gives %q to %s, which mail leaves from. %s", result, a.Addr, whySPF), record
		}
	}
	return OK, "Our addresses pass.", ""
}

func (c *checker) evaluate(ctx context.Context, a netip.Addr, name string) (spf.Result, error) {
	return spf.CheckHostWithSender(a.AsSlice(), c.Hostname, "postmaster@"+name, spf.WithContext(ctx), spf.WithResolver(verdict.Lookups(ctx, c.Resolver)))
}

// leaving are the addresses that mail leaves from.
func (c *checker) leaving(ctx context.Context) (all []Source, err error) {
	for _, s := range c.sources {
		if s.Addr.IsValid() {
			all = append(all, s)
			continue
		}
		addrs, _, err := c.Resolver.Addresses(ctx, s.Helo)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			all = append(all, Source{a, s.Helo})
		}
	}
	return all, nil
}

// mechanisms name our addresses in an SPF record.
func (c *checker) mechanisms() (out []string) {
	for _, s := range c.sources {
		m := "a:" + s.Helo
		switch {
		case s.Addr.Is4():
			m = "ip4:" + s.Addr.String()
		case s.Addr.Is6():
			m = "ip6:" + s.Addr.String()
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// withSources puts mechanisms in front of all others, where nothing that fails
// stands before them.
func withSources(record string, mechanisms []string) string {
	fields := strings.Fields(record)
	out := []string{fields[0]}
	for _, m := range mechanisms {
		known := false
		for _, f := range fields[1:] {
			known = known || strings.EqualFold(f, m)
		}
		if !known {
			out = append(out, m)
		}
	}
	return strings.Join(append(out, fields[1:]...), " ")
}
