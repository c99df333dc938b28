package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

func address(t interface {
	Helper()
	Fatal(...any)
}, text string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func document(t *testing.T, rules string) Document {
	t.Helper()
	doc, err := Parse([]byte(`{"version":1,"rules":[` + rules + `]}`))
	if err != nil {
		t.Fatal(faults(err))
	}
	return doc
}

func facts(t *testing.T, change func(*Facts)) Facts {
	f := Facts{
		Sender: address(t, "dr.who@clinic.example"), Recipient: address(t, "pat@example.org"),
		Subject: private.NewString("Re: [Secure] results"), Size: 1000,
		Headers: []Header{{"X-Class", private.NewString(" PHI; level=2 ")}},
		Keys:    Keys{Looked: true},
	}
	if change != nil {
		change(&f)
	}
	return f
}

func TestDecideDefault(t *testing.T) {
	got := Decide(Default(), facts(t, nil))
	want := Plan{
		Seals: []Seal{TLS, Portal}, Floor: Verified, NoticeFloor: Encrypted, Purpose: Treatment, Rule: RuleDefault,
		Reasons:  []string{"No OpenPGP key and no S/MIME certificate of the recipient can be used."},
		Forecast: TLS, ForecastGrade: Verified,
		ForecastReason: "Nothing is known yet of the recipient's domain; most offer verified TLS.",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecideNothingIsWeakerThanTheFloors(t *testing.T) {
	p := Decide(Document{Order: []Seal{TLS, "clear", TLS}}, facts(t, nil))
	if p.Floor != Verified || p.NoticeFloor != Encrypted || !reflect.DeepEqual(p.Seals, []Seal{TLS}) {
		t.Errorf("%+v", p)
	}
	if p = Decide(Document{}, facts(t, nil)); p.Hold != HoldNoSeal || len(p.Seals) != 0 {
		t.Errorf("the zero document lets mail out: %+v", p)
	}
}

func TestDecideConditions(t *testing.T) {
	for _, c := range []struct {
		when string
		want bool
	}{
		{`{}`, true},
		{`{"sender":["clinic.example"]}`, true},
		{`{"sender":["other.example","dr.who@clinic.example"]}`, true},
		{`{"sender":["other.example"]}`, false},
		{`{"recipient":["example.org"]}`, true},
		{`{"recipient":["*.example.org"]}`, false},
		{`{"purpose":["treatment"]}`, true},
		{`{"purpose":["marketing"]}`, false},
		{`{"trigger":["[secure]"]}`, true},
		{`{"trigger":["[private]"]}`, false},
		{`{"header":{"name":"x-class","contains":"phi"}}`, true},
		{`{"header":{"name":"x-class","equals":"phi; LEVEL=2"}}`, true},
		{`{"header":{"name":"x-class","equals":"phi"}}`, false},
		{`{"header":{"name":"X-CLASS","present":true}}`, true},
		{`{"header":{"name":"X-Other","present":true}}`, false},
		{`{"min_size":1000}`, true},
		{`{"min_size":1001}`, false},
		{`{"findings":["ssn"]}`, false},
		{`{"recipient":["example.org"],"sender":["other.example"]}`, false},
	} {
		p := Decide(document(t, `{"name":"r","when":`+c.when+`,"then":{"hold":"Look."}}`), facts(t, nil))
		if got := p.Hold == "Look."; got != c.want {
			t.Errorf("%s: matched %v", c.when, got)
		}
	}
	found := facts(t, func(f *Facts) { f.Findings = []string{"mrn", "ssn"} })
	if p := Decide(document(t, `{"name":"r","when":{"findings":["ssn"]},"then":{"hold":"Look."}}`), found); p.Hold == "" {
		t.Error("a finding does not match")
	}
}

func TestDecideResultsCombineToTheStrictest(t *testing.T) {
	doc := document(t, `
		{"name":"tag","when":{"trigger":["[secure]"]},"then":{"remove":["tls"]}},
		{"name":"proof","when":{"recipient":["example.org"]},"then":{"floor":"authenticated","purpose":"operations"}},
		{"name":"look","when":{"purpose":["operations"]},"then":{"hold":"A privacy officer looks first."}}`)
	p := Decide(doc, facts(t, nil))
	if !reflect.DeepEqual(p.Seals, []Seal{Portal}) || p.Floor != Authenticated || p.Purpose != Operations {
		t.Errorf("%+v", p)
	}
	if p.Hold != "A privacy officer looks first." || p.Rule != "look" {
		t.Errorf("the rule on the raised purpose did not hold: %+v", p)
	}
	if !reflect.DeepEqual(p.Triggers, []string{"[secure]"}) {
		t.Errorf("triggers %v", p.Triggers)
	}
	if len(p.Reasons) != 4 || p.Reasons[0] != "Rule tag matches: it removes tls." {
		t.Errorf("reasons %q", p.Reasons)
	}
}

func TestDecidePurpose(t *testing.T) {
	for _, c := range []struct {
		stated, preset, want Purpose
		reason               bool
	}{
		{"", "", Treatment, false},
		{"", Payment, Payment, false},
		{Marketing, Payment, Marketing, false},
		{Treatment, Payment, Payment, true},
		{Generic, "", Treatment, true},
		{Generic, Generic, Generic, false},
		{"nonsense", Payment, Payment, true},
	} {
		p := Decide(Default(), facts(t, func(f *Facts) { f.Purpose, f.DefaultPurpose = c.stated, c.preset }))
		told := strings.Contains(strings.Join(p.Reasons, " "), "less strict")
		if p.Purpose != c.want || told != c.reason {
			t.Errorf("stated %q, default %q: got %q, told %v", c.stated, c.preset, p.Purpose, told)
		}
	}
}

// A sender must not get out of a rule's reach by stating a stricter purpose.
func TestDecideStricterPurposeStillMeetsTheRulesOfTheDefault(t *testing.T) {
	doc := document(t, `{"name":"r","when":{"purpose":["treatment"]},"then":{"remove":["tls"]}}`)
	p := Decide(doc, facts(t, func(f *Facts) { f.Purpose = Marketing }))
	if p.Allows(TLS) {
		t.Errorf("%+v", p)
	}
}

// A rule that raises the purpose must not take the message out of the reach
// of another rule, wherever the two stand.
func TestDecideARaisedPurposeStillMeetsOtherRules(t *testing.T) {
	raise := `{"name":"raise","when":{},"then":{"purpose":"marketing"}}`
	portal := `{"name":"portal","when":{"purpose":["treatment"]},"then":{"remove":["tls"]}}`
	for _, rules := range []string{raise + "," + portal, portal + "," + raise} {
		if p := Decide(document(t, rules), facts(t, nil)); p.Allows(TLS) || p.Purpose != Marketing {
			t.Errorf("%+v", p)
		}
	}
}

func TestDecideRequests(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Facts)
		seals  []Seal
		floor  Grade
		hold   string
	}{
		{"portal", func(f *Facts) { f.RequestSeal = Portal }, []Seal{Portal}, Verified, ""},
		{"tls", func(f *Facts) { f.RequestSeal = TLS }, []Seal{TLS}, Verified, ""},
		{"pgp without a key", func(f *Facts) { f.RequestSeal = PGP }, []Seal{}, Verified, HoldNoSeal},
		{"pgp with a key", func(f *Facts) { f.RequestSeal, f.Keys.PGP = PGP, Confirmed }, []Seal{PGP}, Verified, ""},
		{"unknown", func(f *Facts) { f.RequestSeal = "clear" }, []Seal{}, Verified, HoldNoSeal},
		{"all keys", func(f *Facts) { f.Keys = Keys{true, Confirmed, Confirmed} }, []Seal{PGP, SMIME, TLS, Portal}, Verified, ""},
		{"requiretls", func(f *Facts) { f.RequireTLS = true }, []Seal{TLS}, Authenticated, ""},
		{"requiretls with keys", func(f *Facts) { f.RequireTLS, f.Keys = true, Keys{true, Confirmed, Confirmed} }, []Seal{TLS}, Authenticated, ""},
		{"requiretls and portal", func(f *Facts) { f.RequireTLS, f.RequestSeal = true, Portal }, []Seal{}, Authenticated, HoldNoSeal},
	} {
		p := Decide(Default(), facts(t, c.change))
		if !reflect.DeepEqual(p.Seals, c.seals) || p.Floor != c.floor || p.Hold != c.hold {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

// TestKeysAndTiers: what has not been looked for removes nothing, and what has
// counts from the tier that the document asks for.
func TestKeysAndTiers(t *testing.T) {
	all, sealed := Seals(), []Seal{TLS, Portal}
	for _, c := range []struct {
		name     string
		document string
		keys     Keys
		seals    []Seal
		forecast Seal
		says     string
	}{
		{"nobody has looked", "", Keys{}, all, TLS, ""},
		{"one is known already", "", Keys{SMIME: Confirmed}, all, SMIME, ""},
		{"a weak one is known already", "", Keys{PGP: Discovered}, all, TLS, ""},
		{"nothing found", "", Keys{Looked: true}, sealed, TLS, "No OpenPGP key and no S/MIME certificate of the recipient can be used."},
		{"harvested", "", Keys{true, Harvested, NoTier}, sealed, TLS, "The recipient's OpenPGP key is only harvested, and the policy asks for confirmed."},
		{"discovered", "", Keys{true, NoTier, Discovered}, sealed, TLS, "The recipient's S/MIME certificate is only discovered, and the policy asks for confirmed."},
		{"confirmed", "", Keys{true, Confirmed, NoTier}, []Seal{PGP, TLS, Portal}, PGP, "No S/MIME certificate of the recipient can be used."},
		{"pinned", "", Keys{true, Pinned, Pinned}, all, PGP, ""},
		{"discovered is enough", `"key_tiers":{"pgp":"discovered"}`, Keys{true, Discovered, Discovered}, []Seal{PGP, TLS, Portal}, PGP, ""},
		{"only pinned", `"key_tiers":{"pgp":"pinned","smime":"pinned"}`, Keys{true, Confirmed, Confirmed}, sealed, TLS, ""},
	} {
		doc := Default()
		if c.document != "" {
			var err error
			if doc, err = Parse([]byte(`{"version":1,` + c.document + `}`)); err != nil {
				t.Fatal(faults(err))
			}
		}
		f := facts(t, func(f *Facts) { f.Keys = c.keys })
		p := Decide(doc, f)
		if !reflect.DeepEqual(p.Seals, c.seals) || p.Forecast != c.forecast || c.says != "" && !slices.Contains(p.Reasons, c.says) {
			t.Errorf("%s: %+v", c.name, p)
		}
		f.Keys = Keys{}
		if later := NarrowKeys(Decide(doc, f), doc, c.keys); !reflect.DeepEqual(later.Seals, c.seals) {
			t.Errorf("%s, decided later: %+v", c.name, later)
		}
	}
}

func TestEndToEnd(t *testing.T) {
	doc := Presets()["end-to-end"]
	if p := Decide(doc, facts(t, nil)); len(p.Seals) != 0 || p.Hold != HoldNoSeal {
		t.Errorf("without a key: %+v", p)
	}
	unknown := facts(t, func(f *Facts) { f.Keys = Keys{} })
	was := Decide(doc, unknown)
	if !reflect.DeepEqual(was.Seals, []Seal{PGP, SMIME}) || was.Forecast != "" || was.Hold != "" {
		t.Errorf("before anybody looked: %+v", was)
	}
	if p := NarrowKeys(was, doc, Keys{Looked: true}); p.Hold != HoldNoSeal || len(p.Seals) != 0 || len(was.Seals) != 2 {
		t.Errorf("after nothing was found: %+v", p)
	}
	for name, doc := range Presets() {
		if back, err := Parse(Render(doc)); err != nil || !reflect.DeepEqual(back, doc) {
			t.Errorf("%s does not read back: %v", name, err)
		}
	}
}

func TestWhatIsEncryptedAlreadyIsLeftAlone(t *testing.T) {
	f := facts(t, func(f *Facts) { f.Encrypted, f.Keys = true, Keys{true, Pinned, Pinned} })
	if p := Decide(Default(), f); !reflect.DeepEqual(p.Seals, []Seal{TLS, Portal}) {
		t.Errorf("%+v", p)
	}
	if p := Decide(Presets()["end-to-end"], f); !reflect.DeepEqual(p.Seals, []Seal{PGP, SMIME}) {
		t.Errorf("end-to-end: %+v", p)
	}
}

func TestDecideNamesTheRuleThatChose(t *testing.T) {
	for want, rules := range map[string]string{
		"refuses":   `{"name":"holds","when":{},"then":{"hold":"a"}},{"name":"refuses","when":{},"then":{"refuse":"b"}}`,
		"holds":     `{"name":"removes","when":{},"then":{"remove":["tls"]}},{"name":"holds","when":{},"then":{"hold":"a"}}`,
		"removes":   `{"name":"raises","when":{},"then":{"purpose":"payment"}},{"name":"removes","when":{},"then":{"remove":["tls"]}}`,
		"empties":   `{"name":"holds","when":{},"then":{"hold":"a"}},{"name":"empties","when":{},"then":{"remove":["tls","portal"]}}`,
		"raises":    `{"name":"raises","when":{},"then":{"purpose":"payment"}}`,
		RuleDefault: `{"name":"other","when":{"sender":["nobody.example"]},"then":{"hold":"a"}}`,
	} {
		if p := Decide(document(t, rules), facts(t, nil)); p.Rule != want {
			t.Errorf("got %s, want %s", p.Rule, want)
		}
	}
}

func TestForecast(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Facts)
		seal   Seal
		grade  Grade
	}{
		{"known verified", func(f *Facts) { f.Posture = Posture{Known: true, TLSKnown: true, CanTLS: Verified} }, TLS, Verified},
		{"known weak", func(f *Facts) { f.Posture = Posture{Known: true, TLSKnown: true, CanTLS: Encrypted} }, Portal, None},
		{"no TLS at all", func(f *Facts) { f.Posture = Posture{Known: true, TLSKnown: true} }, "", None},
		{"enforce", func(f *Facts) { f.Posture = Posture{Known: true, STSEnforce: true} }, TLS, Authenticated},
		{"enforce not met", func(f *Facts) { f.Posture = Posture{STSEnforce: true, TLSKnown: true, CanTLS: Encrypted} }, "", None},
		{"requiretls, nothing known", func(f *Facts) { f.RequireTLS = true }, "", None},
		{"requiretls, DANE", func(f *Facts) { f.RequireTLS, f.Posture.DANE = true, true }, TLS, Authenticated},
		{"null MX", func(f *Facts) { f.Posture = Posture{Known: true, NullMX: true} }, "", None},
		{"key", func(f *Facts) { f.Keys.PGP = Confirmed }, PGP, None},
		{"key, weak TLS", func(f *Facts) {
			f.Keys.PGP, f.Posture = Confirmed, Posture{TLSKnown: true, CanTLS: Encrypted}
		}, PGP, None},
	} {
		p := Decide(Default(), facts(t, c.change))
		if p.Forecast != c.seal || p.ForecastGrade != c.grade || p.ForecastReason == "" {
			t.Errorf("%s: %q at %s: %s", c.name, p.Forecast, p.ForecastGrade, p.ForecastReason)
		}
	}
	doc := Default()
	doc.NoticeFloor = Authenticated
	if p := Decide(doc, facts(t, func(f *Facts) { f.RequestSeal = Portal })); p.Forecast != "" {
		t.Errorf("a notice is expected to pass a floor that is not known to be met: %+v", p)
	}
}

func TestPlanHoldsNothingOfTheMessage(t *testing.T) {
	doc := document(t, `{"name":"r","when":{"sender":["dr.who@clinic.example"],"recipient":["pat@example.org"],
		"header":{"name":"x-class","contains":"phi"}},"then":{"hold":"Look.","remove":["tls"]}}`)
	text, err := json.Marshal(Decide(doc, facts(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"who", "pat@", "clinic", "example", "results", "phi", "level"} {
		if strings.Contains(strings.ToLower(string(text)), word) {
			t.Errorf("the plan holds %q: %s", word, text)
		}
	}
}

func TestRelease(t *testing.T) {
	doc := document(t, `{"name":"look","when":{"recipient":["example.org"]},"then":{"hold":"Look."}}`)
	f := facts(t, nil)
	held := Decide(doc, f)
	if p := Narrow(held, doc, f); p.Hold != "Look." || p.Rule != "look" {
		t.Errorf("a later decision forgot the hold: %+v", p)
	}
	if p := Narrow(held, Default(), f); p.Hold != "Look." {
		t.Errorf("taking the rule away released what it held: %+v", p)
	}
	free := Release(held, doc, f)
	if free.Hold != "" || !free.Released {
		t.Errorf("not released: %+v", free)
	}
	if p := Narrow(free, doc, f); p.Hold != "" {
		t.Errorf("the rule holds what a person released: %+v", p)
	}
	empty := Decide(doc, facts(t, func(f *Facts) { f.RequestSeal = SMIME }))
	if p := Release(empty, doc, f); p.Hold != HoldNoSeal {
		t.Errorf("released without a seal: %+v", p)
	}
}

func TestNarrowMeetsALaterPolicy(t *testing.T) {
	f := facts(t, nil)
	was := Decide(Default(), f)
	p := Narrow(was, document(t, `{"name":"new","when":{},"then":{"remove":["tls"]}}`), f)
	if !reflect.DeepEqual(p.Seals, []Seal{Portal}) || p.Rule != "new" || p.Forecast != Portal {
		t.Errorf("%+v", p)
	}
	if back := Narrow(p, Default(), f); back.Allows(TLS) || back.Rule != "new" {
		t.Errorf("a seal came back: %+v", back)
	}
	if same := Narrow(was, Default(), f); !reflect.DeepEqual(same, was) {
		t.Errorf("nothing changed, but the plan did:\n%+v\n%+v", was, same)
	}
}

func TestAPlanSaysWhatItComesTo(t *testing.T) {
	for want, p := range map[string]Plan{
		"As usual.":                   {ForecastReason: "As usual."},
		"No.":                         {ForecastReason: "As usual.", Refuse: "No.", Hold: "review"},
		"Held for review: large mail": {ForecastReason: "As usual.", Hold: "large mail"},
		"Held: the policy leaves no way to seal it.": {ForecastReason: "As usual.", Hold: HoldNoSeal},
	} {
		if got := p.Sentence(); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// Stating a stricter purpose must not take a message out of the reach of a
// rule that another rule's purpose leads to.
func TestAStatedPurposeEscapesNoRule(t *testing.T) {
	doc := Default()
	doc.Rules = []Rule{
		{Name: "billing", Then: Then{Purpose: Payment}},
		{Name: "payment waits", When: When{Purpose: []Purpose{Payment}}, Then: Then{Remove: []Seal{TLS}, Hold: "Look."}},
	}
	for _, stated := range []Purpose{"", Payment, Operations, Marketing} {
		p := Decide(doc, Facts{Purpose: stated, DefaultPurpose: Treatment})
		if p.Allows(TLS) || p.Hold == "" {
			t.Errorf("stating %q: %v, hold %q", stated, p.Seals, p.Hold)
		}
	}
}
