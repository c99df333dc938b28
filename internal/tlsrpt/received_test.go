package tlsrpt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/dmarc/intake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// TestReceived: reports of several reporters add up, the same one counts once,
// and what is about domains of others is left out.
func TestReceived(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		clk := clock.NewFake(today.Add(3 * time.Hour))
		accounts := account.New(account.Deps{DB: d, Custody: custodytest.New(t, d), Clock: clk})
		org, err := accounts.CreateOrg(ctx, "clinic", "Clinic")
		if err != nil {
			t.Fatal(err)
		}
		s := NewReceived(Deps{DB: d, Clock: clk, Accounts: accounts})
		text := mailed1(gzipped(t, written(t, sample())))
		var f *fault.Fault
		if _, err := s.Receive(ctx, org.ID, bytes.NewReader(text)); !errors.As(err, &f) || f.Reason != "not_our_domain" {
			t.Errorf("before the domain is verified: %v", err)
		}
		accounttest.Domain(t, accounts, org.ID, "clinic.example")
		for i := range 3 {
			r, err := s.Receive(ctx, org.ID, bytes.NewReader(text))
			if err != nil || r.Again != (i > 0) || r.Successes != 5335 || r.Failures != 304 || len(r.Domains) != 3 {
				t.Errorf("%d: %+v, %v", i, r, err)
			}
		}
		other := sample()
		other.Organization = "Another"
		other.Policies = append(other.Policies[:1], Policy{Type: "sts", Domain: "xclinic.example", Successes: 1e6})
		if _, err := s.Add(ctx, org.ID, other, intake.ByStrangers); err != nil {
			t.Fatal(err)
		}
		got, err := s.Summarize(ctx, org.ID, "clinic.example", 7)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, c := range got.Causes {
			lines = append(lines, fmt.Sprint(c.Result, " ", c.Policy, " ", c.MX, " ", c.Sessions, " ", c.Step != ""))
		}
		want := "starttls-not-supported sts mx2.clinic.example 400 true\ncertificate-expired sts mx1.clinic.example 200 true\nvalidation-failure sts mx3.clinic.example 6 true\ntlsa-invalid tlsa  1 true"
		if strings.Join(lines, "\n") != want || got.Reports != 2 || got.Successes != 2*5326+9 || got.Failures != 2*303+1 ||
			fmt.Sprint(got.Reporters) != "[{Another 5326 303} {Big Mail 5335 304}]" {
			t.Errorf("%+v", got)
		}
		if lab, err := s.Summarize(ctx, org.ID, "lab.clinic.example", 7); err != nil || lab.Successes != 9 || lab.Failures != 0 {
			t.Errorf("%+v, %v", lab, err)
		}
		for _, ahead := range []time.Duration{-60 * day, 5 * day} {
			forged := sample()
			forged.ID, forged.Begin, forged.End = "forged", forged.Begin.Add(ahead), forged.End.Add(ahead)
			if _, err := s.Add(ctx, org.ID, forged, intake.ByStrangers); !errors.As(err, &f) || f.Reason != "bad_period" {
				t.Errorf("%v: %v", ahead, err)
			}
		}
		clk.Advance(100 * day)
		if late, err := s.Summarize(ctx, org.ID, "clinic.example", 7); err != nil || late.Reports != 0 {
			t.Errorf("%+v, %v", late, err)
		}
		if err := s.Forget(ctx, 90*day); err != nil {
			t.Fatal(err)
		}
		if gone, err := s.Summarize(ctx, org.ID, "clinic.example", 1000); err != nil || gone.Reports != 0 {
			t.Errorf("%+v, %v", gone, err)
		}
	})
}

// TestRoom: what strangers can put into the database within a day ends, and
// begins again.
func TestRoom(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		clk := clock.NewFake(today.Add(3 * time.Hour))
		s, org := receiving(t, d, clk)
		add := func(number string) {
			t.Helper()
			r := sample()
			r.ID = number
			if _, err := s.Add(ctx, org, r, intake.ByStrangers); err != nil {
				t.Fatal(err)
			}
		}
		var octets int64
		add("1")
		if err := s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
			if err := tx.Row("SELECT octets FROM tlsrpt_received WHERE org_id = ?", org).Scan(&octets); err != nil {
				return err
			}
			_, err := tx.Exec("UPDATE tlsrpt_received SET octets = ? WHERE org_id = ?", intake.MaxDayOctets-octets, org)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.Room(ctx, org); err != nil || octets < 500 {
			t.Errorf("before: %v; a report of %d octets", err, octets)
		}
		add("2")
		if err := s.Room(ctx, org); !fault.Is(err, fault.TooMany) {
			t.Errorf("full: %v", err)
		}
		clk.Advance(day)
		if err := s.Room(ctx, org); err != nil {
			t.Errorf("a day later: %v", err)
		}
	})
}

// receiving gives the store of an organization that has verified a domain.
func receiving(t *testing.T, d *db.DB, clk clock.Clock) (*Received, id.ID) {
	t.Helper()
	accounts := account.New(account.Deps{DB: d, Custody: custodytest.New(t, d), Clock: clk})
	org, err := accounts.CreateOrg(ctx, "clinic", "Clinic")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.AddDomain(ctx, org.ID, "clinic.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.ForceDomain(ctx, org.ID, "clinic.example"); err != nil {
		t.Fatal(err)
	}
	return NewReceived(Deps{DB: d, Clock: clk, Accounts: accounts}), org.ID
}
