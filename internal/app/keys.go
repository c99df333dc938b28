package app

import (
	"context"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/resolve"
)

// openKeys wires what looks for, judges and keeps the keys of recipients, and
// what keeps our own.
func (c *Core) openKeys() error {
	net, rings := c.Config.Network, c.Config.Keyring
	var servers []string
	if net.Resolver != "" {
		servers = []string{net.Resolver}
	}
	resolver, err := resolve.New(resolve.Deps{Servers: servers, Trusted: net.DNSSEC})
	if err != nil {
		return err
	}
	c.Resolver = resolver
	outside := fetch.New(fetch.Deps{Resolver: resolver, Roots: c.Roots, Clock: c.Clock, AnyAddress: net.Replaced(), HTTPSPort: net.HTTPSPort})
	roots := c.Roots
	if rings.SMIMECAFile != "" {
		if roots, err = loadRoots(rings.SMIMECAFile, "keyring.smime_ca_file"); err != nil {
			return err
		}
	}
	c.Certs = certs.New(certs.Deps{DB: c.DB, Clock: c.Clock, Log: c.Log, Roots: roots,
		Get: func(ctx context.Context, url string, body []byte, bodyType string, max int64) ([]byte, error) {
			r, err := outside.Get(ctx, fetch.Request{URL: url, Body: body, BodyType: bodyType, Max: max, PlainHTTP: true})
			if err != nil {
				return nil, err
			}
			return r.Body, nil
		}})
	sources, err := discover.New(discover.Deps{Resolver: resolver, Fetch: outside, Clock: c.Clock, Log: c.Log, Roots: c.Roots,
		KeyServers: rings.KeyServers, Directories: rings.Directories})
	if err != nil {
		return err
	}
	c.Keyring = keyring.New(keyring.Deps{DB: c.DB, Custody: c.Custody, Clock: c.Clock, Log: c.Log, Certs: c.Certs,
		Discover: sources.Ask, Standing: sources.Standing, Sources: sources.Names()})
	c.openDKIM()
	c.openZone(outside)
	c.Identities = identity.New(identity.Deps{DB: c.DB, Custody: c.Custody, Accounts: c.Accounts, Clock: c.Clock, Log: c.Log})
	return nil
}
