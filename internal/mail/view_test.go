package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

func view(t reporter, s string) *View {
	t.Helper()
	v, err := Parse(strings.NewReader(s), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	checkView(t, v, []byte(s))
	return v
}

// checkView holds what is true of every view.
func checkView(t reporter, v *View, raw []byte) {
	t.Helper()
	if v.Broken && len(v.Attachments) != 1 {
		t.Fatalf("broken with %d attachments", len(v.Attachments))
	}
	if !bytes.Equal(v.Original().Reveal(), raw) {
		t.Fatal("the original is not what came")
	}
	for i, a := range v.Attachments {
		r, err := v.OpenAttachment(i)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || int64(len(got)) != a.Size || a.Index != i {
			t.Fatalf("attachment %d: %d bytes, size %d, %v", i, len(got), a.Size, err)
		}
		if v.Broken && !bytes.Equal(got, raw) {
			t.Fatal("a broken message is not offered byte for byte")
		}
		name := a.Filename.Reveal()
		if name == "" || name != SafeFilename(name) || strings.ContainsAny(name, "/\\\r\n\x00") || !isMediaType(a.ContentType) {
			t.Fatalf("attachment %q %q", name, a.ContentType)
		}
	}
	for _, s := range []string{v.Text.Reveal(), v.HTML.Reveal(), v.Subject.Reveal(), v.From.Reveal()} {
		if s != strings.ToValidUTF8(s, "") || strings.Contains(s, "\x00") {
			t.Fatalf("%q is not clean text", s)
		}
	}
}

func content(t *testing.T, v *View, i int) string {
	t.Helper()
	r, err := v.OpenAttachment(i)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const mixed = "From: Dr W <dr@example.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: Sun, 1 Mar 2026 12:00:00 +0100\nTo: a@example.com\n" +
	"Content-Type: multipart/mixed; boundary=o\n\npreamble\n--o\n" +
	"Content-Type: multipart/related; boundary=r\n\n--r\n" +
	"Content-Type: multipart/alternative; boundary=a\n\n--a\n" +
	"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=\n=DFe\n--a\n" +
	"Content-Type: text/html; charset=utf-8\n\n<p>Grüße<img src=\"CID:pic%25@x\">\n--a--\n--r\n" +
	"Content-Type: image/png\nContent-ID: <pic%@x>\nContent-Transfer-Encoding: base64\n\nAAEC\n--r\n" +
	"Content-Type: image/png\nContent-ID: <unused@x>\nContent-Transfer-Encoding: base64\n\nAAEC\n--r--\n--o\n" +
	"Content-Type: application/pdf; name=\"../../etc/pass\\\"wd.pdf\"\nContent-Disposition: attachment\nContent-Transfer-Encoding: base64\n\nAAEC/w==\n--o\n" +
	"Content-Type: message/rfc822\n\nSubject: inner\n\nContent-Type: none\n--o\n\nsecond text\n--o--\nepilogue\n"

func TestParseView(t *testing.T) {
	for _, in := range []string{mixed, strings.ReplaceAll(mixed, "\n", "\r\n")} {
		v := view(t, in)
		if v.Broken || v.Subject.Reveal() != "Grüße" || v.From.Reveal() != "Dr W" || len(v.To) != 1 ||
			!v.Date.Equal(time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)) {
			t.Errorf("broken %v, %q, %q, %v", v.Broken, v.Subject.Reveal(), v.From.Reveal(), v.Date)
		}
		if v.Text.Reveal() != "Grüße\nsecond text" {
			t.Errorf("text %q", v.Text.Reveal())
		}
		if v.HTML.Reveal() != "<p>Grüße<img src=\"CID:pic%25@x\">\n<pre>second text</pre>" {
			t.Errorf("html %q", v.HTML.Reveal())
		}
		if len(v.Inline) != 1 || v.Inline[0].ContentID.Reveal() != "pic%@x" || string(v.Inline[0].Content.Reveal()) != "\x00\x01\x02" {
			t.Errorf("%d inline", len(v.Inline))
		}
		var files []string
		for i, a := range v.Attachments {
			files = append(files, fmt.Sprintf("%s %s %q", a.Filename.Reveal(), a.ContentType, content(t, v, i)))
		}
		if len(files) != 3 || files[0] != `attachment-1.png image/png "\x00\x01\x02"` ||
			files[1] != `pass_wd.pdf application/pdf "\x00\x01\x02\xff"` ||
			!strings.HasPrefix(files[2], `attachment-3.eml message/rfc822 "Subject: inner`) {
			t.Errorf("files %q", files)
		}
	}
}

func TestParseText(t *testing.T) {
	for in, want := range map[string]string{
		"\r\nplain\r\n":      "plain\n",
		"\r\nGr\xc3\xbc\r\n": "Grü\n",
		"\r\nGr\xfc\r\n":     "Grü\n",
		"Content-Type: text/plain; charset=us-ascii\r\n\r\nGr\xc3\xbc":                         "Grü",
		"Content-Type: text/plain; charset=x-unknown\r\n\r\nGr\xfc":                            "Grü",
		"Content-Type: text/plain; charset=iso-2022-kr\r\n\r\nGr":                              "Gr",
		"Content-Type: text/plain; charset=utf-8\r\n\r\n\xff":                                  "\uFFFD",
		"Content-Type: text/plain; charset=utf-16le\r\n\r\nG\x00r\x00":                         "Gr",
		"Content-Type: text/plain; charset=koi8-r\r\n\r\n\xc1":                                 "а",
		"Content-Type: TEXT/PLAIN; charset=\"ISO-8859-15\"\r\n\r\n\xa4":                        "€",
		"Content-Type: text\r\n\r\nx":                                                          "",
		"Content-Type: text/plain; ;;;=\r\n\r\nx":                                              "x",
		"Content-Transfer-Encoding: base64\r\n\r\nR3LD\r\nvA==\r\n":                            "Grü",
		"Content-Transfer-Encoding: BASE64 \r\n\r\nR3LDvA":                                     "Grü",
		"Content-Transfer-Encoding: quoted-printable\r\n\r\na=3D=\r\n b =ZZ =C3=BC  \r\n=":     "a= b =ZZ ü\n",
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo":    "one\ntwo",
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--bb\r\n--b--\r\n--b\r\n": "--bb",
		"Content-Type: multipart/mixed; boundary=\"b c\"\r\n\r\n--b c \t\r\n\r\nx\r\n--b c-- ": "x",
	} {
		if v := view(t, in); v.Broken || v.Text.Reveal() != want {
			t.Errorf("%q: broken %v, %q", in, v.Broken, v.Text.Reveal())
		}
	}
	v := view(t, "Content-Type: text/html\r\n\r\n<meta charset=koi8-r><p>\xc1")
	if !strings.HasSuffix(v.HTML.Reveal(), "<p>а") {
		t.Errorf("html %q", v.HTML.Reveal())
	}
}

func TestNothingIsLost(t *testing.T) {
	for _, in := range []string{
		"Content-Transfer-Encoding: base64\r\n\r\nR3LD*!!",
		"Content-Transfer-Encoding: base64\r\n\r\nR3LDvA==\r\nfooter of a list",
		"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x",
		"Content-Type: application/x-thing\r\n\r\nbytes \xff",
		"Content-Type: text/plain; name=x.txt\r\n\r\ntext",
		"Content-Disposition: attachment\r\n\r\ntext",
		"Content-Type: text/calendar\r\n\r\nBEGIN",
	} {
		v := view(t, in)
		_, body, _ := strings.Cut(in, "\r\n\r\n")
		if v.Broken || len(v.Attachments) != 1 || content(t, v, 0) != body {
			t.Errorf("%q: broken %v, %d attachments", in, v.Broken, len(v.Attachments))
		}
	}
}

func TestBroken(t *testing.T) {
	multi := func(s string) string { return "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n" + s }
	for name, in := range map[string]string{
		"no colon":          "garbage\r\n\r\nbody",
		"no boundary":       "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
		"boundary missing":  multi("\r\nno such line\r\n"),
		"closed only":       multi("\r\n--b--\r\n"),
		"encoded multipart": multi("Content-Transfer-Encoding: base64\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"),
		"bad part header":   multi("\r\n--b\r\nno colon\r\n\r\nx\r\n--b--\r\n"),
		"too many parts":    multi("\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", maxParts+1) + "--b--\r\n"),
		"two boundaries":    "Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
	} {
		v := view(t, in)
		if !v.Broken || v.Attachments[0].Filename.Reveal() != "message.eml" || v.Attachments[0].ContentType != "message/rfc822" {
			t.Errorf("%s: broken %v", name, v.Broken)
		}
	}
	if v := view(t, multi("\r\nno such line")); v.Subject.Reveal() != "x" {
		t.Error("the subject of a broken message is not shown")
	}
}

