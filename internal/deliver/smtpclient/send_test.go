package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

func body(text string) seal.Body {
	return seal.Body{Size: int64(len(text)), EightBit: mail.Has8Bit([]byte(text)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
}

func dialed(t testing.TB, host, domain string, floor policy.Grade) *Conn {
	t.Helper()
	d := deps()
	d.Timeouts.Dot = 10 * time.Second
	c, _, err := Dial(t.Context(), d, target(t, host, domain), floor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestEveryTemper(t *testing.T) {
	const plain = "Subject: hello\r\n\r\nhello\r\n"
	const eight = "Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
	for _, tc := range []struct {
		to, text, want string
	}{
		{"walter@unknown-user.example", plain, "ok"},
		{"wilma@unknown-user.example", plain, "refused at rcpt 550 5.1.1 lasting"},
		{"vera2@greylist.example", plain, "refused at rcpt 451 4.7.1 temporary"},
		{"uwe@full.example", plain, "refused at rcpt 452 4.2.2 temporary"},
		{"ulla@full-for-good.example", plain, "refused at rcpt 552 5.2.2 lasting"},
		{"xaver@slow.example", plain, "ok"},
		{"berta@no-extensions.example", plain, "ok"},
		{"berta@no-extensions.example", eight, "ok"},
		{"abel@no-8bitmime.example", eight, "ok"},
		{"zoe@no-smtputf8.example", plain, "ok"},
		{"zoë@no-smtputf8.example", plain, "refused locally at mail 553 5.6.7 lasting"},
		{"jörg@modern.example", eight, "ok"},
		{"cleo@small-size.example", plain, "ok"},
		{"cleo@small-size.example", plain + strings.Repeat("0123456789abcde\r\n", 4096), "refused locally at mail 552 5.3.4 lasting"},
		{"yara2@drops.example", plain, "unknown connection_lost"},
		{"paula@hang-mail.example", plain, "failed at mail timeout"},
		{"ralf@hang-rcpt.example", plain, "failed at rcpt timeout"},
		{"susi@hang-data.example", plain, "failed at data timeout"},
		{"tom@hang-dot.example", plain, "unknown timeout"},
	} {
		a := artifact(t, tc.to, policy.Verified, tc.text)
		t.Run(a.To().Domain()+"/"+tc.want, func(t *testing.T) {
			domain := a.To().Domain()
			c, _, err := Dial(t.Context(), deps(), target(t, "mx."+domain, domain), policy.Verified)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			before := len(internet.Messages(a.To().Reveal()))
			reply, err := c.Send(t.Context(), a, time.Hour)
			if got := verdict(err); got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			var refused *RefusedError
			if errors.As(err, &refused) && refused.Reply.Text.Empty() {
				t.Error("the reply has no text")
			}
			if err == nil && reply.Code != 250 {
				t.Errorf("reply %s", reply.Status())
			}
			got := internet.Messages(a.To().Reveal())[before:]
			if err == nil && len(got) != 1 {
				t.Fatalf("%d messages arrived", len(got))
			}
			if err == nil && strings.Contains(tc.text, "ü") {
				checkEight(t, domain, tc.text, string(got[0].Raw))
			}
			onlyGreetings(t, domain)
		})
	}
}

// checkEight finds an 8-bit text as it was, or re-encoded where the host takes
// seven bits only.
func checkEight(t *testing.T, domain, sent, got string) {
	t.Helper()
	if domain == "modern.example" {
		if got != sent {
			t.Errorf("arrived as %q", got)
		}
		return
	}
	if mail.Has8Bit([]byte(got)) || !strings.Contains(got, "Gr=C3=BC=C3=9Fe") {
		t.Errorf("arrived as %q", got)
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	c := dialed(t, "mx.unknown-user.example", "unknown-user.example", policy.Verified)
	before := internet.Stats("mx.unknown-user.example")
	for range 3 {
		for to, want := range map[string]string{
			"walter@unknown-user.example": "ok",
			"wilma@unknown-user.example":  "refused at rcpt 550 5.1.1 lasting",
		} {
			if !c.Alive() {
				t.Fatal("the connection died")
			}
			if _, err := c.Send(t.Context(), artifact(t, to, policy.Verified, "Subject: x\r\n\r\nx\r\n"), time.Hour); verdict(err) != want {
				t.Fatal(err)
			}
		}
	}
	after := internet.Stats("mx.unknown-user.example")
	if after.Connections != before.Connections || after.Messages != before.Messages+3 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestPeerEndsTheConnection(t *testing.T) {
	c := dialed(t, "mx.one-per-connection.example", "one-per-connection.example", policy.Verified)
	a := artifact(t, "dora@one-per-connection.example", policy.Verified, "Subject: x\r\n\r\nx\r\n")
	if _, err := c.Send(t.Context(), a, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), a, time.Hour); verdict(err) != "refused at mail 421 4.7.0 temporary" {
		t.Fatal(err)
	}
	if c.Alive() {
		t.Error("alive after 421")
	}
	if _, err := c.Send(t.Context(), a, time.Hour); verdict(err) != "failed at mail connection_lost" {
		t.Error(err)
	}
}

func TestDeadConnectionIsNoticedWhileIdle(t *testing.T) {
	inet, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	was := internet
	internet = inet
	c := dialed(t, "mx.modern.example", "modern.example", policy.Verified)
	internet = was
	if !c.Alive() {
		t.Fatal("a fresh connection is not alive")
	}
	inet.Close()
	for end := time.Now().Add(5 * time.Second); c.Alive(); {
		if time.Now().After(end) {
			t.Fatal("still alive")
		}
		time.Sleep(time.Millisecond) // the end travels through the kernel
	}
}

func TestFloorOfTheArtifactBinds(t *testing.T) {
	c := dialed(t, "mx.expired.example", "expired.example", policy.Encrypted)
	a := artifact(t, "edith@expired.example", policy.Verified, "Subject: x\r\n\r\nx\r\n")
	if _, err := c.Send(t.Context(), a, time.Hour); verdict(err) != "weak encrypted certificate lasting" {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), seal.Report(a.To(), policy.Encrypted, []byte("Subject: notice\r\n\r\nx\r\n")), time.Hour); err != nil {
		t.Fatal(err)
	}
	got := internet.Messages("edith@expired.example")
	if len(got) != 1 || got[0].From != "" {
		t.Errorf("arrived: %d", len(got))
	}
}

func TestRequireTLS(t *testing.T) {
	from, text := addr(t, "dr.ada@clinic.test"), body("Subject: x\r\n\r\nx\r\n")
	for _, tc := range []struct {
		to   string
		sts  STS
		want string
	}{
		{"kofi@requiretls.example", STS{Enforce: true, Match: true, ID: "1"}, "ok"},
		{"kofi@requiretls.example", STS{}, "weak verified require_tls_grade lasting"},
		{"lena@sts-enforce.example", STS{Enforce: true, Match: true, ID: "1"}, "refused locally at mail 550 5.7.30 lasting"},
	} {
		a := seal.TLS(from, addr(t, tc.to), policy.Verified, true, text)
		tg := target(t, "mx."+a.To().Domain(), a.To().Domain())
		tg.STS = tc.sts
		c, _, err := Dial(t.Context(), deps(), tg, policy.Verified)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Send(t.Context(), a, time.Hour); verdict(err) != tc.want {
			t.Errorf("got %q, want %q", verdict(err), tc.want)
		}
		if c.Evidence().RequireTLS != (tc.want == "ok") {
			t.Errorf("evidence %+v", c.Evidence())
		}
		// A report goes without REQUIRETLS where it must.
		report := seal.Report(addr(t, tc.to), policy.Encrypted, []byte("Subject: report\r\n\r\nx\r\n")).Protected()
		if _, err := c.Send(t.Context(), report, time.Hour); err != nil || c.Evidence().RequireTLS != (tc.want == "ok") {
			t.Errorf("a report: %v, %+v", err, c.Evidence())
		}
	}
}

func TestSourceFails(t *testing.T) {
	broken := errors.New("the store is gone")
	const text = "Subject: x\r\n\r\nhello\r\n"
	for name, b := range map[string]seal.Body{
		"at open": {Size: 5, Open: func(context.Context) (io.ReadCloser, error) { return nil, broken }},
		"midway": {Size: 1 << 20, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))), nil
		}},
		"short":   {Size: int64(len(text)) + 1, Open: body(text).Open},
		"bare LF": body("Subject: x\r\n\r\nhello\n.\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialed(t, "mx.modern.example", "modern.example", policy.Verified)
			to := addr(t, "source-fails@modern.example")
			_, err := c.Send(t.Context(), seal.TLS(addr(t, "dr.ada@clinic.test"), to, policy.Verified, false, b), time.Hour)
			if verdict(err) != "source" {
				t.Error(err)
			}
			if c.Alive() != (name == "at open") {
				t.Errorf("alive: %v", c.Alive())
			}
		})
	}
	if got := internet.Messages("source-fails@modern.example"); len(got) > 0 {
		t.Errorf("arrived: %q", got[0].Raw)
	}
}

