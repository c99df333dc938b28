// Package discover asks the outside for the keys of an address. It knows
// nothing of trust: it says where something was found and what the way it came
// proves, and the keyring judges.
//
// Invariants:
//   - Ask always comes back, in eight seconds at the latest, with one answer
//     of each source. A source that fails says why by a word; it never says
//     that there is no key.
//   - What a domain lacks is asked once and not for each of its addresses, and
//     a host that hangs is left alone for ten minutes and longer each time.
//   - A source has its time from its turn on, and the addresses of one
//     registered domain take a few of all turns only. That somebody waited too
//     long, or that the caller went, is Busy, and no fact about anybody.
//   - DNS counts only where it was validated (RFC 7929 section 5, RFC 8162
//     section 6); where nothing validates it, it is not asked.
//   - Everything that comes is bounded in octets, in number and in time, and
//     nothing of it is parsed here but records and the shape of a header.
//   - No error, log line or metric holds a local part. That a key server, a
//     directory or the recipient's own domain learns who is asked for lies in
//     the nature of asking; the first two are asked only when configured.
package discover

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
)

// The sources.
const (
	WKD        = "wkd"        // draft-koch-openpgp-webkey-service
	OPENPGPKEY = "openpgpkey" // RFC 7929
	SMIMEA     = "smimea"     // RFC 8162
	LDAP       = "ldap"
	HKPS       = "hkps"
)

// Why a source could not be asked, beside the words of package fetch.
const (
	Busy      = fetch.Busy  // too much was asked at once: nobody outside is to blame
	Malformed = "malformed" // what came is no key
	Failed    = "failed"    // the directory says that it cannot answer
	Defect    = "defect"    // a mistake of ours
)

const (
	sourceLimit = 5 * time.Second
	totalLimit  = 8 * time.Second
	atOnce      = 64 // addresses
	perDomain   = 4  // of them with one registered domain

	maxKey      = 256 << 10 // octets of one key or bundle
	maxFindings = 20        // of one source

	believeFound  = 24 * time.Hour // where nothing says otherwise
	believeAbsent = 4 * time.Hour
	believeLeast  = 10 * time.Minute
	busyFor       = 30 * time.Second
	believeMost   = 24 * time.Hour
)

// Finding is a key or a bundle of certificates that a source gave for an
// address. Nothing of it has been judged.
type Finding struct {
	Source string
	Kind   policy.Seal // PGP or SMIME
	Data   []byte      // OpenPGP: armored or binary; S/MIME: DER, or PKCS#7
	Proof  policy.Tier // what the way it came proves
	Usage  int         // of SMIMEA: the certificate usage (RFC 6698 section 2.1.1)
}

// Answer is what one source said of an address.
type Answer struct {
	Source   string
	Findings []Finding
	Absent   bool // the source has nothing
	// Certain says that Absent is the source's own word about every spelling of
	// the address, as nobody on the way could have said it: of WKD a 404 over
	// verified HTTPS from the host of the advanced method; of OPENPGPKEY and
	// SMIMEA a denial that DNSSEC validated; of HKPS a 404, and of LDAP a whole
	// result without an entry, from each of the hosts that are configured, over
	// TLS verified for that host's name.
	Certain bool
	Word    string // why it could not be asked; empty where it could
	Took    time.Duration
	Until   time.Time // how long this answer may be believed
}

// Deps are what Sources are made with.
type Deps struct {
	Resolver *resolve.Resolver
	Fetch    *fetch.Client
	Clock    clock.Clock
	Log      *slog.Logger   // nil: nothing is logged
	Roots    *x509.CertPool // for directories; nil: the system's
	// Dial opens connections to directories; nil stands for a plain net.Dialer.
	// It finds the host itself: directories have names that only the own
	// network knows.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	KeyServers  []string // hosts of the keys.openpgp.org kind; asking them tells a third party who is written to
	Directories []string // LDAP URLs: ldaps://host/base, or ldap://host/base with StartTLS

	Limit time.Duration // of one source, waiting for turns not counted; zero: 5 s
}

// Sources are all places that are asked.
type Sources struct {
	resolver *resolve.Resolver
	fetch    *fetch.Client
	clock    clock.Clock
	log      *slog.Logger
	facts    *facts
	limit    time.Duration
	turns    *fetch.Turns
	all      []source

	keyServers  []string
	directories []directory
}

// source is one of the places, with what asks it.
type source struct {
	name string
	ask  func(ctx context.Context, a mail.Address) Answer
}

