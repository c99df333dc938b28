package posture

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/policy"
)

// Posture is what is known of one domain. It holds nothing private: it is
// stored, and shown as it is.
type Posture struct {
	Domain string `json:"domain"`

	MX       []MX `json:"mx,omitempty"`
	NullMX   bool `json:"null_mx,omitempty"`  // takes no mail (RFC 7505)
	Implicit bool `json:"implicit,omitempty"` // no MX: the domain's own address is its mail host (RFC 5321 section 5.1)
	Missing  bool `json:"missing,omitempty"`  // does not exist, or has neither MX nor address

	DNSSEC bool `json:"dnssec,omitempty"` // the resolver that answered was trusted to validate
	Secure bool `json:"secure,omitempty"` // and proved that these are the mail hosts, or that there are none

	MXAt      time.Time `json:"mx_at,omitzero"`      // when the answer was had
	MXExpires time.Time `json:"mx_expires,omitzero"` // when to ask again
	MXError   string    `json:"mx_error,omitempty"`  // why asking again failed; the answer is an older one

	STS STS      `json:"sts"`
	TLS *Learned `json:"tls,omitempty"`
}

// MX is one mail host.
type MX struct {
	Host       string       `json:"host"`
	Preference uint16       `json:"preference"`
	Addrs      []netip.Addr `json:"addrs,omitempty"`
	DANE       *DANE        `json:"dane,omitempty"` // nil: DNSSEC says nothing of its TLS
}

