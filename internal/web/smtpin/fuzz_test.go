package smtpin

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
)

// fed is a connection that hands octets over in pieces of the given sizes.
type fed struct {
	net.Conn
	data  []byte
	sizes []byte
	at    int
}

func (f *fed) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, io.EOF
	}
	size := len(f.data)
	if len(f.sizes) > 0 {
		size = int(f.sizes[f.at%len(f.sizes)])%7 + 1
		f.at++
	}
	n := copy(p[:min(len(p), size)], f.data)
	f.data = f.data[n:]
	return n, nil
}

func (f *fed) SetReadDeadline(time.Time) error { return nil }

// plainData is DATA as RFC 5321 sections 4.1.1.4 and 4.5.2 tell it.
func plainData(in string) (message, rest string, ended bool) {
	in = "\r\n" + in
	end := strings.Index(in, "\r\n.\r\n")
	if end < 0 {
		return "", "", false
	}
	message = strings.ReplaceAll(in[:end]+"\r\n", "\r\n.", "\r\n")
	return message[2:], in[end+5:], true
}

func FuzzDotReader(f *testing.F) {
	for _, s := range []string{".\r\n", "a\r\n.\r\nNOOP\r\n", "..\r\n.\r\n", "a\r\n..b\r\n.\r\n", "\r\n.\n.\r\n.\r\n", "a\n.\r\nb\r\n.\r\n",
		"a\r\r\n.\r\n", ".\r.\r\n.\r\n", "\r\n\r\n.\r\n", ".a", "\r", "..", "a\r\n.\r"} {
		f.Add([]byte(s), []byte{0}, uint8(1))
		f.Add([]byte(s), []byte{}, uint8(200))
		f.Add([]byte(s), []byte{2, 0, 1}, uint8(2))
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte, size uint8) {
		l := newLine(&fed{data: bytes.Clone(in), sizes: sizes}, time.Minute)
		d := newDotReader(l)
		var got bytes.Buffer
		_, err := io.CopyBuffer(struct{ io.Writer }{&got}, d, make([]byte, int(size)+1))
		message, rest, ended := plainData(string(in))
		if !ended {
			if err != io.ErrUnexpectedEOF || d.done {
				t.Fatalf("%q has no end: %v", in, err)
			}
			return
		}
		left, _ := io.ReadAll(l.r)
		if err != nil || got.String() != message || string(left) != rest {
			t.Fatalf("%q: %q and %q (%v), want %q and %q", in, got.String(), left, err, message, rest)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"FROM:<a@b.c>", "FROM:<>", "from: <a@b.c> SIZE=1 BODY=8BITMIME", `FROM:<"a>b"@c.d> X`, "FROM:<@x,@y:a@b.c>", "FROM:<a", "FROM:<a@b.c>SIZE=1", "FROM:<a@b.c> A=1 a=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, params, ok := parsePath("FROM", s)
		if !ok || path == "" {
			return
		}
		if len(params) > 16 || !strings.Contains(s, path+">") {
			t.Fatalf("%q: path %q, params %q", s, path, params)
		}
		a, err := mail.ParseAddress(path)
		if err != nil {
			return
		}
		again, _, ok := parsePath("FROM", "FROM:<"+a.Reveal()+">")
		if b, err := mail.ParseAddress(again); !ok || err != nil || b != a {
			t.Fatalf("%q is read back as %q", a.Reveal(), again)
		}
	})
}