func TestCancelEndsSend(t *testing.T) {
	c := dialed(t, "mx.hang-dot.example", "hang-dot.example", policy.Verified)
	ctx, cancel := context.WithCancel(t.Context())
	b := body("Subject: x\r\n\r\nx\r\n")
	open := b.Open
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		cancel()
		return open(ctx)
	}
	_, err := c.Send(ctx, seal.TLS(addr(t, "dr.ada@clinic.test"), addr(t, "tom@hang-dot.example"), policy.Verified, false, b), time.Hour)
	if got := verdict(err); !strings.HasSuffix(got, "canceled") {
		t.Errorf("got %q", got)
	}
	if c.Alive() {
		t.Error("alive after cancel")
	}
}

// TestATransactionEndsInTime: all before the final dot has a time, which is
// longer for what is larger, and no longer than the message lives. Neither is
// for the answer to the dot.
func TestATransactionEndsInTime(t *testing.T) {
	small, large := "Subject: x\r\n\r\nx\r\n", "Subject: x\r\n\r\n"+strings.Repeat("0123456789abcde\r\n", 512)
	for _, tc := range []struct {
		to, text    string
		whole, left time.Duration
		want        string
	}{
		{"xaver@slow.example", small, time.Nanosecond, time.Hour, "failed at mail timeout"},
		{"xaver@slow.example", large, time.Nanosecond, time.Hour, "ok"},
		{"susi@hang-data.example", small, time.Hour, 100 * time.Millisecond, "failed at data canceled"},
		{"tom@hang-dot.example", small, time.Hour, 100 * time.Millisecond, "unknown timeout"},
	} {
		a := artifact(t, tc.to, policy.Verified, tc.text)
		d := deps()
		d.Timeouts.Whole = tc.whole
		c, _, err := Dial(t.Context(), d, target(t, "mx."+a.To().Domain(), a.To().Domain()), policy.Verified)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Send(t.Context(), a, tc.left)
		if got := verdict(err); got != tc.want {
			t.Errorf("%s: got %q, want %q", a.To().Domain(), got, tc.want)
		}
		if err != nil && c.Alive() {
			t.Errorf("%s: the connection seems to be good for another message", a.To().Domain())
		}
		_ = c.Close() // the peer may be gone
	}
}

