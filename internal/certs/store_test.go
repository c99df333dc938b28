package certs_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/mail"
)

// TestAnswersAreKept follows a CRL and an OCSP answer through memory, through
// the database to another judge, and to the end of their time.
func TestAnswersAreKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		listed, alsoListed := w.sub.person(w.listed("/list")), w.sub.person(w.listed("/list"))
		asked := w.sub.person(w.responder("/ocsp"))
		publish := func() {
			w.publish("/list", w.sub.crl(nil))
			w.publish("/ocsp", w.sub.answer(asked, ocsp.Good, nil))
		}
		publish()
		all := func(list, responder int) {
			t.Helper()
			w.want(listed, "")
			w.want(alsoListed, "")
			w.want(asked, "")
			if w.count("/list") != list || w.count("/ocsp") != responder {
				t.Errorf("asked for the list %d times and OCSP %d times, want %d and %d", w.count("/list"), w.count("/ocsp"), list, responder)
			}
		}
		all(1, 1)
		all(1, 1)
		once := w.sub.person(w.responder("/once"))
		w.publish("/once", w.sub.answer(once, ocsp.Good, nil))
		w.want(once, "")
		w.judge = w.newJudge() // after a restart
		all(1, 1)
		w.clock.Advance(23 * time.Hour)
		all(1, 1)
		w.clock.Advance(2 * time.Hour) // past the next update
		publish()
		all(2, 2)
		if n := rows(t, d); n != 2 {
			t.Errorf("%d rows: what is out of date stays", n)
		}
	})
}

func rows(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM certs_revocations").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNothingIsKeptForLongerThanSevenDays(t *testing.T) {
	w := sqlite(t)
	year := func(l *x509.RevocationList) { l.NextUpdate = w.clock.Now().Add(365 * 24 * time.Hour) }
	w.publish("/list", w.sub.crl(year))
	c := w.sub.person(w.listed("/list"))
	want := w.clock.Now().Add(7 * 24 * time.Hour)
	if v := w.want(c, ""); !v.Until.Equal(want) {
		t.Errorf("until %v, want %v", v.Until, want)
	}
	w.publish("/list", w.sub.crl(year, c))
	w.clock.Advance(7*24*time.Hour - time.Second)
	w.judge = w.newJudge()
	w.want(c, "")
	w.clock.Advance(2 * time.Second)
	w.want(c, "revoked")
}

// TestTheDatabaseIsNotBelieved puts a list of a stranger into its place.
func TestTheDatabaseIsNotBelieved(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(w.listed("/list"))
	w.publish("/list", w.sub.crl(nil))
	w.want(c, "")
	forged := w.authority(nil, "Sub", nil).crl(nil)
	err := w.db.Write(context.Background(), db.System, func(tx *db.Tx) error {
		_, err := tx.Exec("UPDATE certs_revocations SET data = ?", forged)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.publish("/list", w.sub.crl(nil, c))
	w.judge = w.newJudge()
	w.want(c, "revoked")
}

func TestManyWhoAskAtOnceCauseOneFetch(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(w.responder("/ocsp"))
	d, e := w.sub.person(w.listed("/list")), w.sub.person(w.listed("/list"))
	open := make(chan struct{})
	answer, list := w.sub.answer(c, ocsp.Good, nil), w.sub.crl(nil)
	w.page("/ocsp", func(rw http.ResponseWriter, _ *http.Request) { <-open; _, _ = rw.Write(answer) })
	w.page("/list", func(rw http.ResponseWriter, _ *http.Request) { <-open; _, _ = rw.Write(list) })
	var all sync.WaitGroup
	for range 20 {
		for _, c := range []*x509.Certificate{c, d, e} {
			all.Go(func() { w.want(c, "") })
		}
	}
	w.awaits("/ocsp")
	w.awaits("/list")
	close(open)
	all.Wait()
	if w.count("/ocsp") != 1 || w.count("/list") != 1 {
		t.Errorf("%d questions and %d lists", w.count("/ocsp"), w.count("/list"))
	}
}

// TestAFailureIsNotRepeatedAtOnce: a thousand messages to one authority whose
// server is down do not wait for it a thousand times.
func TestAFailureIsNotRepeatedAtOnce(t *testing.T) {
	w := sqlite(t)
	c, d := w.sub.person(w.listed("/list")), w.sub.person(w.listed("/list"))
	w.want(c, "revocation_unknown")
	w.want(c, "revocation_unknown")
	w.want(d, "revocation_unknown")
	if w.count("/list") != 1 {
		t.Errorf("asked %d times", w.count("/list"))
	}
	w.publish("/list", w.sub.crl(nil))
	w.clock.Advance(time.Minute)
	w.want(c, "")
	w.want(d, "")
}

// TestWhoAskedGoesAway: the others still get their answer, and the one who
// went is not told that the certificate is bad.
func TestWhoAskedGoesAway(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(w.listed("/list"))
	open := make(chan struct{})
	list := w.sub.crl(nil)
	w.page("/list", func(rw http.ResponseWriter, _ *http.Request) { <-open; _, _ = rw.Write(list) })
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	a, err := mail.ParseAddress(address)
	must(err)
	go func() {
		_, err := w.judge.ForSealing(ctx, c, []*x509.Certificate{w.sub.cert}, a)
		gone <- err
	}()
	w.awaits("/list")
	cancel()
	if err := <-gone; err != context.Canceled {
		t.Errorf("%v", err)
	}
	close(open)
	w.want(c, "")
	if w.count("/list") != 1 {
		t.Errorf("asked %d times", w.count("/list"))
	}
}

// TestALongListTakesLittleMemory reads one of a hundred thousand entries.
func TestALongListTakesLittleMemory(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(w.listed("/long"))
	long := func(l *x509.RevocationList) {
		entry := x509.RevocationListEntry{RevocationTime: w.clock.Now()}
		for i := range 100_000 {
			entry.SerialNumber = serial(int64(i) + 1_000_000)
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, entry)
		}
	}
	list := w.sub.crl(long)
	if len(list) < 2<<20 {
		t.Fatalf("%d octets", len(list))
	}
	w.publish("/long", list)
	w.want(c, "")
	allocated := testing.AllocsPerRun(1, func() {
		w.judge = w.newJudge()
		w.want(w.sub.person(w.listed("/long")), "")
	})
	// The serial numbers are looked at one by one, and none is kept.
	if allocated > 350_000 {
		t.Errorf("%v allocations", allocated)
	}
}
