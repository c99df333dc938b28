package pickup_test

import (
	"encoding/base64"
	"testing"

	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/private"
)

func decode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestKnownBrowser(t *testing.T) {
	if !pickup.KnownBrowser(pickup.NewBrowser()) {
		t.Error("a new token is not known")
	}
	for _, s := range []string{"", "x", encode(make([]byte, 31)), encode(make([]byte, 33)), encode(make([]byte, 32)) + "="} {
		if pickup.KnownBrowser(private.NewString(s)) {
			t.Errorf("%q is known", s)
		}
	}
}
