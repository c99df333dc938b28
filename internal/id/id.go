// Package id makes and shows the identifiers of everything Sealpost records.
//
// Invariants:
//   - An id is a UUIDv7 (RFC 9562 section 5.7), made before the row that
//     carries it is inserted, and stored as its 16 bytes.
//   - Shown to people it carries a prefix that names its kind: msg_, dlv_.
//     Parse refuses an id of another kind.
//   - An id identifies; it never authorizes.
package id

import (
	"database/sql/driver"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Prefixes, one per kind of record.
const (
	Org      = "org"
	Key      = "key" // of a recipient
	Message  = "msg"
	Delivery = "dlv"
	Event    = "evt"
	Client   = "cli"
	DataKey  = "dek"
	Link     = "lnk"
	Notice   = "ntc"
	Run      = "run"
	Blob     = "blb"
	Identity = "idn"

	Suppression = "sup"
	Hold        = "hld"
)

// ID is one identifier: 16 bytes, the zero value meaning none. The
// organization "system" has the zero id.
type ID [16]byte

var text = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// New makes an id from the system's clock and randomness. The order of ids is
// a locality hint for indexes and carries no meaning.
func New() ID { return ID(uuid.Must(uuid.NewV7())) }

// IsZero reports whether no id is set.
func (i ID) IsZero() bool { return i == ID{} }

// Text shows the id with its prefix: 26 characters of lower-case Crockford
// base 32 behind "msg_".
func (i ID) Text(prefix string) string { return prefix + "_" + text.EncodeToString(i[:]) }

// Bytes gives a copy of the 16 bytes, or nil for the zero id.
func (i ID) Bytes() []byte {
	if i.IsZero() {
		return nil
	}
	return append([]byte(nil), i[:]...)
}

// Parse reads what Text wrote, for exactly this prefix.
func Parse(prefix, s string) (ID, error) {
	var out ID
	rest, ok := strings.CutPrefix(s, prefix+"_")
	if !ok || len(rest) != 26 {
		return out, fmt.Errorf("not an id of the form %s_…", prefix)
	}
	b, err := text.DecodeString(rest)
	if err != nil || len(b) != 16 || text.EncodeToString(b) != rest {
		return out, fmt.Errorf("not an id of the form %s_…", prefix)
	}
	return ID(b), nil
}

// FromBytes reads 16 bytes; none gives the zero id.
func FromBytes(b []byte) (ID, error) {
	switch len(b) {
	case 0:
		return ID{}, nil
	case 16:
		return ID(b), nil
	}
	return ID{}, fmt.Errorf("id has %d bytes, want 16", len(b))
}

// Value stores the id as 16 bytes. The zero id is stored as 16 zero bytes, so
// that columns can be NOT NULL and the organization "system" has a value.
func (i ID) Value() (driver.Value, error) { return append([]byte(nil), i[:]...), nil }

// Scan reads 16 bytes or NULL.
func (i *ID) Scan(src any) error {
	b, ok := src.([]byte)
	if src != nil && !ok {
		return fmt.Errorf("id cannot be read from %T", src)
	}
	v, err := FromBytes(b)
	*i = v
	return err
}
