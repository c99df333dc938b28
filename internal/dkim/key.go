package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

// rsaBits is what verifiers must know and a DNS record holds with ease (RFC
// 8301 section 3.2).
const rsaBits = 2048

// generate makes a key: its secret in PKCS #8 and the value of its record.
func generate(a Algorithm) (secret []byte, value string, err error) {
	var key crypto.Signer
	var public []byte
	switch a {
	case RSA:
		k, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return nil, "", fmt.Errorf("make a key: %w", err)
		}
		if public, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil {
			return nil, "", fmt.Errorf("make a key: %w", err)
		}
		key = k
	case Ed25519:
		p, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, "", fmt.Errorf("make a key: %w", err)
		}
		public, key = p, k // RFC 8463 section 4.2: as it is
	default:
		return nil, "", fault.New(fault.Invalid, "bad_algorithm", "A key for DKIM is rsa or ed25519.")
	}
	if secret, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	return secret, "v=DKIM1; k=" + string(a) + "; p=" + base64.StdEncoding.EncodeToString(public), nil
}

// parseSecret reads what generate made. The parsed RSA key has its values for
// the Chinese remainder theorem computed.
func parseSecret(secret []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("a stored key cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a stored key cannot sign: %T", key)
	}
	return signer, nil
}

// selector names a key by its day, so that it can be told from its successor
// at a look; n counts those of one day.
func selector(a Algorithm, day time.Time, n int) string {
	s := "sp" + day.UTC().Format("20060102") + string(a[:1])
	if n > 1 {
		s += fmt.Sprint(n)
	}
	return s
}

// Shown reports whether of these TXT records of a key's name there is one, and
// that is the key's. Space is not compared: it means nothing (RFC 6376 section
// 3.2), and some DNS providers change it.
func (k Key) Shown(records []string) bool {
	return len(records) == 1 && bare(records[0]) == bare(k.Value)
}

func bare(record string) string {
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, record), ";")
}

// ZoneRecord writes a TXT record for a zone file, in strings of no more than
// 255 octets (RFC 1035 section 3.3.14).
func ZoneRecord(name, value string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. 3600 IN TXT", name)
	if len(value) > 255 {
		b.WriteString(" (")
	}
	for part := range slices.Chunk([]byte(value), 255) {
		if len(value) > 255 {
			b.WriteString("\n\t")
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(part)) + `"`)
	}
	if len(value) > 255 {
		b.WriteString(" )")
	}
	return b.String()
}
