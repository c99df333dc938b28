// Package cms reads and writes the Cryptographic Message Syntax, as far as
// S/MIME 4.0 (RFC 8551) needs it: EnvelopedData and SignedData (RFC 5652),
// AuthEnvelopedData (RFC 5083, 5084), RSA and elliptic curve recipients
// (RFC 3370, 3560, 5753, 8418).
//
// Invariants:
//   - It is about octets, keys and the time it is told: no network, no
//     database, no clock, no log.
//   - What is written is DER with definite lengths alone. What is read may be
//     BER; ToDER makes DER of it first, so that nothing else knows BER.
//   - Depth, size, number of recipients and of private key operations are
//     bounded before work is done. No length field is believed: memory
//     follows the octets that are there.
//   - A Content has one key and one nonce and encrypts one plaintext. Another
//     plaintext is noticed before any of it leaves.
//   - What Decrypt cannot decrypt fails with one error, whether the wrapped
//     key, the padding or the tag was wrong. Nothing of an authenticated
//     message is given before its tag is proved.
//   - Weak keys are refused for sealing, with a fault of kind Refused whose
//     reason is a stable word.
package cms
