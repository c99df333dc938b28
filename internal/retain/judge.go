package retain

import (
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// Stage is how much of a message is destroyed. A later stage includes the
// earlier ones.
type Stage string

// The stages, in their order. Ledger is none of a message's.
const (
	Bodies   Stage = "bodies"
	Metadata Stage = "metadata"
	Records  Stage = "records"
	Ledger   Stage = "ledger"
)

func stages() []Stage { return []Stage{Bodies, Metadata, Records} }

// Reason says why a message whose time came was left.
type Reason string

// The reasons.
const (
	LeftHeld      Reason = "held"      // by a legal hold
	LeftUnsettled Reason = "unsettled" // or waiting to be read
	LeftLink      Reason = "link"      // a portal link still works
	LeftNotice    Reason = "notice"    // mail about it is under way
	LeftYoung     Reason = "young"     // it was settled later than accepted
)

// judge decides for one organization at one moment, without changing anything.
type judge struct {
	tx     *db.Tx
	now    time.Time
	policy Policy // without the archive's address
	holds  holds
}

// judge gives one that knows what the organization says of retention at this
// moment, and which holds are in effect.
func (s *Service) judge(tx *db.Tx, now time.Time) (j judge, err error) {
	j = judge{tx: tx, now: now}
	if j.policy, err = s.policy(tx, 0, false); err == nil {
		j.holds, err = activeHolds(tx)
	}
	return j, err
}

// period is how long a stage waits.
func (j *judge) period(stage Stage, purpose policy.Purpose) time.Duration {
	p := j.policy.Purposes.Of(purpose)
	switch stage {
	case Bodies:
		return days(p.Bodies)
	case Metadata:
		return days(p.Metadata)
	}
	return days(p.Records)
}

// tooYoung reports whether a message was accepted too late for the stage,
// whatever became of it.
func (j *judge) tooYoung(stage Stage, purpose policy.Purpose, m spool.Kept) bool {
	return m.CreatedAt.Add(j.period(stage, purpose)).After(j.now)
}

// done reports whether the stage has nothing to destroy of a message.
func done(stage Stage, m spool.Kept) bool {
	return stage == Bodies && m.BodyGone || stage == Metadata && m.Gone
}

// look gives why a message must be left, or "" and its deliveries.
func (j *judge) look(stage Stage, m spool.Kept) (Reason, []spool.KeptDelivery, error) {
	deliveries, err := spool.KeptDeliveries(j.tx, m.ID)
	if err != nil {
		return "", nil, err
	}
	if j.holds.covers(m, deliveries) {
		return LeftHeld, nil, nil
	}
	last := m.CreatedAt
	for _, d := range deliveries {
		if !d.State.Settled() || d.State == "" || d.State == spool.Waiting {
			return LeftUnsettled, nil, nil
		}
		if d.SettledAt.After(last) {
			last = d.SettledAt
		}
	}
	if last.Add(j.period(stage, m.Purpose)).After(j.now) {
		return LeftYoung, nil, nil
	}
	for _, d := range deliveries {
		lives, err := pickup.LinkLives(j.tx, d.ID, j.now)
		if err != nil {
			return "", nil, err
		}
		if lives {
			return LeftLink, nil, nil
		}
	}
	if stage == Bodies {
		return "", deliveries, nil
	}
	under, err := spool.NoticesUnderWay(j.tx, m.ID)
	if under {
		return LeftNotice, nil, nil
	}
	return "", deliveries, err
}
