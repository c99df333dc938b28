//go:build thunderbird

package thunderbird

import (
	"bytes"
	"context"
	"errors"
	"regexp"

	"github.com/sealpost/sealpost/internal/cms"
)

// seen is what Thunderbird shows of a message.
type seen struct {
	Technology string // on the button of the message's security
	Encrypted  string // the icon: "ok", "notok" or none
	Signed     string // the icon: OpenPGP "verified", S/MIME "ok"; "unknown", "mismatch" or none
	Subject    string // above the message
	Listed     string // in the list of messages, once it was opened
	To         string
	Text       string
	Files      string // name and content
}

// trial is one message and what Thunderbird is to show of it.
type trial struct {
	Name string
	make func(context.Context) ([]byte, error)
	want seen
}

const (
	hidden  = "[...]"
	address = recipient // around an encrypted message stands no name
	named   = "Pat Patient <" + recipient + ">"
	files   = filename + ": value;unit\n4.1;mmol/l"
)

// read is a message that was opened; the rest of what is to be seen follows.
func read(technology, encrypted, signed, subject, to string) seen {
	return seen{technology, encrypted, signed, subject, subject, to, text, files}
}

// readSMIME is a message that was decrypted with S/MIME. Thunderbird looks for
// no header inside: the subject is seen on top of the text alone.
func readSMIME(signed string) seen {
	s := read("S/MIME", "ok", signed, hidden, address)
	s.Text = "Subject: " + subject + "\n\n" + text
	return s
}

// unread shows nothing that is inside.
func unread(technology, encrypted string) seen {
	return seen{Technology: technology, Encrypted: encrypted, Subject: hidden, Listed: hidden, To: address}
}

var (
	errNothingAltered = errors.New("the text to be altered is not there")
	noWrap            cms.WrapOptions
)

// complains is a page in place of the message and its header.
var complains = seen{Listed: hidden}

// altered replaces some octets of a message.
func altered(message []byte, err error, from, to string) ([]byte, error) {
	if err == nil && !bytes.Contains(message, []byte(from)) {
		err = errNothingAltered
	}
	return bytes.Replace(message, []byte(from), []byte(to), 1), err
}

func (p *people) trials() []trial {
	return append(p.pgpTrials(), p.smimeTrials()...)
}

func (p *people) pgpTrials() (all []trial) {
	add := func(name string, want seen, f func(context.Context) ([]byte, error)) {
		all = append(all, trial{"OpenPGP " + name, f, want})
	}
	for _, kind := range []string{"v4 Curve25519", "v4 RSA-3072", "v4 P-256"} {
		add(kind+", encrypted and signed", read("OpenPGP", "ok", "verified", subject, address),
			func(ctx context.Context) ([]byte, error) { return p.pgp(ctx, p.patPGP[kind], p.adaPGP) })
	}
	curve := p.patPGP["v4 Curve25519"]
	add("v4 Curve25519, encrypted", read("OpenPGP", "ok", "", subject, address),
		func(ctx context.Context) ([]byte, error) { return p.pgp(ctx, curve, nil) })
	add("signed", read("OpenPGP", "", "verified", subject, named),
		func(ctx context.Context) ([]byte, error) { return p.signed(ctx, p.adaPGP, nil) })
	add("v6 Curve25519, signed", read("OpenPGP", "", "", subject, named),
		func(ctx context.Context) ([]byte, error) { return p.signed(ctx, p.patPGP["v6 Curve25519"], nil) })
	add("v6 Curve25519, encrypted and signed", unread("", ""),
		func(ctx context.Context) ([]byte, error) { return p.pgp(ctx, p.patPGP["v6 Curve25519"], p.adaPGP) })

	add("v4 Curve25519, signed by a key it does not know", read("OpenPGP", "ok", "unknown", subject, address),
		func(ctx context.Context) ([]byte, error) { return p.pgp(ctx, curve, p.stranger) })
	add("for a key it does not have", unread("OpenPGP", "notok"),
		func(ctx context.Context) ([]byte, error) { return p.pgp(ctx, p.stranger, p.adaPGP) })
	add("v4 Curve25519, altered on the way", unread("", ""),
		func(ctx context.Context) ([]byte, error) {
			message, err := p.pgp(ctx, curve, p.adaPGP)
			if err != nil {
				return nil, err
			}
			return flipped(message)
		})
	forged := read("OpenPGP", "", "", subject, named)
	forged.Text = forgedText
	add("signed, altered on the way", forged, func(ctx context.Context) ([]byte, error) {
		message, err := p.signed(ctx, p.adaPGP, nil)
		return altered(message, err, "4.1 mmol/l.", "9.1 mmol/l.")
	})
	return all
}

const forgedText = "Dear Pat,\n\npotassium is 9.1 mmol/l. Grüße\n\nAda"

