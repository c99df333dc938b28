package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"reflect"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/private"
)

type partnerAddCmd struct {
	partnerArg
	PinCA      []string `name:"pin-ca" placeholder:"FILE" help:"Authority that the hosts' certificates come from; needs --host."`
	PinCert    []string `name:"pin-cert" placeholder:"FILE" help:"Certificate of a mail host, or its SHA-256 in hex."`
	PinKey     []string `name:"pin-key" placeholder:"FILE" help:"Public key of a mail host, in PEM or in a certificate, or its SHA-256 in hex."`
	Host       []string `placeholder:"NAME" help:"The mail hosts that may be used, in place of those named before: mx.partner.example or *.partner.example."`
	Require    *bool    `negatable:"" help:"Hosts must be proved to be the domain's, by whatever proves them."`
	Subdomains *bool    `negatable:"" help:"It holds for the domains below too."`
	Client     string   `placeholder:"FILE" help:"Certificate and key that we show to the hosts: PKCS #12, or PEM with both."`

	PassphraseFile string `placeholder:"FILE" help:"File that holds the passphrase of the PKCS #12 file in its first line."`
	NoClient       bool   `help:"Show no certificate any more."`
}

// Help gives examples.
func (partnerAddCmd) Help() string {
	return "What is arranged already stays, so that a second pin can stand beside the first while a partner changes its certificate. " +
		"\"sealpost partner test\" tries it.\n\nExamples:\n\n" +
		"  $ sealpost partner add hospital.example --pin-key mx.pem\n" +
		"  $ sealpost partner add lab.example --pin-ca lab-ca.pem --host '*.lab.example' --client ours.p12 --passphrase-file ours.pass"
}

// Run adds to what is arranged.
func (c partnerAddCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(c, partnerAddCmd{partnerArg: c.partnerArg}) {
		return usagef("Say what is arranged with %s: --pin-key, --pin-cert, --pin-ca, --host, --client or --require.", name)
	}
	change := partner.Change{Domain: name, Hosts: c.Host, Require: c.Require, Subdomains: c.Subdomains, NoClient: c.NoClient}
	if change.Pins, err = c.pins(); err != nil {
		return err
	}
	if c.Client != "" {
		if change.Client, change.ClientKey, err = c.client(); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		e, err := core.Partners.Put(ctx, o.ID, change)
		if err != nil {
			return err
		}
		r := partnerRowOf(e, core.Clock.Now())
		return env.result(r, r.tell)
	})
}

func (c partnerAddCmd) pins() (all []partner.Pin, err error) {
	for _, file := range c.PinCA {
		found, err := certificatesIn(file)
		if err != nil {
			return nil, err
		}
		for _, ca := range found {
			all = append(all, partner.PinOf(partner.CA, ca))
		}
	}
	for _, file := range c.PinCert {
		if sum, ok := isSHA256(file); ok {
			all = append(all, partner.Pin{Kind: partner.Certificate, Fingerprint: sum})
			continue
		}
		found, err := certificatesIn(file)
		if err != nil {
			return nil, err
		}
		all = append(all, partner.PinOf(partner.Certificate, found[0]))
	}
	for _, file := range c.PinKey {
		p, err := keyPin(file)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func certificatesIn(file string) ([]*x509.Certificate, error) {
	data, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	return certs.Read(data)
}

func keyPin(file string) (partner.Pin, error) {
	p := partner.Pin{Kind: partner.Key}
	var ok bool
	if p.Fingerprint, ok = isSHA256(file); ok {
		return p, nil
	}
	data, err := readKeyFile(file)
	if err != nil {
		return p, err
	}
	var der []byte
	if block, _ := pem.Decode(data); block != nil && block.Type == "PUBLIC KEY" {
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			return p, usagef("%s holds no public key that can be read.", file)
		}
		der = block.Bytes
	} else {
		found, err := certs.Read(data)
		if err != nil {
			return p, err
		}
		der = found[0].RawSubjectPublicKeyInfo
	}
	sum := sha256.Sum256(der)
	p.Fingerprint = hex.EncodeToString(sum[:])
	return p, nil
}

// client reads a certificate with its key and chain.
func (c partnerAddCmd) client() ([]*x509.Certificate, crypto.Signer, error) {
	data, err := readKeyFile(c.Client)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		passphrase, err := firstLine(c.PassphraseFile)
		if err != nil {
			return nil, nil, err
		}
		key, given, err := identity.ReadPKCS12(data, passphrase)
		return given, key, err
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, nil, usagef("%s does not hold a certificate and its key, unencrypted, in PEM.", c.Client)
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		chain = append(chain, cert)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, usagef("%s holds a key that cannot sign.", c.Client)
	}
	return chain, key, nil
}

// firstLine reads a passphrase; no file, no passphrase.
func firstLine(file string) (private.Bytes, error) {
	if file == "" {
		return private.Bytes{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return private.Bytes{}, fmt.Errorf("read the passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return private.NewBytes(bytes.TrimSuffix(line, []byte("\r"))), nil
}
