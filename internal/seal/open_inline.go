package seal

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/mail"
)

const (
	beginMessage   = "-----BEGIN PGP MESSAGE-----"
	endMessage     = "-----END PGP MESSAGE-----"
	beginSigned    = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	endSignature   = "-----END PGP SIGNATURE-----"
)

// inline opens a text that is one OpenPGP armor from its first to its last
// line. Text around it would be covered by nothing and look as if it were, so
// such a text stays as it is.
func (op *opener) inline(p mail.Part) step {
	content, ok := p.Content()
	if !ok || len(content) > 4<<20 {
		return step{}
	}
	text := bytes.TrimSpace(canonical(content))
	switch {
	case bytes.HasPrefix(text, []byte(beginMessage)) && bytes.HasSuffix(text, []byte(endMessage)) && bytes.Count(text, []byte("-----BEGIN PGP ")) == 1:
		plain, layer, word := op.pgpOpen(text, "", true)
		if word != "" {
			return step{taken: true, layer: layer, word: word}
		}
		return op.inlineText(p, plain, layer)
	case bytes.HasPrefix(text, []byte(beginSigned)) && bytes.HasSuffix(text, []byte(endSignature)):
		signed, signature, ok := cleartext(string(text))
		if !ok {
			return step{}
		}
		s := op.pgpDetached(mail.Part{}, []byte(signed), signature, "", true)
		return op.inlineText(p, []byte(signed), s.layer)
	}
	return step{}
}

// oldCharsets are believed when the text is no UTF-8. Nothing else that stands
// in the mail goes into the header made here.
var oldCharsets = map[string]bool{"iso-8859-1": true, "iso-8859-2": true, "iso-8859-15": true, "windows-1252": true}

// inlineText makes a part of what was in the armor. It is text and nothing
// else, whatever it looks like.
func (op *opener) inlineText(p mail.Part, plain []byte, layer int) step {
	op.find("inline")
	header := "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	if !utf8.Valid(plain) {
		op.find("charset_unprotected")
		if charset := strings.ToLower(p.Params["charset"]); oldCharsets[charset] {
			header = strings.Replace(header, "utf-8", charset, 1)
		}
	}
	inner, err := mail.ReadPart(append([]byte(header), canonical(plain)...))
	if err != nil {
		return step{taken: true, layer: layer, word: "malformed_inside"}
	}
	return step{taken: true, inner: inner, layer: layer}
}

// cleartext takes the cleartext signature framework (RFC 9580 section 7)
// apart. Only Hash may stand in its header: other lines there would be shown
// by some programs and signed by nobody.
func cleartext(text string) (signed string, signature []byte, ok bool) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if strings.Count(text, beginSigned) != 1 || strings.Count(text, "\n"+beginSignature) != 1 {
		return "", nil, false
	}
	head, rest, ok := strings.Cut(text, "\n\n")
	if !ok {
		return "", nil, false
	}
	for i, line := range strings.Split(head, "\n") {
		if i == 0 && strings.TrimRight(line, " \t") != beginSigned || i > 0 && !strings.HasPrefix(line, "Hash: ") {
			return "", nil, false
		}
	}
	body, armor, ok := strings.Cut("\n"+rest, "\n"+beginSignature)
	if !ok {
		return "", nil, false
	}
	body = strings.TrimPrefix(body, "\n")
	lines := strings.Split(body, "\n")
	for i, line := range lines {
		// A line that begins with a dash is escaped, or it is a delimiter
		// that some other program would end the text at.
		if strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "- ") {
			return "", nil, false
		}
		lines[i] = strings.TrimRight(strings.TrimPrefix(line, "- "), " \t\r")
	}
	return strings.Join(lines, "\r\n"), []byte(beginSignature + armor + "\n"), true
}
