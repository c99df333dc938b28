package certs

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
)

// What is looked at, lest a file keep us busy.
const (
	maxFile      = 1 << 20
	maxRead      = 200 // certificates in a file
	maxAddresses = 100 // in a certificate
)

// Read gives the certificates of a file: PEM, DER, or a PKCS #7 bundle in
// either. What else a PEM file holds, keys above all, is passed over.
func Read(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxFile {
		return nil, refuse("too_large")
	}
	var out []*x509.Certificate
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		return readDER(data)
	}
	for blocks := 0; ; blocks++ {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if blocks == maxRead {
			return nil, refuse("too_large")
		}
		data = rest
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "PKCS7", "CMS":
			found, err := readDER(block.Bytes)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		if len(out) > maxRead {
			return nil, refuse("too_large")
		}
	}
	if len(out) == 0 {
		return nil, refuse("malformed")
	}
	return out, nil
}

// readDER reads certificates one behind the other, or a bundle.
func readDER(data []byte) ([]*x509.Certificate, error) {
	found, err := x509.ParseCertificates(data)
	if err == nil && len(found) > 0 {
		if len(found) > maxRead {
			return nil, refuse("too_large")
		}
		return found, nil
	}
	found, bundleErr := cms.Certificates(data)
	if bundleErr != nil || len(found) == 0 {
		return nil, refuse("malformed").Because(err)
	}
	return found, nil
}

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEmailAddress   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidUTF8Mailbox    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9} // RFC 9598
)

// Addresses are those a certificate speaks for: the rfc822Names and
// SmtpUTF8Mailboxes of its alternative names. Only where there are none, the
// e-mail addresses of its subject (RFC 8550 section 3).
func Addresses(c *x509.Certificate) []mail.Address {
	texts := slices.Concat(c.EmailAddresses, utf8Mailboxes(c))
	if len(texts) == 0 {
		texts = subjectAddresses(c)
	}
	var out []mail.Address
	for _, s := range texts[:min(len(texts), maxAddresses)] {
		if a, err := mail.ParseAddress(s); err == nil && !speaksFor(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func speaksFor(list []mail.Address, a mail.Address) bool {
	return !a.IsZero() && slices.ContainsFunc(list, func(b mail.Address) bool { return b.Normal() == a.Normal() })
}

func subjectAddresses(c *x509.Certificate) (texts []string) {
	for _, n := range c.Subject.Names {
		if s, ok := n.Value.(string); ok && n.Type.Equal(oidEmailAddress) {
			texts = append(texts, s)
		}
	}
	return texts
}

// utf8Mailboxes reads the otherNames that crypto/x509 leaves alone.
func utf8Mailboxes(c *x509.Certificate) (texts []string) {
	i := slices.IndexFunc(c.Extensions, func(e extension) bool { return e.Id.Equal(oidSubjectAltName) })
	if i < 0 {
		return nil
	}
	in := cryptobyte.String(c.Extensions[i].Value)
	var names cryptobyte.String
	if !in.ReadASN1(&names, cbasn1.SEQUENCE) {
		return nil
	}
	for !names.Empty() {
		var name, value, text cryptobyte.String
		var tag cbasn1.Tag
		var oid asn1.ObjectIdentifier
		if !names.ReadAnyASN1(&name, &tag) {
			return texts
		}
		if tag == contextTag(0) && name.ReadASN1ObjectIdentifier(&oid) && oid.Equal(oidUTF8Mailbox) &&
			name.ReadASN1(&value, contextTag(0)) && value.ReadASN1(&text, cbasn1.UTF8String) {
			texts = append(texts, string(text))
		}
	}
	return texts
}

func contextTag(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// Describe names the key: "RSA-2048", "ECDSA P-256", "X25519".
func Describe(c *x509.Certificate) string {
	switch k := cms.PublicKey(c).(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *ecdh.PublicKey:
		return "X25519"
	case ed25519.PublicKey:
		return "Ed25519"
	}
	if c.PublicKeyAlgorithm == x509.DSA {
		return "DSA"
	}
	return "unknown"
}

// Identify names a certificate as evidence does: the serial number in
// hexadecimal, the issuer as RFC 4514 writes it, the SHA-256 fingerprint.
func Identify(c *x509.Certificate) (serial, issuer, fingerprint string) {
	sum := sha256.Sum256(c.Raw)
	return fmt.Sprintf("%x", c.SerialNumber), c.Issuer.String(), hex.EncodeToString(sum[:])
}
