package dmarc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html/charset"

	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/mail"
)

const (
	maxRecords  = 5_000
	maxDetails  = 20 * maxRecords // elements that repeat within records, together
	maxElements = 8 << 20
	// maxEquals bounds attributes before any is decoded: the decoder keeps all of
	// one element, and each takes far more memory than its octets. None is without
	// the sign.
	maxEquals   = 40 * maxRecords
	maxXMLDepth = 16
	maxAuths    = 32      // of one record
	maxReasons  = 8       // of one record
	maxCount    = 1 << 32 // of one record; sums over all that are kept stay far from the end of numbers
)

// wireReport is a report as it is written. Everything is text at first, since
// reporters write what they like.
type wireReport struct {
	Metadata struct {
		Org   string `xml:"org_name"`
		Email string `xml:"email"`
		ID    string `xml:"report_id"`
		Range struct {
			Begin string `xml:"begin"`
			End   string `xml:"end"`
		} `xml:"date_range"`
	} `xml:"report_metadata"`
	Policy struct {
		Domain string `xml:"domain"`
		P      string `xml:"p"`
	} `xml:"policy_published"`
	Records []wireRecord `xml:"record"`
}

type wireRecord struct {
	Row struct {
		Source string `xml:"source_ip"`
		Count  string `xml:"count"`
		Policy struct {
			Disposition string `xml:"disposition"`
			DKIM        string `xml:"dkim"`
			SPF         string `xml:"spf"`
			Reasons     []struct {
				Type string `xml:"type"`
			} `xml:"reason"`
		} `xml:"policy_evaluated"`
	} `xml:"row"`
	Identifiers struct {
		HeaderFrom   string `xml:"header_from"`
		EnvelopeFrom string `xml:"envelope_from"`
	} `xml:"identifiers"`
	// RFC 7489 calls it identifiers; drafts and some reporters, identities.
	Identities struct {
		HeaderFrom string `xml:"header_from"`
	} `xml:"identities"`
	Auth struct {
		DKIM []wireAuth `xml:"dkim"`
		SPF  []wireAuth `xml:"spf"`
	} `xml:"auth_results"`
}

type wireAuth struct {
	Domain   string `xml:"domain"`
	Selector string `xml:"selector"`
	Result   string `xml:"result"`
}

var (
	errXMLBounds = errors.New("too deep or too long")
	errXMLType   = errors.New("a document type")
)

// bounded hands tokens on and counts them, those apart that the decoder makes
// lists of: an element of a list takes far more memory than its octets.
// Documents with a type, which could bring entities, are refused.
type bounded struct {
	d                *xml.Decoder
	depth, n         int
	records, details int
}

func (b *bounded) Token() (xml.Token, error) {
	t, err := b.d.RawToken()
	switch t := t.(type) {
	case xml.StartElement:
		b.depth++
		switch t.Name.Local {
		case "record":
			b.records++
		case "dkim", "spf", "reason":
			b.details++
		}
	case xml.EndElement:
		b.depth--
	case xml.Directive:
		return nil, errXMLType
	}
	if b.n++; b.depth > maxXMLDepth || b.n > maxElements || b.records > maxRecords || b.details > maxDetails {
		return nil, errXMLBounds
	}
	return t, err
}

var otherCharset = regexp.MustCompile(`(?i)^[^>]{0,200}encoding\s*=\s*["']([a-z0-9_-]+)["']`)

func parseAggregate(b []byte) (*Aggregate, error) {
	in := bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	// Some reporters copy octets out of mail that are not what they declare.
	if m := otherCharset.FindSubmatch(in[:min(len(in), 256)]); m == nil || strings.EqualFold(string(m[1]), "utf-8") {
		in = bytes.ToValidUTF8(in, []byte("\uFFFD"))
	}
	if bytes.Count(in, []byte("=")) > maxEquals {
		return nil, xmlFault(errXMLBounds)
	}
	raw := xml.NewDecoder(bytes.NewReader(in))
	raw.CharsetReader = charset.NewReaderLabel
	d := xml.NewTokenDecoder(&bounded{d: raw})
	var w wireReport
	for {
		t, err := d.Token()
		if err != nil {
			return nil, xmlFault(err)
		}
		// The report is sometimes put into an element that never ends.
		if start, ok := t.(xml.StartElement); ok && start.Name.Local == "feedback" {
			if err := d.DecodeElement(&w, &start); err != nil {
				return nil, xmlFault(err)
			}
			return w.report(b)
		}
	}
}

