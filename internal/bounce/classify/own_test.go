package classify

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden reports anew")

func ownSamples(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".eml")] = b
	}
	return out
}

func read(t *testing.T, raw []byte) Report {
	t.Helper()
	rep, err := Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// shown writes a report so that it can be compared.
func shown(name string, rep Report) string {
	var b strings.Builder
	kind := rep.Kind
	if kind == None {
		kind = "none"
	}
	fmt.Fprintf(&b, "%s: %s %s by %q, id %q, path %q\n", name, kind, rep.Feedback, rep.Reporter, rep.OriginalMessageID.Reveal(), rep.OriginalReturnPath.Reveal())
	for _, r := range rep.Recipients {
		fmt.Fprintf(&b, "  <%s> sent to <%s>: %s %s permanent=%t hard=%t %d %s\n", r.Address.Reveal(), r.Sent().Reveal(), r.Kind, r.Class, r.Permanent, r.Hard, r.Code, r.Status)
	}
	return b.String()
}

func TestOwnSamples(t *testing.T) {
	samples := ownSamples(t)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		rep := read(t, samples[name])
		checkReport(t, rep)
		for _, r := range rep.Recipients {
			if strings.Contains(r.Diagnostic.Reveal(), "secret") {
				t.Errorf("%s: the diagnostic holds the returned message", name)
			}
		}
		b.WriteString(shown(name, rep))
	}
	const golden = "testdata/reports.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(b.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("line %d differs:\n got %s\nwant %s", i+1, got[min(i, len(got)-1)], line)
		}
	}
}

// TestForwarding wraps each notification as people and gateways do: it is read
// as the same, or as nothing.
func TestForwarding(t *testing.T) {
	const person = "From: Ana <ana@y.example>\r\nReturn-Path: <ana@y.example>\r\nSubject: Fwd: what is this\r\nContent-Type: "
	wraps := map[string]func(string) string{
		"attached": func(m string) string {
			return person + "multipart/mixed; boundary=oo\r\n\r\n--oo\r\n\r\nLook.\r\n--oo\r\nContent-Type: message/rfc822\r\n\r\n" + m + "\r\n--oo--\r\n"
		},
		"in a mixed": func(m string) string {
			return person + "multipart/mixed; boundary=oo\r\n\r\n--oo\r\n" + m + "\r\n--oo--\r\n"
		},
		"deep": func(m string) string {
			return person + "multipart/mixed; boundary=oo\r\n\r\n--oo\r\nContent-Type: multipart/related; boundary=pp\r\n\r\n--pp\r\n" + m + "\r\n--pp--\r\n--oo--\r\n"
		},
		"alone": func(m string) string { return person + "message/rfc822\r\n\r\n" + m },
	}
	same := 0
	for name, raw := range ownSamples(t) {
		if !strings.HasPrefix(name, "dsn-") {
			continue
		}
		want := shown(name, read(t, raw))
		for how, wrap := range wraps {
			rep := read(t, []byte(wrap(string(raw))))
			if got := shown(name, rep); got == want {
				same++
			} else if rep.Kind != None {
				t.Errorf("%s, %s:\n got %s\nwant %s", name, how, got, want)
			}
		}
	}
	if same == 0 {
		t.Error("none was read")
	}
}

func TestReply(t *testing.T) {
	for _, c := range []struct {
		code      int
		enhanced  string
		text      string
		class     Class
		permanent bool
	}{
		{550, "5.1.1", "", MailboxUnknown, true},
		{550, "", "No such user - psmtp", MailboxUnknown, true},
		{550, "", "Requested action not taken: mailbox unavailable", MailboxUnknown, true}, // GMX, 1&1
		{550, "5.5.0", "Requested action not taken: mailbox unavailable (S2017062302).", MailboxUnknown, true},
		{554, "", "delivery error: dd This user doesn't have a yahoo.com account", MailboxUnknown, true},
		{550, "", "non-local recipient verification failed: Sorry, no such user here", MailboxUnknown, true}, // Mail.ru form
		{452, "4.2.2", "The email account that you tried to reach is over quota.", MailboxFull, false},
		{552, "", "Mailbox limit exceeded for this email address. AUP#In-1640", MailboxFull, true},
		{550, "5.7.1", "The IP you're using to send mail is not authorized to send email directly to our servers.", Policy, true},
		{554, "", "Email rejected due to security policies - https://community.mimecast.com/docs/DOC-1369#550", Policy, true},
		{550, "5.7.0", "Local Policy Violation", Policy, true}, // Proofpoint
		{554, "5.7.1", "Service unavailable; Client host [192.0.2.4] blocked using Barracuda Reputation", Policy, true},
		{421, "", "[TSS04] Messages from 192.0.2.7 temporarily deferred due to user complaints", Policy, false},
		{550, "5.7.511", "Access denied, banned sender[192.0.2.7]", Policy, true},
		{550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281)", MailboxUnknown, true},
		{451, "4.7.650", "The mail server [192.0.2.4] has been temporarily rate limited due to IP reputation.", Rate, false},
		{421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail", Rate, false},
		{554, "", "5.7.1 [CS01] Message rejected due to spam content", Spam, true},
		{550, "", "Mail content denied. http://service.mail.qq.com/", Spam, true},
		{550, "", "Ip frequency limited", Rate, true},
		{550, "", "邮箱不存在", MailboxUnknown, true},
		{554, "", "DT:SPM 163 smtp10, see the 垃圾 page", Spam, true},
		{554, "5.6.0", "Message contains invalid header", Content, true},
		{530, "5.7.0", "Must issue a STARTTLS command first", TLS, true},
		{450, "4.1.8", "Sender address rejected: Domain not found", Policy, false},
		{451, "4.7.1", "Greylisting in action, please come back later", Rate, false},
		{550, "5.1.2", "Host unknown (Name server: y.example: host not found)", DNS, true},
		{556, "5.1.10", "", DNS, true},
		{0, "4.4.7", "", Expired, false},
		{0, "5.1.6", "", MailboxUnknown, true},
		{0, "", "", Other, false},
		{550, "", "xyzzy", Other, true},
	} {
		class, permanent := Reply(c.code, c.enhanced, c.text)
		if class != c.class || permanent != c.permanent {
			t.Errorf("%d %s %s: %s %v, want %s %v", c.code, c.enhanced, c.text, class, permanent, c.class, c.permanent)
		}
	}
}

func TestEveryClassHasASentence(t *testing.T) {
	for _, c := range []Class{MailboxUnknown, MailboxFull, Policy, Spam, Content, DNS, TLS, Rate, Expired, Other} {
		if c != Other && c.Sentence() == Other.Sentence() {
			t.Errorf("%s is told like what nobody understands", c)
		}
	}
	for _, w := range wordings {
		for _, p := range w.patterns {
			if p != strings.ToLower(p) || strings.ContainsAny(p, ".,-'’_") || strings.Contains(p, "  ") || strings.TrimLeft(p, " ") != p {
				t.Errorf("the pattern %q can never be found", p)
			}
			for _, s := range steps(p) {
				if slices.Contains(s.words, "") || slices.Contains(s.words, " ") {
					t.Errorf("the pattern %q has an empty word", p)
				}
			}
		}
	}
}
