package classify

import (
	"slices"
	"strings"
)

// feedbackTypes are those that RFC 5965 section 7.3 and RFC 6591 register.
var feedbackTypes = []string{"abuse", "auth-failure", "fraud", "not-spam", "opt-out", "virus", "other"}

// complaint reads a feedback report (RFC 5965).
func (m *material) complaint() (Report, bool) {
	if m.feedback == nil || m.feedback.get("feedback-type") == "" {
		return Report{}, false
	}
	return m.complained(m.feedback.get("feedback-type"), m.feedback.all("original-rcpt-to"), m.feedback.get("reporting-mta")), true
}

func (m *material) complained(kind string, whom []string, reporter string) Report {
	kind = strings.ToLower(strings.TrimSpace(kind))
	if strings.HasPrefix(kind, "opt-out") {
		kind = "opt-out" // opt-out-list of drafts
	}
	if !slices.Contains(feedbackTypes, kind) {
		kind = "other"
	}
	l := list{kind: Complaint}
	for _, v := range whom {
		l.add(v, Recipient{Kind: Complaint})
	}
	if len(l.out) == 0 && kind != "auth-failure" {
		for _, a := range addressesIn(m.returned.get("to")) {
			l.add(a, Recipient{Kind: Complaint})
		}
	}
	return Report{Kind: Complaint, Feedback: kind, Recipients: l.out, Reporter: hostName(reporter)}
}
