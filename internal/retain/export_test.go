package retain

import (
	"context"

	"github.com/sealpost/sealpost/internal/id"
)

// Purge is the night's work for one organization, now.
func (s *Service) Purge(ctx context.Context, org id.ID) (Result, error) {
	return s.purge(ctx, org, s.Clock.Now())
}
