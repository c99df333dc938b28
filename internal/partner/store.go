package partner

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Labels bind what is stored to its use for ever.
const (
	termsLabel  = "partner.terms.v1"
	secretLabel = "partner.secret.v1"
)

// record is a row, open.
type record struct {
	Entry
	id        id.ID
	org       id.ID
	keyID     id.ID
	key       *custody.DataKey
	termsBox  []byte
	secretBox []byte
	secret    []byte // to be stored
	isNew     bool
}

// sealed is what the row holds sealed beside the secret key.
type sealed struct {
	Require bool     `json:"require,omitempty"`
	Hosts   []string `json:"hosts,omitempty"`
	Pins    []Pin    `json:"pins,omitempty"`
	Client  [][]byte `json:"client,omitempty"`
}

var (
	errStored = errors.New("a stored arrangement cannot be read")
	noPartner = fault.New(fault.NotFound, "no_partner", "Nothing is arranged with this domain. \"sealpost partner list\" shows with which something is.")
)

const columns = "id, org_id, domain, subdomains, key_id, terms_sealed, secret_sealed, changed_at"

func scan(row db.Row) (*record, error) {
	r := new(record)
	var subdomains, changed int64
	err := row.Scan(&r.id, &r.org, &r.Domain, &subdomains, &r.keyID, &r.termsBox, &r.secretBox, &changed)
	r.Subdomains, r.Changed = subdomains != 0, clock.FromMicros(changed)
	return r, err
}

// load gives what is arranged with exactly this domain. With
// custody.ErrDestroyed comes what is in clear.
func (s *Service) load(tx *db.Tx, domain string) (*record, error) {
	r, err := scan(tx.Row("SELECT "+columns+" FROM partner_domains WHERE org_id = ? AND domain = ?", tx.Org(), domain))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noPartner
	}
	if err != nil {
		return nil, err
	}
	return r, s.open(tx, r)
}

func (s *Service) open(tx *db.Tx, r *record) (err error) {
	if r.key, err = s.d.Custody.DataKey(tx, r.keyID); err != nil {
		return err
	}
	text, err := r.key.Open(termsLabel, r.id, r.termsBox)
	if err != nil {
		return err
	}
	var in sealed
	if err := json.Unmarshal(text, &in); err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	r.Require, r.Hosts, r.Pins = in.Require, in.Hosts, in.Pins
	for _, der := range in.Client {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%w: %w", errStored, err)
		}
		r.Client = append(r.Client, c)
	}
	return nil
}

// forChange gives the record of a domain, or a new one.
func (s *Service) forChange(tx *db.Tx, org id.ID, domain string) (*record, error) {
	r, err := s.load(tx, domain)
	if !errors.Is(err, noPartner) {
		return r, err
	}
	var known int
	if err := tx.Row("SELECT count(*) FROM partner_domains WHERE org_id = ?", org).Scan(&known); err != nil {
		return nil, err
	}
	if known >= maxDomains {
		return nil, fault.Newf(fault.Invalid, "too_many_partners", "An organization can arrange something with %d domains.", maxDomains)
	}
	key, err := s.d.Custody.NewDataKey(org)
	if err != nil {
		return nil, err
	}
	r = &record{id: id.New(), org: org, key: key, keyID: key.ID, isNew: true}
	r.Domain = domain
	return r, s.d.Custody.SaveDataKey(tx, key)
}

func (s *Service) save(tx *db.Tx, r *record) error {
	out := sealed{Require: r.Require, Hosts: r.Hosts, Pins: r.Pins}
	for _, c := range r.Client {
		out.Client = append(out.Client, c.Raw)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	box, subdomains := r.key.Seal(termsLabel, r.id, text), int64(0)
	if r.secret != nil {
		r.secretBox = r.key.Seal(secretLabel, r.id, r.secret)
	}
	if r.Subdomains {
		subdomains = 1
	}
	ends := sql.NullInt64{Int64: clock.Micros(r.Ends()), Valid: !r.Ends().IsZero()}
	if r.isNew {
		_, err = tx.Exec(`INSERT INTO partner_domains (id, org_id, domain, subdomains, key_id, terms_sealed, secret_sealed, ends_at, warned, changed_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)`, r.id, r.org, r.Domain, subdomains, r.keyID, box, r.secretBox, ends, clock.Micros(r.Changed))
		return err
	}
	_, err = tx.Exec(`UPDATE partner_domains SET subdomains = ?, terms_sealed = ?, secret_sealed = ?, ends_at = ?, warned = 0, changed_at = ?
		WHERE org_id = ? AND id = ?`, subdomains, box, r.secretBox, ends, clock.Micros(r.Changed), r.org, r.id)
	return err
}

// change runs fn in a transaction of its own; this process sees it at once.
func (s *Service) change(ctx context.Context, org id.ID, fn func(tx *db.Tx) error) error {
	defer func() {
		n := s.snapshot(org)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.at = time.Time{}
	}()
	return s.d.DB.WriteAlone(ctx, org, fn)
}

// List gives all that the organization has arranged, by domain.
func (s *Service) List(ctx context.Context, org id.ID) (all []Entry, err error) {
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		all = nil
		rows, err := db.All(tx, scan, "SELECT "+columns+" FROM partner_domains WHERE org_id = ? ORDER BY domain", org)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := s.open(tx, r); errors.Is(err, custody.ErrDestroyed) {
				r.Unreadable = true
			} else if err != nil {
				return err
			}
			all = append(all, r.Entry)
		}
		return nil
	})
	return all, err
}

