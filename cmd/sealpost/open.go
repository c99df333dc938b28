package main

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
)

// openCmd opens one mail and says what is known about it.
type openCmd struct {
	File           string   `arg:"" help:"The mail as it came (.eml); - reads it from standard input."`
	Org            string   `placeholder:"SLUG" help:"Open with the keys of this organization and check signatures with its keyring."`
	Out            string   `placeholder:"FILE" help:"Write the opened mail there. A file that exists is not overwritten."`
	PGPKey         []string `name:"pgp-key" placeholder:"FILE" help:"OpenPGP secret key to open with."`
	SMIMEKey       []string `name:"smime-key" placeholder:"FILE" help:"PKCS#12 file to open with."`
	PassphraseFile string   `placeholder:"FILE" help:"File whose first line is the passphrase of those keys."`
	Signer         []string `placeholder:"FILE" help:"OpenPGP public key that is believed to belong to the addresses it names."`
	CAFile         string   `name:"ca-file" placeholder:"FILE" help:"Certificates (PEM) of authorities that are believed. Revocation is asked for only with --org."`
}

// Help explains the exit codes.
func (openCmd) Help() string {
	return "What is known about the mail is printed before the mail itself. " +
		"The exit code is 0 when all of it is signed by whom it says it is from and cannot have been altered, " +
		"3 when it was opened and there is something to doubt, and 1 when it could not be opened. " +
		"Nothing is ever fetched for the mail, and control characters in it are printed as escapes."
}

// maxOpen is the longest mail that is opened.
const maxOpen = 64 << 20

// exitDoubts is the exit code of a mail that was opened with doubts.
const exitDoubts = 3

// codeError ends a command that has said everything with its own exit code.
type codeError int

func (codeError) Error() string { return "the command has said what there is to doubt" }

// Run opens the mail.
func (c *openCmd) Run(ctx context.Context, env *environment) error {
	raw, err := c.read(env)
	if err != nil {
		return err
	}
	o := seal.OpenOptions{At: time.Now(), Limits: seal.OpenLimits{Bytes: maxOpen}}
	if err := c.keys(&o); err != nil {
		return err
	}
	var opened *seal.Opened
	if c.Org == "" {
		opened, err = seal.Open(raw, o)
	} else {
		err = env.withOrg(ctx, orgFlag{c.Org}.alive, func(core *app.Core, org account.Org) error {
			if err := fromOrg(ctx, core, org, &o); err != nil {
				return err
			}
			opened, err = seal.Open(raw, o)
			return err
		})
	}
	if err != nil {
		return err
	}
	if err := c.print(env, opened); err != nil {
		return err
	}
	if err := c.write(env, opened); err != nil {
		return err
	}
	switch opened.Verdict.Outcome {
	case seal.Proved:
		return nil
	case seal.Doubted:
		return codeError(exitDoubts)
	}
	return errSaid
}

func (c *openCmd) read(env *environment) ([]byte, error) {
	in := env.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, fmt.Errorf("open the mail: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxOpen+1))
	if err != nil {
		return nil, fmt.Errorf("read the mail: %w", err)
	}
	return raw, nil
}

// keys reads the keys that the command line names.
func (c *openCmd) keys(o *seal.OpenOptions) error {
	var passphrase []byte
	if c.PassphraseFile != "" {
		b, err := os.ReadFile(c.PassphraseFile)
		if err != nil {
			return fmt.Errorf("read --passphrase-file: %w", err)
		}
		passphrase, _, _ = bytes.Cut(b, []byte("\n"))
		passphrase = bytes.TrimSuffix(passphrase, []byte("\r"))
	}
	for _, name := range c.PGPKey {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read --pgp-key: %w", err)
		}
		s, err := openpgp.ReadSecret(b, private.NewBytes(passphrase))
		if err != nil {
			return fmt.Errorf("read --pgp-key: %w", err)
		}
		o.Secrets.PGP = append(o.Secrets.PGP, s)
	}
	for _, name := range c.SMIMEKey {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read --smime-key: %w", err)
		}
		var key any
		var cert *x509.Certificate
		// PKCS#12 is made of what FIPS 140-3 does not approve: RC2, SHA-1.
		fips140.WithoutEnforcement(func() { key, cert, _, err = pkcs12.DecodeChain(b, string(passphrase)) })
		if err != nil {
			return usagef("--smime-key is not a PKCS#12 file, or --passphrase-file does not hold its passphrase.")
		}
		o.Secrets.SMIME = append(o.Secrets.SMIME, cms.Recipient{Key: key, Certificate: cert})
	}
	return c.believed(o)
}

// believed reads the keys and authorities that are believed by hand.
func (c *openCmd) believed(o *seal.OpenOptions) error {
	var known []seal.SignerKey
	for _, name := range c.Signer {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read --signer: %w", err)
		}
		keys, err := openpgp.ReadKeys(b)
		if err != nil {
			return fmt.Errorf("read --signer: %w", err)
		}
		for _, k := range keys {
			known = append(known, seal.SignerKeys(k, policy.Pinned)...)
		}
	}
	if len(known) > 0 {
		o.Signers = func(mail.Address) ([]seal.SignerKey, error) { return known, nil }
	}
	if c.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return fmt.Errorf("read --ca-file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return usagef("--ca-file holds no certificate in PEM.")
	}
	o.CheckCertificate = func(cert *x509.Certificate, others []*x509.Certificate, from mail.Address, at time.Time) error {
		return certs.SignatureUnder(roots, cert, others, from, at)
	}
	return nil
}

// write stores the opened mail.
func (c *openCmd) write(env *environment, o *seal.Opened) error {
	if c.Out == "" {
		return nil
	}
	if o.Message.Len() == 0 {
		env.sayf("Nothing is written to %s: what is left of the mail must not be opened by other programs.", c.Out)
		return nil
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write --out: %w", err)
	}
	_, err = f.Write(o.Message.Reveal())
	if o.Verdict.Encrypted == seal.Whole && o.Verdict.Has("no_integrity") {
		env.sayf("Only plain text and pictures are written to %s.", c.Out)
	}
	return errors.Join(err, f.Close())
}

// print shows the verdict and the mail.
func (c *openCmd) print(env *environment, o *seal.Opened) error {
	if !env.JSON {
		p := &page{}
		writeOpened(p, o)
		_, err := io.WriteString(env.stdout, p.text.String())
		return err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(openedJSON(o)); err != nil {
		return err
	}
	_, err := io.WriteString(env.stdout, escapeJSON(b.String()))
	return err
}

// escapeJSON escapes what a terminal could obey and JSON lets pass.
func escapeJSON(s string) string {
	var out strings.Builder
	for _, r := range s {
		if r == '\n' || obeyed(r) == "" {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
