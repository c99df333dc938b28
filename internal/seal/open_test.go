package seal

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// seen is all that a person is given of a message.
func seen(o *Opened) string {
	var out strings.Builder
	for _, p := range o.Parts {
		out.WriteString(p.Path + p.Media + p.Text.Reveal() + "\x00" + p.HTML.Reveal() + "\x00" + string(p.Content.Reveal()) + "\x00")
	}
	return out.String()
}

// TestOpenNoticesEveryAlteration: whatever single octet of a proved message is
// changed, it is not proved any more, or it shows exactly the same.
func TestOpenNoticesEveryAlteration(t *testing.T) {
	o := bobs(t)
	for _, tc := range openedMails {
		if tc.outcome != Proved {
			continue
		}
		raw := fileOf(t, tc.name+".eml")
		before, err := Open(raw, o)
		if err != nil {
			t.Fatal(err)
		}
		start := bytes.Index(raw, []byte("MIME-Version"))
		for i := start; i < len(raw); i += 1 + len(raw)/100 {
			altered := slices.Clone(raw)
			altered[i] ^= 1
			after, err := Open(altered, o)
			if err != nil {
				t.Fatal(err)
			}
			if after.Verdict.Outcome == Proved && seen(after) != seen(before) {
				t.Errorf("%s: octet %d is changed, and the message is proved", tc.name, i)
			}
			keepsApart(t, after)
		}
	}
}

