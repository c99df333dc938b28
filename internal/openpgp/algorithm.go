package openpgp

import (
	"crypto"
	"crypto/rsa"
	"strconv"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	minRSABits = 2048
	maxRSABits = 8192
)

// sha1End is when SHA-1 in self-signatures stops to be taken; see the package
// doc.
var sha1End = time.Date(2019, 1, 19, 0, 0, 0, 0, time.UTC)

var curveNames = map[packet.Curve]string{
	packet.CurveNistP256: "P-256", packet.CurveNistP384: "P-384", packet.CurveNistP521: "P-521",
}

// algorithmOf names the algorithm of a key and says, by a word of refusal,
// what is wrong with it.
func algorithmOf(pub *packet.PublicKey) (name, problem string) {
	switch pub.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSAEncryptOnly, packet.PubKeyAlgoRSASignOnly:
		return rsaAlgorithm(pub)
	case packet.PubKeyAlgoDSA:
		return "DSA", WeakAlgorithm
	case packet.PubKeyAlgoElGamal:
		return "ElGamal", WeakAlgorithm
	case packet.PubKeyAlgoX25519:
		return "X25519", ""
	case packet.PubKeyAlgoX448:
		return "X448", ""
	case packet.PubKeyAlgoEd25519:
		return "Ed25519", ""
	case packet.PubKeyAlgoEd448:
		return "Ed448", ""
	}
	var kind, montgomery, edwards string
	switch pub.PubKeyAlgo {
	case packet.PubKeyAlgoECDH:
		kind, montgomery, edwards = "ECDH ", "X25519", "X448"
	case packet.PubKeyAlgoECDSA:
		kind = "ECDSA "
	case packet.PubKeyAlgoEdDSA:
		montgomery, edwards = "Ed25519", "Ed448"
	default:
		return "algorithm " + strconv.Itoa(int(pub.PubKeyAlgo)), Unsupported
	}
	curve, err := pub.Curve()
	switch {
	case err == nil && curve == packet.Curve25519 && montgomery != "":
		return montgomery, ""
	case err == nil && curve == packet.Curve448 && edwards != "":
		return edwards, ""
	case err == nil && kind != "" && curveNames[curve] != "":
		return kind + curveNames[curve], ""
	}
	return kind + string(curve), Unsupported
}

func rsaAlgorithm(pub *packet.PublicKey) (name, problem string) {
	key, ok := pub.PublicKey.(*rsa.PublicKey)
	if !ok {
		return "RSA", Malformed
	}
	bits := key.N.BitLen()
	name = "RSA-" + strconv.Itoa(bits)
	switch {
	case bits < minRSABits || key.E < 3 || key.E%2 == 0 || key.N.Bit(0) == 0:
		return name, WeakAlgorithm
	case bits > maxRSABits:
		return name, Unsupported
	}
	return name, ""
}

var cipherNames = map[packet.CipherFunction]string{
	packet.Cipher3DES: "3DES", packet.CipherCAST5: "CAST5",
	packet.CipherAES128: "AES-128", packet.CipherAES192: "AES-192", packet.CipherAES256: "AES-256",
}

var modeNames = map[packet.AEADMode]string{
	packet.AEADModeEAX: "EAX", packet.AEADModeOCB: "OCB", packet.AEADModeGCM: "GCM",
}

// hashFor is the hash that a key signs with: as strong as the key, and what
// everybody has (RFC 9580 section 5.2.3.6 asks Ed448 for 512 bits).
func hashFor(pub *packet.PublicKey) crypto.Hash {
	switch name, _ := algorithmOf(pub); name {
	case "ECDSA P-521", "Ed448":
		return crypto.SHA512
	case "ECDSA P-384":
		return crypto.SHA384
	}
	return crypto.SHA256
}

// micalgNames are the values of RFC 3156 section 5.
var micalgNames = map[crypto.Hash]string{
	crypto.SHA256: "pgp-sha256", crypto.SHA384: "pgp-sha384", crypto.SHA512: "pgp-sha512",
}

// weakHash reports whether a self-signature's hash is too weak for its age.
func weakHash(s *packet.Signature) bool {
	return s.Hash == crypto.SHA1 && !s.CreationTime.Before(sha1End)
}

// weakHashID reports whether a signature that go-crypto does not read has a
// hash that is too weak: MD5, SHA-1, RIPEMD-160, or any hash of version 3.
func weakHashID(body []byte) bool {
	return len(body) > 3 && (body[0] < 4 || body[3] >= 1 && body[3] <= 3)
}
