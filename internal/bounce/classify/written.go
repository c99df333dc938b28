package classify

import (
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// maxLines bounds what is read of a report written for people.
const maxLines = 1500

var (
	systemNames = []string{
		"mailer-daemon", "mailerdaemon", "mail-daemon", "maildaemon", "mail_daemon", "mail.daemon", "postmaster", "post_master", "post-master",
		"mdaemon", "mmdf", "mailer", "majordomo", "uucp", "bounce", "bounces", "mail-administrator", "mailadmin", "mail-deliver-reports",
		"no-reply-bounces", "microsoftexchange",
	}
	systemTitle = []string{
		"mail delivery", "mail deliver system", "mailer daemon", "mail daemon", "mail administrator", "system administrator", "postmaster",
		"internet mail delivery", "mail system", "mail router",
	}
	// failureSubjects stand in subjects of reports, normalized.
	failureSubjects = patterns(
		"returned mail", "returned to sender", "undeliver", "undelivered", "delivery status", "delivery fail", "delivery has failed",
		"delivery notification", "delivery report", "delivery problem", "delivery error", "delivery delay", "delivery notice", "delivery warning",
		"delivery unsuccessful", "delivery incomplete", "failure notice", "failure delivery", "failed delivery", "failure…deliver", "non delivery",
		"nondelivery", "not deliver", "could not be deliver", "cannot be deliver", "couldnt be deliver", "couldnt deliver", "mail failure", "mail failed", "failed…return",
		"mail error", "mail system error", "mail delivery", "message status", "bounce", "rejected", "unable to deliver", "unzustellbar",
		"nicht zugestellt", "nicht zustellbar", "zustellung", "non remis", "échec de", "non distribu", "no entregado", "no se pudo entregar",
		"sin entregar", "não entregue", "falha na entrega", "mancato recapito", "mancata consegna", "配信不能", "配信エラー", "送信エラー", "エラー通知", "不達", "退信",
		"投递失败", "无法送达", "недоставлен", "не доставлен", "onbestelbaar", "niet bezorgd", "non recapit", "impossibile recapitare",
		"impossible de remettre", "no se puede entregar", "não é possível entregar", "não foi possível entregar", "niedostarczon", "nie można dostarczyć",
		"nedoručiteln", "kunde inte leverera", "kunne ikke levere", "teslim edilemedi", "반송", "배달할 수", "postmaster notify", "user unknown", "error sending", "error…deliver", "trouble delivering", "not+member/a member", "loop alert", "warning…message",
		"warning…could not", "dsn ",
	)
)

// daemon reports whether the mail comes from a mail system, by its names or by
// the null return path that only reports have (RFC 5321 section 4.5.5).
func (m *material) daemon() bool {
	return strings.TrimSpace(m.top.get("return-path")) == "<>" || m.namedDaemon() || m.listProgram()
}

// listProgram: fml, a mailing list program, refuses in the name of the list's
// administrator.
func (m *material) listProgram() bool {
	a, ok := anAddress(m.top.get("from"))
	return ok && m.top.get("x-mlserver") != "" && strings.HasSuffix(a.Local(), "-admin")
}

func (m *material) namedDaemon() bool {
	for _, name := range []string{"from", "return-path", "sender"} {
		v := m.top.get(name)
		title := normal(mail.DecodeText(v))
		local := v
		if a, ok := anAddress(v); ok {
			local = a.Local()
		}
		local = strings.ToLower(strings.Trim(local, "<> "))
		for _, s := range systemNames {
			if local == s || strings.HasPrefix(local, s+"-") || strings.HasPrefix(local, s+"+") || strings.HasPrefix(local, s+"@") {
				return true
			}
		}
		for _, s := range systemTitle {
			if name == "from" && strings.HasPrefix(title, " "+s) {
				return true
			}
		}
	}
	return false
}

// fromSystem: a mail system wrote it, and it is about a delivery by its form
// or its subject.
func (m *material) fromSystem() bool {
	return m.daemon() || m.top.get("x-failed-recipients") != "" ||
		m.report == "delivery-status" && m.failureSubject()
}

func (m *material) failureSubject() bool {
	return says(normal(mail.DecodeText(m.top.get("subject"))), failureSubjects)
}

// written reads a report that is text for people alone.
func (m *material) written() (Report, bool) {
	notice := m.failureSubject()
	if !m.fromSystem() && !(notice && m.returned != nil) {
		return Report{}, false
	}
	if !notice && m.top.get("x-failed-recipients") == "" && !m.tellsFailure() && !(m.namedDaemon() && m.reasoned()) {
		return Report{}, false
	}
	t := m.telling()
	if t.guess && m.nested != nil {
		return Report{}, false // what is returned tells it itself
	}
	kind := Bounce
	if t.late() {
		kind = Delay
	}
	l := list{}
	for _, n := range t.names {
		v, why := t.judge(n)
		l.add(n.address, v.recipient(kind, why))
	}
	if len(l.out) == 0 {
		return Report{}, false
	}
	return Report{Kind: kind, Recipients: l.out, Reporter: m.domain()}, true
}

// domain is that of the system that sent the report.
func (m *material) domain() string {
	a, ok := anAddress(m.top.get("from"))
	if !ok {
		return ""
	}
	return a.Domain()
}

// failurePhrases speak of a delivery that failed.
var failurePhrases = patterns(
	"not be delivered", "not delivered", "unable to deliver", "wasnt able to deliver", "undeliver", "delivery fail",
	"delivery to the following", "delivery…failed", "delivery error", "delivery…delayed", "failed to deliver", "could not deliver",
	"couldnt deliver", "cannot deliver", "cannot be delivered", "returned to you", "returned mail", "failed recipient", "failed addresses", "failed delivery", "did not reach",
	"didnt reach", "was rejected", "has been rejected", "transcript of session", "permanent error", "permanent fatal errors", "user unknown",
	"送信できません", "配信できません", "nicht zugestellt", "unzustellbar", "pas pu être", "no se pudo entregar", "não pôde ser entregue",
	"não foi entregue", "não foi possível entregar", "non è stato recapitato", "niet worden bezorgd", "niet worden afgeleverd",
	"nie została dostarczona", "nie mogła zostać dostarczona", "не может быть доставлен", "не было доставлен", "не удалось доставить", "no pudo ser entregado", "无法投递", "无法送达", "退信",
)

// tellsFailure reports whether the text has one of them.
func (m *material) tellsFailure() bool {
	return says(normal(cutText(strings.Join(m.heads(), "\n"), 8<<10)), failurePhrases)
}

// heads gives the texts up to where the returned message begins, and keeps the
// header that begins there.
func (m *material) heads() []string {
	if m.cut {
		return m.texts
	}
	m.cut = true
	for i, t := range m.texts {
		head, rest := cutReturned(t)
		m.texts[i] = head
		if h, _ := cutHeader([]byte(strings.TrimLeft(rest, " \t\r\n"))); m.returned == nil && len(h) > 2 {
			m.returned = h
		}
	}
	return m.texts
}

var (
	returnMark = regexp.MustCompile(`(?i)(original|returned|unsent|bounced|undelivered|rejected|failed|copy of (the|your)|forwarded|header[s]? of|begin).{0,30}(message|e-?mail|header|mail)|message header|message follows|元のメール|原邮件|original-?nachricht|message d'origine|mensaje original|mensagem original`)
	rulerMark  = regexp.MustCompile(`^\s*(-{2,}|={2,}|\*{2,}|_{4,}|#{3,}|>{3,}|\+{3,})|(-{2,}|={2,}|\*{2,}|:)\s*$`)
	headerLine = regexp.MustCompile(`^>?\s?(Received|Return-Path|Message-ID|DKIM-Signature|From|To|Date|Subject|Mime-Version|Content-Type|X-[\w-]+|Reply-To|Sender|Cc|References|Delivered-To|Authentication-Results|ARC-[\w-]+|List-[\w-]+|Content-[\w-]+|Envelope-To|User-Agent|In-Reply-To|Thread-[\w-]+):`)
	traceLine  = regexp.MustCompile(`(?i)^>?\s?(Received|Return-Path|Message-ID|DKIM-Signature|Authentication-Results|X-Received|X-Originating-IP|MIME-Version):`)
)

// cutReturned finds where the returned message begins: at a ruled line that
// announces it, or at a block of header fields of which one is of a kind that
// nobody writes to people.
func cutReturned(t string) (head, rest string) {
	for at := 0; at < len(t); {
		end := len(t)
		if i := strings.IndexByte(t[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		line := strings.TrimRight(t[at:end], " \t\r\n")
		if len(line) < 120 && announces(line) && leadsHeader(t[end:]) {
			return t[:at], t[end:]
		}
		if headerLine.MatchString(line) && blockOfFields(t[at:]) {
			return t[:at], t[at:]
		}
		at = end
	}
	return t, ""
}

func announces(line string) bool {
	return rulerMark.MatchString(line) && returnMark.MatchString(line) && !strings.Contains(line, "@")
}

// leadsHeader reports whether a header begins within a few lines.
func leadsHeader(t string) bool {
	lines := strings.SplitN(t, "\n", 9)
	if strings.TrimSpace(t) == "" {
		return true
	}
	for _, l := range lines[:min(len(lines), 8)] {
		if headerLine.MatchString(l) {
			return true
		}
	}
	return false
}

// blockOfFields reports whether the lines are fields, one of them a trace.
func blockOfFields(t string) bool {
	n, trace := 0, false
	for _, l := range strings.SplitN(t, "\n", 12) {
		switch {
		case headerLine.MatchString(l):
			n++
			trace = trace || traceLine.MatchString(l)
		case strings.HasPrefix(l, " ") || strings.HasPrefix(l, "\t"):
		default:
			return n >= 3 && trace
		}
	}
	return n >= 3 && trace
}
