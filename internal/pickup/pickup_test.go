package pickup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/pickup/pickuptest"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

const (
	public = "https://portal.example"
	letter = "From: \"Dr. Lee\" <dr.lee@clinic.example>\nTo: pat@home.example\nSubject: Your results\n" +
		"Date: Mon, 05 Oct 2026 11:02:00 +0200\nMIME-Version: 1.0\n" +
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nAll is well.\n" +
		"--b\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=\"results.pdf\"\nContent-Transfer-Encoding: base64\n\n" +
		"JVBERi0xLjQK\n--b--\n"
)

var ctx = context.Background()

func each(t *testing.T, fn func(t *testing.T, w *pickuptest.World)) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) { fn(t, pickuptest.New(t, d, public)) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wrong gives a code that is not this one.
func wrong(code private.String, n int) private.String {
	d := []byte(code.Reveal())
	d[0] = '0' + (d[0]-'0'+1+byte(n%9))%10
	return private.NewString(string(d))
}

func TestFromLinkToMessage(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		if !strings.HasPrefix(link.URL.Reveal(), public+"/m/") || len(pickuptest.Credential(link).Reveal()) != 64 {
			t.Error("the link has not the expected form")
		}
		if got := link.ExpiresAt.Sub(w.Clock.Now()); got != 30*24*time.Hour {
			t.Errorf("the link works for %v", got)
		}
		browser := pickup.NewBrowser()
		if !w.Ask(pickuptest.Credential(link), browser) {
			t.Fatal("no code was sent")
		}
		if w.Facts(d, ledger.PickupCodeSent) != 1 {
			t.Error("no ledger entry for the code")
		}
		session, err := w.Pickup.Redeem(ctx, pickuptest.Credential(link), browser, w.LastCode())
		must(t, err)
		if w.State(d) != spool.Read || w.Facts(d, ledger.PickupOpened) != 1 || w.Facts(d, ledger.DeliveryRead) != 1 {
			t.Errorf("after opening: %s", w.State(d))
		}
		o, err := w.Pickup.Open(ctx, session)
		must(t, err)
		defer o.Close()
		if o.View.Subject.Reveal() != "Your results" || !strings.Contains(o.View.Text.Reveal(), "All is well.") || o.OrgName != pickuptest.OrgName {
			t.Error("the message is not the one that was sent")
		}
		f, r, err := w.Pickup.Download(ctx, o, 0)
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		if f.Name.Reveal() != "results.pdf" || string(content) != "%PDF-1.4\n" || int64(len(content)) != f.Size {
			t.Errorf("file of %d octets", len(content))
		}
		if w.Facts(d, ledger.PickupDownloaded) != 1 {
			t.Error("no ledger entry for the download")
		}
		if _, _, err := w.Pickup.Download(ctx, o, 7); !errors.Is(err, pickup.ErrNoFile) {
			t.Errorf("a file that is not there: %v", err)
		}
		must(t, w.Pickup.Leave(ctx, session))
		if _, err := w.Pickup.Open(ctx, session); !errors.Is(err, pickup.ErrNoSession) {
			t.Errorf("after leaving: %v", err)
		}
	})
}

func TestCodeMailSaysNothingOfTheMessage(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		_, link := w.Send(letter, "pat@home.example")
		w.Ask(pickuptest.Credential(link), pickup.NewBrowser())
		mail := w.LastMail()
		for _, secret := range []string{"results", "dr.lee", "Lee", "All is well", pickuptest.Credential(link).Reveal()} {
			if bytes.Contains(mail, []byte(secret)) {
				t.Errorf("the code mail contains %q", secret)
			}
		}
		for _, want := range []string{"Auto-Submitted: auto-generated", "From: \"Riverside Clinic\" <secure-message@clinic.example>", "for ten minutes"} {
			if !bytes.Contains(mail, []byte(want)) {
				t.Errorf("the code mail lacks %q", want)
			}
		}
	})
}