// Show gives what is arranged with exactly this domain.
func (s *Service) Show(ctx context.Context, org id.ID, domain string) (e Entry, err error) {
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		r, err := s.load(tx, domain)
		if err == nil {
			e = r.Entry
		}
		return err
	})
	return e, err
}

// seenAfter is how long another process's change may stay unseen.
const seenAfter = 2 * time.Second

// snapshot is what an organization has arranged, as of a moment ago.
type snapshot struct {
	mu   sync.Mutex
	at   time.Time
	rows map[string]*known // by domain
}

type known struct {
	id         id.ID
	subdomains bool
	changed    int64
	opened     bool
	terms      Terms
}

func (s *Service) snapshot(org id.ID) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.orgs[org]
	if n == nil {
		n = new(snapshot)
		s.orgs[org] = n
	}
	return n
}

// Terms gives what holds for mail of an organization to a domain.
func (s *Service) Terms(ctx context.Context, org id.ID, domain string) (Terms, error) {
	n := s.snapshot(org)
	n.mu.Lock()
	defer n.mu.Unlock()
	now := s.d.Clock.Now()
	if n.at.IsZero() || now.Sub(n.at) >= seenAfter {
		if err := s.learn(ctx, org, n); err != nil {
			return Terms{}, err
		}
		n.at = now
	}
	name, k := n.closest(domain)
	switch {
	case k == nil:
		return Terms{}, nil
	case k.opened:
		return k.terms, nil
	}
	var t Terms
	if err := s.d.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		r, err := s.load(tx, name)
		if err == nil {
			t, err = r.use()
		}
		return err
	}); err != nil {
		return Terms{}, err
	}
	k.opened, k.terms = true, t
	return t, nil
}

// closest finds the domain itself, or the nearest above it that speaks for it.
func (n *snapshot) closest(domain string) (string, *known) {
	if k := n.rows[domain]; k != nil {
		return domain, k
	}
	for {
		_, parent, found := strings.Cut(domain, ".")
		if !found {
			return "", nil
		}
		if k := n.rows[parent]; k != nil && k.subdomains {
			return parent, k
		}
		domain = parent
	}
}

// learn reads with which domains something is arranged, and keeps open what
// has not changed, as long as the organization has its keys.
func (s *Service) learn(ctx context.Context, org id.ID, n *snapshot) error {
	rows := map[string]*known{}
	err := s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		clear(rows)
		_, err := db.All(tx, func(row db.Row) (k *known, err error) {
			k = new(known)
			var domain string
			var subdomains int64
			err = row.Scan(&k.id, &domain, &subdomains, &k.changed)
			k.subdomains, rows[domain] = subdomains != 0, k
			return k, err
		}, "SELECT id, domain, subdomains, changed_at FROM partner_domains WHERE org_id = ?", org)
		return err
	})
	if err == nil && len(rows) > 0 {
		_, err = s.d.Custody.Index(org, secretLabel, "") // the organization's keys may be destroyed
	}
	if err != nil {
		n.rows = nil
		return err
	}
	for domain, k := range rows {
		if was := n.rows[domain]; was != nil && was.id == k.id && was.changed == k.changed {
			rows[domain] = was
		}
	}
	n.rows = rows
	return nil
}

// use opens the terms with the client's key.
func (r *record) use() (Terms, error) {
	t, err := r.terms()
	if err != nil || len(r.Client) == 0 {
		return t, err
	}
	der, err := r.key.Open(secretLabel, r.id, r.secretBox)
	if err != nil {
		return t, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return t, fmt.Errorf("%w: %w", errStored, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return t, errStored
	}
	t.Client = &tls.Certificate{PrivateKey: signer, Leaf: r.Client[0]}
	for _, c := range r.Client {
		t.Client.Certificate = append(t.Client.Certificate, c.Raw)
	}
	return t, nil
}
