package private

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
)

// Recover, deferred, makes an error of a panic, so that what a stranger sent
// ends nothing but the work on it. Neither the error nor its stack holds
// content.
func Recover(err *error) {
	if v := recover(); v != nil {
		*err = defect(v)
	}
}

// RecoverLogged is Recover for where nobody else tells of the error.
func RecoverLogged(err *error, log *slog.Logger, doing string) {
	if v := recover(); v != nil {
		*err = defect(v)
		log.Error("a defect was met", "doing", doing, "error", *err)
	}
}

func defect(v any) error { return fmt.Errorf("a defect: %s\n%s", Panic(v), debug.Stack()) }

// Panic tells of a value that was panicked with: what the runtime says, which
// holds types, indexes and lengths, and of anything else its type alone, since
// the value could hold content.
func Panic(v any) string {
	if e, ok := v.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("a %T", v)
}
