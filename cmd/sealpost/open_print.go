package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

var outcomes = map[seal.Outcome]string{
	seal.Proved:  "OPENED AND PROVED",
	seal.Doubted: "OPENED WITH DOUBTS",
	seal.Closed:  "NOT OPENED",
}

// headerShown are the fields printed, in this order.
var headerShown = []string{"From", "Sender", "Reply-To", "To", "Cc", "Date", "Subject"}

// writeOpened prints the verdict, the header and the parts. Every line of the
// mail stands behind a mark, so that no line of it can look like one of ours.
func writeOpened(p *page, o *seal.Opened) {
	p.linef("%s", outcomes[o.Verdict.Outcome])
	p.linef("")
	for _, f := range o.Verdict.Findings {
		mark := " "
		if f.Doubt {
			mark = "!"
		}
		p.linef("%s %s (%s)", mark, f.Text, f.Word)
	}
	for _, s := range o.Verdict.Signers {
		p.linef("  %s", signerLine(s))
	}
	for i, l := range o.Layers {
		p.linef("  %s", layerLine(i, l))
	}
	p.linef("")
	for _, name := range headerShown {
		for _, v := range o.Header.Values(name) {
			p.linef("%s: %s", name, escaped(mail.DecodeText(v)))
		}
		if in, out := o.Header.Get(name), o.Outer.Get(name); out != "" && in != out {
			p.linef("  outside of the protection, not believed: %s", escaped(mail.DecodeText(out)))
		}
	}
	for _, part := range o.Parts {
		writePart(p, o, part)
	}
}

func signerLine(s seal.Signer) string {
	who := "somebody unknown"
	if !s.Name.Empty() {
		who = escaped(s.Name.Reveal())
	}
	line := fmt.Sprintf("Signature (%s) by %s: %s", kindWord(s.Kind), who, s.Status)
	if s.Kind == policy.PGP && s.Tier > policy.NoTier {
		line += fmt.Sprintf(", key %s", s.Tier)
	}
	if !s.At.IsZero() {
		line += ", made " + when(s.At, "")
	}
	if f := s.Fingerprint.Reveal(); f != "" {
		line += ", " + escaped(f)
	}
	return line
}

func layerLine(i int, l seal.Layer) string {
	line := fmt.Sprintf("Layer %d: %s, %s", i+1, kindWord(l.Kind), l.Act)
	if l.Path != "" {
		line += ", part " + l.Path
	}
	if l.Inline {
		line += ", inline"
	}
	if l.Algorithms != "" {
		line += ", " + l.Algorithms
	}
	switch {
	case !l.Opened:
		line += ", not opened"
	case l.Integrity == "none":
		line += ", alteration is not noticed"
	case l.Integrity != "":
		line += ", alteration is noticed (" + l.Integrity + ")"
	}
	return line
}

func kindWord(k policy.Seal) string {
	if k == policy.PGP {
		return "OpenPGP"
	}
	return "S/MIME"
}

func writePart(p *page, o *seal.Opened, part seal.Part) {
	p.linef("")
	line := "Part " + part.Path + ": " + escaped(part.Media)
	if part.Attached && part.Withheld == "" {
		line += fmt.Sprintf(", file %q, %d bytes", escaped(part.Filename.Reveal()), part.Content.Len())
	}
	if len(part.Layers) > 0 {
		line += ", covered by layer"
		for i, l := range part.Layers {
			line += strings.Repeat(" and", min(i, 1)) + fmt.Sprintf(" %d", l+1)
		}
	} else if len(o.Layers) > 0 {
		line += ", NOT PROTECTED by anything"
	}
	switch {
	case part.Withheld != "":
		p.linef("%s, withheld (%s)", line, part.Withheld)
		return
	case part.OtherForm:
		p.linef("%s, another form of the text before, not shown", line)
		return
	}
	p.linef("%s", line)
	text := part.Text.Reveal()
	if page := part.HTML.Reveal(); page != "" {
		text = textOf(page)
	}
	if part.Attached {
		return
	}
	for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		p.linef("| %s", escaped(l))
	}
}

