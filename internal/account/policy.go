package account

import (
	"context"
	"database/sql"
	"errors"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// policyLabel binds a stored document to this use for ever.
const policyLabel = "account.policy.v1"

// PublishPolicy stores a new version of the organization's policy document
// and gives its number, from 1. A document can name addresses, so it is
// encrypted like content. The caller has parsed it: accounts only keep it.
func (a *Accounts) PublishPolicy(ctx context.Context, org id.ID, document []byte) (version int64, err error) {
	key, err := a.Custody.NewDataKey(org)
	if err != nil {
		return 0, err
	}
	now := a.Clock.Now()
	err = a.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		// The organization's row is locked, so that versions come one by one.
		if n, err := tx.Exec("UPDATE account_orgs SET slug = slug WHERE id = ? AND destroyed_at IS NULL", org); err != nil {
			return err
		} else if n == 0 {
			return fault.New(fault.NotFound, "no_org", "There is no such organization, or its keys are destroyed.")
		}
		if err := tx.Row("SELECT coalesce(max(version), 0) + 1 FROM account_policies WHERE org_id = ?", org).Scan(&version); err != nil {
			return err
		}
		if err := a.Custody.SaveDataKey(tx, key); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO account_policies (org_id, version, key_id, document_sealed, created_at)
			VALUES (?, ?, ?, ?, ?)`, org, version, key.ID, key.Seal(policyLabel, key.ID, document), clock.Micros(now)); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.PolicyPublished, At: now, Data: struct {
			Version int64 `json:"version"`
		}{version}})
	})
	return version, err
}

// PolicyVersion is the number of the newest document; 0 when there is none.
func PolicyVersion(tx *db.Tx) (version int64, err error) {
	err = tx.Row("SELECT coalesce(max(version), 0) FROM account_policies WHERE org_id = ?", tx.Org()).Scan(&version)
	return version, err
}

// PolicyDocument gives one version of the organization's document.
func PolicyDocument(tx *db.Tx, c *custody.Custody, version int64) ([]byte, error) {
	var keyID id.ID
	var sealed []byte
	err := tx.Row("SELECT key_id, document_sealed FROM account_policies WHERE org_id = ? AND version = ?",
		tx.Org(), version).Scan(&keyID, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "no_policy", "The organization has no policy document of this version.")
	}
	if err != nil {
		return nil, err
	}
	key, err := c.DataKey(tx, keyID)
	if err != nil {
		return nil, err
	}
	return key.Open(policyLabel, keyID, sealed)
}
