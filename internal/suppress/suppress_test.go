package suppress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

const day = 24 * time.Hour

type world struct {
	*Service
	t     *testing.T
	clock *clock.Fake
	org   id.ID
	other id.ID
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)), org: id.New(), other: id.New()}
	w.Service = New(Deps{DB: d, Custody: custodytest.New(t, d, w.org, w.other), Clock: w.clock,
		Rules: Rules{HardFor: 180 * day, SoftCount: 3, SoftWithin: 14 * day, SoftFor: 10 * day}})
	return w
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func (w *world) bounced(to string, hard bool) {
	w.t.Helper()
	b := Bounce{Recipient: address(to), Delivery: id.New(), Hard: hard}
	w.twice(func(tx *db.Tx) error { return w.Bounced(tx, b) })
}

func (w *world) complained(to string) {
	w.t.Helper()
	delivery := id.New()
	w.twice(func(tx *db.Tx) error { return w.Complained(tx, address(to), delivery) })
}

// twice commits the same thing two times, as reports come.
func (w *world) twice(fn func(*db.Tx) error) {
	w.t.Helper()
	for range 2 {
		if err := w.DB.Write(context.Background(), w.org, fn); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) want(to string, want Found) {
	w.t.Helper()
	w.clock.Advance(trustFor)
	found, err := w.Check(context.Background(), w.org, []mail.Address{address("nobody@example.org"), address(to)})
	if err != nil {
		w.t.Fatal(err)
	}
	if found == nil {
		found = make([]Found, 2)
	}
	if found[1] != want || found[0] != (Found{}) {
		w.t.Fatalf("%s: %+v, want %+v", to, found, want)
	}
}

func TestRules(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		ctx := context.Background()
		w.want("gone@example.org", Found{})
		w.bounced("Gone@Example.org", true)
		w.want("gone@example.org", Found{All: HardBounce})
		w.clock.Advance(179 * day)
		w.want("gone@example.org", Found{All: HardBounce})
		w.clock.Advance(day)
		w.want("gone@example.org", Found{})
		w.bounced("gone@example.org", true) // again, in the row that has ended
		w.want("gone@example.org", Found{All: HardBounce})

		// Full three times within two weeks, not within three.
		for range 4 {
			w.bounced("slow@example.org", false)
			w.clock.Advance(7 * day)
			w.want("slow@example.org", Found{})
		}
		for range 2 {
			w.want("full@example.org", Found{})
			w.bounced("full@example.org", false)
		}
		w.bounced("full@example.org", false)
		w.want("full@example.org", Found{All: SoftBounces})
		w.bounced("full@example.org", true)
		w.want("full@example.org", Found{All: HardBounce})

		// A complaint stops bulk mail and nothing else, for ever.
		w.complained("cross@example.org")
		w.clock.Advance(3650 * day)
		w.want("cross@example.org", Found{Bulk: Complaint})
		if found := (Found{Bulk: Complaint}); found.Of(false) != "" || found.Of(true) != Complaint {
			t.Error("a complaint stops more than bulk mail")
		}

		// A person's word stands above the rules.
		if err := w.Allow(ctx, w.org, address("cross@example.org"), w.clock.Now().Add(30*day), "test"); err != nil {
			t.Fatal(err)
		}
		w.complained("cross@example.org")
		w.bounced("cross@example.org", true)
		w.want("cross@example.org", Found{})
		w.clock.Advance(31 * day)
		w.bounced("cross@example.org", true)
		w.want("cross@example.org", Found{All: HardBounce})
		if err := w.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		w.want("cross@example.org", Found{All: HardBounce})
	})
}

