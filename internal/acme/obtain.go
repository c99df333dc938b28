package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	protocol "github.com/mholt/acmez/v3/acme"

	"github.com/sealpost/sealpost/internal/private"
)

// failure is what came of the last attempts for a name.
type failure struct {
	times int
	next  time.Time
}

// waitAfter grows, so that a name that an authority refuses is asked for a few
// times a day: authorities count failures.
func waitAfter(failures int) time.Duration {
	waits := [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour}
	return waits[min(failures, len(waits))-1]
}

// round takes what other nodes obtained and obtains what nobody has.
func (s *Service) round(ctx context.Context) error {
	if err := s.look(ctx); err != nil {
		return err
	}
	var missing []string
	for _, name := range *s.names.Load() {
		old, held := s.newest(name)
		if held && (s.asks() || !old.NeedsRenewal(s.magic)) {
			continue
		}
		now, err := s.magic.CacheManagedCertificate(ctx, name)
		switch {
		case err == nil && held && now.Hash() != old.Hash():
			s.cache.Remove([]string{old.Hash()})
		case errors.Is(err, errNotStored):
			missing = append(missing, name)
		case err != nil:
			s.Log.Error("a stored certificate could not be read", "host", name, "error", err)
		}
	}
	if s.asks() {
		s.obtainAll(ctx, missing)
	}
	return nil
}

func (s *Service) obtainAll(ctx context.Context, names []string) {
	turns := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, name := range names {
		if !s.due(name) || ctx.Err() != nil {
			continue
		}
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			if tried, err := s.guarded(ctx, name); tried && ctx.Err() == nil {
				s.note(name, err)
			}
		})
	}
	all.Wait()
}

// guarded lets a panic, which what the authority says may bring about, end
// this one attempt.
func (s *Service) guarded(ctx context.Context, name string) (tried bool, err error) {
	tried = true
	defer private.Recover(&err)
	return s.obtain(ctx, name)
}

func (s *Service) due(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.Clock.Now().Before(s.failures[name].next)
}

// note remembers what came of an attempt.
func (s *Service) note(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failures, name)
		return
	}
	times := s.failures[name].times + 1
	wait := waitAfter(times)
	s.failures[name] = failure{times, s.Clock.Now().Add(wait)}
	s.Log.Warn("no certificate could be obtained", "host", name, "again_in", wait, "error", s.clean(err))
}

// obtain asks for a certificate, unless the name leads nowhere: the authority
// could not reach us either.
func (s *Service) obtain(ctx context.Context, name string) (tried bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	if addrs, _, err := s.Resolver.Addresses(ctx, name); err == nil && len(addrs) == 0 {
		s.Log.Debug("a name has no address yet, so no certificate is asked for", "host", name)
		return false, nil
	}
	if err := s.magic.ObtainCertSync(ctx, name); err != nil {
		return true, err
	}
	_, err = s.magic.CacheManagedCertificate(ctx, name)
	return true, err
}

// event hears of certmagic. What comes of an attempt of ours is told by
// obtainAll; renewals are certmagic's own.
func (s *Service) event(_ context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtaining":
		if !s.isOurs(name) {
			return errNotOurs
		}
	case "cert_obtained":
		s.Log.Info("certificate obtained", "host", name, "renewal", renewal)
	case "cert_failed":
		if err, _ := data["error"].(error); renewal && !errors.Is(err, context.Canceled) {
			s.Log.Warn("a certificate could not be renewed; it is tried again", "host", name, "error", s.clean(err))
		}
	}
	return nil
}

const longestReason = 500

// clean gives what an error says without the contact's address, which
// authorities like to quote.
func (s *Service) clean(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	var problem protocol.Problem
	if errors.As(err, &problem) {
		text = problem.Type + ": " + problem.Detail
		for _, sub := range problem.Subproblems {
			text += "; " + sub.Identifier.Value + ": " + sub.Detail
		}
	}
	if a := s.Contact.Reveal(); a != "" {
		text = strings.ReplaceAll(text, a, "the contact")
	}
	return text[:min(len(text), longestReason)]
}

// Held is the certificate of one of our names.
type Held struct {
	Name  string
	Leaf  *x509.Certificate // nil: none yet
	Chain []*x509.Certificate
}

// Held gives what is stored for each of our names.
func (s *Service) Held(ctx context.Context) ([]Held, error) {
	names, err := s.ours(ctx)
	if err != nil {
		return nil, err
	}
	var all []Held
	for _, name := range names {
		h := Held{Name: name}
		text, err := s.store.Load(ctx, certmagic.StorageKeys.SiteCert(s.issuer.key, name))
		if err == nil {
			h.Leaf, h.Chain, err = readChain(text)
		}
		if err != nil && !errors.Is(err, errNotStored) {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}
