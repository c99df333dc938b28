// Package openpgp reads and judges other people's OpenPGP keys, makes and
// keeps our own, seals messages to them, and opens and verifies what comes
// back (RFC 9580, and RFC 4880 as GnuPG 2.2 speaks it). All use of
// ProtonMail/go-crypto is in here; it is used packet by packet, because its
// readers of whole keys and messages do unbounded work and give octets before
// their integrity is proved.
//
// Invariants:
//   - Pure: no network, no database, no clock of its own, no logging.
//   - A key that cannot be used is refused with a word and a sentence
//     (fault.Refused); the words are constants of this package. No error holds
//     content, an address or a name.
//   - Only integrity-protected data is made and opened: SEIPDv1 with its MDC,
//     SEIPDv2 with all its tags. Nothing is given before that is proved.
//   - One Content is one key and one ciphertext: the same octets every time,
//     because key, prefix and salt are drawn once.
//   - Work is bounded before it is done: octets, packets, user ids, public-key
//     operations, nesting and decompressed size. What is kept of a key is
//     bounded too.
//
// What is taken as a key:
//   - RSA of 2048 to 8192 bits, NIST P-256, P-384, P-521, Curve25519 and
//     Curve448 in both encodings. DSA and ElGamal are weak_algorithm, also as a
//     primary key. Brainpool curves and secp256k1 are unsupported: go-crypto
//     computes them in variable time and some hundred times slower, which a
//     stranger's key must not make us do. Post-quantum subkeys are passed over,
//     so that a key with a second, classical subkey works.
//   - Self-signatures (user ids, subkeys, direct) by SHA-2 or SHA-3. MD5 and
//     RIPEMD-160 never. SHA-1 only if made before 19 January 2019, the day that
//     GnuPG 2.2 draws too: GnuPG 1.4 and 2.0 signed with SHA-1 by default, and
//     changing the expiry of such a key with GnuPG 2.2 renews the user ids and
//     leaves the subkey's binding as it was made. A collision does not help to
//     forge these: what is hashed are the owner's own key and name, so that it
//     takes a second preimage, and the chosen-prefix attacks came later that
//     year (RFC 9580 section 9.5 allows what predates the known weakness).
//     Newer SHA-1 is weak_algorithm. Revocations count whatever their hash.
//   - Messages signed with SHA-1 are never valid: weak_hash.
//   - The newest valid self-signature speaks for what it is on, and none older.
//     A subkey whose binding has no key flags counts as one for encryption if
//     its algorithm can do that (as GnuPG does); a primary key only with the flag.
//   - A revocation without a reason, or for a compromise, holds for all time;
//     one because the key is superseded or retired from its own time on.
//   - The word revoked is for the whole key alone, that is Key.Revoked: whoever
//     hears it may never use the key again. Where only parts are revoked the
//     key can come back, with another subkey or user id. So a key of which all
//     subkeys for encryption are revoked is no_encryption_key, and one of which
//     the user id is revoked is wrong_address, each with a sentence of its own.
package openpgp

import (
	"crypto/fips140"
	"fmt"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/private"
)

// The words of refusals.
const (
	WeakAlgorithm   = "weak_algorithm"
	NoEncryptionKey = "no_encryption_key"
	Expired         = "expired"
	Revoked         = "revoked"
	WrongAddress    = "wrong_address"
	NotYetValid     = "not_yet_valid"
	TooLarge        = "too_large"
	Malformed       = "malformed"
	Unsupported     = "unsupported"
	SecretGiven     = "secret_key"      // a secret key where a public one belongs
	WrongPassphrase = "passphrase"      // of a secret key: wrong or missing
	NotForUs        = "no_secret_key"   // a message for none of our keys
	NotIntact       = "not_intact"      // a message that does not decrypt, or was changed
	NotProtected    = "no_integrity"    // a message that anybody could have changed
	NoSigningKey    = "no_signing_key"  // a secret key that cannot sign now
	OfflinePrimary  = "offline_primary" // a secret key without its primary part
)

// sentences say what a word means where there is no more to say.
var sentences = map[string]string{
	WeakAlgorithm:   "The key, or the signature that binds it, uses an algorithm that is too weak.",
	NoEncryptionKey: "The key has no part that can be encrypted to.",
	Expired:         "The key has expired.",
	Revoked:         "The key was revoked by its owner.",
	WrongAddress:    "The key does not say that it belongs to this address.",
	NotYetValid:     "The key is not valid yet.",
	TooLarge:        "The data is larger, or holds more parts, than is looked at.",
	Malformed:       "The data is not well-formed OpenPGP.",
	Unsupported:     "The key or message uses something of OpenPGP that is not supported.",
	SecretGiven:     "This is a secret key. Give the public key only, and keep the secret one to yourself.",
	WrongPassphrase: "The passphrase of the secret key is wrong or missing.",
	NotForUs:        "The message is not encrypted to any of the keys at hand.",
	NotIntact:       "The message cannot be decrypted, or was changed on its way.",
	NotProtected:    "The message has no protection against changes. Ask the sender for one that has.",
	NoSigningKey:    "The secret key cannot make a signature now.",
	OfflinePrimary:  "The primary part of the secret key is not here, so the key cannot be renewed or revoked.",
}

// What stands against a part of a key, which is told by another word.
const (
	subkeyRevoked = "subkey_revoked"
	userIDRevoked = "user_id_revoked"
)

func refuse(word string) *fault.Fault {
	switch word {
	case subkeyRevoked:
		return fault.New(fault.Refused, NoEncryptionKey, "The part of the key that could be encrypted to was revoked by its owner.")
	case userIDRevoked:
		return fault.New(fault.Refused, WrongAddress, "The key's owner revoked that it belongs to this address.")
	}
	return fault.New(fault.Refused, word, sentences[word])
}

// library runs calls of go-crypto. It lifts FIPS enforcement for them, because
// OpenPGP is defined with what the approved mode lacks: SHA-1 in fingerprints
// and in the MDC, CFB, RSA PKCS#1 v1.5 encryption. A panic in there, on what a
// stranger sent, becomes an error.
func library(f func() error) (err error) {
	fips140.WithoutEnforcement(func() {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("openpgp library: %s", private.Panic(v))
			}
		}()
		err = f()
	})
	return err
}
