package posture

import (
	"context"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/internal/fetch"
)

// Why a policy could not be had.
const (
	STSDNS         = "dns"
	STSRecord      = "record" // several TXT records, or one that is not valid
	STSConnect     = "connect"
	STSTimeout     = "timeout"
	STSCertificate = "certificate"
	STSAddress     = "private_address"
	STSStatus      = "status" // not 200; a redirect too
	STSType        = "content_type"
	STSTooLarge    = "too_large"
	STSSyntax      = "syntax"
)

// fetcher gets policies over HTTPS (RFC 8461 section 3.3). The host is always
// mta-sts.DOMAIN, the path always the same.
type fetcher struct {
	client  *fetch.Client
	timeout time.Duration
}

// fetch gives the policy, or the word that says why there is none.
func (f *fetcher) fetch(ctx context.Context, domain string) (stsPolicy, string) {
	resp, err := f.client.Get(ctx, fetch.Request{
		URL: "https://mta-sts." + domain + "/.well-known/mta-sts.txt",
		Max: maxPolicy, Types: []string{"text/plain"}, Timeout: f.timeout,
	})
	if err != nil {
		return stsPolicy{}, stsWord(fetch.Word(err))
	}
	p, err := parsePolicy(string(resp.Body))
	if err != nil {
		return stsPolicy{}, STSSyntax
	}
	return p, ""
}

// stsWord names what went wrong as postures that are stored name it.
func stsWord(word string) string {
	switch word {
	case fetch.Type:
		return STSType
	case fetch.Busy:
		return STSTimeout
	case fetch.BadURL:
		return STSConnect
	}
	return word
}

// mailable refuses addresses that can only be this machine, or none. Mail
// hosts inside the own network are usual.
func mailable(a netip.Addr) bool { return a.IsGlobalUnicast() }
