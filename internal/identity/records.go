package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// recordTTL is an hour: long enough for resolvers, short enough for a
// revocation.
const recordTTL = 3600

// Records gives the DNS records that publish a key in the domain's zone:
// OPENPGPKEY (RFC 7929) or SMIMEA (RFC 8162), in the form of a zone file.
// generic writes them as RFC 3597 section 5 has it, for servers that do not
// know these types.
func (s *Service) Records(ctx context.Context, org, idn id.ID, generic bool) (private.String, error) {
	d, err := s.Show(ctx, org, idn)
	if err != nil {
		return private.String{}, err
	}
	if d.State != Active {
		return private.String{}, fault.New(fault.Conflict, "identity_not_active", "Only an active key is published.")
	}
	var b strings.Builder
	for _, local := range recordLocals(d.Address) {
		sum := sha256.Sum256([]byte(local))
		name := hex.EncodeToString(sum[:28]) // both RFCs, section 3
		if d.Kind == policy.PGP {
			b.WriteString(zoneRecord(name+"._openpgpkey."+d.Address.Domain()+".", "OPENPGPKEY", 61, "",
				base64.StdEncoding.EncodeToString(d.Key.Bytes()), d.Key.Bytes(), generic))
			continue
		}
		// DANE-EE, the full certificate as it is: the usage that needs no
		// authority (RFC 8162 section 2, RFC 7671 section 5.1).
		b.WriteString(zoneRecord(name+"._smimecert."+d.Address.Domain()+".", "SMIMEA", 53, "3 0 0 ",
			hex.EncodeToString(d.Certificate.Raw), append([]byte{3, 0, 0}, d.Certificate.Raw...), generic))
	}
	return private.NewString(b.String()), nil
}

// recordLocals are the spellings of a local part that are published: in lower
// case, as most people write it, and as it was given. A resolver cannot be
// asked without regard to case here.
func recordLocals(a mail.Address) []string {
	lower := strings.ToLower(a.Local())
	return slices.Compact([]string{lower, a.Local()})
}

func zoneRecord(name, kind string, number int, fields, text string, data []byte, generic bool) string {
	if generic {
		kind, fields, text = fmt.Sprintf("TYPE%d", number), fmt.Sprintf(`\# %d `, len(data)), hex.EncodeToString(data)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d IN %s %s(\n", name, recordTTL, kind, fields)
	for part := range slices.Chunk([]byte(text), 64) {
		fmt.Fprintf(&b, "\t%s\n", part)
	}
	b.WriteString("\t)\n")
	return b.String()
}
