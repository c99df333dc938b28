package dkim_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/dkim/dkimtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

var ctx = context.Background()

const (
	domain   = "clinic.example"
	hostname = "mail.host.example"
	day      = 24 * time.Hour
)

// office is an installation with two organizations, each with a domain, and
// a DNS of its own.
type office struct {
	*testing.T
	db            *db.DB
	keys          *custody.Custody
	clock         *clock.Fake
	accounts      *account.Accounts
	txt           map[string][]string
	broken        error // of the DNS
	clinic, other id.ID
	*dkim.Service
}

func open(t *testing.T, d *db.DB) *office {
	o := &office{T: t, db: d, keys: custodytest.New(t, d), txt: map[string][]string{}}
	o.clock = clock.NewFake(time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC))
	o.accounts = account.New(account.Deps{DB: d, Custody: o.keys, Clock: o.clock})
	o.clinic, o.other = accounttest.Org(o, o.accounts, "clinic"), accounttest.Org(o, o.accounts, "other")
	o.Service = o.node()
	return o
}

func (o *office) node() *dkim.Service {
	return dkim.NewService(dkim.Deps{DB: o.db, Custody: o.keys, Clock: o.clock, Log: slog.New(slog.DiscardHandler), Hostname: hostname,
		RotateAfter: 180 * day, Overlap: 7 * day,
		TXT: func(_ context.Context, name string) ([]string, error) { return o.txt[name], o.broken }})
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) create(a dkim.Algorithm) dkim.Key {
	o.Helper()
	k, err := o.Create(ctx, o.clinic, domain, a)
	o.must(err)
	return k
}

// publish puts a key's record into the DNS.
func (o *office) publish(k dkim.Key) { o.txt[k.Name()] = []string{k.Value} }

// after lets time pass and the periodic task run.
func (o *office) after(d time.Duration) {
	o.Helper()
	o.clock.Advance(d)
	o.must(o.Tend(ctx))
}

// states are the domain's keys as "selector state".
func (o *office) states() (all []string) {
	o.Helper()
	keys, err := o.List(ctx, o.clinic, domain)
	o.must(err)
	for _, k := range keys {
		all = append(all, k.Selector+" "+string(k.State))
	}
	return all
}

func (o *office) want(states ...string) {
	o.Helper()
	if got := o.states(); !slices.Equal(got, states) {
		o.Fatalf("%q, want %q", got, states)
	}
}

// signs wants these selectors to sign for a domain, and what they sign to be
// what the DNS proves.
func (o *office) signs(s *dkim.Service, org id.ID, domain string, selectors ...string) {
	o.Helper()
	signers, err := s.Signers(ctx, org, domain)
	o.must(err)
	var got []string
	for _, s := range signers {
		got = append(got, s.Selector)
	}
	if !slices.Equal(got, selectors) {
		o.Fatalf("%q sign, want %q", got, selectors)
	}
	if len(signers) == 0 {
		return
	}
	field, err := dkim.Sign(strings.NewReader(plainHeader+"\r\nHi\r\n"), signers, o.clock.Now())
	o.must(err)
	records := dkimtest.Records{}
	for name, values := range o.txt {
		records[name] = strings.Join(values, "")
	}
	if errs := records.Msgauth(o, string(field)+plainHeader+"\r\nHi\r\n"); len(errs) != len(signers) || errors.Join(errs...) != nil {
		o.Errorf("signed by %q: %v", got, errs)
	}
}

func refused(t *testing.T, what string, err error, reason string) {
	t.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) || f.Reason != reason {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}

// facts are the types of the organization's ledger entries about keys.
func (o *office) facts(org id.ID) (all []string) {
	o.Helper()
	_, err := ledger.Place(ctx, o.db, 0)
	o.must(err)
	events, _, err := ledger.Read(ctx, o.db, org, -1, 1000)
	o.must(err)
	for _, e := range events {
		if name, ok := strings.CutPrefix(string(e.Type), "dkim."); ok {
			all = append(all, name)
		}
	}
	return all
}

