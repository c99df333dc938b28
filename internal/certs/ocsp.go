package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	_ "crypto/sha1" // for the names of issuers in OCSP
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

const (
	maxOCSP     = 64 << 10
	ocspTimeout = time.Hour      // for an answer that does not say when the next one comes
	ocspAge     = 24 * time.Hour // the oldest such answer
)

// byOCSP asks the responders that a certificate names (RFC 6960).
func (j *Judge) byOCSP(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) (answer, bool) {
	if !slices.ContainsFunc(cert.OCSPServer, webURL) {
		return answer{}, false
	}
	k := certificateKey(cert, issuer)
	if data, fetched, ok := j.stored(ctx, k, "ocsp", now); ok {
		if a, ok := readOCSP(data, cert, issuer, fetched, now); ok {
			return a, true
		}
	}
	question, err := question(cert, issuer)
	if err != nil {
		return answer{}, false
	}
	for _, u := range cert.OCSPServer[:min(len(cert.OCSPServer), maxURLs)] {
		if !webURL(u) {
			continue
		}
		data, ok := j.get(ctx, u, question, "application/ocsp-request", maxOCSP)
		if !ok {
			continue
		}
		if a, ok := readOCSP(data, cert, issuer, now, now); ok {
			j.store(ctx, k, "ocsp", data, now, a.until)
			return a, true
		}
	}
	return answer{}, false
}

// question makes the request. It names the issuer by SHA-1, as all responders
// understand and many alone (RFC 5019 section 2.1.1): that hash looks up a
// certificate and protects nothing, which is why FIPS mode is told to let it
// pass. There is no nonce, so that responders can answer from a cache; the
// times of the answer guard against old ones.
func question(cert, issuer *x509.Certificate) (der []byte, err error) {
	fips140.WithoutEnforcement(func() { der, err = ocsp.CreateRequest(cert, issuer, nil) })
	return der, err
}

// readOCSP gives what a response says about cert, or false when it says nothing
// that may be believed.
func readOCSP(data []byte, cert, issuer *x509.Certificate, fetched, now time.Time) (answer, bool) {
	// The package compares serial numbers and checks that an embedded
	// certificate made the signature. Who that is, whether the issuer let it,
	// and whose certificate the answer is about, is for us to see.
	// It hashes with SHA-1 when told to, which panics in FIPS mode, before we
	// can refuse that.
	var r *ocsp.Response
	var err error
	fips140.WithoutEnforcement(func() { r, err = ocsp.ParseResponseForCert(data, cert, nil) })
	if err != nil || weakSignature(r.SignatureAlgorithm) || !mayAnswer(r, issuer, now) || !about(r, cert, issuer) {
		return answer{}, false
	}
	next := r.NextUpdate
	if next.IsZero() {
		// RFC 6960 section 4.2.2.1: newer information is available all the time.
		if now.Sub(r.ThisUpdate) > ocspAge {
			return answer{}, false
		}
		next = fetched.Add(ocspTimeout)
	}
	until, ok := fresh(r.ThisUpdate, next, fetched, now)
	if !ok {
		return answer{}, false
	}
	switch r.Status {
	case ocsp.Good:
		return answer{source: ByOCSP, until: until}, true
	case ocsp.Revoked:
		return answer{word: "revoked", until: until}, true
	}
	return answer{}, false
}

// mayAnswer tells whether the issuer signed, or a responder that it appointed
// with a certificate of its own (RFC 6960 section 4.2.2.2).
func mayAnswer(r *ocsp.Response, issuer *x509.Certificate, now time.Time) bool {
	d := r.Certificate
	if d == nil || bytes.Equal(d.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
		return r.CheckSignatureFrom(issuer) == nil
	}
	return slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) &&
		bytes.Equal(d.RawIssuer, issuer.RawSubject) && d.CheckSignatureFrom(issuer) == nil &&
		!now.Before(d.NotBefore) && !now.After(d.NotAfter) &&
		(d.KeyUsage == 0 || d.KeyUsage&x509.KeyUsageDigitalSignature != 0) &&
		len(d.UnhandledCriticalExtensions) == 0 && badKey(d, signing) == ""
}

// about tells whether the answer for this serial number is about a certificate
// of this issuer: an authority with several names may number each from one.
func about(r *ocsp.Response, cert, issuer *x509.Certificate) bool {
	name, ok := issuerHash(r.IssuerHash, issuer.RawSubject)
	if !ok {
		return false
	}
	keyHash, _ := issuerHash(r.IssuerHash, publicKeyBits(issuer))
	in := cryptobyte.String(r.TBSResponseData)
	var data, responses cryptobyte.String
	if !in.ReadASN1(&data, cbasn1.SEQUENCE) || !data.SkipOptionalASN1(contextTag(0)) {
		return false
	}
	var tag cbasn1.Tag
	var responder cryptobyte.String
	if !data.ReadAnyASN1(&responder, &tag) || !data.SkipASN1(cbasn1.GeneralizedTime) || !data.ReadASN1(&responses, cbasn1.SEQUENCE) {
		return false
	}
	for !responses.Empty() {
		var one, id, nameHash, theirKey cryptobyte.String
		serial := cert.SerialNumber.Bytes()
		var their cryptobyte.String
		if !responses.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1(&id, cbasn1.SEQUENCE) || !id.SkipASN1(cbasn1.SEQUENCE) ||
			!id.ReadASN1(&nameHash, cbasn1.OCTET_STRING) || !id.ReadASN1(&theirKey, cbasn1.OCTET_STRING) || !id.ReadASN1(&their, cbasn1.INTEGER) {
			return false
		}
		if bytes.Equal(bytes.TrimLeft(their, "\x00"), serial) {
			// The package takes the first, and so it must be this one.
			return bytes.Equal(nameHash, name) && bytes.Equal(theirKey, keyHash)
		}
	}
	return false
}

func issuerHash(h crypto.Hash, data []byte) (sum []byte, ok bool) {
	switch h {
	case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
		fips140.WithoutEnforcement(func() { // see question
			w := h.New()
			w.Write(data)
			sum = w.Sum(nil)
		})
		return sum, true
	}
	return nil, false
}

// publicKeyBits is what OCSP hashes of a key: the bit string without its tag,
// its length and the number of unused bits (RFC 6960 section 4.1.1).
func publicKeyBits(c *x509.Certificate) []byte {
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	var spki cryptobyte.String
	var bits asn1.BitString
	if !in.ReadASN1(&spki, cbasn1.SEQUENCE) || !spki.SkipASN1(cbasn1.SEQUENCE) || !spki.ReadASN1BitString(&bits) {
		return nil
	}
	return bits.RightAlign()
}
