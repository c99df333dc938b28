package private

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestPanicHoldsNoContent(t *testing.T) {
	defer func() {
		if got := Panic(recover()); !strings.Contains(got, "index out of range") {
			t.Errorf("%q does not tell what the runtime says", got)
		}
		for _, v := range []any{"secret", errors.New("secret"), []byte("secret"), struct{ S string }{"secret"}} {
			if got := Panic(v); got == "" || strings.Contains(got, "secret") {
				t.Errorf("%T is shown as %q", v, got)
			}
		}
	}()
	var none []int
	_ = none[len(none)]
}

func TestRecoverGivesAnError(t *testing.T) {
	do := func(v any) (err error) {
		defer Recover(&err)
		if v != nil {
			panic(v)
		}
		return nil
	}
	if err := do(nil); err != nil {
		t.Errorf("without a panic: %v", err)
	}
	if err := do("secret"); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "TestRecoverGivesAnError") {
		t.Errorf("%v is no error that tells where and nothing else", err)
	}
}

// TestRecoverLoggedTells of where it was, once, and of no content.
func TestRecoverLoggedTells(t *testing.T) {
	var log bytes.Buffer
	do := func(v any) (err error) {
		defer RecoverLogged(&err, slog.New(slog.NewTextHandler(&log, nil)), "test this")
		if v != nil {
			panic(v)
		}
		return nil
	}
	if err := do(nil); err != nil || log.Len() > 0 {
		t.Errorf("without a panic: %v, %s", err, &log)
	}
	err := do("secret")
	if text := log.String(); err == nil || strings.Contains(text, "secret") || strings.Count(text, "a defect was met") != 1 || !strings.Contains(text, "TestRecoverLoggedTells") {
		t.Errorf("%v, and the log says %s", err, text)
	}
}