func TestAKeyLives(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		other := o.node() // of another process
		k := o.create(dkim.RSA)
		o.want("sp20261122r new")
		o.signs(o.Service, o.clinic, domain)

		// It waits for the exact record, and for one alone.
		for _, records := range [][]string{nil, {"v=DKIM1; k=rsa; p="}, {k.Value + "AA"}, {k.Value, "v=DKIM1; p=x"}} {
			o.txt[k.Name()] = records
			o.after(time.Hour)
			o.want("sp20261122r new")
		}
		o.txt[k.Name()] = []string{strings.ReplaceAll(k.Value, "; ", ";") + ";"}
		o.after(time.Hour)
		o.want("sp20261122r active")
		o.signs(o.Service, o.clinic, domain, "sp20261122r")
		o.signs(other, o.clinic, domain, "sp20261122r")
		o.signs(o.Service, o.other, domain)
		o.signs(o.Service, o.clinic, "news."+domain)

		// At its age it gets a successor, which waits in turn, however long.
		o.after(180*day - 2*time.Hour)
		o.want("sp20261122r active")
		o.after(2 * time.Hour)
		o.want("sp20261122r active", "sp20270522r new")
		o.after(30 * day)
		o.want("sp20261122r active", "sp20270522r new")
		o.signs(other, o.clinic, domain, "sp20261122r")

		keys, err := o.List(ctx, o.clinic, domain)
		o.must(err)
		o.publish(keys[1])
		o.after(time.Hour)
		o.want("sp20261122r retiring", "sp20270522r active")
		o.signs(other, o.clinic, domain, "sp20270522r")
		o.after(7*day - time.Second)
		o.want("sp20261122r retiring", "sp20270522r active")
		o.after(time.Second)
		o.want("sp20261122r retired", "sp20270522r active")
		if got := o.facts(o.clinic); !slices.Equal(got, []string{"created", "activated", "created", "retiring", "activated", "retired"}) {
			t.Errorf("the ledger tells %q", got)
		}

		// The secret of the retired key is gone, that of the other is not.
		var left int
		o.must(o.db.Read(ctx, o.clinic, func(tx *db.Tx) error {
			return tx.Row(`SELECT count(*) FROM dkim_keys k JOIN custody_data_keys d ON d.id = k.key_id WHERE k.secret_sealed IS NOT NULL`).Scan(&left)
		}))
		if left != 1 {
			t.Errorf("%d secrets are left", left)
		}
	})
}