func TestOpenWithoutTheKeys(t *testing.T) {
	other := bobs(t)
	other.Secrets = Secrets{PGP: []*openpgp.Secret{secretOf(t, "mallory")}, SMIME: []cms.Recipient{recipientOf(t, "mallory")}}
	none := bobs(t)
	none.Secrets = Secrets{}
	for _, name := range []string{"pgp-encrypted-signed", "smime-encrypted-signed", "smime-triple", "smime-gcm", "inline-encrypted-signed", "hp-cipher"} {
		for word, o := range map[string]OpenOptions{"other_key": other, "no_secret": none} {
			got, err := Open(fileOf(t, name+".eml"), o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Verdict.Outcome != Closed || !got.Verdict.Has(word) || contains(got, "biopsy") || got.Verdict.Headers {
				t.Errorf("%s: %s %q, want %q", name, got.Verdict.Outcome, doubts(got.Verdict), word)
			}
		}
	}
	got, err := Open(fileOf(t, "johnny-covert-css.eml"), none)
	if err != nil || got.Verdict.Outcome != Doubted || !got.Verdict.Has("no_secret") || !contains(got, "Are you free") {
		t.Errorf("a part that does not open: %s %q, %v", got.Verdict.Outcome, doubts(got.Verdict), err)
	}
}

// TestOpenBelievesOnlyWhatItIsTold: without knowledge of the signers nothing
// is proved, and what is known only from hearsay proves nothing.
func TestOpenBelievesOnlyWhatItIsTold(t *testing.T) {
	at := func(tier policy.Tier) func(mail.Address) ([]SignerKey, error) {
		return func(mail.Address) ([]SignerKey, error) {
			return SignerKeys(secretOf(t, "alice").Public(), tier), nil
		}
	}
	refused := func(word string) OpenOptions {
		o := bobs(t)
		o.CheckCertificate = func(*x509.Certificate, []*x509.Certificate, mail.Address, time.Time) error {
			return fault.New(fault.Refused, word, "It is not to be relied on.")
		}
		return o
	}
	with := func(change func(*OpenOptions)) OpenOptions {
		o := bobs(t)
		change(&o)
		return o
	}
	for name, tc := range map[string]struct {
		file  string
		o     OpenOptions
		words string
	}{
		"no signers": {"pgp-signed", with(func(o *OpenOptions) { o.Signers = nil }), "signer_unknown"},
		"harvested":  {"pgp-signed", with(func(o *OpenOptions) { o.Signers = at(policy.Harvested) }), "signer_unproved"},
		"discovered": {"pgp-encrypted-signed", with(func(o *OpenOptions) { o.Signers = at(policy.Discovered) }), "signer_unproved"},
		"confirmed":  {"pgp-signed", with(func(o *OpenOptions) { o.Signers = at(policy.Confirmed) }), ""},
		"a failing look-up": {"pgp-signed", with(func(o *OpenOptions) {
			o.Signers = func(mail.Address) ([]SignerKey, error) { return nil, errors.New("away") }
		}), "signer_unknown signers_unavailable"},
		"no judge": {"smime-signed", with(func(o *OpenOptions) { o.CheckCertificate = nil }), "certificate_unchecked"},
		"a failing judge": {"smime-signed", with(func(o *OpenOptions) {
			o.CheckCertificate = func(*x509.Certificate, []*x509.Certificate, mail.Address, time.Time) error { return errors.New("away") }
		}), "certificate_unchecked"},
		"revoked":            {"smime-signed", refused("revoked"), "signer_revoked"},
		"expired":            {"smime-encrypted-signed", refused("expired"), "signer_expired"},
		"another address":    {"smime-opaque", refused("wrong_address"), "signer_differs"},
		"wrong usage":        {"smime-opaque", refused("key_usage"), "certificate_refused"},
		"before it was made": {"pgp-signed", with(func(o *OpenOptions) { o.At = openedAt.Add(-48 * time.Hour) }), "*"},
		"years later":        {"smime-signed", with(func(o *OpenOptions) { o.At = openedAt.AddDate(3, 0, 0) }), ""},
	} {
		got, err := Open(fileOf(t, tc.file+".eml"), tc.o)
		if err != nil {
			t.Fatal(err)
		}
		if tc.words == "*" && got.Verdict.Outcome == Doubted {
			continue
		}
		if doubts(got.Verdict) != tc.words || (tc.words == "") != (got.Verdict.Outcome == Proved) {
			t.Errorf("%s: %s %q, want %q", name, got.Verdict.Outcome, doubts(got.Verdict), tc.words)
		}
	}
}

// TestOpenAsksForTheSenderInside: the keys of the address inside of the
// protection are what a signature is checked with.
func TestOpenAsksForTheSenderInside(t *testing.T) {
	for _, name := range []string{"hp-from-behind-list", "hp-from-inside-detached"} {
		o := bobs(t)
		var asked []string
		o.Signers = func(a mail.Address) ([]SignerKey, error) {
			asked = append(asked, a.Reveal())
			if a.Reveal() != "alice@sender.example" {
				return nil, nil
			}
			return []SignerKey{{secretOf(t, "alice").Public(), policy.Pinned, a}}, nil
		}
		got, err := Open(fileOf(t, name+".eml"), o)
		if err != nil || got.Verdict.Outcome != Proved || !got.Verdict.Has("outer_differs") && !got.Verdict.Has("header_hidden") {
			t.Errorf("%s: %s %q, %v", name, got.Verdict.Outcome, doubts(got.Verdict), err)
		}
		if strings.Join(asked, " ") != "list@lists.example alice@sender.example" {
			t.Errorf("%s: asked for %q", name, asked)
		}
	}
}

// TestAKeySpeaksForOneAddress: a key that was confirmed for one address proves
// no other that its user ids name, and is trusted for each as far as it was
// confirmed for that one.
func TestAKeySpeaksForOneAddress(t *testing.T) {
	alice, mallory := secretOf(t, "alice").Public(), secretOf(t, "mallory").Public()
	author, list := addr(t, "alice@sender.example"), addr(t, "list@lists.example")
	for name, tc := range map[string]struct {
		file  string
		known []SignerKey
		words string
		by    string
		tier  policy.Tier
	}{
		"for the sender":             {"hp-from-behind-list", []SignerKey{{alice, policy.Confirmed, author}}, "", "alice@sender.example", policy.Confirmed},
		"for the sender outside":     {"hp-from-behind-list", []SignerKey{{alice, policy.Pinned, list}}, "signer_differs from_differs", "list@lists.example", policy.Pinned},
		"for both":                   {"hp-from-behind-list", []SignerKey{{alice, policy.Pinned, list}, {alice, policy.Harvested, author}}, "signer_unproved from_differs", "alice@sender.example", policy.Harvested},
		"detached, outside":          {"hp-from-inside-detached", []SignerKey{{alice, policy.Pinned, list}}, "signer_differs from_differs", "list@lists.example", policy.Pinned},
		"for nobody":                 {"pgp-signed", []SignerKey{{Key: alice, Tier: policy.Pinned}}, "signer_differs", "", policy.Pinned},
		"bound by a person":          {"fired-other-signer-pgp", []SignerKey{{mallory, policy.Pinned, author}}, "", "alice@sender.example", policy.Pinned},
		"twice, the better one last": {"pgp-signed", []SignerKey{{alice, policy.Harvested, author}, {alice, policy.Pinned, author}}, "", "alice@sender.example", policy.Pinned},
	} {
		o := bobs(t)
		o.Signers = func(a mail.Address) (found []SignerKey, err error) {
			for _, k := range tc.known {
				if k.Address.IsZero() || k.Address.Normal() == a.Normal() {
					found = append(found, k)
				}
			}
			return found, nil
		}
		got, err := Open(fileOf(t, tc.file+".eml"), o)
		if err != nil {
			t.Fatal(err)
		}
		v := got.Verdict
		if doubts(v) != tc.words || (tc.words == "") != (v.Outcome == Proved) {
			t.Errorf("%s: %s %q, want %q", name, v.Outcome, doubts(v), tc.words)
		}
		if s := v.Signers[0]; s.Name.Reveal() != tc.by || s.Tier != tc.tier || s.Matches != (tc.by == "alice@sender.example") {
			t.Errorf("%s: by %q, %s, matches %t", name, s.Name.Reveal(), s.Tier, s.Matches)
		}
	}
}

// TestOpenAllowsForLateSealing: mail is sealed when it is sent, which can be
// long after it was written.
func TestOpenAllowsForLateSealing(t *testing.T) {
	raw := fileOf(t, "pgp-signed.eml")
	o := bobs(t)
	first, err := Open(raw, o)
	if err != nil {
		t.Fatal(err)
	}
	signed, date := first.Verdict.Signers[0].At, first.Outer.Get("Date")
	o.At = signed.AddDate(0, 1, 0)
	for apart, words := range map[time.Duration]string{
		14*24*time.Hour + time.Hour: "", -(14*24*time.Hour + time.Hour): "",
		15*24*time.Hour + time.Hour: "time_differs", -(15*24*time.Hour + time.Hour): "time_differs",
	} {
		late := bytes.Replace(raw, []byte(date), []byte(mail.FormatDate(signed.Add(-apart))), 1)
		if got, err := Open(late, o); err != nil || doubts(got.Verdict) != words {
			t.Errorf("signed %v after its Date: %q, %v", apart, doubts(got.Verdict), err)
		}
	}
}

// TestOpenedMessage: what is handed on is the message without its layers,
// under the header to believe, and nothing that must not be opened elsewhere.
func TestOpenedMessage(t *testing.T) {
	o := bobs(t)
	for name, want := range map[string][]string{
		"pgp-encrypted-signed":   {"Subject: Your result\r\n", "Content-Type: multipart/mixed", openSecret, "result.pdf"},
		"smime-triple":           {"Subject: Your result\r\n", "Content-Type: multipart/alternative", openSecret},
		"hp-cipher":              {"Subject: Biopsy result\r\n", "MIME-Version: 1.0\r\n", openSecret},
		"inline-signed":          {"Subject: Your result\r\n", "Content-Type: text/plain; charset=utf-8\r\n", openSecret},
		"johnny-covert-css":      {"multipart/encrypted"},
		"efail-cbc-html":         nil,
		"efail-smime-attachment": {"Subject: Lunch\r\n", openSecret},
		"smime-encrypted-text":   {"Subject: Your result\r\n", "To: ", openSecret},
	} {
		got, err := Open(fileOf(t, name+".eml"), o)
		if err != nil {
			t.Fatal(err)
		}
		text := string(got.Message.Reveal())
		if want == nil && text != "" {
			t.Errorf("%s is handed on", name)
		}
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s: the message lacks %q", name, s)
			}
		}
		if want == nil {
			continue
		}
		for _, s := range []string{"HP-Outer", "[...]\r\n", "evil.example/", "open.html"} {
			if strings.Contains(text, s) {
				t.Errorf("%s: the message has %q", name, s)
			}
		}
		v, err := mail.Parse(strings.NewReader(text), mail.Limits{})
		if err != nil || v.Broken {
			t.Errorf("%s: the message does not parse: %v", name, err)
		}
	}
}

