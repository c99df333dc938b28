package dkim

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
)

// Signer signs for one domain with one key.
type Signer struct {
	Domain   string
	Selector string
	key      crypto.Signer
}

// signed are the fields that a signature covers: those that readers are shown
// or that programs act on (RFC 6376 section 5.4.1), among them the two of
// one-click unsubscription, which RFC 8058 section 4 wants signed. One that is
// marked is covered once more than it is there, so that nobody can add it:
// readers and programs may show the one that was added.
var signed = []struct {
	name string
	over bool
}{
	{"From", true}, {"Subject", true}, {"To", true}, {"Cc", true}, {"Date", true}, {"Reply-To", true},
	{"Message-ID", false}, {"In-Reply-To", false}, {"References", false},
	{"MIME-Version", false}, {"Content-Type", true}, {"Content-Transfer-Encoding", false}, {"Content-Disposition", false},
	{"Content-ID", false}, {"Content-Description", false}, {"Content-Language", false},
	{"List-Unsubscribe", false}, {"List-Unsubscribe-Post", false}, {"List-ID", false}, {"Auto-Submitted", false},
}

// Sign reads a message and gives the fields that go on top of it: one
// DKIM-Signature for each signer. A message with a bare CR or LF has no
// canonical form that two programs agree on, and is an error.
func Sign(r io.Reader, signers []Signer, at time.Time) ([]byte, error) {
	in := bufio.NewReaderSize(mail.NewStrictReader(r), 32<<10)
	head, err := readHeader(in)
	if err != nil {
		return nil, fmt.Errorf("sign for the domain: %w", err)
	}
	body := newBodyHash()
	if _, err := in.WriteTo(body); err != nil {
		return nil, fmt.Errorf("sign for the domain: %w", err)
	}
	names, canonical := cover(fieldsOf(head))
	bodySum := base64.StdEncoding.EncodeToString(body.Sum())
	var out []byte
	for _, s := range signers {
		field, err := s.sign(names, canonical, bodySum, at)
		if err != nil {
			return nil, fmt.Errorf("sign for the domain: %w", err)
		}
		out = append(out, field...)
	}
	return out, nil
}

// readHeader reads up to the empty line, or to the end.
func readHeader(in *bufio.Reader) ([]byte, error) {
	var head []byte
	for start := 0; ; {
		part, err := in.ReadSlice('\n')
		head = append(head, part...)
		switch {
		case len(head) > mail.MaxHeaderBytes:
			return nil, errors.New("the header is too large")
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case bytes.Equal(head[start:], crlf):
			return head[:start], nil
		case err != nil:
			return head, nil
		}
		start = len(head)
	}
}

// fieldsOf parts a header; each field has its folds. What has no colon is
// none, and is covered by nothing.
func fieldsOf(head []byte) (fields [][]byte) {
	for len(head) > 0 {
		end := 0
		for {
			i := bytes.IndexByte(head[end:], '\n')
			if i < 0 {
				end = len(head)
				break
			}
			end += i + 1
			if end == len(head) || head[end] != ' ' && head[end] != '\t' {
				break
			}
		}
		if bytes.IndexByte(head[:end], ':') > 0 {
			fields = append(fields, head[:end])
		}
		head = head[end:]
	}
	return fields
}

// cover gives the h= tag and the canonical form of what it names: of fields of
// one name the last comes first (RFC 6376 section 5.4.2).
func cover(fields [][]byte) (names string, canonical []byte) {
	var h []string
	for _, f := range signed {
		for i := len(fields) - 1; i >= 0; i-- {
			name, _, _ := bytes.Cut(fields[i], []byte(":"))
			if strings.EqualFold(string(bytes.TrimRight(name, " \t")), f.name) {
				h = append(h, strings.ToLower(f.name))
				canonical = relaxed(canonical, fields[i])
			}
		}
		if f.over {
			h = append(h, strings.ToLower(f.name))
		}
	}
	return strings.Join(h, ":"), canonical
}

// sign makes one field. There is no x=: mail that is read late should still
// prove where it came from, and the key's own end bounds what can be replayed.
func (s Signer) sign(names string, canonical []byte, bodySum string, at time.Time) ([]byte, error) {
	algorithm, how := "rsa-sha256", crypto.SignerOpts(crypto.SHA256)
	if _, ok := s.key.Public().(ed25519.PublicKey); ok {
		algorithm, how = "ed25519-sha256", crypto.Hash(0) // RFC 8463 section 3: the digest itself is signed
	}
	field := make([]byte, 0, 1024)
	field = append(field, "DKIM-Signature: v=1; a="+algorithm+"; c=relaxed/relaxed; d="+s.Domain+";\r\n s="+s.Selector+
		"; t="+strconv.FormatInt(at.Unix(), 10)+";\r\n h="...)
	field = appendFolded(field, names, ":")
	field = append(field, ";\r\n bh="+bodySum+";\r\n b="...)

	digest := sha256.New()
	digest.Write(canonical)
	own := relaxed(nil, field)
	digest.Write(own[:len(own)-2]) // RFC 6376 section 3.7: without its line end
	signature, err := s.key.Sign(rand.Reader, digest.Sum(nil), how)
	if err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString(signature)
	for len(text) > 72 {
		field, text = append(field, text[:72]+"\r\n  "...), text[72:]
	}
	return append(field, text+"\r\n"...), nil
}

// appendFolded folds a list behind its separators.
func appendFolded(dst []byte, list, separator string) []byte {
	line := len(" h=")
	for part := range strings.SplitAfterSeq(list, separator) {
		if line+len(part) > 74 {
			dst, line = append(dst, "\r\n  "...), 2
		}
		dst, line = append(dst, part...), line+len(part)
	}
	return dst
}