func TestPeople(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		ctx := context.Background()
		e, err := w.Add(ctx, Entry{Org: w.org, Address: address("stop@example.org"), Scope: All, Note: private.NewString("asked by phone")}, "test")
		if err != nil {
			t.Fatal(err)
		}
		w.want("stop@example.org", Found{All: Manual})
		w.bounced("stop@example.org", true)
		w.want("stop@example.org", Found{All: Manual}) // and does not end with the rule's time
		all, err := w.List(ctx, w.org, address("STOP@example.org"), id.ID{}, 10)
		if err != nil || len(all) != 1 || all[0].ID != e.ID || all[0].Note.Reveal() != "asked by phone" || all[0].Address.Reveal() != "stop@example.org" {
			t.Fatalf("%+v, %v", all, err)
		}
		if err := w.Remove(ctx, w.other, e.ID, "test"); !fault.Is(err, fault.NotFound) {
			t.Errorf("another organization's entry: %v", err)
		}
		if found, err := w.Check(ctx, w.other, []mail.Address{address("stop@example.org")}); err != nil || found != nil {
			t.Errorf("another organization: %v, %v", found, err)
		}
		if err := w.Remove(ctx, w.org, e.ID, "test"); err != nil {
			t.Fatal(err)
		}
		w.want("stop@example.org", Found{})
		if err := w.Remove(ctx, w.org, e.ID, "test"); !fault.Is(err, fault.NotFound) {
			t.Errorf("a second time: %v", err)
		}
		if _, err := w.Add(ctx, Entry{Org: w.org, Address: address("a@example.org"), Scope: None}, "test"); !fault.Is(err, fault.Invalid) {
			t.Errorf("scope none: %v", err)
		}
		w.ledgerHas(t, []ledger.Type{ledger.SuppressAdded, ledger.SuppressRemoved})
		w.nothingInClear(t, "stop@", "asked by phone")
	})
}

