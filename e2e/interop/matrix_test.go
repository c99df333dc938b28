package interop

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
)

const (
	reads  = "reads"  // the other program reads what we make
	writes = "writes" // we read what it makes
)

// cell is one measurement.
type cell struct{ program, row, direction string }

// lane is one program with the rows of its table. Lanes run beside each other.
type lane struct {
	program
	rows []row
}

func lanes(t *testing.T, p *people) (all []lane) {
	t.Helper()
	js, err := newOpenPGPjs(newFolder(t), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []pgpTool{js, &gnupg{newFolder(t), p}, &ribose{newFolder(t), p}, &sequoia{folder: newFolder(t), p: p}} {
		all = append(all, lane{newPGPPeer(tool, p), pgpRows})
	}
	n, err := newNSS(newFolder(t), p)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGpgsm(newFolder(t), p)
	if err != nil {
		t.Fatal(err)
	}
	maker := func(p *people) *smimePeer {
		return newSMIMEPeer(&openssl{folder: newFolder(t), p: p, swapped: true}, p, nil)
	}
	return append(all,
		lane{newSMIMEPeer(&openssl{folder: newFolder(t), p: p}, p, nil), smimeRows},
		lane{newSMIMEPeer(n, p, maker(p)), smimeRows},
		lane{newSMIMEPeer(g, g.p, maker(g.p)), smimeRows})
}

// TestMatrix measures every cell of the document, and that the document says
// what was measured.
func TestMatrix(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	all := lanes(t, p)
	versions := map[string]string{}
	for _, l := range all {
		if versions[l.name()], err = l.version(); err != nil {
			t.Fatalf("%s: %v: scripts/test-deps.sh installs it", l.name(), err)
		}
	}
	var wait sync.WaitGroup
	turns := make(chan struct{}, 3) // programs at a time
	for _, l := range all {
		wait.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			for _, r := range l.rows {
				l.measure(t, r, reads, l.reads(r))
				l.measure(t, r, writes, l.writes(r))
			}
		})
	}
	present := samples(t)
	wait.Wait()
	document(t, versions, present)
}

// measure compares a result with what the table of exceptions expects.
func (l lane) measure(t *testing.T, r row, direction string, got error) {
	c := cell{l.name(), r.id, direction}
	e := exceptionFor(c)
	switch {
	case e == nil && got != nil:
		t.Errorf("%v does not work: %v", c, got)
	case e == nil:
	case got == nil:
		t.Errorf("%v works, and is expected not to: %q. Strike it from the exceptions.", c, e.says)
	case !strings.Contains(got.Error(), e.says):
		t.Errorf("%v fails otherwise than expected, with %q: %v", c, e.says, got)
	case e.control != "":
		maker, err := l.control(r)
		if maker == absent {
			return
		}
		if maker != e.control || err == nil || !strings.Contains(err.Error(), e.says) {
			t.Errorf("%v: what %s made should fail with %q, too: %v", c, maker, e.says, err)
		}
	}
}

// absent is the maker of a sample that is not on this machine.
const absent = "absent"

// exception is why cells do not work.
type exception struct {
	program, direction string
	rows               string // a regular expression for all of a row's id
	word               string // what stands in the cell
	says               string // what the program must say
	control            string // who makes messages that it does not read either
	why                string // a sentence
}

func exceptionFor(c cell) *exception {
	for i, e := range exceptions {
		if e.program == c.program && e.direction == c.direction && regexp.MustCompile("^(?:"+e.rows+")$").MatchString(c.row) {
			return &exceptions[i]
		}
	}
	return nil
}

const (
	refused = "refused" // it looks at the message and does not read it
	cannot  = "cannot"  // it has no such thing
)

const rfc9580Samples, rfc9216Samples = "the samples of RFC 9580", "the samples for RFC 9216"

