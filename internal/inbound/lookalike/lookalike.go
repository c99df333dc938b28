// Package lookalike finds senders that try to be taken for an organization or
// one of its members: domains that look like one of the organization's, names
// of members before addresses elsewhere, and addresses of the organization
// that stand where only a name should.
//
// It is pure: a header and what the organization is known by go in, findings
// come out. It sees no network, and what it says is a warning, never a proof.
//
// Invariants:
//   - The organization's own domains, and names below them, are never found:
//     whether such an address is genuine is for DMARC to say.
//   - Two domains are compared by what the eye sees of them: letters of other
//     scripts, accents, digits and pairs of letters that look alike are made
//     one before anything is compared.
//   - How many letters may differ depends on how many there are, so that short
//     names, which lie close together by chance, are found only when they look
//     the same.
//   - A finding names domains and fields, and no local part and no person.
package lookalike

import (
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/sealpost/sealpost/internal/mail"
)

// Kind is what was found.
type Kind string

// The kinds.
const (
	Domain  Kind = "domain"  // it looks like a domain of the organization
	Address Kind = "address" // an address of the organization stands in the name before another
	Name    Kind = "name"    // a name of a member stands before an address elsewhere
)

// Finding is one thing that may deceive.
type Finding struct {
	Kind  Kind
	Field string // From, Reply-To or Sender
	Like  string // the domain of the organization; empty for a name
}

// Sentence tells people.
func (f Finding) Sentence() string {
	switch f.Kind {
	case Domain:
		return "look-alike: the domain in " + f.Field + " looks like " + f.Like + " and is another"
	case Address:
		return "look-alike: the name in " + f.Field + " shows an address of " + f.Like + ", and the mail is from elsewhere"
	}
	return "look-alike: the name in " + f.Field + " is that of a member, and the address is elsewhere"
}

// Own is what an organization is known by.
type Own struct {
	Domains []string              // lower case, in A-labels
	Name    func(key string) bool // whether a member has a name of this key; nil: nobody has
}

const (
	mailboxesMax = 20 // of a field; the others are not what people see
	findingsMax  = 4
)

// Look finds what may deceive in a header.
func Look(h mail.Header, own Own) []Finding {
	var all []Finding
	for _, field := range []string{"From", "Reply-To", "Sender"} {
		list := h.Mailboxes(field)
		for _, m := range list[:min(len(list), mailboxesMax)] {
			if f, found := own.look(m, field); found && !slices.Contains(all, f) && len(all) < findingsMax {
				all = append(all, f)
			}
		}
	}
	return all
}

func (o Own) look(m mail.Mailbox, field string) (Finding, bool) {
	domain := m.Address.Domain()
	if o.owns(domain) != "" {
		return Finding{}, false
	}
	for _, own := range o.Domains {
		if Similar(domain, own) {
			return Finding{Domain, field, own}, true
		}
	}
	name := m.Name.Reveal()
	if like := o.shown(name); like != "" {
		return Finding{Address, field, like}, true
	}
	if key := NameKey(name); key != "" && field == "From" && o.Name != nil && o.Name(key) {
		return Finding{Name, field, ""}, true
	}
	return Finding{}, false
}

// owns gives the domain of the organization that a name equals or lies below.
func (o Own) owns(domain string) string {
	for _, own := range o.Domains {
		if domain == own || strings.HasSuffix(domain, "."+own) {
			return own
		}
	}
	return ""
}

// addressLike finds what people read as an address.
var addressLike = regexp.MustCompile(`[^\s"'<>()\[\]:;,@]+@([^\s"'<>()\[\]:;,@]+)`)

// shown gives the domain of the organization that an address in a name has.
func (o Own) shown(name string) string {
	for _, m := range addressLike.FindAllStringSubmatch(name, mailboxesMax) {
		domain, err := mail.ParseDomain(strings.Trim(m[1], "."))
		if err != nil {
			continue
		}
		if own := o.owns(domain); own != "" {
			return own
		}
	}
	return ""
}

// Similar reports whether a domain looks like own. Both are lower case and in
// A-labels.
func Similar(domain, own string) bool {
	base, ownBase := registered(domain), registered(own)
	if base == ownBase || base == "" || ownBase == "" {
		return false
	}
	if hidden(domain, base, own) {
		return true
	}
	label, suffix, _ := strings.Cut(base, ".")
	ownLabel, ownSuffix, _ := strings.Cut(ownBase, ".")
	seen, ownSeen := skeleton(label), skeleton(ownLabel)
	n := len([]rune(written(ownLabel)))
	switch {
	case n < shortest:
		return seen == ownSeen && suffix == ownSuffix
	case seen == ownSeen:
		return true // by other letters, by a hyphen, or under another suffix
	}
	// Among the neighbors under the same suffix, or under one that is itself
	// nearly the same (.com, .co).
	return distance(seen, ownSeen) <= allowed(n) && (suffix == ownSuffix || distance(suffix, ownSuffix) <= 1 && n >= long)
}

const (
	shortest = 4 // letters of a name that a difference can be seen in
	long     = 8
)

// allowed is how many letters may differ.
func allowed(n int) int {
	switch {
	case n < 6:
		return 0
	case n < 12:
		return 1
	}
	return 2
}

// hidden reports whether a domain elsewhere begins with one of ours, or writes
// it in one label: clinic.example.evil.example, clinic-example.evil.example,
// clinic-example.com.
func hidden(domain, base, own string) bool {
	if strings.Contains("."+domain, "."+own+".") {
		return true
	}
	_, suffix, _ := strings.Cut(base, ".")
	joined := strings.ReplaceAll(own, ".", "")
	for _, label := range strings.Split(strings.TrimSuffix(domain, "."+suffix), ".") {
		if strings.ReplaceAll(label, "-", "") == joined && label != own {
			return true
		}
	}
	return false
}

// registered is the part of a domain that somebody had to register.
func registered(domain string) string {
	base, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return ""
	}
	return base
}

// distance is how many letters must be put in, taken out, changed or swapped
// with their neighbor.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
