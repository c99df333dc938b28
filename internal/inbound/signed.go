package inbound

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

const (
	signedMax   = 1 << 20 // octets of a signed mail that teaches a certificate
	readingMax  = 4       // such mails looked at, at once
	judgingMax  = 4       // certificates judged, at once: authorities may hang
	judgeWithin = time.Minute
)

// shown is what an S/MIME signature shows of its author.
type shown struct {
	bundle       []byte // certificates in DER: that to write to, and those of authorities
	capabilities []string
}

// signature reads the signature of a mail whose author is proved. Nothing hangs
// on it either: what is too large, or comes when there is no room, is passed by.
func (c *checks) signature(body func() io.Reader) {
	media, _, _ := strings.Cut(strings.ToLower(c.header.Get("Content-Type")), ";")
	if media = strings.TrimSpace(media); media != "multipart/signed" && !isPKCS7(media) || c.author.IsZero() || !c.m.reading.TryAcquire(1) {
		return
	}
	defer c.m.reading.Release(1)
	raw, err := io.ReadAll(io.LimitReader(io.MultiReader(bytes.NewReader(c.header.Bytes()), body()), signedMax+1))
	if err == nil && len(raw) <= signedMax {
		c.shown = readSigned(raw, c.author)
	}
}

// keepShown hands the certificates on. Whether they can be used authorities are
// asked for over the network, so it waits for nobody.
func (c *checks) keepShown() {
	if c.shown.bundle == nil || !c.m.judging.TryAcquire(1) {
		return
	}
	c.m.keeping.Go(func() {
		defer c.m.judging.Release(1)
		ctx, cancel := context.WithTimeout(c.m.running, judgeWithin)
		defer cancel()
		c.aside(func() { c.keep(ctx, policy.SMIME, c.shown.bundle, c.shown.capabilities...) })
	})
}

// readSigned gives what a mail shows that one signature covers whole (RFC 8551
// sections 3.5.2 and 3.5.3), made with a certificate that names the author.
func readSigned(raw []byte, author mail.Address) shown {
	p, err := mail.ReadPart(raw)
	if err != nil || p.Ambiguous {
		return shown{}
	}
	s := verified(p)
	if s == nil || len(s.Signatures) != 1 {
		return shown{}
	}
	one := s.Signatures[0]
	if one.Status != cms.SignatureValid || one.Encryption == nil || !names(one.Certificate, author) || !names(one.Encryption, author) {
		return shown{}
	}
	bundle := bytes.Clone(one.Encryption.Raw)
	for _, c := range s.Certificates {
		if c.IsCA && !c.Equal(one.Encryption) && len(certs.Addresses(c)) == 0 {
			bundle = append(bundle, c.Raw...)
		}
	}
	return shown{bundle, one.Capabilities}
}

// verified checks the signatures over the content as it came, or gives nil.
func verified(p mail.Part) *cms.Signed {
	signature, detached := p, io.Reader(nil)
	if p.Media == "multipart/signed" {
		parts, ok := p.Parts(3)
		if !ok || len(parts) != 2 || parts[1].Ambiguous || !isSignature(parts[1].Media) || !isSignature(strings.ToLower(p.Params["protocol"])) {
			return nil
		}
		signature, detached = parts[1], bytes.NewReader(parts[0].Raw)
	} else if !isPKCS7(p.Media) {
		return nil
	}
	der, ok := signature.Content()
	if !ok {
		return nil
	}
	s, err := cms.Verify(der, detached, signedMax)
	// A detached signature that brings content is over that one, and not over
	// what is shown.
	if err != nil || (s.Content != nil) != (detached == nil) {
		return nil
	}
	return s
}

func names(c *x509.Certificate, a mail.Address) bool {
	return slices.ContainsFunc(certs.Addresses(c), func(named mail.Address) bool { return named.Normal() == a.Normal() })
}

func isPKCS7(media string) bool {
	return media == "application/pkcs7-mime" || media == "application/x-pkcs7-mime"
}

func isSignature(media string) bool {
	return media == "application/pkcs7-signature" || media == "application/x-pkcs7-signature"
}