// exceptions are all cells that do not work, each with its proof. The first
// that fits counts.
var exceptions = []exception{
	{"GnuPG", reads, "pgp-.*v6", refused, "packet(5) with unknown version 6", rfc9580Samples, "GnuPG 2.2 knows no keys of version 6."},
	{"GnuPG", writes, "pgp-.*v6", cannot, "packet(5) with unknown version 6", "", "GnuPG 2.2 knows no keys of version 6."},
	{"RNP", reads, "pgp-.*v6", refused, "wrong key packet version", rfc9580Samples, "RNP 0.16 knows no keys of version 6."},
	{"RNP", writes, "pgp-.*v6", cannot, "wrong key packet version", "", "RNP 0.16 knows no keys of version 6."},
	{"Sequoia", reads, "pgp-.*v6", refused, "Unsupported primary key", rfc9580Samples, "Version 0.27 knows no keys of version 6."},
	{"Sequoia", writes, "pgp-.*v6", cannot, "Unsupported primary key", "", "Version 0.27 knows no keys of version 6."},

	{"OpenSSL", reads, "x25519-.*", refused, "Error decrypting CMS using private key", rfc9216Samples, "OpenSSL 3.0 has no key agreement with X25519 in CMS (RFC 8418)."},
	{"OpenSSL", writes, "x25519-.*", cannot, "operation not supported for this keytype", "", "OpenSSL 3.0 has no key agreement with X25519 in CMS (RFC 8418)."},
	{"OpenSSL", reads, "sign-ed25519", refused, "eddsa_digest_signverify_init:invalid digest", rfc9216Samples, "OpenSSL 3.0 has no Ed25519 in CMS (RFC 8419): it hands a digest to an algorithm that takes the message."},
	{"OpenSSL", writes, "sign-ed25519", cannot, "eddsa_digest_signverify_init:invalid digest", "", "OpenSSL 3.0 has no Ed25519 in CMS (RFC 8419)."},

	{"NSS", reads, "x25519-.*", cannot, "SEC_ERROR_PKCS12_UNABLE_TO_IMPORT_KEY", "", "NSS 3.87 takes no key for X25519."},
	{"NSS", writes, "(rsa|p256|p384)-gcm|oaep-.*|both-p256|triple-p256|sign-pss", cannot, errNoOption.Error(), "", "cmsutil makes neither OAEP nor GCM nor PSS."},
	{"NSS", writes, "x25519-.*", cannot, "SEC_ERROR_ADDING_CERT", "", "NSS 3.87 takes no certificate for X25519."},
	{"NSS", reads, "oaep-cbc", refused, "SEC_ERROR_UNSUPPORTED_KEYALG", "OpenSSL", "NSS 3.87 decrypts keys wrapped with PKCS #1 v1.5 alone."},
	{"NSS", reads, ".*-gcm|both-p256|triple-p256", refused, "SEC_ERROR_UNRECOGNIZED_OID", "OpenSSL", "NSS 3.87 does not know AuthEnvelopedData (RFC 5083)."},
	{"NSS", reads, "p256-cbc|p384-cbc", refused, "SEC_ERROR_BAD_DER", "OpenSSL", "NSS 3.87 does not read the RecipientInfo of elliptic curves (RFC 5753)."},
	{"NSS", writes, "p256-cbc|p384-cbc", cannot, "SEC_ERROR_INVALID_ALGORITHM", "", "NSS 3.87 makes no RecipientInfo for elliptic curves (RFC 5753)."},
	{"NSS", reads, "sign-ed25519", refused, "signer0.status=ProcessingError", "", "NSS 3.87 does not know Ed25519."},
	{"NSS", writes, "sign-ed25519", cannot, "SEC_ERROR_PKCS12_UNABLE_TO_IMPORT_KEY", "", "NSS 3.87 takes no key for Ed25519."},

	{"gpgsm", writes, ".*-gcm|oaep-.*|both-p256|triple-p256|sign-pss", cannot, errNoOption.Error(), "", "gpgsm 2.2 makes neither OAEP nor GCM nor PSS."},
	{"gpgsm", reads, "x25519-.*", cannot, "error parsing or decrypting the PKCS#12 file", "", "gpgsm 2.2 takes no key for X25519."},
	{"gpgsm", reads, "oaep-cbc", refused, "error getting encrypted session key", "OpenSSL", "gpgsm 2.2 decrypts keys wrapped with PKCS #1 v1.5 alone."},
	{"gpgsm", reads, ".*-gcm|both-p256|triple-p256", refused, "error getting IV: Buffer too short", "OpenSSL", "gpgsm 2.2 takes AuthEnvelopedData for EnvelopedData."},
	{"gpgsm", reads, "p256-cbc|p384-cbc", refused, "decrypting session key failed: Invalid session key", "OpenSSL", "gpgsm 2.2 finds its key and does not come to the session key by key agreement (RFC 5753)."},
	{"gpgsm", writes, "(p256|p384|x25519)-cbc", cannot, "Wrong key usage", "", "gpgsm 2.2 encrypts to no certificate that is for key agreement."},
	{"gpgsm", reads, "sign-ed25519", refused, "DSA requires the hash length to be a multiple of 8 bits", "", "gpgsm 2.2 does not know Ed25519 (RFC 8419)."},
	{"gpgsm", writes, "sign-ed25519", cannot, "Invalid OID string", "", "gpgsm 2.2 does not know Ed25519 (RFC 8419)."},
}

// String names the cell in messages.
func (c cell) String() string { return fmt.Sprintf("%s %s %s", c.program, c.direction, c.row) }
