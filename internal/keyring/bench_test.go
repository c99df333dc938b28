package keyring_test

import (
	"testing"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/policy"
)

// BenchmarkFind is what a delivery pays whose recipient was looked for within
// the last minute.
func BenchmarkFind(b *testing.B) {
	for name, keyed := range map[string]bool{"without any key": false, "with a key": true} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b, dbtest.SQLite(b))
			a := jane(b)
			if keyed {
				s.say(shows(discover.WKD, policy.Confirmed, s.key(a)))
			}
			for b.Loop() {
				if _, err := s.ring.Find(ctx, s.org, a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
