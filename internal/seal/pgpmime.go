package seal

import (
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// PGP seals to one recipient's OpenPGP key, as PGP/MIME (RFC 3156 section 4).
// An error is a fault of kind Refused when the key cannot be used.
func PGP(b *Batch, from, to mail.Address, floor policy.Grade, key openpgp.Key, at time.Time) (*Artifact, error) {
	if b.pgp == nil {
		return nil, errOtherBatch
	}
	packet, err := b.pgp.KeyPacket(key, at)
	if err != nil {
		return nil, err
	}
	part := []byte("Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"" + b.boundary + "\"\r\n" +
		"\r\n" +
		"--" + b.boundary + "\r\n" +
		"Content-Type: application/pgp-encrypted\r\n" +
		"Content-Description: PGP/MIME version identification\r\n" +
		"\r\n" +
		"Version: 1\r\n" +
		"\r\n--" + b.boundary + "\r\n" +
		"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n" +
		"Content-Description: OpenPGP encrypted message\r\n" +
		"Content-Disposition: inline; filename=\"encrypted.asc\"\r\n" +
		"\r\n" +
		"-----BEGIN PGP MESSAGE-----\r\n\r\n")
	end := []byte("-----END PGP MESSAGE-----\r\n\r\n--" + b.boundary + "--\r\n")
	// GnuPG 2.2 finds no end in armor whose base64 needs no padding, unless a
	// CRC24 follows it. Behind SEIPDv2, which it does not read, RFC 9580
	// section 6.1 forbids it.
	content := b.ciphertext().between(packet, nil).inLines(armorLine, !b.v6)
	return b.artifact(from, to, floor, part, content, end), nil
}

// PGPAlgorithms names what protects an artifact of the batch for this key.
func (b *Batch) PGPAlgorithms(key openpgp.Key, at time.Time) string {
	if b.pgp == nil {
		return ""
	}
	return b.pgp.Algorithms(key, at)
}
