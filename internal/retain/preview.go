package retain

import (
	"context"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// Preview says what a purge would destroy now, and changes nothing. A later
// stage of the same message is counted too.
func (s *Service) Preview(ctx context.Context, org id.ID) (Result, error) {
	p := &preview{s: s, org: org, result: newResult(id.ID{})}
	for _, stage := range stages() {
		for _, purpose := range policy.Purposes() {
			if err := p.walk(ctx, stage, purpose); err != nil {
				return p.result, err
			}
		}
		if err := p.again(ctx, stage); err != nil {
			return p.result, err
		}
	}
	return p.result, p.read(ctx, p.ledger)
}

type preview struct {
	s      *Service
	org    id.ID
	result Result
}

// read runs one page in a transaction of its own.
func (p *preview) read(ctx context.Context, page func(*judge) error) error {
	return p.s.DB.Read(ctx, p.org, func(tx *db.Tx) error {
		j, err := p.s.judge(tx, p.s.Clock.Now())
		if err != nil {
			return err
		}
		return page(&j)
	})
}

func (p *preview) walk(ctx context.Context, stage Stage, purpose policy.Purpose) error {
	var after id.ID
	if err := p.read(ctx, func(j *judge) (err error) {
		after, err = progress(j.tx, stage, purpose)
		return err
	}); err != nil {
		return err
	}
	for more := true; more; {
		if err := p.read(ctx, func(j *judge) error {
			page, err := spool.KeptAfter(j.tx, after, pageMessages)
			if err != nil {
				return err
			}
			more = len(page) == pageMessages
			for _, m := range page {
				if j.tooYoung(stage, purpose, m) {
					more = false
					return nil
				}
				after = m.ID
				if m.Purpose != purpose || done(stage, m) {
					continue
				}
				if err := p.count(j, stage, m); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *preview) count(j *judge, stage Stage, m spool.Kept) error {
	why, _, err := j.look(stage, m)
	switch {
	case err != nil:
		return err
	case why == "":
		add(p.result.Destroyed, stage, m.Purpose, 1)
	default:
		add(p.result.Left, stage, why, 1)
	}
	return nil
}

func (p *preview) again(ctx context.Context, stage Stage) error {
	after := id.ID{}
	for more := true; more; {
		if err := p.read(ctx, func(j *judge) error {
			ids, err := left(j.tx, stage, after)
			if err != nil {
				return err
			}
			more = len(ids) == pageMessages
			for _, i := range ids {
				after = i
				m, err := spool.KeptMessage(j.tx, i)
				if fault.Is(err, fault.NotFound) || err == nil && done(stage, m) {
					continue
				}
				if err != nil {
					return err
				}
				if err := p.count(j, stage, m); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *preview) ledger(j *judge) error {
	first, err := ledger.Pruned(j.tx)
	if err != nil {
		return err
	}
	for from := first; ; {
		end, _, err := j.prunable(from)
		if err != nil || end == from {
			p.result.Pruned = end - first
			return err
		}
		from = end
	}
}
