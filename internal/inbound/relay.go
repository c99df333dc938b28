package inbound

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound/lookalike"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/scan"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/verdict"
)

// MembersDeps are what the relay of mail for members needs.
type MembersDeps struct {
	Accounts *account.Accounts
	Log      *slog.Logger
	Routes   *Routes
	Callout  *Callout
	Names    *Names
	Judge    *verdict.Judge
	Rspamd   *scan.Rspamd // nil: it is not asked
	ClamAV   *scan.ClamAV // nil: it is not asked
	// RejectLookalikes says that what looks like one of the organization's
	// domains is refused and not only marked.
	RejectLookalikes bool
	// Receive stores a message before it returns.
	Receive func(ctx context.Context, in submit.Incoming) error
	// Harvest takes a key that came with mail whose author is proved. nil:
	// keys are passed by.
	Harvest func(ctx context.Context, org id.ID, from mail.Address, kind policy.Seal, key []byte, capabilities ...string) error
}

// Members takes mail for members of organizations, judges it, and sends it on
// to the host that their domain is routed to.
//
//	RCPT ─▶ Knows ─▶ callout: the next host has the mailbox, or has not
//	DATA ─▶ Accept ─▶ SPF, DKIM, DMARC ┐
//	                  Rspamd           ├─▶ refused | later | marked | as it came ─▶ submit.Receive
//	                  ClamAV           │
//	                  look-alikes      ┘
//
// Invariants:
//   - What a stranger is told it is told while it is connected. Later nobody
//     is told anything but a sender whose domain vouched for it (SPF).
//   - A check that cannot be made defers the message; none is left out.
//   - The message goes on as it came: fields are put on top of its header, and
//     only those are taken away that speak in our name or could prove a tenant
//     (see submit.Tenant). Signatures hold that do not cover these.
//   - Keys are learned only of proved authors, and no answer waits for what the
//     network says of them.
type Members struct {
	MembersDeps
	reading *semaphore.Weighted // of readingMax
	judging *semaphore.Weighted // of judgingMax
	keeping sync.WaitGroup
	running context.Context // until Stop
	stop    context.CancelFunc
}

// NewMembers gives the relay of mail for members.
func NewMembers(d MembersDeps) *Members {
	m := &Members{MembersDeps: d, reading: semaphore.NewWeighted(readingMax), judging: semaphore.NewWeighted(judgingMax)}
	m.running, m.stop = context.WithCancel(context.Background())
	return m
}

// Stop gives up what is still being found out about certificates that came with
// mail. No mail may come any more.
func (m *Members) Stop() {
	m.stop()
	m.keeping.Wait()
}

// Relay is the relay as the door calls it.
func (m *Members) Relay() *Relay { return &Relay{Knows: m.Knows, Serves: m.Serves, Accept: m.Accept} }

// Serves reports whether a domain is one of members.
func (m *Members) Serves(ctx context.Context, domain string) (bool, error) {
	_, found, err := m.Routes.Of(ctx, domain)
	return found, err
}

// Knows tells a stranger of some network whose member an address is.
func (m *Members) Knows(ctx context.Context, from netip.Prefix, to mail.Address) (id.ID, error) {
	r, found, err := m.Routes.Of(ctx, to.Domain())
	if err != nil {
		return id.ID{}, err
	}
	if !found {
		return id.ID{}, noMailbox
	}
	taken, err := m.Callout.Takes(ctx, r, from, to)
	if err == nil && !taken {
		err = noMailbox
	}
	return r.Org, err
}

// Accept judges a message and stores it.
func (m *Members) Accept(ctx context.Context, a Arrival, message io.Reader) error {
	h, body, err := verdict.Split(message)
	if err != nil {
		return err
	}
	c := &checks{m: m, a: a, org: a.Tickets[0].Org, id: id.New(), header: h}
	var recipients []mail.Address
	for _, t := range a.Tickets {
		recipients = append(recipients, t.To)
	}
	if err := m.Receive(ctx, submit.Incoming{Org: c.org, Message: c.id, Sender: a.Sender, Recipients: recipients, Header: h, Body: body,
		Peer: a.Peer, EHLO: a.EHLO, Protocol: a.Protocol,
		Judge: func(body func() io.Reader) (submit.Judged, error) { return c.judge(ctx, recipients, body) },
	}); err != nil {
		return err
	}
	c.aside(func() { c.harvest(context.WithoutCancel(ctx)) })
	return nil
}

