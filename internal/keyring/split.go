package keyring

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"

	"github.com/emersion/go-vcard"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

const (
	maxImport = 64 << 20 // octets handed in at once
	maxPieces = 20_000   // keys in them
	maxCard   = 1 << 20  // octets of one line of a vCard
)

// piece is one key of what was handed in, or why there is none.
type piece struct {
	kind    policy.Seal // empty: it is not known
	m       *material
	refused *fault.Fault
}

var (
	errNoKey   = fault.New(fault.Invalid, "not_a_key", "This is neither an OpenPGP key nor a certificate in PEM, DER or PKCS #7 nor a vCard with keys.")
	errTooMuch = fault.Newf(fault.TooLarge, "too_large", "At most %d MiB and %d keys are imported at once.", maxImport>>20, maxPieces)
	errNoKeys  = fault.New(fault.Invalid, "no_key", "The vCard holds no key.")
	errSecret  = fault.New(fault.Invalid, "secret_key", "This holds a secret key. Give the public part only; \"sealpost identity import\" takes your own secret keys.")
)

var (
	armorBegin = []byte("-----BEGIN PGP ")
	armorKey   = []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")
	armorEnd   = []byte("-----END PGP PUBLIC KEY BLOCK-----")
	pemBegin   = []byte("-----BEGIN ")
	cardBegin  = []byte("BEGIN:VCARD")
)

// split tells what was handed in and takes it apart, key by key, so that one
// bad key spoils no other.
func split(data []byte) ([]piece, error) {
	if len(data) > maxImport {
		return nil, errTooMuch
	}
	pieces, err := splitKind(data)
	switch {
	case err != nil:
		return nil, err
	case len(pieces) > maxPieces:
		return nil, errTooMuch
	case len(pieces) == 0:
		return nil, errNoKey
	}
	return pieces, nil
}

func splitKind(data []byte) ([]piece, error) {
	text := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case len(text) == 0:
		return nil, errNoKey
	case len(text) >= len(cardBegin) && bytes.EqualFold(text[:len(cardBegin)], cardBegin):
		return splitCards(text)
	case bytes.Contains(text, []byte("PRIVATE KEY-----")) || bytes.Contains(text, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----")):
		return nil, errSecret
	case bytes.Contains(text, armorBegin):
		return splitArmor(text), nil
	case bytes.Contains(text, pemBegin), data[0] == 0x30:
		return certificatePieces(data), nil
	case data[0]&0x80 != 0:
		return splitPackets(data), nil
	}
	return nil, errNoKey
}

func certificatePieces(data []byte) []piece {
	list, err := certs.Read(data)
	if err != nil {
		return []piece{{kind: policy.SMIME, refused: refusal(err)}}
	}
	var all []piece
	for _, m := range recipients(list) {
		all = append(all, piece{kind: policy.SMIME, m: m})
	}
	if len(all) == 0 { // authorities only
		all = append(all, piece{kind: policy.SMIME, refused: fault.New(fault.Refused, "no_address", "")})
	}
	return all
}

// splitArmor takes blocks apart. What cannot be decoded here is left to
// package openpgp to refuse.
func splitArmor(text []byte) (all []piece) {
	found := false
	for len(all) <= maxPieces {
		i := bytes.Index(text, armorKey)
		if i < 0 {
			break
		}
		found = true
		block := text[i:]
		inner, rest, ends := bytes.Cut(block[len(armorKey):], armorEnd)
		if !ends {
			return append(all, keyPieces(block)...)
		}
		text = rest
		whole := block[:len(block)-len(rest)]
		if packets, ok := dearmor(inner); ok {
			all = append(all, splitPackets(packets)...)
		} else {
			all = append(all, keyPieces(whole)...)
		}
	}
	if !found {
		return keyPieces(text)
	}
	return all
}

