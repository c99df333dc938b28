package fake

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// keyFiles are secret keys of people who do not exist.
//
//go:embed keys/*.asc keys/*.pgp keys/*.pem
var keyFiles embed.FS

// keyPerson is somebody who can open what is sealed to a key.
type keyPerson struct {
	domain, local, about string
	file                 string // in keys; empty: the key is made at start
	seal                 string // by a sender who looks for keys; empty: none of theirs can be used
	publish              func(n *Internet, domain, local string, key []byte) error
}

func (p keyPerson) address() string { return p.local + "@" + p.domain }

func inWKD(o WKDOptions) func(*Internet, string, string, []byte) error {
	return func(n *Internet, domain, local string, key []byte) error { return n.PutWKD(domain, local, key, o) }
}

// inDNS publishes a certificate in a signed zone.
func inDNS(usage uint8) func(*Internet, string, string, []byte) error {
	return func(n *Internet, domain, local string, der []byte) error {
		n.SetSecure(domain, true)
		n.SetSMIMEA(local+"@"+domain, der, usage)
		return nil
	}
}

// both publishes in a Web Key Directory and in a signed zone.
func both(n *Internet, domain, local string, key []byte) error {
	n.SetSecure(domain, true)
	n.SetOPENPGPKEY(local+"@"+domain, key)
	return n.PutWKD(domain, local, key, WKDOptions{})
}

func keyPeople() []keyPerson {
	return []keyPerson{
		{"pgp-rsa.example", "rita", "OpenPGP key v4 RSA-3072 in a key directory at the domain itself", "pgp-rsa.asc", PGP, inWKD(WKDOptions{Direct: true})},
		{"pgp-curve.example", "cora", "OpenPGP key v4 Curve25519 in a key directory and in signed DNS", "pgp-curve.asc", PGP, both},
		{"pgp-v6.example", "vera", "OpenPGP key v6 X25519 in a key directory", "pgp-v6.asc", PGP, inWKD(WKDOptions{})},
		{"pgp-expired.example", "emil", "OpenPGP key that ended in 2024", "pgp-expired.asc", "", inWKD(WKDOptions{})},
		{"pgp-hangs.example", "hanna", "key directory that takes the question and never answers", "pgp-hangs.asc", "", inWKD(WKDOptions{Fault: PageHangs})},
		{"smime-rsa.example", "simon", "S/MIME certificate RSA-2048 in signed DNS, which vouches for it (usage 3)", "smime-rsa.pem", SMIME, inDNS(3)},
		{"smime-ec.example", "elsa", "S/MIME certificate ECDSA P-256 in signed DNS, of an authority (usage 1)", "", SMIME, inDNS(1)},
	}
}

// keySites are ordinary domains with good TLS: without a look for keys, or
// where none can be used, mail to them goes by tls.
func keySites() []site {
	var out []site
	for _, p := range keyPeople() {
		s := one(p.domain, p.about, p.local, Behavior{}, delivered(Verified))
		s.people[0].keyed = p.seal
		out = append(out, s)
	}
	return out
}

// publishKeys gives the people of the table their keys.
func (n *Internet) publishKeys() error {
	for _, p := range keyPeople() {
		public, err := n.giveKey(p)
		if err == nil {
			err = p.publish(n, p.domain, p.local, public)
		}
		if err != nil {
			return fmt.Errorf("give %s a key: %w", p.domain, err)
		}
	}
	return nil
}

func (n *Internet) giveKey(p keyPerson) (public []byte, err error) {
	var file []byte
	if p.file != "" {
		if file, err = keyFiles.ReadFile("keys/" + p.file); err != nil {
			return nil, err
		}
	}
	if name, ok := strings.CutSuffix(p.file, ".asc"); ok {
		if public, err = keyFiles.ReadFile("keys/" + name + ".pgp"); err == nil {
			n.hold(p.address(), func(h *holder) { h.secrets, h.public = [][]byte{file}, public })
		}
		return public, err
	}
	var key crypto.Signer
	if file != nil {
		if key, err = signerOf(file); err != nil {
			return nil, err
		}
	}
	who, err := n.IssueMail(p.address(), MailCertOptions{Key: key})
	if err != nil {
		return nil, err
	}
	n.HoldSMIME(p.address(), who)
	return who.Certificate.Raw, nil
}

func signerOf(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a key that signs")
	}
	return signer, nil
}

// holder is what a person opens mail with.
type holder struct {
	secrets [][]byte // OpenPGP, armored; read when something is to be opened, which takes its time
	public  []byte   // of the first
	smime   []MailIdentity
}

// readSecret reads an armored secret key.
func readSecret(armored []byte) (list openpgp.EntityList, err error) {
	// The people outside are no part of a module that is approved.
	fips140.WithoutEnforcement(func() { list, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(armored)) })
	if err != nil {
		return nil, fmt.Errorf("read a fake key: %w", err)
	}
	return list, nil
}

func publicOf(armored []byte) ([]byte, error) {
	list, err := readSecret(armored)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := list[0].Serialize(&out); err != nil {
		return nil, fmt.Errorf("write a fake key: %w", err)
	}
	return out.Bytes(), nil
}

// HoldPGP lets the mailbox of an address open what is sealed to an OpenPGP
// key, armored, without passphrase, and gives its public part.
func (n *Internet) HoldPGP(address string, secret []byte) (public []byte, err error) {
	if public, err = publicOf(secret); err != nil {
		return nil, err
	}
	n.hold(address, func(h *holder) {
		h.secrets, h.public = append([][]byte{bytes.Clone(secret)}, h.secrets...), public
	})
	return bytes.Clone(public), nil
}

// HoldSMIME lets the mailbox of an address open what is sealed to a
// certificate.
func (n *Internet) HoldSMIME(address string, who MailIdentity) {
	n.hold(address, func(h *holder) { h.smime = append([]MailIdentity{who}, h.smime...) })
}

func (n *Internet) hold(address string, change func(*holder)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.holders[strings.ToLower(address)]
	change(&h)
	n.holders[strings.ToLower(address)] = h
}

func (n *Internet) holder(address string) holder {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.holders[strings.ToLower(address)]
}

// PGPKey is the public OpenPGP key of an address that holds one, binary.
func (n *Internet) PGPKey(address string) []byte { return bytes.Clone(n.holder(address).public) }

// MailCertificate is the newest certificate of an address that holds one.
func (n *Internet) MailCertificate(address string) *x509.Certificate {
	if h := n.holder(address); len(h.smime) > 0 {
		return h.smime[0].Certificate
	}
	return nil
}

func newECKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}
