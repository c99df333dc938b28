package classify

import (
	"bytes"
	"html"
	"regexp"
	"strings"
)

// material is what a mail consists of, sorted by what it can tell.
type material struct {
	top      fields // the header of the mail itself
	report   string // report-type of the top (RFC 6522)
	status   []fields
	feedback fields
	texts    []string
	returned fields  // header of the returned message
	nested   *entity // a returned message that is itself a report
	parts    int
	size     int  // of the texts
	cut      bool // texts end where the returned message begins
}

func gather(raw []byte) *material {
	e := readEntity(raw)
	m := &material{top: e.header}
	if strings.HasPrefix(e.media, "multipart/") {
		m.report = strings.ToLower(e.params["report-type"])
	}
	m.walk(e, 0)
	return m
}

func (m *material) walk(e entity, depth int) {
	if m.parts++; m.parts > maxParts || depth > maxDepth {
		return
	}
	switch {
	case strings.HasPrefix(e.media, "multipart/"):
		m.multipart(e, depth)
	case strings.HasSuffix(e.media, "delivery-status"): // RFC 3464, RFC 6533
		m.status = append(m.status, groups(e.content(maxStatus))...)
	case e.media == "message/feedback-report": // RFC 5965
		if g := groups(e.content(maxText)); len(g) > 0 && m.feedback == nil {
			m.feedback = g[0]
		}
	case e.media == "message/rfc822" || e.media == "message/global" ||
		strings.HasSuffix(e.media, "rfc822-headers") || e.media == "message/global-headers":
		m.returns(e)
	case e.media == "text/html":
		m.take(e, plain)
	case strings.HasPrefix(e.media, "text/") || e.media == "application/json":
		m.take(e, func(s string) string { return s })
	}
}

// take keeps a text, as long as there is room.
func (m *material) take(e entity, clean func(string) string) {
	if room := maxText - m.size; room > 0 {
		t := clean(e.text(room))
		m.size += len(t)
		m.texts = append(m.texts, t)
	}
}

func (m *material) multipart(e entity, depth int) {
	parts := e.parts(maxParts - m.parts)
	if len(parts) == 0 {
		// The boundary is missing or never comes: it is read as one text.
		m.take(entity{header: e.header, body: e.body}, func(s string) string { return s })
		return
	}
	if e.media == "multipart/alternative" {
		parts = preferred(parts)
	}
	for _, p := range parts {
		m.walk(p, depth+1)
	}
}

// preferred gives the plain form of an alternative where there is one with
// something in it.
func preferred(parts []entity) []entity {
	for _, p := range parts {
		if p.media == "text/plain" && len(bytes.TrimSpace(p.body)) > 0 {
			return []entity{p}
		}
	}
	return parts
}

func (m *material) returns(e entity) {
	inner := readEntity(e.content(len(e.body)))
	if m.returned == nil {
		m.returned = inner.header
	}
	if m.nested == nil && inner.media == "multipart/report" {
		m.nested = &inner
	}
}

// groups reads the groups of fields that empty lines part.
func groups(b []byte) (out []fields) {
	for len(b) > 0 && len(out) < 4*maxRecipients {
		var g fields
		before := len(b)
		g, b = cutHeader(b)
		if len(g) > 0 {
			out = append(out, perRecipient(g)...)
		} else if len(b) == before {
			_, b = cutLine(b) // a line that is no field
		}
	}
	return out
}

// perRecipient parts the groups of recipients between which the empty line is
// missing.
func perRecipient(g fields) (out []fields) {
	start := 0
	for i, f := range g {
		if f.name == "final-recipient" && fields(g[start:i]).get(f.name) != "" {
			out = append(out, g[start:i])
			start = i
		}
	}
	return append(out, g[start:])
}

var (
	hidden = regexp.MustCompile(`(?is)<(style|script|head|title)\b.*?</(style|script|head|title)>|<!--.*?-->`)
	breaks = regexp.MustCompile(`(?i)<(br|/p|/div|/tr|/li|/h[1-6]|/table|/td)\b[^>]*>`)
	tags   = regexp.MustCompile(`<[a-zA-Z/!][^<>]*>`)
)

// plain gives the text of a page. An address in angle brackets is no tag.
func plain(page string) string {
	page = hidden.ReplaceAllString(page, " ")
	page = strings.ReplaceAll(page, "\n", " ")
	page = breaks.ReplaceAllString(page, "\n")
	page = tags.ReplaceAllStringFunc(page, func(t string) string {
		if strings.Contains(t, "@") && !strings.ContainsAny(t, `= "`) {
			return t
		}
		return ""
	})
	return cutText(html.UnescapeString(page), maxText)
}
