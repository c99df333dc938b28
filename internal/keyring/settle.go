package keyring

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// sight is one key that somebody showed, judged.
type sight struct {
	m       *material
	source  string
	proof   policy.Tier // what the way it came proves
	verdict verdict
	person  bool // somebody handed it in
	chosen  bool // somebody said that it is the one
	stored  bool // nobody showed it: what is on record was judged again
	renews  bool // what is on record elsewhere of the same key says more
	opens   Opens
}

func (s sight) tier() policy.Tier { return max(s.proof, s.verdict.proof) }

// round is what was learned of an address at one time.
type round struct {
	sights []sight
	absent []string // sources that prove they have nothing
	failed []string // sources that could not be asked
}

// settling is one round being written into the table, for one kind of key.
type settling struct {
	k       *Keyring
	tx      *db.Tx
	a       mail.Address
	hmac    []byte
	now     time.Time
	kind    policy.Seal
	rows    []*row // of the kind
	round   round
	touched []Entry        // entries as they stand now, one per sight
	spent   map[string]int // facts of the last day by source
}

// settle writes a round. It gives an entry per sight of a person.
func (k *Keyring) settle(tx *db.Tx, a mail.Address, hmac []byte, r round, now time.Time) ([]Entry, error) {
	if err := lock(tx, hmac); err != nil {
		return nil, err
	}
	rows, err := k.load(tx, hmac)
	if err != nil {
		return nil, err
	}
	var touched []Entry
	for _, kind := range []policy.Seal{policy.PGP, policy.SMIME} {
		s := &settling{k: k, tx: tx, a: a, hmac: hmac, now: now, kind: kind, spent: map[string]int{}, round: round{absent: r.absent, failed: r.failed}}
		for _, row := range rows {
			if row.Kind == kind {
				s.rows = append(s.rows, row)
			}
		}
		for _, x := range r.sights {
			if x.m.kind == kind {
				s.round.sights = append(s.round.sights, x)
			}
		}
		if err := s.run(); err != nil {
			return nil, err
		}
		touched = append(touched, s.touched...)
	}
	return touched, nil
}

func (s *settling) run() error {
	if err := s.withdraw(); err != nil {
		return err
	}
	// The best comes first, so that what is next to it meets it in place.
	slices.SortStableFunc(s.round.sights, func(a, b sight) int {
		switch {
		case a.verdict.good() != b.verdict.good():
			if a.verdict.good() {
				return -1
			}
			return 1
		case a.tier() != b.tier():
			return cmp.Compare(b.tier(), a.tier())
		}
		return b.m.created().Compare(a.m.created())
	})
	for _, x := range s.round.sights {
		r, err := s.see(x)
		if err != nil {
			return err
		}
		if r != nil {
			s.touched = append(s.touched, r.Entry)
		}
	}
	if err := s.promote(); err != nil {
		return err
	}
	return s.prune()
}

func (s *settling) active() *row {
	for _, r := range s.rows {
		if r.State == Active {
			return r
		}
	}
	return nil
}

// pinned is the key that a person chose, even if it was refused later: until a
// person chooses again, nothing takes its place.
func pinned(rows []*row) *row {
	for _, r := range rows {
		if r.Tier == policy.Pinned && (r.State == Active || r.State == Refused) {
			return r
		}
	}
	return nil
}

// meets gives what stands in the way of a key.
func (s *settling) meets(m *material) *standing {
	old := s.active()
	if old == nil {
		old = pinned(s.rows)
	}
	if old == nil || old.m == nil || old.m.fingerprint == m.fingerprint {
		return nil
	}
	st := &standing{tier: old.Tier, dead: old.State == Refused || old.m.dead(s.now), newer: !m.created().After(old.m.created())}
	st.shown = s.shows(old)
	for source := range old.sightings {
		st.shown = st.shown || slices.Contains(s.round.failed, source)
	}
	return st
}

