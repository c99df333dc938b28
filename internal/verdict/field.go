package verdict

import (
	"strings"

	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/mail"
)

const fieldName = "Authentication-Results"

// Field is the value of the Authentication-Results field.
func (j *Judge) Field(v Verdict) string {
	parts := []string{j.Hostname}
	spf := "spf=" + string(v.SPF.Result)
	switch {
	case v.SPF.Domain == "":
	case v.SPF.HELO:
		spf += " smtp.helo=" + v.SPF.Domain
	default:
		spf += " smtp.mailfrom=" + v.SPF.Domain
	}
	parts = append(parts, spf)
	if len(v.DKIM) == 0 {
		parts = append(parts, "dkim=none")
	}
	for _, s := range v.DKIM {
		dkim := "dkim=" + string(s.Result)
		if s.Domain != "" {
			dkim += " header.d=" + s.Domain
		}
		parts = append(parts, dkim)
	}
	d := "dmarc=" + string(v.DMARC.Word)
	if v.Author != "" {
		d += " header.from=" + v.Author
	}
	if v.DMARC.Word == dmarc.Fail {
		d += " policy.dmarc=" + string(v.DMARC.Disposition)
	}
	return strings.Join(append(parts, d), "; ")
}

// Mark gives the header with our field on top and without those that came with
// the message and claim to be ours.
func (j *Judge) Mark(h mail.Header, v Verdict) (mail.Header, error) {
	values := h.Values(fieldName)
	at := -1
	out := h.Where(func(name string) bool {
		if !strings.EqualFold(name, fieldName) {
			return true
		}
		at++
		return !j.ours(values[at])
	})
	err := out.Prepend(fieldName, j.Field(v))
	return out, err
}

// ours reports whether a field would be taken for one of ours: its authserv-id
// is our name, or a name below it, or cannot be told.
func (j *Judge) ours(value string) bool {
	id, ok := authservID(value)
	id, own := strings.ToLower(strings.TrimSuffix(id, ".")), strings.ToLower(j.Hostname)
	return !ok || id == own || strings.HasSuffix(id, "."+own)
}

// authservID reads the first word of the field: a token or a quoted string,
// behind comments (RFC 8601 section 2.2, RFC 2045 section 5.1).
func authservID(value string) (id string, ok bool) {
	rest, ok := skipComments(value)
	if !ok || rest == "" {
		return "", false
	}
	if rest[0] != '"' {
		if i := strings.IndexAny(rest, " \t;(/"); i >= 0 {
			rest = rest[:i]
		}
		return rest, rest != "" && !strings.ContainsAny(rest, "\"\\")
	}
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			return b.String(), true
		case c == '\\' && i+1 < len(rest):
			i++
			b.WriteByte(rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// skipComments drops white space and comments from the front.
func skipComments(s string) (rest string, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case depth > 0 && c == '\\':
			i++
		case c == '(':
			depth++
		case depth > 0 && c == ')':
			depth--
		case depth == 0 && c != ' ' && c != '\t':
			return s[i:], true
		}
	}
	return "", depth == 0
}
