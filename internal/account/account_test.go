package account_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

var ctx = context.Background()

type office struct {
	t     *testing.T
	db    *db.DB
	keys  *custody.Custody
	clock *clock.Fake
	*account.Accounts
}

func open(t *testing.T, d *db.DB) *office {
	o := &office{t: t, db: d, keys: custodytest.New(t, d), clock: clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))}
	o.Accounts = account.New(account.Deps{DB: d, Custody: o.keys, Clock: o.clock})
	return o
}

func (o *office) org(slug string) account.Org {
	o.t.Helper()
	org, err := o.CreateOrg(ctx, slug, "The "+slug)
	if err != nil {
		o.t.Fatal(err)
	}
	return org
}

func (o *office) added(org id.ID, name string) account.Domain {
	o.t.Helper()
	d, err := o.AddDomain(ctx, org, name)
	if err != nil {
		o.t.Fatal(err)
	}
	return d
}

// refused wants a fault of this reason.
func refused(t *testing.T, what string, err error, reason string) {
	t.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) || f.Reason != reason {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}

// told lists the types of the organization's ledger entries.
func (o *office) told(org id.ID) (types []ledger.Type) {
	o.t.Helper()
	if _, err := ledger.Place(ctx, o.db, 0); err != nil {
		o.t.Fatal(err)
	}
	if err := o.db.Read(ctx, org, func(tx *db.Tx) error {
		types = nil
		events, _, err := ledger.ReadTx(tx, -1, 100)
		for _, e := range events {
			types = append(types, e.Type)
		}
		return err
	}); err != nil {
		o.t.Fatal(err)
	}
	return types
}

func TestOrganizations(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		clinic := o.org("clinic")
		for _, slug := range []string{"", "a", "system", "Clinic", "1st", "a_b", "-x", "a b", "x\n", strings.Repeat("a", 64)} {
			_, err := o.CreateOrg(ctx, slug, "Name")
			refused(t, "slug "+slug, err, "bad_slug")
		}
		for _, name := range []string{"", "  ", "two\r\nlines", "nul\x00", strings.Repeat("n", 201)} {
			_, err := o.CreateOrg(ctx, "good", name)
			refused(t, "a bad name", err, "bad_name")
		}
		before, err := o.keys.Status()
		if err != nil {
			t.Fatal(err)
		}
		_, err = o.CreateOrg(ctx, "clinic", "Another")
		refused(t, "the same slug", err, "org_exists")
		if after, _ := o.keys.Status(); len(after.Keys) != len(before.Keys) {
			t.Error("a refused organization left keys behind")
		}
		if err := o.SetLimits(ctx, clinic.ID, account.Limits{MessagesPerMinute: 7}); err != nil {
			t.Fatal(err)
		}
		refused(t, "limits of nobody", o.SetLimits(ctx, id.New(), account.Limits{}), "no_org")
		_, err = o.OrgBySlug(ctx, "nobody")
		refused(t, "nobody", err, "no_org")
		o.org("abbey")
		all, err := o.Orgs(ctx)
		if err != nil || len(all) != 2 || all[0].Slug != "abbey" || all[1].Limits.MessagesPerMinute != 7 || all[1].Name != "The clinic" {
			t.Errorf("Orgs = %+v, %v", all, err)
		}
	})
}

