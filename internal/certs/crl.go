package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const maxCRL = 10 << 20

// byCRL looks into the lists that a certificate names.
func (j *Judge) byCRL(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) (answer, bool) {
	urls := crlURLs(cert)
	for _, u := range urls[:min(len(urls), maxURLs)] {
		if !webURL(u) {
			continue
		}
		k := keyOf([]byte("crl"), []byte(u), issuer.RawSubjectPublicKeyInfo, issuer.RawSubject)
		// Many certificates share one list: it is fetched once for all.
		got, _, _ := j.flights.Do(string(k[:]), func() (any, error) { return j.list(ctx, u, k, issuer, now), nil })
		l, _ := got.(*crl)
		if l == nil {
			continue
		}
		if word, ok := l.says(cert); ok {
			return answer{word: word, source: ByCRL, until: l.until}, true
		}
	}
	return answer{}, false
}

// list gives a list that is signed by issuer and fresh, from the database or
// from outside, or nil.
func (j *Judge) list(ctx context.Context, u string, k key, issuer *x509.Certificate, now time.Time) *crl {
	if data, fetched, ok := j.stored(ctx, k, "crl", now); ok {
		if l, err := readCRL(data, issuer, fetched, now); err == nil {
			return l
		}
	}
	if a, ok := j.recall(k, now); ok && a.word != "" {
		return nil // it failed a moment ago
	}
	data, ok := j.get(ctx, u, nil, "", maxCRL)
	if ok {
		l, err := readCRL(data, issuer, now, now)
		if err == nil {
			j.store(ctx, k, "crl", data, now, l.until)
			return l
		}
		j.deps.Log.Warn("A list of revoked certificates cannot be used", "error", err)
	}
	j.remember(k, answer{word: "revocation_unknown", until: now.Add(retry)}, now)
	return nil
}

// crl is a list that was proved. What was revoked stays as it is written: a
// list can be long, and is looked into seldom.
type crl struct {
	revoked cryptobyte.String
	scope   scope
	until   time.Time
}

var (
	errCRL         = errors.New("certs: a malformed CRL")
	errCRLIssuer   = errors.New("certs: a CRL by somebody else than the issuer")
	errCRLKind     = errors.New("certs: a CRL of a kind that is not supported")
	errCRLWeak     = errors.New("certs: a CRL whose signature can be forged")
	errCRLOutdated = errors.New("certs: a CRL that is too old or not valid yet")
)

// readCRL proves a list (RFC 5280 section 6.3.3).
func readCRL(data []byte, issuer *x509.Certificate, fetched, now time.Time) (*crl, error) {
	if block, _ := pem.Decode(data[:min(len(data), maxCRL)]); block != nil && bytes.HasPrefix(data, []byte("-----BEGIN")) {
		data = block.Bytes // not as RFC 5280 wants it, but some are served so
	}
	parts, err := splitCRL(data)
	if err != nil {
		return nil, err
	}
	// The standard library reads a list with all its entries, a hundred octets
	// of memory for one in the list. So it reads one without any, and the
	// signature is checked over what was sent.
	l, err := x509.ParseRevocationList(parts.bare)
	switch {
	case err != nil:
		return nil, errCRL
	case !bytes.Equal(l.RawIssuer, issuer.RawSubject), issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		return nil, errCRLIssuer
	case weakSignature(l.SignatureAlgorithm):
		return nil, errCRLWeak
	case issuer.CheckSignature(l.SignatureAlgorithm, parts.tbs, l.Signature) != nil:
		return nil, errCRLIssuer
	}
	out := &crl{revoked: parts.revoked}
	if out.scope, err = readScope(l); err != nil {
		return nil, err
	}
	var ok bool
	if out.until, ok = fresh(l.ThisUpdate, l.NextUpdate, fetched, now); !ok {
		return nil, errCRLOutdated
	}
	return out, nil
}

// crlParts are a CertificateList taken apart.
type crlParts struct {
	tbs     []byte            // what is signed
	revoked cryptobyte.String // content of revokedCertificates
	bare    []byte            // the list without them
}

