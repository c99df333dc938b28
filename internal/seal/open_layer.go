package seal

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// step is what taking one layer off gave.
type step struct {
	taken bool // there was a layer
	inner mail.Part
	layer int
	word  string // why it could not be opened
}

// peel takes layers off a part until there is none. When one cannot be opened,
// word says why and the part is the one that stayed closed.
func (op *opener) peel(p mail.Part, path string, covers []int) (inner mail.Part, under []int, word string) {
	for {
		if protected(p) && (len(covers) >= op.o.Limits.Depth || op.acts >= op.o.Limits.Acts) {
			return p, covers, "too_deep"
		}
		s := op.unwrap(p, path, path == "" && len(covers) == 0)
		if s.layer >= 0 && s.taken {
			if path == "" && len(covers) > 0 {
				op.seeFields(p, covers[len(covers)-1], s.layer)
			}
			covers = append(slices.Clone(covers), s.layer)
		}
		if !s.taken || s.word != "" {
			return p, covers, s.word
		}
		p = s.inner
	}
}

// protected reports whether a part would be opened, from its type alone.
func protected(p mail.Part) bool {
	return p.Media == "multipart/encrypted" || p.Media == "multipart/signed" || isPKCS7(p)
}

// unwrap takes one layer off. Armor in text is looked for in the message as it
// came alone.
func (op *opener) unwrap(p mail.Part, path string, asItCame bool) step {
	switch {
	case p.Ambiguous:
		op.find("ambiguous_structure")
	case p.Media == "multipart/encrypted":
		return op.pgpMIME(p, path)
	case p.Media == "multipart/signed":
		return op.signedMIME(p, path)
	case isPKCS7(p):
		return op.pkcs7(p, path)
	case asItCame && p.Media == "text/plain" && !p.Attached():
		return op.inline(p)
	}
	return step{}
}

// asMIME reads what came out of a layer as MIME.
func asMIME(plain []byte, layer int) step {
	inner, err := mail.ReadPart(canonical(plain))
	if err != nil {
		return step{taken: true, layer: layer, word: "malformed_inside"}
	}
	return step{taken: true, inner: inner, layer: layer}
}

// pgpMIME opens multipart/encrypted (RFC 3156 section 4): exactly two parts,
// the first of which says only which version it is.
func (op *opener) pgpMIME(p mail.Part, path string) step {
	parts, ok := p.Parts(3)
	if !ok || len(parts) != 2 || !strings.EqualFold(p.Params["protocol"], "application/pgp-encrypted") ||
		parts[0].Media != "application/pgp-encrypted" || parts[1].Media != "application/octet-stream" ||
		parts[0].Ambiguous || parts[1].Ambiguous || !strings.EqualFold(strings.TrimSpace(string(parts[0].Body)), "Version: 1") {
		op.find("malformed_protection")
		return step{}
	}
	message, ok := parts[1].Content()
	if !ok {
		op.find("malformed_protection")
		return step{}
	}
	plain, layer, word := op.pgpOpen(message, path, false)
	if word != "" {
		return step{taken: true, layer: layer, word: word}
	}
	return asMIME(plain, layer)
}

// pgpOpen decrypts an OpenPGP message and checks the signatures inside of it.
func (op *opener) pgpOpen(message []byte, path string, inline bool) (plain []byte, layer int, word string) {
	op.acts++
	known := op.signers(op.outer)
	o, err := openpgp.Open(message, op.o.Secrets.PGP, keysOf(known), op.o.At, op.budget(len(message)))
	if err != nil {
		l := Layer{Path: path, Kind: policy.PGP, Act: "encrypted", Inline: inline}
		return nil, op.layer(l, state{encrypted: true}), op.closedBecause(err, len(op.o.Secrets.PGP) > 0, len(message))
	}
	if a := op.innerFrom(o.Plain); !inline && len(o.Signatures) > 0 && !a.IsZero() && a.Normal() != op.outer.Normal() {
		// Who signed is looked up by From, and From stands inside.
		known = append(slices.Clip(known), op.signers(a)...)
		if unknown(o.Signatures) {
			if again, err := openpgp.Open(message, op.o.Secrets.PGP, keysOf(known), op.o.At, op.budget(len(message))); err == nil {
				o = again
			}
		}
	}
	op.left -= int64(len(o.Plain))
	l := Layer{Path: path, Kind: policy.PGP, Act: "signed", Algorithms: o.Algorithms, Opened: true, Inline: inline}
	if o.Encrypted {
		l.Act, l.Integrity, l.Key = "encrypted", o.Integrity, private.NewString(o.Recipient)
		if len(o.Signatures) > 0 {
			l.Act = "encrypted and signed"
		}
	}
	// The package gives nothing whose integrity it has not proved, but what
	// it does not name is not believed either.
	layer = op.layer(l, state{encrypted: o.Encrypted, integrity: o.Integrity == "mdc" || o.Integrity == "aead", signed: len(o.Signatures) > 0})
	op.pgpSignatures(layer, o.Signatures, known)
	return o.Plain, layer, ""
}

