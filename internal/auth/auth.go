// Package auth knows who acts: today API clients, by their keys. Members'
// sign-in arrives with the console.
//
// Invariants:
//   - A key is 256 random bits and is shown once, when it is made. Stored is
//     an HMAC under the organization's index key, over the secret and all that
//     it may do: whoever can only write to the database can neither make a key
//     nor widen one.
//   - A key carries its organization's id, so that looking it up names an
//     organization like every other query.
//   - A wrong key, an expired one, a revoked one, one of another installation
//     and one of an organization whose keys are destroyed get the same answer.
//   - Revocation takes effect within a second on every node.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
)

// Scope is one thing a client may do.
type Scope string

// The scopes.
const (
	Send   Scope = "messages:send"   // hand in mail, by API or SMTP
	Read   Scope = "messages:read"   // read messages, deliveries and search
	Cancel Scope = "messages:cancel" // cancel what is not sent yet
	Events Scope = "events:read"     // read the event stream

	ReadSuppressions  Scope = "suppressions:read"  // see which addresses are suppressed
	WriteSuppressions Scope = "suppressions:write" // suppress addresses, and take that back
)

// Scopes are all scopes.
func Scopes() []Scope {
	return []Scope{Send, Read, Cancel, Events, ReadSuppressions, WriteSuppressions}
}

// Principal is who hands in or asks: a client of an organization, or a relay's
// source network.
type Principal struct {
	Org            id.ID
	Client         id.ID // zero for a relay's source network
	Scopes         []Scope
	DefaultPurpose string
}

// May reports whether the principal has a scope.
func (p Principal) May(s Scope) bool { return slices.Contains(p.Scopes, s) }

// Client is an API client as commands list it, without its secret.
type Client struct {
	ID             id.ID
	Org            id.ID
	Name           string
	Scopes         []Scope
	DefaultPurpose string
	CreatedAt      time.Time
	ExpiresAt      time.Time // zero for never
	RevokedAt      time.Time // zero while it works
}

// Deps are what the clients need.
type Deps struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
}

// Clients is the store of API clients.
type Clients struct {
	Deps
	seen cache
}

// New gives the API clients of one installation.
func New(d Deps) *Clients { return &Clients{Deps: d} }

// keyPrefix makes keys recognizable to people and to secret scanners.
const keyPrefix = "sealpost_"

func encodeKey(org, client id.ID, secret []byte) string {
	return keyPrefix + base64.RawURLEncoding.EncodeToString(slices.Concat(org[:], client[:], secret))
}

func decodeKey(key string) (org, client id.ID, secret []byte, ok bool) {
	rest, ok := strings.CutPrefix(key, keyPrefix)
	if !ok || len(rest) != 86 {
		return org, client, nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) != 64 {
		return org, client, nil, false
	}
	return id.ID(b[:16]), id.ID(b[16:32]), b[32:], true
}

// clientFact is the clear part of a client's ledger entries.
type clientFact struct {
	Client string  `json:"client"`
	Scopes []Scope `json:"scopes,omitempty"`
}

// Create makes a client and gives its key, which is shown only this once.
func (c *Clients) Create(ctx context.Context, client Client) (Client, private.String, error) {
	for _, s := range client.Scopes {
		if !slices.Contains(Scopes(), s) {
			return client, private.String{}, fault.New(fault.Invalid, "bad_scope",
				"A scope is one of messages:send, messages:read, messages:cancel, events:read, suppressions:read and suppressions:write.")
		}
	}
	if len(client.Scopes) == 0 || client.Name == "" || len(client.Name) > 200 {
		return client, private.String{}, fault.New(fault.Invalid, "bad_client", "A client needs a name of up to 200 characters and at least one scope.")
	}
	client.ID, client.CreatedAt = id.New(), c.Clock.Now()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	mac, err := c.mac(client, secret)
	if err != nil {
		return client, private.String{}, err
	}
	err = c.DB.WriteAlone(ctx, client.Org, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO auth_clients
			(id, org_id, name, secret_hmac, scopes, default_purpose, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			client.ID, client.Org, client.Name, mac, joinScopes(client.Scopes), client.DefaultPurpose,
			clock.Micros(client.CreatedAt), nullMicros(client.ExpiresAt)); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.APIKeyCreated, At: client.CreatedAt,
			Data: clientFact{client.ID.Text(id.Client), client.Scopes}})
	})
	return client, private.NewString(encodeKey(client.Org, client.ID, secret)), err
}

