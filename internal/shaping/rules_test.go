package shaping

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/private"
)

// Every line of a reply names the site by one of its real mail hosts and what
// should follow.
func TestDefaultKnowsWhatProvidersSay(t *testing.T) {
	rules := Default()
	for _, tc := range []struct {
		mx, site string
		event    Event
		want     string
	}{
		{"gmail-smtp-in.l.google.com", "google", reply(421, "4.7.28", "Our system has detected an unusual rate"), "unusual-rate slow"},
		{"aspmx.l.google.com.", "google", reply(421, "4.7.0", "Our system has detected that this message is suspicious due to the very low reputation of the sending IP"), "low-reputation suspend"},
		{"smtp.google.com", "google", reply(450, "4.2.1", "The user you are trying to contact is receiving mail too quickly"), ""},
		{"ASPMX.L.GOOGLE.COM", "google", reply(550, "5.1.1", "The email account that you tried to reach does not exist"), ""},
		{"outlook-com.olc.protection.outlook.com", "microsoft-consumer", reply(421, "", "RP-001 Unfortunately, some messages"), "rate-limited-reputation slow"},
		{"hotmail-com.olc.protection.outlook.com", "microsoft-consumer", reply(451, "4.7.650", "temporarily rate limited [S77719]"), "rate-limited-reputation slow"},
		{"hotmail-com.olc.protection.outlook.com", "microsoft-consumer", reply(550, "5.7.1", "part of their network is on our block list (S3150)"), "block-list suspend"},
		{"clinic-example.mail.protection.outlook.com", "microsoft-business", reply(451, "4.7.500", "Server busy (S77714)"), "rate-limited-reputation slow"},
		{"clinic-example.o-v1.mx.microsoft", "microsoft-business", reply(550, "5.7.511", "Access denied, banned sender"), "block-list suspend"},
		{"mta5.am0.yahoodns.net", "yahoo", reply(421, "4.7.0", "[TSS04] Messages temporarily deferred due to unexpected volume or user complaints"), "volume-or-complaints suspend"},
		{"mta7.am0.yahoodns.net", "yahoo", reply(421, "4.7.1", "[TS03] All messages will be permanently deferred"), "complaints suspend"},
		{"mx-aol.mail.gm0.yahoodns.net", "yahoo", reply(554, "5.7.9", "Message not accepted for policy reasons"), ""},
		{"mx01.mail.icloud.com", "apple", reply(421, "4.7.1", "Messages from this address exceed the rate"), "rate-limit slow"},
		{"mx2h1.comcast.net", "comcast", reply(421, "4.1.0", "throttled. Please see RL000001"), "rate-limit slow"},
		{"mx00.gmx.net", "gmx", reply(421, "", "Reject due to policy: rate limit"), "rate-limit suspend"},
		{"mx-ha03.web.de", "gmx", reply(550, "", "Requested action not taken: mailbox unavailable"), ""},
		{"mxa-001.gslb.pphosted.com", "proofpoint", reply(554, "5.7.0", "Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1"), "reputation suspend"},
		{"us-smtp-inbound-1.mimecast.com", "mimecast", reply(451, "", "Internal resource temporarily unavailable"), ""},
		{"d1.ess.barracudanetworks.com", "barracuda", reply(421, "", "rate control exceeded"), "rate-limit slow"},
		{"mail.hospital.example", "hospital.example", reply(421, "4.7.0", "Too many concurrent SMTP connections"), "too-many-connections slow"},
		{"mail.hospital.example", "hospital.example", reply(451, "4.7.1", "Greylisted, try again in 5 minutes"), ""},
		{"mail.hospital.example", "hospital.example", reply(450, "4.7.1", "throttled"), "rate-limit slow"},
		{"mail.notgoogle.com", "hospital.example", reply(421, "4.7.28", "unusual rate"), ""},
		{"protection.outlook.com", "hospital.example", reply(451, "4.7.650", "rate limited"), "rate-limit slow"},
	} {
		site := rules.Site("hospital.example", []string{"first.hospital.example", tc.mx})
		if site.Name != tc.site || site.Known != (tc.site != "hospital.example") {
			t.Errorf("%s is of site %q", tc.mx, site.Name)
		}
		if site.Known && (site.Connections == 0 || site.PerConnection == 0 || site.Rate.Messages == 0) {
			t.Errorf("%s lacks a limit", site.Name)
		}
		got := ""
		for _, r := range site.Reactions {
			if r.matches(tc.event) {
				got = r.Name + " " + string(r.Act)
				break
			}
		}
		if got != tc.want {
			t.Errorf("%s: %d %v %s: got %q, want %q", tc.mx, tc.event.Code, tc.event.Enhanced, tc.event.Text.Reveal(), got, tc.want)
		}
	}
}