func TestRetryOfANoticeCarriesTheSameLink(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d := w.Put(letter, "pat@home.example")
		first := w.StartSending(d)
		w.Clock.Advance(3 * time.Hour)
		second := w.StartSending(d)
		if first.URL.Reveal() != second.URL.Reveal() {
			t.Error("the retry carries another link")
		}
		if second.ExpiresAt.Sub(first.ExpiresAt) != 3*time.Hour {
			t.Error("the retry does not renew the link")
		}
	})
}

func TestFiveTriesAndNoMore(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		for n := range 5 {
			if _, err := w.Pickup.Redeem(ctx, c, browser, wrong(code, n)); !errors.Is(err, pickup.ErrRefused) {
				t.Fatalf("try %d: %v", n+1, err)
			}
		}
		if _, err := w.Pickup.Redeem(ctx, c, browser, code); !errors.Is(err, pickup.ErrRefused) {
			t.Fatalf("the sixth try: %v", err)
		}
		if n := w.Facts(d, ledger.PickupCodeRefused); n != 6 {
			t.Errorf("%d entries for refused codes", n)
		}
		for range 20 {
			_, _ = w.Pickup.Redeem(ctx, c, browser, code)
		}
		if n := w.Facts(d, ledger.PickupCodeRefused); n != 10 {
			t.Errorf("%d entries for refused codes: what is recorded is not bounded", n)
		}
		if w.State(d) != spool.Waiting {
			t.Errorf("the delivery is %s", w.State(d))
		}
	})
}

func TestRacingGuessesAreFive(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		var wg sync.WaitGroup
		for n := range 60 {
			wg.Go(func() {
				if _, err := w.Pickup.Redeem(ctx, c, browser, wrong(code, n)); !errors.Is(err, pickup.ErrRefused) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var tries int
		must(t, w.DB.Read(ctx, w.Org.ID, func(tx *db.Tx) error {
			return tx.Row("SELECT tries FROM pickup_codes WHERE delivery_id = ?", d.ID).Scan(&tries)
		}))
		if tries != 5 {
			t.Errorf("%d tries were taken", tries)
		}
	})
}

func TestRacingRedeemsAreOne(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		var wg sync.WaitGroup
		var mu sync.Mutex
		opened := 0
		for range 100 {
			wg.Go(func() {
				_, err := w.Pickup.Redeem(ctx, c, browser, code)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					opened++
				} else if !errors.Is(err, pickup.ErrRefused) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if opened != 1 || w.Facts(d, ledger.PickupOpened) != 1 {
			t.Errorf("redeemed %d times, %d entries", opened, w.Facts(d, ledger.PickupOpened))
		}
	})
}

func TestBrowserAndDeliveryAreBound(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		_, other := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		if _, err := w.Pickup.Redeem(ctx, c, pickup.NewBrowser(), code); !errors.Is(err, pickup.ErrRefused) {
			t.Errorf("in another browser: %v", err)
		}
		if _, err := w.Pickup.Redeem(ctx, pickuptest.Credential(other), browser, code); !errors.Is(err, pickup.ErrRefused) {
			t.Errorf("for another delivery: %v", err)
		}
		if n := w.Facts(d, ledger.PickupCodeRefused); n != 1 {
			t.Errorf("%d entries for a code in another browser", n)
		}
		_, err := w.Pickup.Redeem(ctx, c, browser, code)
		must(t, err)
		if _, err := w.Pickup.Redeem(ctx, c, browser, code); !errors.Is(err, pickup.ErrRefused) {
			t.Errorf("the second time: %v", err)
		}
	})
}

