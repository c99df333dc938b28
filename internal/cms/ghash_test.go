package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"math/rand/v2"
	"testing"
)

// standardGCM is what crypto/cipher makes with a caller's nonce, which FIPS
// 140-3 does not approve of and this test compares with.
func standardGCM(t testing.TB, c *Content, plain []byte) []byte {
	t.Helper()
	var out []byte
	fips140.WithoutEnforcement(func() {
		aead, err := cipher.NewGCM(c.block)
		if err != nil {
			t.Fatal(err)
		}
		out = aead.Seal(nil, c.iv, plain, nil)
	})
	return out
}

func TestGCMIsThatOfTheStandardLibrary(t *testing.T) {
	lengths := []int{0, 1, 15, 16, 17, 31, 32, 33, 255, 256, chunkSize, chunkSize + 1, 2*chunkSize + 17}
	for range 200 {
		lengths = append(lengths, rand.IntN(5000))
	}
	for _, n := range lengths {
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(rand.Uint32())
		}
		content, err := NewContent(AES256GCM, int64(n))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := content.Encrypt(&out, bytes.NewReader(plain)); err != nil {
			t.Fatal(err)
		}
		out.Write(content.mac)
		if !bytes.Equal(out.Bytes(), standardGCM(t, content, plain)) {
			t.Fatalf("%d octets: another ciphertext or tag", n)
		}
	}
}

// Test case 4 of the GCM specification without its additional data is case 3:
// four whole blocks.
func TestGHASHOfTheSpecification(t *testing.T) {
	block, err := aes.NewCipher(octets(t, "feffe9928665731c6d6a8f9467308308"))
	if err != nil {
		t.Fatal(err)
	}
	var key [16]byte
	block.Encrypt(key[:], key[:])
	g := newGHASH(&key)
	g.write(octets(t, "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"+
		"21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"))
	if sum := g.sum(); !bytes.Equal(sum[:], octets(t, "7f1b32b81b820d02614f8895ac1d4eac")) {
		t.Errorf("%x", sum)
	}
}

func TestKeyWrap(t *testing.T) {
	// RFC 3394 section 4.6.
	kek := octets(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	key := octets(t, "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")
	want := octets(t, "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21")
	got, err := wrapKey(kek, key)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%x, %v", got, err)
	}
	if back, err := unwrapKey(kek, got); err != nil || !bytes.Equal(back, key) {
		t.Fatalf("%x, %v", back, err)
	}
	for i := range got {
		got[i] ^= 0x40
		if _, err := unwrapKey(kek, got); err == nil {
			t.Errorf("octet %d altered", i)
		}
		got[i] ^= 0x40
	}
	for _, n := range []int{0, 8, 16, 23, 80} {
		if _, err := unwrapKey(kek, make([]byte, n)); err == nil {
			t.Errorf("%d octets", n)
		}
	}
	if _, err := wrapKey(kek, make([]byte, 8)); err == nil {
		t.Error("one unit wrapped")
	}
}

func BenchmarkGHASH(b *testing.B) {
	g := newGHASH(&[16]byte{1, 2, 3})
	data := make([]byte, chunkSize)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		g.write(data)
	}
}