// escaped makes one line that a terminal shows as it is.
func escaped(s string) string {
	var out strings.Builder
	for _, r := range s {
		if e := obeyed(r); e != "" {
			out.WriteString(e)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// obeyed gives the escape of a character that does something in place of
// being seen, and "" for every other. The two joiners some scripts are written
// with stay, and every space is a space.
func obeyed(r rune) string {
	switch {
	case unicode.IsPrint(r), unicode.Is(unicode.Zs, r), r == '\u200c', r == '\u200d', r == '\ufe0f':
		return ""
	case r == '\t':
		return "    "
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// blocks begin a line of their own.
var blocks = []string{"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "blockquote", "pre", "hr"}

// unseen hold no text of the mail.
var unseen = []string{"script", "style", "head", "title", "template", "noscript", "iframe", "object", "svg", "math"}

// textOf gives the text of HTML: all of it, whatever a style sheet would hide.
// Links show where they lead, because their text may say something else.
func textOf(source string) string {
	var out strings.Builder
	z := html.NewTokenizer(strings.NewReader(source))
	hidden, link := "", ""
	for {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			return tidy(out.String())
		case html.TextToken:
			if hidden == "" {
				out.WriteString(strings.Join(strings.Fields(string(z.Text())), " ") + " ")
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch {
			case hidden == "" && kind == html.StartTagToken && slices.Contains(unseen, t.Data):
				hidden = t.Data
			case slices.Contains(blocks, t.Data):
				out.WriteString("\n")
			case t.Data == "img":
				out.WriteString("[picture] ")
			case t.Data == "a":
				link = ""
				for _, a := range t.Attr {
					if a.Key == "href" {
						link = a.Val
					}
				}
			}
		case html.EndTagToken:
			t := z.Token()
			switch {
			case t.Data == hidden:
				hidden = ""
			case t.Data == "a" && link != "":
				out.WriteString("<" + link + "> ")
				link = ""
			case slices.Contains(blocks, t.Data):
				out.WriteString("\n")
			}
		}
	}
}

// tidy leaves no more than one empty line between others.
func tidy(s string) string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		l = strings.TrimSpace(l)
		if l == "" && (len(out) == 0 || out[len(out)-1] == "") {
			continue
		}
		out = append(out, l)
	}
	return strings.Join(out, "\n")
}

// openedWire is the result as JSON.
type openedWire struct {
	Outcome         seal.Outcome        `json:"outcome"`
	Encrypted       seal.Scope          `json:"encrypted"`
	Integrity       seal.Scope          `json:"integrity"`
	Signed          seal.Scope          `json:"signed"`
	HeaderProtected bool                `json:"header_protected"`
	Findings        []findingWire       `json:"findings"`
	Signers         []signerWire        `json:"signers"`
	Layers          []layerWire         `json:"layers"`
	Header          map[string][]string `json:"header"`
	Outer           map[string][]string `json:"outer_header"`
	Parts           []partWire          `json:"parts"`
}

type findingWire struct {
	Word  string `json:"word"`
	Text  string `json:"text"`
	Doubt bool   `json:"doubt"`
}

type signerWire struct {
	Layer       int         `json:"layer"`
	Kind        policy.Seal `json:"kind"`
	Status      string      `json:"status"`
	Author      bool        `json:"author"`
	Matches     bool        `json:"matches_from"`
	Name        string      `json:"name,omitempty"`
	Fingerprint string      `json:"fingerprint,omitempty"`
	Tier        policy.Tier `json:"tier"`
	At          *time.Time  `json:"at,omitempty"`
}

type layerWire struct {
	Path       string      `json:"part,omitempty"`
	Kind       policy.Seal `json:"kind"`
	Act        string      `json:"act"`
	Algorithms string      `json:"algorithms,omitempty"`
	Integrity  string      `json:"integrity,omitempty"`
	Opened     bool        `json:"opened"`
	Inline     bool        `json:"inline,omitempty"`
	Key        string      `json:"key,omitempty"`
}

type partWire struct {
	Path      string `json:"part"`
	Layers    []int  `json:"layers"`
	Media     string `json:"media_type"`
	Filename  string `json:"filename,omitempty"`
	Size      int    `json:"size"`
	Attached  bool   `json:"attached"`
	OtherForm bool   `json:"other_form"`
	Text      string `json:"text,omitempty"`
	HTML      string `json:"html,omitempty"`
	Withheld  string `json:"withheld,omitempty"`
}

func openedJSON(o *seal.Opened) openedWire {
	v := o.Verdict
	w := openedWire{Outcome: v.Outcome, Encrypted: v.Encrypted, Integrity: v.Integrity, Signed: v.Signed, HeaderProtected: v.Headers,
		Findings: []findingWire{}, Signers: []signerWire{}, Layers: []layerWire{}, Parts: []partWire{}, Header: fieldsOf(o.Header), Outer: fieldsOf(o.Outer)}
	for _, f := range v.Findings {
		w.Findings = append(w.Findings, findingWire(f))
	}
	for _, s := range v.Signers {
		out := signerWire{Layer: s.Layer, Kind: s.Kind, Status: s.Status, Author: s.Author, Matches: s.Matches, Name: s.Name.Reveal(), Fingerprint: s.Fingerprint.Reveal(), Tier: s.Tier}
		if !s.At.IsZero() {
			at := stamp(s.At)
			out.At = &at
		}
		w.Signers = append(w.Signers, out)
	}
	for _, l := range o.Layers {
		w.Layers = append(w.Layers, layerWire{l.Path, l.Kind, l.Act, l.Algorithms, l.Integrity, l.Opened, l.Inline, l.Key.Reveal()})
	}
	for _, p := range o.Parts {
		w.Parts = append(w.Parts, partWire{p.Path, append([]int{}, p.Layers...), p.Media, p.Filename.Reveal(), p.Content.Len(), p.Attached, p.OtherForm, p.Text.Reveal(), p.HTML.Reveal(), p.Withheld})
	}
	return w
}

func fieldsOf(h mail.Header) map[string][]string {
	out := map[string][]string{}
	for _, name := range append([]string{"Message-ID"}, headerShown...) {
		for _, v := range h.Values(name) {
			out[name] = append(out[name], mail.DecodeText(v))
		}
	}
	return out
}