func TestBothAlgorithmsSign(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	o.publish(o.create(dkim.Ed25519))
	o.publish(o.create(dkim.RSA))
	o.after(time.Hour)
	o.want("sp20261122e active", "sp20261122r active")
	o.signs(o.Service, o.clinic, domain, "sp20261122r", "sp20261122e")
	// Each is succeeded by one of its kind.
	made, err := o.Rotate(ctx, o.clinic, domain)
	if err != nil || len(made) != 2 || made[0].Selector != "sp20261123e" || made[1].Selector != "sp20261123r" {
		t.Errorf("%v, %v", made, err)
	}
	if made, err = o.Rotate(ctx, o.clinic, domain); err != nil || len(made) != 0 {
		t.Errorf("rotated twice: %v, %v", made, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	_, err := o.Create(ctx, o.other, domain, dkim.RSA)
	refused(t, "a key for another's domain", err, "domain_not_verified")
	_, err = o.Create(ctx, o.clinic, hostname, dkim.RSA)
	refused(t, "a key for the host name", err, "domain_not_verified")
	_, err = o.Create(ctx, db.System, domain, dkim.RSA)
	refused(t, "a key of the installation for a domain", err, "domain_not_verified")
	_, err = o.Create(ctx, o.clinic, domain, "dsa")
	refused(t, "a key of no kind", err, "bad_algorithm")
	_, err = o.Rotate(ctx, o.clinic, domain)
	refused(t, "rotation without a key", err, "dkim_no_active_key")
	k := o.create(dkim.RSA)
	_, err = o.Create(ctx, o.clinic, domain, dkim.RSA)
	refused(t, "a second new key", err, "dkim_key_waits")
	_, err = o.Retire(ctx, o.other, domain, k.Selector, false)
	refused(t, "another's key", err, "no_dkim_key")
	_, err = o.Retire(ctx, o.clinic, domain, k.Selector, false)
	o.must(err)
	o.want("sp20261122r retired")
	_, err = o.Retire(ctx, o.clinic, domain, k.Selector, true)
	refused(t, "a retired key", err, "dkim_key_retired")
	// A selector is never used twice: old records may stand in caches.
	o.create(dkim.RSA)
	o.want("sp20261122r retired", "sp20261122r2 new")

	o.broken = errors.New("no answer")
	_, err = o.Activate(ctx, o.clinic, domain)
	refused(t, "a DNS that fails", err, "lookup_failed")
	o.want("sp20261122r retired", "sp20261122r2 new")
}

func TestAnActiveKeyRetires(t *testing.T) {
	for now, want := range map[bool]string{false: "sp20261122r retiring", true: "sp20261122r retired"} {
		o := open(t, dbtest.SQLite(t))
		k := o.create(dkim.RSA)
		o.publish(k)
		o.after(time.Hour)
		o.signs(o.Service, o.clinic, domain, k.Selector)
		other := o.node()
		o.signs(other, o.clinic, domain, k.Selector)
		got, err := o.Retire(ctx, o.clinic, domain, k.Selector, now)
		o.must(err)
		o.want(want)
		if got.Selector+" "+string(got.State) != want {
			t.Errorf("%+v, want %s", got, want)
		}
		o.signs(o.Service, o.clinic, domain)
		o.clock.Advance(time.Second) // within which other processes follow
		o.signs(other, o.clinic, domain)
	}
}

func TestTheHostNameIsTheInstallations(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	k, err := o.Create(ctx, db.System, hostname, dkim.RSA)
	o.must(err)
	o.publish(k)
	o.after(time.Hour)
	o.signs(o.Service, o.clinic, hostname, k.Selector)
	o.signs(o.Service, o.other, hostname, k.Selector)
	if got := o.facts(db.System); !slices.Equal(got, []string{"created", "activated"}) {
		t.Errorf("the ledger tells %q", got)
	}
}

func TestADomainThatIsGoneGetsNoSuccessor(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	o.publish(o.create(dkim.RSA))
	o.after(time.Hour)
	o.must(o.accounts.RemoveDomain(ctx, o.clinic, domain))
	o.after(200 * day)
	o.want("sp20261122r active")
}

func TestADestroyedOrganizationSignsNothing(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	o.publish(o.create(dkim.RSA))
	o.after(time.Hour)
	o.signs(o.Service, o.clinic, domain, "sp20261122r")
	_, err := o.keys.DestroyOrg(o.clinic)
	o.must(err)
	o.clock.Advance(2 * time.Second)
	if signers, err := o.Signers(ctx, o.clinic, domain); err == nil {
		t.Errorf("%d still sign", len(signers))
	}
	o.after(200 * day) // and the periodic task goes on
}

func TestSecretsAreSealed(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	o.create(dkim.RSA)
	var box []byte
	o.must(o.db.Read(ctx, o.clinic, func(tx *db.Tx) error { return tx.Row("SELECT secret_sealed FROM dkim_keys").Scan(&box) }))
	if len(box) < 1000 || strings.Contains(string(box), "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01") { // rsaEncryption
		t.Errorf("the secret lies open: %x", box)
	}
}

func TestZoneRecord(t *testing.T) {
	long := strings.Repeat("x", 255)
	for value, want := range map[string]string{
		"v=DKIM1; p=":    `a.example. 3600 IN TXT "v=DKIM1; p="`,
		`a"b\`:           `a.example. 3600 IN TXT "a\"b\\"`,
		long + "yz":      "a.example. 3600 IN TXT (\n\t\"" + long + "\"\n\t\"yz\" )",
		long[:254] + `"`: `a.example. 3600 IN TXT "` + long[:254] + `\""`,
	} {
		if got := dkim.ZoneRecord("a.example", value); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
