package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
)

// maxConverted bounds the messages that are re-encoded in seven bits before
// they are signed and encrypted: RFC 8551 section 3.1.2 wants it for hosts
// that take off the encryption and pass the rest on, and it is done in memory.
const maxConverted = 4 << 20

// signature is a detached signature over a MIME part.
type signature struct {
	protocol, micalg string
	part             []byte // the second part of multipart/signed
}

type signing func(content io.Reader) (signature, error)

func signedByPGP(s *openpgp.Secret, at time.Time) signing {
	return func(content io.Reader) (signature, error) {
		armored, micalg, err := s.SignDetached(content, at)
		if err != nil {
			return signature{}, err
		}
		text := bytes.ReplaceAll(bytes.ReplaceAll(armored, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		return signature{"application/pgp-signature", micalg, append([]byte("Content-Type: application/pgp-signature; name=\"signature.asc\"\r\n"+
			"Content-Description: OpenPGP digital signature\r\n"+
			"Content-Disposition: attachment; filename=\"signature.asc\"\r\n"+
			"\r\n"), bytes.TrimSuffix(text, []byte("\r\n"))...)}, nil
	}
}

func signedBySMIME(s *cms.Signer, at time.Time) signing {
	return func(content io.Reader) (signature, error) {
		der, micalg, err := cms.Sign(s, content, at)
		if err != nil {
			return signature{}, err
		}
		part := []byte("Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n" +
			"Content-Transfer-Encoding: base64\r\n" +
			"Content-Disposition: attachment; filename=\"smime.p7s\"\r\n")
		for len(der) > 0 {
			n := min(mimeLine, len(der))
			part = base64.StdEncoding.AppendEncode(append(part, "\r\n"...), der[:n])
			der = der[n:]
		}
		return signature{"application/pkcs7-signature", micalg, part}, nil
	}
}

// signed makes multipart/signed of a MIME part (RFC 1847 section 2.1). It
// begins with its Content-Type field.
func signed(ctx context.Context, part stream, sign signing) (stream, error) {
	var s signature
	err := part.read(ctx, func(r io.Reader) (err error) {
		s, err = sign(r)
		return err
	})
	if err != nil {
		return stream{}, err
	}
	boundary := newBoundary()
	before := "Content-Type: multipart/signed; protocol=\"" + s.protocol + "\";\r\n micalg=" + s.micalg + "; boundary=\"" + boundary + "\"\r\n" +
		"\r\n--" + boundary + "\r\n"
	after := fmt.Appendf(nil, "\r\n--%s\r\n%s\r\n--%s--\r\n", boundary, s.part, boundary)
	return part.between([]byte(before), after), nil
}

// sevenBit re-encodes a message. It is done anew at every opening, to hold
// nothing between them.
func sevenBit(ctx context.Context, h mail.Header, rest stream) (mail.Header, stream, error) {
	var converted mail.Header
	var size int64
	err := rest.read(ctx, func(r io.Reader) error {
		c, body, err := mail.ToSevenBit(h, r, rest.size)
		if err != nil {
			return err
		}
		converted = c
		size, err = io.Copy(io.Discard, body)
		return err
	})
	if err != nil {
		return h, rest, err
	}
	return converted, stream{size, func(ctx context.Context) (io.ReadCloser, error) {
		r, err := rest.open(ctx)
		if err != nil {
			return nil, err
		}
		_, body, err := mail.ToSevenBit(h, stoppable{ctx, r}, rest.size)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		return readCloser{&exactReader{r: body, left: size}, r}, nil
	}}, nil
}

// signedOrSealed reports whether the sender's own program has signed or
// encrypted the message. A second signature around it would say less than
// the first one, and confuse most programs.
func signedOrSealed(h mail.Header) bool {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch media {
	case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	}
	return false
}

// SignedBody signs a message that goes by TLS: multipart/signed, with the
// certificate where there is one, which more programs understand, else with
// the OpenPGP key. The signed part repeats the header (RFC 9788, hp="clear").
// A message that its sender has signed or encrypted, and any message when
// there is no key, is given back as it is. The error is mail.ErrNotSevenBit
// for a message that cannot be signed because hosts on its way may have to
// re-encode it (RFC 3156 section 3, RFC 8551 section 3.1.2).
func SignedBody(ctx context.Context, body Body, pgp *openpgp.Secret, smime *cms.Signer, at time.Time) (Body, error) {
	var sign signing
	switch {
	case smime != nil:
		sign = signedBySMIME(smime, at)
	case pgp != nil:
		sign = signedByPGP(pgp, at)
	default:
		return body, nil
	}
	h, rest, err := body.parted(ctx)
	if err != nil {
		return Body{}, fmt.Errorf("sign a message: %w", err)
	}
	if signedOrSealed(h) {
		return body, nil
	}
	outer := clearHeader(h)
	inner, err := asciiHeader(h)
	if err != nil {
		return Body{}, fmt.Errorf("sign a message: %w", err)
	}
	if body.EightBit {
		if inner, rest, err = sevenBit(ctx, inner, rest); err != nil {
			return Body{}, fmt.Errorf("sign a message: %w", err)
		}
	}
	whole, err := signed(ctx, rest.between(payloadHeader(inner, hpClear, nil), nil), sign)
	if err != nil {
		return Body{}, fmt.Errorf("sign a message: %w", err)
	}
	whole = whole.between(outer, nil)
	return Body{Size: whole.size, UTF8: mail.Has8Bit(outer), Open: whole.open}, nil
}

// clearHeader is the header around a signed message: the message's own,
// without what spoke of its former body.
func clearHeader(h mail.Header) (out []byte) {
	for _, f := range fieldsOf(h) {
		if !f.isStructural() && !f.isTransport() {
			out = append(out, f.raw...)
		}
	}
	return append(out, "MIME-Version: 1.0\r\n"...)
}

// asciiHeader encodes the fields that are to be signed. One that cannot be
// encoded, because of an address, is left outside alone.
func asciiHeader(h mail.Header) (mail.Header, error) {
	if !mail.NeedsSMTPUTF8(h) {
		return h, nil
	}
	var out []byte
	for _, f := range fieldsOf(h) {
		if line := f.ascii(); !mail.Has8Bit(line) {
			out = append(out, line...)
		}
	}
	return parseHeader(append(out, "\r\n"...))
}
