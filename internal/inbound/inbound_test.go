package inbound_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit/submittest"
	"github.com/sealpost/sealpost/internal/suppress"
)

var ctx = context.Background()

const (
	sender  = "ada@clinic.example"
	patient = "patient@example.org"
)

type world struct {
	*submittest.House
	clock *clock.Fake
	door  *inbound.Door
	told  []string
}

func newWorld(t *testing.T, d *db.DB, change func(*inbound.Deps)) *world {
	t.Helper()
	w := &world{clock: clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))}
	w.House = submittest.New(t, d, w.clock, "clinic.example")
	w.door = inboundtest.Door(t, w.House, w.Org.ID, "clinic.example", func(deps *inbound.Deps) {
		deps.Told = func(_ context.Context, _, _ id.ID, domain, what string) { w.told = append(w.told, what+" "+domain) }
		if change != nil {
			change(deps)
		}
	})
	return w
}

// path is the return path of a delivery.
func (w *world) path(it spool.Item) mail.Address {
	w.T.Helper()
	a, err := w.door.Paths.Address(ctx, it.Org, inboundtest.Sender(w.T, sender), it.ID)
	if err != nil {
		w.T.Fatal(err)
	}
	return a
}

func (w *world) bring(text string, to ...mail.Address) error {
	w.T.Helper()
	a := inbound.Arrival{Peer: netip.MustParseAddr("192.0.2.1"), EHLO: "mx.example.org", Protocol: "ESMTP"}
	for _, addr := range to {
		t, err := w.door.Recipient(ctx, netip.Prefix{}, addr)
		if err != nil {
			return err
		}
		a.Tickets = append(a.Tickets, t)
	}
	return w.door.Accept(ctx, a, strings.NewReader(text))
}

// taken brings what must be taken.
func (w *world) taken(text string, to mail.Address) {
	w.T.Helper()
	if err := w.bring(text, to); err != nil {
		w.T.Fatal(err)
	}
}

// facts are the types of a delivery's ledger entries behind its last attempt,
// and the data of the last one.
func (w *world) facts(it spool.Item) (types []ledger.Type, last map[string]any, sealed bool) {
	w.T.Helper()
	if err := w.DB.Read(ctx, it.Org, func(tx *db.Tx) error {
		all, err := ledger.ForDelivery(tx, it.Message, it.ID)
		types = nil
		for _, e := range all[2:] { // sealed, and the state
			types, last, sealed = append(types, e.Type), nil, e.HasPrivate()
			err = errors.Join(err, json.Unmarshal(e.Data, &last))
		}
		return err
	}); err != nil {
		w.T.Fatal(err)
	}
	return types, last, sealed
}

func (w *world) suppressed(to string) suppress.Found {
	w.T.Helper()
	w.clock.Advance(4 * time.Second)
	found, err := w.door.Suppress.Check(ctx, w.Org.ID, []mail.Address{inboundtest.Sender(w.T, to)})
	if err != nil {
		w.T.Fatal(err)
	}
	if found == nil {
		return suppress.Found{}
	}
	return found[0]
}

func TestABounceSettlesItsDelivery(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		gone := inboundtest.Bounce(patient, "failed", "5.1.1", "550 5.1.1 <"+patient+">: canary-diagnostic user unknown")
		for _, state := range []spool.State{spool.Delivered, spool.Waiting} {
			it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, state)
			path := w.path(it)
			if path.Domain() != "bounce.clinic.example" || len(path.Local()) != 41 || path.Reveal() != strings.ToLower(path.Reveal()) {
				t.Fatalf("return path %s of %d octets", path.Domain(), len(path.Local()))
			}
			upper := inboundtest.Sender(t, strings.ToUpper(path.Local())+"@"+path.Domain())
			w.told = nil
			w.taken(gone, upper)
			w.taken(gone, path)
			if s := inboundtest.State(t, w.House, it); s != spool.Failed {
				t.Errorf("%s became %s", state, s)
			}
			types, data, sealed := w.facts(it)
			if !slices.Equal(types, []ledger.Type{ledger.DeliveryFailed}) || !sealed || data["reason"] != "bounced" || data["class"] != "mailbox_unknown" ||
				data["permanent"] != true || data["status"] != "5.1.1" || data["code"] != 550.0 || data["reporter"] != "mx.example.org" {
				t.Errorf("%s: %v %v", state, types, data)
			}
			if !slices.Equal(w.told, []string{"bounced example.org"}) {
				t.Errorf("told %v", w.told)
			}
		}
		if f := w.suppressed(patient); f != (suppress.Found{All: suppress.HardBounce}) {
			t.Errorf("suppressed: %+v", f)
		}
		if c := w.door.Counts(); c["bounce"] != 2 || c["repeated"] != 2 {
			t.Errorf("counts %v", c)
		}
		w.nothingInClear(t)
	})
}

