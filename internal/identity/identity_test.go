package identity_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

var ctx = context.Background()

// office is an installation with two organizations, each with a domain. Its
// clock begins now, since GnuPG and OpenSSL have clocks of their own.
type office struct {
	*testing.T
	db            *db.DB
	keys          *custody.Custody
	clock         *clock.Fake
	accounts      *account.Accounts
	log           *bytes.Buffer
	clinic, other id.ID
	*identity.Service
}

func open(t *testing.T, d *db.DB) *office {
	o := &office{T: t, db: d, keys: custodytest.New(t, d), log: &bytes.Buffer{}}
	o.clock = clock.NewFake(time.Now().UTC().Truncate(time.Second))
	o.accounts = account.New(account.Deps{DB: d, Custody: o.keys, Clock: o.clock})
	o.clinic, o.other = accounttest.Org(o, o.accounts, "clinic"), accounttest.Org(o, o.accounts, "other")
	o.Service = o.node()
	return o
}

// catchUp moves the clock to now, behind which programs have taken their time.
func (o *office) catchUp() {
	if behind := time.Since(o.clock.Now()); behind > 0 {
		o.clock.Advance(behind.Truncate(time.Second) + time.Second)
	}
}

// node is the service as another process would have it.
func (o *office) node() *identity.Service {
	return identity.New(identity.Deps{DB: o.db, Custody: o.keys, Accounts: o.accounts, Clock: o.clock,
		Log: slog.New(slog.NewTextHandler(o.log, nil))})
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) address(text string) mail.Address {
	o.Helper()
	a, err := mail.ParseAddress(text)
	o.must(err)
	return a
}

const ada = "dr.ada@clinic.example"

func (o *office) create(kind policy.Seal, address string) identity.Detail {
	o.Helper()
	q := identity.Request{Address: o.address(address), Kind: kind}
	if kind == policy.PGP {
		q.Name, q.Expires = "Dr. Ada", o.clock.Now().AddDate(2, 0, 0)
	}
	d, err := o.Create(ctx, o.clinic, q)
	o.must(err)
	return d
}

func (o *office) signer(address string) identity.Signing {
	o.Helper()
	s, err := o.Signer(ctx, o.clinic, o.address(address))
	o.must(err)
	return s
}

// refused wants a fault of this reason.
func (o *office) refused(what string, err error, reason string) {
	o.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) || f.Reason != reason {
		o.Errorf("%s: %v, want %s", what, err, reason)
	}
}

// told lists the types of an organization's ledger entries about its keys.
func (o *office) told(org id.ID) (types []string) {
	o.Helper()
	_, err := ledger.Place(ctx, o.db, 0)
	o.must(err)
	o.must(o.db.Read(ctx, org, func(tx *db.Tx) error {
		types = nil
		events, _, err := ledger.ReadTx(tx, -1, 500)
		for _, e := range events {
			if t, ours := strings.CutPrefix(string(e.Type), "identity."); ours {
				types = append(types, t)
			}
		}
		return err
	}))
	return types
}

func (o *office) wantTold(want ...string) {
	o.Helper()
	if got := o.told(o.clinic); !slices.Equal(got, want) {
		o.Errorf("the ledger says %v, want %v", got, want)
	}
}

// encrypted is a message to an OpenPGP key.
func (o *office) encrypted(key openpgp.Key, text string) []byte {
	o.Helper()
	c, err := openpgp.NewContent(key.Version() == 6)
	o.must(err)
	packet, err := c.KeyPacket(key, o.clock.Now())
	o.must(err)
	var out bytes.Buffer
	out.Write(packet)
	o.must(c.Encrypt(&out, strings.NewReader(text), int64(len(text))))
	return out.Bytes()
}

func (o *office) opens(s identity.Secrets, message []byte, want string) {
	o.Helper()
	got, err := openpgp.Open(message, s.PGP, nil, o.clock.Now(), 1<<20)
	if err != nil || string(got.Plain) != want {
		o.Errorf("the message does not open: %v", err)
	}
}

