package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
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
		clients := auth.New(auth.Deps{DB: d, Clock: now})
		org := id.New()
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
		_, foreign, err := clients.Create(ctx, auth.Client{Org: id.New(), Name: "x", Scopes: auth.Scopes()})
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
		clients, elsewhere := auth.New(auth.Deps{DB: d, Clock: now}), auth.New(auth.Deps{DB: d, Clock: now})
		made, key, err := clients.Create(ctx, auth.Client{Org: id.New(), Name: "lab", Scopes: auth.Scopes()})
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
