package cms

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// AES Key Wrap (RFC 3394), of which the standard library has none.

const wrapUnit = 8

var (
	wrapCheck = [wrapUnit]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}
	errUnwrap = errors.New("cms: the wrapped key does not check")
)

// wrapKey wraps a key of two or more units.
func wrapKey(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(key)%wrapUnit != 0 || len(key) < 2*wrapUnit {
		return nil, errUnwrap
	}
	n := len(key) / wrapUnit
	out := make([]byte, wrapUnit+len(key))
	copy(out[wrapUnit:], key)
	var b [aes.BlockSize]byte
	copy(b[:], wrapCheck[:])
	for t := 1; t <= 6*n; t++ {
		r := out[wrapUnit*((t-1)%n+1):][:wrapUnit]
		copy(b[wrapUnit:], r)
		block.Encrypt(b[:], b[:])
		copy(r, b[wrapUnit:])
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t))
	}
	copy(out, b[:wrapUnit])
	return out, nil
}

// unwrapKey undoes wrapKey and proves that kek was the right one.
func unwrapKey(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(wrapped)%wrapUnit != 0 || len(wrapped) < 3*wrapUnit || len(wrapped) > 9*wrapUnit {
		return nil, errUnwrap
	}
	n := len(wrapped)/wrapUnit - 1
	key := append([]byte(nil), wrapped[wrapUnit:]...)
	var b [aes.BlockSize]byte
	copy(b[:], wrapped[:wrapUnit])
	for t := 6 * n; t > 0; t-- {
		r := key[wrapUnit*((t-1)%n):][:wrapUnit]
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t))
		copy(b[wrapUnit:], r)
		block.Decrypt(b[:], b[:])
		copy(r, b[wrapUnit:])
	}
	if subtle.ConstantTimeCompare(b[:wrapUnit], wrapCheck[:]) != 1 {
		return nil, errUnwrap
	}
	return key, nil
}