func TestEitherOfTwoCodesOpens(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		_, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		first := w.LastCode()
		if w.Ask(c, browser) {
			t.Error("a double click sent two codes")
		}
		w.Clock.Advance(time.Minute)
		if !w.Ask(c, browser) {
			t.Fatal("no second code")
		}
		second := w.LastCode()
		_, err := w.Pickup.Redeem(ctx, c, browser, first)
		must(t, err)
		if _, err := w.Pickup.Redeem(ctx, c, browser, second); !errors.Is(err, pickup.ErrRefused) {
			t.Errorf("the other code lives on: %v", err)
		}
	})
}

func TestCodesAnHourAndADay(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		_, link := w.Send(letter, "pat@home.example")
		c := pickuptest.Credential(link)
		sent := func(asks int) (n int) {
			for range asks {
				w.Clock.Advance(31 * time.Second)
				if w.Ask(c, pickup.NewBrowser()) {
					n++
				}
			}
			return n
		}
		if n := sent(8); n != 5 {
			t.Errorf("%d codes in the first hour", n)
		}
		w.Clock.Advance(time.Hour)
		if n := sent(8); n != 5 {
			t.Errorf("%d codes in the second hour", n)
		}
		w.Clock.Advance(time.Hour)
		if n := sent(3); n != 0 {
			t.Errorf("%d codes more than ten a day", n)
		}
		w.Clock.Advance(24 * time.Hour)
		must(t, w.Pickup.Purge(ctx))
		if n := sent(2); n != 2 {
			t.Errorf("%d codes on the next day", n)
		}
	})
}

func TestRacingAsksKeepTheLimit(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		_, link := w.Send(letter, "pat@home.example")
		p := pickup.New(w.Deps)
		for range 30 {
			p.RequestCode(pickuptest.Credential(link), pickup.NewBrowser())
		}
		must(t, p.Start(ctx))
		must(t, p.Start(ctx))
		p.Stop()
		p.Stop()
		if n := len(w.Items()); n != 5 {
			t.Errorf("%d codes were sent", n)
		}
		p.RequestCode(pickuptest.Credential(link), pickup.NewBrowser()) // after Stop: nothing, and no wait
	})
}

func TestTimeRunsOut(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		_, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		w.Clock.Advance(10 * time.Minute)
		if _, err := w.Pickup.Redeem(ctx, c, browser, w.LastCode()); !errors.Is(err, pickup.ErrRefused) {
			t.Errorf("a code of ten minutes: %v", err)
		}
		w.Ask(c, browser)
		w.Clock.Advance(10*time.Minute - time.Microsecond)
		session, err := w.Pickup.Redeem(ctx, c, browser, w.LastCode())
		must(t, err)
		w.Clock.Advance(15*time.Minute - time.Microsecond)
		_, err = w.Pickup.Open(ctx, session)
		must(t, err)
		w.Clock.Advance(time.Microsecond)
		if _, err := w.Pickup.Open(ctx, session); !errors.Is(err, pickup.ErrNoSession) {
			t.Errorf("a session of fifteen minutes: %v", err)
		}
		must(t, w.Pickup.Purge(ctx))
		if _, err := w.Pickup.Open(ctx, session); !errors.Is(err, pickup.ErrNoSession) {
			t.Errorf("a purged session: %v", err)
		}
	})
}