// TestASlowStoreIsNoFaultOfThePeer: the time for a transaction passes while our
// own store is read.
func TestASlowStoreIsNoFaultOfThePeer(t *testing.T) {
	b := body("Subject: x\r\n\r\nx\r\n")
	open := b.Open
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		return struct {
			io.Reader
			io.Closer
		}{late{r}, r}, err
	}
	d := deps()
	d.Timeouts.Whole = 400 * time.Millisecond
	a := seal.TLS(addr(t, "dr.ada@clinic.test"), addr(t, "xaver@modern.example"), policy.Verified, false, b)
	c, _, err := Dial(t.Context(), d, target(t, "mx.modern.example", "modern.example"), policy.Verified)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Send(t.Context(), a, time.Hour)
	var source *SourceError
	var lost *ConnError
	if !errors.As(err, &source) || errors.As(err, &lost) || c.Alive() {
		t.Errorf("got %v", err)
	}
}

// late is a store that answers after a while.
type late struct{ r io.Reader }

func (l late) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return l.r.Read(p)
}

func TestErrorsShowNoReplyText(t *testing.T) {
	reply := Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: privateText("wilma@unknown-user.example")}
	refused := &RefusedError{Stage: StageRcpt, Reply: reply}
	weak := &WeakError{Reason: WeakRefused, cause: refused}
	for _, s := range []string{refused.Error(), weak.Error(), fmt.Sprintf("%v %+v", weak, refused), fmt.Sprintf("%#v", refused.Reply)} {
		if strings.Contains(s, "wilma") {
			t.Error(s)
		}
	}
}

// TestDotStuffing sends texts in all cuts and undoes the stuffing.
func TestDotStuffing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"\r\n", ".", "..", "a", "\r\n.", "\r\n.\r\n", "xyz"}
	for range 2000 {
		var text strings.Builder
		for range rng.IntN(12) {
			text.WriteString(pieces[rng.IntN(len(pieces))])
		}
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		s := stuffer{w: w, lineStart: true}
		for rest := text.String(); rest != ""; {
			n := 1 + rng.IntN(len(rest))
			if err := s.write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush()
		want := text.String()
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		var got strings.Builder
		for line := range strings.Lines(out.String()) {
			if line == ".\r\n" {
				t.Fatalf("%q ends early: %q", text.String(), out.String())
			}
			got.WriteString(strings.TrimPrefix(line, "."))
		}
		if got.String() != want {
			t.Fatalf("%q became %q", want, out.String())
		}
	}
}

func BenchmarkSend10KiB(b *testing.B) {
	inet, err := fake.Start(b.Context(), fake.Options{DiscardBodies: true})
	if err != nil {
		b.Fatal(err)
	}
	defer inet.Close()
	was := internet
	internet = inet
	c := dialed(b, "mx.modern.example", "modern.example", policy.Verified)
	internet = was
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("a", 70)+"\r\n", 142)
	a := artifact(b, "anna@modern.example", policy.Verified, text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := c.Send(b.Context(), a, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
