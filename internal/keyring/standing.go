package keyring

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/mail"
)

// standing gives what is known of an address without asking about it: most
// domains have no keys for anybody, and that is known of the domain. Then there
// is nothing to write down either. Where a key is on record, it is asked for:
// only that tells whether it is still there.
func (k *Keyring) standing(ctx context.Context, a mail.Address, now time.Time) (asking, bool, error) {
	if k.d.Standing == nil {
		return asking{}, false, nil
	}
	answers, ok := k.d.Standing(a)
	if !ok {
		return asking{}, false, nil
	}
	if changes, err := k.changes(ctx, db.System); err != nil {
		return asking{}, false, err
	} else if changes > 0 {
		shared, err := k.hold(ctx, db.System, a)
		if err != nil || len(shared.rows) > 0 {
			return asking{}, false, err
		}
	}
	m := asking{at: now, next: now.Add(foundFor)}
	for _, answer := range answers {
		if answer.Until.Before(m.next) {
			m.next = answer.Until
		}
		if answer.Word != "" {
			m.failing = true
			m.words = append(m.words, answerSentence(lookup{source: answer.Source, result: "failed", word: answer.Word}))
		}
	}
	return m, true, nil
}