// shows reports whether somebody shows the key in this round.
func (s *settling) shows(r *row) bool {
	return slices.ContainsFunc(s.round.sights, func(x sight) bool { return !x.stored && x.m.fingerprint == r.Fingerprint.Reveal() })
}

func (s *settling) find(m *material) (*row, error) {
	for _, r := range s.rows {
		if r.Fingerprint.Reveal() != m.fingerprint {
			continue
		}
		if r.m == nil && r.idle() {
			return r, r.read()
		}
		return r, nil
	}
	return nil, nil
}

// see deals with one key.
func (s *settling) see(x sight) (*row, error) {
	r, err := s.find(x.m)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return s.add(x)
	}
	r.Outcome = "known"
	if r.State == Removed && !x.person {
		return r, nil
	}
	if x.person { // what a person said once is not unsaid by saying less
		x.proof = max(x.proof, r.sightings[x.source])
	}
	newData, err := s.merge(r, x)
	if err != nil {
		return nil, err
	}
	v := s.verdict(r, x)
	switch {
	case v.word() == wordRevoked:
		return r, s.revoke(r, x, newData)
	case !v.good() || !x.verdict.good():
		return r, s.seeBad(r, x, v, newData)
	case r.Reason == wordRevoked && !x.person:
		return r, nil
	}
	if !x.stored {
		if err := r.sighted(s.tx, x.source, x.proof, s.now); err != nil {
			return nil, err
		}
		r.LastSeen = s.now
	}
	before := r.Tier
	r.Tier, r.Source = max(r.proof(), v.proof), r.best()
	r.Opens = r.Opens.with(x.opens)
	if r.State == Active {
		return r, s.keep(r, x, before, newData)
	}
	return r, s.move(r, x, before, newData)
}

// verdict is that of the entry, with what a copy added to it. What was thought
// of a copy of an OpenPGP key is not what is thought of the key.
func (s *settling) verdict(r *row, x sight) verdict {
	if r.Kind != policy.PGP || r.m == nil || x.verdict.word() == wordRevoked {
		return x.verdict
	}
	tier := r.base()
	if x.verdict.good() && !x.stored {
		tier = max(tier, x.proof)
	}
	return judgeKey(r.m, s.a, tier, s.now)
}

// move brings an entry that is not in use to where it belongs now.
func (s *settling) move(r *row, x sight, before policy.Tier, newData bool) error {
	state, reason := decide(s.meets(r.m), challenge{r.Tier, x.person, x.chosen})
	if state == Proposed && r.State == Superseded {
		state, reason = Superseded, r.Reason // what was in use once is no news
	}
	if state != r.State {
		over, err := s.over(x)
		if err != nil {
			return err
		}
		if over {
			r.Tier = before
			return s.k.update(s.tx, r, newData)
		}
	}
	return s.become(r, x, state, reason, newData)
}

// keep stores an active entry that stays active.
func (s *settling) keep(r *row, x sight, before policy.Tier, newData bool) error {
	if newData {
		if err := s.record(r, ledger.KeyringReplaced, "renewed"); err != nil {
			return err
		}
	}
	if x.person && r.Tier > before {
		r.Outcome = "trusted"
		if err := s.record(r, ledger.KeyringTrusted, ""); err != nil {
			return err
		}
	}
	return s.k.update(s.tx, r, newData)
}

// revoke ends the use of a key for good.
func (s *settling) revoke(r *row, x sight, newData bool) error {
	known := r.State == Refused && r.Reason == wordRevoked
	if x.person || !known {
		r.Outcome = "refused"
	}
	if r.State == Removed {
		r.Entry.Reason = wordRevoked
		return nil
	}
	r.State, r.Reason = Refused, wordRevoked
	if !known {
		r.LastSeen = s.now
		if err := s.record(r, ledger.KeyringRevoked, wordRevoked); err != nil {
			return err
		}
	}
	if known && !newData {
		return nil
	}
	return s.k.update(s.tx, r, newData)
}

