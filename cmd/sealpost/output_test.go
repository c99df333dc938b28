package main

import (
	"strings"
	"testing"
	"time"
)

// A name that somebody chose must not steer the terminal of who lists it.
func TestTablesHoldNoControlCharacters(t *testing.T) {
	var p page
	p.table([]string{"a\x1b[31mred\r\n", "b"}, []string{"\u202egnp.exe\t", "ä"})
	if got := p.text.String(); got != "a·[31mred··  b\n·gnp.exe·    ä\n" {
		t.Errorf("%q", got)
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]string{
		"":                     "0001-01-01T00:00:00Z",
		"90d":                  "2030-04-02T03:04:05Z",
		"2h":                   "2030-01-02T05:04:05Z",
		"2030-12-31":           "2030-12-31T00:00:00Z",
		"2030-01-02T03:04:06Z": "2030-01-02T03:04:06Z",
		"2030-01-02T03:04:05Z": "has passed already",
		"2030-01-02":           "has passed already",
		"0d":                   "neither",
		"-2h":                  "neither",
		"tomorrow":             "neither",
	} {
		got, err := moment(text, now)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
