package classify

import (
	"encoding/json"
	"strings"
)

// serviceEvent is a notification of Amazon SES that came by mail: JSON in place
// of the fields of a report.
func (m *material) serviceEvent() (Report, bool) {
	for _, t := range m.texts {
		t = strings.TrimSpace(t)
		if !strings.HasPrefix(t, "{") {
			continue
		}
		t, _, _ = strings.Cut(t, "\n\n--\n") // what SNS writes below
		t = strings.ReplaceAll(t, "\n ", "") // long lines are folded on the way
		if rep, ok := sesEvent([]byte(t)); ok {
			return rep, true
		}
	}
	return Report{}, false
}

// sesMessage are the fields of "Amazon SNS notification contents for Amazon
// SES" that are of use.
type sesMessage struct {
	Message   string
	Type      string `json:"notificationType"`
	EventType string `json:"eventType"`
	Mail      struct {
		MessageID   string `json:"messageId"`
		Source      string
		Destination []string
	}
	Bounce struct {
		Kind       string `json:"bounceType"`
		Sub        string `json:"bounceSubType"`
		MTA        string `json:"reportingMTA"`
		Recipients []struct {
			Address    string `json:"emailAddress"`
			Action     string
			Status     string
			Diagnostic string `json:"diagnosticCode"`
		} `json:"bouncedRecipients"`
	}
	Complaint struct {
		Feedback   string `json:"complaintFeedbackType"`
		Recipients []struct {
			Address string `json:"emailAddress"`
		} `json:"complainedRecipients"`
	}
	Delivery struct {
		Response   string `json:"smtpResponse"`
		MTA        string `json:"reportingMTA"`
		Recipients []string
	}
}

func sesEvent(b []byte) (Report, bool) {
	var e sesMessage
	if json.NewDecoder(strings.NewReader(string(b))).Decode(&e) != nil {
		return Report{}, false
	}
	if e.Message != "" && e.Type == "" {
		var inner sesMessage
		if json.Unmarshal([]byte(e.Message), &inner) != nil {
			return Report{}, false
		}
		e = inner
	}
	l, m := list{}, &material{}
	var rep Report
	switch {
	case e.Type == "Bounce" || e.EventType == "Bounce":
		rep.Reporter = hostName(e.Bounce.MTA)
		for _, r := range e.Bounce.Recipients {
			kind, known := outcome(r.Action, r.Status, r.Diagnostic)
			if !known {
				kind = Bounce
			}
			v := m.explain(r.Address, r.Diagnostic, r.Status, kind)
			l.add(r.Address, v.recipient(kind, r.Diagnostic))
		}
		rep.Kind = Bounce
	case e.Type == "Complaint" || e.EventType == "Complaint":
		var whom []string
		for _, r := range e.Complaint.Recipients {
			whom = append(whom, r.Address)
		}
		kind := e.Complaint.Feedback
		if kind == "" {
			kind = "abuse"
		}
		return m.complained(kind, whom, ""), len(whom) > 0
	case e.Type == "Delivery" || e.EventType == "Delivery":
		rep.Reporter = hostName(e.Delivery.MTA)
		for _, a := range e.Delivery.Recipients {
			s, _ := statusIn(e.Delivery.Response)
			l.add(a, verdict{status: s, code: 250}.recipient(Delivered, e.Delivery.Response))
		}
		rep.Kind = Delivered
	}
	rep.Recipients = l.out
	return rep, len(l.out) > 0
}
