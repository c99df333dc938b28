package fault

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"order", "tls_floor", "notice_floor", "rules", "version"}
	for word, want := range map[string]string{
		"oder":        "order",
		"roder":       "order",
		"rule":        "rules",
		"TLS_Floor":   "tls_floor",
		"tls-floor":   "tls_floor",
		"noticefloor": "notice_floor",
		"xyzzy":       "",
		"":            "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
