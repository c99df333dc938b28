package discover

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/sha1" // #nosec G505 -- names pages, as the draft says
	"encoding/base32"
	"net/url"
	"time"

	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// The methods of draft-koch-openpgp-webkey-service section 3.1.
const (
	advanced = "advanced"
	direct   = "direct"
)

const (
	methodFor = time.Hour // that a method is believed
	maxMisses = 3         // addresses without a key before the domain is asked whether it has a directory
)

// zBase32 is the alphabet of RFC 6189 section 5.1.6.
var zBase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// wkdHash names a local part. Only ASCII letters are lowered, as the draft
// says; other letters stay as they are.
func wkdHash(local string) string {
	lower := []byte(local)
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c + ('a' - 'A')
		}
	}
	var sum [sha1.Size]byte
	// SHA-1 gives the page its name here; it protects nothing.
	fips140.WithoutEnforcement(func() { sum = sha1.Sum(lower) }) // #nosec G401
	return zBase32.EncodeToString(sum[:])
}

// wkdBase is where a domain's directory begins.
func wkdBase(method, domain string) string {
	if method == advanced {
		return "https://openpgpkey." + domain + "/.well-known/openpgpkey/" + domain + "/"
	}
	return "https://" + domain + "/.well-known/openpgpkey/"
}

// wkdPage is where the key of an address stands. Besides its name, made of the
// local part in lower case, it gets that as a spells it: a host may look at
// either.
func wkdPage(method string, a mail.Address) string {
	return wkdBase(method, a.Domain()) + "hu/" + wkdHash(a.Local()) + "?l=" + url.QueryEscape(a.Local())
}

// askWKD asks the Web Key Directory of the domain. That the answer came over
// verified HTTPS from a host of the domain confirms it.
func (s *Sources) askWKD(ctx context.Context, a mail.Address) Answer {
	key := WKD + " " + a.Domain()
	return s.about(ctx, key, func(f fact) Answer {
		method, limit := f.method, s.limit
		if !s.clock.Now().Before(f.known) {
			begin := time.Now()
			m, done := s.wkdMethod(ctx, key, a.Domain())
			if m == "" {
				return done
			}
			method, limit = m, max(s.limit-time.Since(begin), s.limit/2)
		}
		var err error
		out := eachSpelling(a, func(a mail.Address) (out Answer) {
			out, err = s.fetchKey(ctx, wkdPage(method, a), limit, policy.Confirmed)
			return out
		})
		if method == direct {
			// That there is no host for the advanced method was plain DNS: the
			// key that was there before may be there still.
			out.Certain = false
		}
		switch {
		case hostFails(out.Word):
			return s.fails(ctx, key, out.Word)
		case out.Word == fetch.Busy:
			return out
		case len(out.Findings) > 0:
			s.answered(key)
			s.facts.update(key, func(f *fact) { f.misses = -1 })
			return out
		}
		return s.wkdMiss(ctx, key, method, a.Domain(), out, err)
	})
}

// wkdMethod finds the host of the directory: the direct method is for domains
// that have no such sub-domain. Empty means that there is none now.
func (s *Sources) wkdMethod(ctx context.Context, key, domain string) (string, Answer) {
	work, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	for _, m := range []struct{ method, host string }{{advanced, "openpgpkey." + domain}, {direct, domain}} {
		addrs, ttl, err := s.resolver.Addresses(work, m.host)
		if len(addrs) > 0 {
			s.facts.update(key, func(f *fact) {
				f.method, f.known = m.method, s.clock.Now().Add(min(max(ttl, believeLeast), methodFor))
			})
			return m.method, Answer{}
		}
		if err != nil {
			return "", s.fails(ctx, key, dnsWord(err))
		}
	}
	return "", s.without(key, believeAbsent, false)
}

// wkdMiss deals with an address that has no key, or a page that is none. A
// domain that has only a web site, which answers everything with something,
// is told by its lack of a policy file: every directory has one (section 3.1).
// Because some directories lack it all the same, a domain that gave a key is
// never asked for it, and others only after some misses.
func (s *Sources) wkdMiss(ctx context.Context, key, method, domain string, out Answer, err error) Answer {
	s.facts.update(key, func(f *fact) {
		f.proven = f.misses < 0 || method == advanced
		f.fails, f.word = 0, ""
		if f.misses >= 0 {
			f.misses++
		}
	})
	f, _ := s.facts.get(key)
	if method == advanced || f.misses < 0 || err == nil && f.misses < maxMisses {
		return out
	}
	resp, perr := s.fetch.Get(ctx, fetch.Request{URL: wkdBase(direct, domain) + "policy", Timeout: s.limit})
	switch {
	case perr == nil && !isPage(resp.Body):
		s.answered(key) // a directory, that has nothing for this address
		s.facts.update(key, func(f *fact) { f.misses = -1 })
		return out
	case perr != nil && (hostFails(fetch.Word(perr)) || fetch.Code(perr) >= 500 || fetch.Word(perr) == fetch.Busy):
		return out
	}
	return s.without(key, believeAbsent, false)
}

// isPage tells a web page, which some sites give for every path.
func isPage(b []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n\ufeff"), []byte("<")) }

// looksLikeKey tells an OpenPGP key from a web page: the first octet of a
// packet has its first bit set (RFC 9580 section 4.2).
func looksLikeKey(b []byte) bool {
	return len(b) > 0 && (b[0]&0x80 != 0 || bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")))
}
