package fake

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
)

// Options say how the internet is started. The zero value is good.
type Options struct {
	Dir           string        // where ca.pem and smime-ca.pem are written; empty: nowhere
	Clock         clock.Clock   // stamps messages; nil: the system's
	TTL           time.Duration // of DNS records; zero: a minute
	SlowBy        time.Duration // what slow.example waits before each reply; zero: 500 ms
	MailboxesPort int           // on 127.0.0.1; zero: any
	DiscardBodies bool          // count messages, keep none: for benchmarks
	MaxBytes      int           // of bodies kept in memory, the oldest being dropped; zero: 256 MiB
}

// Internet is a running fake internet.
type Internet struct {
	CAFile       string // PEM of the authority, in Options.Dir
	MailCAFile   string // PEM of the authority for mail certificates, beside it
	ResolverAddr string // DNS over UDP and TCP, "127.0.0.1:port"
	SMTPPort     int    // of every MX
	HTTPSPort    int    // of every web host
	HTTPPort     int    // of the same hosts in clear, for revocation lists
	MailboxesURL string // "http://127.0.0.1:port"

	opts   Options
	ca     *authority
	mailCA *mailAuthority
	zone   *zone
	sts    *stsHosts
	web    *web
	boxes  *mailboxes

	mu       sync.Mutex
	hosts    map[string]*host
	holders  map[string]holder // by address
	outside  map[string]string // where mail hosts of elsewhere take mail
	nextAddr int
	signed   atomic.Int64

	connMu  sync.Mutex
	conns   map[net.Conn]struct{}
	closed  bool
	closers []func()

	done      chan struct{}
	work      sync.WaitGroup
	closeOnce sync.Once
}

// Start brings everything up. It is closed by Close or by the end of ctx.
func Start(ctx context.Context, o Options) (*Internet, error) {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.TTL == 0 {
		o.TTL = time.Minute
	}
	if o.SlowBy == 0 {
		o.SlowBy = 500 * time.Millisecond
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	n := &Internet{
		opts:    o,
		zone:    newZone(uint32(o.TTL.Seconds())),
		sts:     &stsHosts{byHost: map[string]*stsHost{}, fetches: map[string]int{}},
		web:     newWeb(),
		boxes:   newMailboxes(o.MaxBytes, o.DiscardBodies),
		conns:   map[net.Conn]struct{}{},
		holders: map[string]holder{},
		outside: map[string]string{},
		done:    make(chan struct{}),
	}
	if err := n.start(); err != nil {
		n.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, n.Close)
	n.onClose(func() { stop() })
	return n, nil
}

func (n *Internet) start() error {
	var err error
	if n.ca, err = newAuthority(hostCAName); err != nil {
		return err
	}
	if n.opts.Dir != "" {
		n.CAFile = filepath.Join(n.opts.Dir, "ca.pem")
		if err := os.WriteFile(n.CAFile, n.ca.pem, 0o644); err != nil {
			return fmt.Errorf("write the fake authority: %w", err)
		}
	}
	for _, step := range []func() error{n.startDNS, n.startWeb, n.startMailCA, n.startMailboxes, n.publish, n.publishKeys} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// publish brings up the domains of the table.
func (n *Internet) publish() error {
	n.hosts = map[string]*host{}
	for _, s := range n.sites() {
		if err := n.AddDomain(s.Domain); err != nil {
			return fmt.Errorf("bring up %s: %w", s.Name, err)
		}
		if s.setup != nil {
			s.setup(n)
		}
	}
	return nil
}

// Domain is one domain to bring up.
type Domain struct {
	Name string
	Host *Behavior // of a host of its own, mx.NAME unless HostName says otherwise
	// HostName names the host; another domain may have brought it up.
	HostName string
	MX       []MX // nil: the host, with preference 10
	STS      *STS
}

// AddDomain brings up a domain that the table does not know.
func (n *Internet) AddDomain(d Domain) error {
	name := d.HostName
	if name == "" {
		name = "mx." + d.Name
	}
	if d.Host != nil {
		if err := n.AddHost(name, *d.Host); err != nil {
			return err
		}
	}
	mxs := d.MX
	if mxs == nil && (d.Host != nil || d.HostName != "") {
		mxs = []MX{{10, name}}
	}
	n.SetMX(d.Name, mxs...)
	if d.STS != nil {
		return n.PutSTS(d.Name, *d.STS)
	}
	return nil
}

// onClose registers what Close must end, last registered first.
func (n *Internet) onClose(f func()) {
	n.connMu.Lock()
	if !n.closed {
		n.closers = append(n.closers, f)
		n.connMu.Unlock()
		return
	}
	n.connMu.Unlock()
	f()
}

// Close ends every server and connection and waits for them. It may be called
// more than once.
func (n *Internet) Close() {
	n.closeOnce.Do(func() {
		close(n.done)
		n.connMu.Lock()
		n.closed = true
		closers := slices.Backward(n.closers)
		for c := range n.conns {
			_ = c.Close()
		}
		n.connMu.Unlock()
		for _, f := range closers {
			f()
		}
		n.work.Wait()
	})
}