// closedBecause gives the word for a message that did not open. Words that
// tell one wrong octet from another would answer an attacker's questions.
func (op *opener) closedBecause(err error, keys bool, size int) string {
	if !keys {
		return "no_secret"
	}
	var f *fault.Fault
	if errors.As(err, &f) {
		switch f.Reason {
		case openpgp.TooLarge:
			op.left -= op.budget(size) // it was read until then
			return "too_large"
		case openpgp.NotProtected:
			return "no_integrity_packet"
		case openpgp.NotForUs, "no_decryption_key": // told from the message alone
			return "other_key"
		}
	}
	return "cannot_decrypt"
}

func unknown(list []openpgp.Signature) bool {
	return slices.ContainsFunc(list, func(s openpgp.Signature) bool { return s.Status == "unknown_key" })
}

func keysOf(list []SignerKey) (keys []openpgp.Key) {
	for _, k := range list {
		if !slices.ContainsFunc(keys, func(other openpgp.Key) bool { return bytes.Equal(other.Bytes(), k.Key.Bytes()) }) {
			keys = append(keys, k.Key)
		}
	}
	return keys
}

// signers looks up the keys of an address once.
func (op *opener) signers(a mail.Address) []SignerKey {
	if a.IsZero() || op.o.Signers == nil {
		return nil
	}
	if list, ok := op.keys[a.Normal()]; ok {
		return list
	}
	list, err := op.o.Signers(a)
	if err != nil {
		op.find("signers_unavailable")
		list = nil
	}
	op.keys[a.Normal()] = list
	return list
}

// pgpSignatures takes note of who signed a layer.
func (op *opener) pgpSignatures(layer int, list []openpgp.Signature, known []SignerKey) {
	for _, s := range list {
		signer := Signer{Layer: layer, Kind: policy.PGP, Status: s.Status, At: s.At, Fingerprint: private.NewString(s.Fingerprint)}
		if s.Fingerprint == "" {
			signer.Fingerprint = private.NewString(s.KeyID)
		}
		for _, k := range known {
			if s.Fingerprint != "" && k.Key.Fingerprint() == s.Fingerprint {
				signer.names = append(signer.names, name{k.Address, k.Tier})
			}
		}
		if s.Status == "valid" {
			op.states[layer].valid = true
		}
		op.out.Verdict.Signers = append(op.out.Verdict.Signers, signer)
	}
}

// signedMIME checks multipart/signed (RFC 1847): the signature covers exactly
// the octets of the first of two parts, and nothing else is shown.
func (op *opener) signedMIME(p mail.Part, path string) step {
	parts, ok := p.Parts(3)
	if !ok || len(parts) != 2 || parts[1].Ambiguous {
		op.find("malformed_protection")
		return step{}
	}
	signature, ok := parts[1].Content()
	protocol := strings.ToLower(p.Params["protocol"])
	switch {
	case !ok:
	case protocol == "application/pgp-signature" && parts[1].Media == protocol:
		return op.pgpDetached(parts[0], parts[0].Raw, signature, path, false)
	case isPKCS7Signature(protocol) && isPKCS7Signature(parts[1].Media):
		return op.cmsDetached(parts[0], signature, path)
	}
	op.find("malformed_protection")
	return step{}
}

func isPKCS7Signature(media string) bool {
	return media == "application/pkcs7-signature" || media == "application/x-pkcs7-signature"
}

func (op *opener) pgpDetached(inner mail.Part, signed, signature []byte, path string, inline bool) step {
	op.acts++
	known := op.signers(op.outer)
	if a := op.innerFrom(inner.Raw); !inline && !a.IsZero() && a.Normal() != op.outer.Normal() {
		known = append(slices.Clip(known), op.signers(a)...)
	}
	list, err := openpgp.VerifyDetached(bytes.NewReader(canonical(signed)), signature, keysOf(known), op.o.At)
	if err != nil || len(list) == 0 {
		list = []openpgp.Signature{{Status: "invalid"}}
	}
	layer := op.layer(Layer{Path: path, Kind: policy.PGP, Act: "signed", Opened: true, Inline: inline}, state{signed: true})
	op.pgpSignatures(layer, list, known)
	return step{taken: true, inner: inner, layer: layer}
}

