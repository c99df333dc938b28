package dmarc

import (
	"context"
)

// Word is a result of DMARC as Authentication-Results has it (RFC 9989 section
// 10.4).
type Word string

// The results.
const (
	Absent    Word = "none" // no policy
	Pass      Word = "pass"
	Fail      Word = "fail"
	TempError Word = "temperror"
	PermError Word = "permerror"
)

// Authenticated is what SPF and DKIM found out.
type Authenticated struct {
	// SPF is the domain that passed SPF as the envelope's sender; empty: none.
	SPF string
	// DKIM are the domains of valid signatures.
	DKIM []string
	// SPFUnsure and DKIMUnsure say that a DNS failure kept SPF or a signature
	// from being judged, so that a failure may be none.
	SPFUnsure, DKIMUnsure bool
}

// Result is what DMARC says of one message.
type Result struct {
	Word        Word
	Policy      Policy
	SPFAligned  bool
	DKIMAligned bool
	// Disposition is what the domain asks for this message: None unless Word is
	// Fail, and one step milder than its policy while it is testing (t=y).
	Disposition Disposition
}

// Evaluate judges mail of an author domain.
func (w *Walker) Evaluate(ctx context.Context, author string, a Authenticated) Result {
	p, err := w.Policy(ctx, author)
	out := Result{Policy: p, Disposition: None}
	switch {
	case err != nil:
		out.Word = TempError
		return out
	case p.Domain == "" && p.BadRecord != nil:
		out.Word = PermError
		return out
	case p.Domain == "":
		out.Word = Absent
		return out
	}
	unsure := a.SPFUnsure || a.DKIMUnsure
	if a.SPF != "" {
		out.SPFAligned, err = w.aligned(ctx, p, a.SPF, p.Record.StrictSPF)
		unsure = unsure || err != nil
	}
	for _, d := range a.DKIM {
		ok, err := w.aligned(ctx, p, d, p.Record.StrictDKIM)
		out.DKIMAligned = out.DKIMAligned || ok
		unsure = unsure || err != nil
	}
	switch {
	case out.SPFAligned || out.DKIMAligned:
		out.Word = Pass
	case unsure:
		out.Word = TempError
	default:
		out.Word, out.Disposition = Fail, milder(p.Asked, p.Testing)
	}
	return out
}

// aligned compares an authenticated domain with the author domain (RFC 9989
// section 4.4).
func (w *Walker) aligned(ctx context.Context, p Policy, domain string, strict bool) (bool, error) {
	domain = clean(domain)
	if domain == p.Author || strict {
		return domain == p.Author, nil
	}
	org, err := w.Organizational(ctx, domain)
	return err == nil && org == p.Org, err
}

// milder is what t=y makes of a policy (RFC 9989 section 4.7).
func milder(d Disposition, testing bool) Disposition {
	switch {
	case !testing:
		return d
	case d == Reject:
		return Quarantine
	}
	return None
}
