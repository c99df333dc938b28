package interop

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

const (
	subject    = "Result of 3 October"
	secret     = "Potassium 4.1 mmol/l, the kidneys are well."
	attachment = "name,value\r\npotassium,4.1\r\n"
)

// entity is what is inside: two parts, with lines that programs like to change.
var entity = crlf(`Content-Type: multipart/mixed; boundary="inner part"

--inner part
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Dear Pat,
` + secret + `
From the laboratory, with best wishes=20
--=20
M=C3=BCller
.
--inner part
Content-Type: text/csv; name=values.csv
Content-Disposition: attachment; filename=values.csv
Content-Transfer-Encoding: base64

` + base64.StdEncoding.EncodeToString([]byte(attachment)) + `
--inner part--
`)

// entityBody is the entity without its header.
var entityBody = entity[strings.Index(entity, "\r\n\r\n")+4:]

// letter is a whole mail. Its header is one of a mail that is sent now.
func letter(from, to, body string) []byte {
	return []byte(crlf("From: "+from+"\nTo: "+to+"\nSubject: "+subject+"\nDate: "+time.Now().Format(time.RFC1123Z)+
		"\nMessage-ID: <1@"+domainOf(from)+">\nMIME-Version: 1.0\n") + body)
}

func domainOf(address string) string { return address[strings.Index(address, "@")+1:] }

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err) // all of them are written here
	}
	return a
}

func bodyOf(raw []byte) seal.Body {
	return seal.Body{Size: int64(len(raw)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}
}

func octets(open func(context.Context) (io.ReadCloser, error)) ([]byte, error) {
	r, err := open(context.Background())
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	return raw, errors.Join(err, r.Close())
}

// part is a MIME entity as the standard library reads it.
type part struct {
	header netmail.Header
	media  string
	params map[string]string
	body   []byte
}

func readPart(raw []byte) (part, error) {
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return part{}, err
	}
	p := part{header: m.Header}
	if p.body, err = io.ReadAll(m.Body); err != nil {
		return part{}, err
	}
	p.media, p.params, err = mime.ParseMediaType(m.Header.Get("Content-Type"))
	return p, err
}

// two gives the two parts of a multipart of RFC 1847, the first both as it
// stands (what a signature covers) and without its header.
func (p part) two(media string) (first string, second []byte, err error) {
	if p.media != media {
		return "", nil, fmt.Errorf("this is %s and not %s", p.media, media)
	}
	r := multipart.NewReader(bytes.NewReader(p.body), p.params["boundary"])
	var bodies [][]byte
	for {
		next, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", nil, err
		}
		body, err := io.ReadAll(next)
		if err != nil {
			return "", nil, err
		}
		if next.Header.Get("Content-Transfer-Encoding") == "base64" {
			if body, err = unbase64(body); err != nil {
				return "", nil, err
			}
		}
		bodies = append(bodies, body)
	}
	pieces := bytes.Split(append([]byte("\r\n"), p.body...), []byte("\r\n--"+p.params["boundary"]))
	if len(bodies) != 2 || len(pieces) != 4 {
		return "", nil, fmt.Errorf("%d parts", len(bodies))
	}
	return strings.TrimPrefix(string(pieces[1]), "\r\n"), bodies[1], nil
}

func unbase64(text []byte) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(text)))
}

func folded(octets []byte) string {
	s := base64.StdEncoding.EncodeToString(octets)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s + "\r\n"
}

// isLetter checks what a program got out of what we made: the header that was
// protected, and the body octet for octet.
func isLetter(got []byte) error { return isBody(got, entityBody) }

// isShownLetter is isLetter of what was encrypted with S/MIME: the subject
// stands on top of the text too (RFC 9788 section 5.2), and nothing else may
// differ.
func isShownLetter(got []byte) error {
	const field, end = "Content-Type: text/plain; charset=utf-8", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
	return isBody(got, strings.Replace(entityBody, field+end, field+";\r\n hp-legacy-display=\"1\""+end+"Subject: "+subject+"\r\n\r\n", 1))
}

func isBody(got []byte, body string) error {
	p, err := readPart([]byte(crlf(string(got))))
	if err != nil {
		return fmt.Errorf("what came out is no mail: %w", err)
	}
	if p.header.Get("Subject") != subject {
		return fmt.Errorf("the subject came out as %q", p.header.Get("Subject"))
	}
	if p.media != "multipart/mixed" || string(p.body) != body {
		return fmt.Errorf("another body came out: %s, %d octets", p.media, len(p.body))
	}
	return nil
}

// shows looks for what must not be outside of the encryption.
func shows(raw []byte) error {
	for _, word := range []string{subject, "Potassium", "values.csv"} {
		if bytes.Contains(raw, []byte(word)) {
			return fmt.Errorf("the artifact shows %q", word)
		}
	}
	return nil
}

const noFloor = policy.None
