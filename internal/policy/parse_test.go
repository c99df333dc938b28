package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/fault"
)

const sample = `{
  "version": 1,
  "order": ["pgp", "tls", "portal"],
  "tls_floor": "authenticated",
  "notice_floor": "verified",
  "rules": [
    {"name": "secure-tag", "when": {"trigger": ["[secure]"]}, "then": {"remove": ["tls"]}},
    {"name": "outside", "when": {"sender": ["Dr.Who@Clinic.Example"], "recipient": ["*.example.org", "münchen.example"],
      "purpose": ["marketing"], "header": {"name": "X-Class", "equals": "phi"}, "min_size": 1048576, "findings": ["ssn"]},
     "then": {"floor": "authenticated", "purpose": "operations", "hold": "A privacy officer looks at it first.", "refuse": "Not from here."}}
  ]
}`

func TestParseReadsEveryKey(t *testing.T) {
	doc, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	rule := doc.Rules[1]
	if got := rule.When.Sender[0].Reveal(); got != "dr.who@clinic.example" {
		t.Errorf("sender pattern %q", got)
	}
	if got := rule.When.Recipient[1].Reveal(); got != "xn--mnchen-3ya.example" {
		t.Errorf("recipient pattern %q", got)
	}
	if doc.TLSFloor != Authenticated || doc.NoticeFloor != Verified || len(doc.Order) != 3 {
		t.Errorf("floors or order: %v %v %v", doc.TLSFloor, doc.NoticeFloor, doc.Order)
	}
	if rule.When.MinSize != 1<<20 || rule.When.Header.Equals != "phi" || rule.Then.Purpose != Operations {
		t.Errorf("rule %+v", rule)
	}
	again, err := Parse(Render(doc))
	if err != nil || !reflect.DeepEqual(again, doc) {
		t.Errorf("rendered document reads differently: %v\n%s", err, Render(doc))
	}
}

func TestParseMissingKeysAreDefaults(t *testing.T) {
	doc, err := Parse([]byte(`{"version":1}`))
	if err != nil || !reflect.DeepEqual(doc, Default()) {
		t.Errorf("%v, %v", doc, err)
	}
	if doc, err = Parse(Render(Default())); err != nil || !reflect.DeepEqual(doc, Default()) {
		t.Errorf("default does not survive: %v, %v", doc, err)
	}
}

// faults lists what Parse says, one a line: pointer, reason.
func faults(err error) string {
	var f *fault.Fault
	if !errors.As(err, &f) {
		return fmt.Sprint(err)
	}
	lines := []string{}
	for _, one := range append([]*fault.Fault{f}, f.Also...) {
		lines = append(lines, one.Pointer+" "+one.Reason)
	}
	return strings.Join(lines, "\n")
}

func TestParseReportsAllMistakesAtOnce(t *testing.T) {
	_, err := Parse([]byte(`{
  "version": 2, "oder": [], "order": ["tls", "tls", "fax"], "tls_floor": "encrypted", "notice_floor": "none",
  "key_tiers": {"pgp": "none", "tls": "pinned"}, "sign": "always",
  "rules": [
    {"name": "A b", "when": {"recipients": ["x"], "recipient": ["not a domain!", "a@b@c"], "min_size": 0.5}, "then": {}},
    {"name": "default", "when": {"header": {"name": "X:", "equals": "a", "contains": "b"}, "trigger": [], "purpose": ["fun"]},
     "then": {"remove": [], "floor": "encrypted", "purpose": "generic", "hold": "ask a@b.example", "refuse": "a\u0000b"}},
    {"name": "ok", "name": "ok", "when": {"header": {"name": "X", "present": false}}},
    {"name": "ok", "when": [], "then": {"hold": "no_seal_left"}}
  ]}`))
	want := strings.TrimSpace(`
/oder unknown_key
/version out_of_range
/order/1 repeated
/order/2 unknown_seal
/tls_floor bad_floor
/notice_floor bad_floor
/key_tiers/tls unknown_key
/key_tiers/pgp unknown_tier
/sign unknown_sign
/rules/0/name bad_name
/rules/0/when/recipients unknown_key
/rules/0/when/recipient/0 bad_pattern
/rules/0/when/recipient/1 bad_pattern
/rules/0/when/min_size out_of_range
/rules/0/then empty
/rules/1/name reserved_name
/rules/1/when/purpose/0 unknown_purpose
/rules/1/when/trigger empty
/rules/1/when/header/name bad_name
/rules/1/when/header bad_header
/rules/1/then/remove empty
/rules/1/then/floor bad_floor
/rules/1/then/purpose weakens
/rules/1/then/hold bad_reason
/rules/1/then/refuse bad_text
/rules/2/name repeated_key
/rules/2/then missing
/rules/2/when/header/present wrong_type
/rules/3/name repeated_name
/rules/3/when wrong_type
/rules/3/then/hold bad_reason`)
	if got := faults(err); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(err.Error(), "Did you mean order?") {
		t.Errorf("the nearest known key is not named: %v", err)
	}
	var f *fault.Fault
	errors.As(err, &f)
	for _, one := range append([]*fault.Fault{f}, f.Also...) {
		if strings.Contains(one.Error(), "b.example") || strings.Contains(one.Error(), "not a domain") {
			t.Errorf("a mistake repeats the value: %v", one)
		}
	}
}

