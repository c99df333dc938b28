package ledger_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// Who asks for one type gets exactly the entries that have it, for every type
// there is, and goes on behind all that was looked at. What an entry says does
// not make it one of another type.
func TestReadingOneType(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		org, types := id.New(), ledger.Types()
		for _, typ := range types {
			appendFacts(t, d, org, ledger.Fact{Type: typ, At: when, Message: id.New(), Delivery: id.New(),
				Data: struct {
					Said string `json:"said"`
				}{`","type":"delivery.failed","at":`}})
		}
		place(t, d, 0)
		if err := d.Read(context.Background(), org, func(tx *db.Tx) error {
			all, _, err := ledger.ReadTx(tx, ledger.Start, len(types))
			if err != nil {
				return err
			}
			for _, typ := range types {
				want := slices.DeleteFunc(slices.Clone(all), func(e ledger.Event) bool { return e.Type != typ })
				got, next, err := ledger.ReadTypes(tx, ledger.Start, len(types), typ)
				if err != nil {
					return err
				}
				if len(got) != 1 || !reflect.DeepEqual(got, want) || next != int64(len(types)-1) {
					t.Errorf("%s: %d entries up to %d, want %d", typ, len(got), next, len(want))
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}
