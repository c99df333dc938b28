package dmarc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/resolve"
)

// walkMax is how many names a tree walk asks at most (RFC 9989 section 4.10):
// the name itself and then those of seven labels and fewer.
const walkMax = 8

// Walker finds policies and organizational domains. It remembers what it
// asked, so one is made for one message and serves one goroutine.
type Walker struct {
	resolver *resolve.Resolver
	seen     map[string]found
}

// NewWalker gives a Walker that knows nothing yet.
func NewWalker(r *resolve.Resolver) *Walker {
	return &Walker{resolver: r, seen: map[string]found{}}
}

// found is what a name has at _dmarc.
type found struct {
	record Record
	text   string
	bad    error // why the one record there cannot be used
	ok     bool
	err    error // the DNS failed
}

// Policy is what applies to mail of an author domain.
type Policy struct {
	Author    string // author domain
	Domain    string // where the record is; empty: there is none
	Org       string // organizational domain of the author domain
	Record    Record
	Text      string // the record as it is published
	Asked     Disposition
	Testing   bool  // what is asked is not to be done yet
	BadRecord error // why a record on the way could not be used, where none was
}

// at looks at one name.
func (w *Walker) at(ctx context.Context, name string) found {
	if f, known := w.seen[name]; known {
		return f
	}
	f := w.ask(ctx, name)
	w.seen[name] = f
	return f
}

func (w *Walker) ask(ctx context.Context, name string) (f found) {
	a, err := w.resolver.Ask(ctx, "_dmarc."+name, dns.TypeTXT)
	if err != nil {
		f.err = fmt.Errorf("policy of %s: %w", name, err)
		return f
	}
	n := 0
	for _, rr := range a.RRs {
		txt, is := rr.(*dns.TXT)
		if !is {
			continue
		}
		text := strings.Join(txt.Txt, "")
		r, err := Parse(text)
		if errors.Is(err, ErrNotDMARC) {
			continue
		}
		n++
		f.record, f.text, f.bad, f.ok = r, text, err, err == nil
	}
	if n > 1 { // section 4.10: all of them are discarded
		return found{bad: errMany}
	}
	return f
}

var errMany = errors.New("there are several DMARC records at one name, so none counts")

// names are the steps of a tree walk from a domain.
func names(domain string) []string {
	labels := strings.Split(domain, ".")
	out := []string{domain}
	if len(labels) >= walkMax {
		labels = labels[len(labels)-walkMax:] // the next step has seven
	}
	for len(labels) > 1 {
		labels = labels[1:]
		out = append(out, strings.Join(labels, "."))
	}
	return out
}

// Organizational finds the organizational domain of a domain (RFC 9989 section
// 4.10.2). The error says that the DNS failed on the way.
func (w *Walker) Organizational(ctx context.Context, domain string) (string, error) {
	org := ""
	steps := names(clean(domain))
	for i, name := range steps {
		f := w.at(ctx, name)
		if f.err != nil {
			return "", f.err
		}
		if !f.ok {
			continue
		}
		switch {
		case f.record.PSD == "n", f.record.PSD == "y" && i == 0:
			return name, nil
		case f.record.PSD == "y":
			return below(steps[0], name), nil
		}
		org = name // the last one has the fewest labels
	}
	if org == "" {
		return steps[0], nil
	}
	return org, nil
}

// below is the name one label longer than parent on the way to domain.
func below(domain, parent string) string {
	rest := strings.TrimSuffix(domain, "."+parent)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + parent
}

func clean(domain string) string { return strings.ToLower(strings.TrimSuffix(domain, ".")) }

// Policy finds what applies to mail of an author domain (RFC 9989 section
// 4.10.1). The error says that the DNS failed, so that nobody knows.
func (w *Walker) Policy(ctx context.Context, author string) (Policy, error) {
	author = clean(author)
	p := Policy{Author: author}
	var err error
	if p.Org, err = w.Organizational(ctx, author); err != nil {
		return p, err
	}
	for _, name := range p.places() {
		f := w.at(ctx, name)
		if f.err != nil {
			return p, f.err
		}
		if f.bad != nil {
			p.BadRecord = f.bad
		}
		if f.bad != nil && !errors.Is(f.bad, errMany) {
			return p, nil // section 4.10.1: no DMARC processing then
		}
		if f.ok && (name == author || name == p.Org || f.record.PSD == "y") {
			p.Domain, p.Record, p.Text = name, f.record, f.text
			break
		}
	}
	if p.Domain == "" {
		return p, nil
	}
	p.BadRecord = nil
	p.Testing = p.Record.Testing
	p.Asked, err = w.asked(ctx, p)
	return p, err
}

// places are where a record for the author domain can be: there, at the
// organizational domain, at the public suffix above it.
func (p Policy) places() []string {
	out := []string{p.Author}
	if p.Org != p.Author {
		out = append(out, p.Org)
	}
	if _, suffix, ok := strings.Cut(p.Org, "."); ok && slices.Contains(names(p.Author), suffix) {
		out = append(out, suffix)
	}
	return out
}

// asked chooses among p, sp and np.
func (w *Walker) asked(ctx context.Context, p Policy) (Disposition, error) {
	r := p.Record
	switch {
	case p.Domain == p.Author:
		return r.P, nil
	case r.NP == r.SP:
		return r.SP, nil
	}
	exists, err := w.exists(ctx, p.Author)
	if err != nil || exists {
		return r.SP, err
	}
	return r.NP, nil
}

// exists reports whether a name is in the DNS: whether it is a "non-existent
// domain" in the sense of RFC 9989 section 3.2.
func (w *Walker) exists(ctx context.Context, name string) (bool, error) {
	a, err := w.resolver.Ask(ctx, name, dns.TypeA)
	return !a.Missing, err
}
