package mail

import (
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
)

// formatParam writes a parameter of Content-Type or Content-Disposition, each
// piece of it with a semicolon in front (RFC 2231 for what is long or not
// ASCII).
func formatParam(name, value string) []string {
	if isASCII(value) && len(value) <= 60 && CheckText(value) == nil {
		v := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		return []string{name + `="` + v + `"`}
	}
	var pieces []string
	piece := "utf-8''"
	for i := 0; i < len(value); {
		_, size := utf8.DecodeRuneInString(value[i:])
		var enc string
		for _, c := range []byte(value[i : i+size]) {
			if c < utf8.RuneSelf && isAttrChar(c) {
				enc += string(rune(c))
			} else {
				enc += fmt.Sprintf("%%%02X", c)
			}
		}
		if len(piece)+len(enc) > 55 {
			pieces = append(pieces, piece)
			piece = ""
		}
		piece += enc
		i += size
	}
	pieces = append(pieces, piece)
	if len(pieces) == 1 {
		return []string{name + "*=" + piece}
	}
	for i, p := range pieces {
		pieces[i] = fmt.Sprintf("%s*%d*=%s", name, i, p)
	}
	return pieces
}

// isAttrChar reports whether c needs no escape in an extended value (RFC 2231
// section 7).
func isAttrChar(c byte) bool {
	return isAtext(rune(c)) && !strings.ContainsRune("*'%/?=", rune(c))
}

// typeField writes a field such as Content-Type, folded between parameters.
func typeField(name, value string, params ...string) []byte {
	tokens := []string{value}
	for _, p := range params {
		tokens[len(tokens)-1] += ";"
		tokens = append(tokens, p)
	}
	return foldTokens(name, tokens)
}

// attachmentType checks the content type a caller gives and takes it apart. A
// message or multipart may not be encoded in base64 (RFC 2045 section 6.4), so
// an attached one goes as plain bytes; its file name says what it is.
func attachmentType(s string) (string, []string, error) {
	const plain = "application/octet-stream"
	if s == "" {
		return plain, nil, nil
	}
	bad := fault.New(fault.Invalid, "bad_content_type", "The content type is not of the form type/subtype.")
	if CheckText(s) != nil || !isASCII(s) || len(s) > 500 {
		return "", nil, bad
	}
	media, params, err := mime.ParseMediaType(s)
	if err != nil || !isMediaType(media) {
		return "", nil, bad
	}
	if strings.HasPrefix(media, "message/") || strings.HasPrefix(media, "multipart/") {
		return plain, nil, nil
	}
	var out []string
	for _, name := range []string{"charset", "format", "method", "profile", "version"} {
		if v, ok := params[name]; ok && isASCII(v) && CheckText(v) == nil {
			out = append(out, formatParam(name, v)...)
		}
	}
	return media, out, nil
}

func isMediaType(s string) bool {
	main, sub, ok := strings.Cut(s, "/")
	return ok && isToken(main) && isToken(sub) && len(s) <= 127
}

// isToken reports whether s is an RFC 2045 token.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAtext(rune(s[i])) && s[i] != '.' || s[i] == '/' || s[i] == '?' || s[i] == '=' {
			return false
		}
	}
	return s != ""
}
