package classify

import (
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// list collects recipients, each once.
type list struct {
	kind Kind
	out  []Recipient
	seen map[string]int
}

// add takes a recipient whose address parses, and says whether it did.
func (l *list) add(address string, r Recipient) bool {
	a, ok := anAddress(address)
	if !ok || len(l.out) >= maxRecipients {
		return false
	}
	if l.seen == nil {
		l.seen = map[string]int{}
	}
	if i, twice := l.seen[a.Normal()]; twice {
		// What is known of one recipient is told in one place; a failure says
		// more than a delay before it.
		if l.out[i].Kind == Delay && r.Kind == Bounce || l.out[i].Class == Other && r.Class != Other && l.out[i].Kind == r.Kind {
			r.Address, r.Original = l.out[i].Address, l.out[i].Original
			l.out[i] = r
		}
		return true
	}
	r.Address = private.NewString(a.Reveal())
	l.seen[a.Normal()] = len(l.out)
	l.out = append(l.out, r)
	return true
}

// anAddress reads the address of a field: with its type in front (RFC 3464
// section 2.3.2), in angle brackets, or with utf-8 escapes (RFC 6533 section
// 3).
func anAddress(v string) (mail.Address, bool) {
	v = strings.TrimSpace(v)
	kind, rest, typed := strings.Cut(v, ";")
	if typed && !strings.ContainsAny(kind, "@ <\"") {
		v = strings.TrimSpace(rest)
		if strings.EqualFold(strings.TrimSpace(kind), "utf-8") {
			v = unescapeUTF8(v)
		}
	}
	if i := strings.LastIndexByte(v, '<'); i >= 0 {
		if j := strings.IndexByte(v[i:], '>'); j > 0 {
			v = v[i+1 : i+j]
		}
	}
	v = strings.Trim(v, " \t<>;,'")
	a, err := mail.ParseAddress(v)
	if err != nil && strings.HasPrefix(v, `"`) {
		a, err = mail.ParseAddress(strings.Trim(v, `"`))
	}
	return a, err == nil && strings.Contains(a.Domain(), ".")
}

var utf8Escape = regexp.MustCompile(`\\x\{([0-9A-Fa-f]{2,6})\}`)

// unescapeUTF8 reads \x{…} of a utf-8-address (RFC 6533 section 3).
func unescapeUTF8(s string) string {
	return utf8Escape.ReplaceAllStringFunc(s, func(e string) string {
		var r rune
		for _, c := range e[3 : len(e)-1] {
			r = r<<4 | rune(strings.IndexRune("0123456789abcdef", c|0x20))
		}
		return string(r)
	})
}

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// hostName reads "dns; host", with or without the type.
func hostName(v string) string {
	if _, rest, ok := strings.Cut(v, ";"); ok {
		v = rest
	}
	v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
	v = strings.ToLower(strings.Trim(v, "[]().<>"))
	if !hostPattern.MatchString(v) {
		return ""
	}
	return v
}

// notified reads the groups of a delivery status notification.
func (m *material) notified() (Report, bool) {
	var rep Report
	l := list{}
	m.quotedStatus()
	for _, g := range m.status {
		if h := hostName(g.get("reporting-mta")); h != "" && rep.Reporter == "" {
			rep.Reporter = h
		}
		m.group(&l, g)
	}
	if len(l.out) == 0 {
		return Report{}, false
	}
	rep.Recipients = l.out
	rep.Kind = worst(l.out)
	return rep, true
}

// worst is what a report is about: failure before delay before success.
func worst(rs []Recipient) Kind {
	found := Delivered
	for _, r := range rs {
		switch {
		case r.Kind == Bounce:
			return Bounce
		case r.Kind == Delay:
			found = Delay
		}
	}
	return found
}

// group reads one recipient (RFC 3464 section 2.3).
func (m *material) group(l *list, g fields) {
	final, original := g.get("final-recipient"), g.get("original-recipient")
	if final == "" && original == "" && g.get("x-actual-recipient") == "" {
		return
	}
	diagnostic := g.get("diagnostic-code")
	kind, known := outcome(g.get("action"), g.get("status"), diagnostic)
	if !known {
		return
	}
	v := m.explain(final, diagnostic, g.get("status"), kind)
	r := v.recipient(kind, diagnostic)
	first, isFirst := anAddress(original)
	if a, ok := anAddress(final); ok && isFirst && first.Normal() != a.Normal() && !m.ours(first) {
		r.Original = private.NewString(first.Reveal())
	}
	for _, address := range []string{final, original, g.get("x-actual-recipient")} {
		if l.add(address, r) {
			return
		}
	}
	// The address is not one, such as a local name or a command: the returned
	// message tells whom it was for.
	if to := addressesIn(m.returned.get("to")); len(to) == 1 {
		l.add(to[0], r)
	}
}

// ours reports whether an address is the sender's, to whom the report goes:
// some systems write that as Original-Recipient.
func (m *material) ours(a mail.Address) bool {
	for _, name := range []string{"to", "delivered-to"} {
		for _, t := range addressesIn(m.top.get(name)) {
			if b, ok := anAddress(t); ok && a.Normal() == b.Normal() {
				return true
			}
		}
	}
	return false
}

// outcome reads Action (RFC 3464 section 2.3.3), and without one the status.
func outcome(action, status, diagnostic string) (Kind, bool) {
	action, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(action)), " ")
	switch strings.Trim(action, "();,") {
	case "failed", "fail", "failure":
		return Bounce, true
	case "delayed", "delay":
		return Delay, true
	case "delivered", "relayed", "expanded", "deliverable":
		return Delivered, true
	}
	s, _ := statusIn(status)
	if s == "" {
		s, _ = statusIn(diagnostic)
	}
	switch {
	case strings.HasPrefix(s, "5"):
		return Bounce, true
	case strings.HasPrefix(s, "4"):
		return Delay, true
	case strings.HasPrefix(s, "2"):
		return Delivered, true
	}
	return Bounce, diagnostic != ""
}

var statusLine = regexp.MustCompile(`(?im)^\s{0,4}(Final-Recipient|Original-Recipient):`)

// quotedStatus takes the fields of a status part that stands in a text: the
// report has lost its form on its way.
func (m *material) quotedStatus() {
	if len(m.status) > 0 || !m.fromSystem() {
		return
	}
	for _, t := range m.texts {
		at := statusLine.FindStringIndex(t)
		if at == nil {
			continue
		}
		if i := strings.LastIndex(t[:at[0]], "\n\n"); i >= 0 {
			t = t[i+2:]
		}
		m.status = append(m.status, groups([]byte(t))...)
	}
}
