package policy

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// Pattern matches addresses: one address, one domain, or every name under a
// domain (*.example.org, which leaves example.org itself out). It hides the
// local part of an address however it is printed.
type Pattern struct {
	address mail.Address
	domain  string
	under   bool
}

var errPattern = errors.New("policy: a pattern is an address, a domain or *. and a domain")

// ParsePattern reads a pattern. Its errors do not contain the text.
func ParsePattern(text string) (Pattern, error) {
	if strings.Contains(text, "@") {
		return parseAddressPattern(text)
	}
	name, under := strings.CutPrefix(text, "*.")
	domain, err := mail.ParseDomain(name)
	if err != nil {
		return Pattern{}, errPattern
	}
	return Pattern{domain: domain, under: under}, nil
}

// parseAddressPattern keeps the normal form, and takes only addresses whose
// normal form is an address with that same normal form.
func parseAddressPattern(text string) (Pattern, error) {
	written, err := mail.ParseAddress(text)
	if err != nil {
		return Pattern{}, errPattern
	}
	normal, err := mail.ParseAddress(written.Normal())
	if err != nil || normal.Normal() != written.Normal() {
		return Pattern{}, errPattern
	}
	return Pattern{address: normal}, nil
}

// Match reports whether the pattern matches a. No pattern matches the zero
// address.
func (p Pattern) Match(a mail.Address) bool {
	switch {
	case a.IsZero():
		return false
	case !p.address.IsZero():
		return p.address.Domain() == a.Domain() && p.address.Normal() == a.Normal()
	case p.under:
		return strings.HasSuffix(a.Domain(), "."+p.domain)
	default:
		return p.domain == a.Domain()
	}
}

// Reveal gives the pattern as it is written in a document.
func (p Pattern) Reveal() string {
	switch {
	case !p.address.IsZero():
		return p.address.Reveal()
	case p.under:
		return "*." + p.domain
	default:
		return p.domain
	}
}

// String hides the local part.
func (p Pattern) String() string {
	if !p.address.IsZero() {
		return p.address.String()
	}
	return p.Reveal()
}

func (p Pattern) GoString() string           { return p.String() }
func (p Pattern) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }
func (p Pattern) LogValue() slog.Value       { return slog.StringValue(p.String()) }

// MarshalText fails: a document is written by Render alone, so that neither a
// log nor a store gets half of it.
func (p Pattern) MarshalText() ([]byte, error) {
	return nil, errors.New("policy: patterns are written by Render only")
}
