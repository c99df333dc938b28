package deliver

import (
	"context"

	"github.com/sealpost/sealpost/internal/id"
)

// Sweep looks twice for what nobody works on, as the engine does in two
// minutes.
func (e *Engine) Sweep(ctx context.Context) error {
	if err := e.takeOver(ctx); err != nil {
		return err
	}
	var strays map[id.ID]bool
	var err error
	for range 2 {
		if strays, err = e.reconcile(ctx, strays); err != nil {
			return err
		}
	}
	return nil
}
