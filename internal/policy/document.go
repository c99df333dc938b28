package policy

import (
	"bytes"
	"encoding/json"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Version is the version of documents that Parse reads.
const Version = 1

// Document is an organization's policy. The zero value allows no seal.
// Store and send it as Render writes it.
type Document struct {
	Version     int
	Order       []Seal
	TLSFloor    Grade
	NoticeFloor Grade
	KeyTiers    KeyTiers
	Sign        Sign
	Rules       []Rule
}

// KeyTiers are the least tiers of keys that seal by themselves.
type KeyTiers struct {
	PGP   Tier `json:"pgp"`
	SMIME Tier `json:"smime"`
}

// Sign says which mail carries the signature of a sender who has a key.
type Sign string

// What is signed.
const (
	SignSealed Sign = "sealed" // what is sealed by pgp or smime
	SignAll    Sign = "all"    // also what goes by tls
	SignNever  Sign = "never"
)

// Rule strengthens the plan of deliveries that match.
type Rule struct {
	Name string
	When When
	Then Then
}

// When are a rule's conditions. All that are set must hold; a list holds when
// any of its items does. Without a condition the rule always matches.
//
// A condition on the purpose looks at every purpose the message stands under:
// the credential's default, the stated one if it is stricter, and those that
// matching rules ask for. So a stricter purpose only ever adds matches, and
// neither a sender nor a rule can take a message out of another rule's reach.
type When struct {
	Sender    []Pattern
	Recipient []Pattern
	Purpose   []Purpose
	Trigger   []string // literals in the subject, removed from what is sent
	Header    *HeaderMatch
	MinSize   int64 // octets; 0 for none
	Findings  []string
}

// HeaderMatch is a condition on a header field; exactly one of Equals,
// Contains and Present is set. The case of ASCII letters does not matter.
type HeaderMatch struct {
	Name     string
	Equals   string
	Contains string
	Present  bool
}

// Then is what a rule asks for. It can only strengthen.
type Then struct {
	Remove  []Seal
	Floor   Grade   // raises the floor of tls
	Purpose Purpose // raises the purpose
	Hold    string  // reason, in the administrator's words
	Refuse  string  // reason, in the administrator's words
}

// Default is the policy of an organization that has not written one.
func Default() Document {
	return Document{Version: Version, Order: Seals(), TLSFloor: Verified, NoticeFloor: Encrypted,
		KeyTiers: KeyTiers{PGP: Confirmed, SMIME: Confirmed}, Sign: SignSealed}
}

// Presets are documents to begin with, by name.
func Presets() map[string]Document {
	endToEnd := Default()
	endToEnd.Order = []Seal{PGP, SMIME}
	return map[string]Document{"default": Default(), "end-to-end": endToEnd}
}

// Headers gives the header fields that the rules look at. values gives the raw
// values of a message's fields of one name.
func (d Document) Headers(values func(name string) []string) []Header {
	var all []Header
	for _, r := range d.Rules {
		if r.When.Header == nil {
			continue
		}
		for _, v := range values(r.When.Header.Name) {
			all = append(all, Header{Name: r.When.Header.Name, Value: private.NewString(mail.DecodeText(v))})
		}
	}
	return all
}

type wireDocument struct {
	Version     int        `json:"version"`
	Order       []Seal     `json:"order"`
	TLSFloor    Grade      `json:"tls_floor"`
	NoticeFloor Grade      `json:"notice_floor"`
	KeyTiers    KeyTiers   `json:"key_tiers"`
	Sign        Sign       `json:"sign"`
	Rules       []wireRule `json:"rules"`
}

type wireRule struct {
	Name string   `json:"name"`
	When wireWhen `json:"when"`
	Then wireThen `json:"then"`
}

type wireWhen struct {
	Sender    []string    `json:"sender,omitempty"`
	Recipient []string    `json:"recipient,omitempty"`
	Purpose   []Purpose   `json:"purpose,omitempty"`
	Trigger   []string    `json:"trigger,omitempty"`
	Header    *wireHeader `json:"header,omitempty"`
	MinSize   int64       `json:"min_size,omitempty"`
	Findings  []string    `json:"findings,omitempty"`
}

type wireHeader struct {
	Name     string `json:"name"`
	Equals   string `json:"equals,omitempty"`
	Contains string `json:"contains,omitempty"`
	Present  bool   `json:"present,omitempty"`
}

type wireThen struct {
	Remove  []Seal  `json:"remove,omitempty"`
	Floor   Grade   `json:"floor,omitempty"`
	Purpose Purpose `json:"purpose,omitempty"`
	Hold    string  `json:"hold,omitempty"`
	Refuse  string  `json:"refuse,omitempty"`
}

// Render writes a document as indented JSON. Parse reads the same document
// back. The text contains the addresses that rules name, so it is content.
func Render(doc Document) []byte {
	w := wireDocument{doc.Version, doc.Order, doc.TLSFloor, doc.NoticeFloor, doc.KeyTiers, doc.Sign, []wireRule{}}
	for _, r := range doc.Rules {
		w.Rules = append(w.Rules, wireRule{r.Name, renderWhen(r.When), wireThen(r.Then)})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	// Nothing in these types can fail to encode.
	_ = enc.Encode(w)
	return out.Bytes()
}

func renderWhen(when When) wireWhen {
	w := wireWhen{
		Sender: reveal(when.Sender), Recipient: reveal(when.Recipient), Purpose: when.Purpose,
		Trigger: when.Trigger, MinSize: when.MinSize, Findings: when.Findings,
	}
	if when.Header != nil {
		h := wireHeader(*when.Header)
		w.Header = &h
	}
	return w
}

func reveal(patterns []Pattern) []string {
	var out []string
	for _, p := range patterns {
		out = append(out, p.Reveal())
	}
	return out
}
