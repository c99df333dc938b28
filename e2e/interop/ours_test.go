package interop

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
)

// sealedPGP is the mail that we make for a row, to the key of another program.
func (p *people) sealedPGP(r row, to openpgp.Key) ([]byte, error) {
	at := time.Now()
	body := bodyOf(letter(r.ours(), r.theirs(), entity))
	signer := p.secrets[r.ours()]
	if !r.encrypts {
		signed, err := seal.SignedBody(context.Background(), body, signer, nil, at)
		if err != nil {
			return nil, err
		}
		return octets(signed.Open)
	}
	if err := to.Judge(address(r.theirs()), at.Add(time.Minute)); err != nil {
		return nil, fmt.Errorf("the key is refused: %w", err)
	}
	b, err := seal.PGPBatch(context.Background(), body, r.v6, signer, at)
	if err != nil {
		return nil, err
	}
	a, err := seal.PGP(b, address(r.ours()), address(r.theirs()), noFloor, to, at.Add(time.Minute))
	if err != nil {
		return nil, err
	}
	raw, err := octets(a.Open)
	return raw, errors.Join(err, shows(raw))
}

// sealedSMIME is the mail that we make for a row.
func (p *people) sealedSMIME(r row) ([]byte, error) {
	at := time.Now()
	body := bodyOf(letter(r.ours(), r.theirs(), entity))
	var signer *cms.Signer
	if r.signs {
		signer = p.persons[r.ours()].signer(r.pss)
	}
	if !r.encrypts {
		signed, err := seal.SignedBody(context.Background(), body, nil, signer, at)
		if err != nil {
			return nil, err
		}
		return octets(signed.Open)
	}
	to := p.persons[r.theirs()].cert
	if r.oaep {
		to = p.persons[r.theirs()].oaep
	}
	b, err := seal.SMIMEBatch(context.Background(), body, r.cipher, signer, at)
	if err != nil {
		return nil, err
	}
	var a *seal.Artifact
	if r.triple {
		a, err = seal.SMIMETriple(context.Background(), b, address(r.ours()), address(r.theirs()), noFloor, to, cms.WrapOptions{}, signer, at)
	} else {
		a, err = seal.SMIME(b, address(r.ours()), address(r.theirs()), noFloor, to, cms.WrapOptions{})
	}
	if err != nil {
		return nil, err
	}
	raw, err := octets(a.Open)
	return raw, errors.Join(err, shows(raw))
}

// trusts is what certs does with roots, and without revocation: these
// certificates publish none.
func (p *people) trusts(cert *x509.Certificate, others []*x509.Certificate, _ mail.Address, at time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(p.root)
	for _, c := range others {
		between.AddCert(c)
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}})
	return err
}

// opensPGP opens what another program sealed to us, signed by its key.
func (p *people) opensPGP(r row, raw []byte, by openpgp.Key) error {
	return opens(r, raw, policy.PGP, by.Fingerprint(), seal.OpenOptions{
		Secrets: seal.Secrets{PGP: []*openpgp.Secret{p.secrets[r.ours()]}},
		Signers: func(from mail.Address) ([]seal.SignerKey, error) {
			if from != address(r.theirs()) {
				return nil, nil
			}
			return []seal.SignerKey{{Key: by, Tier: policy.Pinned, Address: from}}, nil
		},
	})
}

// opensSMIME opens what another program sealed to us.
func (p *people) opensSMIME(r row, raw []byte) error {
	by := ""
	if r.signs {
		_, _, by = certs.Identify(p.persons[r.theirs()].cert)
		by = strings.ToUpper(by)
	}
	return opens(r, raw, policy.SMIME, by, seal.OpenOptions{
		Secrets:          seal.Secrets{SMIME: []cms.Recipient{p.persons[r.ours()].recipient()}},
		CheckCertificate: p.trusts,
	})
}

// opens checks that the verdict says all that is so, and after an octet was
// altered not what is no longer so.
func opens(r row, raw []byte, kind policy.Seal, by string, o seal.OpenOptions) error {
	o.At = time.Now().Add(time.Minute)
	got, err := seal.Open(raw, o)
	if err != nil {
		return err
	}
	if err := r.verdict(got, kind, by); err != nil {
		return err
	}
	altered, err := alter(raw)
	if err != nil {
		return err
	}
	if got, err = seal.Open(altered, o); err != nil {
		return err
	}
	v := got.Verdict
	if v.Outcome == seal.Proved || v.Signed == seal.Whole || r.proves() && v.Integrity != seal.Nothing {
		return fmt.Errorf("altered, and still: %s, signed %s, integrity %s", v.Outcome, v.Signed, v.Integrity)
	}
	return nil
}

// proves reports whether the encryption itself notices alteration.
func (r row) proves() bool { return r.encrypts && r.integrity() != cms.IntegrityNone }

