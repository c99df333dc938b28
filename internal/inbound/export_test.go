package inbound

import "github.com/sealpost/sealpost/internal/mail"

// ReadSigned is for the fuzz target.
func ReadSigned(text []byte, author mail.Address) (bundle []byte, capabilities []string) {
	s := readSigned(text, author)
	return s.bundle, s.capabilities
}
