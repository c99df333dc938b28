package seal

import (
	netmail "net/mail"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// find takes note of a finding, once.
func (op *opener) find(word string) { op.findText(word, "") }

// findText adds a sentence to that of the table.
func (op *opener) findText(word, more string) {
	for _, f := range op.findings {
		if f.Word == word {
			return
		}
	}
	for _, s := range sentences {
		if s.word == word {
			op.findings = append(op.findings, Finding{word, strings.TrimSpace(s.text + " " + more), s.doubt})
			return
		}
	}
	// A word without a sentence is a mistake of ours; it must not get lost.
	op.findings = append(op.findings, Finding{word, "Something is wrong with the message.", true})
}

// judge makes the verdict of what was found.
func (op *opener) judge(closed bool) {
	v := &op.out.Verdict
	v.Encrypted, v.Signed = op.scope(func(s state) bool { return s.encrypted }), op.scope(func(s state) bool { return s.valid })
	var alterable bool
	v.Integrity, alterable = op.integrity()
	good := op.judgeSigners(closed)
	op.judgeFrom(good)
	switch {
	case closed:
	case v.Encrypted == Nothing:
		op.find("not_encrypted")
	case v.Encrypted == Whole:
		op.find("encrypted")
	}
	switch {
	case alterable:
		op.find("no_integrity")
	case v.Integrity == Whole:
		op.find("integrity_proved")
	}
	switch {
	case closed || len(op.root) == 0:
	case v.Headers:
		op.find("header_protected")
	case op.beside.there:
		op.find("header_encrypted")
	default:
		op.find("header_unprotected")
	}
	op.conclude(closed, good)
}

// conclude orders the findings and says it in one word.
func (op *opener) conclude(closed, good bool) {
	v := &op.out.Verdict
	rank := func(word string) int {
		return slices.IndexFunc(sentences, func(s findingText) bool { return s.word == word })
	}
	slices.SortStableFunc(op.findings, func(a, b Finding) int { return rank(a.Word) - rank(b.Word) })
	v.Findings = op.findings
	doubt := slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Doubt })
	switch {
	case closed:
		v.Outcome = Closed
	case !doubt && good && v.Signed == Whole && (v.Encrypted == Nothing || v.Integrity == Whole):
		v.Outcome = Proved
	default:
		v.Outcome = Doubted
	}
}

// scope is how much of the message layers of a sort cover.
func (op *opener) scope(is func(state) bool) Scope {
	if slices.ContainsFunc(op.root, func(i int) bool { return is(op.states[i]) }) {
		return Whole
	}
	if slices.ContainsFunc(op.states, is) {
		return Partly
	}
	return Nothing
}

// integrity says how much of what was decrypted is proved to be unaltered, and
// whether some of it is not.
func (op *opener) integrity() (scope Scope, alterable bool) {
	proved := false
	for _, p := range op.out.Parts {
		closed := slices.ContainsFunc(p.Layers, func(i int) bool { return !op.out.Layers[i].Opened })
		if closed || !slices.ContainsFunc(p.Layers, func(i int) bool { return op.states[i].encrypted }) {
			continue
		}
		if op.proved(p.Layers) {
			proved = true
		} else {
			alterable = true
		}
	}
	switch {
	case proved && alterable:
		return Partly, true
	case proved:
		return Whole, false
	}
	return Nothing, alterable
}

// judgeSigners says whether somebody who may be believed signed all of the
// message as its author.
func (op *opener) judgeSigners(closed bool) (good bool) {
	v := &op.out.Verdict
	sender := from(op.out.Header)
	var words []string
	why := ""
	for i := range v.Signers {
		s := &v.Signers[i]
		s.Author = op.author(s.Layer)
		s.speaksFor(sender)
		word, more := op.judgeSigner(s, sender)
		switch {
		case word == "" && s.Author:
			good = true
		case word == "" && slices.Contains(op.root, s.Layer):
			words = append(words, "signature_outside")
		case word == "signature_invalid" && !closed:
			op.find(word)
		case word != "":
			words, why = append(words, word), more
		}
	}
	if good {
		op.find("signed")
		return true
	}
	for _, w := range words {
		op.findText(w, why)
	}
	if len(v.Signers) == 0 && !closed {
		op.find("not_signed")
	}
	return false
}

// author reports whether a signature covers all of the message and is inside
// of every encryption around it.
func (op *opener) author(layer int) bool {
	at := slices.Index(op.root, layer)
	return at >= 0 && !slices.ContainsFunc(op.root[at+1:], func(i int) bool { return op.states[i].encrypted })
}

