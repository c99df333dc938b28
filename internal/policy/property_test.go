package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// The generators draw from few words, so that rules often match.

func subset[T any](t *rapid.T, label string, from []T) []T {
	order := rapid.Permutation(from).Draw(t, label)
	n := rapid.IntRange(1, len(order)).Draw(t, label+" length")
	return order[:n:n]
}

func maybe[T any](t *rapid.T, label string, from []T) []T {
	if rapid.IntRange(0, 2).Draw(t, label+" given") > 0 {
		return nil
	}
	return subset(t, label, from)
}

func drawPatterns(t *rapid.T, label string) []Pattern {
	var out []Pattern
	for _, text := range maybe(t, label, []string{"a@one.example", "b@sub.two.example", "one.example", "*.two.example", "two.example"}) {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func drawRule(t *rapid.T, name string) Rule {
	r := Rule{Name: name}
	r.When = When{
		Sender: drawPatterns(t, "when sender"), Recipient: drawPatterns(t, "when recipient"),
		Purpose: maybe(t, "when purpose", Purposes()), Trigger: maybe(t, "when trigger", []string{"[secure]", "[a]"}),
		Findings: maybe(t, "when findings", []string{"ssn", "mrn"}),
		MinSize:  rapid.SampledFrom([]int64{0, 0, 0, 1, 100}).Draw(t, "when size"),
	}
	r.When.Header = rapid.SampledFrom([]*HeaderMatch{nil, nil, nil,
		{Name: "X-A", Present: true}, {Name: "x-a", Equals: "one"}, {Name: "X-B", Contains: "o"}}).Draw(t, "when header")
	r.Then = Then{
		Remove:  maybe(t, "remove", Seals()),
		Floor:   rapid.SampledFrom([]Grade{None, Verified, Authenticated}).Draw(t, "floor"),
		Purpose: rapid.SampledFrom([]Purpose{"", Treatment, Payment, Operations, Marketing}).Draw(t, "then purpose"),
		Hold:    rapid.SampledFrom([]string{"", "", "Look."}).Draw(t, "hold"),
		Refuse:  rapid.SampledFrom([]string{"", "", "", "No."}).Draw(t, "refuse"),
	}
	if reflect.DeepEqual(r.Then, Then{}) {
		r.Then.Remove = []Seal{TLS}
	}
	return r
}

func drawDocument(t *rapid.T) Document {
	least := rapid.SampledFrom([]Tier{Harvested, Discovered, Confirmed, Pinned})
	doc := Document{
		Version: Version, Order: subset(t, "order", Seals()),
		TLSFloor:    rapid.SampledFrom([]Grade{Verified, Authenticated}).Draw(t, "tls floor"),
		NoticeFloor: rapid.SampledFrom([]Grade{Encrypted, Verified, Authenticated}).Draw(t, "notice floor"),
		KeyTiers:    KeyTiers{least.Draw(t, "pgp tier"), least.Draw(t, "smime tier")},
		Sign:        rapid.SampledFrom([]Sign{SignSealed, SignAll, SignNever}).Draw(t, "sign"),
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
		doc.Rules = append(doc.Rules, drawRule(t, "r"+string(rune('0'+i))))
	}
	return doc
}

func drawFacts(t *rapid.T) Facts {
	who := func(label string) mail.Address {
		a, err := mail.ParseAddress(rapid.SampledFrom([]string{"a@one.example", "c@one.example", "b@sub.two.example", "b@two.example"}).Draw(t, label))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	grade := rapid.SampledFrom([]Grade{None, Encrypted, Verified, Authenticated})
	tier := rapid.SampledFrom([]Tier{NoTier, Harvested, Discovered, Confirmed, Pinned})
	anyPurpose := rapid.SampledFrom(append(Purposes(), ""))
	f := Facts{
		Sender: who("sender"), Recipient: who("recipient"),
		Purpose: anyPurpose.Draw(t, "stated"), DefaultPurpose: anyPurpose.Draw(t, "preset"),
		Subject:     private.NewString(rapid.SampledFrom([]string{"x", "[Secure] x", "[a][secure]"}).Draw(t, "subject")),
		Size:        rapid.Int64Range(0, 200).Draw(t, "size"),
		Findings:    maybe(t, "findings", []string{"ssn", "mrn"}),
		RequestSeal: rapid.SampledFrom(append(Seals(), "", "", "", "")).Draw(t, "request"),
		RequireTLS:  rapid.IntRange(0, 3).Draw(t, "requiretls") == 0,
		Keys:        Keys{rapid.Bool().Draw(t, "looked"), tier.Draw(t, "pgp"), tier.Draw(t, "smime")},
		Encrypted:   rapid.IntRange(0, 3).Draw(t, "encrypted") == 0,
		Posture: Posture{Known: true, TLSKnown: rapid.Bool().Draw(t, "tls known"), CanTLS: grade.Draw(t, "can"),
			NullMX: rapid.Bool().Draw(t, "null"), STSEnforce: rapid.Bool().Draw(t, "sts"), DANE: rapid.Bool().Draw(t, "dane")},
	}
	for _, name := range maybe(t, "headers", []string{"X-A", "X-B"}) {
		f.Headers = append(f.Headers, Header{name, private.NewString("one")})
	}
	return f
}

// noWeaker fails when b protects less than a.
func noWeaker(t *rapid.T, a, b Plan) {
	t.Helper()
	for _, s := range b.Seals {
		if !a.Allows(s) {
			t.Errorf("seal %s was added", s)
		}
	}
	if b.Floor < a.Floor || b.NoticeFloor < a.NoticeFloor {
		t.Errorf("a floor was lowered: %s/%s to %s/%s", a.Floor, a.NoticeFloor, b.Floor, b.NoticeFloor)
	}
	if a.Purpose.StricterThan(b.Purpose) {
		t.Errorf("the purpose was relaxed: %s to %s", a.Purpose, b.Purpose)
	}
	if a.Hold != "" && b.Hold == "" && !b.Released {
		t.Errorf("the hold was lost")
	}
	if a.Refuse != "" && b.Refuse == "" {
		t.Errorf("the refusal was lost")
	}
	if a.RequireTLS && !b.RequireTLS {
		t.Errorf("REQUIRETLS was lost")
	}
	sound(t, b)
}

// sound fails when a plan breaks what every plan promises.
func sound(t *rapid.T, p Plan) {
	t.Helper()
	switch {
	case p.Floor < Verified || p.NoticeFloor < Encrypted:
		t.Errorf("floors %s, %s", p.Floor, p.NoticeFloor)
	case len(p.Seals) == 0 && p.Hold == "":
		t.Errorf("no seal and not held")
	case p.RequireTLS && (p.Allows(Portal) || p.Floor < Authenticated):
		t.Errorf("REQUIRETLS with %v at %s", p.Seals, p.Floor)
	case p.Forecast != "" && !p.Allows(p.Forecast):
		t.Errorf("forecast %s is not in the plan", p.Forecast)
	case p.Forecast == TLS && p.ForecastGrade < p.Floor:
		t.Errorf("forecast under the floor")
	case !p.Purpose.Valid():
		t.Errorf("purpose %q", p.Purpose)
	case p.Rule == "":
		t.Errorf("no rule named")
	}
}

func TestAddingARuleOnlyStrengthens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, f := drawDocument(t), drawFacts(t)
		without := Decide(doc, f)
		sound(t, without)
		at := rapid.IntRange(0, len(doc.Rules)).Draw(t, "at")
		doc.Rules = slices.Insert(slices.Clone(doc.Rules), at, drawRule(t, "new"))
		noWeaker(t, without, Decide(doc, f))
	})
}

