package bounce

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// failure is a delivery that the peer refused.
func failure(t testing.TB) report {
	return report{
		kind: spool.KindDSN, hostname: "mail.clinic.test", now: when.Add(time.Minute), arrived: when.Add(-time.Hour), happened: when,
		until: when.Add(47 * time.Hour), message: id.New(), delivery: id.New(),
		sender: address(t, "dr.ada@clinic.test"), recipient: address(t, "tom@example.org"), reason: spool.ReasonRejected,
		tried: when, last: attemptData{Result: spool.ResultPermanent, Host: "mx1.example.org", Code: 550, Enhanced: "5.7.26"},
	}
}

func write(t testing.TB, r report) dsn {
	t.Helper()
	raw, err := r.text()
	if err != nil {
		t.Fatal(err)
	}
	return readStrictly(t, raw)
}

func wantFields(t testing.TB, got map[string]string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %q, want %q", name, got[name], value)
		}
	}
}

func TestAFailureInFull(t *testing.T) {
	r := failure(t)
	d := write(t, r)
	wantFields(t, d.message, map[string]string{
		"Original-Envelope-Id": r.message.Text(id.Message), "Reporting-MTA": "dns; mail.clinic.test",
		"Arrival-Date": "Wed, 04 Mar 2026 04:06:07 +0000",
	})
	wantFields(t, d.rcpt, map[string]string{
		"Final-Recipient": "rfc822; tom@example.org", "Action": "failed", "Status": "5.7.26", "Remote-MTA": "dns; mx1.example.org",
		"Diagnostic-Code": "smtp; 550 5.7.26", "Last-Attempt-Date": "Wed, 04 Mar 2026 05:06:07 +0000",
		"Will-Retry-Until": "", "X-Sealpost-Delivery": r.delivery.Text(id.Delivery),
	})
	if d.header.Get("To") != "dr.ada@clinic.test" || d.header.Get("From") != `"Mail delivery" <mailer-daemon@mail.clinic.test>` {
		t.Errorf("header %v", d.header)
	}
	for _, want := range []string{
		"\r\n    tom@example.org\r\n", "refused the message for good", "mx1.example.org answered 550", "Check the address",
		"Accepted:   4 March 2026, 04:06 UTC\r\n", "Last tried: 4 March 2026, 05:06 UTC\r\n", "Given up:   4 March 2026, 05:06 UTC\r\n",
		r.message.Text(id.Message), r.delivery.Text(id.Delivery),
	} {
		if !strings.Contains(d.human, want) {
			t.Errorf("the text for people lacks %q:\n%s", want, d.human)
		}
	}
	for line := range strings.SplitSeq(d.human, "\r\n") {
		if len(line) > 78 {
			t.Errorf("long line %q", line)
		}
	}
}

func TestADelayInFull(t *testing.T) {
	r := failure(t)
	r.kind, r.reason = spool.KindDelay, spool.ReasonTemporary
	r.last = attemptData{Result: spool.ResultTemporary, Host: "mx1.example.org", Code: 451, Enhanced: "4.7.1"}
	d := write(t, r)
	wantFields(t, d.rcpt, map[string]string{"Action": "delayed", "Status": "4.7.1", "Diagnostic-Code": "smtp; 451 4.7.1",
		"Will-Retry-Until": "Fri, 06 Mar 2026 04:06:07 +0000"})
	if !strings.Contains(d.human, "6 March 2026") || strings.Contains(d.human, "Given up") || strings.Contains(d.human, sayAgain) {
		t.Errorf("text for people:\n%s", d.human)
	}
	r.last.Enhanced = "5.7.1" // a peer that contradicts itself
	if d := write(t, r); d.rcpt["Status"] != "4.7.1" {
		t.Errorf("status %q", d.rcpt["Status"])
	}
}

// reasonsOfSpool reads the words from the source, so that a new one cannot be
// forgotten here.
func reasonsOfSpool(t *testing.T) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../spool/spool.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(v.Names[0].Name, "Reason") {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, word)
		}
		return true
	})
	if len(all) < 15 {
		t.Fatalf("only %d reasons found", len(all))
	}
	return all
}

func TestEveryReasonIsExplained(t *testing.T) {
	words := append(reasonsOfSpool(t), "a_word_of_tomorrow")
	for _, reason := range words {
		for _, kind := range []string{spool.KindDSN, spool.KindDelay} {
			r := failure(t)
			r.kind, r.reason = kind, reason
			r.last = attemptData{}
			r.tried = time.Time{}
			d := write(t, r)
			w := word(reason)
			if strings.Contains(d.human, unexplained.why) != (reason == "a_word_of_tomorrow") {
				t.Errorf("%s is not explained", reason)
			}
			if !strings.HasSuffix(w.why, ".") || !strings.HasSuffix(w.do, ".") || d.rcpt["Remote-MTA"] != "" || d.rcpt["Last-Attempt-Date"] != "" {
				t.Errorf("%s: %v", reason, d.rcpt)
			}
			if kind == spool.KindDSN && d.rcpt["Status"] != w.status {
				t.Errorf("%s: status %s", reason, d.rcpt["Status"])
			}
		}
	}
	if len(wordings) != len(words)-1 {
		t.Errorf("%d wordings for %d reasons", len(wordings), len(words)-1)
	}
}