func (op *opener) cmsDetached(inner mail.Part, signature []byte, path string) step {
	op.acts++
	signed := canonical(inner.Raw)
	layer := op.layer(Layer{Path: path, Kind: policy.SMIME, Act: "signed", Opened: true}, state{signed: true})
	s, err := cms.Verify(signature, bytes.NewReader(signed), op.o.Limits.Bytes)
	if err == nil && s.Content != nil {
		// A signature that brings its own content could be checked against
		// that one while the other is shown.
		op.find("signature_with_content")
		s = &cms.Signed{}
	}
	op.cmsSignatures(layer, s, err)
	return step{taken: true, inner: inner, layer: layer}
}

// isPKCS7 recognizes S/MIME by its types and, because of careless gateways, by
// the name that RFC 8551 section 3.2.1 gives the file.
func isPKCS7(p mail.Part) bool {
	switch p.Media {
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	case "application/octet-stream":
		return strings.EqualFold(p.Filename(0), "smime.p7m")
	}
	return false
}

// pkcs7 opens application/pkcs7-mime. What it is its structure says: the
// smime-type is a hint anybody can change.
func (op *opener) pkcs7(p mail.Part, path string) step {
	der, ok := p.Content()
	if !ok {
		op.find("malformed_protection")
		return step{}
	}
	switch cms.KindOf(bytes.NewReader(der)) {
	case cms.KindEnveloped, cms.KindAuthEnveloped:
		return op.cmsDecrypt(der, path)
	case cms.KindSigned:
		return op.cmsOpaque(der, path)
	case cms.KindCompressed:
		return step{taken: true, layer: -1, word: "compressed"}
	}
	op.find("malformed_protection")
	return step{}
}

func (op *opener) cmsDecrypt(der []byte, path string) step {
	op.acts++
	d, err := cms.Decrypt(der, op.o.Secrets.SMIME, op.budget(len(der)))
	if err != nil {
		layer := op.layer(Layer{Path: path, Kind: policy.SMIME, Act: "encrypted"}, state{encrypted: true})
		return step{taken: true, layer: layer, word: op.closedBecause(err, len(op.o.Secrets.SMIME) > 0, len(der))}
	}
	op.left -= int64(len(d.Plain))
	l := Layer{Path: path, Kind: policy.SMIME, Act: "encrypted", Algorithms: d.Algorithms, Integrity: d.Integrity, Opened: true}
	if d.Recipient != nil {
		l.Key = private.NewString(thumb(d.Recipient))
	}
	proved := d.Integrity != "" && d.Integrity != "none"
	return asMIME(d.Plain, op.layer(l, state{encrypted: true, integrity: proved}))
}

func (op *opener) cmsOpaque(der []byte, path string) step {
	op.acts++
	s, err := cms.Verify(der, nil, op.budget(len(der)))
	if err == nil && s.Content == nil {
		return step{} // certificates alone, which are a file
	}
	layer := op.layer(Layer{Path: path, Kind: policy.SMIME, Act: "signed", Opened: err == nil}, state{signed: true})
	op.cmsSignatures(layer, s, err)
	if err != nil {
		return step{taken: true, layer: layer, word: "cannot_read_signed"}
	}
	op.left -= int64(len(s.Content))
	return asMIME(s.Content, layer)
}

// cmsSignatures takes note of who signed a layer. Without any SignerInfo
// nobody did, however well-formed it is.
func (op *opener) cmsSignatures(layer int, s *cms.Signed, err error) {
	if err != nil || len(s.Signatures) == 0 {
		op.out.Verdict.Signers = append(op.out.Verdict.Signers, Signer{Layer: layer, Kind: policy.SMIME, Status: "invalid"})
		return
	}
	for _, g := range s.Signatures {
		signer := Signer{Layer: layer, Kind: policy.SMIME, Status: g.Status, At: g.At}
		if g.Certificate != nil {
			signer.Fingerprint = private.NewString(thumb(g.Certificate))
			for _, a := range certs.Addresses(g.Certificate) {
				signer.names = append(signer.names, name{address: a})
			}
			signer.certificate, signer.others = g.Certificate, s.Certificates
		}
		if g.Status == "valid" {
			op.states[layer].valid = true
		}
		op.out.Layers[layer].Algorithms = strings.TrimPrefix(op.out.Layers[layer].Algorithms+", "+g.Algorithm+" "+g.Digest, ", ")
		op.out.Verdict.Signers = append(op.out.Verdict.Signers, signer)
	}
}

func thumb(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
