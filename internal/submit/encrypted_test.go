package submit_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

// TestWhatTheSenderEncryptedIsNotEncryptedAgain: it is told by its structure,
// so armor that is cut short, and a header that only says so, are not enough.
func TestWhatTheSenderEncryptedIsNotEncryptedAgain(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	to, now := addr(t, "x@y.example"), time.Now()
	secret, err := openpgp.Generate(openpgp.V4Curve25519, "", to, now.Add(-time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	body := seal.Body{Size: int64(len(plain)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(plain)), nil
	}}
	batch, err := seal.PGPBatch(context.Background(), body, false, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := seal.PGP(batch, to, to, policy.Encrypted, secret.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	encrypted, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.Replace(string(encrypted), "-----END PGP MESSAGE-----", "", 1)
	says := strings.Replace(plain, "Subject:", "MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\nSubject:", 1)
	for name, tc := range map[string]struct {
		message string
		again   bool
	}{"encrypted": {string(encrypted), false}, "plain": {plain, true}, "cut short": {cut, true}, "only said to be": {says, true}} {
		receipt, err := h.door.Accept(context.Background(), h.draft(tc.message, "x@y.example"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, deliveries, _ := h.stored(receipt.Message)
		if got := slices.Contains(deliveries[0].Plan.Seals, policy.PGP); got != tc.again {
			t.Errorf("%s: the seals are %v", name, deliveries[0].Plan.Seals)
		}
	}
}
