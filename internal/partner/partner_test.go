package partner_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

var ctx = context.Background()

type office struct {
	*testing.T
	*partner.Service
	house *submittest.House
	db    *db.DB
	clock *clock.Fake
	org   id.ID
}

func open(t *testing.T, d *db.DB) *office {
	t.Helper()
	o := &office{T: t, db: d, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	o.house = submittest.New(t, d, o.clock, "clinic.example")
	o.org = o.house.Org.ID
	o.Service = o.node()
	return o
}

// node is another process.
func (o *office) node() *partner.Service {
	return partner.New(partner.Deps{DB: o.db, Custody: o.house.Custody, Clock: o.clock, Log: slog.New(slog.DiscardHandler)})
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) cert(name string, ca bool, days int) (*x509.Certificate, crypto.Signer) {
	o.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.must(err)
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: o.clock.Now().Add(-time.Hour), NotAfter: o.clock.Now().AddDate(0, 0, days)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	o.must(err)
	c, err := x509.ParseCertificate(der)
	o.must(err)
	return c, key
}

func (o *office) put(c partner.Change) partner.Entry {
	o.Helper()
	e, err := o.Put(ctx, o.org, c)
	o.must(err)
	return e
}

func (o *office) terms(s *partner.Service, org id.ID, domain string) partner.Terms {
	o.Helper()
	t, err := s.Terms(ctx, org, domain)
	o.must(err)
	return t
}

func TestTermsBelongToADomainAndAnOrganization(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		host, _ := o.cert("mx", false, 100)
		root, _ := o.cert("root", true, 100)
		us, key := o.cert("us", false, 100)
		yes := true
		o.put(partner.Change{Domain: "lab.example", Subdomains: &yes, Pins: []partner.Pin{partner.PinOf(partner.CA, root)}, Hosts: []string{"*.lab.example"}})
		o.put(partner.Change{Domain: "deep.lab.example", Require: &yes, Client: []*x509.Certificate{us}, ClientKey: key})
		o.put(partner.Change{Domain: "clinic2.example", Pins: []partner.Pin{partner.PinOf(partner.Certificate, host)}})
		for domain, want := range map[string]struct {
			pinned, client bool
			floor          policy.Grade
		}{
			"lab.example":         {true, false, policy.Authenticated},
			"a.lab.example":       {true, false, policy.Authenticated},
			"b.a.lab.example":     {true, false, policy.Authenticated},
			"deep.lab.example":    {false, true, policy.Authenticated}, // the closest counts, alone
			"x.deep.lab.example":  {true, false, policy.Authenticated}, // for which the closest does not speak
			"otherlab.example":    {},
			"example":             {},
			"clinic2.example":     {true, false, policy.Authenticated},
			"sub.clinic2.example": {},
		} {
			got := o.terms(o.Service, o.org, domain)
			if got.Pinned() != want.pinned || (got.Client != nil) != want.client || got.Floor != want.floor {
				t.Errorf("%s: %+v", domain, got)
			}
			if got := o.terms(o.Service, id.New(), domain); got.Pinned() || got.Client != nil || got.Floor != policy.None {
				t.Errorf("%s: another organization has %+v", domain, got)
			}
		}
		got := o.terms(o.node(), o.org, "deep.lab.example")
		if !got.Client.Leaf.Equal(us) || !got.Client.PrivateKey.(*ecdsa.PrivateKey).Equal(key) {
			t.Error("another client certificate came back")
		}
	})
}

// TestChangesAreSeen: at once here, and within seconds by other processes.
func TestChangesAreSeen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		here, there := o.Service, o.node()
		one, _ := o.cert("one", false, 100)
		two, _ := o.cert("two", false, 100)
		pins := func(s *partner.Service) int { return len(o.terms(s, o.org, "lab.example").Certificates) }
		expect := func(what string, n int) {
			t.Helper()
			if got := pins(here); got != n {
				t.Errorf("%s: %d pins here", what, got)
			}
			o.clock.Advance(3 * time.Second)
			if got := pins(there); got != n {
				t.Errorf("%s: %d pins there", what, got)
			}
		}
		expect("nothing", 0)
		o.put(partner.Change{Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.Certificate, one)}})
		expect("one", 1)
		o.put(partner.Change{Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.Certificate, two), partner.PinOf(partner.Certificate, one)}})
		expect("two for roll-over", 2)
		o.put(partner.Change{Domain: "lab.example", Unpin: []string{strings.ToUpper(partner.Fingerprint(one))}})
		expect("the new one", 1)
		o.must(o.Remove(ctx, o.org, "lab.example"))
		expect("removed", 0)
		if err := o.Remove(ctx, o.org, "lab.example"); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	})
}

