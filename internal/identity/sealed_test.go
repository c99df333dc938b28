package identity_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/policy"
)

// TestTheFileShowsNothing looks for secrets, names and addresses in all that
// the database has on disk.
func TestTheFileShowsNothing(t *testing.T) {
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
	ca := newAuthority(o)
	const canary = "canary.ada@clinic.example"
	q := identity.Request{Address: o.address(canary), Kind: policy.PGP, Name: "Canary Name", Expires: o.clock.Now().AddDate(1, 0, 0)}
	pgp, err := o.Create(ctx, o.clinic, q)
	o.must(err)
	next, err := o.Rotate(ctx, o.clinic, pgp.ID, "", time.Time{})
	o.must(err)
	_, err = o.Revoke(ctx, o.clinic, next.ID, identity.Compromised)
	o.must(err)
	smime := o.create(policy.SMIME, canary)
	smime, err = o.Install(ctx, o.clinic, smime.ID, ca.issue(smime.CSR, "20"))
	o.must(err)
	o.must(o.WarnExpiring(ctx))
	all, err := o.Openers(ctx, o.clinic)
	o.must(err)
	kept, err := o.Revocation(ctx, o.clinic, pgp.ID)
	o.must(err)

	var disk []byte
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	o.must(err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		o.must(err)
		disk = append(disk, b...)
	}
	if !bytes.Contains(disk, []byte("clinic.example")) {
		t.Fatal("this is not what the database holds")
	}
	secret := all.PGP[0].Bytes().Reveal()
	seen := map[string][]byte{
		"the address": []byte("canary"), "the name": []byte("Canary"), "a name in Base64": []byte("Y2FuYXJ5"),
		"the OpenPGP secret": secret[len(secret)-48 : len(secret)-16], "the OpenPGP key": pgp.Key.Bytes()[20:60], "its revocation": kept.Bytes()[60:100],
		"the certificate": smime.Certificate.Raw[100:140], "its key": smime.Certificate.RawSubjectPublicKeyInfo[30:70],
		"the fingerprint": []byte(pgp.Fingerprint.Reveal()), "the directory's name": []byte(identity.Hash(o.address(canary))),
	}
	raw, err := hex.DecodeString(pgp.Fingerprint.Reveal())
	o.must(err)
	seen["the fingerprint in binary"] = raw
	for what, text := range seen {
		for form, b := range map[string][]byte{"": text, " in hex": []byte(hex.EncodeToString(text)), " in Base64": []byte(base64.StdEncoding.EncodeToString(text)[:8])} {
			if bytes.Contains(disk, b) {
				t.Errorf("the database shows %s%s", what, form)
			}
		}
	}
	if strings.Contains(o.log.String(), "anary") {
		t.Errorf("the log: %s", o.log)
	}
}

func TestKeysEndWithTheirOrganization(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		first := o.create(policy.PGP, ada)
		o.create(policy.SMIME, ada)
		domainOfOther, err := o.Create(ctx, o.other, identity.Request{Address: o.address("eve@other.example"), Kind: policy.PGP})
		o.must(err)
		message := o.encrypted(first.Key, "mail")
		hash := identity.Hash(o.address(ada))

		// A rotation of the organization's key touches nothing.
		_, err = o.keys.RotateOrg(ctx, o.clinic)
		o.must(err)
		o.clock.Advance(time.Second)
		fresh := o.node()
		all, err := fresh.Openers(ctx, o.clinic)
		o.must(err)
		o.opens(all, message, "mail")
		other := o.node() // has it in memory for signing
		if s, err := other.Signer(ctx, o.clinic, o.address(ada)); err != nil || s.PGP == nil || o.signer(ada).PGP == nil {
			t.Error("a rotation of custody ends signing")
		}
		if _, err := o.Published(ctx, "clinic.example", hash); err != nil {
			t.Errorf("published: %v", err)
		}

		_, err = o.accounts.DestroyOrg(ctx, o.clinic)
		o.must(err)
		if s, err := other.Signer(ctx, o.clinic, o.address(ada)); err == nil || s.PGP != nil {
			t.Error("a destroyed organization signs from memory")
		}
		for _, node := range []*identity.Service{o.Service, fresh, other, o.node()} { // also those that have it in memory
			if s, err := node.Openers(ctx, o.clinic); err == nil || len(s.PGP) > 0 {
				t.Error("a destroyed organization opens mail")
			}
			if s, err := node.Signer(ctx, o.clinic, o.address(ada)); err == nil || s.PGP != nil {
				t.Error("a destroyed organization signs")
			}
			if _, err := node.Published(ctx, "clinic.example", hash); !fault.Is(err, fault.NotFound) {
				t.Errorf("a destroyed organization publishes: %v", err)
			}
			_, err = node.Show(ctx, o.clinic, first.ID)
			o.refused("shown", err, custody.ErrDestroyed.Reason)
		}
		list, err := o.List(ctx, o.clinic)
		o.must(err)
		if len(list) != 2 || !list[0].Unreadable || !list[0].Address.IsZero() || list[0].Algorithm != "X25519" {
			t.Errorf("what is left: %+v", list)
		}
		o.clock.Advance(700 * day)
		o.must(o.WarnExpiring(ctx))
		if _, err := o.Show(ctx, o.other, domainOfOther.ID); err != nil {
			t.Errorf("the other organization's key: %v", err)
		}
	})
}
