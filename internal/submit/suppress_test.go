package submit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// A suppressed address is said in the answer, and nothing of its delivery is
// left to do; one that complained still gets what is no bulk mail.
func TestSuppressedAddressesAreAcceptedAndNotSent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := submittest.New(t, d, clock.System{}, "clinic.example")
		var bad error
		door := h.Door(func(deps *submit.Deps) {
			deps.Suppressed = func(_ context.Context, _ id.ID, to []mail.Address) ([]submit.Suppression, error) {
				all := make([]submit.Suppression, len(to))
				for i, a := range to {
					switch a.Local() {
					case "gone":
						all[i].All = spool.ReasonSuppressedHard
					case "cross":
						all[i].Bulk = spool.ReasonSuppressedComplaint
					}
				}
				return all, bad
			}
		})
		accept := func(purpose policy.Purpose, stream spool.Stream) (submit.Receipt, error) {
			draft := submit.Draft{Principal: auth.Principal{Org: h.Org.ID, Scopes: auth.Scopes()}, Source: spool.FromAPI, Purpose: purpose, Stream: stream,
				Message: strings.NewReader("From: ada@clinic.example\r\n\r\nx\r\n")}
			for _, local := range []string{"gone", "cross", "well"} {
				a, err := mail.ParseAddress(local + "@example.org")
				if err != nil {
					t.Fatal(err)
				}
				draft.Recipients = append(draft.Recipients, a)
			}
			return door.Accept(t.Context(), draft)
		}
		for _, tc := range []struct {
			purpose policy.Purpose
			stream  spool.Stream
			want    [3]spool.State
		}{
			{policy.Treatment, "", [3]spool.State{spool.Suppressed, spool.Ready, spool.Ready}},
			{policy.Marketing, "", [3]spool.State{spool.Suppressed, spool.Suppressed, spool.Ready}},
			{policy.Treatment, spool.Bulk, [3]spool.State{spool.Suppressed, spool.Suppressed, spool.Ready}},
		} {
			purpose, want := tc.purpose, tc.want
			r, err := accept(purpose, tc.stream)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range r.Deliveries {
				if f.State != want[i] {
					t.Errorf("%s, %d: %s, want %s", purpose, i, f.State, want[i])
				}
				if err := d.Read(t.Context(), h.Org.ID, func(tx *db.Tx) error {
					s, err := spool.StandingOf(tx, f.Delivery)
					if s.State != want[i] {
						t.Errorf("%s, %d: recorded as %s", purpose, i, s.State)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		bad = errors.New("the list cannot be read")
		if _, err := accept(policy.Treatment, ""); !errors.Is(err, bad) {
			t.Errorf("with a list that cannot be read: %v", err)
		}
	})
}
