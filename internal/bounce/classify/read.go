package classify

import (
	"io"
	"strings"

	"github.com/sealpost/sealpost/internal/private"
)

// MaxBytes is how much of a mail is read. Reports stand in front of the
// message that they return, so what is cut off is of no use.
const MaxBytes = 8 << 20

// Read tells what a mail is about. The only error is one of r itself: whatever
// cannot be understood is None.
func Read(r io.Reader) (Report, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxBytes))
	if err != nil {
		return Report{}, err
	}
	return gather(raw).read(), nil
}

// read asks the readers of each form, the firmest first.
func (m *material) read() Report {
	for _, form := range []func() (Report, bool){
		m.complaint, m.notified, m.serviceEvent, m.unsubscribed, m.autoreply, m.written, m.wrapped,
	} {
		if rep, ok := form(); ok {
			m.tie(&rep)
			return rep
		}
	}
	return Report{}
}

// tie adds what ties a report to the delivery it is about.
func (m *material) tie(rep *Report) {
	if rep.OriginalMessageID.Empty() {
		rep.OriginalMessageID = private.NewString(messageID(m.returned.get("message-id")))
	}
	if rep.Kind == Autoreply && rep.OriginalMessageID.Empty() {
		rep.OriginalMessageID = private.NewString(messageID(m.top.get("in-reply-to")))
	}
	if rep.OriginalReturnPath.Empty() {
		if a, ok := anAddress(m.returned.get("return-path")); ok {
			rep.OriginalReturnPath = private.NewString(a.Reveal())
		}
	}
}

// messageID gives the first id of a field, without the brackets.
func messageID(v string) string {
	if i := strings.IndexByte(v, '<'); i >= 0 {
		v = v[i+1:]
	}
	v, _, _ = strings.Cut(v, ">")
	v = strings.TrimSpace(v)
	if strings.ContainsAny(v, " \t<") || len(v) > 500 {
		return ""
	}
	return v
}

// wrapped is a report of a mail system around another one: systems behind a
// gateway do that. What a person forwards is not read.
func (m *material) wrapped() (Report, bool) {
	if m.nested == nil || !m.fromSystem() {
		return Report{}, false
	}
	inner := &material{top: m.nested.header}
	inner.walk(*m.nested, 1)
	rep, ok := inner.notified()
	if ok {
		inner.tie(&rep)
	}
	return rep, ok
}