func TestArrangementsThatAreRefused(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	host, _ := o.cert("mx", false, 100)
	root, _ := o.cert("root", true, 100)
	old, oldKey := o.cert("old", false, 0)
	us, key := o.cert("us", false, 100)
	_, otherKey := o.cert("other", false, 100)
	client := func(c *x509.Certificate, k crypto.Signer) partner.Change {
		return partner.Change{Domain: "lab.example", Client: []*x509.Certificate{c}, ClientKey: k}
	}
	many := partner.Change{Domain: "lab.example"}
	for range 17 {
		c, _ := o.cert("x", false, 10)
		many.Pins = append(many.Pins, partner.PinOf(partner.Certificate, c))
	}
	for want, c := range map[string]partner.Change{
		"bad_domain":       {Domain: "no domain", Pins: []partner.Pin{partner.PinOf(partner.Certificate, host)}},
		"nothing_arranged": {Domain: "lab.example"},
		"hosts_needed":     {Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.CA, root)}},
		"bad_pin":          {Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.CA, host)}, Hosts: []string{"mx.lab.example"}},
		"bad_host":         {Domain: "lab.example", Hosts: []string{"*.example"}},
		"no_pin":           {Domain: "lab.example", Unpin: []string{"00"}},
		"pin_expired":      {Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.Certificate, old)}},
		"client_expired":   client(old, oldKey),
		"other_key":        client(us, otherKey),
		"bad_client":       client(us, nil),
		"too_many_pins":    many,
	} {
		_, err := o.Put(ctx, o.org, c)
		var f *fault.Fault
		if f = fault.From(err); err == nil || f.Reason != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	o.put(client(us, key))
	if all, err := o.List(ctx, o.org); err != nil || len(all) != 1 || len(all[0].Pins) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestEveryChangeIsInTheLedger, with fingerprints and warnings of what ends:
// once per threshold, and anew when something changes.
func TestEveryChangeIsInTheLedger(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		host, _ := o.cert("mx", false, 70)
		us, key := o.cert("us", false, 100)
		o.put(partner.Change{Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.Certificate, host)}})
		for _, days := range []int{5, 6, 1, 40, 15} {
			o.clock.Advance(time.Duration(days) * 24 * time.Hour)
			o.must(o.WarnExpiring(ctx))
			o.must(o.node().WarnExpiring(ctx))
		}
		o.put(partner.Change{Domain: "lab.example", Client: []*x509.Certificate{us}, ClientKey: key})
		o.must(o.Remove(ctx, o.org, "lab.example"))
		_, err := ledger.Place(ctx, d, 0)
		o.must(err)
		var got []string
		o.must(d.Read(ctx, o.org, func(tx *db.Tx) error {
			got = nil
			events, _, err := ledger.ReadTx(tx, -1, 500)
			for _, e := range events {
				var f struct {
					Pins   []string
					Client string
					Days   int
				}
				if !strings.HasPrefix(string(e.Type), "partner.") {
					continue
				}
				o.must(json.Unmarshal(e.Data, &f))
				if f.Pins[0] != "certificate "+partner.Fingerprint(host) {
					t.Errorf("%s", e.Data)
				}
				word := string(e.Type)
				if f.Days > 0 {
					word += map[int]string{60: " 60", 30: " 30", 7: " 7"}[f.Days]
				}
				if f.Client != "" {
					word += " client"
				}
				got = append(got, word)
			}
			return err
		}))
		want := "partner.changed, partner.expiring 60, partner.expiring 30, partner.expiring 7, partner.changed client, partner.removed client"
		if strings.Join(got, ", ") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
		}
	})
}

// TestTheFileShowsNoSecret looks for the client's key and the terms in all that
// the database has on disk.
func TestTheFileShowsNoSecret(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(ctx, db.Options{Path: filepath.Join(dir, "sealpost.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	o := open(t, d)
	us, key := o.cert("canary-client", false, 100)
	o.put(partner.Change{Domain: "lab.example", Client: []*x509.Certificate{us}, ClientKey: key})
	var disk []byte
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		o.must(err)
		disk = append(disk, b...)
	}
	secret, err := key.(*ecdsa.PrivateKey).Bytes()
	o.must(err)
	if !bytes.Contains(disk, []byte("lab.example")) {
		t.Fatal("this is not what the database holds")
	}
	if bytes.Contains(disk, secret) || bytes.Contains(disk, []byte("canary-client")) || bytes.Contains(disk, us.Raw[60:100]) {
		t.Error("the arrangement stands on disk in clear")
	}
}

// What was opened before is of no use when the organization's keys are gone.
func TestNothingIsUsedOfADestroyedOrganization(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		one, _ := o.cert("one", false, 100)
		o.put(partner.Change{Domain: "lab.example", Pins: []partner.Pin{partner.PinOf(partner.Certificate, one)}})
		if got := o.terms(o.Service, o.org, "lab.example"); len(got.Certificates) != 1 {
			t.Fatalf("%+v", got)
		}
		if _, err := o.house.Custody.DestroyOrg(o.org); err != nil {
			t.Fatal(err)
		}
		o.clock.Advance(3 * time.Second)
		if _, err := o.Terms(ctx, o.org, "lab.example"); !errors.Is(err, custody.ErrDestroyed) {
			t.Errorf("the terms are still used: %v", err)
		}
	})
}
