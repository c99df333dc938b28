package deliver

import (
	"testing"

	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// A signed message that waits for more recipients counts with the body that it
// was made of.
func TestASignedCopyCountsWhatItHolds(t *testing.T) {
	work := spool.Work{Message: &spool.Message{Header: make([]byte, 500), Size: 100_500}}
	if n := copyOf(work, seal.Body{Size: 103_000}).octets; n != 500+500+2500 {
		t.Errorf("%d octets with the body in the database", n)
	}
	work.Body = make([]byte, 100_000)
	if n := copyOf(work, seal.Body{Size: 103_000}).octets; n != 100_500+500+2500 {
		t.Errorf("%d octets with the body in memory", n)
	}
	s := New(Deps{}).signed.bytes(copyOf(work, seal.Body{Size: 103_000}))
	if s != 103_500 {
		t.Errorf("the cache counts %d", s)
	}
}