func reply(code int, status, text string) Event {
	e := Event{Kind: Deferred, Code: code, Text: private.NewString(text)}
	if code >= 500 {
		e.Kind = Refused
	}
	for i, part := range strings.Split(status, ".") {
		for _, digit := range part {
			e.Enhanced[i] = 10*e.Enhanced[i] + int(digit-'0')
		}
	}
	return e
}

func TestStatusBegins(t *testing.T) {
	for want, good := range map[string]bool{"4": true, "4.7": true, "4.7.28": true, "4.7.2": false, "4.70": false, "5": false, "4.7.280": false} {
		if begins([3]int{4, 7, 28}, want) != good {
			t.Errorf("4.7.28 below %s: %v", want, !good)
		}
	}
}

const operators = `
[default]
rate = "100/m"

[[site]]
name = "yahoo"
rate = "none"
connections = 9
  [[site.reaction]]
  name = "ours"
  code = 421
  act = "slow"
  for = "1m"

[[site]]
name = "county"
domains = ["hospital.example"]
mx = ["aspmx.l.google.com"]
`

func TestOperatorsFileGoesOverTheShippedOne(t *testing.T) {
	theirs, err := Parse("ours.toml", []byte(operators))
	if err != nil {
		t.Fatal(err)
	}
	rules := Default().With(theirs)
	yahoo := rules.Site("yahoo.example", []string{"mta5.am0.yahoodns.net"})
	if yahoo.Name != "yahoo" || yahoo.Connections != 9 || yahoo.Rate.Messages != 0 || yahoo.PerConnection != 20 {
		t.Errorf("%+v", yahoo)
	}
	if yahoo.Reactions[0].Name != "ours" || len(yahoo.Reactions) < 5 {
		t.Error("their reaction is not the first, or the shipped ones are gone")
	}
	for _, tc := range []struct {
		domain string
		mx     []string
		site   string
		rate   string
	}{
		{"Hospital.example", []string{"mta5.am0.yahoodns.net"}, "county", "100/m"},
		{"x.hospital.example", nil, "x.hospital.example", "100/m"},
		{"other.example", []string{"alt1.aspmx.l.google.com"}, "county", "100/m"}, // more labels than google.com
		{"other.example", []string{"gmail-smtp-in.l.google.com"}, "google", "20/s"},
		{"other.example", []string{"gmail-smtp-in.l.google.com", "aspmx.l.google.com"}, "county", "100/m"},
		{"other.example", []string{"aspmx.l.google.com", "gmail-smtp-in.l.google.com"}, "county", "100/m"},
		{"other.example", []string{"mx.charter.net", "mx.comcast.net", "mx.zoho.com"}, "charter", "5/s"},
		{"other.example", []string{"mx.zoho.com", "d1.gmx.net", "mx.web.de"}, "zoho", "5/s"},
		{"other.example", []string{"mx.rr.com", "mx.cox.net"}, "cox", "5/s"},
		{"other.example", []string{"mx.cox.net", "mx.web.de", "mx.gmx.net"}, "cox", "5/s"},
		{"other.example", []string{"mx.gmx.net", "mx.web.de", "mx.cox.net"}, "cox", "5/s"},
		{"OTHER.example.", []string{"mx.other.example"}, "other.example", "100/m"},
	} {
		if s := rules.Site(tc.domain, tc.mx); s.Name != tc.site || s.Rate.String() != tc.rate {
			t.Errorf("%s %v: %s %s", tc.domain, tc.mx, s.Name, s.Rate)
		}
	}
}

func TestEveryMistakeAtOnce(t *testing.T) {
	text, err := os.ReadFile("testdata/mistakes.toml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/mistakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse("mistakes.toml", text)
	if err == nil || err.Error()+"\n" != string(want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := Parse("x", []byte(strings.Repeat("#", 300<<10))); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file without end: %v", err)
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]Rate{
		"20/s": {20, time.Second}, "600/m": {600, time.Minute}, "5000/h": {5000, time.Hour}, "none": {},
		"": {-1, 0}, "0/s": {-1, 0}, "20": {-1, 0}, "20/d": {-1, 0}, "-1/s": {-1, 0}, "1.5/s": {-1, 0}, "99999999999/s": {-1, 0}, "20/s/s": {-1, 0},
	} {
		got, err := ParseRate(text)
		if (err == nil) != (want.Messages >= 0) || err == nil && (got != want || got.String() != text) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(operators))
	f.Add([]byte(DefaultText()))
	shipped := Default()
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		s := shipped.With(r).Site("a.example", []string{"mx.a.example", "aspmx.l.google.com"})
		if s.Name == "" {
			t.Error("a site without a name")
		}
		g := NewGovernor(s)
		g.Heard(time.Unix(1e9, 0), reply(421, "4.7.0", "rate limit"))
		if ok, retry := g.Send(time.Unix(1e9, 0), 1); !ok && !retry.After(time.Unix(1e9, 0)) {
			t.Error("a no without a later time")
		}
	})
}
