package mail

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// corpus gives the sample messages, each with LF and with CRLF line ends.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*/*.eml")
	if err != nil || len(paths) < 30 {
		t.Fatalf("%d samples, %v", len(paths), err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[p] = b
		out[p+" with CRLF"] = []byte(crlf(string(b)))
	}
	return out
}

func TestCorpusIsShown(t *testing.T) {
	whole := 0
	for name, raw := range corpus(t) {
		start := time.Now()
		v, err := Parse(bytes.NewReader(raw), Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkView(t, v, raw)
		if !v.Broken {
			whole++
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	if whole < 40 {
		t.Errorf("only %d samples are shown as more than a file", whole)
	}
}

func TestCorpusIsRelayedByteForByte(t *testing.T) {
	own := "From: a@example.org\r\nMessage-ID: <1@example.org>\r\nDate: Sun, 1 Mar 2026 12:00:00 +0000\r\n"
	for name, raw := range corpus(t) {
		r := bufio.NewReader(bytes.NewReader(raw))
		if h, err := ParseHeader(r); err == nil {
			body, _ := io.ReadAll(r)
			head := bytes.TrimSuffix(h.Bytes(), []byte("\r\n"))
			if !bytes.HasPrefix(raw, head) || !bytes.HasSuffix(raw, body) || len(raw)-len(head)-len(body) > 2 {
				t.Errorf("%s changed on its way through", name)
			}
		}
		// As a body under a header of ours it is relayed whatever it is.
		in := append([]byte(own+"\r\n"), raw...)
		s, err := Submission(bytes.NewReader(in), given)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var out bytes.Buffer
		if _, err := s.Header.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&out, s.Body); err != nil || !bytes.Equal(out.Bytes(), in) {
			t.Errorf("%s changed as a body: %v", name, err)
		}
	}
}

func TestCorpusToSevenBit(t *testing.T) {
	for name, raw := range corpus(t) {
		t.Run(name, func(t *testing.T) { checkSevenBit(t, string(raw)) })
	}
}
