package certs

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

const (
	maxOthers = 50 // certificates from which a chain is built
	maxChains = 4  // that are looked at
)

// chainsTo gives the ways from cert to a root that hold at a time, the best
// first. Key usage, path lengths, extended key usage and name constraints (RFC
// 5280 section 6) are looked at by crypto/x509.
func chainsTo(roots *x509.CertPool, cert *x509.Certificate, others []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	others = others[:min(len(others), maxOthers)]
	pool := x509.NewCertPool()
	for _, c := range others {
		pool.AddCert(c)
	}
	found, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: pool, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
	})
	if err != nil {
		return nil, chainFault(err, cert, others).Because(err)
	}
	strong := slices.DeleteFunc(found, weakChain)
	if len(strong) == 0 {
		return nil, refuse("weak_algorithm")
	}
	return strong[:min(len(strong), maxChains)], nil
}

// weakChain tells a chain in which somebody's key can be broken: certificates
// by them prove nothing.
func weakChain(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain[1:], func(c *x509.Certificate) bool {
		k, ok := cms.PublicKey(c).(*rsa.PublicKey)
		return ok && (k.N.BitLen() < minRSA || k.N.BitLen() > maxRSA)
	})
}

// chainFault finds the word for what crypto/x509 says.
func chainFault(err error, cert *x509.Certificate, others []*x509.Certificate) *fault.Fault {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	switch {
	case errors.As(err, &critical):
		return refuse("unknown_critical")
	case errors.As(err, &invalid):
		switch invalid.Reason {
		case x509.Expired:
			return refuse("expired")
		case x509.CANotAuthorizedForThisName, x509.TooManyConstraints:
			return refuse("name_constraints")
		case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
			return refuse("key_usage")
		}
	case weakLink(cert, others):
		return refuse("weak_signature")
	}
	return refuse("no_chain")
}

// weakLink tells whether there is a chain but for a signature that can be
// forged, which crypto/x509 does not look at.
func weakLink(cert *x509.Certificate, others []*x509.Certificate) bool {
	for range 8 {
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			return false
		}
		if weakSignature(cert.SignatureAlgorithm) {
			return true
		}
		i := slices.IndexFunc(others, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, cert.RawIssuer) })
		if i < 0 {
			return false
		}
		cert = others[i]
	}
	return false
}

// unconstrained tells whether an address that crypto/x509 did not hold against
// the name constraints of a chain would have needed it: it looks at rfc822Names
// only, not at the subject (RFC 5280 section 4.2.1.10) or at SmtpUTF8Mailboxes
// (RFC 9598 section 6).
func unconstrained(chain []*x509.Certificate, a mail.Address) bool {
	checked := slices.ContainsFunc(chain[0].EmailAddresses, func(s string) bool {
		b, err := mail.ParseAddress(s)
		return err == nil && b.Normal() == a.Normal()
	})
	return !checked && slices.ContainsFunc(chain[1:], func(c *x509.Certificate) bool {
		return len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
	})
}
