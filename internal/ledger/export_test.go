package ledger

import (
	"maps"
	"slices"
)

// Types are all types of entries.
func Types() []Type { return slices.Sorted(maps.Keys(types)) }
