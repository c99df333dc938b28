package mail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/fault"
)

func parse(t testing.TB, s string) Header {
	t.Helper()
	h, err := ParseHeader(bufio.NewReader(strings.NewReader(s)))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return h
}

func TestParseHeaderKeepsBytesAndLeavesBody(t *testing.T) {
	const header = "Received: a\r\n\tb;\r\n  c\r\nsubject:X\r\nX-Odd :  spaced  \r\nSUBJECT: again\r\nX-8: \xff\r\nEmpty:\r\n\r\n"
	const body = "\r\nbody\x00\r\r\n: not a field\r\n"
	for _, size := range []int{16, 4096} {
		r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(header+body)), size)
		h, err := ParseHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := h.WriteTo(&out); err != nil || out.String() != header {
			t.Errorf("header came out as %q", out.String())
		}
		if rest, _ := io.ReadAll(r); string(rest) != body {
			t.Errorf("body came out as %q", rest)
		}
		if h.Get("Subject") != "X" || len(h.Values("subject")) != 2 || h.Get("received") != "a\tb;  c" ||
			h.Get("x-odd") != "spaced" || !h.Has("EMPTY") || h.Has("none") || h.Get("none") != "" {
			t.Errorf("values of %q", h.fields)
		}
	}
}

func TestParseHeaderEndsWithInput(t *testing.T) {
	for in, want := range map[string]string{
		"": "\r\n", "\r\n": "\r\n", "\n": "\r\n", "A: b": "A: b\r\n\r\n", "A: b\r\n": "A: b\r\n\r\n",
		"A: b\n c\n\nbody": "A: b\n c\n\r\n", "A: b\r\n ": "A: b\r\n \r\n\r\n",
	} {
		if got := string(parse(t, in).Bytes()); got != want {
			t.Errorf("%q gives %q", in, got)
		}
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"no colon":          "A: b\r\ngarbage\r\n\r\n",
		"no empty line":     "A: b\r\nDear all,\r\nbody\r\n",
		"mbox line":         "From a@example.org Thu Jan 1 00:00:00 2026\r\nA: b\r\n\r\n",
		"space first":       " A: b\r\n\r\n",
		"tab first":         "\tA: b\r\n\r\n",
		"8-bit name":        "S\xc3\xbcbject: b\r\n\r\n",
		"empty name":        ": b\r\n\r\n",
		"space in name":     "A B: b\r\n\r\n",
		"control in name":   "A\x01: b\r\n\r\n",
		"NUL":               "A: b\x00\r\n\r\n",
		"bare CR":           "A: b\rBcc: c\r\n\r\n",
		"bare CR before LF": "A: b\r\r\n\r\n",
		"bare CR at end":    "A: b\r",
	} {
		_, err := ParseHeader(bufio.NewReader(strings.NewReader(in)))
		if !fault.Is(err, fault.Invalid) || fault.From(err).Reason != "bad_header" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, in := range map[string]string{
		"fields": strings.Repeat("A: b\r\n", MaxHeaderFields+1),
		"bytes":  "A: " + strings.Repeat("x", MaxHeaderBytes),
		"folds":  "A: b\r\n" + strings.Repeat(" c\r\n", MaxHeaderBytes/4),
	} {
		_, err := ParseHeader(bufio.NewReader(strings.NewReader(in + "\r\n\r\n")))
		if !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := splitHeader([]byte(in + "\r\n\r\n")); !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s in memory: %v", name, err)
		}
	}
	broken := errors.New("line dropped")
	if _, err := ParseHeader(bufio.NewReader(iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("read error became %v", err)
	}
}

func TestHeaderChangesOnlyWhatIsAsked(t *testing.T) {
	const in = "A: 1\r\nB:  2\r\n\t3\r\na: 4\r\nC: 5\r\n\r\n"
	for name, c := range map[string]struct {
		change func(h *Header) error
		want   string
	}{
		"set":     {func(h *Header) error { return h.Set("a", "x") }, "a: x\r\nB:  2\r\n\t3\r\nC: 5\r\n\r\n"},
		"set new": {func(h *Header) error { return h.Set("D", "x") }, "A: 1\r\nB:  2\r\n\t3\r\na: 4\r\nC: 5\r\nD: x\r\n\r\n"},
		"del":     {func(h *Header) error { h.Del("A"); return nil }, "B:  2\r\n\t3\r\nC: 5\r\n\r\n"},
		"prepend": {func(h *Header) error { return h.Prepend("A", "x") }, "A: x\r\nA: 1\r\nB:  2\r\n\t3\r\na: 4\r\nC: 5\r\n\r\n"},
		"add":     {func(h *Header) error { return h.Add("A", "x") }, "A: 1\r\nB:  2\r\n\t3\r\na: 4\r\nC: 5\r\nA: x\r\n\r\n"},
	} {
		h := parse(t, in)
		before := h
		if err := c.change(&h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := string(h.Bytes()); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
		if string(before.Bytes()) != in {
			t.Errorf("%s: a copy taken before changed to %q", name, before.Bytes())
		}
	}
}

func TestHeaderValuesCannotInject(t *testing.T) {
	for _, bad := range []string{"a\r\nBcc: x", "a\nb", "a\rb", "a\x00b", "a\x0bb", "\x7f", "\xff"} {
		h := parse(t, "A: 1\r\n\r\n")
		for name, err := range map[string]error{
			"set": h.Set("X", bad), "add": h.Add("X", bad), "prepend": h.Prepend("X", bad), "name": h.Set(bad, "x"),
			"mailboxes": h.SetMailboxes("To", []Mailbox{NewMailbox(bad, must(t, "a@example.org"))}),
		} {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s %q: %v", name, bad, err)
			}
		}
		if h.Len() != 1 {
			t.Errorf("%q left a field", bad)
		}
	}
	h := Header{}
	for _, bad := range []string{"", "A B", "A:", "Ä", "\r\n", strings.Repeat("x", 2000)} {
		if err := h.Set(bad, "x"); err == nil {
			t.Errorf("name %q accepted", bad)
		}
	}
}

func must(t reporter, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// checkLines holds what is true of everything written by the setters.
func checkLines(t reporter, raw []byte) {
	for _, line := range strings.SplitAfter(string(raw), "\r\n") {
		if len(line) > hardLine+2 {
			t.Errorf("a line of %d octets", len(line))
		}
		if line != "" && !strings.HasSuffix(line, "\r\n") || strings.Count(line, "\r")+strings.Count(line, "\n") > 2 {
			t.Errorf("line end in %q", line)
		}
	}
}

var lineText = rapid.StringOfN(rapid.OneOf(
	rapid.RuneFrom([]rune("ab =?_,\"\\<>()@.\u00fc\u2028\u4e2d\U0001f512")), rapid.Rune().Filter(func(r rune) bool { return r >= ' ' && r != 0x7f })), 0, 300, -1)

func TestTextFieldsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := lineText.Draw(t, "text")
		f, err := literalField("Subject", in)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		checkLines(t, f.raw)
		if Has8Bit(f.raw) {
			t.Errorf("not ASCII: %q", f.raw)
		}
		h, _, err := splitHeader(append(f.raw, "\r\n"...))
		if err != nil || len(h.fields) != 1 {
			t.Fatalf("%q: %v", f.raw, err)
		}
		if got, want := decodeWords(h.Get("Subject")), strings.Trim(in, " \t"); got != want {
			t.Errorf("%q came back as %q from %q", want, got, f.raw)
		}
	})
}