// seeBad deals with a known key that was refused, or a copy of one. A copy that
// cannot be used says nothing of the one on record.
func (s *settling) seeBad(r *row, x sight, v verdict, newData bool) error {
	word := cmp.Or(v.word(), x.verdict.word())
	was, reason := r.State, r.Reason
	switch {
	case v.good():
	case x.stored && r.State == Active && !passing(r.Kind, word):
		r.State, r.Reason = Refused, word
		if err := s.record(r, ledger.KeyringRefused, word); err != nil {
			return err
		}
	case r.State == Refused && r.Reason != wordRevoked && !v.failing:
		r.Reason = word
	}
	if newData && r.State == Active {
		if err := s.record(r, ledger.KeyringReplaced, "renewed"); err != nil {
			return err
		}
	}
	if newData || r.State != was || r.Reason != reason {
		if err := s.k.update(s.tx, r, newData); err != nil {
			return err
		}
	}
	if x.person {
		r.Outcome, r.Entry.Reason = "refused", cmp.Or(r.Reason, word)
	}
	return nil
}

// add records a key that was not known for the address.
func (s *settling) add(x sight) (*row, error) {
	if x.stored {
		return nil, nil // somebody else changed it meanwhile
	}
	hmac, err := s.k.d.Custody.Index(s.tx.Org(), fingerprintLabel, x.m.fingerprint)
	if err != nil {
		return nil, err
	}
	// Not all rows of an address need have been read.
	if same, err := s.k.same(s.tx, s.hmac, x.m.kind, hmac); err != nil {
		return nil, err
	} else if same != nil {
		s.rows = append(s.rows, same)
		return s.see(x)
	}
	state, reason := Refused, x.verdict.word()
	if x.verdict.good() {
		state, reason = decide(s.meets(x.m), challenge{x.tier(), x.person, x.chosen})
	}
	if state != Active && !x.person && len(s.rows) >= rowsPerName {
		return nil, nil
	}
	if over, err := s.over(x); err != nil || over {
		return nil, err
	}
	r, err := s.k.newRow(s.tx.Org(), s.a, s.hmac, hmac, x.m, s.now)
	if err != nil {
		return nil, err
	}
	r.Tier, r.Source, r.Opens, r.Reason = x.tier(), x.source, x.opens, reason
	if state == Refused {
		r.Tier = policy.NoTier
	}
	// It is stored as superseded first: no two may be active at once.
	r.State = Superseded
	if state == Refused {
		r.State = Refused
	}
	if err := s.k.insert(s.tx, r); err != nil {
		return nil, err
	}
	s.rows = append(s.rows, r)
	if err := r.sighted(s.tx, x.source, x.proof, s.now); err != nil {
		return nil, err
	}
	if state == Refused {
		r.Outcome = "refused"
		return r, s.record(r, ledger.KeyringRefused, reason)
	}
	return r, s.become(r, x, state, reason, false)
}

// become brings an entry into a state, and what it replaces out of the way.
func (s *settling) become(r *row, x sight, state State, reason string, newData bool) error {
	was, known := r.State, r.Outcome != ""
	event, outcome := ledger.KeyringAdded, "added"
	if x.chosen {
		event, outcome = ledger.KeyringTrusted, "trusted"
	}
	switch state {
	case Active:
		for _, old := range s.rows {
			if old != r && (old.State == Active || old == pinned(s.rows)) {
				old.State, old.Reason = Superseded, "replaced"
				if err := s.record(old, ledger.KeyringReplaced, "replaced"); err != nil {
					return err
				}
				if err := s.k.update(s.tx, old, false); err != nil {
					return err
				}
			}
		}
	case Proposed:
		r.Tier = min(r.Tier, policy.Confirmed)
		event, outcome = ledger.KeyringProposed, "proposed"
	case Superseded:
		event, outcome = ledger.KeyringReplaced, "superseded"
	}
	r.State, r.Reason, r.Outcome = state, reason, outcome
	if known && was == state {
		r.Outcome = "known"
	} else if err := s.record(r, event, reason); err != nil {
		return err
	}
	return s.k.update(s.tx, r, newData)
}

