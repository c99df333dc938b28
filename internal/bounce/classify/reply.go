package classify

import "strings"

// Reply tells why an SMTP server said no: code is the reply code, enhanced the
// status of RFC 3463 if it gave one, text the rest. permanent is true of a
// code 5xx, and of an enhanced status of class 5 where there is no code.
func Reply(code int, enhanced, text string) (class Class, permanent bool) {
	text = cutText(text, maxDiagnostic)
	if s, _ := statusIn(text); enhanced == "" || vague(enhanced) && s != "" {
		enhanced = s
	}
	if class, _ = classify(code, enhanced, text); class == "" {
		class = Other
	}
	if code == 0 {
		return class, strings.HasPrefix(enhanced, "5")
	}
	return class, code >= 500
}

// Hard reports whether such a reply says that the mailbox or the domain does
// not exist, as Recipient.Hard does.
func Hard(code int, enhanced, text string) bool {
	text = cutText(text, maxDiagnostic)
	if s, _ := statusIn(text); enhanced == "" || vague(enhanced) && s != "" {
		enhanced = s
	}
	class, hard := classify(code, enhanced, text)
	return hard && code >= 500 && !doubted(class, enhanced, text)
}

// classify goes from the firmest ground down: a status that has one meaning,
// words that give a reason, a status that has several meanings, words that say
// no more than "no", a status that means everything, and the code. It gives no
// class where nothing tells.
func classify(code int, status, text string) (Class, bool) {
	text = normal(text)
	m, ok := exact[detail(status)]
	if !ok {
		m, ok = phrase(reasons, text)
	}
	if !ok {
		m, ok = rough[status]
	}
	if !ok {
		m, ok = rough[detail(status)]
	}
	if !ok {
		m, ok = phrase(denials, text)
	}
	if !ok {
		m, ok = general[detail(status)]
	}
	if !ok {
		m = byCode[code]
	}
	return m.class, m.hard
}

// detail is a status without its class: X.1.1 means the same in 4.1.1.
func detail(status string) string {
	if len(status) < 3 {
		return ""
	}
	return status[2:]
}
