package submit_test

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestOldAnswersAreFoundByTheirAge, or each batch that is deleted would read
// all that the organization has.
func TestOldAnswersAreFoundByTheirAge(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		plan := dbtest.Explain(t, d, submit.OldAnswers, id.New(), int64(1), 1000)
		if !strings.Contains(plan, "submit_answers_org_age") || strings.Contains(plan, "B-TREE FOR ORDER") || strings.Contains(plan, "Sort") {
			t.Error(plan)
		}
	})
}
