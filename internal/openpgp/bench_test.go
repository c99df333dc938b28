package openpgp

import (
	"bytes"
	"io"
	"testing"
)

// BenchmarkKeyPacket is what each further recipient of a message costs.
func BenchmarkKeyPacket(b *testing.B) {
	for name, p := range profiles {
		b.Run(name, func(b *testing.B) {
			k := generate(b, p).Public()
			c := must(NewContent(p == V6Curve25519))(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.KeyPacket(k, now); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "recipients/s")
		})
	}
}

// BenchmarkEncrypt is what the body costs, once.
func BenchmarkEncrypt(b *testing.B) {
	for _, v6 := range []bool{false, true} {
		b.Run(map[bool]string{false: "SEIPDv1", true: "SEIPDv2"}[v6], func(b *testing.B) {
			c, plain := must(NewContent(v6))(b), make([]byte, 1<<20)
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if err := c.Encrypt(io.Discard, bytes.NewReader(plain), int64(len(plain))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadKeys(b *testing.B) {
	data := generate(b, V4RSA3072).Public().Bytes()
	for b.Loop() {
		if _, err := ReadKeys(data); err != nil {
			b.Fatal(err)
		}
	}
}