func TestLinksExpire(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		unread, link := w.Send(letter, "pat@home.example")
		seen, seenLink := w.Send(letter, "pat@home.example")
		browser := pickup.NewBrowser()
		w.Ask(pickuptest.Credential(seenLink), browser)
		_, err := w.Pickup.Redeem(ctx, pickuptest.Credential(seenLink), browser, w.LastCode())
		must(t, err)
		sending := w.Put(letter, "pat@home.example")
		w.StartSending(sending)

		w.Clock.Advance(30*24*time.Hour - time.Minute)
		must(t, w.Pickup.ExpireLinks(ctx))
		w.Ask(pickuptest.Credential(link), browser)
		code := w.LastCode()
		w.Clock.Advance(time.Minute)
		if _, err := w.Pickup.Redeem(ctx, pickuptest.Credential(link), browser, code); !errors.Is(err, pickup.ErrExpired) {
			t.Errorf("a right code for an expired link: %v", err)
		}
		if w.Ask(pickuptest.Credential(link), pickup.NewBrowser()) {
			t.Error("an expired link sent a code")
		}
		must(t, w.Pickup.ExpireLinks(ctx))
		must(t, w.Pickup.ExpireLinks(ctx))
		for d, want := range map[*spool.Delivery]spool.State{&unread: spool.Expired, &seen: spool.Read, &sending: spool.Sending} {
			if got := w.State(*d); got != want {
				t.Errorf("a delivery is %s, want %s", got, want)
			}
		}
		if n := w.Facts(unread, ledger.DeliveryExpired); n != 1 {
			t.Errorf("%d entries for one expiry", n)
		}
	})
}

func TestTakenBack(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		w.Write(func(tx *db.Tx) error {
			_, err := spool.Cancel(tx, d.ID, spool.ReasonSender, "", w.Clock.Now())
			return err
		})
		if _, err := w.Pickup.Redeem(ctx, c, browser, wrong(code, 0)); !errors.Is(err, pickup.ErrRefused) {
			t.Errorf("a wrong code: %v", err)
		}
		if _, err := w.Pickup.Redeem(ctx, c, browser, code); !errors.Is(err, pickup.ErrTakenBack) {
			t.Errorf("the right code: %v", err)
		}
		if w.Facts(d, ledger.PickupOpened) != 0 {
			t.Error("it counts as opened")
		}
		w.Clock.Advance(time.Hour)
		if w.Ask(c, browser) {
			t.Error("a code was sent")
		}
	})
}

func TestDestroyedContent(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		w.Write(func(tx *db.Tx) error {
			m, err := spool.LoadMessage(tx, w.Custody, d.Message)
			if err != nil {
				return err
			}
			return w.Custody.DestroyDataKey(tx, m.Key.ID)
		})
		if _, err := w.Pickup.Redeem(ctx, c, browser, code); !errors.Is(err, custody.ErrDestroyed) {
			t.Errorf("content that is destroyed: %v", err)
		}
		if w.Facts(d, ledger.PickupOpened) != 0 || w.State(d) != spool.Waiting {
			t.Error("it counts as opened")
		}
	})
}

func TestOpenedWhileItsNoticeIsOnItsWay(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d := w.Put(letter, "pat@home.example")
		c, browser := pickuptest.Credential(w.StartSending(d)), pickup.NewBrowser()
		w.Ask(c, browser)
		session, err := w.Pickup.Redeem(ctx, c, browser, w.LastCode())
		must(t, err)
		w.Accepted(d)
		if w.State(d) != spool.Waiting {
			t.Fatalf("the delivery is %s", w.State(d))
		}
		_, err = w.Pickup.Open(ctx, session)
		must(t, err)
		if w.State(d) != spool.Read {
			t.Errorf("the delivery is %s", w.State(d))
		}

		d = w.Put(letter, "pat@home.example")
		c = pickuptest.Credential(w.StartSending(d))
		w.Ask(c, browser)
		_, err = w.Pickup.Redeem(ctx, c, browser, w.LastCode())
		must(t, err)
		w.Accepted(d)
		w.Write(func(tx *db.Tx) error { return pickup.MarkIfOpened(tx, d.Message, d.ID, w.Clock.Now()) })
		if w.State(d) != spool.Read {
			t.Errorf("the engine leaves it %s", w.State(d))
		}
	})
}