// nothingInClear looks for what reports quote.
func (w *world) nothingInClear(t *testing.T) {
	t.Helper()
	if err := w.DB.Read(ctx, w.Org.ID, func(tx *db.Tx) error {
		leaves, err := db.All(tx, db.Value[[]byte], "SELECT leaf FROM ledger_entries WHERE org_id = ?", w.Org.ID)
		for _, leaf := range leaves {
			if strings.Contains(string(leaf), "canary") || strings.Contains(string(leaf), "patient") {
				t.Errorf("in clear: %s", leaf)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// What stands where a bounce changes nothing is recorded once, and a delivery
// that comes to stand where it does is settled by the next.
func TestWhereABounceChangesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		gone := inboundtest.Bounce(patient, "failed", "5.1.1", "550 5.1.1 no")
		for _, state := range []spool.State{spool.Ready, spool.Failed, spool.Expired} {
			it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, state)
			w.taken(gone, w.path(it))
			w.taken(gone, w.path(it))
			if s := inboundtest.State(t, w.House, it); s != state {
				t.Errorf("%s became %s", state, s)
			}
		}
		it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Waiting)
		if err := w.DB.Write(ctx, w.Org.ID, func(tx *db.Tx) error { return spool.MarkRead(tx, it.Message, it.ID, w.clock.Now()) }); err != nil {
			t.Fatal(err)
		}
		w.taken(gone, w.path(it))
		w.taken(gone, w.path(it))
		if types, data, _ := w.facts(it); !slices.Equal(types, []ledger.Type{ledger.DeliveryRead, ledger.DeliveryReported}) || data["kind"] != "bounce" {
			t.Errorf("%v %v", types, data)
		}
		if f := w.suppressed(patient); f != (suppress.Found{}) {
			t.Errorf("who read a message is suppressed: %+v", f)
		}
		it = inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Sending)
		if err := w.bring(gone, w.path(it)); !fault.Is(err, fault.TooMany) || fault.SMTP(err).Code != 451 {
			t.Errorf("a bounce that overtakes our own record: %v", err)
		}
		it = inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Delivered)
		w.taken(inboundtest.Bounce(patient, "delayed", "4.4.1", "451 4.4.1 later"), w.path(it))
		w.taken(inboundtest.Bounce(patient, "delayed", "4.4.1", "451 4.4.1 later"), w.path(it))
		w.taken(inboundtest.Bounce(patient, "delivered", "2.0.0", "250 2.0.0 ok"), w.path(it))
		if types, _, _ := w.facts(it); !slices.Equal(types, []ledger.Type{ledger.DeliveryReported, ledger.DeliveryReported}) {
			t.Errorf("%v", types)
		}
		if s := inboundtest.State(t, w.House, it); s != spool.Delivered {
			t.Errorf("a delay made it %s", s)
		}
		heard := func() (n int) {
			if err := w.DB.Read(ctx, w.Org.ID, func(tx *db.Tx) error { return tx.Row("SELECT count(*) FROM inbound_heard").Scan(&n) }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := heard()
		w.clock.Advance(59 * 24 * time.Hour)
		if err := w.door.Tidy(ctx); err != nil || before == 0 || heard() != before {
			t.Errorf("too early: %d of %d left, %v", heard(), before, err)
		}
		w.clock.Advance(2 * 24 * time.Hour)
		if err := w.door.Tidy(ctx); err != nil || heard() != 0 {
			t.Errorf("%d left, %v", heard(), err)
		}
	})
}

