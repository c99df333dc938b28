package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/deliver"
)

// Whatever the destinations are called and however much waits, no line wraps
// and nothing leaves the screen.
func TestTopFitsTheScreen(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	top := app.Top{At: now, Nodes: make([]deliver.Snapshot, 2), AtLeast: true}
	for i := range 40 {
		s := app.TopSite{SiteStat: deliver.SiteStat{Site: fmt.Sprintf("%d.%s.example\x1b[2J", i, strings.Repeat("long", 20)), Ready: 9_999_999, Connections: 1000, PerMinute: 123_456, LastReply: "unreachable"}, Scheduled: 12_345_678}
		if i == 0 {
			s.Suspended = now.Add(29 * time.Minute)
		}
		top.Sites = append(top.Sites, s)
	}
	for _, size := range [][2]int{{80, 24}, {80, 10}, {60, 24}, {200, 50}} {
		got := topScreen{width: size[0], height: size[1]}.lines(top)
		if len(got) > size[1] {
			t.Errorf("%v: %d lines", size, len(got))
		}
		for _, line := range got {
			if utf8.RuneCountInString(line) > size[0] || strings.Contains(line, "\x1b") {
				t.Errorf("%v: %q", size, line)
			}
		}
	}
	lines := topScreen{width: 80, height: 24}.lines(top)
	if !strings.HasSuffix(lines[3], "29m0s") || !strings.Contains(lines[3], "≥9999999") {
		t.Errorf("%q", lines[3])
	}
	if !strings.HasSuffix(lines[2], "LEFT FOR WHY") {
		t.Errorf("%q", lines[2])
	}
	top.Sites[0].Why = "rate-limit"
	if all := (topScreen{}).lines(top); !strings.HasSuffix(all[3], " 29m0s    rate-limit") {
		t.Errorf("%q", all[3])
	}
	if last := lines[len(lines)-1]; last != "and 20 more" {
		t.Errorf("%q", last)
	}
	if colored := (topScreen{width: 80, height: 24, color: true}).lines(top); !strings.HasPrefix(colored[3], "\x1b[31m") || !strings.HasSuffix(colored[3], "\x1b[0m") {
		t.Errorf("%q", colored[3])
	}
	if all := (topScreen{}).lines(top); len(all) != 43 {
		t.Errorf("without a screen there are %d lines", len(all))
	}
}