func nested(depth int, closed bool) string {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\ninnermost\r\n")
	for i := depth - 1; closed && i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\r\n", i)
	}
	return b.String()
}

func TestNestedMultiparts(t *testing.T) {
	for _, closed := range []bool{true, false} {
		for _, depth := range []int{1, maxDepth, maxDepth + 1, 50, 200, 10000} {
			start := time.Now()
			v := view(t, nested(depth, closed))
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("depth %d took %v", depth, took)
			}
			if v.Broken != (depth > maxDepth) {
				t.Errorf("depth %d: broken %v", depth, v.Broken)
			}
			if !v.Broken && strings.TrimSpace(v.Text.Reveal()) != "innermost" {
				t.Errorf("depth %d: %q", depth, v.Text.Reveal())
			}
		}
	}
	// One boundary shared by all, 3 KB.
	same := strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 60)
	view(t, same)
}

// TestHostileShapes feeds shapes that are quadratic to careless parsers. The
// bound is generous; a quadratic parser needs minutes.
func TestHostileShapes(t *testing.T) {
	const n = 1 << 20
	for name, in := range map[string]string{
		"dashes":      "Content-Type: multipart/mixed; boundary=\"----\"\r\n\r\n" + strings.Repeat("-", 8*n),
		"delimiters":  "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b x\r\n", n),
		"lines":       "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("\r\n", 4*n),
		"words":       "Subject: " + strings.Repeat("=?utf-8?q?x?= ", n/20) + "\r\n\r\n",
		"half words":  "Subject: " + strings.Repeat("=?", n/4) + "\r\n\r\n",
		"mailboxes":   "From: " + strings.Repeat("a@example.org,", n/20) + "\r\n\r\n",
		"comments":    "From: " + strings.Repeat("(", n/2) + "\r\n\r\n",
		"params":      "Content-Type: text/plain" + strings.Repeat("; a*0=b", n/10) + "\r\n\r\n",
		"equal signs": "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=", 4*n),
		"images": "Content-Type: multipart/related; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: image/png\r\nContent-ID: <x>\r\n\r\n\r\n", 150) +
			"--b\r\nContent-Type: text/html\r\n\r\n" + strings.Repeat("cid:", n) + "\r\n--b--\r\n",
	} {
		start := time.Now()
		view(t, in)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func TestParseLimits(t *testing.T) {
	in := nested(3, true)
	if v, err := Parse(strings.NewReader(in), Limits{Depth: 2}); err != nil || !v.Broken {
		t.Errorf("depth: %v", err)
	}
	if v, err := Parse(strings.NewReader(in), Limits{Parts: 3}); err != nil || !v.Broken {
		t.Errorf("parts: %v", err)
	}
	if v, err := Parse(strings.NewReader(in), Limits{Bytes: int64(len(in))}); err != nil || v.Broken {
		t.Errorf("just fits: %v", err)
	}
	if _, err := Parse(strings.NewReader(in), Limits{Bytes: int64(len(in)) - 1}); !fault.Is(err, fault.TooLarge) {
		t.Errorf("bytes: %v", err)
	}
	broken := errors.New("disk gone")
	if _, err := Parse(iotest.ErrReader(broken), Limits{}); !errors.Is(err, broken) {
		t.Errorf("read error became %v", err)
	}
	v := view(t, in)
	for _, i := range []int{-1, 0, 5} {
		if _, err := v.OpenAttachment(i); !fault.Is(err, fault.NotFound) {
			t.Errorf("attachment %d: %v", i, err)
		}
	}
}

func TestSafeFilename(t *testing.T) {
	for in, want := range map[string]string{
		"x.pdf": "x.pdf", "../../x.pdf": "x.pdf", `C:\dir\x.pdf`: "x.pdf", "a/b": "b", "..": "", ".": "", "/": "",
		".htaccess": "htaccess", "x.pdf. .": "x.pdf", "a\r\nb\x00c": "abc", "a\u202egpj.exe": "agpj.exe",
		`a"b<c>d|e?f*g:h`: "a_b_c_d_e_f_g_h", " x ": "x", "\xff": "_", "Befund ü.pdf": "Befund ü.pdf", "": "",
		strings.Repeat("ü", 300) + ".pdf": strings.Repeat("ü", 98) + ".pdf",
	} {
		if got := SafeFilename(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(mixed))
	f.Add([]byte(nested(5, true)))
	f.Add([]byte(nested(3, false)))
	f.Add([]byte("garbage"))
	f.Add([]byte("Content-Transfer-Encoding: base64\n\nR3LD*!!"))
	f.Fuzz(func(t *testing.T, in []byte) { view(t, string(in)) })
}
