package posture

import (
	"errors"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// Modes of a policy (RFC 8461 section 3.2).
const (
	modeEnforce = "enforce"
	modeTesting = "testing"
	modeNone    = "none"
)

const (
	maxPolicy = 64 << 10   // octets
	maxMX     = 200        // patterns
	maxAge    = 31_557_600 // RFC 8461 section 3.2: about a year
)

var errSyntax = errors.New("not a valid MTA-STS policy")

// stsPolicy is what a policy file says.
type stsPolicy struct {
	mode   string
	mx     []string
	maxAge int64 // seconds
}

// parsePolicy reads a policy file (RFC 8461 section 3.2). Unknown keys are for
// later versions; of a repeated key other than mx the first counts.
func parsePolicy(text string) (stsPolicy, error) {
	if len(text) > maxPolicy {
		return stsPolicy{}, errSyntax
	}
	var p stsPolicy
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || !isKey(key) {
			return stsPolicy{}, errSyntax
		}
		if seen[key] && key != "mx" {
			continue
		}
		seen[key] = true
		if err := p.set(key, strings.Trim(value, " \t")); err != nil {
			return stsPolicy{}, err
		}
	}
	if !seen["version"] || !seen["mode"] || !seen["max_age"] || p.mode != modeNone && len(p.mx) == 0 {
		return stsPolicy{}, errSyntax
	}
	return p, nil
}

func (p *stsPolicy) set(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return errSyntax
		}
	case "mode":
		if value != modeEnforce && value != modeTesting && value != modeNone {
			return errSyntax
		}
		p.mode = value
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || len(value) > 10 || n > maxAge || value[0] == '+' {
			return errSyntax
		}
		p.maxAge = int64(n)
	case "mx":
		pattern, err := parsePattern(value)
		if err != nil || len(p.mx) == maxMX {
			return errSyntax
		}
		p.mx = append(p.mx, pattern)
	}
	return nil
}

func parsePattern(s string) (string, error) {
	name, wildcard := strings.CutPrefix(s, "*.")
	domain, err := mail.ParseDomain(strings.TrimSuffix(name, "."))
	if err != nil {
		return "", errSyntax
	}
	if wildcard {
		return "*." + domain, nil
	}
	return domain, nil
}

// isKey follows sts-policy-extension-name of RFC 8461 section 3.2.
func isKey(s string) bool {
	if s == "" || len(s) > 32 || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// policyID finds the id in the TXT records of _mta-sts.DOMAIN. There must be
// exactly one record of this version; otherwise there is no policy (RFC 8461
// section 3.1).
func policyID(records []string) (id string, ok bool) {
	found := 0
	for _, r := range records {
		version, rest, _ := strings.Cut(r, ";")
		if strings.TrimRight(version, " \t") != "v=STSv1" {
			continue
		}
		found++
		id, ok = recordID(rest)
	}
	return id, ok && found == 1
}

// recordID reads the fields behind the version.
func recordID(fields string) (string, bool) {
	id := ""
	for _, field := range strings.Split(fields, ";") {
		key, value, ok := strings.Cut(strings.Trim(field, " \t"), "=")
		if key == "" && !ok {
			continue // the record may end in a semicolon
		}
		if !ok || !isKey(key) {
			return "", false
		}
		if key == "id" && id == "" {
			if !isID(value) {
				return "", false
			}
			id = value
		}
	}
	return id, id != ""
}

func isID(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) {
			return false
		}
	}
	return true
}

// recordWord tells a record that is wrong from none.
func recordWord(records []string) string {
	for _, r := range records {
		if strings.HasPrefix(r, "v=STSv1") {
			return STSRecord
		}
	}
	return ""
}