// withdraw takes back what came from a source that has nothing any more.
func (s *settling) withdraw() error {
	for _, r := range s.rows {
		if spelled := r.Address.Reveal(); spelled != s.a.Normal() && spelled != s.a.Reveal() {
			continue // nobody was asked for what it was found under
		}
		lost := false
		for _, source := range s.round.absent {
			if _, ok := r.sightings[source]; !ok {
				continue
			}
			lost = true
			if err := r.unsighted(s.tx, source); err != nil {
				return err
			}
		}
		if !lost {
			continue
		}
		if len(r.sightings) > 0 {
			if r.Kind == policy.PGP && (r.State == Active || r.State == Proposed) {
				r.Tier = r.proof()
			}
			r.Source = r.best()
		} else if (r.State == Active || r.State == Proposed || r.State == Refused) && r.Reason != wordRevoked && !s.shows(r) {
			r.State, r.Reason = Withdrawn, "absent"
			if err := s.record(r, ledger.KeyringWithdrawn, "absent"); err != nil {
				return err
			}
		}
		if err := s.k.update(s.tx, r, false); err != nil {
			return err
		}
	}
	return nil
}

// promote lets the best proposal take the place of a key that is gone or
// whose time is over.
func (s *settling) promote() error {
	var best *row
	for _, r := range s.rows {
		if r.State != Proposed || r.m == nil || r.m.dead(s.now) {
			continue
		}
		if state, _ := decide(s.meets(r.m), challenge{tier: r.Tier}); state != Active {
			continue
		}
		if best == nil || r.Tier > best.Tier || r.Tier == best.Tier && r.m.created().After(best.m.created()) {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return s.become(best, sight{}, Active, "", false)
}

// factsPerDay are what one source may cost in a day by showing another key of
// an address each time; what it shows beyond that is not looked at. Revocations
// and what is withdrawn are written down all the same.
const factsPerDay = 8

// over reports whether a source has cost enough today.
func (s *settling) over(x sight) (bool, error) {
	if x.person || x.stored {
		return false, nil
	}
	n, ok := s.spent[x.source]
	if !ok {
		if err := s.tx.Row(`SELECT count(*) FROM keyring_history h JOIN keyring_entries e ON e.id = h.entry_id
			WHERE e.org_id = ? AND e.address_hmac = ? AND h.source = ? AND h.at > ?`,
			s.tx.Org(), s.hmac, x.source, clock.Micros(s.now.Add(-24*time.Hour))).Scan(&n); err != nil {
			return false, err
		}
		s.spent[x.source] = n
	}
	return n >= factsPerDay, nil
}

// record writes down what happened to an entry.
func (s *settling) record(r *row, event ledger.Type, reason string) error {
	if n, ok := s.spent[r.Source]; ok {
		s.spent[r.Source] = n + 1
	}
	return r.record(s.tx, event, reason, s.now)
}

const (
	spareRows    = 20 // of an address and a kind that are not used any more
	spareRevoked = 10 // of them, so that old copies do not bring them back
)

// prune deletes the oldest entries that are of no use. What is told of them in
// the ledger stays.
func (s *settling) prune() error {
	var spare []*row
	for _, r := range s.rows {
		if r.State == Superseded || r.State == Withdrawn || r.State == Refused && r.Tier != policy.Pinned {
			spare = append(spare, r)
		}
	}
	slices.SortFunc(spare, func(a, b *row) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen), bytes.Compare(b.ID[:], a.ID[:]))
	})
	room, revoked := spareRows, 0
	for _, r := range spare {
		if r.Reason == wordRevoked && revoked < spareRevoked {
			revoked, room = revoked+1, room-1
		}
	}
	for _, r := range spare {
		switch {
		case r.Reason == wordRevoked && revoked > 0:
			revoked--
		case room > 0:
			room--
		default:
			if err := r.remove(s.tx); err != nil {
				return err
			}
		}
	}
	return nil
}