func TestALifeByOpenPGP(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		if s := o.signer(ada); s.PGP != nil || s.SMIME != nil {
			t.Error("an address without keys signs")
		}
		first := o.create(policy.PGP, ada)
		if first.State != identity.Active || first.ExpiresAt.Sub(o.clock.Now()) < 729*24*time.Hour || first.Algorithm != "X25519" {
			t.Errorf("made %s until %v: %s", first.State, first.ExpiresAt, first.Algorithm)
		}
		old := o.encrypted(first.Key, "old mail")
		o.clock.Advance(time.Second)
		if got := o.signer("Dr.Ada@CLINIC.example").PGP; got == nil || got.Public().Fingerprint() != first.Fingerprint.Reveal() {
			t.Fatal("the new key does not sign")
		}
		armored, _, err := o.signer(ada).PGP.SignDetached(strings.NewReader("text"), o.clock.Now())
		o.must(err)
		if got, err := openpgp.VerifyDetached(strings.NewReader("text"), armored, []openpgp.Key{first.Key}, o.clock.Now()); err != nil || got[0].Status != "valid" {
			t.Errorf("the signature: %+v, %v", got, err)
		}
		for who, s := range map[string]func() (identity.Signing, error){
			"a colleague":          func() (identity.Signing, error) { return o.Signer(ctx, o.clinic, o.address("bo@clinic.example")) },
			"another organization": func() (identity.Signing, error) { return o.Signer(ctx, o.other, o.address(ada)) },
		} {
			if got, err := s(); err != nil || got.PGP != nil {
				t.Errorf("%s signs with it: %v", who, err)
			}
		}

		second, err := o.Rotate(ctx, o.clinic, first.ID, "", o.clock.Now().AddDate(1, 0, 0))
		o.must(err)
		if second.Replaces != first.ID || second.Address.Reveal() != ada || !bytes.Contains(second.Key.Bytes(), []byte("Dr. Ada <"+ada+">")) {
			t.Errorf("the successor: %+v", second.Identity)
		}
		o.clock.Advance(time.Second)
		if got := o.signer(ada).PGP; got == nil || got.Public().Fingerprint() != second.Fingerprint.Reveal() {
			t.Error("the successor does not sign")
		}
		all, err := o.Openers(ctx, o.clinic)
		o.must(err)
		o.opens(all, old, "old mail")
		o.opens(all, o.encrypted(second.Key, "new mail"), "new mail")
		if none, err := o.Openers(ctx, o.other); err != nil || len(none.PGP) != 0 {
			t.Errorf("another organization opens it: %v", err)
		}
		_, err = o.Rotate(ctx, o.clinic, first.ID, "", time.Time{})
		o.refused("rotating a retired key", err, "identity_not_active")

		revoked, err := o.Revoke(ctx, o.clinic, second.ID, identity.Compromised)
		o.must(err)
		if !revoked.Key.Revoked(o.clock.Now()) {
			t.Error("the key does not say that it is revoked")
		}
		o.clock.Advance(time.Second)
		if o.signer(ada).PGP != nil {
			t.Error("a revoked key signs")
		}
		all, err = o.Openers(ctx, o.clinic)
		o.must(err)
		o.opens(all, old, "old mail")
		_, err = o.Revoke(ctx, o.clinic, second.ID, identity.Unused)
		o.refused("revoking again", err, "identity_revoked")
		third := o.create(policy.PGP, ada)
		list, err := o.List(ctx, o.clinic)
		o.must(err)
		var states []identity.State
		for _, i := range list {
			states = append(states, i.State)
		}
		if !slices.Equal(states, []identity.State{identity.Retired, identity.Revoked, identity.Active}) || list[2].ID != third.ID || list[1].Reason != identity.Compromised {
			t.Errorf("the list: %+v", list)
		}
		o.wantTold("created", "retired", "rotated", "revoked", "created")
	})
}

func TestEveryProfile(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	for algorithm, want := range map[identity.Algorithm]string{
		identity.Curve25519: "X25519", identity.RSA3072: "RSA-3072", identity.NISTP256: "ECDH P-256", identity.V6: "X25519",
	} {
		d, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address(string(algorithm) + "@clinic.example"), Kind: policy.PGP, Algorithm: algorithm})
		o.must(err)
		if d.Algorithm != want || !d.ExpiresAt.IsZero() || (d.Key.Version() == 6) != (algorithm == identity.V6) {
			t.Errorf("%s: %s, version %d, until %v", algorithm, d.Algorithm, d.Key.Version(), d.ExpiresAt)
		}
		next, err := o.Rotate(ctx, o.clinic, d.ID, "", time.Time{})
		if o.must(err); next.Algorithm != want {
			t.Errorf("the successor of %s is %s", algorithm, next.Algorithm)
		}
	}
}

