package inbound

import (
	"context"

	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/scan"
)

// proved gives the one author of mail whose domain vouches for it and that
// looks like nothing bad, or the zero address: only such mail teaches keys.
func (c *checks) proved() mail.Address {
	from := c.header.Mailboxes("From")
	if c.m.Harvest == nil || c.verdict.DMARC.Word != dmarc.Pass || len(c.findings) > 0 || c.opinion.Action == scan.Mark || len(from) != 1 {
		return mail.Address{}
	}
	return from[0].Address
}

// aside does what nothing hangs on: if it panics the mail is taken all the same,
// and once.
func (c *checks) aside(do func()) {
	err := func() (err error) {
		defer private.Recover(&err)
		do()
		return nil
	}()
	if err != nil {
		c.m.Log.Error("what mail shows of its author could not be read", "org", c.org.Text(id.Org), "error", err)
	}
}

// harvest keeps the keys that came with mail of a proved author. Nothing hangs
// on it: what cannot be kept comes again with the next mail.
func (c *checks) harvest(ctx context.Context) {
	if c.author.IsZero() {
		return
	}
	if key, found := autocrypt(c.header, c.author); found {
		c.keep(ctx, policy.PGP, key)
	}
	c.keepShown()
}

func (c *checks) keep(ctx context.Context, kind policy.Seal, key []byte, capabilities ...string) {
	err := c.m.Harvest(ctx, c.org, c.author, kind, key, capabilities...)
	if err != nil && !fault.Is(err, fault.Refused) && !fault.Is(err, fault.Invalid) {
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