func xmlFault(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return badReport("The XML holds no report: there is no element \"feedback\".").Because(err)
	case errors.Is(err, errXMLType):
		return badReport("The XML has a document type, which no report has.").Because(err)
	case errors.Is(err, errXMLBounds):
		return badReport("The XML is nested too deep or has too many elements for a report.").Because(err)
	}
	// The cause could quote the text and is not kept.
	return badReport("The XML of the report is not well-formed.")
}

func (w *wireReport) report(raw []byte) (*Aggregate, error) {
	a := &Aggregate{Org: reporter(w.Metadata.Org, w.Metadata.Email), ID: parcel.Identifier(w.Metadata.ID), Domain: domainOf(w.Policy.Domain)}
	if d := Disposition(word(w.Policy.P)); d == None || d == Quarantine || d == Reject {
		a.Asked = d
	}
	if a.Domain == "" {
		return nil, badReport("The report does not name the domain that it is about.")
	}
	var ok, also bool
	a.Begin, ok = moment(w.Metadata.Range.Begin)
	a.End, also = moment(w.Metadata.Range.End)
	if !ok || !also || a.End.Before(a.Begin) {
		return nil, badReport("The report does not say what time it is about.")
	}
	if a.ID == "" {
		sum := sha256.Sum256(raw)
		a.ID = "sha256-" + hex.EncodeToString(sum[:16])
	}
	for i := range w.Records {
		if row, ok := w.Records[i].row(); ok {
			a.Rows = append(a.Rows, row)
		} else {
			a.Skipped++
		}
	}
	if len(a.Rows) == 0 && a.Skipped > 0 {
		return nil, badReport("No record of the report names a host and a number of messages.")
	}
	return a, nil
}

func (w *wireRecord) row() (Row, bool) {
	source, err := netip.ParseAddr(strings.TrimSpace(w.Row.Source))
	count, bad := strconv.ParseInt(strings.TrimSpace(w.Row.Count), 10, 64)
	if err != nil || bad != nil || count < 0 || count > maxCount {
		return Row{}, false
	}
	p := w.Row.Policy
	r := Row{
		Source: source.Unmap().WithZone(""), Count: count,
		DKIMAligned: word(p.DKIM) == "pass", SPFAligned: word(p.SPF) == "pass",
		HeaderFrom: domainOf(w.Identifiers.HeaderFrom), Envelope: domainOf(w.Identifiers.EnvelopeFrom),
		DKIM: auths(w.Auth.DKIM), SPF: auths(w.Auth.SPF),
	}
	if r.HeaderFrom == "" {
		r.HeaderFrom = domainOf(w.Identities.HeaderFrom)
	}
	switch d := Disposition(word(p.Disposition)); d {
	case None, Quarantine, Reject:
		r.Disposition = d
	case "pass": // RFC 9990: nothing had to be done
		r.Disposition = None
	}
	for _, reason := range p.Reasons {
		if t := word(reason.Type); slices.Contains(reasons, t) && len(r.Reasons) < maxReasons {
			r.Reasons = append(r.Reasons, t)
		}
	}
	return r, true
}

// The words of RFC 9990 and RFC 7489, and those of RFC 8601 for results.
var (
	reasons = []string{"forwarded", "sampled_out", "trusted_forwarder", "mailing_list", "local_policy", "policy_test_mode", "other"}
	results = []string{"none", "pass", "fail", "softfail", "hardfail", "neutral", "policy", "temperror", "permerror"}
)

func auths(list []wireAuth) (out []Auth) {
	for _, w := range list[:min(len(list), maxAuths)] {
		a := Auth{Domain: domainOf(w.Domain), Selector: domainLabel(w.Selector), Result: word(w.Result)}
		if !slices.Contains(results, a.Result) {
			a.Result = "unknown"
		}
		out = append(out, a)
	}
	return out
}

func word(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// domainOf is a domain in its one form, or empty where it is none.
func domainOf(s string) string {
	d, err := mail.ParseDomain(strings.TrimSuffix(strings.TrimSpace(s), "."))
	if err != nil {
		return ""
	}
	return d
}

// domainLabel is a DKIM selector, which has the form of a domain.
func domainLabel(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, r := range s {
		if !(r == '.' || r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9') {
			return ""
		}
	}
	return s[:min(len(s), parcel.MaxLabel)]
}

// reporter is the name of who reports. Where it is an address or missing, its
// domain stands for it.
func reporter(name, email string) string {
	if name = parcel.Label(name); name != "" {
		return name
	}
	if d := domainOf(email[strings.LastIndexByte(email, '@')+1:]); d != "" {
		return d
	}
	return "unknown"
}

// moment reads seconds since 1970, or what some reporters write for them.
func moment(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0).UTC(), n > 0 && n < 1<<35
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), t.Unix() > 0
		}
	}
	return time.Time{}, false
}
