// Package app wires the rooms of the house into a value that commands and
// tests start.
//
// Invariants:
//   - Core is what every command needs: database, keys and stores, without any
//     listener. Commands open it while a server runs and never assume that
//     they are alone.
//   - Server adds the listeners and loops of the roles a node has. Start
//     returns when all of them answer; Stop drains.
//   - On SQLite one server at a time holds the lock of the data folder.
package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/acme"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/suppress"
	"github.com/sealpost/sealpost/internal/tlsrpt"
	"github.com/sealpost/sealpost/internal/zone"
)

// Core is what every command needs.
type Core struct {
	Config   *config.Config
	DB       *db.DB
	Custody  *custody.Custody
	Accounts *account.Accounts
	Clients  *auth.Clients
	Ledger   *ledger.Notary
	Posture  *posture.Service
	Blob     *blob.Store
	Roots    *x509.CertPool // nil stands for the system's
	Clock    clock.Clock
	Log      *slog.Logger

	Certs      *certs.Judge
	Keyring    *keyring.Keyring
	Identities *identity.Service
	Partners   *partner.Service
	Resolver   *resolve.Resolver
	DKIM       *dkim.Service
	ACME       *acme.Service // nil: the certificate comes from files
	Zone       *zone.Service
	Pools      *pool.Service
	Retention  *retain.Service

	Suppress    *suppress.Service
	ReturnPaths *inbound.Paths
	Routes      *inbound.Routes
	names       *inbound.Names

	DMARC       *dmarc.Reports
	TLSReports  *tlsrpt.Received
	reportTurns chan struct{}
	reportRoom  *semaphore.Weighted
}

// Options are what a Core takes from its surroundings.
type Options struct {
	Log *slog.Logger // nil: nothing is logged
}

// OpenDatabase opens the database a configuration names. SQLite is migrated;
// PostgreSQL only by "sealpost migrate".
func OpenDatabase(ctx context.Context, cfg *config.Config) (*db.DB, error) {
	opts := db.Options{URL: cfg.Database.URL.Reveal()}
	if opts.URL == "" {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("make the data folder: %w", err)
		}
		opts.Path = filepath.Join(cfg.DataDir, "sealpost.db")
	}
	d, err := db.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	if d.Dialect == db.SQLite {
		_, err = d.Migrate(ctx)
	} else {
		err = d.CheckSchema(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Open opens the database and the keys.
func Open(ctx context.Context, cfg *config.Config, o Options) (*Core, error) {
	c := &Core{Config: cfg, Clock: clock.System{}, Log: o.Log}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	roots, err := loadRoots(cfg.Network.CAFile, "network.ca_file")
	if err != nil {
		return nil, err
	}
	c.Roots = roots
	if c.DB, err = OpenDatabase(ctx, cfg); err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.DB.Close())
	}
	return c, nil
}

func (c *Core) open(ctx context.Context) error {
	cfg := c.Config
	master, err := custody.OpenMaster(cfg.Keys.MasterFile)
	if err != nil {
		return err
	}
	store, err := custody.OpenFolder(cfg.Keys.Dir)
	if err != nil {
		return err
	}
	if c.Custody, err = custody.Open(ctx, custody.Deps{DB: c.DB, Master: master, Store: store, Clock: c.Clock, Retain: keyRetention}); err != nil {
		return err
	}
	staging := filepath.Join(cfg.DataDir, "staging")
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return fmt.Errorf("make the staging folder: %w", err)
	}
	c.Blob = blob.New(c.DB, staging)
	c.Accounts = account.New(account.Deps{DB: c.DB, Custody: c.Custody, Clock: c.Clock, MayDestroy: retain.RefuseHeld})
	c.openRetention()
	c.Clients = auth.New(auth.Deps{DB: c.DB, Custody: c.Custody, Clock: c.Clock})
	if c.Ledger, err = c.notary(); err != nil {
		return err
	}
	c.Posture, err = posture.New(posture.Deps{
		DB: c.DB, Clock: c.Clock, Log: c.Log, Resolver: cfg.Network.Resolver, HTTPSPort: cfg.Network.HTTPSPort, RootCAs: c.Roots,
		AllowLoopback: cfg.Network.Replaced(), DNSSEC: cfg.Network.DNSSEC, SMTPPort: cfg.Network.SMTPPort,
	})
	if err != nil {
		return err
	}
	if err := c.openKeys(); err != nil {
		return err
	}
	c.Partners = partner.New(partner.Deps{DB: c.DB, Custody: c.Custody, Clock: c.Clock, Log: c.Log})
	c.openPools()
	c.openReturns()
	c.openRoutes()
	c.openReports()
	return c.openACME()
}

// keyRetention is how long a backup of the database can be read after its
// organization's key was rotated.
const keyRetention = 90 * 24 * time.Hour

// notary signs under the name that the installation had when it first signed:
// checkpoints of another name would vouch for another ledger.
func (c *Core) notary() (*ledger.Notary, error) {
	origin, err := c.origin()
	if err != nil {
		return nil, err
	}
	signer, vkey, err := c.Custody.SigningKey(origin)
	if err != nil {
		return nil, err
	}
	return ledger.New(ledger.Deps{DB: c.DB, Clock: c.Clock, Origin: origin, Signer: signer, VKey: vkey,
		Every: c.Config.Ledger.CheckpointEvery, Entries: int64(c.Config.Ledger.CheckpointEntries)})
}

// origin is the name of the signing key there is, or one made from the host of
// the public URL.
func (c *Core) origin() (string, error) {
	status, err := c.Custody.Status()
	if err != nil {
		return "", err
	}
	for _, k := range status.Keys {
		if k.Ref.Kind == custody.KindSigning {
			return k.Ref.Name, nil
		}
	}
	u, err := url.Parse(c.Config.PublicURL)
	if err != nil {
		return "", fmt.Errorf("public_url: %w", err)
	}
	return u.Hostname() + "/ledger", nil
}

// Close closes the database.
func (c *Core) Close() error { return c.DB.Close() }

// loadRoots reads authorities; setting names the file's place in the
// configuration.
func loadRoots(file, setting string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", setting, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.Newf(fault.Invalid, "bad_ca_file", "%s holds no certificate in PEM.", setting)
	}
	return roots, nil
}
