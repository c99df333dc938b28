package config

import "testing"

func TestAnInternetIsReplacedOnlyByMoreThanAResolver(t *testing.T) {
	real := Network{SMTPPort: 25, HTTPSPort: 443}
	for name, c := range map[string]struct {
		change func(*Network)
		want   bool
	}{
		"nothing":              {func(*Network) {}, false},
		"a validating one":     {func(n *Network) { n.Resolver = "127.0.0.1:53" }, false},
		"a port alone":         {func(n *Network) { n.SMTPPort = 2525 }, false},
		"authorities alone":    {func(n *Network) { n.CAFile = "/ca.pem" }, false},
		"resolver and port":    {func(n *Network) { n.Resolver, n.SMTPPort = "127.0.0.1:53", 2525 }, true},
		"resolver and CA file": {func(n *Network) { n.Resolver, n.CAFile = "127.0.0.1:53", "/ca.pem" }, true},
	} {
		n := real
		c.change(&n)
		if n.Replaced() != c.want {
			t.Errorf("%s: Replaced() = %v", name, !c.want)
		}
	}
}