// TestNobodyLearnsWhetherALinkIsReal looks at answers; the portal's tests look
// at the pages.
func TestNobodyLearnsWhetherALinkIsReal(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c := pickuptest.Credential(link).Reveal()
		other := "A"
		if c[40] == 'A' {
			other = "B"
		}
		held := w.Put(letter, "pat@home.example")
		heldLink := w.StartSending(held)
		w.Write(func(tx *db.Tx) error {
			_, err := tx.Exec("UPDATE spool_unsettled SET state = 'held' WHERE delivery_id = ?", held.ID)
			return err
		})
		for _, link := range []string{"", "x", c[:63], c + "A", c[:40] + other + c[41:], strings.Repeat("A", 64),
			strings.Repeat("/", 64), "\x00\xff", pickuptest.Credential(heldLink).Reveal()} {
			p, browser := private.NewString(link), pickup.NewBrowser()
			if w.Ask(p, browser) {
				t.Errorf("a code was sent for a link of %d octets", len(link))
			}
			if _, err := w.Pickup.Redeem(ctx, p, browser, private.NewString("000000")); !errors.Is(err, pickup.ErrRefused) {
				t.Errorf("a link of %d octets: %v", len(link), err)
			}
			if _, err := w.Pickup.Open(ctx, p); !errors.Is(err, pickup.ErrNoSession) {
				t.Errorf("a session of %d octets: %v", len(link), err)
			}
		}
		if w.State(d) != spool.Waiting {
			t.Errorf("the delivery is %s", w.State(d))
		}
	})
}

func TestTokensAreNotStored(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		d, link := w.Send(letter, "pat@home.example")
		c, browser := pickuptest.Credential(link), pickup.NewBrowser()
		w.Ask(c, browser)
		code := w.LastCode()
		session, err := w.Pickup.Redeem(ctx, c, browser, code)
		must(t, err)
		var all bytes.Buffer
		must(t, w.DB.Read(ctx, w.Org.ID, func(tx *db.Tx) error {
			var a, b, e, f, g []byte
			if err := tx.Row("SELECT token_sha256, token_sealed FROM pickup_links WHERE delivery_id = ?", d.ID).Scan(&a, &b); err != nil {
				return err
			}
			if err := tx.Row("SELECT code_hmac, browser_sha256 FROM pickup_codes WHERE delivery_id = ?", d.ID).Scan(&e, &f); err != nil {
				return err
			}
			err := tx.Row("SELECT token_sha256 FROM pickup_sessions WHERE delivery_id = ?", d.ID).Scan(&g)
			all.Write(bytes.Join([][]byte{a, b, e, f, g}, nil))
			return err
		}))
		for what, s := range map[string]string{"link": c.Reveal(), "browser": browser.Reveal(), "session": session.Reveal()} {
			token := decode(t, s)
			if bytes.Contains(all.Bytes(), token[len(token)-32:]) {
				t.Errorf("the %s is stored in clear", what)
			}
		}
		if bytes.Contains(all.Bytes(), []byte(code.Reveal())) {
			t.Error("the code is stored in clear")
		}
		if s := fmt.Sprintf("%v %+v %#v", link, link, link); strings.Contains(s, c.Reveal()) {
			t.Error("a link shows itself")
		}
	})
}

func TestBlackoutOfOtherOrganizations(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		_, link := w.Send(letter, "pat@home.example")
		raw := decode(t, pickuptest.Credential(link).Reveal())
		other := id.New()
		copy(raw, other[:])
		if w.Ask(private.NewString(encode(raw)), pickup.NewBrowser()) {
			t.Error("a link works under another organization")
		}
	})
}

func TestCodeDigits(t *testing.T) {
	for typed, want := range map[string]string{"123456": "123456", " 123 456 ": "123456", "123-456": "123456", "123\u00a0456": "123456"} {
		if got, ok := pickup.CodeDigits(typed); !ok || got.Reveal() != want {
			t.Errorf("%q is not read as a code", typed)
		}
	}
	for _, typed := range []string{"", "12345", "1234567", "12345a", "١٢٣٤٥٦", "123,456"} {
		if _, ok := pickup.CodeDigits(typed); ok {
			t.Errorf("%q is read as a code", typed)
		}
	}
}
