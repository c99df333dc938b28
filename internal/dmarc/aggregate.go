package dmarc

import (
	"io"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
)

// Aggregate is an aggregate report (RFC 9990, RFC 7489 appendix C): what one
// receiver saw of mail in the name of one domain.
type Aggregate struct {
	Org        string // who reports, as he calls himself, without any local part
	ID         string // his number of the report; made of its octets where he gives none
	Begin, End time.Time
	Domain     string // whose policy was applied
	Asked      Disposition
	Rows       []Row
	Skipped    int // records that tell of no host or no mail
}

// Row is mail from one host that fared the same.
type Row struct {
	Source      netip.Addr
	Count       int64
	Disposition Disposition // what was done; empty: a word that is not known
	DKIMAligned bool
	SPFAligned  bool
	Reasons     []string // why something else was done than asked: words of the standard
	HeaderFrom  string   // domain; empty where it is none
	Envelope    string   // domain, or empty
	DKIM        []Auth
	SPF         []Auth
}

// Auth is one result of SPF or DKIM, aligned or not.
type Auth struct {
	Domain   string `json:"d,omitempty"`
	Selector string `json:"s,omitempty"` // DKIM
	Result   string `json:"r"`           // a word of the standard, or "unknown"
}

// Pass reports whether the mail of the row passed DMARC.
func (r Row) Pass() bool { return r.DKIMAligned || r.SPFAligned }

// Messages is how many there are in all rows.
func (a *Aggregate) Messages() (n int64) {
	for _, r := range a.Rows {
		n += r.Count
	}
	return n
}

func badReport(text string) *fault.Fault { return fault.New(fault.Invalid, "bad_report", text) }

// ReadAggregate reads a report in whatever it came: a mail, zip, gzip or XML.
func ReadAggregate(r io.Reader) (*Aggregate, error) {
	pieces, err := parcel.Open(r)
	if err != nil {
		return nil, err
	}
	return aggregateIn(pieces)
}

func aggregateIn(pieces []parcel.Piece) (*Aggregate, error) {
	var why error = fault.New(fault.Invalid, "no_report", "There is no DMARC aggregate report in it.")
	for _, p := range pieces {
		if !p.XML() || p.Media == "text/html" {
			continue
		}
		a, err := parseAggregate(p.Body)
		if err == nil {
			return a, nil
		}
		why = err
	}
	return nil, why
}
