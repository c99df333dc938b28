package inbound

import (
	"context"

	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/scan"
)

// harvest keeps the key that came with mail whose author's domain is proved.
// Nothing hangs on it: what cannot be kept comes again with the next mail.
func (c *checks) harvest(ctx context.Context) {
	if c.m.Harvest == nil || c.verdict.DMARC.Word != dmarc.Pass || len(c.findings) > 0 || c.opinion.Action == scan.Mark {
		return
	}
	from := c.header.Mailboxes("From")
	if len(from) != 1 {
		return
	}
	key, found := autocrypt(c.header, from[0].Address)
	if !found {
		return
	}
	if err := c.m.Harvest(ctx, c.org, from[0].Address, policy.PGP, key); err != nil && !fault.Is(err, fault.Refused) && !fault.Is(err, fault.Invalid) {
		c.m.Log.Warn("a key that came with mail could not be kept", "org", c.org.Text(id.Org), "reason", fault.From(err).Reason)
	}
}

// autocrypt gives the key of the one valid field that speaks for the author;
// where there are several, none counts (Autocrypt Level 1, section 2.3).
func autocrypt(h mail.Header, author mail.Address) (key []byte, found bool) {
	for _, value := range h.Values("Autocrypt") {
		a, data, err := discover.ParseAutocrypt(value)
		if err != nil || a.Normal() != author.Normal() {
			continue
		}
		if found {
			return nil, false
		}
		key, found = data, true
	}
	return key, found
}