// dearmor decodes what stands between the lines of an armored block (RFC 9580
// section 6.2): header lines, an empty line, base64 and perhaps a checksum.
func dearmor(inner []byte) ([]byte, bool) {
	lines := bytes.Split(inner, []byte("\n"))
	body := make([]byte, 0, len(inner))
	headers := true
	for _, line := range lines[1:] {
		line = bytes.TrimSpace(line)
		switch {
		case headers && len(line) == 0:
			headers = false
		case headers && bytes.Contains(line, []byte(": ")):
		case len(line) > 0 && line[0] == '=':
			// the checksum protects nothing and is not asked for any more
		default:
			headers = false
			body = append(body, line...)
		}
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Decode(out, body)
	return out[:n], err == nil
}

// tagPublicKey is the tag of the packet that a key begins with (RFC 9580
// section 5).
const tagPublicKey = 6

// splitPackets cuts a key ring at each public-key packet (RFC 9580 section
// 10.1).
func splitPackets(data []byte) (all []piece) {
	start, at := 0, 0
	for at < len(data) && len(all) <= maxPieces {
		tag, next, ok := packet(data, at)
		if !ok {
			break
		}
		if tag == tagPublicKey && at > start {
			all = append(all, keyPieces(data[start:at])...)
			start = at
		}
		at = next
	}
	return append(all, keyPieces(data[start:])...)
}

// packet gives the tag of the packet at a place and where the next one begins
// (RFC 9580 section 4.2). Lengths that are told in parts are not for keys.
func packet(data []byte, at int) (tag byte, next int, ok bool) {
	head := data[at]
	rest := data[at+1:]
	var size, n int
	switch {
	case head&0xc0 == 0xc0 && len(rest) >= 1:
		tag = head & 0x3f
		switch l := rest[0]; {
		case l < 192:
			size, n = int(l), 1
		case l < 224 && len(rest) >= 2:
			size, n = (int(l)-192)<<8+int(rest[1])+192, 2
		case l == 255 && len(rest) >= 5:
			size, n = int(rest[1])<<24|int(rest[2])<<16|int(rest[3])<<8|int(rest[4]), 5
		default:
			return 0, 0, false
		}
	case head&0xc0 == 0x80:
		tag, n = head>>2&0xf, 1<<(head&3)
		if n > 4 || len(rest) < n {
			return 0, 0, false
		}
		for _, b := range rest[:n] {
			size = size<<8 | int(b)
		}
	default:
		return 0, 0, false
	}
	next = at + 1 + n + size
	return tag, next, next > at && next <= len(data)
}

func keyPieces(data []byte) (all []piece) {
	keys, err := openpgp.ReadKeys(data)
	if err != nil {
		return []piece{{kind: policy.PGP, refused: refusal(err)}}
	}
	for _, k := range keys {
		all = append(all, piece{kind: policy.PGP, m: pgpMaterial(k)})
	}
	return all
}

// splitCards reads the keys of vCards (RFC 6350 section 6.8.1, RFC 2426
// section 3.7.2).
func splitCards(text []byte) (all []piece, err error) {
	cards := vcard.NewDecoder(bytes.NewReader(unfold(text)))
	for len(all) <= maxPieces {
		card, err := cards.Decode()
		if err == io.EOF {
			break
		}
		if err != nil {
			all = append(all, piece{refused: fault.New(fault.Refused, wordMalformed, "The vCard cannot be read.")})
			break
		}
		for _, field := range card[vcard.FieldKey] {
			all = append(all, cardPieces(field)...)
		}
	}
	if len(all) == 0 {
		return nil, errNoKeys
	}
	return all, nil
}

// unfold joins lines that were folded (RFC 6350 section 3.2). The library does
// it too, but a long value would cost it quadratic time.
func unfold(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		j := i
		if text[j] == '\r' && j+1 < len(text) && text[j+1] == '\n' {
			j++
		}
		if text[j] == '\n' && j+1 < len(text) && (text[j+1] == ' ' || text[j+1] == '\t') {
			i = j + 1
			continue
		}
		out = append(out, text[i])
	}
	return out
}

// cardPieces decodes one KEY: a data URI, or base64 with the encoding stated.
// What is only named by a URI is not fetched.
func cardPieces(field *vcard.Field) []piece {
	value := strings.TrimSpace(field.Value)
	refused := func(word string) []piece { return []piece{{refused: fault.New(fault.Refused, word, "")}} }
	if len(value) > maxCard {
		return refused("too_large")
	}
	if strings.HasPrefix(value, "-----BEGIN") {
		return dataPieces([]byte(strings.ReplaceAll(value, `\n`, "\n")))
	}
	if strings.HasPrefix(strings.ToLower(value), "data:") {
		head, body, ok := strings.Cut(value, ",")
		if !ok || !strings.HasSuffix(strings.ToLower(head), ";base64") {
			return refused(wordUnsupported)
		}
		value = body
	} else if strings.Contains(value, ":") {
		return refused(wordUnsupported) // a reference to elsewhere
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Map(func(r rune) rune {
		if r == ' ' || r == '\\' {
			return -1
		}
		return r
	}, value))
	if err != nil {
		return refused(wordMalformed)
	}
	return dataPieces(raw)
}

func dataPieces(raw []byte) []piece {
	if bytes.HasPrefix(bytes.ToUpper(bytes.TrimSpace(raw[:min(len(raw), 64)])), cardBegin) {
		return []piece{{refused: fault.New(fault.Refused, wordMalformed, "")}}
	}
	pieces, err := splitKind(raw)
	if err != nil {
		return []piece{{refused: fault.New(fault.Refused, fault.From(err).Reason, "")}}
	}
	return pieces
}