func TestForgedReturnPaths(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		other := w.NewOrg("other", "other.example")
		theirs := inboundtest.Door(t, w.House, other.ID, "other.example", nil)
		it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Delivered)
		foreign := inboundtest.Sent(t, w.House, other.ID, "bob@other.example", patient, spool.Delivered)
		own := w.path(it)
		their, err := theirs.Paths.Address(ctx, other.ID, inboundtest.Sender(t, "bob@other.example"), foreign.ID)
		if err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(4 * time.Second)
		local := own.Local()
		change := func(i int) string {
			c := byte('a')
			if local[i] == c {
				c = 'q'
			}
			return local[:i] + string(c) + local[i+1:]
		}
		forged := []string{change(1), change(5), change(len(local) - 1), change(30), local[:40], local + "a", "b", "x" + local[1:], their.Local(), "dr.ada", "", "mailer-daemon"}
		want := ""
		for _, l := range append(forged, "elsewhere") {
			to, err := mail.ParseAddress(l + "@bounce.clinic.example")
			if l == "elsewhere" {
				to, err = mail.ParseAddress(local + "@bounce.nobody.example")
			}
			if err != nil {
				continue // "" is no address
			}
			_, err = w.door.Recipient(ctx, netip.Prefix{}, to)
			if r := fault.SMTP(err); r.Code != 550 || r.Enhanced != [3]int{5, 1, 1} || want != "" && r.Text != want {
				t.Errorf("%q: %+v", l, r)
			} else {
				want = r.Text
			}
		}
		// The address of one organization's delivery at the host of another.
		moved := inboundtest.Sender(t, local+"@bounce.other.example")
		if _, err := w.door.Recipient(ctx, netip.Prefix{}, moved); !fault.Is(err, fault.NotFound) {
			t.Errorf("at another organization's host: %v", err)
		}
		if err := w.bring(inboundtest.Bounce(patient, "failed", "5.1.1", "550 no"), their); err != nil {
			t.Fatal(err)
		}
		if a, b := inboundtest.State(t, w.House, it), inboundtest.State(t, w.House, foreign); a != spool.Delivered || b != spool.Failed {
			t.Errorf("%s and %s", a, b)
		}
		// A month later nobody hears of it any more.
		w.clock.Advance(31 * 24 * time.Hour)
		if _, err := w.door.Recipient(ctx, netip.Prefix{}, own); !fault.Is(err, fault.NotFound) {
			t.Errorf("a month later: %v", err)
		}
	})
}

func TestComplaintsStopBulkMailOnly(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Delivered)
		path := w.path(it)
		w.taken(inboundtest.Complaint(path.Reveal(), "abuse"), inboundtest.Sender(t, "abuse@bounce.clinic.example"))
		w.taken(inboundtest.Complaint(path.Reveal(), "abuse"), path)
		types, data, _ := w.facts(it)
		if !slices.Equal(types, []ledger.Type{ledger.DeliveryComplained}) || data["feedback"] != "abuse" {
			t.Errorf("%v %v", types, data)
		}
		if s := inboundtest.State(t, w.House, it); s != spool.Delivered {
			t.Errorf("a complaint made it %s", s)
		}
		if f := w.suppressed(patient); f != (suppress.Found{Bulk: suppress.Complaint}) {
			t.Errorf("suppressed: %+v", f)
		}
		// One that says it is no spam, and one with a return path that is forged.
		it = inboundtest.Sent(t, w.House, w.Org.ID, sender, "fond@example.org", spool.Delivered)
		w.taken(inboundtest.Complaint(w.path(it).Reveal(), "not-spam"), w.path(it))
		forged := strings.Replace(w.path(it).Reveal(), "b", "ba", 1)
		w.taken(inboundtest.Complaint(forged, "abuse"), inboundtest.Sender(t, "postmaster@"+inboundtest.Hostname))
		if f := w.suppressed("fond@example.org"); f != (suppress.Found{}) {
			t.Errorf("suppressed: %+v", f)
		}
		w.nothingInClear(t)
	})
}

func TestWhatSaysNothingSettlesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Delivered)
		for _, text := range []string{
			"", "\r\n", "no header at all", "From: a@b.example\r\nSubject: Re: your message\r\n\r\nThank you!\r\n",
			"From: a@b.example\r\nAuto-Submitted: auto-replied\r\nSubject: Out of office\r\n\r\nI am away.\r\n",
			strings.Repeat("x", 150_000),
		} {
			w.taken(text, w.path(it))
		}
		if err := w.bring("Subject: x\r\n\r\n"+strings.Repeat("x", 200_001), w.path(it)); fault.SMTP(err).Code != 552 {
			t.Errorf("a mail beyond the limit: %v", err)
		}
		// What stands in front of a large returned message is understood.
		types, _, _ := w.facts(it)
		if len(types) != 0 || inboundtest.State(t, w.House, it) != spool.Delivered {
			t.Errorf("%v", types)
		}
		w.taken(inboundtest.Bounce(patient, "failed", "5.2.2", "552 5.2.2 full")+strings.Repeat("x", 150_000), w.path(it))
		if s := inboundtest.State(t, w.House, it); s != spool.Failed {
			t.Errorf("with much behind it: %s", s)
		}
		if f := w.suppressed(patient); f != (suppress.Found{}) {
			t.Errorf("one full mailbox suppresses: %+v", f)
		}
		if c := w.door.Counts(); c["autoreply"] != 1 || c["unreadable"] != 5 || c["too_large"] != 1 {
			t.Errorf("counts %v", c)
		}
	})
}

func TestReportsMembersAndThePostmaster(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var got []string
		member := inboundtest.Sender(t, "member@clinic.example")
		w := newWorld(t, d, func(deps *inbound.Deps) {
			deps.Report = func(_ context.Context, _ id.ID, word string, r io.Reader) error {
				b, err := io.ReadAll(r)
				got = append(got, word+" "+string(b))
				return err
			}
			deps.Relay = &inbound.Relay{
				Knows: func(_ context.Context, _ netip.Prefix, to mail.Address) (id.ID, error) {
					if to.Normal() != member.Normal() {
						return id.ID{}, fault.New(fault.NotFound, "no_member", "No.")
					}
					return id.New(), nil
				},
				Accept: func(_ context.Context, a inbound.Arrival, r io.Reader) error {
					_, err := io.ReadAll(r)
					got = append(got, "member "+a.EHLO)
					return err
				},
			}
		})
		w.taken("one", inboundtest.Sender(t, "DMARC@bounce.clinic.example"))
		w.taken("two", inboundtest.Sender(t, "tlsrpt@bounce.clinic.example"))
		w.taken("three", member)
		w.taken("four", inboundtest.Sender(t, "Postmaster@bounce.clinic.example"))
		w.taken("five", inboundtest.Sender(t, "abuse@"+inboundtest.Hostname))
		if err := w.bring("six", inboundtest.Sender(t, "guest@clinic.example")); !fault.Is(err, fault.NotFound) {
			t.Errorf("nobody's mailbox: %v", err)
		}
		if !slices.Equal(got, []string{"dmarc one", "tlsrpt two", "member mx.example.org"}) {
			t.Errorf("%q", got)
		}
		one, err := w.door.Recipient(ctx, netip.Prefix{}, inboundtest.Sender(t, "dmarc@bounce.clinic.example"))
		if err != nil || one.With([]inbound.Ticket{w.door.PostmasterTicket()}) || !one.With(nil) || !one.With([]inbound.Ticket{one}) {
			t.Error("recipients of different kinds share a message")
		}
	})
}

// Mail that a recipient forwards may come back from there: the delivery failed,
// but the recipient's own mailbox is not the one that does not exist.
func TestABounceOfAForwardingAddressSparesTheRecipient(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		const elsewhere = "old@forwarded.example"
		it := inboundtest.Sent(t, w.House, w.Org.ID, sender, patient, spool.Delivered)
		w.taken(inboundtest.Bounce(elsewhere, "failed", "5.1.1", "550 5.1.1 <"+elsewhere+">: user unknown"), w.path(it))
		if s := inboundtest.State(t, w.House, it); s != spool.Failed {
			t.Errorf("it became %s", s)
		}
		for _, address := range []string{patient, elsewhere} {
			if f := w.suppressed(address); f != (suppress.Found{}) {
				t.Errorf("%s is suppressed: %+v", address, f)
			}
		}
	})
}