func TestWhatIsNotMade(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		first := o.create(policy.PGP, ada)
		now := o.clock.Now()
		for what, tt := range map[string]struct {
			q      identity.Request
			reason string
		}{
			"a second active key":    {identity.Request{Address: o.address("DR.ADA@clinic.example"), Kind: policy.PGP}, "identity_active"},
			"another's domain":       {identity.Request{Address: o.address("eve@other.example"), Kind: policy.PGP}, "domain_not_verified"},
			"nobody's domain":        {identity.Request{Address: o.address("eve@elsewhere.example"), Kind: policy.SMIME}, "domain_not_verified"},
			"a host of the domain":   {identity.Request{Address: o.address("eve@mx.clinic.example"), Kind: policy.PGP}, "domain_not_verified"},
			"no address":             {identity.Request{Kind: policy.PGP}, "bad_address"},
			"no kind":                {identity.Request{Address: o.address(ada), Kind: policy.TLS}, "bad_kind"},
			"an algorithm of S/MIME": {identity.Request{Address: o.address(ada), Kind: policy.PGP, Algorithm: identity.RSA2048}, "bad_algorithm"},
			"one of OpenPGP":         {identity.Request{Address: o.address(ada), Kind: policy.SMIME, Algorithm: identity.V6}, "bad_algorithm"},
			"an end in the past":     {identity.Request{Address: o.address(ada), Kind: policy.PGP, Expires: now}, "bad_expiry"},
			"a certificate's end":    {identity.Request{Address: o.address(ada), Kind: policy.SMIME, Expires: now.Add(time.Hour)}, "bad_expiry"},
			"a name in brackets":     {identity.Request{Address: o.address(ada), Kind: policy.PGP, Name: "x <eve@other.example>"}, "bad_name"},
			"a certificate in UTF-8": {identity.Request{Address: o.address("ädä@clinic.example"), Kind: policy.SMIME}, "bad_address"},
		} {
			_, err := o.Create(ctx, o.clinic, tt.q)
			o.refused(what, err, tt.reason)
		}
		for what, org := range map[string]id.ID{"another organization": o.other, "nobody": id.New()} {
			_, err := o.Show(ctx, org, first.ID)
			o.refused("shown to "+what, err, "no_identity")
			_, err = o.Revoke(ctx, org, first.ID, identity.Unused)
			if err == nil {
				t.Errorf("%s revokes it", what)
			}
			_, err = o.Rotate(ctx, org, first.ID, "", time.Time{})
			o.refused("rotated by "+what, err, "no_identity")
		}
		_, err := o.Revoke(ctx, o.clinic, first.ID, "because")
		o.refused("a reason of one's own", err, "bad_reason")
		o.must(o.accounts.RemoveDomain(ctx, o.clinic, "clinic.example"))
		_, err = o.Rotate(ctx, o.clinic, first.ID, "", time.Time{})
		o.refused("rotating at a domain that was given up", err, "domain_not_verified")
		o.wantTold("created")
	})
}

func TestOneActiveKeyHoweverManyAreMadeAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		var made, rotated atomic.Int32
		var group sync.WaitGroup
		for range 6 {
			node := o.node()
			group.Go(func() {
				_, err := node.Create(ctx, o.clinic, identity.Request{Address: o.address(ada), Kind: policy.PGP})
				if err == nil {
					made.Add(1)
				} else if !fault.Is(err, fault.Conflict) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		list, err := o.List(ctx, o.clinic)
		o.must(err)
		if made.Load() != 1 || len(list) != 1 {
			t.Fatalf("%d were made, %d are there", made.Load(), len(list))
		}
		for range 6 {
			node := o.node()
			group.Go(func() {
				_, err := node.Rotate(ctx, o.clinic, list[0].ID, "", time.Time{})
				if err == nil {
					rotated.Add(1)
				} else if !fault.Is(err, fault.Conflict) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		list, err = o.List(ctx, o.clinic)
		o.must(err)
		if rotated.Load() != 1 || len(list) != 2 || list[0].State != identity.Retired || list[1].State != identity.Active {
			t.Errorf("%d rotations: %+v", rotated.Load(), list)
		}
	})
}

// TestOtherNodesFollow: what one process does, another one's memory learns of
// within a second, and before that it does not ask.
func TestOtherNodesFollow(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	node := o.node()
	has := func() bool {
		s, err := node.Signer(ctx, o.clinic, o.address(ada))
		o.must(err)
		return s.PGP != nil
	}
	if has() {
		t.Fatal("there is no key yet")
	}
	first := o.create(policy.PGP, ada)
	o.clock.Advance(999 * time.Millisecond)
	if has() {
		t.Error("the database is asked for every message")
	}
	o.clock.Advance(time.Millisecond)
	if !has() {
		t.Error("the new key is not seen")
	}
	_, err := o.Revoke(ctx, o.clinic, first.ID, identity.Unspecified)
	o.must(err)
	o.clock.Advance(time.Second)
	if has() {
		t.Error("a revoked key goes on signing elsewhere")
	}
}

func TestExpiredKeysDoNotSign(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	d, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address(ada), Kind: policy.PGP, Expires: o.clock.Now().Add(time.Hour)})
	o.must(err)
	if o.signer(ada).PGP == nil {
		t.Error("it does not sign while it lasts")
	}
	o.clock.Advance(time.Hour)
	if o.signer(ada).PGP != nil {
		t.Error("it signs behind its end")
	}
	renewed, err := o.Renew(ctx, o.clinic, d.ID, o.clock.Now().AddDate(1, 0, 0))
	o.must(err)
	o.clock.Advance(time.Second)
	if s := o.signer(ada).PGP; s == nil || s.Public().Fingerprint() != d.Fingerprint.Reveal() || renewed.Fingerprint != d.Fingerprint {
		t.Error("the renewed key is not the same, or does not sign")
	}
	_, err = o.Renew(ctx, o.clinic, d.ID, o.clock.Now())
	o.refused("an end in the past", err, "bad_expiry")
	o.wantTold("created", "renewed")
}
