package openpgp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// now is when these tests take place.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func generate(t testing.TB, p Profile) *Secret {
	t.Helper()
	return must(Generate(p, "Alice", address(t, "alice@example.org"), now.Add(-year), now.Add(year)))(t)
}

func oneKey(t testing.TB, data []byte) Key {
	t.Helper()
	keys := must(ReadKeys(data))(t)
	if len(keys) != 1 {
		t.Fatalf("%d keys, not one", len(keys))
	}
	return keys[0]
}

// word is that of a refusal, or "" for none.
func word(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var f *fault.Fault
	if !errors.As(err, &f) || f.Kind != fault.Refused {
		t.Fatalf("not a refusal: %v", err)
	}
	return f.Reason
}

func wants(t testing.TB, err error, want string) {
	t.Helper()
	if got := word(t, err); got != want {
		t.Errorf("refused with %q, not %q", got, want)
	}
}

// sealed is a whole message for one recipient.
func sealed(t testing.TB, c *Content, k Key, plain []byte) []byte {
	t.Helper()
	out := bytes.NewBuffer(must(c.KeyPacket(k, now))(t))
	if err := c.Encrypt(out, bytes.NewReader(plain), int64(len(plain))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// processor is the processor time this process has used: the tests of bounds
// must not depend on what else the machine does.
func processor(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// shared is a file of the keys and messages that ProtonMail/gopenpgp tests
// with, or nil where they are absent.
func shared(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	b, err := os.ReadFile(filepath.Join(dir, "openpgp-gopenpgp", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Logf("%s is absent", name)
		return nil
	}
	return must(b, err)(t)
}

var profiles = map[string]Profile{"curve25519": V4Curve25519, "rsa3072": V4RSA3072, "v6": V6Curve25519, "nistp256": V4NISTP256}
