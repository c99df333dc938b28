package inbound

import (
	"context"

	"github.com/sealpost/sealpost/internal/mail"
)

// ReadSigned is for the fuzz target.
func ReadSigned(text []byte, author mail.Address) (bundle []byte, capabilities []string) {
	s := readSigned(text, author)
	return s.bundle, s.capabilities
}

// AwaitJudge returns when another certificate can be judged.
func (m *Members) AwaitJudge() {
	_ = m.judging.Acquire(context.Background(), 1)
	m.judging.Release(1)
}
