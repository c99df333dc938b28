package tlsrpt

import (
	"net/url"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// maxURIs bounds the places that one domain has reports sent to.
const maxURIs = 4

// destination is where reports go: one of the two is set.
type destination struct {
	post string // https URL
	to   mail.Address
}

// destinations reads the TXT records at _smtp._tls of a domain (RFC 8460
// section 3). A domain with none, or with several, asks for no reports.
func destinations(texts []string) (out []destination) {
	var record string
	for _, t := range texts {
		version, rest, _ := strings.Cut(t, ";")
		if strings.Trim(version, " \t") != "v=TLSRPTv1" {
			continue
		}
		if record != "" {
			return nil
		}
		record = rest + ";"
	}
	for field := range strings.SplitSeq(record, ";") {
		name, value, found := strings.Cut(field, "=")
		if !found || strings.Trim(name, " \t") != "rua" {
			continue
		}
		for uri := range strings.SplitSeq(value, ",") {
			if d, ok := destinationOf(strings.Trim(uri, " \t")); ok && len(out) < maxURIs {
				out = append(out, d)
			}
		}
		return out
	}
	return nil
}

func destinationOf(uri string) (destination, bool) {
	u, err := url.Parse(uri)
	if err != nil || mail.CheckText(uri) != nil {
		return destination{}, false
	}
	switch strings.ToLower(u.Scheme) {
	case "https":
		return destination{post: uri}, u.Host != ""
	case "mailto":
		text, err := url.PathUnescape(u.Opaque)
		if err != nil {
			return destination{}, false
		}
		a, err := mail.ParseAddress(text)
		return destination{to: a}, err == nil
	}
	return destination{}, false
}