func TestASenderOnlyStrengthens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, f := drawDocument(t), drawFacts(t)
		silent := f
		silent.Purpose, silent.RequestSeal, silent.RequireTLS = "", "", false
		noWeaker(t, Decide(doc, silent), Decide(doc, f))
	})
}

func TestNarrowStaysWithinThePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was := Decide(drawDocument(t), drawFacts(t))
		doc, f := drawDocument(t), drawFacts(t)
		p := Narrow(was, doc, f)
		noWeaker(t, was, p)
		now := Decide(doc, f)
		for _, s := range p.Seals {
			if !now.Allows(s) {
				t.Errorf("seal %s is not allowed today", s)
			}
		}
		if twice := Narrow(p, doc, f); !reflect.DeepEqual(twice, p) {
			t.Errorf("narrowing twice differs:\n%+v\n%+v", p, twice)
		}
		noWeaker(t, was, Release(was, doc, f))
	})
}

func TestDecideIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, f := drawDocument(t), drawFacts(t)
		before := string(Render(doc))
		a, b := Decide(doc, f), Decide(doc, f)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%+v\n%+v", a, b)
		}
		if string(Render(doc)) != before {
			t.Errorf("Decide changed the document")
		}
	})
}

func TestPlanRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Decide(drawDocument(t), drawFacts(t))
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back Plan
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(p, back) {
			t.Errorf("%v\n%+v\n%+v", err, p, back)
		}
	})
}

func TestParseRender(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		back, err := Parse(Render(doc))
		if err != nil || !reflect.DeepEqual(doc, back) {
			t.Errorf("%v\n%s", err, Render(doc))
		}
	})
}