// STS is the MTA-STS policy of a domain (RFC 8461).
type STS struct {
	Mode      string    `json:"mode,omitempty"` // enforce, testing, none; empty: no policy
	ID        string    `json:"id,omitempty"`
	MX        []string  `json:"mx,omitempty"`
	FetchedAt time.Time `json:"fetched_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	CheckAt   time.Time `json:"check_at,omitzero"`    // when to look for a new one
	LastError string    `json:"last_error,omitempty"` // one of the STS words
}

// Learned is the result of an attempt to use TLS.
type Learned struct {
	Grade     policy.Grade `json:"grade"`
	Host      string       `json:"host"`
	At        time.Time    `json:"at"`
	ExpiresAt time.Time    `json:"expires_at"`
}

// Facts are what policy forecasts from.
func (p Posture) Facts() policy.Posture {
	f := policy.Posture{
		Known:      !p.MXAt.IsZero(),
		NullMX:     p.NullMX,
		STSEnforce: p.STS.Mode == modeEnforce,
		DANE:       slices.ContainsFunc(p.MX, func(mx MX) bool { return len(mx.DANE.Usable()) > 0 }),
	}
	if p.TLS != nil {
		f.TLSKnown, f.CanTLS = true, p.TLS.Grade
	}
	return f
}

// Bearing is what a domain's MTA-STS policy says of one mail host. It is an
// alias, so that the SMTP client can take it as its own type.
type Bearing = struct {
	Enforce bool
	Match   bool
	ID      string
}

// STSFor tells what the policy says of host. Only mode enforce binds.
func (p Posture) STSFor(host string) Bearing {
	if p.STS.Mode != modeEnforce {
		return Bearing{}
	}
	return Bearing{Enforce: true, Match: p.STSMatch(host), ID: p.STS.ID}
}

// STSMatch reports whether host is one of the policy's mail hosts (RFC 8461
// section 4.1).
func (p Posture) STSMatch(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(p.STS.MX, func(pattern string) bool { return matchMX(pattern, host) })
}

// matchMX: a wildcard stands for exactly one label, the leftmost.
func matchMX(pattern, host string) bool {
	parent, wildcard := strings.CutPrefix(pattern, "*.")
	if !wildcard {
		return pattern == host
	}
	label, rest, ok := strings.Cut(host, ".")
	return ok && label != "" && rest == parent
}

// Lines are the policy as its file says it (RFC 8461 section 3.2).
func (s STS) Lines() []string {
	if s.Mode == "" {
		return nil
	}
	out := []string{"version: STSv1", "mode: " + s.Mode}
	for _, mx := range s.MX {
		out = append(out, "mx: "+mx)
	}
	return append(out, fmt.Sprintf("max_age: %d", int64(s.ExpiresAt.Sub(s.FetchedAt)/time.Second)))
}

// later gives s with the time of the next look and the result of this one. A
// policy is looked at again when it runs out, at the latest.
func (s STS) later(word string, check time.Time) STS {
	s.LastError, s.CheckAt = word, check
	if s.ExpiresAt.After(s.FetchedAt) && s.ExpiresAt.Before(check) {
		s.CheckAt = s.ExpiresAt
	}
	return s
}

// old reports whether a policy is fetched again although its id is the same,
// so that it does not run out while its host is down (RFC 8461 section 3.3).
func (s STS) old(now time.Time) bool {
	return now.Sub(s.FetchedAt) >= min(maxCheck, s.ExpiresAt.Sub(s.FetchedAt)/2)
}

// worthKeeping leaves names that do not exist out of the database.
func (p *Posture) worthKeeping() bool { return p.known() && (!p.Missing || p.STS.Mode != "") }

// known reports whether there is anything to tell.
func (p *Posture) known() bool { return !p.MXAt.IsZero() || p.STS.Mode != "" || p.TLS != nil }

// differs reports whether p says something else than q, times of looking aside.
func (p *Posture) differs(q *Posture) bool {
	a, b := *p, *q
	for _, x := range []*Posture{&a, &b} {
		x.MXAt, x.MXExpires, x.STS.CheckAt, x.TLS = time.Time{}, time.Time{}, time.Time{}, nil
	}
	return !reflect.DeepEqual(a, b)
}

// fresh reports whether nothing has to be looked up.
func (p *Posture) fresh(now time.Time) bool {
	return p.freshMX(now) && now.Before(p.STS.CheckAt)
}

// freshMX is also false of an answer from the future: the clock was set back.
func (p *Posture) freshMX(now time.Time) bool { return now.Before(p.MXExpires) && !now.Before(p.MXAt) }

// at gives what still holds at now: an expired MTA-STS policy, an old TLS result
// and mail hosts that nobody asked for in a week are left out.
func (p *Posture) at(now time.Time) Posture {
	out := *p
	if now.Sub(out.MXAt) >= forgetMX {
		out.forgetMX()
	}
	if out.STS.Mode != "" && !now.Before(out.STS.ExpiresAt) {
		out.STS = STS{CheckAt: out.STS.CheckAt, LastError: out.STS.LastError}
	}
	if out.TLS != nil && !now.Before(out.TLS.ExpiresAt) {
		out.TLS = nil
	}
	return out
}

// forgetMX leaves out where the domain's mail goes.
func (p *Posture) forgetMX() {
	p.MX, p.NullMX, p.Implicit, p.Missing, p.DNSSEC, p.Secure = nil, false, false, false, false, false
	p.MXAt, p.MXExpires, p.MXError = time.Time{}, time.Time{}, ""
}

// shuffled gives the hosts in an order of its own where preferences are equal
// (RFC 5321 section 5.1), and leaves the original alone.
func shuffled(mxs []MX) []MX {
	out := slices.Clone(mxs)
	for i := 0; i < len(out); {
		j := i + 1
		for j < len(out) && out[j].Preference == out[i].Preference {
			j++
		}
		same := out[i:j]
		rand.Shuffle(len(same), func(a, b int) { same[a], same[b] = same[b], same[a] })
		i = j
	}
	return out
}

// String is the listing that people read.
func (p Posture) String() string {
	var b strings.Builder
	b.WriteString(p.Domain + "\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s  %s\n", name, fmt.Sprintf(format, args...))
	}
	p.listMX(line)
	p.listSTS(line)
	if p.TLS == nil {
		line("TLS", "not tried lately")
	} else {
		line("TLS", "%s at %s, seen %s", p.TLS.Grade, p.TLS.Host, stamp(p.TLS.At))
	}
	return b.String()
}

func (p Posture) listMX(line func(name, format string, args ...any)) {
	switch {
	case p.MXAt.IsZero():
		line("mail hosts", "not known yet")
		return
	case p.Missing:
		line("mail hosts", "none: the domain does not exist or has no address")
	case p.NullMX:
		line("mail hosts", "none: the domain says that it takes no mail")
	}
	for _, mx := range p.MX {
		addrs := make([]string, len(mx.Addrs))
		for i, a := range mx.Addrs {
			addrs[i] = a.String()
		}
		text := strings.Join(addrs, ", ")
		if text == "" {
			text = "no address"
		}
		if p.Implicit {
			text += "; the domain itself, as it has no MX"
		}
		line("mail host", "%d %s (%s)", mx.Preference, mx.Host, text)
		mx.DANE.list(line)
	}
	switch {
	case !p.DNSSEC:
		line("DNSSEC", "not looked at: network.dnssec is off")
	case p.Secure:
		line("DNSSEC", "proves where the mail goes")
	default:
		line("DNSSEC", "the domain is not signed")
	}
	line("asked", "%s, again %s", stamp(p.MXAt), stamp(p.MXExpires))
	if p.MXError != "" {
		line("", "the last question failed (%s); this is the answer before it", p.MXError)
	}
}

func (p Posture) listSTS(line func(name, format string, args ...any)) {
	if p.STS.Mode == "" {
		line("MTA-STS", "no policy")
	} else {
		line("MTA-STS", "%s, policy %s, until %s", p.STS.Mode, p.STS.ID, stamp(p.STS.ExpiresAt))
		if len(p.STS.MX) > 0 {
			line("", "mail hosts: %s", strings.Join(p.STS.MX, ", "))
		}
	}
	if p.STS.LastError != "" {
		line("", "the last look for a policy failed: %s", p.STS.LastError)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
