package certs

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Deps are what a Judge works with.
type Deps struct {
	DB    *db.DB
	Clock clock.Clock
	Log   *slog.Logger   // nil: nothing is logged
	Roots *x509.CertPool // nil: those of the machine
	// Get fetches from outside: GET without a body, POST with one. It gives no
	// more than max octets, and an error for anything but success.
	Get func(ctx context.Context, url string, body []byte, bodyType string, max int64) ([]byte, error)
	// Timeout bounds one fetch; 0: 10 seconds.
	Timeout time.Duration
}

// Judge says whether a certificate may be used. It is safe for concurrent use.
type Judge struct {
	deps    Deps
	flights singleflight.Group

	mu    sync.Mutex
	known map[key]answer
}

// New makes a Judge.
func New(d Deps) *Judge {
	if d.Timeout == 0 {
		d.Timeout = 10 * time.Second
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Judge{deps: d, known: map[key]answer{}}
}

// Verdict is what was found out about a certificate that may be used.
type Verdict struct {
	Chain      []*x509.Certificate // from the certificate to the root
	Revocation string              // of the certificate itself: "ocsp", "crl" or "none published"
	Until      time.Time           // when to ask again
}

// ForSealing judges a certificate that mail to a is to be encrypted to. others
// may help to find the chain; nothing about them need be proved.
func (j *Judge) ForSealing(ctx context.Context, cert *x509.Certificate, others []*x509.Certificate, a mail.Address) (Verdict, error) {
	now := j.deps.Clock.Now()
	if err := unfit(cert, sealing, now); err != nil {
		return Verdict{}, err
	}
	if !speaksFor(Addresses(cert), a) {
		return Verdict{}, refuse("wrong_address")
	}
	return j.proved(ctx, cert, others, a, now)
}

// Signature judges the certificate of a signature by a that was made, or
// received, at a time. A certificate that was revoked since is refused too: the
// time is only what the signer says.
func (j *Judge) Signature(ctx context.Context, cert *x509.Certificate, others []*x509.Certificate, a mail.Address, at time.Time) error {
	if err := unfitToSign(cert, a, at); err != nil {
		return err
	}
	_, err := j.proved(ctx, cert, others, a, at)
	return err
}

// SignatureUnder judges as Signature does, but by these roots and without
// asking whether anything was revoked.
func SignatureUnder(roots *x509.CertPool, cert *x509.Certificate, others []*x509.Certificate, a mail.Address, at time.Time) error {
	if err := unfitToSign(cert, a, at); err != nil {
		return err
	}
	chains, err := chainsTo(roots, cert, others, at)
	if err == nil && !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return !unconstrained(chain, a) }) {
		return refuse("name_constraints")
	}
	return err
}

func unfitToSign(cert *x509.Certificate, a mail.Address, at time.Time) error {
	if err := unfit(cert, signing, at); err != nil {
		return err
	}
	if !speaksFor(Addresses(cert), a) {
		return refuse("wrong_address")
	}
	return nil
}

// Revocation asks whether a certificate that was proved in another way (it was
// pinned, or DNSSEC vouches for it) was revoked by its issuer. issuer may be
// nil where it is not known.
func (j *Judge) Revocation(ctx context.Context, cert, issuer *x509.Certificate) (string, error) {
	if !publishes(cert) || cert.CheckSignatureFrom(cert) == nil {
		return NonePublished, nil
	}
	if issuer == nil || cert.CheckSignatureFrom(issuer) != nil {
		return "", refuse("revocation_unknown")
	}
	a, err := j.status(ctx, cert, issuer)
	if err == nil {
		err = a.err()
	}
	if err != nil {
		return "", err
	}
	return a.source, nil
}

// proved finds a chain that holds for an address and in which nothing was
// revoked.
func (j *Judge) proved(ctx context.Context, cert *x509.Certificate, others []*x509.Certificate, a mail.Address, at time.Time) (Verdict, error) {
	chains, err := chainsTo(j.deps.Roots, cert, others, at)
	if err != nil {
		return Verdict{}, err
	}
	var first error
	for _, chain := range chains {
		if unconstrained(chain, a) {
			first = cmp.Or(first, error(refuse("name_constraints")))
			continue
		}
		v, err := j.unrevoked(ctx, chain)
		if err == nil {
			return v, nil
		}
		var known *fault.Fault
		if !errors.As(err, &known) {
			return Verdict{}, err
		}
		first = cmp.Or(first, err)
	}
	return Verdict{}, first
}

// unrevoked asks about all certificates of a chain but the root, at once.
func (j *Judge) unrevoked(ctx context.Context, chain []*x509.Certificate) (Verdict, error) {
	v := Verdict{Chain: chain, Revocation: NonePublished, Until: j.deps.Clock.Now().Add(maxKeep)}
	answers := make([]answer, len(chain)-1)
	all, ctx := errgroup.WithContext(ctx)
	for i := range answers {
		all.Go(func() (err error) {
			defer private.Recover(&err)
			answers[i], err = j.status(ctx, chain[i], chain[i+1])
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return Verdict{}, err
	}
	for i, a := range answers {
		if i == 0 {
			v.Revocation = a.source
		}
		v.Until = earlier(v.Until, a.until)
	}
	for _, word := range []string{"revoked", "revocation_unknown"} {
		for _, a := range answers {
			if a.word == word {
				return Verdict{}, a.err()
			}
		}
	}
	for _, c := range chain {
		v.Until = earlier(v.Until, c.NotAfter)
	}
	return v, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
