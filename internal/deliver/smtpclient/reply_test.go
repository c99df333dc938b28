package smtpclient

import (
	"bufio"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/private"
)

func privateText(s string) private.String { return private.NewString(s) }

func TestReplies(t *testing.T) {
	for in, want := range map[string]string{
		"250 ok\r\n":                         "250|ok",
		"250\r\n":                            "250|",
		"250 ok\n":                           "250|ok",
		"250-a\r\n250-b\r\n250 c\r\n":        "250|a\nb\nc",
		"550 5.1.1 no such user\r\n":         "550 5.1.1|no such user",
		"550-5.1.1 no\r\n550 5.1.1 user\r\n": "550 5.1.1|no\nuser",
		"550 4.7.1 try later\r\n":            "550 4.7.1|try later",
		"550 5.1.1\r\n":                      "550 5.1.1|",
		"550 3.1.1 odd\r\n":                  "550|3.1.1 odd",
		"550 5.1111.1 odd\r\n":               "550|5.1111.1 odd",
		"250 bell \x07 and \xff\r\n":         "250|bell ? and ?",
		"250-a\r\n251 b\r\n":                 "error",
		"HTTP/1.1 200 OK\r\n":                "error",
		"25 ok\r\n":                          "error",
		"250_ok\r\n":                         "error",
		"650 ok\r\n":                         "error",
		"150 ok\r\n":                         "error",
		"\r\n":                               "error",
		"250 " + strings.Repeat("x", 5000):   "error",
		"250 " + strings.Repeat("x", 3000) + "\r\n":   "error",
		strings.Repeat("250-x\r\n", 60) + "250 x\r\n": "error",
		"250-never ended\r\n":                         "error",
	} {
		reply, err := readReply(bufio.NewReaderSize(strings.NewReader(in), 2*maxReplyLine))
		got := reply.Status() + "|" + reply.Text.Reveal()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%.60q gives %q, want %q", in, got, want)
		}
	}
}

func TestEnhancedCodeGoesFirst(t *testing.T) {
	for _, tc := range []struct {
		reply                          Reply
		accepted, permanent, temporary bool
	}{
		{Reply{Code: 250, Enhanced: [3]int{2, 0, 0}}, true, false, false},
		{Reply{Code: 450}, false, false, true},
		{Reply{Code: 550}, false, true, false},
		{Reply{Code: 550, Enhanced: [3]int{4, 7, 1}}, false, false, true},
		{Reply{Code: 450, Enhanced: [3]int{5, 1, 1}}, false, true, false},
		{Reply{Code: 550, Enhanced: [3]int{2, 0, 0}}, false, true, false},
	} {
		if r := tc.reply; r.Accepted() != tc.accepted || r.Permanent() != tc.permanent || r.Temporary() != tc.temporary {
			t.Errorf("%s: accepted %v, permanent %v, temporary %v", r.Status(), r.Accepted(), r.Permanent(), r.Temporary())
		}
	}
}

func TestEHLO(t *testing.T) {
	for in, want := range map[string]extensions{
		"mx\nPIPELINING\nSIZE 1000\n8bitmime\nSMTPUTF8\nREQUIRETLS\nSTARTTLS": {true, true, true, true, true, 1000},
		"mx\nSIZE":                 {},
		"mx\nSIZE 0":               {},
		"mx\nSIZE lots":            {},
		"mx\nSMTPUTF8":             {}, // without 8BITMIME
		"PIPELINING":               {},
		"mx\nXSTARTTLS\nSTARTTLSX": {},
	} {
		if got := parseEHLO(Reply{Code: 250, Text: privateText(in)}); got != want {
			t.Errorf("%q gives %+v", in, got)
		}
	}
}

// FuzzReply: what is read is bounded, printable and of a class SMTP knows.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 x\r\n", "250\r\n", "354 go\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		reply, err := readReply(bufio.NewReaderSize(strings.NewReader(string(in)), 2*maxReplyLine))
		if err != nil {
			return
		}
		text := reply.Text.Reveal()
		if reply.Code < 200 || reply.Code > 599 || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\x00") ||
			strings.Count(text, "\n") >= maxReplyLines || len(text) > 4*maxReplyLine*maxReplyLines {
			t.Errorf("%d %q", reply.Code, text)
		}
		if reply.Permanent() && reply.Temporary() {
			t.Error("both permanent and temporary")
		}
		parseEHLO(reply)
	})
}