func TestADomainIsProvedByItsRecord(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		clinic, other := o.org("clinic"), o.org("other")
		_, err := o.AddDomain(ctx, clinic.ID, "not a domain")
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("no domain at all: %v", err)
		}
		mine := o.added(clinic.ID, "Clinic.Test")
		if mine.Name != "clinic.test" || !mine.VerifiedAt.IsZero() || len(mine.Token) < 32 {
			t.Errorf("added %+v", mine)
		}
		if again := o.added(clinic.ID, "clinic.test"); again.Token != mine.Token {
			t.Error("adding a domain again changes its token")
		}
		theirs := o.added(other.ID, "clinic.test")
		if theirs.Token == mine.Token {
			t.Error("two organizations have the same token")
		}
		host, value := mine.Record()
		lookup := func(records []string, err error) account.LookupTXT {
			return func(_ context.Context, name string) ([]string, error) {
				if name != host {
					t.Errorf("asked for %s, want %s", name, host)
				}
				return records, err
			}
		}
		_, theirValue := theirs.Record()
		for what, records := range map[string][]string{
			"no record": nil, "another value": {"v=spf1 -all", value + "x"}, "somebody else's": {theirValue}, "case": {strings.ToUpper(value)},
		} {
			_, err := o.VerifyDomain(ctx, clinic.ID, "clinic.test", lookup(records, nil))
			refused(t, what, err, "record_missing")
		}
		_, err = o.VerifyDomain(ctx, clinic.ID, "clinic.test", lookup(nil, errors.New("servfail")))
		refused(t, "the DNS is away", err, "lookup_failed")
		if owns(t, o, clinic.ID) {
			t.Error("owned before it is verified")
		}
		o.clock.Advance(time.Minute)
		got, err := o.VerifyDomain(ctx, clinic.ID, "CLINIC.test", lookup([]string{"v=spf1 -all", value}, nil))
		if err != nil || got.VerifiedBy != "dns" || !got.VerifiedAt.Equal(o.clock.Now()) {
			t.Fatalf("verified %+v, %v", got, err)
		}
		if !owns(t, o, clinic.ID) || owns(t, o, other.ID) {
			t.Error("the wrong organization owns it")
		}
		if owner, err := o.DomainOwner(ctx, "clinic.test"); err != nil || owner != clinic.ID {
			t.Errorf("DomainOwner = %v, %v", owner, err)
		}
		_, err = o.VerifyDomain(ctx, other.ID, "clinic.test", lookup([]string{theirValue}, nil))
		refused(t, "verified by another organization", err, "domain_taken")
		_, err = o.ForceDomain(ctx, other.ID, "clinic.test")
		refused(t, "forced by another organization", err, "domain_taken")
		_, err = o.ForceDomain(ctx, clinic.ID, "elsewhere.test")
		refused(t, "a domain never added", err, "no_domain")
		if err := o.RemoveDomain(ctx, clinic.ID, "Clinic.test"); err != nil {
			t.Fatal(err)
		}
		refused(t, "removing it again", o.RemoveDomain(ctx, clinic.ID, "clinic.test"), "no_domain")
		_, err = o.DomainOwner(ctx, "clinic.test")
		refused(t, "the owner of a domain that is only named", err, "no_domain")
		if forced, err := o.ForceDomain(ctx, other.ID, "clinic.test"); err != nil || forced.VerifiedBy != "forced" {
			t.Errorf("forced once it is free: %+v, %v", forced, err)
		}
		want := []ledger.Type{ledger.OrgCreated, ledger.DomainAdded, ledger.DomainVerified, ledger.DomainRemoved}
		if got := o.told(clinic.ID); !slices.Equal(got, want) {
			t.Errorf("the ledger says %v, want %v", got, want)
		}
	})
}

func owns(t *testing.T, o *office, org id.ID) (yes bool) {
	t.Helper()
	if err := o.db.Read(ctx, org, func(tx *db.Tx) (err error) {
		yes, err = account.OwnsDomain(tx, "clinic.test")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return yes
}

// TestADomainRemovedMeanwhileIsNotVerified: the DNS takes its time.
func TestADomainRemovedMeanwhileIsNotVerified(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		clinic := o.org("clinic")
		mine := o.added(clinic.ID, "clinic.test")
		_, value := mine.Record()
		_, err := o.VerifyDomain(ctx, clinic.ID, "clinic.test", func(context.Context, string) ([]string, error) {
			return []string{value}, o.RemoveDomain(ctx, clinic.ID, "clinic.test")
		})
		refused(t, "a domain removed meanwhile", err, "no_domain")
		if slices.Contains(o.told(clinic.ID), ledger.DomainVerified) {
			t.Error("the ledger says that it was verified")
		}
	})
}