func TestLongTextFolds(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("word ", 400) + "end", strings.Repeat("x", 2000), strings.Repeat("x", 990),
		strings.Repeat("ü", 1000), strings.Repeat("a  b\t\tc", 100),
	} {
		f, err := textField("Subject", in)
		if err != nil {
			t.Fatal(err)
		}
		checkLines(t, f.raw)
		if got := decodeWords(f.value()); got != in {
			t.Errorf("%.40q came back as %.40q", in, got)
		}
	}
	f, _ := textField("Subject", strings.Repeat("word ", 400))
	for line := range strings.SplitSeq(string(f.raw), "\r\n") {
		if len(line) > 78 || strings.TrimSpace(line) == "" && line != "" {
			t.Errorf("line %q", line)
		}
	}
}

func TestMailboxFieldsReadBack(t *testing.T) {
	addrs := []Address{must(t, "a@example.org"), must(t, `"a, b"@example.org`), must(t, "ü@bücher.example")}
	rapid.Check(t, func(t *rapid.T) {
		var list []Mailbox
		for i := range rapid.IntRange(1, 30).Draw(t, "n") {
			name := strings.Join(strings.Fields(lineText.Draw(t, "name")), " ")
			list = append(list, NewMailbox(name, addrs[i%len(addrs)]))
		}
		var h Header
		if err := h.SetMailboxes("To", list); err != nil {
			t.Fatal(err)
		}
		raw := h.Bytes()
		checkLines(t, raw)
		again, _, err := splitHeader(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := again.Mailboxes("To")
		if len(got) != len(list) {
			t.Fatalf("%d mailboxes came back as %d from %q", len(list), len(got), raw)
		}
		for i := range got {
			want := strings.Join(strings.Fields(showable(list[i].Name.Reveal())), " ")
			name := strings.Join(strings.Fields(got[i].Name.Reveal()), " ")
			if name != want || got[i].Address != list[i].Address {
				t.Errorf("%q came back as %q from %q", want, name, raw)
			}
		}
	})
}

func TestDecodeText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                          "plain",
		"=?utf-8?q?J=C3=BCrgen?=":                        "Jürgen",
		"=?UTF-8?B?SsO8cmdlbg==?= x":                     "Jürgen x",
		"=?utf-8?b?SsO8cmdlbg?=":                         "Jürgen",
		"=?iso-8859-1?q?=FC?= =?utf-8?q?=C3=BC?=":        "üü",
		"=?utf-8?q?=C3?= =?utf-8?q?=BC?=":                "ü",
		"a =?utf-8?q?b?= c =?utf-8?q?d_?= =?utf-8?q?e?=": "a b c d e",
		"=?utf-8*de?q?x?=":                               "x",
		"=?x-unknown?q?x?= y":                            "=?x-unknown?q?x?= y",
		"=?utf-8?z?x?=":                                  "=?utf-8?z?x?=",
		"=?utf-8?b?!!!?=":                                "=?utf-8?b?!!!?=",
		"=?utf-8?q?a=0D=0ABcc:_x?=":                      "a  Bcc: x",
		"=?utf-8?q?=00?=":                                "",
		"=?utf-8?q?=FF?=":                                "\uFFFD",
		"=?utf-8?q?unfinished":                           "=?utf-8?q?unfinished",
		"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=":             "日本",
		"=?utf-7?q?+AGE-?=":                              "=?utf-7?q?+AGE-?=",
		"raw \xfc":                                       "raw \uFFFD",
		"=?=?utf-8?q?x?=":                                "=?x",
	} {
		if got := DecodeText(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{"A: b\r\n\tc\r\n\r\nbody", "Subject: =?utf-8?q?=C3=BC?=\r\n\r\n", "A b: c\r\n", " x", "A: b\rC: d\r\n\r\n", "A: b", "\n\n", "Bcc : x\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(in), 16)
		h, err := ParseHeader(r)
		mem, body, err2 := splitHeader(bytes.Clone(in))
		if (err == nil) != (err2 == nil) {
			t.Fatalf("stream says %v, memory %v", err, err2)
		}
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r)
		if !bytes.Equal(rest, body) || !bytes.Equal(h.Bytes(), mem.Bytes()) {
			t.Fatal("stream and memory differ")
		}
		// Every byte is in the header, the empty line or the body.
		head := bytes.TrimSuffix(h.Bytes(), []byte("\r\n"))
		if got := append(head, body...); len(in)-len(got) > 2 || !bytes.HasPrefix(in, bytes.TrimSuffix(head, []byte("\r\n"))) || !bytes.HasSuffix(in, body) {
			t.Fatalf("%q came out as %q", in, got)
		}
		again, _, err := splitHeader(h.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), h.Bytes()) {
			t.Fatalf("%q does not read back: %v", h.Bytes(), err)
		}
		h.Del("Bcc")
		if h.Has("bcc") {
			t.Fatal("Bcc is still there")
		}
		DecodeText(h.Get("Subject"))
		h.Mailboxes("From")
	})
}
