package tlsrpt

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// Report is a TLS report (RFC 8460 section 4).
type Report struct {
	Organization string
	Contact      string // only of our own
	ID           string
	Begin, End   time.Time
	Policies     []Policy
}

// Policy is what came of sessions that were judged by one policy.
type Policy struct {
	Type      string
	Strings   []string
	Domain    string
	MX        []string
	Successes int64
	Failures  int64
	Details   []Detail
}

// Detail is one way in which sessions failed.
type Detail struct {
	Cause
	Sessions int64
}

// wire is a report as it is written.
type wire struct {
	Organization string `json:"organization-name"`
	Range        struct {
		Start string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	} `json:"date-range"`
	Contact  string       `json:"contact-info,omitempty"`
	ID       string       `json:"report-id"`
	Policies []wirePolicy `json:"policies"`
}

type wirePolicy struct {
	Policy struct {
		Type    string `json:"policy-type"`
		Strings list   `json:"policy-string,omitempty"`
		Domain  string `json:"policy-domain"`
		MX      list   `json:"mx-host,omitempty"`
	} `json:"policy"`
	Summary struct {
		Successes int64 `json:"total-successful-session-count"`
		Failures  int64 `json:"total-failure-session-count"`
	} `json:"summary"`
	Details []wireDetail `json:"failure-details,omitempty"`
}

type wireDetail struct {
	Result      string `json:"result-type"`
	SendingIP   string `json:"sending-mta-ip,omitempty"`
	MX          string `json:"receiving-mx-hostname,omitempty"`
	ReceivingIP string `json:"receiving-ip,omitempty"`
	Sessions    int64  `json:"failed-session-count"`
	Reason      string `json:"failure-reason-code,omitempty"`
}

// list is an array of texts, or one text: the RFC's own example has both.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		var one string
		err := json.Unmarshal(b, &one)
		*l = list{one}
		return err
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// JSON writes a report.
func (r *Report) JSON() ([]byte, error) {
	w := wire{Organization: r.Organization, Contact: r.Contact, ID: r.ID, Policies: []wirePolicy{}}
	w.Range.Start, w.Range.End = r.Begin.UTC().Format(time.RFC3339), r.End.UTC().Format(time.RFC3339)
	for _, p := range r.Policies {
		var out wirePolicy
		out.Policy.Type, out.Policy.Strings, out.Policy.Domain, out.Policy.MX = p.Type, p.Strings, p.Domain, p.MX
		out.Summary.Successes, out.Summary.Failures = p.Successes, p.Failures
		for _, d := range p.Details {
			out.Details = append(out.Details, wireDetail{d.Result, d.SendingIP, d.MX, d.ReceivingIP, d.Sessions, d.Reason})
		}
		w.Policies = append(w.Policies, out)
	}
	return json.Marshal(w)
}

const (
	maxPolicies = 1000
	maxCauses   = 20_000 // of a report that is read, of all policies together
	maxStrings  = 100
	maxCount    = 1 << 32 // of one kind; sums over all that are kept stay far from the end of numbers
	// maxCommas bounds the values of a document before any is decoded: each
	// array element takes far more memory than its two octets. A failure has
	// seven fields, a policy six and its lists.
	maxCommas = 8 * (maxCauses + 3*maxPolicies)
)

func bad(text string) *fault.Fault { return fault.New(fault.Invalid, "bad_report", text) }

// Read reads a report in whatever it came: a mail, gzip or JSON.
func Read(r io.Reader) (*Report, error) {
	pieces, err := parcel.Open(r)
	if err != nil {
		return nil, err
	}
	var why error = fault.New(fault.Invalid, "no_report", "There is no TLS report in it.")
	for _, p := range pieces {
		if !p.JSON() {
			continue
		}
		out, err := parse(p.Body)
		if err == nil {
			return out, nil
		}
		why = err
	}
	return nil, why
}

func parse(b []byte) (*Report, error) {
	var w wire
	if bytes.Count(b, []byte(",")) > maxCommas {
		return nil, bad("The report has too many values.")
	}
	// The cause could quote the text and is not kept.
	if err := json.Unmarshal(bytes.TrimPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("\xef\xbb\xbf")), &w); err != nil {
		return nil, bad("The JSON of the report cannot be read.")
	}
	out := &Report{Organization: parcel.Label(w.Organization), ID: parcel.Identifier(w.ID)}
	var err, also error
	out.Begin, err = time.Parse(time.RFC3339, w.Range.Start)
	out.End, also = time.Parse(time.RFC3339, w.Range.End)
	out.Begin, out.End = out.Begin.UTC(), out.End.UTC()
	switch {
	case out.ID == "" || len(w.Policies) == 0:
		return nil, bad("The report has no number or no policies.")
	case err != nil || also != nil || out.Begin.Unix() <= 0 || out.End.Before(out.Begin):
		return nil, bad("The report does not say what time it is about.")
	case len(w.Policies) > maxPolicies:
		return nil, bad("The report is about too many policies.")
	}
	if out.Organization == "" {
		out.Organization = "unknown"
	}
	causes := 0
	for i := range w.Policies {
		p, err := w.Policies[i].policy()
		if err != nil {
			return nil, err
		}
		if causes += len(p.Details); causes > maxCauses {
			return nil, bad("The report names too many failures.")
		}
		out.Policies = append(out.Policies, p)
	}
	return out, nil
}

func (w *wirePolicy) policy() (Policy, error) {
	domain, err := mail.ParseDomain(strings.TrimSuffix(w.Policy.Domain, "."))
	if err != nil {
		return Policy{}, bad("The report does not name the domain that a policy is of.")
	}
	p := Policy{Type: word(w.Policy.Type), Domain: domain, Strings: labels(w.Policy.Strings), MX: labels(w.Policy.MX),
		Successes: w.Summary.Successes, Failures: w.Summary.Failures}
	if !count(p.Successes) || !count(p.Failures) || len(w.Details) > maxCauses {
		return p, bad("The report counts what cannot be counted.")
	}
	for _, d := range w.Details {
		if !count(d.Sessions) {
			return p, bad("The report counts what cannot be counted.")
		}
		p.Details = append(p.Details, Detail{Cause{Result: word(d.Result), MX: host(d.MX), ReceivingIP: address(d.ReceivingIP),
			SendingIP: address(d.SendingIP), Reason: reason(d.Reason)}, d.Sessions})
	}
	return p, nil
}

func count(n int64) bool { return n >= 0 && n <= maxCount }

var (
	wordForm   = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	hostForm   = regexp.MustCompile(`^[a-z0-9*._-]{1,255}$`)
	reasonForm = regexp.MustCompile(`^[A-Za-z0-9 :._-]{1,100}$`)
)

func word(s string) string {
	if s = strings.ToLower(strings.TrimSpace(s)); wordForm.MatchString(s) {
		return s
	}
	return "unknown"
}

func host(s string) string {
	if s = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), ".")); hostForm.MatchString(s) {
		return s
	}
	return ""
}

// reason keeps codes and leaves sentences with anything more out.
func reason(s string) string {
	if s = strings.TrimSpace(s); reasonForm.MatchString(s) {
		return s
	}
	return ""
}

func address(s string) string {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

func labels(in list) (out []string) {
	for _, s := range in[:min(len(in), maxStrings)] {
		out = append(out, parcel.Label(s))
	}
	return out
}
