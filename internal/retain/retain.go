// Package retain lets go of what an organization need not keep any more, and
// of nothing else: periods per purpose, legal holds, a nightly purge that
// proves what it destroyed, the pruning of the ledger, and the copy of all
// mail for an archive.
//
// What is known of a message goes in three stages, each counted from the day
// its last delivery was settled:
//
//	bodies ────▶ metadata ───────────────▶ records
//	chunks       data key; header,         the rows of message and deliveries
//	             details, addresses
//
// Invariants:
//   - Records and ledger are kept for six years at least (45 CFR
//     164.316(b)(2)(i)). No document that says less is stored, and one that
//     came to be stored is not followed.
//   - A legal hold is overridden by nothing. Whoever places or lifts one and
//     whoever destroys anything locks the organization's row, so a hold that
//     was placed is seen by every batch that commits after it.
//   - Holds and periods are read in the transaction that destroys.
//   - Nothing is destroyed while the clock may have jumped.
//   - What is unsettled, waits to be read, has a link that works or a notice
//     under way is left, and looked at again the next night.
//   - Each batch is one transaction with its ledger entry and the list of what
//     it destroyed, whose hash the entry holds. A run that is interrupted goes
//     on where it stopped and destroys nothing twice.
//   - A message is read about once for each stage in its life, however many
//     there are: progress is kept, and so are the few that had to be left.
//   - The ledger is pruned last, from its beginning, and never past an entry
//     of a held message.
package retain

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Deps are what retention works with.
type Deps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Blob     *blob.Store
	Accounts *account.Accounts
	Clock    clock.Clock
	Log      *slog.Logger
	Answers  time.Duration // for which the installation keeps answers to requests
}

// Service keeps and applies what organizations say of retention. It keeps
// nothing in memory.
type Service struct{ Deps }

// New gives the service of one installation.
func New(d Deps) *Service { return &Service{d} }

// lock keeps everybody else from placing holds and from destroying anything
// of the transaction's organization until it ends.
func lock(tx *db.Tx) (state orgState, err error) {
	if _, err := tx.Exec("INSERT INTO retain_orgs (org_id, run_id, purged_at) VALUES (?, ?, 0) ON CONFLICT (org_id) DO NOTHING",
		tx.Org(), id.ID{}); err != nil {
		return state, fmt.Errorf("lock retention: %w", err)
	}
	err = tx.Row(tx.Pick( // BEGIN IMMEDIATE holds the whole file
		"SELECT run_id, purged_at FROM retain_orgs WHERE org_id = ?",
		"SELECT run_id, purged_at FROM retain_orgs WHERE org_id = ? FOR UPDATE"), tx.Org()).Scan(&state.run, &state.purgedAt)
	return state, err
}

// orgState is a row of retain_orgs.
type orgState struct {
	run      id.ID // that is under way; zero for none
	purgedAt int64 // when the last one ended; 0 for never
}

func readState(tx *db.Tx) (state orgState, err error) {
	err = tx.Row("SELECT run_id, purged_at FROM retain_orgs WHERE org_id = ?", tx.Org()).Scan(&state.run, &state.purgedAt)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return state, err
}
