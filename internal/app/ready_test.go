package app

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
)

// A node that cannot write, or may not send, says so; it does not say that it
// is ill.
func TestReadinessIsWhatTheNodeCanDo(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := clock.NewFake(time.Now())
		s := &Server{Core: &Core{DB: d}, engine: deliver.New(deliver.Deps{DB: d, Clock: c, Log: slog.New(slog.DiscardHandler), Config: deliver.Config{Alone: true}})}
		if err := s.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		ask := func(want string) {
			t.Helper()
			w := httptest.NewRecorder()
			s.readyz(w, httptest.NewRequest("GET", "/readyz", nil))
			body, _ := io.ReadAll(w.Body)
			if (w.Code == 200) != (want == "ready") || !strings.Contains(string(body), want) {
				t.Errorf("%d %s, want %s", w.Code, body, want)
			}
		}
		ask("starts or stops")
		s.ready.Store(true)
		ask("ready")
		s.engine.Stop(context.Background()) // nobody renews the lease
		c.Advance(time.Minute)
		ask("lease")
		s.engine = nil
		ask("ready")
		if d.Dialect == db.SQLite {
			release := stuck(t, d)
			ask("takes no writes")
			release()
			ask("ready")
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		ask("takes no writes")
	})
}

// stuck keeps the one connection that writes to SQLite from its work.
func stuck(t *testing.T, d *db.DB) (release func()) {
	t.Helper()
	began, end, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		done <- d.WriteAlone(context.Background(), db.System, func(*db.Tx) error { close(began); <-end; return nil })
	}()
	<-began
	return func() {
		close(end)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