// checks is what is found out about one message.
type checks struct {
	m      *Members
	a      Arrival
	org    id.ID
	id     id.ID
	header mail.Header

	verdict  verdict.Verdict
	opinion  scan.Opinion
	virus    string
	findings []lookalike.Finding
	own      bool         // From names a domain of the organization itself
	author   mail.Address // proved, or zero
	shown    shown
}

// receivedFact is the clear part of inbound.received. It holds words and
// domains.
type receivedFact struct {
	Action    string   `json:"action"` // relayed or marked
	Warnings  []string `json:"warnings,omitempty"`
	SPF       string   `json:"spf"`
	SPFDomain string   `json:"spf_domain,omitempty"`
	DKIM      []string `json:"dkim,omitempty"` // result and domain
	DMARC     string   `json:"dmarc"`
	Author    string   `json:"author_domain,omitempty"`
	Rspamd    string   `json:"rspamd,omitempty"`
	Score     float64  `json:"rspamd_score,omitempty"`
	ClamAV    string   `json:"clamav,omitempty"`
}

// judge asks everybody, the scanners first for their opinions, and decides.
func (c *checks) judge(ctx context.Context, recipients []mail.Address, body func() io.Reader) (submit.Judged, error) {
	if err := c.ask(ctx, recipients, body); err != nil {
		return submit.Judged{}, err
	}
	if err := c.look(ctx); err != nil {
		return submit.Judged{}, err
	}
	if err := c.refuse(); err != nil {
		return submit.Judged{}, err
	}
	h, warnings, err := c.mark()
	if err != nil {
		return submit.Judged{}, err
	}
	c.aside(func() {
		c.author = c.proved()
		c.signature(body)
	})
	spf := c.verdict.SPF
	return submit.Judged{Header: h, Proved: spf.Result == verdict.Pass && !spf.HELO, Fact: c.fact(warnings)}, nil
}

func (c *checks) ask(ctx context.Context, recipients []mail.Address, body func() io.Reader) error {
	group, ctx := errgroup.WithContext(ctx)
	whole := func() io.Reader { return io.MultiReader(bytes.NewReader(c.header.Bytes()), body()) }
	group.Go(func() (err error) {
		defer private.Recover(&err)
		c.verdict, err = c.m.Judge.Check(ctx, verdict.Arrival{IP: c.a.Peer, EHLO: c.a.EHLO, MailFrom: c.a.Sender, Header: c.header, Body: body()})
		return err
	})
	if r := c.m.Rspamd; r != nil {
		group.Go(func() (err error) {
			defer private.Recover(&err)
			c.opinion, err = r.Check(ctx, scan.Envelope{IP: c.a.Peer, EHLO: c.a.EHLO, From: c.a.Sender, Rcpt: recipients, ID: c.id.Text(id.Message)}, whole())
			return err
		})
	}
	if v := c.m.ClamAV; v != nil {
		group.Go(func() (err error) {
			defer private.Recover(&err)
			c.virus, err = v.Check(ctx, whole())
			return err
		})
	}
	return group.Wait()
}

// look compares the header's senders with the organization.
func (c *checks) look(ctx context.Context) error {
	domains, err := c.m.Accounts.Domains(ctx, c.org)
	if err != nil {
		return err
	}
	own := lookalike.Own{}
	for _, d := range domains {
		if !d.VerifiedAt.IsZero() {
			own.Domains = append(own.Domains, d.Name)
			c.own = c.own || c.verdict.Author == d.Name || strings.HasSuffix(c.verdict.Author, "."+d.Name)
		}
	}
	var failed error
	own.Name = func(key string) bool {
		has, err := c.m.Names.Has(ctx, c.org, key)
		if err != nil {
			failed = err
		}
		return has
	}
	c.findings = lookalike.Look(c.header, own)
	return failed
}

