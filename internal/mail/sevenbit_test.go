package mail

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/fault"
)

// sevenBit converts a message and gives it back whole.
func sevenBit(t reporter, in string) (string, error) {
	h, body, err := splitHeader([]byte(in))
	if err != nil {
		return "", err
	}
	before := string(h.Bytes())
	out, r, err := ToSevenBit(h, bytes.NewReader(body), 1<<20)
	if string(h.Bytes()) != before {
		t.Errorf("the header given was changed")
	}
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out.Bytes()) + string(b), nil
}

func TestToSevenBit(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"text": {
			"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n\r\nGrü\r\n",
			"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\nGr=C3=BC\r\n",
		},
		"no MIME": {
			"From: a\r\n\r\nGrü\r\n",
			"From: a\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC\r\n",
		},
		"no MIME, unknown charset": {
			"From: a\r\n\r\nGr\xfc\r\n",
			"From: a\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC\r\n",
		},
		"binary": {
			"MIME-Version: 1.0\r\nContent-Type: image/png\r\n\r\n\x89PNG\n\r",
			"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORwoN\r\n",
		},
		"multipart": {
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npre \xc3\xbc\r\n--b\r\nX:  odd \r\nContent-Transfer-Encoding: 8bit\r\n\r\nü\r\n--b\r\nContent-Type:  x/y\r\n\r\n7bit = \r\n--b \t\r\n\r\n\xff\r\n--b--\r\nepi\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\npre ??\r\n--b\r\nX:  odd \r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n=C3=BC\r\n--b\r\nContent-Type:  x/y\r\n\r\n7bit = \r\n--b \t\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n--b--\r\nepi\r\n",
		},
		"attached message": {
			"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nContent-Type: text/plain\r\n\r\n\xfc\r\n",
			"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FC\r\n",
		},
		"seven-bit already": {"Content-Type: multipart/mixed\r\n X:\r\n\r\nanything \x01", "Content-Type: multipart/mixed\r\n X:\r\n\r\nanything \x01"},
	} {
		got, err := sevenBit(t, c.in)
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n%q, want\n%q", name, err, got, c.want)
		}
	}
}

func TestToSevenBitCannot(t *testing.T) {
	m := func(s string) string { return "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n" + s }
	for name, in := range map[string]string{
		"no boundary":      "Content-Type: multipart/mixed\r\n\r\n\xff",
		"boundary missing": m("\r\n\xff"),
		"bad part header":  m("\r\n--b\r\nno colon \xff\r\n--b--\r\n"),
		"8-bit in base64":  "Content-Transfer-Encoding: base64\r\n\r\n\xff",
		"8-bit in qp":      "Content-Transfer-Encoding: quoted-printable\r\n\r\n\xff",
		"unknown encoding": "Content-Transfer-Encoding: x-what\r\n\r\n\xff",
		"8-bit header":     "Subject: \xc3\xbc\r\n\r\nx",
		"8-bit in part":    m("\r\n--b\r\nContent-Type: x/y; name=\xc3\xbc\r\n\r\nx\r\n--b--\r\n"),
		"signed":           "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--\r\n",
		"status":           "Content-Type: message/delivery-status\r\n\r\n\xff",
		"deep":             strings.Replace(nested(30, true), "innermost", "\xff", 1),
		"many":             m("\r\n" + strings.Repeat("--b\r\n\r\n\xff\r\n", 300)),
	} {
		if out, err := sevenBit(t, in); !errors.Is(err, ErrNotSevenBit) {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	_, _, err := ToSevenBit(Header{}, strings.NewReader("12345"), 4)
	if !fault.Is(err, fault.TooLarge) {
		t.Errorf("limit: %v", err)
	}
}

// checkSevenBit: the result is seven-bit, converts no further, and shows the
// same text and files.
func checkSevenBit(t reporter, in string) {
	out, err := sevenBit(t, in)
	if err != nil {
		return
	}
	if Has8Bit([]byte(out)) {
		t.Fatalf("not seven-bit: %q", out)
	}
	again, err := sevenBit(t, out)
	if err != nil || again != out {
		t.Fatalf("%q changes again to %q, %v", out, again, err)
	}
	a, b := view(t, in), view(t, out)
	if a.Broken {
		return
	}
	if b.Broken || len(a.Attachments) != len(b.Attachments) || len(a.Inline) != len(b.Inline) {
		t.Fatalf("%q does not show as %q does", out, in)
	}
	// Line ends inside text may become CRLF; View shows both as LF.
	flat := strings.NewReplacer("\r", "", "\n", "")
	if a.HTML.Empty() != b.HTML.Empty() || !strings.Contains(in, "\x00") && strings.Count(in, "\r\n") == strings.Count(in, "\n") &&
		!strings.Contains(strings.ToLower(in), "message/") && flat.Replace(a.Text.Reveal()) != flat.Replace(b.Text.Reveal()) {
		t.Fatalf("text %q became %q", a.Text.Reveal(), b.Text.Reveal())
	}
}

func FuzzToSevenBit(f *testing.F) {
	f.Add("Content-Type: text/plain; charset=utf-8\r\n\r\nGrü\r\n")
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nü\r\n--b\r\nContent-Type: image/png\r\n\r\n\xff\r\n--b--\r\n")
	f.Add(strings.ReplaceAll(mixed, "\n", "\r\n"))
	f.Add("Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nü")
	f.Fuzz(func(t *testing.T, in string) { checkSevenBit(t, in) })
}