func TestParseBounds(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"too large":      {`{"version":1,"x":"` + strings.Repeat("a", MaxDocument) + `"}`, " policy_too_large"},
		"too deep":       {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "/0/0/0/0/0/0/0/0/0 too_deep"},
		"not UTF-8":      {"{\"version\":1,\"\xff\":1}", " not_utf8"},
		"not JSON":       {"{\n\"version\": 1,\n}", " not_json"},
		"two documents":  {`{"version":1}{"version":1}`, " not_json"},
		"not an object":  {`[]`, " wrong_type"},
		"empty":          {``, " not_json"},
		"too many rules": {`{"version":1,"rules":[` + strings.Repeat(`{},`, MaxRules) + `{}]}`, "/rules too_many"},
		"null":           {`{"version":1,"rules":null,"order":null}`, "/order wrong_type\n/rules wrong_type"},
	} {
		_, err := Parse([]byte(c.text))
		if got := faults(err); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestParseManyMistakesAreCutShort(t *testing.T) {
	_, err := Parse([]byte(`{"version":1,"order":[` + strings.Repeat(`1,`, 400) + `1]}`))
	if n := strings.Count(faults(err), "\n") + 1; n != maxFaults {
		t.Errorf("%d mistakes reported", n)
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, address string
		want             bool
	}{
		{"dr.who@example.org", "Dr.Who@EXAMPLE.org", true},
		{"dr.who@example.org", "dr.who@sub.example.org", false},
		{"example.org", "a@example.org", true},
		{"example.org", "a@sub.example.org", false},
		{"*.example.org", "a@sub.sub.example.org", true},
		{"*.example.org", "a@example.org", false},
		{"*.example.org", "a@badexample.org", false},
		{"EXAMPLE.ORG", "a@example.org", true},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(address(t, c.address)); got != c.want {
			t.Errorf("%s against %s: %v", c.pattern, c.address, got)
		}
	}
	for _, text := range []string{"", "*", "*.", "*.*.example.org", "a.*.org", "@example.org", "a@*.example.org", "exa mple.org", "[192.0.2.1]"} {
		if _, err := ParsePattern(text); err == nil {
			t.Errorf("%q is taken for a pattern", text)
		}
	}
}

func TestPatternHidesTheLocalPart(t *testing.T) {
	doc, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if out := fmt.Sprintf(verb, doc); strings.Contains(strings.ToLower(out), "dr.who") || strings.Contains(out, fmt.Sprintf("%x", "dr.who")) {
			t.Errorf("%s shows the local part: %s", verb, out)
		}
	}
	if out, err := json.Marshal(doc); err == nil {
		t.Errorf("encoding/json writes a document with addresses: %s", out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add(Render(Default()))
	f.Add([]byte(`{"version":1,"rules":[{"name":"a","when":{"sender":["\"a b\"@x.example"]},"then":{"hold":"x"}}]}`))
	f.Add([]byte(`{"version":1,"rules":[{"name":"a","when":{"trigger":["<&>\u2028"]},"then":{"remove":["portal"]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Parse(data)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
				t.Fatalf("not a fault for callers: %v", err)
			}
			return
		}
		if doc.TLSFloor < Verified || doc.NoticeFloor < Encrypted || len(doc.Order) == 0 {
			t.Fatalf("weak document accepted: %+v", doc)
		}
		again, err := Parse(Render(doc))
		if err != nil || !reflect.DeepEqual(doc, again) {
			t.Fatalf("render and parse differ: %v\n%s", err, Render(doc))
		}
	})
}
