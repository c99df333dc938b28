// Package await waits for what comes to pass by itself.
package await

import (
	"testing"
	"time"
)

// patience is long, for a busy machine: who waits for what comes loses
// nothing by it.
const patience = time.Minute

// Until asks until nothing is missing any more, and fails the test with what
// still is when its patience ends.
func Until(t testing.TB, missing func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		what := missing()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not after %v: %s", patience, what)
		}
	}
}
