package private

import (
	"errors"
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
