package config

import (
	"strings"
	"testing"
)

func TestPoolMistakes(t *testing.T) {
	const pool = "[[pool]]\nname = \"a\"\nstreams = [\"bulk\"]\n"
	for text, want := range map[string]string{
		pool: "",
		"[[pool]]\nname = \"default\"\naddresses = [\"192.0.2.1\"]": "",
		"[[pool]]\nname = \"A b\"\nstreams = [\"bulk\"]":            "pool[0].name: must be a name of small letters, digits and -",
		"[[pool]]\nname = \"a\"":                                    "pool[0].name: nothing leaves from this pool: give orgs or streams, or let another pool overflow to it",
		"[[pool]]\nname = \"default\"\norgs = [\"x\"]":              "pool[0].name: this pool takes what no other is for, so it has no orgs and no streams",
		pool + pool:                                                              "pool[1].name: is the name of another pool",
		pool + "orgs = [\"Über uns\"]":                                           "pool[0].orgs: must be short names of organizations: small letters, digits and -",
		pool + "addresses = [\"10.0.0\"]":                                        "pool[0].addresses: must be IP addresses such as 192.0.2.10",
		pool + "public_addresses = [\"0.0.0.0\"]":                                "pool[0].public_addresses: must be IP addresses such as 192.0.2.10",
		pool + "addresses = [\"192.0.2.1\", \"2001:db8::1\"]":                    "pool[0].addresses: must be all IPv4 or all IPv6; make a pool of each",
		pool + "helo = [\"a.example\", \"b.example\"]":                           "pool[0].helo: must be one name, or one for each address",
		pool + "helo = [\"-\"]":                                                  "pool[0].helo: must be host names such as out1.example.org",
		pool + "warm_up_days = [5]":                                              "pool[0].warm_up_started: goes with warm_up_days: give both or none",
		pool + "warm_up_days = [0]\nwarm_up_started = \"2026-03-01\"":            "pool[0].warm_up_days: must be between 1 and 1000000000",
		pool + "warm_up_days = [\"5\"]\nwarm_up_started = \"2026-03-01\"":        "pool[0].warm_up_days: must be a list of whole numbers",
		pool + "warm_up_days = [5]\nwarm_up_started = \"1 March\"":               "pool[0].warm_up_started: must be a day such as 2026-03-01",
		pool + "slow_bounces = 5":                                                "pool[0].slow_bounces: needs daily_ceiling",
		pool + "site_share = 101\ndaily_ceiling = 5":                             "pool[0].site_share: must be between 0 and 100",
		pool + "warm_up_growth = 20\ndaily_ceiling = 9":                          "pool[0].warm_up_growth: needs warm_up_started and warm_up_days",
		pool + "overflow = \"b\"\ndaily_ceiling = 9":                             "pool[0].overflow: there is no pool of that name",
		pool + "overflow = \"default\"":                                          "pool[0].overflow: never happens without daily_ceiling or a warm-up",
		pool + "overflow = \"default\"\ndaily_ceiling = 9":                       "",
		pool + "overflow = \"a\"\ndaily_ceiling = 9":                             "pool[0].overflow: leads back to a pool that overflows: a>a",
		pool + "streems = []":                                                    "pool[0].streems: this key is not known; did you mean pool[0].streams?",
		pool + "[[pool]]\nname = \"b\"\nstreams = [\"transactional\", \"bulk\"]": "pool[1].name: the same mail would leave from pool a",
		pool + "overflow = \"b\"\ndaily_ceiling = 9\n[[pool]]\nname = \"b\"\noverflow = \"a\"\ndaily_ceiling = 5": "pool[0].overflow: leads back to a pool that overflows: a>b>a\n" +
			"pool[1].overflow: leads back to a pool that overflows: b>a>b",
		"[reputation]\nblock_lists = [\"http://x\"]": "reputation.block_lists: must be names of DNS zones such as zen.spamhaus.org",
	} {
		_, err := load(t, minimal+text)
		var got []string
		for line := range strings.SplitSeq(lines(err), "\n") {
			if _, rest, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(line, "line ") {
				line = rest
			}
			got = append(got, line)
		}
		if all := strings.Join(got, "\n"); all != want {
			t.Errorf("%s: got\n%s\nwant\n%s", text, all, want)
		}
	}
}

func TestPoolsReadBack(t *testing.T) {
	c, err := load(t, minimal+"[[pool]]\nname = \"a\"\nstreams = [\"bulk\"]\nwarm_up_days = [5, 10]\nwarm_up_started = \"2026-03-01\"\n")
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(t, c.Show())
	if err != nil || len(again.Pool) != 1 || again.Pool[0].WarmUpDays[1] != 10 {
		t.Errorf("%v\n%s", err, c.Show())
	}
}
