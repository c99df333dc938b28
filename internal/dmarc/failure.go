package dmarc

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	netmail "net/mail"

	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// Failure is what is kept of a failure report (RFC 9991, RFC 6591): which host,
// which domain and why. The message that comes with it is never looked at.
type Failure struct {
	Source    netip.Addr
	Domain    string   // of the author
	Failed    []string // words of RFC 6591 section 3.3, or "dmarc"
	Delivered string   // delivered, spam, policy, reject, other; empty: it is not said
	At        time.Time
	Incidents int64
}

const maxIncidents = 1 << 20

// ReadFailure reads a failure report out of a mail.
func ReadFailure(r io.Reader) (*Failure, error) {
	pieces, err := parcel.Open(r)
	if err != nil {
		return nil, err
	}
	return failureIn(pieces)
}

func failureIn(pieces []parcel.Piece) (*Failure, error) {
	for _, p := range pieces {
		if p.Media == "message/feedback-report" {
			return feedback(p.Body)
		}
	}
	for _, p := range pieces {
		if f := told(p); f != nil {
			return f, nil
		}
	}
	return nil, fault.New(fault.Invalid, "no_report", "There is no DMARC failure report in it.")
}

// feedback reads the fields of a feedback report (RFC 5965 section 3).
func feedback(body []byte) (*Failure, error) {
	h, err := mail.ParseHeader(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(body, "\r\n"))))
	if err != nil {
		return nil, badReport("The fields of the failure report cannot be read.")
	}
	if word(h.Get("Feedback-Type")) != "auth-failure" {
		return nil, fault.New(fault.Invalid, "no_report", "The feedback report is about something else than authentication.")
	}
	source, err := netip.ParseAddr(strings.Trim(h.Get("Source-IP"), " []"))
	domain := domainOf(h.Get("Reported-Domain"))
	if err != nil || domain == "" {
		return nil, badReport("The failure report does not name the host and the domain that it is about.")
	}
	f := &Failure{Source: source.Unmap().WithZone(""), Domain: domain, Incidents: 1, Delivered: delivery(h.Get("Delivery-Result"))}
	f.addFailed(strings.Join(append(h.Values("Auth-Failure"), h.Values("Identity-Alignment")...), ","))
	if n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Incidents")), 10, 64); err == nil && n > 0 && n < maxIncidents {
		f.Incidents = n
	}
	for _, name := range []string{"Arrival-Date", "Received-Date"} {
		if t, err := netmail.ParseDate(h.Get(name)); err == nil && f.At.IsZero() {
			f.At = t.UTC()
		}
	}
	return f, nil
}

func (f *Failure) addFailed(list string) {
	for w := range strings.SplitSeq(list, ",") {
		switch w = word(w); w {
		case "adsp", "bodyhash", "revoked", "signature", "spf", "dkim", "dmarc":
			if !slices.Contains(f.Failed, w) {
				f.Failed = append(f.Failed, w)
			}
		}
	}
}

// delivery is a word of RFC 6591 section 3.2.2, or empty.
func delivery(s string) string {
	switch s = word(s); s {
	case "delivered", "spam", "policy", "reject", "other":
		return s
	case "smg-policy-action":
		return "policy"
	}
	return ""
}

// told reads the text that mail servers without such fields write: lines of a
// name, a colon and a value. It stops where the message itself begins.
func told(p parcel.Piece) *Failure {
	if p.Media != "text/plain" && p.Media != "" {
		return nil
	}
	f := Failure{Incidents: 1, Failed: []string{"dmarc"}}
	for line := range strings.Lines(string(p.Body[:min(len(p.Body), 16<<10)])) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-----") {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); word(name) {
		case "sender domain":
			f.Domain = domainOf(value)
		case "sender ip address":
			if a, err := netip.ParseAddr(value); err == nil {
				f.Source = a.Unmap().WithZone("")
			}
		case "received date":
			if t, err := netmail.ParseDate(value); err == nil {
				f.At = t.UTC()
			}
		}
	}
	if f.Domain == "" || !f.Source.IsValid() {
		return nil
	}
	return &f
}
