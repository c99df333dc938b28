package identity

import (
	"encoding/base64"
	"slices"
	"strings"
)

// Armor writes binary OpenPGP keys as text (RFC 9580 section 6.2), without the
// checksum that the RFC no longer wants.
func Armor(keys []byte) string {
	var b strings.Builder
	b.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(keys)), 64) {
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteString("-----END PGP PUBLIC KEY BLOCK-----\n")
	return b.String()
}
