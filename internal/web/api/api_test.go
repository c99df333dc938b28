package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/private/privatetest"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
	"github.com/sealpost/sealpost/internal/suppress"
	"github.com/sealpost/sealpost/internal/web"
)

// world is the API with everything behind it, and two organizations.
type world struct {
	*submittest.House
	clock   *clock.Fake
	log     *privatetest.Log
	mux     *http.ServeMux
	handler http.Handler
	api     *API
	key     string            // all scopes
	other   string            // of the other organization, all scopes
	scoped  map[string]string // by scope, with that scope only
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC))
	w := &world{House: submittest.New(t, d, fake, "clinic.example"), clock: fake, log: &privatetest.Log{}, scoped: map[string]string{}}
	other := w.NewOrg("other", "other.example")
	w.key, w.other = w.newKey(w.Org.ID, auth.Scopes()...), w.newKey(other.ID, auth.Scopes()...)
	for _, s := range auth.Scopes() {
		w.scoped[string(s)] = w.newKey(w.Org.ID, s)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	postures := map[string]policy.Posture{
		"good.example": {Known: true, TLSKnown: true, CanTLS: policy.Verified},
		"weak.example": {Known: true, TLSKnown: true, CanTLS: policy.Encrypted},
		"none.example": {Known: true, TLSKnown: true, CanTLS: policy.None},
	}
	door := w.Door(func(deps *submit.Deps) {
		deps.Hostname, deps.MaxSize, deps.MaxRecipients, deps.Log = "mail.clinic.example", 300_000, 20, log
		deps.Posture = func(_ context.Context, domain string) policy.Posture { return postures[domain] }
	})
	w.api = must(New(Deps{Door: door, Desk: &spool.Desk{DB: d, Custody: w.Custody},
		Suppress: suppress.New(suppress.Deps{DB: d, Custody: w.Custody, Clock: w.clock}), Clients: w.Clients, Clock: w.clock, Log: log,
		Events: func(ctx context.Context, org id.ID, after int64, limit int) ([]ledger.Event, int64, error) {
			return ledger.Read(ctx, d, org, after, limit)
		}, PublicURL: "https://mail.clinic.example", MaxBody: 600_000}))
	w.mux = http.NewServeMux()
	w.api.Routes(w.mux)
	w.handler = web.Wrap(web.Deps{Log: log, Clock: w.clock, PublicURL: "https://mail.clinic.example"}, w.mux)
	return w
}

func (w *world) newKey(org id.ID, scopes ...auth.Scope) string {
	_, key := w.NewKey(org, scopes...)
	return key
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// ask makes a request; header is a list of names and values. The key is the
// world's unless header has an Authorization.
func (w *world) ask(method, path, body string, header ...string) answer {
	w.T.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+w.key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r)
	a := answer{status: out.Code, header: out.Header(), text: out.Body.String()}
	_ = json.Unmarshal(out.Body.Bytes(), &a.body)
	return a
}

func (w *world) send(body string, header ...string) answer {
	w.T.Helper()
	return w.ask("POST", "/api/v1/messages", body, header...)
}

// accepted sends and gives the ids of the message and its deliveries.
func (w *world) accepted(body string) (message string, deliveries []string) {
	w.T.Helper()
	a := w.send(body)
	if a.status != http.StatusAccepted {
		w.T.Fatalf("send: %d %s", a.status, a.text)
	}
	for _, d := range a.body["deliveries"].([]any) {
		deliveries = append(deliveries, d.(map[string]any)["id"].(string))
	}
	return a.body["id"].(string), deliveries
}

// mistakes gives pointer, parameter or header → code of a problem.
func (a answer) mistakes() map[string]string {
	all := map[string]string{}
	list, _ := a.body["errors"].([]any)
	for _, e := range list {
		m := e.(map[string]any)
		where := ""
		for _, k := range []string{"pointer", "parameter", "header"} {
			if v, ok := m[k].(string); ok {
				where = v
			}
		}
		all[where] = m["code"].(string)
	}
	return all
}

var requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{16}"`)

// same is the answer without what differs between any two requests.
func (a answer) same() string {
	h := a.header.Clone()
	h.Del("X-Request-Id")
	return requestID.ReplaceAllString(a.text, "") + string(must(json.Marshal(h)))
}

func (w *world) write(fn func(tx *db.Tx) error) {
	w.T.Helper()
	if err := w.DB.WriteAlone(context.Background(), w.Org.ID, fn); err != nil {
		w.T.Fatal(err)
	}
}

// attempt makes the first delivery fail for a while, as the engine would.
func (w *world) attempt(message, delivery string) {
	w.T.Helper()
	run := id.New()
	msg, dlv := must(id.Parse(id.Message, message)), must(id.Parse(id.Delivery, delivery))
	w.write(func(tx *db.Tx) error {
		_, err := spooltest.TakeAll(tx, run, w.clock.Now())
		return err
	})
	it := spool.Item{ID: dlv, Org: w.Org.ID, Message: msg, Domain: "good.example"}
	w.write(func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, w.Custody, msg)
		if err != nil {
			return err
		}
		d, err := spool.LoadDelivery(tx, m.Key, dlv)
		if err != nil {
			return err
		}
		if ok, err := spool.Start(tx, it, run, d.Plan, spool.Sealing{Seal: policy.TLS}, nil, w.clock.Now()); err != nil || !ok {
			w.T.Fatalf("start: %v %v", ok, err)
		}
		w.clock.Advance(2 * time.Second)
		_, err = spool.Finish(tx, it, run, m.Key, spool.Outcome{State: spool.Deferred, Reason: spool.ReasonTemporary, NextAt: w.clock.Now().Add(time.Hour), At: w.clock.Now(),
			Attempt: &spool.Attempt{Number: 1, Seal: policy.TLS, Result: spool.ResultTemporary, Host: "mx.good.example", Code: 450, Enhanced: "4.2.0",
				Reply: private.NewString("ada@good.example is greylisted"), Began: w.clock.Now().Add(-2 * time.Second),
				Evidence: &spool.Evidence{Grade: policy.Verified, TLSVersion: "TLS 1.3", MX: "mx.good.example"}}})
		return err
	})
}
