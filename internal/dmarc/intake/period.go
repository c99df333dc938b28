package intake

import (
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

const (
	day = 24 * time.Hour
	// longest is a week, and what clocks and time zones add to it.
	longest = 8 * day
	// early is for clocks and time zones.
	early = 2 * day
)

// How long after its end a report may come.
const (
	// ByStrangers: who forges reports must not have all of history to spread
	// them over, and what counts days counts on there being few.
	ByStrangers = 40 * day
	// ByHand is as long as reports are kept and summed up: a year, and a month
	// to compare it with.
	ByHand = 400 * day
)

// CheckPeriod refuses a report that is about a time no reporter writes about,
// or that comes too late.
func CheckPeriod(begin, end, now time.Time, late time.Duration) error {
	if end.Sub(begin) > longest || end.Before(begin) || end.Before(now.Add(-late)) || end.After(now.Add(early)) {
		return fault.Newf(fault.Invalid, "bad_period",
			"The report is about more than %d days, about a time more than %d days ago, or about one to come.", longest/day, late/day)
	}
	return nil
}
