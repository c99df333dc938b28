package cms

import (
	"encoding/binary"
	"math/bits"
)

// ghash is the authentication of GCM (NIST SP 800-38D section 6.4), for
// content that streams through: crypto/cipher wants all of it in memory. It
// takes the same time whatever the key and the octets are, having neither
// tables nor branches that depend on them.
//
// Elements of GF(2^128) are kept as two 64-bit halves, hi being the first eight
// octets. Carry-less products come from ordinary multiplication of operands
// with holes: of every four bits one is used, so carries fall into the other
// three and are masked off.
type ghash struct {
	hi, lo   uint64 // running value
	hHi, hLo uint64 // key
	rHi, rLo uint64 // key, bits reversed
	octets   uint64
}

const ghashBlock = 16

func newGHASH(key *[ghashBlock]byte) *ghash {
	g := &ghash{hHi: binary.BigEndian.Uint64(key[:8]), hLo: binary.BigEndian.Uint64(key[8:])}
	g.rHi, g.rLo = bits.Reverse64(g.hHi), bits.Reverse64(g.hLo)
	return g
}

// write takes ciphertext. Only the last call may be given a broken block.
func (g *ghash) write(b []byte) {
	g.octets += uint64(len(b))
	for len(b) >= ghashBlock {
		g.block(binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]))
		b = b[ghashBlock:]
	}
	if len(b) > 0 {
		var last [ghashBlock]byte
		copy(last[:], b)
		g.block(binary.BigEndian.Uint64(last[:]), binary.BigEndian.Uint64(last[8:]))
	}
}

// sum ends with the lengths of additional data, of which there is none, and
// of the ciphertext.
func (g *ghash) sum() (out [ghashBlock]byte) {
	g.block(0, g.octets*8)
	binary.BigEndian.PutUint64(out[:8], g.hi)
	binary.BigEndian.PutUint64(out[8:], g.lo)
	return out
}

// block is (value XOR x) times key: a 256-bit product from three 64-bit ones
// (Karatsuba), whose upper halves come from multiplying the reversed operands,
// reduced by x^128 + x^7 + x^2 + x + 1 in GCM's reflected order of bits.
func (g *ghash) block(xHi, xLo uint64) {
	y1, y0 := g.hi^xHi, g.lo^xLo
	y1r, y0r := bits.Reverse64(y1), bits.Reverse64(y0)

	z0, z1 := clmul(y0, g.hLo), clmul(y1, g.hHi)
	z2 := clmul(y0^y1, g.hLo^g.hHi) ^ z0 ^ z1
	z0h, z1h := clmul(y0r, g.rLo), clmul(y1r, g.rHi)
	z2h := clmul(y0r^y1r, g.rLo^g.rHi) ^ z0h ^ z1h
	z0h = bits.Reverse64(z0h) >> 1
	z1h = bits.Reverse64(z1h) >> 1
	z2h = bits.Reverse64(z2h) >> 1

	v0, v1, v2, v3 := z0, z0h^z2, z1^z2h, z1h
	v3 = v3<<1 | v2>>63
	v2 = v2<<1 | v1>>63
	v1 = v1<<1 | v0>>63
	v0 <<= 1

	v2 ^= v0 ^ v0>>1 ^ v0>>2 ^ v0>>7
	v1 ^= v0<<63 ^ v0<<62 ^ v0<<57
	v3 ^= v1 ^ v1>>1 ^ v1>>2 ^ v1>>7
	v2 ^= v1<<63 ^ v1<<62 ^ v1<<57
	g.hi, g.lo = v3, v2
}

// clmul is the lower half of the carry-less product.
func clmul(x, y uint64) uint64 {
	const m0, m1, m2, m3 = 0x1111111111111111, 0x2222222222222222, 0x4444444444444444, 0x8888888888888888
	x0, x1, x2, x3 := x&m0, x&m1, x&m2, x&m3
	y0, y1, y2, y3 := y&m0, y&m1, y&m2, y&m3
	return (x0*y0^x1*y3^x2*y2^x3*y1)&m0 |
		(x0*y1^x1*y0^x2*y3^x3*y2)&m1 |
		(x0*y2^x1*y1^x2*y0^x3*y3)&m2 |
		(x0*y3^x1*y2^x2*y1^x3*y0)&m3
}
