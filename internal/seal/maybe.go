package seal

import (
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// MaybeSealed reports whether a header promises a message that its sender
// encrypted. Only its structure proves that: see Sealed.
func MaybeSealed(h mail.Header) bool {
	kind, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	switch strings.TrimSpace(kind) {
	case "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	}
	return false
}
