package dkim_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/dkim/dkimtest"
	"github.com/sealpost/sealpost/internal/fault"
)

// pair is a key of each algorithm and the DNS that shows their records.
type pair struct {
	signers []dkim.Signer
	txt     dkimtest.Records
}

func newPair(t testing.TB, algorithms ...dkim.Algorithm) pair {
	t.Helper()
	p := pair{txt: dkimtest.Records{}}
	for _, a := range algorithms {
		key, value, err := dkim.Generate(a)
		if err != nil {
			t.Fatal(err)
		}
		selector := "sp20261122" + string(a[:1])
		p.signers = append(p.signers, dkim.NewSigner("clinic.example", selector, key))
		p.txt[selector+"._domainkey.clinic.example"] = value
	}
	return p
}

func (p pair) sign(t testing.TB, message string) string {
	t.Helper()
	field, err := dkim.Sign(strings.NewReader(message), p.signers, time.Now())
	if err != nil {
		t.Fatalf("%q: %v", message, err)
	}
	return string(field) + message
}

func (p pair) good(t testing.TB, message string) {
	t.Helper()
	if errs := p.txt.Msgauth(t, message); len(errs) != len(p.signers) || errors.Join(errs...) != nil {
		t.Errorf("%q: %d signatures, %v", message, len(errs), errs)
	}
}

const plainHeader = "From: Dr. Ada <ada@clinic.example>\r\nTo: pat@home.example\r\nSubject: Results\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@clinic.example>\r\n"

// odd are messages whose canonical form programs have disagreed on.
var odd = map[string]string{
	"plain":                plainHeader + "\r\nAll is well.\r\n",
	"no body":              plainHeader + "\r\n",
	"empty lines only":     plainHeader + "\r\n\r\n\r\n\r\n",
	"space only":           plainHeader + "\r\n \t \r\n",
	"space and no end":     plainHeader + "\r\n  ",
	"no end":               plainHeader + "\r\nAll is well.",
	"trailing empty lines": plainHeader + "\r\nAll is well.\r\n\r\n \r\n\t\r\n",
	"leading empty lines":  plainHeader + "\r\n\r\n\r\nAll is well.\r\n",
	"space in lines":       plainHeader + "\r\n  All \t is\twell.  \t\r\nGood  day\t\r\n",
	"long line":            plainHeader + "\r\n" + strings.Repeat("a long line ", 80) + "\r\n",
	"8 bit":                plainHeader + "\r\nGr\xc3\xb6\xc3\x9fe\r\n",
	"dots":                 plainHeader + "\r\n.\r\n..\r\n.hidden\r\n",
	"folded":               "From:\r\n Dr. Ada\r\n\t<ada@clinic.example>\r\nSubject: a\r\n  b\t c \r\nTo: x@home.example,\r\n y@home.example\r\n\r\nHi\r\n",
	"odd names":            "FROM:ada@clinic.example\r\nsubJect:x\r\n\r\nHi\r\n",
	"UTF-8 header":         "From: ada@clinic.example\r\nSubject: Gr\xc3\xb6\xc3\x9fe\r\n\r\nHi\r\n",
	"empty field":          "From: ada@clinic.example\r\nSubject:\r\nCc: \r\n\r\nHi\r\n",
	"two of a name":        "From: ada@clinic.example\r\nReferences: <1@x>\r\nReferences: <2@x>\r\nSubject: x\r\n\r\nHi\r\n",
	"unsubscription":       plainHeader + "List-Unsubscribe: <https://clinic.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nHi\r\n",
	"many references":      "From: ada@clinic.example\r\n" + strings.Repeat("References: <1@x>\r\n", 60) + "\r\nHi\r\n",
	"large":                plainHeader + "\r\n" + strings.Repeat("A line of a larger message, as they are.\r\n", 5000),
}

func TestOthersVerifyWhatWeSign(t *testing.T) {
	p := newPair(t, dkim.RSA, dkim.Ed25519)
	for name, message := range odd {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p.txt.Good(t, p.sign(t, message), 2)
		})
	}
	bad := strings.Replace(p.sign(t, odd["plain"]), "All is well", "All is lost", 1)
	if words := p.txt.OpenDKIM(t, bad); strings.Contains(strings.Join(words, " "), "pass") {
		t.Errorf("OpenDKIM says %v of a message that was changed", words)
	}
}

