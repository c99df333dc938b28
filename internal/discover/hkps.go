package discover

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// askKeyServers asks the key servers, one after another until one has a key.
// They give only keys whose address was verified by a mail, which is more than
// nothing and less than a proof.
func (s *Sources) askKeyServers(ctx context.Context, a mail.Address) Answer {
	var all []Answer
	for _, host := range s.keyServers {
		got := s.askKeyServer(ctx, host, a)
		if len(got.Findings) > 0 {
			return got
		}
		all = append(all, got)
	}
	return combine(all)
}

func (s *Sources) askKeyServer(ctx context.Context, host string, a mail.Address) Answer {
	key := HKPS + " " + host
	return s.about(ctx, key, func(fact) Answer {
		return eachSpelling(a, func(a mail.Address) Answer {
			address := strings.ReplaceAll(url.QueryEscape(a.Reveal()), "+", "%20")
			out, err := s.fetchKey(ctx, "https://"+host+"/vks/v1/by-email/"+address, s.limit, policy.Discovered)
			switch {
			case hostFails(out.Word), fetch.Code(err) >= 500, fetch.Code(err) == 429:
				return s.fails(ctx, key, out.Word)
			case out.Word == "":
				s.answered(key)
			}
			return out
		})
	})
}

// combine makes one answer of those of several servers: what any has found is
// found, and only when all say no it is no.
func combine(all []Answer) Answer {
	out := Answer{Absent: true, Certain: true}
	earlier := func(t time.Time) {
		if !t.IsZero() && (out.Until.IsZero() || t.Before(out.Until)) {
			out.Until = t
		}
	}
	for _, a := range all {
		out.Findings = append(out.Findings, a.Findings...)
		if a.Word != "" {
			out.Word = a.Word
		}
		out.Certain = out.Certain && a.Certain
		earlier(a.Until)
	}
	if len(out.Findings) > 0 {
		out.Word = ""
	}
	out.Absent = len(out.Findings) == 0 && out.Word == ""
	out.Certain = out.Certain && out.Absent
	return out
}
