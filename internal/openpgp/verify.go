package openpgp

import (
	"crypto"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// What is said of a signature.
const (
	SignatureValid       = "valid"
	SignatureInvalid     = "invalid" // not of these octets, or itself expired or from the future
	SignatureUnknownKey  = "unknown_key"
	SignatureExpiredKey  = "expired_key" // expired when the signature was made
	SignatureRevokedKey  = "revoked_key" // revoked before the signature was made, or as compromised at any time
	SignatureWeakHash    = "weak_hash"
	SignatureUnsupported = "unsupported"
)

const (
	maxSignatures    = 16 // of one message
	maxSignatureData = 1 << 20
)

// Signature is the verdict on one signature. Fingerprint is the primary key's
// of the signer, upper-case hex, and stands only where the signer is known;
// KeyID is who the signature says made it.
type Signature struct {
	Status, Fingerprint, KeyID string
	At                         time.Time
}

// signers are the parts of a key that may sign messages; the primary key as a
// subkey bound by its own self-signature.
func (k *key) signers() []subkey {
	var out []subkey
	if self := k.self(); self != nil && k.primary.CanSign() && (!self.sig.FlagsValid || self.sig.FlagSign) {
		out = append(out, subkey{pub: k.primary, bind: &held{sig: &packet.Signature{CreationTime: k.primary.CreationTime}}})
	}
	for _, s := range k.subs {
		if s.bind != nil && s.bind.sig.FlagSign && s.pub.CanSign() {
			out = append(out, s)
		}
	}
	return out
}

// pending is a signature whose octets are being hashed.
type pending struct {
	sig    *packet.Signature
	digest hash.Hash
	octets hash.Hash // where the octets go: digest, behind what makes text canonical
	by     subkey
	key    *key
	out    Signature
}

// prepare reads a signature and finds its maker. The status is empty as long
// as nothing speaks against it.
func prepare(body []byte, signers []Key) *pending {
	p := &pending{}
	got, err := raw{tagSignature, body}.parse()
	sig, ok := got.(*packet.Signature)
	if err != nil || !ok {
		p.out.Status = SignatureInvalid
		if _, unsupported := errors.AsType[unsupportedError](err); unsupported {
			p.out.Status = SignatureUnsupported
		}
		if weakHashID(body) {
			p.out.Status = SignatureWeakHash
		}
		return p
	}
	p.sig, p.out.At = sig, sig.CreationTime.UTC()
	if sig.IssuerKeyId != nil {
		p.out.KeyID = hex([]byte{byte(*sig.IssuerKeyId >> 56), byte(*sig.IssuerKeyId >> 48), byte(*sig.IssuerKeyId >> 40),
			byte(*sig.IssuerKeyId >> 32), byte(*sig.IssuerKeyId >> 24), byte(*sig.IssuerKeyId >> 16),
			byte(*sig.IssuerKeyId >> 8), byte(*sig.IssuerKeyId)})
	}
	switch {
	case sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText:
		p.out.Status = SignatureInvalid
	case sig.Hash == crypto.SHA1:
		p.out.Status = SignatureWeakHash
	case critical(sig):
		p.out.Status = SignatureUnsupported
	case !p.find(signers):
		p.out.Status = SignatureUnknownKey
	case p.key.problem != "" || p.by.problem != "":
		p.out.Status = SignatureUnsupported
	default:
		p.hash()
	}
	return p
}

func (p *pending) find(signers []Key) bool {
	for _, k := range signers {
		if k.k == nil {
			continue
		}
		if k.k.problem != "" && p.sig.CheckKeyIdOrFingerprint(k.k.primary) { // nothing more of it was read
			p.key, p.out.Fingerprint = k.k, k.Fingerprint()
			return true
		}
		for _, s := range k.k.signers() {
			if p.sig.CheckKeyIdOrFingerprint(s.pub) {
				p.key, p.by, p.out.Fingerprint = k.k, s, k.Fingerprint()
				return true
			}
		}
	}
	return false
}

func (p *pending) hash() {
	var err error
	if p.digest, err = p.sig.PrepareVerify(); err != nil {
		p.out.Status = SignatureUnsupported
		return
	}
	// Only the text is made canonical, not what the signature adds to it.
	if p.octets = p.digest; p.sig.SigType == packet.SigTypeText {
		p.octets = openpgp.NewCanonicalTextHash(p.digest)
	}
}

// verdict is given when all octets went through digest.
func (p *pending) verdict(at time.Time) Signature {
	if p.out.Status != "" {
		return p.out
	}
	err := library(func() error { return p.by.pub.VerifySignature(p.digest, p.sig) })
	made := p.sig.CreationTime
	switch {
	case err != nil || p.sig.Version != p.by.pub.Version || made.After(at) || lapsedSignature(p.sig, at):
		p.out.Status = SignatureInvalid
	default:
		p.out.Status = p.signer(made)
	}
	return p.out
}

// signer judges the maker's key as of the signature's time. Later expiry does
// not matter; a revocation that holds for all time does. A self-signature that
// is younger than the signature (the key was renewed since) still speaks.
func (p *pending) signer(made time.Time) string {
	switch {
	case holds(p.key.revoked, made) || holds(p.by.revoked, made):
		return SignatureRevokedKey
	case p.key.self() == nil || made.Before(p.key.primary.CreationTime) || made.Before(p.by.pub.CreationTime):
		return SignatureInvalid
	case lapsed(p.key.expires(), made) || lapsed(lifetime(p.by.pub, p.by.bind.sig), made):
		return SignatureExpiredKey
	}
	return SignatureValid
}

// VerifyDetached gives a verdict on each detached signature, armored or
// binary, over what signed gives.
func VerifyDetached(signed io.Reader, signature []byte, signers []Key, at time.Time) ([]Signature, error) {
	if len(signature) > maxSignatureData {
		return nil, refuse(TooLarge)
	}
	pieces, _, err := blocks(signature, 1)
	if err != nil {
		return nil, err
	}
	var all []*pending
	for data := pieces[0]; len(data) > 0; {
		p, rest, err := nextPacket(data)
		if err != nil {
			return nil, refuse(Malformed).Because(err)
		}
		data = rest
		switch {
		case p.tag == tagMarker || p.tag == tagPadding:
			continue
		case p.tag != tagSignature:
			return nil, refuse(Malformed)
		case len(all) >= maxSignatures:
			return nil, refuse(TooLarge)
		}
		all = append(all, prepare(p.body, signers))
	}
	if len(all) == 0 {
		return nil, refuse(Malformed)
	}
	var into []io.Writer
	for _, p := range all {
		if p.octets != nil {
			into = append(into, p.octets)
		}
	}
	if len(into) == 0 {
		into = append(into, io.Discard)
	}
	if _, err := io.Copy(io.MultiWriter(into...), signed); err != nil {
		return nil, err
	}
	return verdicts(all, at), nil
}

func verdicts(all []*pending, at time.Time) []Signature {
	out := make([]Signature, 0, len(all))
	for _, p := range all {
		out = append(out, p.verdict(at))
	}
	return out
}