func TestWhatIsChangedBreaksTheSignature(t *testing.T) {
	p := newPair(t, dkim.Ed25519)
	message := p.sign(t, plainHeader+"List-Unsubscribe: <https://clinic.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nContent-Type: text/plain\r\n\r\nAll is well.\r\n")
	p.good(t, message)
	for what, changed := range map[string]string{
		"another text":        strings.Replace(message, "well", "lost", 1),
		"text behind":         message + "Buy now.\r\n",
		"another subject":     strings.Replace(message, "Results", "Winner", 1),
		"another link":        strings.Replace(message, "/u>", "/v>", 1),
		"no one-click":        strings.Replace(message, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "", 1),
		"a second From":       "From: boss@clinic.example\r\n" + message,
		"a second Subject":    "Subject: Winner\r\n" + message,
		"a second To":         "To: x@evil.example\r\n" + message,
		"a second Date":       "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n" + message,
		"a Reply-To":          "Reply-To: x@evil.example\r\n" + message,
		"a Cc":                "Cc: x@evil.example\r\n" + message,
		"a second media type": "Content-Type: text/html\r\n" + message,
		"another time":        regexp.MustCompile(`t=\d+`).ReplaceAllString(message, "t=1"),
	} {
		if errs := p.txt.Msgauth(t, changed); len(errs) != 1 || errs[0] == nil {
			t.Errorf("%s is not noticed: %v", what, errs)
		}
	}
	// What hosts on the way add stays possible.
	p.good(t, "Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0000\r\nX-Spam: no\r\n"+message)
}

func TestTheFieldItself(t *testing.T) {
	p := newPair(t, dkim.RSA, dkim.Ed25519)
	field, err := dkim.Sign(strings.NewReader(plainHeader+"\r\nHi\r\n"), p.signers, time.Unix(1795339000, 0))
	if err != nil {
		t.Fatal(err)
	}
	text := string(field)
	if strings.Count(text, "DKIM-Signature: v=1; ") != 2 {
		t.Errorf("not two fields:\n%s", text)
	}
	for _, want := range []string{"a=rsa-sha256;", "a=ed25519-sha256;", "c=relaxed/relaxed;", "d=clinic.example;", "s=sp20261122r;", "t=1795339000;", "h=from:from:subject:subject:to:to:cc:date:date:reply-to:"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if regexp.MustCompile(`[; \t][lx]=`).MatchString(text) {
		t.Errorf("l= or x= in\n%s", text)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 78 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("a line of %d: %q", len(line), line)
		}
	}
}

func TestBareLineEndsAreNotSigned(t *testing.T) {
	p := newPair(t, dkim.Ed25519)
	for _, message := range []string{plainHeader + "\r\nHi\nthere\r\n", plainHeader + "\r\nHi\rthere\r\n", "From: a@clinic.example\n\r\nHi\r\n", plainHeader + "\r\nHi\r"} {
		if _, err := dkim.Sign(strings.NewReader(message), p.signers, time.Now()); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", message, err)
		}
	}
}

// trickle gives a byte at a time, so that every state is met at an edge.
type trickle struct{ s string }

func (t *trickle) Read(p []byte) (int, error) {
	n := copy(p[:1], t.s)
	t.s = t.s[n:]
	if n == 0 {
		return 0, errors.New("broken off")
	}
	return n, nil
}

func TestAMessageThatBreaksOffIsNotSigned(t *testing.T) {
	p := newPair(t, dkim.Ed25519)
	for _, message := range []string{plainHeader, plainHeader + "\r\nAll"} {
		if field, err := dkim.Sign(&trickle{message}, p.signers, time.Now()); err == nil {
			t.Errorf("%q was signed: %s", message, field)
		}
	}
}

func FuzzSign(f *testing.F) {
	for _, message := range odd {
		head, body, _ := strings.Cut(message, "\r\n\r\n")
		f.Add(head, body)
	}
	p := newPair(f, dkim.Ed25519)
	f.Fuzz(func(t *testing.T, head, body string) {
		message := "From: ada@clinic.example\r\n" + head + "\r\n\r\n" + body
		field, err := dkim.Sign(strings.NewReader(message), p.signers, time.Now())
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ReplaceAll(field, []byte("\r\n"), nil), []byte("\n")) {
			t.Errorf("a bare line end in %q", field)
		}
		found, err := msgauth.VerifyWithOptions(strings.NewReader(string(field)+message), &msgauth.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{p.txt["sp20261122e._domainkey.clinic.example"]}, nil }})
		if err != nil {
			return // it reads no such header
		}
		for _, v := range found {
			if v.Domain == "clinic.example" && v.Err != nil && !strings.Contains(head, "DKIM-Signature") {
				t.Errorf("%q: %v", message, v.Err)
			}
		}
	})
}

// The ceiling of this machine, next to what a whole message costs.
func BenchmarkCeiling(b *testing.B) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte("x"))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:]); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		p := newPair(b, a)
		for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
			message := plainHeader + "\r\n" + strings.Repeat("VGhpcyBpcyBhIGxpbmUgb2YgYmFzZTY0IGFzIGF0dGFjaG1lbnRzIGFyZSBtYWRlIG9mIGl0Lg==\r\n", size/80)
			b.Run(fmt.Sprintf("%s/%dKiB", a, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(message)))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := dkim.Sign(strings.NewReader(message), p.signers, time.Now()); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
