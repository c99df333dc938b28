package fake

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Opened is what the owner of a mailbox reads of a mail that was sealed to
// their key.
type Opened struct {
	Raw []byte // what was inside, a MIME entity
	By  string // the program that opened it
}

// Why a mail was not opened.
var (
	ErrNotSealed = errors.New("the mail is not sealed to a key")
	ErrNoKey     = errors.New("nobody here has a key for it")
	ErrNoProgram = errors.New("openssl, which would open it, is not installed")
)

const (
	goCryptoName = "ProtonMail go-crypto"
	maxOpened    = 64 << 20
	maxLayers    = 4 // of S/MIME: signed, enveloped, signed
)

// Open opens a mail with the keys of the mailbox it lies in. OpenPGP is read
// by go-crypto, S/MIME by openssl: what opens it shares nothing with what
// sealed it.
func (n *Internet) Open(ctx context.Context, m Message) (Opened, error) {
	kind, err := sealOf(m.Raw)
	if err != nil {
		return Opened{}, err
	}
	h := n.holder(m.To)
	if kind.pgp != nil {
		return openPGP(kind.pgp, h, n.opts.Clock.Now())
	}
	return openSMIME(ctx, kind.smime, h)
}

// sealedPart is the part of a mail that is ciphertext.
type sealedPart struct {
	pgp   []byte
	smime []byte // DER
}

// sealOf finds the ciphertext of RFC 3156 section 4 or RFC 8551 section 3.
func sealOf(raw []byte) (sealedPart, error) {
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return sealedPart{}, ErrNotSealed
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	switch {
	case err != nil:
	case kind == "multipart/encrypted" && strings.EqualFold(params["protocol"], "application/pgp-encrypted"):
		r := multipart.NewReader(msg.Body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return sealedPart{}, ErrNotSealed
			}
			if t, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")); t == "application/octet-stream" {
				body, err := rawBody(p.Header, p)
				return sealedPart{pgp: body}, err
			}
		}
	case isCMS(kind):
		body, err := rawBody(textproto.MIMEHeader(msg.Header), msg.Body)
		return sealedPart{smime: body}, err
	}
	return sealedPart{}, ErrNotSealed
}

func isCMS(kind string) bool {
	return kind == "application/pkcs7-mime" || kind == "application/x-pkcs7-mime"
}

func rawBody(h textproto.MIMEHeader, body io.Reader) ([]byte, error) {
	if strings.EqualFold(strings.TrimSpace(h.Get("Content-Transfer-Encoding")), "base64") {
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	return io.ReadAll(io.LimitReader(body, maxOpened))
}

// openPGP decrypts to the end before it gives anything: integrity is known
// only there.
func openPGP(armored []byte, h holder, now time.Time) (out Opened, err error) {
	var keys openpgp.EntityList
	for _, secret := range h.secrets {
		list, err := readSecret(secret)
		if err != nil {
			return Opened{}, err
		}
		keys = append(keys, list...)
	}
	if len(keys) == 0 {
		return Opened{}, ErrNoKey
	}
	fips140.WithoutEnforcement(func() {
		var md *openpgp.MessageDetails
		md, err = openpgp.ReadMessage(unarmored(armored), keys, nil, &packet.Config{Time: func() time.Time { return now }})
		if err == nil {
			out.Raw, err = io.ReadAll(io.LimitReader(md.UnverifiedBody, maxOpened))
		}
	})
	if err != nil {
		return Opened{}, fmt.Errorf("open with %s: %w", goCryptoName, err)
	}
	out.By = goCryptoName
	return out, nil
}

// openSMIME takes layer after layer off with openssl.
func openSMIME(ctx context.Context, der []byte, h holder) (Opened, error) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		return Opened{}, ErrNoProgram
	}
	dir, err := os.MkdirTemp("", "fake-mailbox-")
	if err != nil {
		return Opened{}, fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	o := openssl{program: program, dir: dir}
	inner := der
	for range maxLayers {
		entity, err := o.layer(ctx, inner, h)
		if err != nil {
			return Opened{}, err
		}
		next, err := sealOf(entity)
		if err != nil || next.smime == nil {
			return Opened{Raw: entity, By: o.version(ctx)}, nil
		}
		inner = next.smime
	}
	return Opened{}, errors.New("too many layers")
}

// openssl runs the program in a folder of its own.
type openssl struct{ program, dir string }

func (o openssl) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, o.program, "version").Output()
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 1 {
		return strings.Join(fields[:2], " ") + " (openssl cms)"
	}
	return "openssl cms"
}

// layer opens what is enveloped, with the first key that does it, or takes the
// content out of what is signed, without a look at the signature.
func (o openssl) layer(ctx context.Context, der []byte, h holder) ([]byte, error) {
	in := filepath.Join(o.dir, "in.der")
	if err := os.WriteFile(in, der, 0o600); err != nil {
		return nil, fmt.Errorf("write a mail: %w", err)
	}
	out, err := o.cms(ctx, "-verify", "-noverify", "-nosigs", "-inform", "DER", "-in", in)
	if err == nil {
		return out, nil
	}
	err = ErrNoKey
	for _, who := range h.smime {
		if err = o.putKey(who); err != nil {
			return nil, err
		}
		// -debug_decrypt has a wrong key fail at once instead of giving noise.
		out, err = o.cms(ctx, "-decrypt", "-debug_decrypt", "-inform", "DER", "-in", in,
			"-recip", filepath.Join(o.dir, "cert.pem"), "-inkey", filepath.Join(o.dir, "key.pem"))
		if err == nil {
			return out, nil
		}
	}
	return nil, err
}

func (o openssl) putKey(who MailIdentity) error {
	der, err := x509.MarshalPKCS8PrivateKey(who.Key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: who.Certificate.Raw},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(o.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return fmt.Errorf("write a key: %w", err)
		}
	}
	return nil
}

func (o openssl) cms(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.program, append([]string{"cms"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("open with openssl cms: %w: %s", err, firstLine(stderr.String()))
	}
	return out, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// unarmored reads an armored or a binary message.
func unarmored(b []byte) io.Reader {
	if block, err := armor.Decode(bytes.NewReader(b)); err == nil {
		return block.Body
	}
	return bytes.NewReader(b)
}
