package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestUnknownErrorsSayNothing(t *testing.T) {
	err := fmt.Errorf("pq: duplicate key (ada@example.org)")
	if got := From(err); strings.Contains(got.Error(), "ada") || HTTP(err) != 500 {
		t.Fatalf("generic fault shows its cause: %v", got)
	}
	if r := SMTP(err); r.Code != 451 || strings.Contains(r.Text, "ada") {
		t.Fatalf("SMTP reply shows its cause: %+v", r)
	}
	if !errors.Is(From(err), err) {
		t.Fatal("the cause is lost to the log")
	}
}

func TestEveryKindHasReplies(t *testing.T) {
	for k := Internal; k <= Refused; k++ {
		f := New(k, "r", "text")
		if HTTP(f) < 400 {
			t.Errorf("kind %d has no HTTP status", k)
		}
		if r := SMTP(f); r.Code/100 != r.Enhanced[0] || r.Code < 400 {
			t.Errorf("kind %d: SMTP code %d and enhanced %v disagree", k, r.Code, r.Enhanced)
		}
	}
}

func TestJoinKeepsAll(t *testing.T) {
	j := Join(New(Invalid, "a", "A.").At("/a"), New(Invalid, "b", "B.").At("/b"))
	if j.Pointer != "/a" || len(j.Also) != 1 || j.Also[0].Pointer != "/b" {
		t.Fatalf("Join lost a fault: %+v", j)
	}
	if Join() != nil {
		t.Fatal("Join of none is not nil")
	}
}
