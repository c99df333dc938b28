package pickup_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/pickup/pickuptest"
	"github.com/sealpost/sealpost/internal/private"
)

// Somebody who can write to the database, even one who may read a message of
// the same organization, reads no other one.
func TestWritingRowsOpensNothing(t *testing.T) {
	each(t, func(t *testing.T, w *pickuptest.World) {
		exec := func(query string, args ...any) {
			t.Helper()
			w.Write(func(tx *db.Tx) error { _, err := tx.Exec(query, args...); return err })
		}
		victim, _ := w.Send(letter, "pat@home.example")
		mine, link := w.Send(letter, "mallory@home.example")
		browser := pickup.NewBrowser()
		w.Ask(pickuptest.Credential(link), browser)
		session, err := w.Pickup.Redeem(ctx, pickuptest.Credential(link), browser, w.LastCode())
		must(t, err)

		token := make([]byte, 32)
		sum := sha256.Sum256(token)
		for _, mac := range []any{sum[:], []byte{}} {
			exec("DELETE FROM pickup_sessions WHERE token_sha256 = ?", sum[:])
			exec("INSERT INTO pickup_sessions (token_sha256, org_id, delivery_id, seal_hmac, created_at, expires_at) VALUES (?, ?, ?, ?, 0, ?)",
				sum[:], w.Org.ID, victim.ID, mac, clock.Micros(w.Clock.Now())+1e9)
			forged := private.NewString(base64.RawURLEncoding.EncodeToString(append(w.Org.ID[:], token...)))
			if _, err := w.Pickup.Open(ctx, forged); !errors.Is(err, pickup.ErrNoSession) {
				t.Errorf("a session made of a row: %v", err)
			}
		}
		exec("UPDATE pickup_sessions SET delivery_id = ? WHERE delivery_id = ?", victim.ID, mine.ID)
		if _, err := w.Pickup.Open(ctx, session); !errors.Is(err, pickup.ErrNoSession) {
			t.Errorf("a session led to another delivery: %v", err)
		}
		exec("UPDATE pickup_sessions SET delivery_id = ?", mine.ID)
		_, err = w.Pickup.Open(ctx, session)
		must(t, err)
		exec("UPDATE pickup_links SET message_id = ? WHERE delivery_id = ?", victim.Message, mine.ID)
		if _, err := w.Pickup.Open(ctx, session); err == nil {
			t.Error("a link led to another message")
		}
	})
}
