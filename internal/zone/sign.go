package zone

import (
	"context"
	"fmt"
	"strings"

	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/dmarc"
)

const whyDKIM = "Signatures prove to mail hosts that mail is the domain's and was not changed on its way."

// dkim looks at the records of all keys that verifiers may look for.
func (c *checker) dkim(ctx context.Context) {
	signs := false
	for _, k := range c.keys {
		if k.State == dkim.Retired {
			continue
		}
		signs = signs || k.State == dkim.Active && k.Algorithm == dkim.RSA
		found, _, err := c.Resolver.Texts(ctx, k.Name())
		if err != nil {
			c.unknown(DKIM, k.Name(), k.State == dkim.Active)
			continue
		}
		c.add(dkimItem(k, found))
	}
	if !signs {
		item := Item{Check: DKIM, Name: c.domain, Status: Missing, Needed: true,
			Text: "No RSA key signs for the domain: \"sealpost dkim create " + c.domain + "\" makes one. " + whyDKIM}
		for _, k := range c.keys {
			if k.State == dkim.New && k.Algorithm == dkim.RSA {
				item.Text = "The domain's key waits for its record, and mail goes unsigned until then. " + whyDKIM
			}
		}
		c.add(item)
	}
}

func dkimItem(k dkim.Key, found []string) Item {
	item := Item{Check: DKIM, Name: k.Name(), Status: OK, Needed: k.State == dkim.Active}
	switch {
	case k.Shown(found):
		item.Text = fmt.Sprintf("The record of the %s %s key stands.", k.State, k.Algorithm)
		return item
	case len(found) == 0:
		item.Status, item.Text = Missing, "There is no record of this key. "
	default:
		item.Status, item.Text = Wrong, "There is another record than the key's, or more than one. "
	}
	switch k.State {
	case dkim.New:
		item.Text += "The key signs once it is there."
	case dkim.Active:
		item.Text += "What it signs cannot be verified. " + whyDKIM
	case dkim.Retiring:
		item.Text += "Mail that the key signed and that is still on its way cannot be verified; leave the record until the key is retired."
	}
	item.Publish = []Record{{k.Name(), "TXT", k.Value}}
	return item
}

const whyDMARC = "DMARC tells mail hosts what to do with mail that only claims to be the domain's; large hosts want it from everybody who sends much."

// dmarc looks for the policy that applies to the domain (RFC 9989).
func (c *checker) dmarc(ctx context.Context) {
	name := "_dmarc." + c.domain
	p, err := dmarc.NewWalker(c.Resolver).Policy(ctx, c.domain)
	if err != nil {
		c.unknown(DMARC, name, true)
		return
	}
	item := Item{Check: DMARC, Name: name, Status: OK, Needed: true}
	switch {
	case p.BadRecord != nil:
		item.Status, item.Text = Wrong, "The record cannot be used: "+p.BadRecord.Error()+". "+whyDMARC
		item.Publish = []Record{{name, "TXT", "v=DMARC1; p=none" + c.reports()}}
	case p.Domain == "":
		item.Status, item.Text = Missing, "There is no record. "+whyDMARC+" Begin with p=none and read the reports; then go on to quarantine and reject."
		item.Publish = []Record{{name, "TXT", "v=DMARC1; p=none" + c.reports()}}
	case p.Asked == dmarc.None || p.Testing:
		item.Status, item.Needed = Wrong, false
		item.Text = "The policy of " + p.Domain + " only asks for reports (p=none, or t=y): mail that others forge in the domain's name is delivered."
		item.Publish = []Record{{"_dmarc." + p.Domain, "TXT", stronger(p)}}
	case len(p.Record.RUA) == 0:
		item.Status, item.Needed = Wrong, false
		item.Text = "Nobody is sent the reports (rua), which would show who sends in the domain's name, and which of our own mail fails."
		item.Publish = []Record{{"_dmarc." + p.Domain, "TXT", strings.TrimRight(p.Text, "; ") + c.reports()}}
	default:
		item.Text = fmt.Sprintf("The policy of %s is %s.", p.Domain, p.Asked)
	}
	if p.Domain != "" {
		c.alignment(p, &item)
	}
	c.add(item)
}

// alignment finds policies that no mail of ours can satisfy: it has to pass
// SPF or DKIM in the domain itself (RFC 9989 section 4.4).
func (c *checker) alignment(p dmarc.Policy, item *Item) {
	for _, k := range c.keys {
		if k.State == dkim.Active {
			return // it signs for exactly the domain in From
		}
	}
	if p.Record.StrictSPF && c.bounces != "" {
		item.Status, item.Needed = Wrong, true
		item.Text = "No mail of ours can pass: nothing signs for the domain, and aspf=s asks for an envelope sender at exactly the domain, which bounces do not come back to. \"sealpost dkim create\" makes a key."
		item.Publish = nil
	}
}

// stronger is the record with the next policy.
func stronger(p dmarc.Policy) string {
	if p.Testing {
		return strings.NewReplacer("t=y", "t=n", "t=Y", "t=n").Replace(p.Text)
	}
	next := strings.NewReplacer(" p=none", " p=quarantine", ";p=none", ";p=quarantine").Replace(p.Text)
	if p.Domain != p.Author && p.Record.SubExplicit {
		next = strings.NewReplacer("sp=none", "sp=quarantine").Replace(p.Text)
	}
	return next
}

// reports is where reports go: to us where we take mail for the domain.
func (c *checker) reports() string {
	if c.bounces == "" {
		return "; rua=mailto:postmaster@" + c.domain
	}
	return "; rua=mailto:dmarc@" + c.bounces
}
