package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFloorsOnlyRise(t *testing.T) {
	from, to := addr(t, "ada@clinic.example"), addr(t, "pat@home.example")
	for _, asked := range []policy.Grade{policy.None, policy.Encrypted, policy.Verified, policy.Authenticated} {
		if got := TLS(from, to, asked, false, Body{}).Floor(); got != max(asked, policy.Verified) {
			t.Errorf("TLS at %v has the floor %v", asked, got)
		}
		want := max(asked, policy.Encrypted)
		for name, a := range map[string]*Artifact{"report": Report(to, asked, nil)} {
			if a.Floor() != want || !a.From().IsZero() || a.RequireTLS() {
				t.Errorf("%s at %v has the floor %v, sender zero %v", name, asked, a.Floor(), a.From().IsZero())
			}
		}
	}
}

func TestTheEnvelopeSaysWhatThePeerMustOffer(t *testing.T) {
	plain, utf8 := addr(t, "ada@clinic.example"), addr(t, "größe@clinic.example")
	a := TLS(plain, plain, policy.Authenticated, true, Body{Size: 7, EightBit: true})
	if !a.RequireTLS() || !a.EightBit() || a.UTF8() || a.Size() != 7 || a.From() != plain || a.To() != plain {
		t.Errorf("artifact %+v", a)
	}
	for name, a := range map[string]*Artifact{
		"sender": TLS(utf8, plain, 0, false, Body{}), "recipient": TLS(plain, utf8, 0, false, Body{}),
		"header": TLS(plain, plain, 0, false, Body{UTF8: true}), "notice": Report(utf8, 0, nil),
	} {
		if !a.UTF8() {
			t.Errorf("SMTPUTF8 is not asked for: %s", name)
		}
	}
}

// TestNoticesNameNobody: whatever stands before an @ is the recipient or the
// mailbox that nobody has, and the link is all there is of the message.
func TestNoticesNameNobody(t *testing.T) {
	to := addr(t, "pat@home.example")
	portal, err := PortalNotice(PortalText{To: to, OrgName: "Clinic", FromDomain: "clinic.example",
		Link: private.NewString(noticeLink), ExpiresAt: noticeDate.Add(time.Hour), Date: noticeDate}, policy.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	text, err := CodeText(CodeMail{To: to, OrgName: "Clinic", FromDomain: "clinic.example", Code: private.NewString("123456"), ValidFor: 10 * time.Minute, Date: noticeDate})
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`([A-Za-z0-9._+-]+)@[A-Za-z0-9.-]+`)
	for name, a := range map[string]*Artifact{"notice": portal, "code": Report(to, policy.Encrypted, text)} {
		raw, v := opened(t, a)
		for _, part := range []string{raw, v.Text.Reveal(), v.HTML.Reveal()} {
			for _, found := range address.FindAllStringSubmatch(part, -1) {
				local := found[1]
				id := strings.Contains(part, "Message-ID: <"+local+"@")
				if local != "pat" && local != noticeLocal && !id {
					t.Errorf("the %s names %q", name, found[0])
				}
			}
		}
	}
}

// closing counts how often what was opened is closed.
type closing struct {
	io.Reader
	n *int
}

func (c closing) Close() error { *c.n++; return nil }

func body(text string, closed *int) Body {
	return Body{Size: int64(len(text)), EightBit: true, Open: func(context.Context) (io.ReadCloser, error) {
		return closing{strings.NewReader(text), closed}, nil
	}}
}

func TestOpenSevenBit(t *testing.T) {
	const text = "From: ada@clinic.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGröße = 1\r\n"
	closed := 0
	a := TLS(addr(t, "ada@clinic.example"), addr(t, "pat@home.example"), policy.Verified, false, body(text, &closed))
	for range 2 { // a retry opens it again
		r, err := a.OpenSevenBit(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if i := bytes.IndexFunc(got, func(c rune) bool { return c > 127 }); i >= 0 {
			t.Errorf("octet %d is not 7-bit", i)
		}
		head, rest, _ := strings.Cut(string(got), "\r\n\r\n")
		if !strings.Contains(strings.ToLower(head), "content-transfer-encoding: quoted-printable") || strings.Contains(strings.ToLower(head), "8bit") {
			t.Errorf("header %q", head)
		}
		if back, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(rest))); err != nil || string(back) != "Größe = 1\r\n" {
			t.Errorf("decodes to %q, %v", back, err)
		}
	}
	if closed != 2 {
		t.Errorf("closed %d times", closed)
	}
}

func TestOpenSevenBitRefusesWhatItCannotConvert(t *testing.T) {
	for name, text := range map[string]string{
		"a multipart without boundary": "Content-Type: multipart/mixed\r\nMIME-Version: 1.0\r\n\r\nGröße\r\n",
		"a signed part":                "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\"; micalg=pgp-sha256\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGröße\r\n--b--\r\n",
	} {
		closed := 0
		a := TLS(addr(t, "ada@clinic.example"), addr(t, "pat@home.example"), policy.Verified, false, body(text, &closed))
		r, err := a.OpenSevenBit(context.Background())
		if err == nil { // it may find out only while it is read
			_, err = io.ReadAll(r)
			_ = r.Close()
		}
		if !errors.Is(err, mail.ErrNotSevenBit) {
			t.Errorf("%s: %v, want ErrNotSevenBit", name, err)
		}
		if closed != 1 {
			t.Errorf("%s: closed %d times", name, closed)
		}
	}
	gone := errors.New("the store is away")
	a := TLS(addr(t, "ada@clinic.example"), addr(t, "pat@home.example"), policy.Verified, false, Body{Open: func(context.Context) (io.ReadCloser, error) { return nil, gone }})
	if _, err := a.OpenSevenBit(context.Background()); !errors.Is(err, gone) {
		t.Errorf("a store that is away: %v", err)
	}
}
