package classify

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
)

const systemHeader = "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nTo: a@clinic.example\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"

func nestedMultiparts(depth int) string {
	var b strings.Builder
	b.WriteString(systemHeader)
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\n<x@y.example>: user unknown\r\n")
	return b.String()
}

func reportOf(status string) string {
	return systemHeader + "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" +
		"--b\r\n\r\nThe message was not delivered.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" + status + "\r\n--b--\r\n"
}

func blocks(n int, diagnostic string) string {
	var b strings.Builder
	b.WriteString("Reporting-MTA: dns; mx.example\r\n")
	for i := range n {
		fmt.Fprintf(&b, "\r\nFinal-Recipient: rfc822; u%d@y.example\r\nAction: failed\r\nDiagnostic-Code: smtp; %s\r\n", i, diagnostic)
	}
	return b.String()
}

// bombs are mails made to cost time or memory.
func bombs() map[string]string {
	typed := systemHeader + "Content-Type: "
	continued := typed + "multipart/report; report-type=delivery-status"
	for i := range 100_000 {
		continued += fmt.Sprintf(";\r\n boundary*%d*=%%62", i)
		if i == 2000 {
			break
		}
	}
	return map[string]string{
		"multiparts in multiparts":   nestedMultiparts(10_000),
		"one boundary many times":    typed + "multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n<x@y.example>: 550 no\r\n", 300_000),
		"messages in messages":       systemHeader + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 200_000),
		"long header":                systemHeader + strings.Repeat("X-A: "+strings.Repeat("b", 500)+"\r\n", 20_000) + "\r\n<x@y.example>: user unknown\r\n",
		"one long field":             systemHeader + "X-A: " + strings.Repeat("b\r\n ", 2_500_000) + "\r\n\r\nx\r\n",
		"long line":                  systemHeader + "\r\n" + strings.Repeat("a@", 5_000_000),
		"many recipients":            reportOf(blocks(100_000, "550 5.1.1 user unknown")),
		"long diagnostics":           reportOf(blocks(1000, strings.Repeat("the mailbox of a user is not ", 250))),
		"many recipients in a group": systemHeader + "X-Failed-Recipients: " + strings.Repeat("u@y.example, ", 700_000) + "\r\n\r\nfailed\r\n",
		"many recipients in a text":  systemHeader + "\r\n" + strings.Repeat("<u@y.example>: the mailbox of the user cannot\r\n", 200_000),
		"different ones in a text":   systemHeader + "\r\n" + names(100_000),
		"continued parameters":       continued + "\r\n\r\n--b\r\n",
		"base64 without end":         typed + "text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("PHhAeS5leGFtcGxlPjogdXNlciB1bmtub3duCg==\r\n", 250_000),
		"base64 in parts":            typed + "multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat("QUJD", 20_000)+"\r\n", 110),
		"quoted-printable":           typed + "text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=3C=\r\n", 1_500_000),
		"open tags":                  typed + "text/html\r\n\r\n" + strings.Repeat("<style><a <!-- ", 500_000),
		"rulers":                     systemHeader + "\r\n" + strings.Repeat("--- original message ---\r\n", 300_000),
		"fields in the text":         systemHeader + "\r\n" + strings.Repeat("From: a\r\nTo: b\r\n", 500_000),
		"numbers":                    systemHeader + "\r\n<x@y.example>\r\n" + strings.Repeat("550 5.0.0 4.1.", 600_000),
		"quotes":                     reportOf("Final-Recipient: rfc822; " + strings.Repeat(`"\"<`, 1_000_000) + "\r\nAction: failed\r\n"),
		"JSON in JSON":               systemHeader + "\r\n" + strings.Repeat(`{"Message":`, 700_000),
		"report in reports":          systemHeader + strings.Repeat("Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n", 50_000),
	}
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<u%d@y.example>: something happened\r\n", i)
	}
	return b.String()
}

// TestBounds reads each within a second and 64 MB. Memory is what was in use
// at the worst moment, above what was before.
func TestBounds(t *testing.T) {
	for name, text := range bombs() {
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		stop := watchMemory()
		rep, took, err := timed(text)
		used := int64(stop()) - int64(before.HeapInuse)
		if err != nil || took > time.Second || used > 64<<20 || len(rep.Recipients) > maxRecipients {
			t.Errorf("%s: %d octets took %v and %d MB, %d recipients, %v", name, len(text), took, used>>20, len(rep.Recipients), err)
		}
	}
}

// timed reads a mail and tells the processor's time that it took: on a busy
// machine the wall's says little.
func timed(text string) (rep Report, took time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		const thread = 1 // RUSAGE_THREAD, getrusage(2)
		var u syscall.Rusage
		if err := syscall.Getrusage(thread, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := spent()
	rep, err = Read(strings.NewReader(text))
	return rep, spent() - began, err
}

// watchMemory looks at the heap again and again until it is stopped.
func watchMemory() (stop func() uint64) {
	done := make(chan struct{})
	worst := make(chan uint64)
	go func() {
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-done:
				worst <- most
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(done); return <-worst }
}

// checkReport tells what every report must be, whatever was read.
func checkReport(t *testing.T, rep Report) {
	t.Helper()
	if rep.Kind == None && len(rep.Recipients) > 0 || len(rep.Recipients) > maxRecipients {
		t.Errorf("%q with %d recipients", rep.Kind, len(rep.Recipients))
	}
	seen := map[string]bool{}
	for _, r := range rep.Recipients {
		a, err := mail.ParseAddress(r.Address.Reveal())
		if err != nil || seen[a.Normal()] {
			t.Errorf("the address %q: %v", r.Address.Reveal(), err)
		}
		seen[a.Normal()] = true
		if !r.Original.Empty() {
			if _, err := mail.ParseAddress(r.Original.Reveal()); err != nil {
				t.Errorf("the address %q: %v", r.Original.Reveal(), err)
			}
		}
		failed := r.Kind == Bounce || r.Kind == Delay
		if failed != (r.Class != "") || r.Hard && !r.Permanent || r.Permanent && r.Kind != Bounce || len(r.Diagnostic.Reveal()) > maxDiagnostic {
			t.Errorf("%s %q, hard %v, permanent %v", r.Kind, r.Class, r.Hard, r.Permanent)
		}
	}
	if p := rep.OriginalReturnPath.Reveal(); p != "" {
		if _, err := mail.ParseAddress(p); err != nil {
			t.Errorf("the return path %q: %v", p, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range ownSamples(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		start := time.Now()
		rep, err := Read(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
		checkReport(t, rep)
	})
}

func FuzzReply(f *testing.F) {
	f.Add(550, "5.1.1", "user unknown")
	f.Add(0, "", "5.1.0 - Unknown address error 550-'5.7.1 denied'")
	f.Fuzz(func(t *testing.T, code int, enhanced, text string) {
		if class, _ := Reply(code, enhanced, text); sentences[class] == "" {
			t.Errorf("class %q", class)
		}
	})
}
