package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/sealpost/sealpost/internal/dkim"
)

// DomainSignature is what stands on top of a message that is signed for the
// domain it comes from (DKIM), and what made it: a message that is re-encoded
// for a host is signed anew.
type DomainSignature struct {
	fields  []byte
	signers []dkim.Signer
	at      time.Time
}

// Bytes is the memory it holds.
func (s *DomainSignature) Bytes() int64 { return int64(len(s.fields)) }

// SignForDomain signs a message as it is. It reads all of it once.
func SignForDomain(ctx context.Context, body Body, signers []dkim.Signer, at time.Time) (*DomainSignature, error) {
	s := &DomainSignature{signers: signers, at: at}
	err := stream{body.Size, body.Open}.read(ctx, func(r io.Reader) (err error) {
		s.fields, err = dkim.Sign(r, signers, at)
		return err
	})
	return s, err
}

// With puts a signature on the message that it was made for.
func (b Body) With(s *DomainSignature) Body {
	unsigned := b
	whole := stream{b.Size, b.Open}.between(s.fields, nil)
	b.Size, b.Open, b.unsigned, b.signature = whole.size, whole.open, &unsigned, s
	return b
}

// SignedForDomain is the artifact with a signature of each signer.
func (a *Artifact) SignedForDomain(ctx context.Context, signers []dkim.Signer, at time.Time) (*Artifact, error) {
	if len(signers) == 0 {
		return a, nil
	}
	s, err := SignForDomain(ctx, a.body, signers, at)
	if err != nil {
		return nil, err
	}
	signed := *a
	signed.body = a.body.With(s)
	return &signed, nil
}

// again signs a message in another form, which it holds in memory.
func (s *DomainSignature) again(head []byte, body io.Reader) (io.Reader, error) {
	rest, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	fields, err := dkim.Sign(io.MultiReader(bytes.NewReader(head), bytes.NewReader(rest)), s.signers, s.at)
	if err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(fields), bytes.NewReader(head), bytes.NewReader(rest)), nil
}

// sevenBitForm gives the re-encoded message with the signatures that are due.
func (b Body) sevenBitForm(ctx context.Context) (io.ReadCloser, error) {
	source := b
	if b.unsigned != nil {
		source = *b.unsigned
	}
	r, head, body, err := source.converted(ctx)
	if err != nil {
		return nil, err
	}
	if b.signature == nil {
		return readCloser{io.MultiReader(bytes.NewReader(head), body), r}, nil
	}
	whole, err := b.signature.again(head, body)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return readCloser{whole, r}, nil
}