// integrity is how the encryption of a row notices alteration.
func (r row) integrity() string {
	switch {
	case r.v6:
		return "aead"
	case strings.HasPrefix(r.id, "pgp"):
		return "mdc"
	case r.cipher == cms.AES256GCM:
		return cms.IntegrityGCM
	}
	return cms.IntegrityNone
}

func (r row) verdict(got *seal.Opened, kind policy.Seal, by string) error {
	v := got.Verdict
	outcome, encrypted, integrity, signed := seal.Doubted, seal.Nothing, seal.Nothing, seal.Nothing
	var doubts []string
	if r.encrypts {
		encrypted = seal.Whole
	}
	if r.signs {
		outcome, signed = seal.Proved, seal.Whole
	} else {
		doubts = append(doubts, "not_signed")
	}
	switch {
	case r.encrypts && (r.signs || r.proves()):
		integrity = seal.Whole
	case r.encrypts:
		doubts = append(doubts, "no_integrity")
	}
	var words []string
	for _, f := range v.Findings {
		if f.Doubt {
			words = append(words, f.Word)
		}
	}
	slices.Sort(words)
	slices.Sort(doubts)
	// Files of a message that may have been altered are withheld.
	words = slices.DeleteFunc(words, func(w string) bool { return w == "html_withheld" && integrity == seal.Nothing })
	if v.Outcome != outcome || v.Encrypted != encrypted || v.Integrity != integrity || v.Signed != signed || !slices.Equal(words, doubts) || v.Headers {
		return fmt.Errorf("the verdict is %s, encrypted %s, integrity %s, signed %s, doubts %q", v.Outcome, v.Encrypted, v.Integrity, v.Signed, words)
	}
	return errors.Join(r.signers(v, kind, by), r.content(got, kind))
}

func (r row) signers(v seal.Verdict, kind policy.Seal, by string) error {
	want := 0
	if r.signs {
		want = 1
	}
	if r.triple {
		want = 2
	}
	if len(v.Signers) != want {
		return fmt.Errorf("%d signers", len(v.Signers))
	}
	authors := 0
	for _, s := range v.Signers {
		if s.Author {
			authors++
		}
		if s.Kind != kind || s.Status != openpgp.SignatureValid || !s.Matches || s.Fingerprint.Reveal() != by || s.Name.Reveal() != r.theirs() {
			return fmt.Errorf("a signer is not who it should be: %s", s.Status)
		}
	}
	if r.signs && authors != 1 {
		return fmt.Errorf("%d authors", authors)
	}
	return nil
}

func (r row) content(got *seal.Opened, kind policy.Seal) error {
	if r.encrypts {
		i := slices.IndexFunc(got.Layers, func(l seal.Layer) bool { return l.Opened && l.Kind == kind && strings.HasPrefix(l.Act, "encrypted") })
		if i < 0 || !strings.HasPrefix(got.Layers[i].Algorithms, r.algorithm+", ") && !(r.oaep && strings.Contains(got.Layers[i].Algorithms, "OAEP-SHA256, ")) {
			return fmt.Errorf("the layers are %+v", got.Layers)
		}
		if got.Layers[i].Integrity != r.integrity() {
			return fmt.Errorf("alteration is noticed by %q", got.Layers[i].Integrity)
		}
	}
	text, file := false, false
	for _, p := range got.Parts {
		text = text || strings.Contains(p.Text.Reveal(), secret+"\nFrom the laboratory, with best wishes \n-- \nM\u00fcller\n.")
		file = file || string(p.Content.Reveal()) == attachment
	}
	if r.signature != "" {
		i := slices.IndexFunc(got.Layers, func(l seal.Layer) bool { return strings.HasPrefix(l.Act, "signed") })
		if i < 0 || !strings.HasPrefix(got.Layers[i].Algorithms, r.signature) {
			return fmt.Errorf("the signature is another: %+v", got.Layers)
		}
	}
	if !text || !file && got.Verdict.Integrity == seal.Whole {
		return fmt.Errorf("the content does not come back: text %v, file %v", text, file)
	}
	return nil
}

// alter changes the text where it can be seen, or else an octet of the
// ciphertext.
func alter(raw []byte) ([]byte, error) {
	if bytes.Contains(raw, []byte("4.1 mmol")) {
		return bytes.Replace(raw, []byte("4.1 mmol"), []byte("9.1 mmol"), 1), nil
	}
	// A line in the middle of the longest run of base64.
	lines := bytes.Split(raw, []byte("\r\n"))
	middle, most, run := 0, 4, 0
	for i, line := range lines {
		run++
		if len(line) < 60 || bytes.ContainsAny(line, " :-") {
			run = 0
		}
		if run > most {
			middle, most = i-run/2, run
		}
	}
	if middle == 0 {
		return nil, errors.New("there is no ciphertext to alter")
	}
	line := slices.Clone(lines[middle])
	if line[20] == 'A' {
		line[20] = 'B'
	} else {
		line[20] = 'A'
	}
	lines[middle] = line
	return bytes.Join(lines, []byte("\r\n")), nil
}

var noPassphrase private.Bytes