var (
	errVirus     = fault.New(fault.Refused, "virus_found", "The message holds something harmful.")
	errAuthors   = fault.New(fault.Invalid, "bad_from", "The message does not name its author: it needs one From field with addresses of one domain (RFC 5322 section 3.6.2).")
	errSpam      = fault.New(fault.Refused, "spam", "The message is taken for spam.")
	errLater     = fault.New(fault.TooMany, "come_again", "Try again in a few minutes.")
	errDMARC     = fault.New(fault.Refused, "dmarc", "The author's domain asks to refuse mail that does not prove to be from it (DMARC).")
	errUnsure    = fault.New(fault.Unavailable, "dmarc_unavailable", "Whether the author's domain allows this mail cannot be found out now. Try again later.")
	errLookalike = fault.New(fault.Refused, "lookalike", "The sender's domain or name imitates the recipient's organization.")
)

// refuse gives the first reason to do so, what is certain before what may pass.
func (c *checks) refuse() error {
	dmarcResult := c.verdict.DMARC
	switch {
	case c.virus != "":
		c.m.Log.Warn("mail from outside was refused: ClamAV found something", "org", c.org.Text(id.Org), "found", c.virus)
		return errVirus
	case c.ambiguous():
		return errAuthors
	case dmarcResult.Word == dmarc.Fail && dmarcResult.Disposition == dmarc.Reject:
		return errDMARC
	case c.m.RejectLookalikes && c.imitates():
		return errLookalike
	case c.opinion.Action == scan.Reject:
		return errSpam
	case c.verdict.Temporary():
		return errUnsure
	case c.opinion.Action == scan.Later:
		return errLater
	}
	return nil
}

// ambiguous reports whether programs could show different authors, or one whom
// DMARC was not asked for. Who shows none forges none, and is marked.
func (c *checks) ambiguous() bool {
	from := c.header.Values("From")
	return c.verdict.Author == "" && (len(from) > 1 || len(from) == 1 && strings.TrimSpace(from[0]) != "")
}

// imitates leaves out names alone: people write from mailboxes of their own.
func (c *checks) imitates() bool {
	for _, f := range c.findings {
		if f.Kind != lookalike.Name {
			return true
		}
	}
	return false
}

// Fields that the next host can decide by.
const (
	warningField = "X-Sealpost-Warning"
	spamField    = "X-Sealpost-Spam"
)

// mark puts what was found on top of the header, and takes away what came with
// it and speaks in our name.
func (c *checks) mark() (mail.Header, []string, error) {
	h, err := c.m.Judge.Mark(submit.WithoutOwn(c.header), c.verdict)
	if err != nil {
		return h, nil, err
	}
	var sentences, words []string
	if d := c.verdict.DMARC; d.Word == dmarc.Fail && d.Disposition == dmarc.Quarantine {
		sentences, words = append(sentences, "dmarc: the author's domain asks for quarantine"), append(words, "dmarc_quarantine")
	}
	if c.own && c.verdict.DMARC.Word != dmarc.Pass {
		sentences, words = append(sentences, "unproved: it says it is from your own organization and came from outside"), append(words, "own_domain_unproved")
	}
	if c.verdict.Author == "" {
		sentences, words = append(sentences, "author: the From field does not name one author"), append(words, "bad_from")
	}
	for _, f := range c.findings {
		sentences, words = append(sentences, f.Sentence()), append(words, "lookalike_"+string(f.Kind))
	}
	if c.opinion.Action == scan.Mark {
		words = append(words, "spam")
		if err := h.Prepend(spamField, fmt.Sprintf("yes; score=%.2f; required=%.2f", c.opinion.Score, c.opinion.Required)); err != nil {
			return h, nil, err
		}
	}
	for _, s := range sentences {
		if err := h.Prepend(warningField, s); err != nil {
			return h, nil, err
		}
	}
	return h, words, nil
}

func (c *checks) fact(warnings []string) receivedFact {
	v := c.verdict
	f := receivedFact{Action: "relayed", Warnings: warnings, SPF: string(v.SPF.Result), SPFDomain: v.SPF.Domain, DMARC: string(v.DMARC.Word), Author: v.Author}
	if len(warnings) > 0 {
		f.Action = "marked"
	}
	for _, s := range v.DKIM {
		f.DKIM = append(f.DKIM, strings.TrimSpace(string(s.Result)+" "+s.Domain))
	}
	if c.m.Rspamd != nil {
		f.Rspamd, f.Score = string(c.opinion.Action), c.opinion.Score
	}
	if c.m.ClamAV != nil {
		f.ClamAV = "nothing_found"
	}
	return f
}
