//go:build thunderbird

package thunderbird

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

// What the letter says, and what must come back.
const (
	subject  = "Your results, Größe 37"
	text     = "Dear Pat,\n\npotassium is 4.1 mmol/l. Grüße\n\nAda"
	filename = "Größe.csv"
	file     = "value;unit\r\n4.1;mmol/l\r\n"
)

// letter is the message as its sender's program wrote it.
func (p *people) letter() []byte {
	return []byte("From: Ada Byron <" + sender + ">\r\n" +
		"To: Pat Patient <" + recipient + ">\r\n" +
		"Subject: =?UTF-8?Q?Your_results,_Gr=C3=B6=C3=9Fe_37?=\r\n" +
		"Date: " + mail.FormatDate(p.at) + "\r\n" +
		"Message-ID: <letter@clinic.example>\r\n" +
		"MIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"limit\"\r\n" +
		"\r\n" +
		"--limit\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n" +
		"\r\n" +
		strings.ReplaceAll(text, "\n", "\r\n") + "\r\n" +
		"--limit\r\n" +
		"Content-Type: text/csv; charset=us-ascii\r\n" +
		"Content-Disposition: attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.csv\r\n" +
		"\r\n" +
		file +
		"\r\n--limit--\r\n")
}

func bodyOf(text []byte) seal.Body {
	return seal.Body{Size: int64(len(text)), EightBit: mail.Has8Bit(text), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	}}
}

func octets(ctx context.Context, open func(context.Context) (io.ReadCloser, error)) ([]byte, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(r)
	return all, errors.Join(err, r.Close())
}

func (p *people) pgp(ctx context.Context, to *openpgp.Secret, signer *openpgp.Secret) ([]byte, error) {
	b, err := seal.PGPBatch(ctx, bodyOf(p.letter()), to.Public().Version() == 6, signer, p.at)
	if err != nil {
		return nil, err
	}
	a, err := seal.PGP(b, p.ada, p.pat, policy.None, to.Public(), p.at)
	if err != nil {
		return nil, err
	}
	return octets(ctx, a.Open)
}

func (p *people) smime(ctx context.Context, to identity, c cms.Cipher, wrap cms.WrapOptions, signer *cms.Signer) ([]byte, error) {
	b, err := seal.SMIMEBatch(ctx, bodyOf(p.letter()), c, signer, p.at)
	if err != nil {
		return nil, err
	}
	a, err := seal.SMIME(b, p.ada, p.pat, policy.None, to.cert, wrap)
	if err != nil {
		return nil, err
	}
	return octets(ctx, a.Open)
}

func (p *people) triple(ctx context.Context, to, from identity) ([]byte, error) {
	b, err := seal.SMIMEBatch(ctx, bodyOf(p.letter()), cms.AES256CBC, from.signer(false), p.at)
	if err != nil {
		return nil, err
	}
	a, err := seal.SMIMETriple(ctx, b, p.ada, p.pat, policy.None, to.cert, cms.WrapOptions{}, from.signer(false), p.at)
	if err != nil {
		return nil, err
	}
	return octets(ctx, a.Open)
}

func (p *people) signed(ctx context.Context, pgp *openpgp.Secret, smime *cms.Signer) ([]byte, error) {
	b, err := seal.SignedBody(ctx, bodyOf(p.letter()), pgp, smime, p.at)
	if err != nil {
		return nil, err
	}
	return octets(ctx, b.Open)
}
