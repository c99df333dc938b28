package auth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/private"
)

func TestKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		now := clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
		org, neighbor := id.New(), id.New()
		clients := auth.New(auth.Deps{DB: d, Custody: custodytest.New(t, d, org, neighbor), Clock: now})
		made, key, err := clients.Create(ctx, auth.Client{Org: org, Name: "lab", Scopes: []auth.Scope{auth.Send},
			DefaultPurpose: "treatment", ExpiresAt: now.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		p, err := clients.Authenticate(ctx, key)
		if err != nil || p.Org != org || p.Client != made.ID || !p.May(auth.Send) || p.May(auth.Events) {
			t.Fatalf("Authenticate = %+v, %v", p, err)
		}
		refused := func(why string, key string) {
			t.Helper()
			_, err := clients.Authenticate(ctx, private.NewString(key))
			if f := fault.From(err); f.Reason != "bad_key" {
				t.Errorf("%s: %v", why, f)
			}
		}
		good := key.Reveal()
		last := good[len(good)-1]
		other := byte('A')
		if last == other {
			other = 'Q'
		}
		refused("empty", "")
		refused("no prefix", strings.TrimPrefix(good, "sealpost_"))
		refused("wrong secret", good[:60]+"AAAA"+good[64:])
		refused("last character", good[:len(good)-1]+string(other))
		refused("cut short", good[:len(good)-4])

		// The key of one organization does not work with another's id in it.
		_, foreign, err := clients.Create(ctx, auth.Client{Org: neighbor, Name: "x", Scopes: auth.Scopes()})
		if err != nil {
			t.Fatal(err)
		}
		refused("another organization's id", "sealpost_"+foreign.Reveal()[9:30]+good[30:])

		now.Advance(time.Hour)
		refused("expired", good)
	})
}

func TestRevocationWorksWithinASecond(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		now := clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
		org := id.New()
		keys := custodytest.New(t, d, org)
		clients, elsewhere := auth.New(auth.Deps{DB: d, Custody: keys, Clock: now}), auth.New(auth.Deps{DB: d, Custody: keys, Clock: now})
		made, key, err := clients.Create(ctx, auth.Client{Org: org, Name: "lab", Scopes: auth.Scopes()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := clients.Authenticate(ctx, key); err != nil {
			t.Fatal(err)
		}
		if err := elsewhere.Revoke(ctx, made.Org, made.ID); err != nil {
			t.Fatal(err)
		}
		now.Advance(time.Second)
		if _, err := clients.Authenticate(ctx, key); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("a revoked key works a second later: %v", err)
		}
		if err := elsewhere.Revoke(ctx, made.Org, made.ID); !fault.Is(err, fault.NotFound) {
			t.Fatalf("revoked twice: %v", err)
		}
		if err := elsewhere.Revoke(ctx, id.New(), made.ID); !fault.Is(err, fault.NotFound) {
			t.Fatalf("revoked by another organization: %v", err)
		}
	})
}

// Somebody who can write to the database, and has a key of little use, neither
// widens it nor makes another one of it.
func TestWritingRowsMakesNoKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		now := clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
		org, neighbor := id.New(), id.New()
		keys := custodytest.New(t, d, org, neighbor)
		clients := auth.New(auth.Deps{DB: d, Custody: keys, Clock: now})
		made, key, err := clients.Create(ctx, auth.Client{Org: org, Name: "lab", Scopes: []auth.Scope{auth.Send}, ExpiresAt: now.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		works := func(key private.String) bool {
			_, err := auth.New(auth.Deps{DB: d, Custody: keys, Clock: now}).Authenticate(ctx, key)
			if err != nil && !fault.Is(err, fault.Unauthenticated) {
				t.Fatal(err)
			}
			return err == nil
		}
		exec := func(query string, args ...any) {
			t.Helper()
			if err := d.Write(ctx, org, func(tx *db.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
				t.Fatal(err)
			}
		}
		b, err := base64.RawURLEncoding.DecodeString(key.Reveal()[len("sealpost_"):])
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b[32:])
		forged := id.New()
		exec("INSERT INTO auth_clients (id, org_id, name, secret_hmac, scopes, default_purpose, created_at) VALUES (?, ?, 'x', ?, 'messages:read', '', 0)",
			forged, org, sum[:])
		copy(b[16:], forged[:])
		if works(private.NewString("sealpost_" + base64.RawURLEncoding.EncodeToString(b))) {
			t.Error("a row with the SHA-256 of a secret is a key")
		}
		exec("UPDATE auth_clients SET secret_hmac = (SELECT secret_hmac FROM auth_clients WHERE id = ?) WHERE id = ?", made.ID, forged)
		if works(private.NewString("sealpost_" + base64.RawURLEncoding.EncodeToString(b))) {
			t.Error("the hash of one key serves another row")
		}
		for _, change := range []string{"scopes = 'messages:read messages:send'", "expires_at = NULL", "default_purpose = 'generic'"} {
			if !works(key) {
				t.Fatal("the key does not work")
			}
			exec("UPDATE auth_clients SET "+change+" WHERE id = ?", made.ID)
			if works(key) {
				t.Errorf("after %s the key still works", change)
			}
			exec("UPDATE auth_clients SET scopes = 'messages:send', expires_at = ?, default_purpose = '' WHERE id = ?",
				clock.Micros(made.ExpiresAt), made.ID)
		}
		exec("UPDATE auth_clients SET org_id = ? WHERE id = ?", neighbor, made.ID)
		if works(key) {
			t.Error("a key that was moved to another organization works")
		}
		exec("UPDATE auth_clients SET org_id = ? WHERE id = ?", org, made.ID)
		if !works(key) {
			t.Error("the key does not work any more")
		}
		if _, err := keys.DestroyOrg(org); err != nil {
			t.Fatal(err)
		}
		if works(key) {
			t.Error("a key of an organization whose keys are destroyed works")
		}
	})
}