// ledgerHas wants these types in the organization's ledger, in order.
func (w *world) ledgerHas(t *testing.T, want []ledger.Type) {
	t.Helper()
	ctx := context.Background()
	if _, err := ledger.Place(ctx, w.DB, 0); err != nil {
		t.Fatal(err)
	}
	events, _, err := ledger.Read(ctx, w.DB, w.org, -1, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []ledger.Type
	for _, e := range events {
		got = append(got, e.Type)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the ledger has %v, want %v", got, want)
	}
}

// nothingInClear looks at every column of the rows and of the ledger.
func (w *world) nothingInClear(t *testing.T, words ...string) {
	t.Helper()
	if err := w.DB.Read(context.Background(), w.org, func(tx *db.Tx) error {
		leaves, err := db.All(tx, db.Value[[]byte], "SELECT leaf FROM ledger_entries WHERE org_id = ?", w.org)
		if err != nil {
			return err
		}
		sealed, err := db.All(tx, db.Value[[]byte], "SELECT sealed FROM suppress_entries WHERE org_id = ?", w.org)
		for _, b := range append(leaves, sealed...) {
			for _, word := range words {
				if bytes.Contains(b, []byte(word)) {
					t.Errorf("%q stands in clear", word)
				}
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		ctx := context.Background()
		var file strings.Builder
		file.WriteString("\ufeffAddress,note,scope,reason,expires_at\r\n=cmd@example.org,\"a, \"\"b\"\"\",,,\r\n'=cmd@example.org,twice,,,\r\nada@example.org,,bulk,complaint,2030-01-02T03:04:05Z\r\n")
		const more = importPage + 7
		for i := range more {
			fmt.Fprintf(&file, "p%d@example.org,,,,\n", i)
		}
		done, err := w.Import(ctx, w.org, strings.NewReader(file.String()), "test")
		if err != nil || done != (Imported{Rows: more + 3, Added: more + 2}) {
			t.Fatalf("%+v, %v", done, err)
		}
		w.want("=CMD@example.org", Found{All: Import})
		w.want("ada@example.org", Found{Bulk: Complaint})
		w.want(fmt.Sprintf("p%d@example.org", more-1), Found{All: Import})
		w.ledgerHas(t, []ledger.Type{ledger.SuppressImported, ledger.SuppressImported})
		again, err := w.Import(ctx, w.org, strings.NewReader(file.String()), "test")
		if err != nil || again.Added != 0 {
			t.Fatalf("a second time: %+v, %v", again, err)
		}

		var out bytes.Buffer
		if n, err := w.Export(ctx, w.org, &out); err != nil || n != more+2 {
			t.Fatalf("%d exported, %v", n, err)
		}
		if !strings.Contains(out.String(), "\n'=cmd@example.org,all,import,") || strings.Contains(out.String(), "\n=") {
			t.Errorf("a formula is not inert:\n%.300s", out.String())
		}
		back, err := w.Import(ctx, w.other, bytes.NewReader(out.Bytes()), "test")
		if err != nil || back.Added != more+2 {
			t.Fatalf("what was exported: %+v, %v", back, err)
		}
		var second bytes.Buffer
		if _, err := w.Export(ctx, w.other, &second); err != nil || second.String() != out.String() {
			t.Errorf("exported, imported and exported again it differs: %v", err)
		}
	})
}

func TestMistakesInFiles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		for name, tc := range map[string]struct {
			file  string
			lines []int
		}{
			"empty":        {"", []int{1}},
			"no header":    {"ada@example.org\n", []int{1}},
			"no address":   {"scope\nall\n", []int{1}},
			"twice":        {"address,address\n", []int{1}},
			"all of them":  {"address,scope,reason,created_at,expires_at,note\nok@example.org,,,,,\nada,,,,,\na@b.example,some,,,,\na@b.example,,because,,,\na@b.example,,,2999-01-01T00:00:00Z,2001-01-01T00:00:00Z,\na@b.example,,,soon,,\na@b.example\na@b.example,,,,,\"x\x00\"\n", []int{3, 4, 5, 6, 6, 7, 8, 9}},
			"quotes":       {"address\na@b.example\n\"a@b.example\n", []int{3}},
			"a long line":  {"address\na@b.example\n" + strings.Repeat("x", 1<<20), []int{3}},
			"allowed":      {"address,reason\na@b.example,allowed\n", []int{2}},
			"scope none":   {"address,scope\na@b.example,none\n", []int{2}},
			"empty values": {"address,scope\n,\n", []int{2}},
		} {
			_, err := w.Import(context.Background(), w.org, strings.NewReader(tc.file), "test")
			var bad *BadFile
			if !errors.As(err, &bad) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var lines []int
			for _, m := range bad.Mistakes {
				lines = append(lines, m.Line)
				if strings.Contains(m.Text, "a@b") {
					t.Errorf("%s: a mistake shows a value: %s", name, m.Text)
				}
			}
			if !slices.Equal(lines, tc.lines) {
				t.Errorf("%s: lines %v, want %v: %+v", name, lines, tc.lines, bad.Mistakes)
			}
		}
		if all, err := w.List(context.Background(), w.org, mail.Address{}, id.ID{}, 10); err != nil || len(all) != 0 {
			t.Errorf("%d entries of files with mistakes, %v", len(all), err)
		}
	})
}

// FuzzImport: a file is refused with mistakes, or every entry of it comes back
// from what is exported.
func FuzzImport(f *testing.F) {
	f.Add("address,note\n=a@example.org,\"-x\"\n")
	f.Add("address,scope,reason,created_at,expires_at,note\n'@ada@example.org,bulk,manual,2020-01-01T00:00:00Z,,\n")
	f.Add("address\n\"a\rb\"@example.org\n")
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	f.Fuzz(func(t *testing.T, file string) {
		rs, err := newRecords(strings.NewReader(file), id.ID{}, now)
		if err != nil {
			return
		}
		for {
			e, ok, err := rs.next()
			if err != nil {
				return
			}
			if !ok {
				continue
			}
			for i, c := range cells(e) {
				if c != "" && i != 0 && i != 5 && strings.ContainsAny(c[:1], formula) || (i == 0 || i == 5) && plain(c) == c && c != "" && strings.ContainsAny(c[:1], formula) {
					t.Fatalf("cell %q can run", c)
				}
			}
			if got := plain(cells(e)[0]); got != e.Address.Reveal() {
				t.Fatalf("%q came back as %q", e.Address.Reveal(), got)
			}
		}
	})
}
