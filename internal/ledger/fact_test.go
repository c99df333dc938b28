package ledger_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)

type evidence struct {
	Grade string `json:"grade,omitempty"`
	N     int    `json:"n"`
}

func appendFacts(t testing.TB, d *db.DB, org id.ID, facts ...ledger.Fact) {
	t.Helper()
	if err := d.Write(context.Background(), org, func(tx *db.Tx) error { return ledger.Append(tx, facts...) }); err != nil {
		t.Fatal(err)
	}
}

func TestALeafIsOneCanonicalLine(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		org, msg, dlv := id.New(), id.New(), id.New()
		appendFacts(t, d, org,
			ledger.Fact{Type: ledger.DeliverySealed, Message: msg, Delivery: dlv, At: when.In(time.FixedZone("x", 3600)), Data: evidence{"verified", 1}},
			ledger.Fact{Type: ledger.OrgCreated, At: when, Data: struct{}{}},
		)
		var leaves []string
		if err := d.Read(context.Background(), org, func(tx *db.Tx) error {
			rows, err := tx.Query("SELECT e.leaf FROM ledger_entries e JOIN ledger_unplaced u ON u.num = e.num WHERE e.org_id = ? ORDER BY e.num", org)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var leaf []byte
				if err := rows.Scan(&leaf); err != nil {
					return err
				}
				leaves = append(leaves, string(leaf))
			}
			return rows.Err()
		}); err != nil {
			t.Fatal(err)
		}
		if len(leaves) != 2 {
			t.Fatalf("%d leaves, want 2", len(leaves))
		}
		want := []string{
			`{"v":1,"id":"EVT","org":"` + org.Text(id.Org) + `","type":"delivery.sealed","at":"2026-03-04T05:06:07.000089Z","message_id":"` +
				msg.Text(id.Message) + `","delivery_id":"` + dlv.Text(id.Delivery) + `","data":{"grade":"verified","n":1}}`,
			`{"v":1,"id":"EVT","org":"` + org.Text(id.Org) + `","type":"org.created","at":"2026-03-04T05:06:07.000089Z"}`,
		}
		for i, leaf := range leaves {
			var head struct{ ID string }
			if err := json.Unmarshal([]byte(leaf), &head); err != nil {
				t.Fatal(err)
			}
			if _, err := id.Parse(id.Event, head.ID); err != nil {
				t.Fatal(err)
			}
			if got := strings.Replace(leaf, head.ID, "EVT", 1); got != want[i] {
				t.Errorf("leaf %d\n got %s\nwant %s", i, got, want[i])
			}
		}
	})
}

func TestUnfitFactsAreRefused(t *testing.T) {
	d := dbtest.SQLite(t)
	good := ledger.Fact{Type: ledger.OrgCreated, At: when}
	for name, spoil := range map[string]func(*ledger.Fact){
		"type":           func(f *ledger.Fact) { f.Type = "org.renamed" },
		"time":           func(f *ledger.Fact) { f.At = time.Time{} },
		"map":            func(f *ledger.Fact) { f.Data = map[string]string{} },
		"map inside":     func(f *ledger.Fact) { f.Data = struct{ A []struct{ M map[string]int } }{} },
		"any inside":     func(f *ledger.Fact) { f.Data = &struct{ A any }{} },
		"number":         func(f *ledger.Fact) { f.Data = 7 },
		"redacted clear": func(f *ledger.Fact) { f.Data = struct{ S private.String }{} },
		"no key":         func(f *ledger.Fact) { f.Private = struct{ S string }{} },
		"too large":      func(f *ledger.Fact) { f.Data = struct{ S string }{strings.Repeat("x", 300<<10)} },
	} {
		f := good
		spoil(&f)
		err := d.Write(context.Background(), id.New(), func(tx *db.Tx) error { return ledger.Append(tx, f) })
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	appendFacts(t, d, id.New(), good)
}
