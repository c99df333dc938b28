package inbound

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/resolve"
)

// RoutesDeps are what routes need.
type RoutesDeps struct {
	DB       *db.DB
	Clock    clock.Clock
	Resolver *resolve.Resolver
	Hostname string // of this mail system, which no route leads to
}

// Routes tell where mail for an organization's own domains goes on to. A domain
// with a route has us as its MX, so its public MX is never asked.
type Routes struct {
	RoutesDeps
	mu    sync.Mutex
	known map[string]routeMemo // by domain
	hosts map[string]hostMemo
}

// Route is the next host of a domain.
type Route struct {
	Org       id.ID
	Domain    string
	Host      string // by whose name its certificate must be valid
	Port      int    // zero: the usual one
	CreatedAt time.Time
}

type routeMemo struct {
	at    time.Time
	route Route
	found bool
}

type hostMemo struct {
	until time.Time
	addrs []netip.Addr
}

const (
	knownRoutes = 10_000
	hostAtLeast = 30 * time.Second
	hostAtMost  = time.Hour
)

// NewRoutes gives the routes.
func NewRoutes(d RoutesDeps) *Routes {
	return &Routes{RoutesDeps: d, known: map[string]routeMemo{}, hosts: map[string]hostMemo{}}
}

// routeFact is the clear part of a route's ledger entries.
type routeFact struct {
	Domain string `json:"domain"`
	Host   string `json:"host"`
	Port   int    `json:"port,omitempty"`
}

// Set makes a host the next one of a verified domain of the organization. Port
// is zero for the usual one.
func (r *Routes) Set(ctx context.Context, org id.ID, domain, host string, port int) error {
	switch {
	case !strings.Contains(host, "."):
		return fault.New(fault.Invalid, "bad_route", "A route leads to the full name of a mail host, which its certificate is for, such as clinic-example.mail.protection.outlook.com.")
	case strings.EqualFold(host, r.Hostname):
		return fault.New(fault.Invalid, "bad_route", "The route leads back to this mail system.")
	}
	now := r.Clock.Now()
	err := r.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if ours, err := account.OwnsDomain(tx, domain); err != nil || !ours {
			return errors.Join(err, fault.New(fault.Denied, "domain_not_verified",
				"The domain is not a verified one of this organization. \"sealpost domain verify\" makes it one."))
		}
		// One that is off too, since what comes back late is still taken.
		if bounces, err := exists(tx, "SELECT count(*) FROM inbound_return_paths WHERE org_id = ? AND host = ?", org, domain); err != nil || bounces {
			return errors.Join(err, fault.New(fault.Denied, "domain_is_return_path",
				"The domain is a return path of this organization, or was one: mail for it is taken for bounces and would never reach members."))
		}
		// A route of an organization that had the domain before goes with it.
		if _, err := tx.Exec(`INSERT INTO inbound_routes (domain, org_id, host, port, created_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (domain) DO UPDATE SET org_id = excluded.org_id, host = excluded.host, port = excluded.port, created_at = excluded.created_at`,
			domain, org, host, int64(port), clock.Micros(now)); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainRouted, At: now, Data: routeFact{domain, host, port}})
	})
	r.forget()
	return err
}

// Off takes the route away: mail for the domain is not taken any more.
func (r *Routes) Off(ctx context.Context, org id.ID, domain string) error {
	now := r.Clock.Now()
	err := r.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		var host string
		var port int64
		err := tx.Row("DELETE FROM inbound_routes WHERE org_id = ? AND domain = ? RETURNING host, port", org, domain).Scan(&host, &port)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no_route", "The domain has no route.")
		}
		if err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainRouteOff, At: now, Data: routeFact{domain, host, int(port)}})
	})
	r.forget()
	return err
}

func scanRoute(row db.Row) (t Route, err error) {
	var port, created int64
	err = row.Scan(&t.Org, &t.Domain, &t.Host, &port, &created)
	t.Port, t.CreatedAt = int(port), clock.FromMicros(created)
	return t, err
}

const routeColumns = "org_id, domain, host, port, created_at"

// List gives the organization's routes.
func (r *Routes) List(ctx context.Context, org id.ID) (all []Route, err error) {
	err = r.DB.Read(ctx, org, func(tx *db.Tx) error {
		all, err = db.All(tx, scanRoute, "SELECT "+routeColumns+" FROM inbound_routes WHERE org_id = ? ORDER BY domain", org)
		return err
	})
	return all, err
}

// Of gives the route of a domain. It is a door without an organization: who
// comes from outside knows only the name. A domain that is verified no more has
// none.
func (r *Routes) Of(ctx context.Context, domain string) (route Route, found bool, err error) {
	now := r.Clock.Now()
	r.mu.Lock()
	m, ok := r.known[domain]
	r.mu.Unlock()
	if ok && now.Sub(m.at) < trustFor {
		return m.route, m.found, nil
	}
	err = r.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		route, err = scanRoute(tx.Row("SELECT "+routeColumns+" FROM inbound_routes WHERE domain = ?", domain))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		found = err == nil
		return err
	})
	if err == nil && found {
		err = r.DB.Read(ctx, route.Org, func(tx *db.Tx) (err error) {
			found, err = account.OwnsDomain(tx, domain)
			return err
		})
	}
	if err != nil {
		return Route{}, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= knownRoutes {
		clear(r.known)
	}
	r.known[domain] = routeMemo{now, route, found}
	return route, found, nil
}

func (r *Routes) forget() {
	r.mu.Lock()
	clear(r.known)
	r.mu.Unlock()
}

// Addresses gives those of a route's host.
func (r *Routes) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	now := r.Clock.Now()
	r.mu.Lock()
	m, ok := r.hosts[host]
	r.mu.Unlock()
	if ok && now.Before(m.until) {
		return m.addrs, nil
	}
	addrs, ttl, err := r.Resolver.Addresses(ctx, host)
	if len(addrs) == 0 && err != nil {
		return nil, fault.New(fault.Unavailable, "dns", "The route's host cannot be looked up now.").Because(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.hosts) >= knownRoutes {
		clear(r.hosts)
	}
	r.hosts[host] = hostMemo{now.Add(max(hostAtLeast, min(ttl, hostAtMost))), addrs}
	return addrs, nil
}
