package dmarc

import (
	"errors"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// Disposition is what a domain asks to be done with mail that fails.
type Disposition string

// The dispositions.
const (
	None       Disposition = "none"
	Quarantine Disposition = "quarantine"
	Reject     Disposition = "reject"
)

// Record is a DMARC policy record (RFC 9989 section 4.7).
type Record struct {
	P, SP, NP   Disposition // as they apply: SP stands for P, and NP for SP, where they are not given
	StrictDKIM  bool        // adkim=s
	StrictSPF   bool        // aspf=s
	RUA, RUF    []string    // URIs, without the size limits of old records
	FO          string      // failure reporting options, "0" where none are given
	Testing     bool        // t=y
	PSD         string      // "y", "n" or "u"
	Ignored     []string    // tags that are not known, or that have no effect any more (pct, rf, ri)
	NoPolicy    bool        // there was no usable p, and rua stands for p=none
	Explicit    bool        // p was given
	SubExplicit bool        // sp was given
}

const (
	recordMax = 4096 // octets
	uriMax    = 32   // of one tag
)

// Why a text is no record.
var (
	// ErrNotDMARC says that the text does not claim to be a record, so that it
	// does not count (RFC 9989 section 4.10).
	ErrNotDMARC = errors.New("the text does not begin with v=DMARC1")
	ErrNoPolicy = errors.New("the record has no valid p tag and nowhere to report to, so no DMARC processing applies")
	ErrTooLong  = errors.New("the record is longer than any that makes sense")
)

// Parse reads the text of a TXT record. An error other than ErrNotDMARC tells
// that the record is there and cannot be used.
func Parse(text string) (Record, error) {
	r := Record{PSD: "u", FO: "0"}
	if len(text) > recordMax {
		return r, ErrTooLong
	}
	version, rest, _ := strings.Cut(text, ";")
	// RFC 9989 section 4.8: the version comes first and its value is of these
	// letters exactly.
	name, value, found := strings.Cut(version, "=")
	if !found || strings.Trim(name, " \t") != "v" || strings.Trim(value, " \t") != "DMARC1" {
		return r, ErrNotDMARC
	}
	tags := map[string]string{}
	for part := range strings.SplitSeq(rest, ";") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		if _, twice := tags[name]; !found || name == "" || twice {
			continue // RFC 9989 section 4.7: what does not parse is ignored
		}
		tags[name] = value
	}
	bad := r.policies(tags)
	r.options(tags)
	if bad && len(r.RUA) == 0 {
		return r, ErrNoPolicy
	}
	if bad { // section 4.10.1
		r.P, r.SP, r.NP, r.NoPolicy = None, None, None, true
	}
	return r, nil
}

// policies reads p, sp and np, and reports whether the record would need rua
// to count all the same.
func (r *Record) policies(tags map[string]string) (bad bool) {
	read := func(name string, otherwise Disposition) (Disposition, bool) {
		v, given := tags[name]
		if !given {
			return otherwise, false
		}
		switch d := Disposition(strings.ToLower(v)); d {
		case None, Quarantine, Reject:
			return d, true
		}
		bad = true
		return otherwise, false
	}
	r.P, r.Explicit = read("p", "")
	r.SP, r.SubExplicit = read("sp", r.P)
	r.NP, _ = read("np", r.SP)
	return bad || !r.Explicit
}

func (r *Record) options(tags map[string]string) {
	r.StrictDKIM = strings.EqualFold(tags["adkim"], "s")
	r.StrictSPF = strings.EqualFold(tags["aspf"], "s")
	r.Testing = strings.EqualFold(tags["t"], "y")
	if psd := strings.ToLower(tags["psd"]); psd == "y" || psd == "n" {
		r.PSD = psd
	}
	if fo := tags["fo"]; fo != "" {
		r.FO = fo
	}
	r.RUA, r.RUF = uris(tags["rua"]), uris(tags["ruf"])
	for _, name := range []string{"pct", "rf", "ri"} { // historic (RFC 9989 appendix C)
		if _, given := tags[name]; given {
			r.Ignored = append(r.Ignored, name)
		}
	}
}

// uris reads a list of them. The limit of size behind "!" is historic and cut
// off; what is no URI is left out.
func uris(list string) (out []string) {
	for u := range strings.SplitSeq(list, ",") {
		u, _, _ = strings.Cut(strings.Trim(u, " \t"), "!")
		scheme, rest, found := strings.Cut(u, ":")
		if !found || rest == "" || len(out) == uriMax || mail.CheckText(u) != nil {
			continue
		}
		switch strings.ToLower(scheme) {
		case "mailto":
			if _, err := mail.ParseAddress(rest); err == nil {
				out = append(out, u)
			}
		case "https":
			out = append(out, u)
		}
	}
	return out
}