// TestOpenHidesTheCopyOfTheHeader: the copy for old readers is not shown to
// new ones.
func TestOpenHidesTheCopyOfTheHeader(t *testing.T) {
	for name, want := range map[string]bool{"hp-cipher": false, "hp-without-protection": true} {
		got, err := Open(fileOf(t, name+".eml"), bobs(t))
		if err != nil || contains(got, "Subject: ") != want {
			t.Errorf("%s: %v, %v", name, seen(got), err)
		}
	}
}

// TestEveryWordHasASentence: no finding without words for people.
func TestEveryWordHasASentence(t *testing.T) {
	files, err := filepath.Glob("open_[a-l]*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, "open.go", "open_walk.go") {
		text, err := os.ReadFile(name)
		if err != nil || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, chunk := range strings.Split(string(text), `op.find("`)[1:] {
			word, _, _ := strings.Cut(chunk, `"`)
			if !slices.ContainsFunc(sentences, func(s findingText) bool { return s.word == word }) {
				t.Errorf("%s: the word %q has no sentence", name, word)
			}
		}
	}
	for _, word := range signerWords {
		if !slices.ContainsFunc(sentences, func(s findingText) bool { return s.word == word }) {
			t.Errorf("the word %q has no sentence", word)
		}
	}
	guide, err := os.ReadFile("../../docs/opening.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sentences {
		if !strings.Contains(string(guide), "| `"+s.word+"` | "+s.text+" |") {
			t.Errorf("the guide does not have %q", s.word)
		}
		if slices.ContainsFunc(sentences[:i], func(other findingText) bool { return other.word == s.word }) || !strings.HasSuffix(s.text, ".") {
			t.Errorf("the sentence of %q", s.word)
		}
	}
}

// FuzzOpen: whatever comes, it is opened in bounded time, and nothing is
// proved that was not in the folder.
func FuzzOpen(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(openFolder, "*.eml"))
	if err != nil {
		f.Fatal(err)
	}
	proved := map[string]bool{}
	o := bobs(f)
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		if got, err := Open(raw, o); err == nil && got.Verdict.Outcome == Proved {
			for _, p := range got.Parts {
				proved[p.Text.Reveal()+p.HTML.Reveal()] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := Open(raw, o)
		if err != nil {
			return
		}
		for _, p := range got.Parts {
			if got.Verdict.Outcome == Proved && !proved[p.Text.Reveal()+p.HTML.Reveal()] {
				t.Errorf("proved, and nobody wrote it: %q", p.Text.Reveal()+p.HTML.Reveal())
			}
			if p.Withheld != "" && (p.Content.Len() > 0 || !p.Text.Empty() || !p.HTML.Empty()) {
				t.Error("a part is withheld and given")
			}
			for _, l := range p.Layers {
				if !got.Layers[l].Opened && p.Withheld == "" {
					t.Error("a part of a layer that is closed is given")
				}
			}
		}
	})
}
