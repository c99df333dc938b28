package intake

import (
	"testing"
	"time"
)

func TestCheckPeriod(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		begin, end time.Duration // from now
		ok         bool
	}{
		{-day, 0, true},
		{-day, day, true}, // who reports has another time zone, or a clock that is wrong
		{-7 * day, time.Hour, true},
		{-9 * day, 0, false},
		{-day, 3 * day, false},
		{-40 * day, -39 * day, true},
		{-42 * day, -41 * day, false},
		{-290 * 365 * day, 0, false},
		{0, -day, false},
	} {
		if err := CheckPeriod(now.Add(c.begin), now.Add(c.end), now, ByStrangers); (err == nil) != c.ok {
			t.Errorf("from %v to %v: %v", c.begin, c.end, err)
		}
	}
	if CheckPeriod(time.Unix(1, 0), time.Unix(1<<35, 0), now, ByHand) == nil {
		t.Error("a thousand years")
	}
	for ago, ok := range map[time.Duration]bool{399 * day: true, 401 * day: false} {
		if err := CheckPeriod(now.Add(-ago-day), now.Add(-ago), now, ByHand); (err == nil) != ok {
			t.Errorf("%v ago, by hand: %v", ago, err)
		}
	}
}