var checksum = regexp.MustCompile(`\r\n=[^\r]{4}\r\n-----END`)

// flipped changes one letter in the middle of an armored message, and takes
// out its checksum, so that only the MDC can tell.
func flipped(message []byte) ([]byte, error) {
	start := bytes.Index(message, []byte("-----BEGIN PGP MESSAGE-----"))
	if start < 0 || !checksum.Match(message) {
		return nil, errNothingAltered
	}
	message = checksum.ReplaceAll(message, []byte("\r\n-----END"))
	at := start + (len(message)-start)/2
	for message[at] == '\r' || message[at] == '\n' {
		at++
	}
	if message[at] == 'A' {
		message[at] = 'B'
	} else {
		message[at] = 'A'
	}
	return message, nil
}

func (p *people) smimeTrials() (all []trial) {
	add := func(name string, want seen, f func(context.Context) ([]byte, error)) {
		all = append(all, trial{"S/MIME " + name, f, want})
	}
	for _, kind := range []string{rsa2048, rsa3072, p256, p384} {
		add(kind+", AES-256-CBC, encrypted and signed", readSMIME("ok"), func(ctx context.Context) ([]byte, error) {
			return p.smime(ctx, p.patSMIME[kind], cms.AES256CBC, noWrap, p.adaSMIME[kind].signer(false))
		})
	}
	for _, kind := range []string{rsa2048, p256} {
		add(kind+", AES-256-CBC, encrypted", readSMIME(""), func(ctx context.Context) ([]byte, error) {
			return p.smime(ctx, p.patSMIME[kind], cms.AES256CBC, noWrap, nil)
		})
		add(kind+", signed", read("S/MIME", "", "ok", subject, named), func(ctx context.Context) ([]byte, error) {
			return p.signed(ctx, nil, p.adaSMIME[kind].signer(false))
		})
		add(kind+", AES-256-GCM, encrypted and signed", unread("", ""), func(ctx context.Context) ([]byte, error) {
			return p.smime(ctx, p.patSMIME[kind], cms.AES256GCM, noWrap, p.adaSMIME[kind].signer(false))
		})
	}
	rsa := p.adaSMIME[rsa2048]
	add("RSA-2048 with OAEP, AES-256-CBC, encrypted and signed", readSMIME("ok"), func(ctx context.Context) ([]byte, error) {
		return p.smime(ctx, p.patSMIME[rsa2048], cms.AES256CBC, cms.WrapOptions{OAEP: true}, rsa.signer(false))
	})
	add("RSA-2048, AES-256-GCM, called enveloped-data", complains, func(ctx context.Context) ([]byte, error) {
		message, err := p.smime(ctx, p.patSMIME[rsa2048], cms.AES256GCM, noWrap, nil)
		return altered(message, err, "smime-type=authEnveloped-data", "smime-type=enveloped-data")
	})
	add("RSA-2048, signed with RSA-PSS", read("S/MIME", "", "ok", subject, named),
		func(ctx context.Context) ([]byte, error) { return p.signed(ctx, nil, rsa.signer(true)) })
	add("Ed25519, signed", read("S/MIME", "", "", subject, named),
		func(ctx context.Context) ([]byte, error) { return p.signed(ctx, nil, p.adaSMIME[ed].signer(false)) })
	add("X25519, AES-256-CBC, encrypted", complains,
		func(ctx context.Context) ([]byte, error) {
			return p.smime(ctx, p.patSMIME[x], cms.AES256CBC, noWrap, nil)
		})
	add("RSA-2048, triple wrapped", readSMIME("ok"),
		func(ctx context.Context) ([]byte, error) { return p.triple(ctx, p.patSMIME[rsa2048], rsa) })

	add("RSA-2048, AES-256-CBC, signed by nobody it trusts", readSMIME("mismatch"), func(ctx context.Context) ([]byte, error) {
		return p.smime(ctx, p.patSMIME[rsa2048], cms.AES256CBC, noWrap, p.unknown.signer(false))
	})
	forged := read("S/MIME", "", "", subject, named)
	forged.Text = forgedText
	add("RSA-2048, signed, altered on the way", forged, func(ctx context.Context) ([]byte, error) {
		message, err := p.signed(ctx, nil, rsa.signer(false))
		return altered(message, err, "4.1 mmol/l.", "9.1 mmol/l.")
	})
	return all
}

// keysWanted is what Thunderbird is to say to the keys it is given.
func (p *people) keysWanted() map[string]bool {
	taken := map[string]bool{adaKey: true}
	for name, secret := range p.patPGP {
		taken[name] = secret.Public().Version() == 4
	}
	for name := range p.patSMIME {
		taken[name] = name != x
	}
	return taken
}

const adaKey = "Ada's"