// Revoke ends a client. Its key stops working within a second.
func (c *Clients) Revoke(ctx context.Context, org, client id.ID) error {
	now := c.Clock.Now()
	return c.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		n, err := tx.Exec("UPDATE auth_clients SET revoked_at = ? WHERE org_id = ? AND id = ? AND revoked_at IS NULL",
			clock.Micros(now), org, client)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.NotFound, "no_client", "The organization has no such key, or it is revoked already.")
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.APIKeyRevoked, At: now, Data: clientFact{Client: client.Text(id.Client)}})
	})
}

// List gives the organization's clients, oldest first.
func (c *Clients) List(ctx context.Context, org id.ID) (all []Client, err error) {
	err = c.DB.Read(ctx, org, func(tx *db.Tx) error {
		all, err = db.All(tx, func(row db.Row) (Client, error) {
			cl, _, err := scanClient(row)
			return cl, err
		}, "SELECT "+clientColumns+" FROM auth_clients WHERE org_id = ? ORDER BY id", org)
		return err
	})
	return all, err
}

// unknown is the one answer to every key that does not work.
var unknown = fault.New(fault.Unauthenticated, "bad_key", "The API key is missing, unknown, expired or revoked.")

// Authenticate gives the principal behind a key.
func (c *Clients) Authenticate(ctx context.Context, key private.String) (Principal, error) {
	org, client, secret, ok := decodeKey(key.Reveal())
	if !ok {
		return Principal{}, unknown
	}
	cl, sum, err := c.find(ctx, org, client)
	if err != nil {
		return Principal{}, err
	}
	if cl.ID.IsZero() {
		return Principal{}, unknown
	}
	given, err := c.mac(cl, secret)
	if errors.Is(err, custody.ErrDestroyed) {
		return Principal{}, unknown
	}
	if err != nil {
		return Principal{}, err
	}
	match := hmac.Equal(given, sum)
	now := c.Clock.Now()
	expired := !cl.ExpiresAt.IsZero() && !now.Before(cl.ExpiresAt)
	if !match || expired || !cl.RevokedAt.IsZero() {
		return Principal{}, unknown
	}
	return Principal{Org: cl.Org, Client: cl.ID, Scopes: cl.Scopes, DefaultPurpose: cl.DefaultPurpose}, nil
}

const indexClient = "auth.client.v1"

// mac is what is stored of a client's secret. It covers what the client may
// do, and not what may change: the name, and that it is revoked.
func (c *Clients) mac(cl Client, secret []byte) ([]byte, error) {
	expires := int64(0)
	if !cl.ExpiresAt.IsZero() {
		expires = clock.Micros(cl.ExpiresAt)
	}
	return c.Custody.Index(cl.Org, indexClient, fmt.Sprintf("%s\n%s\n%s\n%d\n%s",
		cl.ID.Text(id.Client), joinScopes(cl.Scopes), cl.DefaultPurpose, expires, secret))
}

// find gives the client and what is stored of its secret, from the cache for
// up to a second. An unknown client is the zero one.
func (c *Clients) find(ctx context.Context, org, client id.ID) (cl Client, sum []byte, err error) {
	now := c.Clock.Now()
	if cl, sum, ok := c.seen.get(client, now); ok && cl.Org == org {
		return cl, sum, nil
	}
	err = c.DB.Read(ctx, org, func(tx *db.Tx) error {
		cl, sum, err = scanClient(tx.Row("SELECT "+clientColumns+" FROM auth_clients WHERE org_id = ? AND id = ?", org, client))
		if errors.Is(err, sql.ErrNoRows) {
			cl, sum, err = Client{}, nil, nil
		}
		return err
	})
	if err == nil && !cl.ID.IsZero() {
		c.seen.put(cl, sum, now)
	}
	return cl, sum, err
}

const clientColumns = "id, org_id, name, secret_hmac, scopes, default_purpose, created_at, expires_at, revoked_at"

func scanClient(row db.Row) (Client, []byte, error) {
	var cl Client
	var sum []byte
	var scopes string
	var created int64
	var expires, revoked sql.NullInt64
	err := row.Scan(&cl.ID, &cl.Org, &cl.Name, &sum, &scopes, &cl.DefaultPurpose, &created, &expires, &revoked)
	if err != nil {
		return cl, nil, err
	}
	for _, s := range strings.Fields(scopes) {
		cl.Scopes = append(cl.Scopes, Scope(s))
	}
	cl.CreatedAt = clock.FromMicros(created)
	if expires.Valid {
		cl.ExpiresAt = clock.FromMicros(expires.Int64)
	}
	if revoked.Valid {
		cl.RevokedAt = clock.FromMicros(revoked.Int64)
	}
	return cl, sum, nil
}

func joinScopes(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}

func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return clock.Micros(t)
}
