package seal

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
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
	"github.com/sealpost/sealpost/internal/private"
)

var openedAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	openFolder = "testdata/open"
	openSecret = "The result of the biopsy is negative."
)

func fileOf(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(openFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func secretOf(t testing.TB, name string) *openpgp.Secret {
	t.Helper()
	s, err := openpgp.ReadSecret(fileOf(t, "keys/"+name+".asc"), private.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func certificateOf(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(fileOf(t, "keys/"+name+".crt"))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func recipientOf(t testing.TB, name string) cms.Recipient {
	t.Helper()
	return cms.Recipient{Key: privateKey(t, fileOf(t, "keys/"+name+".key")), Certificate: certificateOf(t, name)}
}

func privateKey(t testing.TB, text []byte) any {
	t.Helper()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	switch key.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
		return key
	}
	t.Fatalf("a key of type %T", key)
	return nil
}

// authority judges certificates by one root, without revocation.
func authority(root *x509.Certificate) func(*x509.Certificate, []*x509.Certificate, mail.Address, time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return func(c *x509.Certificate, others []*x509.Certificate, _ mail.Address, at time.Time) error {
		o := x509.VerifyOptions{Roots: roots, CurrentTime: at, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
		for _, x := range others {
			o.Intermediates.AddCert(x)
		}
		if _, err := c.Verify(o); err != nil {
			return fault.New(fault.Refused, "no_chain", "No authority that is trusted here issued it.")
		}
		return nil
	}
}

// bobs is what Bob knows: his keys, the keys of the others, one authority.
func bobs(t testing.TB) OpenOptions {
	t.Helper()
	var known []SignerKey
	for _, name := range []string{"alice", "mallory", "posing"} {
		known = append(known, SignerKeys(secretOf(t, name).Public(), policy.Confirmed)...)
	}
	return OpenOptions{
		Secrets:          Secrets{PGP: []*openpgp.Secret{secretOf(t, "bob")}, SMIME: []cms.Recipient{recipientOf(t, "bob")}},
		Signers:          func(mail.Address) ([]SignerKey, error) { return known, nil },
		CheckCertificate: authority(certificateOf(t, "ca")),
		At:               openedAt,
	}
}

// openedMail is what is expected of one mail of the folder. Words are the
// doubts, all of them.
type openedMail struct {
	name                         string
	outcome                      Outcome
	encrypted, integrity, signed Scope
	words                        string
	shows                        string // somewhere in what is given
	subject                      string // of the header to believe
}

const (
	none, some, all = Nothing, Partly, Whole
	usual           = "Your result"
	lunch           = "Lunch"
	friday          = "Lunch on Friday"
	account         = "New account number"
	lie             = "DE00 1234"
	appointment     = "Please move my appointment to Monday."
)

var openedMails = []openedMail{
	{"plain", Doubted, none, none, none, "not_signed", openSecret, usual},
	{"pgp-encrypted", Doubted, all, all, none, "not_signed", openSecret, usual},
	{"pgp-encrypted-signed", Proved, all, all, all, "", openSecret, usual},
	{"pgp-signed", Proved, none, none, all, "", openSecret, usual},
	{"pgp-signed-unix-line-ends", Proved, none, none, all, "", openSecret, usual},
	{"pgp-signed-inside-encrypted", Proved, all, all, all, "", openSecret, usual},
	{"pgp-other-recipient", Closed, all, none, none, "other_key", "", usual},
	{"pgp-encrypted-signed-old-date", Doubted, all, all, all, "time_differs", openSecret, usual},
	{"smime-signed", Proved, none, none, all, "", openSecret, usual},
	{"smime-opaque", Proved, none, none, all, "", openSecret, usual},
	{"smime-encrypted-text", Doubted, all, none, none, "not_signed no_integrity", openSecret, usual},
	{"smime-encrypted-signed", Proved, all, all, all, "", "<p>" + openSecret, usual},
	{"smime-encrypted-opaque", Proved, all, all, all, "", "<p>" + openSecret, usual},
	{"smime-triple", Proved, all, all, all, "", "<p>" + openSecret, usual},
	{"smime-gcm", Doubted, all, all, none, "not_signed", "<p>" + openSecret, usual},
	{"smime-compressed", Closed, none, none, none, "compressed", "", usual},
	{"smime-signed-list-footer", Doubted, none, none, some, "part_signed", openSecret, usual},
	{"inline-encrypted-signed", Proved, all, all, all, "", openSecret, usual},
	{"inline-signed", Proved, none, none, all, "", "\n- and a dash", usual},
	{"inline-latin1", Doubted, all, all, all, "charset_unprotected", "Größe: 4", usual},
	{"inline-charset", Doubted, all, all, all, "charset_unprotected", "<p>" + openSecret, usual},
	{"inline-among-text", Doubted, none, none, none, "not_signed armor_in_text", "BEGIN PGP MESSAGE", usual},

	// EFAIL, sections 4 and 5.
	{"efail-direct-pgp", Doubted, some, all, none, "not_signed part_encrypted", openSecret, lunch},
	{"efail-direct-smime", Doubted, some, none, none, "not_signed no_integrity part_encrypted", openSecret, lunch},
	{"efail-cbc-html", Doubted, all, none, none, "not_signed no_integrity html_withheld", "", lunch},
	{"efail-cbc-gadget", Doubted, all, none, none, "not_signed no_integrity", "biopsy", lunch},
	{"efail-cbc-gadget-resigned", Doubted, all, none, all, "signature_outside no_integrity html_withheld", "", lunch},
	{"efail-smime-attachment", Doubted, all, none, none, "not_signed no_integrity html_withheld", openSecret, lunch},
	{"efail-pgp-no-mdc", Closed, all, none, none, "no_integrity_packet", "", lunch},
	{"efail-pgp-mdc-stripped", Closed, all, none, none, "cannot_decrypt", "", lunch},
	{"efail-pgp-altered", Closed, all, none, none, "cannot_decrypt", "", lunch},

	// Re: What's Up Johnny?, section 4.
	{"johnny-covert-css", Doubted, some, all, none, "not_signed part_encrypted", openSecret, friday},
	{"johnny-covert-newlines", Doubted, some, all, none, "not_signed part_encrypted", openSecret, friday},
	{"johnny-covert-alternative", Doubted, some, all, none, "not_signed part_encrypted", openSecret, friday},
	{"johnny-covert-related", Doubted, some, all, none, "not_signed part_encrypted", openSecret, friday},
	{"johnny-covert-smime", Doubted, some, none, none, "not_signed no_integrity html_withheld part_encrypted", "Are you free", friday},
	{"johnny-covert-nested", Doubted, all, all, all, "part_encrypted", openSecret, friday},
	{"johnny-passed-on", Doubted, all, all, all, "signer_differs", openSecret, friday},
	{"johnny-two-ciphertexts", Doubted, some, all, some, "signer_differs part_encrypted part_signed", openSecret, friday},

	// Johnny, you are fired!, sections 4.1 to 4.5.
	{"fired-wrapped", Doubted, none, none, some, "part_signed", lie, account},
	{"fired-wrapped-smime", Doubted, none, none, some, "part_signed", lie, account},
	{"fired-hidden-by-css", Doubted, none, none, some, "part_signed", appointment, account},
	{"fired-related-image", Doubted, none, none, some, "part_signed", appointment, account},
	{"fired-attached-message", Doubted, none, none, none, "not_signed", lie, account},
	{"fired-only-attached", Doubted, none, none, none, "not_signed", "", account},
	{"fired-third-part", Doubted, none, none, none, "not_signed malformed_protection", lie, account},
	{"fired-two-from", Doubted, none, none, none, "signer_unknown several_from", lie, account},
	{"fired-from-list", Doubted, none, none, none, "signer_unknown several_from", lie, account},
	{"fired-display-name", Doubted, none, none, all, "name_poses", lie, account},
	{"fired-other-signer-pgp", Doubted, none, none, all, "signer_differs", lie, account},
	{"fired-other-signer-smime", Doubted, none, none, all, "signer_differs", lie, account},
	{"fired-user-id", Doubted, none, none, all, "signer_differs", lie, account},
	{"fired-self-signed", Doubted, none, none, all, "certificate_refused", lie, account},
	{"fired-own-content", Doubted, none, none, none, "signature_invalid signature_with_content", lie, account},
	{"fired-nobody-signed", Closed, none, none, none, "cannot_read_signed signature_invalid", "", account},
	{"fired-nobody-detached", Doubted, none, none, none, "signature_invalid", lie, account},
	{"fired-altered-pgp", Doubted, none, none, none, "signature_invalid", "Friday", account},
	{"fired-altered-smime", Doubted, none, none, none, "signature_invalid", "Friday", account},
	{"fired-signed-around", Doubted, all, none, all, "signature_outside no_integrity", openSecret, "My idea"},
	{"fired-other-mail", Doubted, none, none, none, "signature_invalid", lie, account},
	{"fired-two-types", Doubted, none, none, none, "not_signed ambiguous_structure", "", account},
	{"fired-two-types-signed", Doubted, none, none, none, "not_signed ambiguous_structure", "", account},
	{"fired-two-encodings", Doubted, none, none, none, "not_signed ambiguous_structure", "", account},
	{"fired-epilogue", Proved, none, none, all, "", appointment, account},
	{"fired-armor-header", Doubted, none, none, none, "not_signed armor_in_text", lie, account},

	// Header protection.
	{"hp-cipher", Proved, all, all, all, "", openSecret, "Biopsy result"},
	{"hp-cipher-smime", Proved, all, all, all, "", openSecret, "Biopsy result"},
	{"hp-cipher-unsigned", Doubted, all, all, none, "not_signed", openSecret, "Biopsy result"},
	{"hp-clear", Proved, none, none, all, "", appointment, "Biopsy result"},
	{"hp-clear-outer-changed", Proved, none, none, all, "", appointment, "Biopsy result"},
	{"hp-clear-altered", Doubted, none, none, none, "signature_invalid", "Friday", "Outer subject"},
	{"hp-without-protection", Doubted, none, none, none, "not_signed", "Subject: Other", usual},
	{"hp-inside-unprotected", Doubted, none, none, none, "not_signed", appointment, usual},
	{"hp-v1", Proved, all, all, all, "", openSecret, "Biopsy result"},
	{"hp-from-spoofed", Doubted, all, all, none, "not_signed from_differs", openSecret, "Biopsy result"},
	{"hp-from-behind-list", Proved, all, all, all, "", openSecret, "Biopsy result"},
	{"hp-from-inside-detached", Proved, all, all, all, "", openSecret, "Biopsy result"},
}

func doubts(v Verdict) string {
	var out []string
	for _, f := range v.Findings {
		if f.Doubt {
			out = append(out, f.Word)
		}
	}
	return strings.Join(out, " ")
}

func contains(o *Opened, s string) bool {
	return slices.ContainsFunc(o.Parts, func(p Part) bool {
		return strings.Contains(p.Text.Reveal(), s) || strings.Contains(p.HTML.Reveal(), s)
	})
}

// TestOpenedMails holds the verdict on every mail of the folder.
func TestOpenedMails(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(openFolder, "*.eml"))
	if err != nil || len(files) != len(openedMails) {
		t.Errorf("%d mails in the folder, %d in the table, %v", len(files), len(openedMails), err)
	}
	options := bobs(t)
	for _, tc := range openedMails {
		t.Run(tc.name, func(t *testing.T) {
			o, err := Open(fileOf(t, tc.name+".eml"), options)
			if err != nil {
				t.Fatal(err)
			}
			v := o.Verdict
			if v.Outcome != tc.outcome || v.Encrypted != tc.encrypted || v.Integrity != tc.integrity || v.Signed != tc.signed {
				t.Errorf("%s, encrypted %s, integrity %s, signed %s; want %s, %s, %s, %s",
					v.Outcome, v.Encrypted, v.Integrity, v.Signed, tc.outcome, tc.encrypted, tc.integrity, tc.signed)
			}
			if got := doubts(v); got != tc.words {
				t.Errorf("doubts %q, want %q", got, tc.words)
			}
			if !contains(o, tc.shows) {
				t.Errorf("%q is not shown", tc.shows)
			}
			if got := mail.DecodeText(o.Header.Get("Subject")); got != tc.subject {
				t.Errorf("subject %q, want %q", got, tc.subject)
			}
			keepsApart(t, o)
		})
	}
}

// keepsApart holds what is true of every mail: no text of an attacker stands
// in one part with text of somebody else, nothing that is altered brings HTML,
// and what is closed shows nothing.
func keepsApart(t *testing.T, o *Opened) {
	t.Helper()
	for _, part := range o.Parts {
		given := part.Text.Reveal() + part.HTML.Reveal() + string(part.Content.Reveal())
		for _, theirs := range []string{"evil.example/", lie, "Are you free", "<div style"} {
			if strings.Contains(given, theirs) && (strings.Contains(given, openSecret) || strings.Contains(given, appointment)) && !part.Attached && !o.Verdict.Has("armor_in_text") {
				t.Errorf("part %s joins %q with what somebody else wrote", part.Path, theirs)
			}
		}
		if part.Withheld != "" && given != "" {
			t.Errorf("part %s is withheld (%s) and given", part.Path, part.Withheld)
		}
		if part.HTML.Reveal() != "" && slices.ContainsFunc(part.Layers, func(i int) bool { return o.Layers[i].Inline }) {
			t.Errorf("part %s is HTML, and was text", part.Path)
		}
		if part.HTML.Reveal() != "" && part.Text.Reveal() != "" {
			t.Errorf("part %s has two forms", part.Path)
		}
	}
	if o.Verdict.Outcome == Closed && (contains(o, openSecret) || o.Message.Len() > 0) {
		t.Error("a message that is closed shows something")
	}
	if o.Verdict.Outcome == Proved && o.Message.Len() == 0 {
		t.Error("a message that is proved is not given")
	}
	for _, s := range o.Verdict.Signers {
		if s.Layer >= len(o.Layers) {
			t.Error("a signer has no layer")
		}
	}
}
