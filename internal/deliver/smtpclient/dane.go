package smtpclient

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"time"
)

// DANE is what secure TLSA records say of a mail host (RFC 7672). With it TLS
// is mandatory, and where there are records that can be used the host must be
// proved by one.
type DANE struct {
	Base    string   // TLSA base domain, which is asked for in SNI (section 8.1)
	Names   []string // that a certificate may have under usage 2 (section 3.2.2)
	Records []TLSA   // that can be used; may be none
	Failed  bool     // nobody can tell now: the host is not to be used
}

// TLSA is a record of usage 2 (DANE-TA) or 3 (DANE-EE).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// String is the record as zone files have it.
func (t TLSA) String() string {
	return fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.Matching, t.Data)
}

// prove finds the record that proves the chain. Otherwise word says why none
// does.
func (d *DANE) prove(chain []*x509.Certificate, now time.Time) (by string, record TLSA, word string) {
	word = CertMissing
	for _, t := range d.Records {
		if len(chain) == 0 {
			break
		}
		if t.Usage == 3 {
			// RFC 7672 section 3.1.1: neither names nor dates count.
			if t.matches(chain[0]) {
				return ByDANEEE, t, ""
			}
			continue
		}
		anchor := t.anchor(chain)
		if anchor == nil {
			continue
		}
		failed := verify(chain, anchor, d.Names, now)
		if failed == "" {
			return ByDANETA, t, ""
		}
		word = failed
	}
	if word == CertMissing && len(chain) > 0 {
		word = CertNoTLSA
	}
	return ByNone, TLSA{}, word
}

// matches reports whether the record is of this certificate (RFC 6698 section
// 2.1).
func (t TLSA) matches(cert *x509.Certificate) bool {
	data := cert.Raw
	if t.Selector == 1 {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch t.Matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, t.Data)
}

// anchor finds the trust anchor of a record of usage 2: an issuer in the
// chain, one that the record holds itself, or what is signed by a key that it
// holds (RFC 7671 section 5.2).
func (t TLSA) anchor(chain []*x509.Certificate) *x509.Certificate {
	for _, cert := range chain[1:] {
		if t.matches(cert) {
			return cert
		}
	}
	if t.Matching != 0 {
		return nil
	}
	if t.Selector == 0 {
		cert, err := x509.ParseCertificate(t.Data)
		if err != nil {
			return nil
		}
		return cert
	}
	key, err := x509.ParsePKIXPublicKey(t.Data)
	if err != nil {
		return nil
	}
	issuer := &x509.Certificate{PublicKey: key, PublicKeyAlgorithm: x509.RSA} // of any kind: the key tells
	for _, cert := range chain {
		if cert.CheckSignatureFrom(issuer) == nil {
			return cert
		}
	}
	return nil
}

// verify checks a chain up to an anchor, for any of the names. It gives a Cert
// word, or nothing.
func verify(chain []*x509.Certificate, anchor *x509.Certificate, names []string, now time.Time) string {
	roots := x509.NewCertPool()
	roots.AddCert(anchor)
	if word := verifyChain(chain, x509.VerifyOptions{Roots: roots, CurrentTime: now}); word != "" {
		return word
	}
	for _, name := range names {
		if chain[0].VerifyHostname(name) == nil {
			return ""
		}
	}
	return CertWrongName
}

func verifyChain(chain []*x509.Certificate, opts x509.VerifyOptions) string {
	opts.Intermediates = x509.NewCertPool()
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(opts)
	return certWord(err, chain[0], opts.CurrentTime)
}
