package seal

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// SMIME seals to one recipient's certificate (RFC 8551 sections 3.3 and 3.4).
// An error is a fault of kind Refused when the certificate cannot be used.
func SMIME(b *Batch, from, to mail.Address, floor policy.Grade, cert *x509.Certificate, wrap cms.WrapOptions) (*Artifact, error) {
	part, content, err := b.enveloped(cert, wrap)
	if err != nil {
		return nil, err
	}
	return b.artifact(from, to, floor, part, content, nil), nil
}

// SMIMETriple seals as SMIME does and signs what came of it: together with a
// signature inside this is the triple wrapping of RFC 2634 section 1.1. It
// costs a signature for every recipient.
func SMIMETriple(ctx context.Context, b *Batch, from, to mail.Address, floor policy.Grade, cert *x509.Certificate, wrap cms.WrapOptions, signer *cms.Signer, at time.Time) (*Artifact, error) {
	part, content, err := b.enveloped(cert, wrap)
	if err != nil {
		return nil, err
	}
	wrapped, err := signed(ctx, content.between(part, nil), signedBySMIME(signer, at))
	if err != nil {
		return nil, fmt.Errorf("sign with S/MIME: %w", err)
	}
	return b.artifact(from, to, floor, nil, wrapped, nil), nil
}

// enveloped gives the header and the body of the encrypted part for one
// recipient.
func (b *Batch) enveloped(cert *x509.Certificate, wrap cms.WrapOptions) ([]byte, stream, error) {
	if b.cms == nil {
		return nil, stream{}, errOtherBatch
	}
	info, err := b.cms.RecipientInfo(cert, wrap)
	if err != nil {
		return nil, stream{}, err
	}
	kind := "enveloped-data"
	if b.cipher == cms.AES256GCM {
		kind = "authEnveloped-data"
	}
	part := []byte("Content-Type: application/pkcs7-mime; smime-type=" + kind + ";\r\n name=\"smime.p7m\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=\"smime.p7m\"\r\n" +
		"\r\n")
	return part, b.ciphertext().between(b.cms.Head(info), nil).inLines(mimeLine, false), nil
}

// SMIMEAlgorithms names what protects an artifact of the batch for this
// certificate.
func (b *Batch) SMIMEAlgorithms(cert *x509.Certificate, wrap cms.WrapOptions) string {
	if b.cms == nil {
		return ""
	}
	return b.cms.Algorithms(cert, wrap)
}
