package mail

import (
	"bytes"
	"testing"
)

// Every octet at every place of words and rests is looked at, and only those
// above 127 count.
func TestEightBitOctetsAreFoundWhereverTheyStand(t *testing.T) {
	for size := range 40 {
		p := bytes.Repeat([]byte{0x7f}, size)
		if Has8Bit(p) {
			t.Fatalf("%d octets of 7 bits are taken for 8", size)
		}
		for i := range p {
			for _, c := range []byte{0x80, 0xff} {
				p[i] = c
				if !Has8Bit(p) {
					t.Fatalf("an octet %#x at %d of %d is not seen", c, i, size)
				}
			}
			p[i] = 0x7f
		}
	}
}
