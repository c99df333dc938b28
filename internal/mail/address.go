package mail

import (
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
	"unique"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/sealpost/sealpost/internal/fault"
)

const (
	maxLocal  = 64  // RFC 5321 section 4.5.3.1.1
	maxDomain = 255 // RFC 5321 section 4.5.3.1.2
)

// Address is one mailbox address (RFC 5321 section 4.1.2, RFC 6531 section
// 3.3). The zero value means no address. Two addresses are the same mailbox
// when their normal forms are equal.
type Address struct {
	// The local part is held by handle, so that fmt shows a pointer and not
	// the text when the address sits in an unexported field, where fmt calls
	// no methods.
	local  unique.Handle[string]
	domain string
}

var domains = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.StrictDomainName(true),
	idna.VerifyDNSLength(true),
	idna.Transitional(false),
	// Names such as ab--cd.example are registered and used; only hyphens at
	// the ends of a label are refused, below.
	idna.CheckHyphens(false),
)

func badAddress(text string) *fault.Fault {
	return fault.New(fault.Invalid, "bad_address", text)
}

// ParseAddress reads a bare address such as dr.who@example.org or
// "dr who"@example.org. Address literals are refused.
func ParseAddress(s string) (Address, error) {
	if len(s) > 2*maxLocal+2+1+4*maxDomain {
		return Address{}, badAddress("The address is too long.")
	}
	if err := cleanText(s); err != nil {
		return Address{}, err
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	domain, ok := strings.CutPrefix(rest, "@")
	if !ok {
		return Address{}, badAddress("The address has no @ and domain.")
	}
	return newAddress(local, domain)
}

func newAddress(local, domain string) (Address, error) {
	if len(quoteLocal(local)) > maxLocal {
		return Address{}, badAddress("The part before the @ is longer than 64 octets.")
	}
	d, err := asciiDomain(domain)
	if err != nil {
		return Address{}, err
	}
	return Address{local: unique.Make(local), domain: d}, nil
}

// cleanText refuses what must not stand in an address, quoted or not.
func cleanText(s string) error {
	if !utf8.ValidString(s) {
		return badAddress("The address is not valid UTF-8.")
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) || invisible(r) {
			return badAddress("The address contains a control character.")
		}
	}
	return nil
}

// invisible reports whether r shows as nothing, so that two addresses would
// look alike and be different, to people and to rules. The two joiners that
// some scripts are written with stay.
func invisible(r rune) bool {
	return unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d'
}

// cutLocal takes the local part off the front and gives it without quotes.
func cutLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s)
	}
	i := strings.IndexByte(s, '@')
	if i < 0 {
		return "", "", badAddress("The address has no @ and domain.")
	}
	if !isDotString(s[:i]) {
		return "", "", badAddress("The part before the @ contains a character that is not allowed there, or a dot too many.")
	}
	return s[:i], s[i:], nil
}

// cutQuoted reads the Quoted-string of RFC 5321 section 4.1.2.
func cutQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) || s[i] >= utf8.RuneSelf {
				return "", "", badAddress("The part before the @ has a backslash before a character that cannot be quoted.")
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", badAddress("The part before the @ begins with a quotation mark that is never closed.")
}

func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for _, r := range s {
		switch {
		case r == '.' || isAtext(r):
		case r >= utf8.RuneSelf && !unicode.IsSpace(r):
		default:
			return false
		}
	}
	return true
}

func isAtext(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r < utf8.RuneSelf && strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// quoteLocal writes a local part with the least quoting that is possible, as
// RFC 5321 section 4.1.2 asks of senders.
func quoteLocal(s string) string {
	if isDotString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// asciiDomain gives the domain as lower-case A-labels.
func asciiDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return "", badAddress("Addresses with an IP address in place of a domain are not accepted.")
	}
	d, err := domains.ToASCII(s)
	if err != nil || len(d) > maxDomain || strings.HasSuffix(d, ".") ||
		strings.HasPrefix(d, "-") || strings.HasSuffix(d, "-") || strings.Contains(d, "-.") || strings.Contains(d, ".-") {
		return "", badAddress("The part behind the @ is not a domain name.")
	}
	// No top-level domain is a number; 192.0.2.1 without brackets is not a
	// name to look up.
	top := d[strings.LastIndexByte(d, '.')+1:]
	if strings.Trim(top, "0123456789") == "" {
		return "", badAddress("The part behind the @ is not a domain name.")
	}
	return d, nil
}

// ParseDomain gives a domain name as it stands in an address: lower case,
// A-labels (RFC 5890).
func ParseDomain(s string) (string, error) {
	if err := cleanText(s); err != nil {
		return "", err
	}
	if len(s) > 4*maxDomain {
		return "", badAddress("The domain name is too long.")
	}
	return asciiDomain(s)
}

// Reveal gives the whole address, ready for SMTP and header fields.
func (a Address) Reveal() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.local.Value()) + "@" + a.domain
}

// Domain is the domain in lower-case A-labels.
func (a Address) Domain() string { return a.domain }

// Local is the local part without quotes. It is private: neither log nor show
// it.
func (a Address) Local() string {
	if a.IsZero() {
		return ""
	}
	return a.local.Value()
}

// Normal is normal form 1: two addresses are taken for the same mailbox when
// it is equal. Local parts are compared without case, although RFC 5321 lets
// a host tell them apart, because people and mail hosts do not.
func (a Address) Normal() string {
	if a.IsZero() {
		return ""
	}
	lower := strings.ToLower(norm.NFC.String(a.local.Value()))
	return quoteLocal(norm.NFC.String(lower)) + "@" + a.domain
}

// IsZero reports whether there is no address, as in MAIL FROM:<>.
func (a Address) IsZero() bool { return a.domain == "" }

// NeedsSMTPUTF8 reports whether the address can travel only under SMTPUTF8
// (RFC 6531). The domain never asks for it: it is kept in A-labels.
func (a Address) NeedsSMTPUTF8() bool { return !isASCII(a.Local()) }

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (a Address) String() string               { return "…@" + a.domain }
func (a Address) GoString() string             { return a.String() }
func (a Address) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(a.String())) }
func (a Address) LogValue() slog.Value         { return slog.StringValue(a.String()) }
func (a Address) MarshalJSON() ([]byte, error) { return []byte(`"` + a.String() + `"`), nil }
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }
