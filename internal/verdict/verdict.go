// Package verdict judges mail that comes from outside: SPF (RFC 7208), DKIM
// (RFC 6376, RFC 8301) and DMARC (RFC 9989), told in an
// Authentication-Results field (RFC 8601).
//
// Invariants:
//   - A DNS that fails makes temperror, never a pass and never a fail: whoever
//     reads the verdict can have the peer try again.
//   - Everything is bounded: time, DNS questions (RFC 7208 section 4.6.4, the
//     tree walk), signatures looked at. A message with more signatures is
//     judged by the first ones.
//   - A signature counts only if all of the body is signed (no l=), by a key of
//     1024 bits of RSA or more, or Ed25519.
//   - The field names domains and never a local part.
//   - A field that claims to be ours and came with the message is taken out
//     before ours is put in (RFC 8601 section 5).
package verdict

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"io"
	"net/netip"
	"strings"
	"time"

	"blitiri.com.ar/go/spf"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
)

const (
	defaultTimeout = 20 * time.Second
	maxSignatures  = 8
)

// Deps are what a Judge is made with.
type Deps struct {
	Resolver *resolve.Resolver
	Clock    clock.Clock
	Hostname string        // the authserv-id: our name
	Timeout  time.Duration // of one message; zero: 20 s
}

// Judge judges mail.
type Judge struct{ Deps }

// New makes a Judge.
func New(d Deps) *Judge {
	if d.Timeout == 0 {
		d.Timeout = defaultTimeout
	}
	return &Judge{d}
}

// Arrival is a message and where it came from.
type Arrival struct {
	IP       netip.Addr
	EHLO     string
	MailFrom mail.Address // zero for the null sender
	Header   mail.Header  // as it came, without a field of ours
	Body     io.Reader    // what follows the header; the caller bounds it
}

// Word is a result (RFC 8601 section 2.7).
type Word string

// The results.
const (
	None      Word = "none"
	Neutral   Word = "neutral"
	Pass      Word = "pass"
	Fail      Word = "fail"
	SoftFail  Word = "softfail"
	TempError Word = "temperror"
	PermError Word = "permerror"
)

// SPF is what the sender's domain says of the address.
type SPF struct {
	Result Word
	Domain string // empty: there was no name to ask for
	HELO   bool   // Domain is the name of the EHLO, since the sender is null
}

// Signature is one DKIM signature.
type Signature struct {
	Result Word
	Domain string // empty where it is no domain
}

// Verdict is what is known of a message.
type Verdict struct {
	SPF    SPF
	DKIM   []Signature
	Author string // domain of From; empty where there is not exactly one
	DMARC  dmarc.Result
}

// Check judges a message. It reads Body to its end unless that fails, and the
// error is of reading it, or a defect of ours.
func (j *Judge) Check(ctx context.Context, a Arrival) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	names := lookups{j.Resolver, ctx}
	v := Verdict{Author: author(a.Header)}
	done := make(chan struct{})
	var defect error
	go func() {
		defer close(done)
		defer private.Recover(&defect)
		v.SPF = checkSPF(names, a)
	}()
	var err error
	v.DKIM, err = j.checkDKIM(names, a)
	<-done
	if err = cmp.Or(err, defect); err != nil {
		return v, err
	}
	v.DMARC = dmarc.Result{Word: dmarc.PermError, Disposition: dmarc.None}
	if v.Author != "" {
		v.DMARC = dmarc.NewWalker(j.Resolver).Evaluate(ctx, v.Author, v.authenticated())
	}
	return v, nil
}

// Allows tells what the sender's domain says of an address, as receivers of
// our own mail will hear it. Of the arrival only its envelope is looked at.
func (j *Judge) Allows(ctx context.Context, a Arrival) SPF {
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	return checkSPF(lookups{j.Resolver, ctx}, a)
}

// author is the domain of the one author that From names. Several fields, or
// addresses in several domains, would be read differently by different programs.
func author(h mail.Header) string {
	list := h.Mailboxes("From")
	if len(h.Values("From")) != 1 || len(list) == 0 {
		return ""
	}
	domain := list[0].Address.Domain()
	for _, m := range list[1:] {
		if m.Address.Domain() != domain {
			return ""
		}
	}
	return domain
}

func (v Verdict) authenticated() dmarc.Authenticated {
	a := dmarc.Authenticated{SPFUnsure: v.SPF.Result == TempError}
	if v.SPF.Result == Pass {
		a.SPF = v.SPF.Domain
	}
	for _, s := range v.DKIM {
		a.DKIMUnsure = a.DKIMUnsure || s.Result == TempError
		if s.Result == Pass && s.Domain != "" {
			a.DKIM = append(a.DKIM, s.Domain)
		}
	}
	return a
}

// checkSPF asks for the sender's domain, or for the EHLO's name where the
// sender is null (RFC 7208 section 2.4).
func checkSPF(names lookups, a Arrival) SPF {
	out := SPF{Result: None, Domain: a.MailFrom.Domain()}
	local := "postmaster"
	if out.Domain == "" {
		name, err := mail.ParseDomain(a.EHLO)
		if err != nil || !strings.Contains(name, ".") {
			return out
		}
		out.Domain, out.HELO = name, true
	} else if l := a.MailFrom.Local(); !strings.ContainsAny(l, "\"@ ") {
		local = l // the library cuts at the first @, which a quoted one may hold
	}
	ip := a.IP.Unmap()
	if !ip.IsValid() {
		return out
	}
	// The error only explains the result.
	word, _ := spf.CheckHostWithSender(ip.AsSlice(), a.EHLO, local+"@"+out.Domain, spf.WithContext(names.ctx), spf.WithResolver(names))
	out.Result = Word(word)
	return out
}

// Temporary reports whether a later try may find more: something that could
// have helped the message could not be asked.
func (v Verdict) Temporary() bool { return v.DMARC.Word == dmarc.TempError }

// Split reads a whole message into the parts that Arrival wants.
func Split(r io.Reader) (mail.Header, io.Reader, error) {
	br := bufio.NewReader(r)
	h, err := mail.ParseHeader(br)
	return h, br, err
}

// whole is the message as it came. A header without an end gets one.
func (a Arrival) whole() io.Reader {
	return io.MultiReader(bytes.NewReader(a.Header.Bytes()), a.Body)
}
