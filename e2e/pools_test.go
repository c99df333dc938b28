package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/sealpost/sealpost/e2e/internal/postfix"
)

const threePools = `
[[pool]]
name = "campaigns"
addresses = ["127.0.0.41", "127.0.0.42"]
helo = ["out1.clinic.test", "out2.clinic.test"]
streams = ["bulk"]
[[pool]]
name = "lab"
addresses = ["127.0.0.43"]
helo = ["out.lab.test"]
orgs = ["lab"]
`

// TestMailLeavesFromItsPool has three kinds of mail go to one domain at the
// same time. A real Postfix writes down who handed each in: connections are
// used again, but never for the mail of another pool.
func TestMailLeavesFromItsPool(t *testing.T) {
	s := newSite(t, "", "")
	appendTo(t, s.config(), threePools)
	mailbox := s.postfixMX(t, postfix.Host{})
	s.run("org", "create", "lab", "--name", "Lab")
	s.addDomain("lab.test", "--org", "lab")
	var lab struct {
		Key string `json:"key"`
	}
	s.runJSON(&lab, "apikey", "create", "--org", "lab", "--name", "e2e")
	s.start()
	theirs := *s
	theirs.key = lab.Key

	const each = 12
	for i := range each {
		for j, m := range []struct {
			s            *site
			from, stream string
		}{{s, "dr.ada@clinic.test", "transactional"}, {s, "dr.ada@clinic.test", "bulk"}, {&theirs, "desk@lab.test", "bulk"}} {
			if _, err := m.s.post(map[string]any{"from": m.from, "to": []string{"mira@postfix.example"}, "stream": m.stream, "text": "x",
				"headers": map[string]string{"X-Number": strconv.Itoa(3*i + j)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	handedIn := regexp.MustCompile(`(?m)^Received: from (\S+) \(unknown \[([0-9.]+)\]\)`)
	seen := map[string]int{}
	for i, mail := range mailFiles(t, mailbox, 3*each) {
		who := handedIn.FindStringSubmatch(mail)
		if who == nil {
			t.Fatalf("Postfix does not say who brought\n%s", mail)
		}
		seen[fmt.Sprintf("%d %s %s", i%3, who[1], who[2])]++
	}
	one, two := seen["1 out1.clinic.test 127.0.0.41"], seen["1 out2.clinic.test 127.0.0.42"]
	if one == 0 || two == 0 || one+two != each || seen["0 mail.clinic.test 127.0.0.1"] != each || seen["2 out.lab.test 127.0.0.43"] != each {
		t.Errorf("mail left from %v", seen)
	}
}
