package discover

import (
	"encoding/base64"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

const (
	maxAutocrypt = 96 << 10 // octets of the header field
	maxFields    = 20
)

func badAutocrypt(text string) *fault.Fault {
	return fault.New(fault.Refused, "malformed", text)
}

// ParseAutocrypt reads the value of an Autocrypt header field (Level 1,
// section 2.1): the address it speaks for and a key. A field with an attribute
// that is critical and not known is refused whole, as the specification says.
func ParseAutocrypt(header string) (mail.Address, []byte, error) {
	if len(header) > maxAutocrypt {
		return mail.Address{}, nil, fault.New(fault.Refused, "too_large", "The Autocrypt header is too large.")
	}
	fields := strings.Split(header, ";")
	if len(fields) > maxFields {
		return mail.Address{}, nil, badAutocrypt("The Autocrypt header has too many attributes.")
	}
	seen := map[string]string{}
	for i, field := range fields {
		if strings.TrimSpace(field) == "" && i == len(fields)-1 {
			continue
		}
		name, value, ok := strings.Cut(field, "=")
		name = strings.Trim(name, " \t\r\n")
		if _, twice := seen[name]; !ok || name == "" || twice {
			return mail.Address{}, nil, badAutocrypt("The Autocrypt header is not a list of attributes.")
		}
		if name != "addr" && name != "prefer-encrypt" && name != "keydata" && name[0] != '_' {
			return mail.Address{}, nil, fault.New(fault.Refused, "unsupported", "The Autocrypt header has a critical attribute that is not known.")
		}
		seen[name] = value
	}
	address, err := mail.ParseAddress(strings.Trim(seen["addr"], " \t\r\n"))
	if err != nil {
		return mail.Address{}, nil, badAutocrypt("The Autocrypt header names no valid address.")
	}
	key, err := base64.StdEncoding.DecodeString(squeeze(seen["keydata"]))
	if err != nil || !looksLikeKey(key) || key[0]&0x80 == 0 {
		return mail.Address{}, nil, badAutocrypt("The Autocrypt header holds no key.")
	}
	return address, key, nil
}

// squeeze takes out the white space that folding brings.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, s)
}
