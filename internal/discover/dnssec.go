package discover

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
)

// personal is the name under which DNS keeps what belongs to an address (RFC
// 7929 section 3, RFC 8162 section 3). The local part is taken as a spells it:
// the RFCs lower nothing.
func personal(a mail.Address, below string) string {
	sum := sha256.Sum256([]byte(a.Local()))
	return hex.EncodeToString(sum[:28]) + "." + below + "." + a.Domain()
}

func (s *Sources) askOPENPGPKEY(ctx context.Context, a mail.Address) Answer {
	return s.askSecure(ctx, a, OPENPGPKEY, "_openpgpkey", dns.TypeOPENPGPKEY, keyOf)
}

func (s *Sources) askSMIMEA(ctx context.Context, a mail.Address) Answer {
	return s.askSecure(ctx, a, SMIMEA, "_smimecert", dns.TypeSMIMEA, certificateOf)
}

// askSecure asks for records of an address that count only when validated.
// First, once for a domain, it asks for the name that all of them stand below:
// where that is not signed, or for certain does not exist, nobody of this
// domain has a record (RFC 8020).
func (s *Sources) askSecure(ctx context.Context, a mail.Address, name, below string, qtype uint16, read func(dns.RR) (Finding, bool)) Answer {
	key := name + " " + a.Domain()
	return s.about(ctx, key, func(f fact) Answer {
		work, cancel := context.WithTimeout(ctx, s.limit)
		defer cancel()
		if !s.clock.Now().Before(f.known) {
			zone, err := s.resolver.Ask(work, below+"."+a.Domain(), qtype)
			if err != nil {
				return s.fails(ctx, key, dnsWord(err))
			}
			if !zone.Secure || zone.Missing {
				return s.without(key, zone.TTL, zone.Secure)
			}
			s.answered(key)
			s.facts.update(key, func(f *fact) { f.known = s.clock.Now().Add(clamp(zone.TTL)) })
		}
		return eachSpelling(a, func(a mail.Address) Answer {
			got, err := s.resolver.Ask(work, personal(a, below), qtype)
			switch {
			case err != nil && dnsWord(err) == fetch.Timeout:
				return s.fails(ctx, key, fetch.Timeout)
			case err != nil:
				return Answer{Word: fetch.DNS} // one record that does not validate says nothing of the others
			}
			return s.readSecure(got, read)
		})
	})
}

func (s *Sources) readSecure(got resolve.Answer, read func(dns.RR) (Finding, bool)) Answer {
	out := s.absent(got.TTL)
	if !got.Secure {
		return out
	}
	for _, rr := range got.RRs {
		if f, ok := read(rr); ok && len(out.Findings) < maxFindings {
			f.Proof = policy.Confirmed
			out.Findings = append(out.Findings, f)
		}
	}
	out.Absent = len(out.Findings) == 0
	out.Certain = out.Absent
	return out
}

// dnsWord is the word of a question without an answer.
func dnsWord(err error) string {
	if resolve.Word(err) == "timeout" {
		return fetch.Timeout
	}
	return fetch.DNS
}

// keyOf reads an OPENPGPKEY record, which is a key and nothing else (RFC 7929
// section 2.2).
func keyOf(rr dns.RR) (Finding, bool) {
	record, ok := rr.(*dns.OPENPGPKEY)
	if !ok || len(record.PublicKey) > base64.StdEncoding.EncodedLen(maxKey) {
		return Finding{}, false
	}
	data, err := base64.StdEncoding.DecodeString(record.PublicKey)
	if err != nil || !looksLikeKey(data) {
		return Finding{}, false
	}
	return Finding{Kind: policy.PGP, Data: data}, true
}

// certificateOf reads an SMIMEA record. Only a person's own certificate, and
// only a whole one, can be sealed to: usages 0 and 2 hold that of an authority
// (RFC 6698 section 2.1.1), and a record that matches a digest or a public key
// names a certificate that nobody has sent.
func certificateOf(rr dns.RR) (Finding, bool) {
	record, ok := rr.(*dns.SMIMEA)
	if !ok || record.Selector != 0 || record.MatchingType != 0 || record.Usage != 1 && record.Usage != 3 || len(record.Certificate) > hex.EncodedLen(maxKey) {
		return Finding{}, false
	}
	der, err := hex.DecodeString(record.Certificate)
	if err != nil || len(der) < 4 || der[0] != 0x30 {
		return Finding{}, false
	}
	return Finding{Kind: policy.SMIME, Data: der, Usage: int(record.Usage)}, true
}