func TestAnExpiredDeliverySaysWhatStoodInTheWay(t *testing.T) {
	r := failure(t)
	r.reason, r.before = spool.ReasonExpired, spool.ReasonMailboxFull
	r.tried, r.last = when.Add(-time.Hour), attemptData{Result: spool.ResultTemporary, Host: "mx1.example.org", Code: 452, Enhanced: "4.2.2"}
	d := write(t, r)
	wantFields(t, d.rcpt, map[string]string{"Action": "failed", "Status": "4.4.7", "Diagnostic-Code": "smtp; 452 4.2.2", "Remote-MTA": "dns; mx1.example.org"})
	if flat := strings.Join(strings.Fields(d.human), " "); !strings.Contains(flat, "mailbox is full. The mail server mx1.example.org answered 452 4.2.2.") {
		t.Errorf("text for people:\n%s", d.human)
	}
}

// An earlier attempt has nothing to do with what the DNS says now.
func TestAnOldReplyIsNotBlamed(t *testing.T) {
	r := failure(t)
	r.reason, r.tried = spool.ReasonNullMX, when.Add(-time.Hour)
	d := write(t, r)
	wantFields(t, d.rcpt, map[string]string{"Status": "5.1.10", "Diagnostic-Code": "", "Remote-MTA": "", "Last-Attempt-Date": "Wed, 04 Mar 2026 04:06:07 +0000"})
}

// An accepted notice for the portal is no failed attempt.
func TestAnUnreadMessage(t *testing.T) {
	r := failure(t)
	r.reason = spool.ReasonLinkExpired
	r.last = attemptData{Result: spool.ResultDelivered, Host: "mx1.example.org", Code: 250, Enhanced: "2.0.0"}
	d := write(t, r)
	wantFields(t, d.rcpt, map[string]string{"Action": "failed", "Status": "4.4.7", "Diagnostic-Code": "", "Remote-MTA": ""})
	if d.header.Get("Subject") != "Your message was not read in time" || strings.Contains(d.human, "Last tried") {
		t.Errorf("%v\n%s", d.header, d.human)
	}
}

func TestThePolicysSentence(t *testing.T) {
	r := failure(t)
	r.reason, r.refusal = spool.ReasonPolicyRefused, "Keine Post\r\n\r\n--x an Träger\x00 außerhalb."
	if d := write(t, r); !strings.Contains(strings.Join(strings.Fields(d.human), " "), "The policy says: Keine Post --x an Träger außerhalb.") {
		t.Errorf("text for people:\n%s", d.human)
	}
}

func TestAddressesBeyondASCII(t *testing.T) {
	for _, tc := range []struct{ sender, recipient, media, field string }{
		{"dr.ada@clinic.test", "zoë@example.org", "message/delivery-status", `utf-8; zo\x{EB}@example.org`},
		{"dr.ada@clinic.test", "a+b=ü𝔵@bücher.example", "message/delivery-status", `utf-8; a\x{2B}b\x{3D}\x{FC}\x{1D535}@xn--bcher-kva.example`},
		{"dr.ada@clinic.test", `"dr\\ who ü"@example.org`, "message/delivery-status", `utf-8; "dr\x{5C}\x{5C}\x{20}who\x{20}\x{FC}"@example.org`},
		{"dr.ada@clinic.test", `"dr who"@example.org`, "message/delivery-status", `rfc822; "dr who"@example.org`},
		{"jürgen@clinic.test", "zoë@example.org", "message/global-delivery-status", `utf-8; zoë@example.org`},
		{"jürgen@clinic.test", "tom@example.org", "message/delivery-status", `rfc822; tom@example.org`},
	} {
		r := failure(t)
		r.sender, r.recipient = address(t, tc.sender), address(t, tc.recipient)
		d := write(t, r)
		if d.media != tc.media || d.rcpt["Final-Recipient"] != tc.field || d.recipient(t) != r.recipient.Reveal() {
			t.Errorf("%s to %s: %s %q", tc.sender, tc.recipient, d.media, d.rcpt["Final-Recipient"])
		}
		if !strings.Contains(d.human, "    "+r.recipient.Reveal()+"\r\n") {
			t.Errorf("text for people:\n%s", d.human)
		}
	}
}

func TestTheSendersDomainStandsInForAShortHostname(t *testing.T) {
	for hostname, want := range map[string]string{"mail.clinic.test": "mail.clinic.test", "localhost": "clinic.test"} {
		r := failure(t)
		r.hostname = hostname
		if d := write(t, r); !strings.HasSuffix(d.header.Get("From"), "<mailer-daemon@"+want+">") {
			t.Errorf("%s: From %s", hostname, d.header.Get("From"))
		}
	}
}

// FuzzReport: whatever the ledger says of a peer and whatever the policy says,
// the notice keeps its structure and the peer's words stay out.
func FuzzReport(f *testing.F) {
	f.Add("tom@example.org", "dr.ada@clinic.test", "mx.example.org", 550, "5.1.1", "No.", "rejected", false)
	f.Add("zoë@example.org", "ü@clinic.test", "mx\r\nX: y", 450, "4.2.2 tom", "a\r\n.\r\n--=_", "temporary_failure", true)
	f.Add(`"a b\"c"@example.org`, "x@clinic.test", "192.0.2.1", 250, "2.0.0", "\xff\x00", "tried_too_long", false)
	f.Fuzz(func(t *testing.T, recipient, sender, host string, code int, enhanced, refusal, reason string, late bool) {
		to, err := mail.ParseAddress(recipient)
		from, err2 := mail.ParseAddress(sender)
		if err != nil || err2 != nil {
			return
		}
		r := failure(t)
		r.recipient, r.sender, r.refusal, r.reason = to, from, refusal, reason
		r.last = attemptData{Result: spool.ResultTemporary, Host: host, Code: code, Enhanced: enhanced}
		if late {
			r.kind = spool.KindDelay
		}
		d := write(t, r)
		if d.recipient(t) != to.Reveal() {
			t.Errorf("recipient %q became %q", to.Reveal(), d.recipient(t))
		}
	})
}
