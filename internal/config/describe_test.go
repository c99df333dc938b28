package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDescribeReadsAsTheDefaults(t *testing.T) {
	l := newLoader()
	l.config = &Config{} // so that a default can only come from the text
	l.root = reflect.ValueOf(l.config).Elem()
	l.file([]byte(Describe()))
	if len(l.mistakes.List) > 0 {
		t.Fatal(l.mistakes)
	}
	if !reflect.DeepEqual(l.config, Default()) {
		t.Errorf("got\n%s\nwant\n%s", l.config.Show(), Default().Show())
	}
}

var commentedOut = regexp.MustCompile(`(?m)^# (\[\[|[a-z_]+ = )`)

// With every example in force the reference is still a good configuration.
func TestDescribeExamplesAreGood(t *testing.T) {
	text := commentedOut.ReplaceAllString(Describe(), "$1")
	text = regexp.MustCompile(`(?m)^url_file = .*$`).ReplaceAllString(text, "")
	c, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range allFields(c) {
		if _, preset := f.tag.Lookup("default"); !preset && f.value.IsZero() {
			t.Errorf("%s has no example in the reference", f.key)
		}
	}
	if len(c.Relay.Source) != 1 || c.Relay.Source[0].Org != "clinic" {
		t.Errorf("%+v", c.Relay)
	}
}

func TestDescribeIsNarrowAndComplete(t *testing.T) {
	text := Describe()
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 80 {
			t.Errorf("line %d has %d characters", i+1, len(line))
		}
	}
	if !strings.Contains(text, `idempotency_ttl = "72h"`) || !strings.Contains(text, `link_ttl = "30d"`) {
		t.Error("durations are not written as people would")
	}
	for _, f := range allFields(&Config{}) {
		if f.tag.Get("doc") == "" || !strings.Contains(text, "\n"+f.name+" = ") && !strings.Contains(text, "\n# "+f.name+" = ") {
			t.Errorf("%s is not described", f.key)
		}
	}
}

func TestTagsAreComplete(t *testing.T) {
	seen := map[string]string{}
	for _, f := range allFields(&Config{}) {
		text, preset := f.tag.Lookup("default")
		if !preset {
			text = f.tag.Get("example")
		}
		if err := f.setText(text); err != nil {
			t.Errorf("%s: default or example: %v", f.key, err)
		}
		if kind := f.value.Kind(); kind == reflect.Int || kind == reflect.Int64 {
			for _, limit := range []string{"min", "max"} {
				if err := f.setText(f.tag.Get(limit)); err != nil {
					t.Errorf("%s: %s: %v", f.key, limit, err)
				}
			}
		}
		if f.secret() != (f.tag.Get("file") != "") {
			t.Errorf("%s: a secret must be readable from a file, and nothing else", f.key)
		}
		if other := seen[f.variable()]; other != "" {
			t.Errorf("%s and %s have the same variable", other, f.key)
		}
		seen[f.variable()] = f.key
	}
}

func TestShowReadsBack(t *testing.T) {
	c, err := load(t, "data_dir = '/srv/a \"b\" \\c'\n"+minimal+"[[relay.source]]\nnetworks = [\"10.0.0.0/8\"]\norg = \"clinic\"\n")
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(t, c.Show())
	if err != nil || c.Show() != again.Show() { // which has every value, and no difference between none and an empty list
		t.Errorf("%v\n%s", err, c.Show())
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "25MiB": 25 << 20, "1GB": 1e9, "7B": 7, "1536KiB": 1536 << 10, "10": 10} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "25 MiB", "25mib", "9223372036854775807KiB", "99999999999999999999", "+5"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
	for text, want := range map[string]time.Duration{"0s": 0, "30d": 720 * time.Hour, "48h": 48 * time.Hour, "1h30m": 90 * time.Minute, "1.5s": 1500 * time.Millisecond} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1h", "+1h", "5", "1.5d", "200000d", "99999999999d", "1d2h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, text := range []string{"25MiB", "30d", "90s", "1h2m3s", "0", "9223372036854775807", "106751d"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSize(text); err == nil {
			if again, err := ParseSize(s.String()); err != nil || again != s || s < 0 {
				t.Errorf("%q is %d, written %s, read %d, %v", text, s, s, again, err)
			}
		}
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(formatDuration(d)); err != nil || again != d || d < 0 {
				t.Errorf("%q is %d, written %s, read %d, %v", text, d, formatDuration(d), again, err)
			}
		}
	})
}

// Whatever the file says, it is read or refused with a list of mistakes, and
// what is read can be shown and read again.
func FuzzFile(f *testing.F) {
	f.Add([]byte(Describe()))
	f.Add([]byte(minimal))
	f.Add([]byte("relay.source = [{org='a', networks=['10.0.0.0/8']}]\na.b.c = {d = [{}]}\n[[x]]\n[[x]]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "_file") {
			return // no file named by the fuzzer is opened
		}
		l := newLoader()
		l.file(data)
		l.config.fill()
		l.check()
		if len(l.mistakes.List) > 0 {
			l.mistakes.sort()
			_ = l.mistakes.Error()
			return
		}
		again := newLoader()
		again.file([]byte(l.config.Show()))
		if len(again.mistakes.List) > 0 || again.config.Show() != l.config.Show() {
			t.Errorf("%v\n%s\n%s", again.mistakes, l.config.Show(), again.config.Show())
		}
	})
}
