package certs

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/private"
)

// How it was learned that a certificate was not revoked.
const (
	ByOCSP        = "ocsp"
	ByCRL         = "crl"
	NonePublished = "none published"
)

const (
	maxKeep  = 7 * 24 * time.Hour // whatever an issuer says
	retry    = time.Minute        // after nobody could be asked
	skew     = 5 * time.Minute    // by which an issuer's clock may be ahead of ours
	maxKnown = 20_000             // answers in memory
	maxURLs  = 4                  // that are asked about one certificate
)

// answer is what is known about the revocation of one certificate.
type answer struct {
	word   string // "", "revoked" or "revocation_unknown"
	source string // of a good answer
	until  time.Time
}

func (a answer) err() error {
	if a.word == "" {
		return nil
	}
	return refuse(a.word)
}

// key names a certificate by its issuer and serial number, or a CRL.
type key [sha256.Size]byte

func keyOf(parts ...[]byte) key {
	h := sha256.New()
	for _, p := range parts {
		n := len(p)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write(p)
	}
	return key(h.Sum(nil))
}

func certificateKey(cert, issuer *x509.Certificate) key {
	return keyOf([]byte("ocsp"), issuer.RawSubjectPublicKeyInfo, issuer.RawSubject, cert.SerialNumber.Bytes())
}

// publishes tells whether anything says where revocations are published.
func publishes(c *x509.Certificate) bool {
	return len(c.OCSPServer) > 0 || slices.ContainsFunc(c.Extensions, func(e extension) bool {
		return e.Id.Equal(oidCRLPoints) || e.Id.Equal(oidFreshestCRL)
	})
}

// status tells what is known of cert, asking outside when it must. The error
// means that the caller went away.
func (j *Judge) status(ctx context.Context, cert, issuer *x509.Certificate) (answer, error) {
	now := j.deps.Clock.Now()
	if !publishes(cert) {
		return answer{source: NonePublished, until: now.Add(maxKeep)}, nil
	}
	k := certificateKey(cert, issuer)
	if a, ok := j.recall(k, now); ok {
		return a, nil
	}
	// One asks for all, and goes on when the one who began goes away.
	flight := j.flights.DoChan(string(k[:]), func() (_ any, err error) {
		defer private.Recover(&err) // or it ends the node
		a := j.learn(context.WithoutCancel(ctx), cert, issuer, now)
		j.remember(k, a, now)
		return a, nil
	})
	select {
	case r := <-flight:
		a, _ := r.Val.(answer)
		return a, r.Err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// learn asks the OCSP responder, which knows best, and then for the CRL.
func (j *Judge) learn(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) answer {
	if a, ok := j.byOCSP(ctx, cert, issuer, now); ok {
		return a
	}
	if a, ok := j.byCRL(ctx, cert, issuer, now); ok {
		return a
	}
	return answer{word: "revocation_unknown", until: now.Add(retry)}
}

func (j *Judge) recall(k key, now time.Time) (answer, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a, ok := j.known[k]
	return a, ok && now.Before(a.until)
}

func (j *Judge) remember(k key, a answer, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.known) >= maxKnown {
		for k, a := range j.known {
			if !now.Before(a.until) {
				delete(j.known, k)
			}
		}
	}
	if len(j.known) >= maxKnown {
		clear(j.known) // the database still knows
	}
	j.known[k] = a
}

// fresh gives how long something that was signed for a time may be believed,
// or false when it is too old or not valid yet.
func fresh(thisUpdate, nextUpdate, fetched, now time.Time) (time.Time, bool) {
	if thisUpdate.After(now.Add(skew)) || nextUpdate.Before(thisUpdate) {
		return time.Time{}, false
	}
	until := earlier(nextUpdate, fetched.Add(maxKeep))
	return until, until.After(now)
}

// get asks outside. What went wrong is logged with the host alone.
func (j *Judge) get(ctx context.Context, u string, body []byte, bodyType string, max int64) ([]byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, j.deps.Timeout)
	defer cancel()
	data, err := j.deps.Get(ctx, u, body, bodyType, max)
	if err == nil && int64(len(data)) <= max {
		return data, true
	}
	host := ""
	if parsed, err := url.Parse(u); err == nil {
		host = parsed.Hostname()
	}
	j.deps.Log.Warn("The revocation of a certificate cannot be asked", "host", host, "error", err)
	return nil, false
}

func webURL(u string) bool {
	u = strings.ToLower(u)
	return strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")
}

var (
	oidCRLPoints   = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidFreshestCRL = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// crlURLs are the places of complete CRLs by the issuer itself. Distribution
// points for some reasons only, or of another issuer, are left out (RFC 5280
// section 4.2.1.13).
func crlURLs(c *x509.Certificate) (urls []string) {
	i := slices.IndexFunc(c.Extensions, func(e extension) bool { return e.Id.Equal(oidCRLPoints) })
	if i < 0 {
		return nil
	}
	in := cryptobyte.String(c.Extensions[i].Value)
	var points cryptobyte.String
	if !in.ReadASN1(&points, cbasn1.SEQUENCE) {
		return nil
	}
	for !points.Empty() {
		var point, name cryptobyte.String
		var has bool
		if !points.ReadASN1(&point, cbasn1.SEQUENCE) || !point.ReadOptionalASN1(&name, &has, contextTag(0)) {
			return urls
		}
		if has && point.Empty() {
			urls = append(urls, fullName(name)...)
		}
	}
	return urls
}

// fullName gives the URLs of a DistributionPointName.
func fullName(name cryptobyte.String) (urls []string) {
	var names cryptobyte.String
	if !name.ReadASN1(&names, contextTag(0)) {
		return nil
	}
	for !names.Empty() {
		var one cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&one, &tag) {
			return urls
		}
		if tag == cbasn1.Tag(6).ContextSpecific() {
			urls = append(urls, string(one))
		}
	}
	return urls
}
