package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// demoCmd runs the whole product against an internet on loopback.
type demoCmd struct {
	Once bool   `help:"End when every delivery has reached the state it must reach, at most 30 seconds later; exit code 0 only if all have."`
	Data string `help:"Keep the data in this folder instead of a temporary one." type:"path" placeholder:"DIR"`
}

// Help tells what will be seen.
func (demoCmd) Help() string {
	return "Starts Sealpost and a small internet of mail and key servers on loopback, good and bad ones, sends a varied sample " +
		"through the API and SMTP, and shows how each recipient was sealed. Nothing leaves this machine."
}

const onceLimit = 28 * time.Second

// Run shows the main job.
func (c demoCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	began := time.Now()
	d, err := startDemo(ctx, c.Data)
	if err != nil {
		return err
	}
	defer d.close()
	out := newDemoOutput(env, d, began)
	out.ready()
	w := &watcher{demo: d, out: out, want: map[string]*expectation{}}
	if err := w.sendSamples(ctx); err != nil {
		return err
	}
	watch, stop := ctx, context.CancelFunc(func() {})
	if c.Once {
		watch, stop = context.WithTimeout(ctx, onceLimit)
	}
	defer stop()
	complete, err := w.follow(watch)
	if err != nil && watch.Err() == nil {
		return err
	}
	out.summary(w, c.Once)
	if c.Once {
		if !complete || w.wrong() > 0 {
			return fault.New(fault.Internal, "demo_failed", "Not every delivery reached the state it must reach; see the table.")
		}
		return nil
	}
	<-ctx.Done()
	return nil
}

// demo is everything that runs in a demonstration.
type demo struct {
	net    *fake.Internet
	core   *app.Core
	server *app.Server
	dir    string
	keep   bool
	key    private.String
	url    string
	api    *apiClient
}

const (
	demoSlug   = "riverside"
	demoName   = "Riverside Family Clinic"
	demoDomain = "clinic.test"
	demoSender = "dr.ada@clinic.test"
)

func startDemo(ctx context.Context, dir string) (d *demo, err error) {
	d = &demo{dir: dir, keep: dir != ""}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "sealpost-demo-"); err != nil {
			return d, err
		}
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return d, err
	}
	if d.net, err = fake.Start(ctx, fake.Options{Dir: d.dir, SlowBy: 200 * time.Millisecond, MailboxesPort: freePort(8025)}); err != nil {
		return d, fmt.Errorf("start the loopback internet: %w", err)
	}
	if err := d.engineDomains(); err != nil {
		return d, err
	}
	cfg, err := d.config()
	if err != nil {
		return d, err
	}
	if err := os.WriteFile(d.configFile(), []byte(cfg.Show()), 0o600); err != nil {
		return d, err
	}
	if _, err := custody.InitMaster(cfg.Keys.MasterFile); err != nil && !errors.Is(err, os.ErrExist) && !fault.Is(err, fault.Conflict) {
		return d, err
	}
	if d.core, err = app.Open(ctx, cfg, app.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}); err != nil {
		return d, err
	}
	if err := d.settle(ctx); err != nil {
		return d, err
	}
	d.server = app.NewServer(d.core)
	return d, d.server.Start(ctx)
}

// configFile lets every command look at the demonstration while it runs.
func (d *demo) configFile() string { return filepath.Join(d.dir, "sealpost.toml") }

// config is a complete configuration for one machine, with short waits.
func (d *demo) config() (*config.Config, error) {
	cfg := config.Default()
	port := freePort(8080)
	d.url = "http://localhost:" + strconv.Itoa(port)
	cert, key, err := d.net.IssueFiles(d.dir, "server", []string{"localhost", "127.0.0.1", "mail." + demoDomain}, fake.CertOptions{})
	if err != nil {
		return nil, err
	}
	cfg.DataDir, cfg.PublicURL, cfg.Hostname = d.dir, d.url, "mail."+demoDomain
	cfg.TLS = config.TLS{CertFile: cert, KeyFile: key}
	local := func(want int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(want))) }
	cfg.Listen = config.Listen{
		HTTP: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Submission: local(2587), Submissions: local(2465),
		Relay: local(2525), Metrics: local(9090),
	}
	cfg.Relay.Source = []config.RelaySource{{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Org: demoSlug}}
	cfg.Network = config.Network{Resolver: d.net.ResolverAddr, SMTPPort: d.net.SMTPPort, HTTPSPort: d.net.HTTPSPort, CAFile: d.net.CAFile, DNSSEC: true}
	cfg.Keyring.SMIMECAFile = d.net.MailCAFile
	cfg.Delivery.RetryMin, cfg.Delivery.RetryMax, cfg.Delivery.NoTLSAfter = 2*time.Second, 10*time.Second, 5*time.Second
	cfg.Delivery.ConnectTimeout, cfg.Delivery.CommandTimeout, cfg.Delivery.FinalTimeout = 5*time.Second, 5*time.Second, 5*time.Second
	cfg.Keys.MasterFile = filepath.Join(d.dir, "master.key")
	return cfg, cfg.Complete()
}

// settle makes the organization, its domain and a key, unless the folder has
// them from an earlier demonstration; the key is new each time.
func (d *demo) settle(ctx context.Context) error {
	a := d.core.Accounts
	org, err := a.OrgBySlug(ctx, demoSlug)
	if fault.Is(err, fault.NotFound) {
		org, err = a.CreateOrg(ctx, demoSlug, demoName)
	}
	if err != nil {
		return err
	}
	domain, err := a.AddDomain(ctx, org.ID, demoDomain)
	if err != nil {
		return err
	}
	name, value := domain.Record()
	d.net.SetTXT(name, value)
	if _, err := a.VerifyDomain(ctx, org.ID, demoDomain, lookupTXT(d.core.Config.Network.Resolver)); err != nil {
		return err
	}
	if err := d.giveIdentity(ctx, org.ID); err != nil {
		return err
	}
	if err := d.settleEngine(ctx, org.ID); err != nil {
		return err
	}
	if _, d.key, err = d.core.Clients.Create(ctx, auth.Client{Org: org.ID, Name: "demo", Scopes: auth.Scopes(), DefaultPurpose: "treatment"}); err != nil {
		return err
	}
	d.api, err = newAPIClient(d.url, d.key.Reveal(), "")
	return err
}

// giveIdentity makes the OpenPGP key that the sender signs with.
func (d *demo) giveIdentity(ctx context.Context, org id.ID) error {
	sender, err := mail.ParseAddress(demoSender)
	if err != nil {
		return err
	}
	has, err := d.core.Identities.Signer(ctx, org, sender)
	if err != nil || has.PGP != nil {
		return err
	}
	_, err = d.core.Identities.Create(ctx, org, identity.Request{Address: sender, Kind: policy.PGP, Name: "Dr. Ada Reyes"})
	return err
}

func (d *demo) close() {
	if d.server != nil {
		d.server.Stop(context.Background())
	}
	if d.core != nil {
		_ = d.core.Close()
	}
	if d.net != nil {
		d.net.Close()
	}
	if !d.keep && d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}

// freePort gives the port wished for, or one the system chooses when that is
// taken.
func freePort(wish int) int {
	for _, port := range []int{wish, 0} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}
	return wish
}
