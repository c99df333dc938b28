package parcel

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLabel bounds the octets of what Label and Identifier give.
const MaxLabel = 200

// Label is a name that a reporter chose: one line, no more than needed, and of
// an address only the domain.
func Label(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	for len(s) > MaxLabel {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.TrimSpace(s)
}

// Identifier is a number that a reporter gave. It stays what it is as long as
// Label would keep all of it; otherwise its hash stands for it.
func Identifier(s string) string {
	if s = strings.TrimSpace(s); Label(s) == s {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + hex.EncodeToString(sum[:16])
}
