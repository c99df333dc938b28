package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/web"
)

// world is the API with everything behind it, and two organizations.
type world struct {
	t        *testing.T
	db       *db.DB
	custody  *custody.Custody
	blob     *blob.Store
	accounts *account.Accounts
	clients  *auth.Clients
	clock    *clock.Fake
	log      *logged
	mux      *http.ServeMux
	handler  http.Handler
	api      *API
	org      id.ID
	key      string            // all scopes
	other    string            // of the other organization, all scopes
	scoped   map[string]string // by scope, with that scope only
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, db: d, custody: custodytest.New(t, d), clock: clock.NewFake(time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)),
		log: &logged{}, scoped: map[string]string{}}
	w.blob = blob.New(d, t.TempDir())
	w.accounts = account.New(account.Deps{DB: d, Custody: w.custody, Clock: w.clock})
	w.clients = auth.New(auth.Deps{DB: d, Custody: w.custody, Clock: w.clock})
	org, other := must(w.accounts.CreateOrg(ctx, "clinic", "Clinic")), must(w.accounts.CreateOrg(ctx, "other", "Other"))
	w.org = org.ID
	for name, owner := range map[string]id.ID{"clinic.example": org.ID, "other.example": other.ID} {
		must(w.accounts.AddDomain(ctx, owner, name))
		must(w.accounts.ForceDomain(ctx, owner, name))
	}
	w.key, w.other = w.newKey(org.ID, auth.Scopes()...), w.newKey(other.ID, auth.Scopes()...)
	for _, s := range auth.Scopes() {
		w.scoped[string(s)] = w.newKey(org.ID, s)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	postures := map[string]policy.Posture{
		"good.example": {Known: true, TLSKnown: true, CanTLS: policy.Verified},
		"weak.example": {Known: true, TLSKnown: true, CanTLS: policy.Encrypted},
		"none.example": {Known: true, TLSKnown: true, CanTLS: policy.None},
	}
	door := submit.New(submit.Deps{
		Config: submit.Config{Hostname: "mail.clinic.example", MaxSize: 300_000, MaxRecipients: 20, ExpireAfter: 48 * time.Hour, IdempotencyTTL: 72 * time.Hour},
		DB:     d, Custody: w.custody, Blob: w.blob, Accounts: w.accounts, Clock: w.clock, Log: log,
		Posture: func(_ context.Context, domain string) policy.Posture { return postures[domain] },
		Reserve: func(int) id.ID { return id.ID{} }, Push: func(int, []spool.Work) {},
	})
	w.api = must(New(Deps{Door: door, Desk: &spool.Desk{DB: d, Custody: w.custody}, Clients: w.clients, Clock: w.clock, Log: log,
		Events: func(ctx context.Context, org id.ID, after int64, limit int) ([]ledger.Event, int64, error) {
			return ledger.Read(ctx, d, org, after, limit)
		}, PublicURL: "https://mail.clinic.example", MaxBody: 600_000}))
	w.mux = http.NewServeMux()
	w.api.Routes(w.mux)
	w.handler = web.Wrap(web.Deps{Log: log, Clock: w.clock, PublicURL: "https://mail.clinic.example"}, w.mux)
	return w
}

func (w *world) newKey(org id.ID, scopes ...auth.Scope) string {
	_, key, err := w.clients.Create(context.Background(), auth.Client{Org: org, Name: "test", Scopes: scopes})
	if err != nil {
		w.t.Fatal(err)
	}
	return key.Reveal()
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
	w.t.Helper()
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
	w.t.Helper()
	return w.ask("POST", "/api/v1/messages", body, header...)
}

// accepted sends and gives the ids of the message and its deliveries.
func (w *world) accepted(body string) (message string, deliveries []string) {
	w.t.Helper()
	a := w.send(body)
	if a.status != http.StatusAccepted {
		w.t.Fatalf("send: %d %s", a.status, a.text)
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

// stored gives the messages in the spool as they are sent, newest first.
func (w *world) stored() []string {
	w.t.Helper()
	var all []string
	err := w.db.Read(context.Background(), w.org, func(tx *db.Tx) error {
		ids, err := spool.Find(tx, spool.Search{Limit: 10_000})
		all = nil
		for _, i := range ids {
			m, err := spool.LoadMessage(tx, w.custody, i)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(w.blob.Open(context.Background(), m.Key, m.Blob))
			if err != nil {
				return err
			}
			all = append(all, string(m.Header)+string(body))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) write(fn func(tx *db.Tx) error) {
	w.t.Helper()
	if err := w.db.WriteAlone(context.Background(), w.org, fn); err != nil {
		w.t.Fatal(err)
	}
}

// attempt makes the first delivery fail for a while, as the engine would.
func (w *world) attempt(message, delivery string) {
	w.t.Helper()
	run := id.New()
	msg, dlv := must(id.Parse(id.Message, message)), must(id.Parse(id.Delivery, delivery))
	w.write(func(tx *db.Tx) error {
		_, err := spool.Take(tx, run, w.clock.Now(), 100)
		return err
	})
	it := spool.Item{ID: dlv, Org: w.org, Message: msg, Domain: "good.example"}
	w.write(func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, w.custody, msg)
		if err != nil {
			return err
		}
		d, err := spool.LoadDelivery(tx, m.Key, dlv)
		if err != nil {
			return err
		}
		if ok, err := spool.Start(tx, it, run, d.Plan, policy.TLS, nil, w.clock.Now()); err != nil || !ok {
			w.t.Fatalf("start: %v %v", ok, err)
		}
		w.clock.Advance(2 * time.Second)
		_, err = spool.Finish(tx, it, run, m.Key, spool.Outcome{State: spool.Deferred, Reason: spool.ReasonTemporary, NextAt: w.clock.Now().Add(time.Hour), At: w.clock.Now(),
			Attempt: &spool.Attempt{Number: 1, Seal: policy.TLS, Result: spool.ResultTemporary, Host: "mx.good.example", Code: 450, Enhanced: "4.2.0",
				Reply: private.NewString("ada@good.example is greylisted"), Began: w.clock.Now().Add(-2 * time.Second),
				Evidence: &spool.Evidence{Grade: policy.Verified, TLSVersion: "TLS 1.3", MX: "mx.good.example"}}})
		return err
	})
}