func TestPolicyVersions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		clinic, other := o.org("clinic"), o.org("other")
		const canary = "canary.person@home.example"
		if _, err := o.PublishPolicy(ctx, clinic.ID, []byte(canary+" 1")); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		versions, errs := make([]int64, 8), make([]error, 8)
		for i := range versions {
			group.Go(func() { versions[i], errs[i] = o.PublishPolicy(ctx, clinic.ID, []byte("more")) })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("published at the same time: %v", err)
		}
		slices.Sort(versions)
		if !slices.Equal(versions, []int64{2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("versions %v", versions)
		}
		_, err := o.PublishPolicy(ctx, id.New(), []byte("x"))
		if err == nil {
			t.Error("a policy of nobody is published")
		}
		read := func(org id.ID, version int64) (text []byte, err error) {
			err = o.db.Read(ctx, org, func(tx *db.Tx) error {
				text, err = account.PolicyDocument(tx, o.keys, version)
				return err
			})
			return text, err
		}
		if text, err := read(clinic.ID, 1); err != nil || string(text) != canary+" 1" {
			t.Errorf("version 1: %v", err)
		}
		_, err = read(clinic.ID, 10)
		refused(t, "a version to come", err, "no_policy")
		_, err = read(other.ID, 1)
		refused(t, "another organization's", err, "no_policy")
		var sealed []byte
		var newest int64
		if err := o.db.Read(ctx, clinic.ID, func(tx *db.Tx) error {
			if newest, err = account.PolicyVersion(tx); err != nil {
				return err
			}
			return tx.Row("SELECT document_sealed FROM account_policies WHERE org_id = ? AND version = 1", clinic.ID).Scan(&sealed)
		}); err != nil {
			t.Fatal(err)
		}
		if newest != 9 || bytes.Contains(sealed, []byte("canary")) {
			t.Errorf("newest %d; the stored document shows its text: %v", newest, bytes.Contains(sealed, []byte("canary")))
		}
	})
}

func TestDestroy(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		clinic, other := o.org("clinic"), o.org("other")
		for _, org := range []account.Org{clinic, other} {
			if _, err := o.PublishPolicy(ctx, org.ID, []byte("text")); err != nil {
				t.Fatal(err)
			}
		}
		_, err := o.DestroyOrg(ctx, id.New())
		refused(t, "nobody", err, "no_org")
		first, err := o.DestroyOrg(ctx, clinic.ID)
		if err != nil || first.Org != clinic.ID {
			t.Fatalf("DestroyOrg: %+v, %v", first, err)
		}
		// Asked again, as after a crash between the record and the act.
		if again, err := o.DestroyOrg(ctx, clinic.ID); err != nil || !again.At.Equal(first.At) {
			t.Errorf("again: %+v, %v", again, err)
		}
		if got := o.told(clinic.ID); !slices.Equal(got, []ledger.Type{ledger.OrgCreated, ledger.PolicyPublished, ledger.OrgDestroyed}) {
			t.Errorf("the ledger says %v", got)
		}
		if org, err := o.Org(ctx, clinic.ID); err != nil || org.DestroyedAt.IsZero() {
			t.Errorf("the record is %+v, %v", org, err)
		}
		for _, org := range []account.Org{clinic, other} {
			err := o.db.Read(ctx, org.ID, func(tx *db.Tx) error {
				_, err := account.PolicyDocument(tx, o.keys, 1)
				return err
			})
			if org.ID == other.ID && err != nil {
				t.Errorf("the other organization cannot read any more: %v", err)
			}
			if org.ID == clinic.ID {
				refused(t, "reading after destruction", err, "content_destroyed")
			}
		}
		if _, err := o.PublishPolicy(ctx, clinic.ID, []byte("new")); err == nil {
			t.Error("a destroyed organization publishes a policy")
		}
	})
}