// New makes Sources. What the configuration says wrong is an error.
func New(d Deps) (*Sources, error) {
	s := &Sources{
		resolver: d.Resolver, fetch: d.Fetch, clock: d.Clock, log: d.Log, limit: d.Limit,
		facts: newFacts(remembered), turns: fetch.NewTurns(atOnce, perDomain),
	}
	if s.limit <= 0 || s.limit > sourceLimit {
		s.limit = sourceLimit
	}
	if s.clock == nil {
		s.clock = clock.System{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if d.Dial == nil {
		d.Dial = new(net.Dialer).DialContext
	}
	for _, host := range d.KeyServers {
		clean, err := mail.ParseDomain(host)
		if err != nil {
			return nil, fmt.Errorf("a key server is named by its host alone: %w", err)
		}
		s.keyServers = append(s.keyServers, clean)
	}
	for _, text := range d.Directories {
		dir, err := parseDirectory(text)
		if err != nil {
			return nil, err
		}
		dir.dial, dir.roots, dir.now = d.Dial, d.Roots, s.clock.Now
		s.directories = append(s.directories, dir)
	}
	s.all = append(s.all, source{WKD, s.askWKD})
	if s.resolver.Trusted() {
		s.all = append(s.all, source{OPENPGPKEY, s.askOPENPGPKEY}, source{SMIMEA, s.askSMIMEA})
	}
	if len(s.directories) > 0 {
		s.all = append(s.all, source{LDAP, s.askDirectories})
	}
	if len(s.keyServers) > 0 {
		s.all = append(s.all, source{HKPS, s.askKeyServers})
	}
	return s, nil
}

// Names are the sources that are asked, in the order of their answers.
func (s *Sources) Names() []string {
	var out []string
	for _, src := range s.all {
		out = append(out, src.name)
	}
	return out
}

// Standing gives the answers that hold for every address of a domain: where it
// has no keys for anybody, or fails for everybody. It asks nobody; false means
// that some source is to be asked about the address itself.
func (s *Sources) Standing(a mail.Address) ([]Answer, bool) {
	var out []Answer
	now := s.clock.Now()
	for _, src := range s.all {
		if src.name == LDAP || src.name == HKPS { // they know no domains
			return nil, false
		}
		f, _ := s.facts.get(src.name + " " + a.Domain())
		answer, ok := f.answer(now)
		if !ok {
			return nil, false
		}
		answer.Source = src.name
		out = append(out, answer)
	}
	return out, true
}

// Ask asks all sources at once.
func (s *Sources) Ask(ctx context.Context, a mail.Address) []Answer {
	ctx, cancel := context.WithTimeout(ctx, totalLimit)
	defer cancel()
	answers := make([]Answer, len(s.all))
	done, ok := s.turn(ctx, a)
	if !ok {
		for i, src := range s.all {
			answers[i] = s.failing(Answer{Source: src.name, Word: Busy})
		}
		return answers
	}
	defer done()
	var all sync.WaitGroup
	for i, src := range s.all {
		all.Go(func() { answers[i] = s.one(ctx, src, a) })
	}
	all.Wait()
	return answers
}

// turn waits for a turn as long as the whole time of a source is left.
func (s *Sources) turn(ctx context.Context, a mail.Address) (done func(), ok bool) {
	if a.IsZero() {
		return nil, false
	}
	ctx, cancel := s.waiting(ctx)
	defer cancel()
	return s.turns.Take(ctx, a.Domain())
}

// waiting ends when less than the time of a source is left.
func (s *Sources) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	until, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, until.Add(-s.limit))
}

// one asks one source.
func (s *Sources) one(ctx context.Context, src source, a mail.Address) Answer {
	begin := s.clock.Now()
	out := s.guarded(src.name, a.Domain(), func() Answer { return src.ask(ctx, a) })
	out.Source, out.Took = src.name, s.clock.Now().Sub(begin)
	out.Findings = out.Findings[:min(len(out.Findings), maxFindings)]
	for i := range out.Findings {
		out.Findings[i].Source = src.name
	}
	return s.failing(out)
}

// guarded keeps a panic, which something hostile may have brought about, to
// the one answer.
func (s *Sources) guarded(name, domain string, ask func() Answer) (out Answer) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("a source of keys made us fail", "source", name, "domain", domain, "panic", private.Panic(v))
			out = Answer{Word: Defect}
		}
	}()
	return ask()
}

// failing gives an answer its time where the source did not. That we are busy
// is over soon.
func (s *Sources) failing(a Answer) Answer {
	if a.Until.IsZero() {
		a.Until = s.clock.Now().Add(believeLeast)
	}
	if a.Word == Busy {
		a.Until = s.clock.Now().Add(busyFor)
	}
	return a
}

// absent is the answer that there is nothing, as far as one can see: where
// plain DNS names no host, somebody on the way may have said so.
func (s *Sources) absent(believe time.Duration) Answer {
	return Answer{Absent: true, Until: s.clock.Now().Add(clamp(believe))}
}

// denied is the source's own word that it has nothing.
func (s *Sources) denied(believe time.Duration) Answer {
	a := s.absent(believe)
	a.Certain = true
	return a
}

func clamp(d time.Duration) time.Duration { return min(max(d, believeLeast), believeMost) }

// until reads how long a page may be believed.
func (s *Sources) until(expires time.Time) time.Time {
	now := s.clock.Now()
	if expires.IsZero() {
		return now.Add(believeFound)
	}
	return now.Add(clamp(expires.Sub(now)))
}

// fetchKey gets one OpenPGP key over HTTPS, from a host that may take limit.
func (s *Sources) fetchKey(ctx context.Context, url string, limit time.Duration, proof policy.Tier) (Answer, error) {
	resp, err := s.fetch.Get(ctx, fetch.Request{URL: url, Max: maxKey, Timeout: limit})
	if err != nil {
		if fetch.Code(err) == 404 {
			return s.denied(believeAbsent), nil
		}
		return Answer{Word: fetch.Word(err)}, err
	}
	if !looksLikeKey(resp.Body) {
		return Answer{Word: Malformed}, errNoKey
	}
	return Answer{
		Findings: []Finding{{Kind: policy.PGP, Data: resp.Body, Proof: proof}},
		Until:    s.until(resp.Expires),
	}, nil
}

var errNoKey = errors.New("what came is not an OpenPGP key")
