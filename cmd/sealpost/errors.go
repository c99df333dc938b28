package main

import (
	"errors"
	"fmt"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/fault"
)

const (
	exitDone = iota
	exitFailed
	exitUsage
)

// usageError is a mistake in the command line that only running shows.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errSaid ends a command with exit code 1 after it has said why.
var errSaid = errors.New("the command has said why it failed")

// report tells what went wrong and gives the exit code.
func (e *environment) report(err error) int {
	var usage usageError
	var mistakes *config.Mistakes
	var f *fault.Fault
	var code codeError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &usage):
		e.sayf("sealpost: %s", usage.text)
		return exitUsage
	case errors.As(err, &mistakes):
		e.reportMistakes(mistakes)
	case errors.As(err, &f):
		e.reportFault(err, f)
	default:
		e.sayf("sealpost: %v", err)
	}
	return exitFailed
}

// reportMistakes also says where a file would have been looked for, because a
// forgotten --config looks like a file full of gaps.
func (e *environment) reportMistakes(m *config.Mistakes) {
	e.sayf("sealpost: %v", m)
	if m.File == "" {
		e.sayf("No configuration file was given and there is no %s, so only the environment was read.\n"+
			"Name a file with --config, or write one: sealpost config describe > sealpost.toml", systemConfig)
	}
}

// reportFault shows all faults and the first one's cause, which says more to
// who runs a command on the machine itself than a caller may know.
func (e *environment) reportFault(err error, f *fault.Fault) {
	e.sayf("sealpost: %v", err)
	for _, also := range f.Also {
		e.sayf("sealpost: %v", also)
	}
	if cause := f.Unwrap(); cause != nil {
		e.sayf("Cause: %v", cause)
	}
}
