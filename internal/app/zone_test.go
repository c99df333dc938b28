package app

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/config"
)

// The addresses that are checked are those of the pools that mail leaves from.
func TestSourcesAreThoseOfThePoolsInUse(t *testing.T) {
	pools := []config.Pool{
		{Name: "campaigns", Streams: []string{"bulk"}, Addresses: []string{"10.0.0.1", "10.0.0.2"}, PublicAddresses: []string{"198.51.100.1", "198.51.100.2"},
			Helo: []string{"a.example", "b.example"}, Overflow: "spare"},
		{Name: "spare", Addresses: []string{"192.0.2.9"}, Orgs: []string{"nobody"}},
		{Name: "clinic", Orgs: []string{"clinic"}, Addresses: []string{"192.0.2.1"}},
		{Name: "clinic-bulk", Orgs: []string{"clinic"}, Streams: []string{"bulk"}, Addresses: []string{"192.0.2.2"}},
	}
	for _, tc := range []struct{ slug, stream, want string }{
		{"clinic", "transactional", "192.0.2.1 mail.example"},
		{"clinic", "bulk", "192.0.2.2 mail.example"},
		{"lab", "transactional", "invalid IP mail.example"},
		{"lab", "bulk", "198.51.100.1 a.example 198.51.100.2 b.example 192.0.2.9 mail.example"},
	} {
		var got []string
		for _, p := range poolsOf(pools, tc.slug, tc.stream) {
			for _, s := range sourcesOf(p, "mail.example") {
				got = append(got, s.Addr.String()+" "+s.Helo)
			}
		}
		if text := strings.Join(got, " "); text != tc.want {
			t.Errorf("%s of %s: %q, want %q", tc.stream, tc.slug, text, tc.want)
		}
	}
	loop := []config.Pool{{Name: "a", Streams: []string{"bulk"}, Overflow: "b"}, {Name: "b", Overflow: "a", Orgs: []string{"x"}}}
	if n := len(poolsOf(loop, "y", "bulk")); n > 3 {
		t.Errorf("%d pools of two", n)
	}
}
