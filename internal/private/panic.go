package private

import (
	"fmt"
	"runtime"
)

// Panic tells of a value that was panicked with: what the runtime says, which
// holds types, indexes and lengths, and of anything else its type alone, since
// the value could hold content.
func Panic(v any) string {
	if e, ok := v.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("a %T", v)
}
