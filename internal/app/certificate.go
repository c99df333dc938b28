package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/internal/acme"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/fault"
)

// certificate is the listeners' certificate: read again when its files change,
// or obtained by ACME where no files are given.
type certificate struct {
	acme    *acme.Service // nil: files, or none
	files   config.TLS
	log     *slog.Logger
	current atomic.Pointer[loaded]
	done    chan struct{}
}

type loaded struct {
	chain, key []byte
	cert       *tls.Certificate
}

const lookAgain = 30 * time.Second

func (s *Server) loadCertificates(ctx context.Context) (*certificate, error) {
	c := &certificate{acme: s.ACME, files: s.Config.TLS, log: s.Log, done: make(chan struct{})}
	if c.acme != nil {
		return c, c.acme.Load(ctx)
	}
	if c.files.CertFile == "" {
		return c, nil
	}
	now, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(now)
	go c.watch()
	return c, nil
}

func (c *certificate) read() (*loaded, error) {
	chain, err := os.ReadFile(c.files.CertFile)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_certificate", "tls.cert_file cannot be read.").Because(err)
	}
	key, err := os.ReadFile(c.files.KeyFile)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_certificate", "tls.key_file cannot be read.").Because(err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_certificate", "tls.cert_file and tls.key_file do not hold a certificate and its key in PEM.").Because(err)
	}
	return &loaded{chain, key, &cert}, nil
}

// reload takes the files' content of now. A broken pair leaves the old one in
// use.
func (c *certificate) reload() {
	if c.files.CertFile == "" {
		return
	}
	now, err := c.read()
	if err != nil {
		c.log.Error("the certificate could not be read again; the old one stays in use", "error", err)
		return
	}
	if old := c.current.Load(); bytes.Equal(old.chain, now.chain) && bytes.Equal(old.key, now.key) {
		return
	}
	c.current.Store(now)
	c.log.Info("certificate read again")
}

func (c *certificate) watch() {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.reload()
		case <-c.done:
			return
		}
	}
}

// start obtains what is missing, once the listeners can answer challenges.
func (c *certificate) start(ctx context.Context) {
	if c.acme != nil {
		c.acme.Start(ctx)
	}
}

func (c *certificate) stop() {
	if c.acme != nil {
		c.acme.Stop()
	}
	select {
	case <-c.done:
	default:
		close(c.done)
	}
}

// config gives a TLS configuration for a listener, or nil without a
// certificate.
func (c *certificate) config() *tls.Config {
	if c.acme != nil {
		return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.acme.Certificate}
	}
	if c.current.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load().cert, nil },
	}
}

// quietLog takes what net/http writes on its own. Those lines can quote what a
// client sent, so only the fact is kept.
func quietLog(l *slog.Logger) *log.Logger { return log.New(silent{l}, "", 0) }

type silent struct{ log *slog.Logger }

func (s silent) Write(p []byte) (int, error) {
	s.log.Debug("net/http reported a connection error")
	return len(p), nil
}