// speaksFor says by which of its names a signer is judged: the sender's, where
// it has that one.
func (s *Signer) speaksFor(sender mail.Address) {
	for _, n := range s.names {
		matches := !sender.IsZero() && n.address.Normal() == sender.Normal()
		switch {
		case matches && s.Matches:
			s.Tier = max(s.Tier, n.tier)
		case matches || s.Name.Empty():
			s.Matches, s.Name, s.Tier = matches, private.NewString(n.address.Reveal()), n.tier
		}
	}
}

// signerWords are the words for a signature that is not valid.
var signerWords = map[string]string{
	"invalid": "signature_invalid", "unknown_key": "signer_unknown", "unknown_signer": "signer_unknown",
	"expired_key": "signer_expired", "revoked_key": "signer_revoked", "weak_hash": "signature_weak",
}

// judgeSigner says what is wrong with a signature, or "".
func (op *opener) judgeSigner(s *Signer, sender mail.Address) (word, more string) {
	if s.Status != "valid" {
		if w := signerWords[s.Status]; w != "" {
			return w, ""
		}
		return "signature_unsupported", ""
	}
	if s.certificate != nil {
		if word, more = op.judgeCertificate(s, sender); word != "" {
			return word, more
		}
	}
	switch {
	case !s.Matches:
		return "signer_differs", ""
	case s.Kind == policy.PGP && s.Tier < policy.Confirmed:
		return "signer_unproved", ""
	case op.timeDiffers(s.At):
		return "time_differs", ""
	}
	return "", ""
}

func (op *opener) judgeCertificate(s *Signer, sender mail.Address) (word, more string) {
	if op.o.CheckCertificate == nil {
		s.Status = "certificate_unchecked"
		return "certificate_unchecked", ""
	}
	at := s.At
	if at.IsZero() || at.After(op.o.At) {
		at = op.o.At
	}
	err := op.o.CheckCertificate(s.certificate, s.others, sender, at)
	if err == nil {
		return "", ""
	}
	f := fault.From(err)
	if f.Kind == fault.Internal {
		s.Status = "certificate_unchecked"
		return "certificate_unchecked", ""
	}
	s.Status = f.Reason
	switch f.Reason {
	case "wrong_address":
		return "signer_differs", ""
	case "revoked":
		return "signer_revoked", ""
	case "expired", "not_yet_valid":
		return "signer_expired", ""
	}
	return "certificate_refused", f.Text
}

// mostApart is how long before or after its Date a message may be signed. A
// host that seals may sign when it sends: as late as the longest time a
// delivery may be tried (delivery.expire_after), and a day for clocks and the
// time a message waits to be accepted.
const mostApart = (14 + 1) * 24 * time.Hour

// timeDiffers compares the time of a signature with the Date of the message
// and with now. A signature that says no time says nothing.
func (op *opener) timeDiffers(at time.Time) bool {
	if at.IsZero() {
		return false
	}
	if at.After(op.o.At.Add(time.Hour)) {
		return true
	}
	date, err := netmail.ParseDate(op.out.Header.Get("Date"))
	return err == nil && (at.Sub(date) > mostApart || date.Sub(at) > mostApart)
}

// judgeFrom looks for senders who pose as somebody else.
func (op *opener) judgeFrom(good bool) {
	for _, h := range []mail.Header{op.out.Header, op.out.Outer} {
		list := h.Mailboxes("From")
		switch {
		case len(h.Values("From")) > 1 || len(list) > 1:
			op.find("several_from")
		case len(list) == 0:
			op.find("no_from")
		}
		for _, m := range list {
			if poses(m) {
				op.find("name_poses")
			}
		}
	}
	inner := from(op.out.Header)
	unsigned := op.beside.there && !op.out.Verdict.Headers
	if (unsigned || op.out.Verdict.Headers && !good) && inner.Normal() != op.outer.Normal() {
		op.find("from_differs")
	}
}

// poses reports whether a display name holds an address other than its own.
func poses(m mail.Mailbox) bool {
	name := strings.ReplaceAll(strings.ReplaceAll(m.Name.Reveal(), "\uff20", "@"), "\ufe6b", "@")
	if !strings.Contains(name, "@") {
		return false
	}
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(" <>()[]\"',;:", r) }) {
		if strings.Contains(word, "@") {
			a, err := mail.ParseAddress(word)
			if err != nil || a.Normal() != m.Address.Normal() {
				return true
			}
		}
	}
	return false
}
