// Package submittest gives tests an installation with an organization in it,
// up to the front door.
package submittest

import (
	"context"
	"io"
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
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// House is an installation with new keys.
type House struct {
	T        testing.TB
	DB       *db.DB
	Custody  *custody.Custody
	Blob     *blob.Store
	Accounts *account.Accounts
	Clients  *auth.Clients
	Clock    clock.Clock
	Org      account.Org // "clinic", which New makes
}

// New gives a house whose organization sends from domain.
func New(t testing.TB, d *db.DB, c clock.Clock, domain string) *House {
	t.Helper()
	h := &House{T: t, DB: d, Custody: custodytest.New(t, d), Blob: blob.New(d, t.TempDir()), Clock: c}
	h.Accounts = account.New(account.Deps{DB: d, Custody: h.Custody, Clock: c})
	h.Clients = auth.New(auth.Deps{DB: d, Custody: h.Custody, Clock: c})
	h.Org = h.NewOrg("clinic", domain)
	return h
}

// NewOrg makes an organization that sends from domain.
func (h *House) NewOrg(slug, domain string) account.Org {
	h.T.Helper()
	ctx := context.Background()
	o, err := h.Accounts.CreateOrg(ctx, slug, slug)
	if err != nil {
		h.T.Fatal(err)
	}
	if _, err := h.Accounts.AddDomain(ctx, o.ID, domain); err != nil {
		h.T.Fatal(err)
	}
	if _, err := h.Accounts.ForceDomain(ctx, o.ID, domain); err != nil {
		h.T.Fatal(err)
	}
	return o
}

// NewKey makes an API key of the organization.
func (h *House) NewKey(org id.ID, scopes ...auth.Scope) (auth.Client, string) {
	h.T.Helper()
	client, key, err := h.Clients.Create(context.Background(), auth.Client{Org: org, Name: "test", Scopes: scopes})
	if err != nil {
		h.T.Fatal(err)
	}
	return client, key.Reveal()
}

// Door gives a front door on a node that does not deliver and knows nothing of
// recipients' domains. change says what is different.
func (h *House) Door(change func(*submit.Deps)) *submit.Door {
	deps := submit.Deps{
		Config: submit.Config{Hostname: "mail.clinic.test", MaxSize: 1 << 20, MaxRecipients: 10,
			ExpireAfter: 48 * time.Hour, IdempotencyTTL: 72 * time.Hour},
		DB: h.DB, Custody: h.Custody, Blob: h.Blob, Accounts: h.Accounts, Clock: h.Clock,
		Posture: func(context.Context, string) policy.Posture { return policy.Posture{} },
		Reserve: func([]spool.Item) id.ID { return id.ID{} },
		Push:    func(id.ID, []spool.Item, []spool.Work) {},
	}
	if change != nil {
		change(&deps)
	}
	return submit.New(deps)
}

// Stored gives the organization's messages as they would be sent, newest
// first.
func (h *House) Stored() (all []string) {
	h.T.Helper()
	ctx := context.Background()
	if err := h.DB.Read(ctx, h.Org.ID, func(tx *db.Tx) error {
		ids, err := spool.Find(tx, spool.Search{Limit: 10_000})
		if err != nil {
			return err
		}
		all = nil
		for _, i := range ids {
			m, err := spool.LoadMessage(tx, h.Custody, i)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(h.Blob.Open(ctx, m.Key, m.Blob))
			if err != nil {
				return err
			}
			all = append(all, string(m.Header)+string(body))
		}
		return nil
	}); err != nil {
		h.T.Fatal(err)
	}
	return all
}
