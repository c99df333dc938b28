package mail

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sealpost/sealpost/internal/fault"
)

// readers hand the same bytes over in different pieces.
func readers(s string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole": strings.NewReader(s), "bytes": iotest.OneByteReader(strings.NewReader(s)),
		"halves": iotest.HalfReader(strings.NewReader(s)), "with EOF": iotest.DataErrReader(strings.NewReader(s)),
	}
}

func TestStrictReader(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, in := range []string{"", "\r\n", "a", "a\r\nb\r\n\r\n", "\xff\x01\t\r\n", long + "\r\n" + long, strings.Repeat(long+"\r\n", 20)} {
		for how, r := range readers(in) {
			got, err := io.ReadAll(NewStrictReader(r))
			if err != nil || string(got) != in {
				t.Errorf("%s %.20q: %.20q, %v", how, in, got, err)
			}
		}
	}
	for in, reason := range map[string]string{
		"a\n": "bare_line_ending", "\n": "bare_line_ending", "a\r": "bare_line_ending", "a\rb\r\n": "bare_line_ending",
		"a\r\r\n": "bare_line_ending", "\r\n.\n": "bare_line_ending", "\r\n\n": "bare_line_ending", "a\n\r\n": "bare_line_ending",
		"a\r\n.\r.\r\n": "bare_line_ending", "\r": "bare_line_ending",
		"a\x00\r\n": "nul_byte", "\x00": "nul_byte",
		long + "x\r\n": "line_too_long", long + "x": "line_too_long", "a\r\n" + long + "xx\r\n": "line_too_long",
	} {
		for how, r := range readers(in) {
			s := NewStrictReader(r)
			_, err := io.ReadAll(s)
			if !fault.Is(err, fault.Invalid) || fault.From(err).Reason != reason {
				t.Errorf("%s %.20q: %v, want %s", how, in, err, reason)
			}
			if n, again := s.Read(make([]byte, 9)); n != 0 || !errors.Is(again, err) {
				t.Errorf("%s %.20q: reads on after the fault", how, in)
			}
		}
	}
	broken := errors.New("line dropped")
	if _, err := io.ReadAll(NewStrictReader(iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("read error became %v", err)
	}
}

func FuzzStrictReader(f *testing.F) {
	for _, s := range []string{"a\r\nb", "\r\r\n", "\n", "a\x00", "\r\n.\r\n"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		rest := bytes.ReplaceAll(in, []byte("\r\n"), nil)
		good := !bytes.ContainsAny(rest, "\r\n\x00")
		// Removing line ends may join CR and LF: look at the input again.
		for i, c := range in {
			if c == '\r' && (i+1 == len(in) || in[i+1] != '\n') || c == '\n' && (i == 0 || in[i-1] != '\r') {
				good = false
			}
		}
		for line := range bytes.SplitSeq(in, []byte("\r\n")) {
			good = good && len(line) <= MaxLine
		}
		r := NewStrictReader(bytes.NewReader(in))
		var out []byte
		buf := make([]byte, int(size)+1)
		var err error
		for err == nil {
			var n int
			n, err = r.Read(buf)
			out = append(out, buf[:n]...)
		}
		if good != (err == io.EOF) || good && !bytes.Equal(in, out) || !bytes.HasPrefix(in, out) {
			t.Fatalf("%q: %v, %q", in, err, out)
		}
	})
}

func BenchmarkStrictReader(b *testing.B) {
	in := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10000))
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		r := NewStrictReader(bytes.NewReader(in))
		for {
			if _, err := r.Read(buf); err != nil {
				break
			}
		}
	}
}