func splitCRL(data []byte) (crlParts, error) {
	var p crlParts
	in := cryptobyte.String(data)
	var list, tbs, inner cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() || !list.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return p, errCRL
	}
	p.tbs = tbs
	if !tbs.ReadASN1(&inner, cbasn1.SEQUENCE) {
		return p, errCRL
	}
	var kept []byte
	sequences := 0 // signature, issuer, revokedCertificates
	for !inner.Empty() {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !inner.ReadAnyASN1Element(&element, &tag) {
			return p, errCRL
		}
		if tag == cbasn1.SEQUENCE {
			if sequences++; sequences == 3 {
				if !element.ReadASN1(&p.revoked, cbasn1.SEQUENCE) {
					return p, errCRL
				}
				continue
			}
		}
		kept = append(kept, element...)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
		b.AddBytes(list)
	})
	var err error
	if p.bare, err = b.Bytes(); err != nil {
		return p, errCRL
	}
	return p, nil
}

// scope is what a list covers (RFC 5280 section 5.2.5).
type scope struct {
	user, ca bool     // it has certificates of this kind only
	names    []string // it is the list of one of these distribution points
	named    bool
}

var (
	oidDeltaCRL     = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// readScope refuses what is no complete list by the issuer about its own
// certificates: deltas, indirect lists, lists for some reasons only, and
// critical extensions that are not understood.
func readScope(l *x509.RevocationList) (s scope, err error) {
	for _, e := range l.Extensions {
		switch {
		case e.Id.Equal(oidIssuingPoint):
			if s, err = readIssuingPoint(e.Value); err != nil {
				return s, err
			}
		case e.Critical || e.Id.Equal(oidDeltaCRL):
			return s, errCRLKind
		}
	}
	return s, nil
}

func readIssuingPoint(der []byte) (s scope, err error) {
	in := cryptobyte.String(der)
	var point, name cryptobyte.String
	if !in.ReadASN1(&point, cbasn1.SEQUENCE) || !in.Empty() || !point.ReadOptionalASN1(&name, &s.named, contextTag(0)) {
		return s, errCRL
	}
	if s.named {
		s.names = fullName(name)
	}
	for !point.Empty() {
		var value cryptobyte.String
		var tag cbasn1.Tag
		if !point.ReadAnyASN1(&value, &tag) {
			return s, errCRL
		}
		set := len(value) == 1 && value[0] != 0
		switch tag {
		case cbasn1.Tag(1).ContextSpecific():
			s.user = set
		case cbasn1.Tag(2).ContextSpecific():
			s.ca = set
		default: // onlySomeReasons, indirectCRL, onlyContainsAttributeCerts
			if set || tag == cbasn1.Tag(3).ContextSpecific() {
				return s, errCRLKind
			}
		}
	}
	return s, nil
}

// covers tells whether the list would name cert. A list of a distribution
// point that the certificate does not name is another one, perhaps put in the
// place of the right one.
func (s scope) covers(cert *x509.Certificate) bool {
	if s.user && cert.IsCA || s.ca && !cert.IsCA {
		return false
	}
	urls := crlURLs(cert)
	return !s.named || slices.ContainsFunc(s.names, func(n string) bool { return slices.Contains(urls, n) })
}

// says gives "revoked" or "", or false when the list cannot tell. An entry with
// a critical extension can be about somebody else's certificate, and then
// nothing is certain but what the list says about ours (RFC 5280 section 5.3).
func (l *crl) says(cert *x509.Certificate) (word string, ok bool) {
	if !l.scope.covers(cert) {
		return "", false
	}
	certain := true
	for rest := l.revoked; !rest.Empty(); {
		var entry, when, extensions cryptobyte.String
		var tag cbasn1.Tag
		serial := new(big.Int)
		if !rest.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1Integer(serial) || !entry.ReadAnyASN1(&when, &tag) {
			return "", false
		}
		if serial.Cmp(cert.SerialNumber) == 0 {
			return "revoked", true
		}
		if !entry.Empty() && (!entry.ReadASN1(&extensions, cbasn1.SEQUENCE) || anyCritical(extensions)) {
			certain = false
		}
	}
	return "", certain
}

func anyCritical(extensions cryptobyte.String) bool {
	for !extensions.Empty() {
		var e, value cryptobyte.String
		critical := false
		if !extensions.ReadASN1(&e, cbasn1.SEQUENCE) || !e.SkipASN1(cbasn1.OBJECT_IDENTIFIER) ||
			!e.ReadOptionalASN1Boolean(&critical, cbasn1.BOOLEAN, false) || !e.ReadASN1(&value, cbasn1.OCTET_STRING) || critical {
			return true
		}
	}
	return false
}
