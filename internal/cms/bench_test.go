package cms

import (
	"bytes"
	"io"
	"testing"
)

// One delivery of a message that is encrypted already: its own key and head.
func BenchmarkDelivery(b *testing.B) {
	p := everybody()
	for _, name := range strong {
		b.Run(name, func(b *testing.B) {
			content, err := NewContent(AES256CBC, 10<<10)
			if err != nil {
				b.Fatal(err)
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					info, err := content.RecipientInfo(p[name].Certificate, WrapOptions{})
					if err != nil {
						b.Fatal(err)
					}
					content.Head(info)
				}
			})
		})
	}
}

func BenchmarkEncrypt(b *testing.B) {
	plain := text(10 << 20)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		b.Run(c.String(), func(b *testing.B) {
			content, err := NewContent(c, int64(len(plain)))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if err := content.Encrypt(io.Discard, bytes.NewReader(plain)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt(b *testing.B) {
	to := everybody()["P-256"]
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		der := sealed(b, c, text(10<<20), to, WrapOptions{})
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(der)))
			for b.Loop() {
				if _, err := Decrypt(der, []Recipient{to}, 10<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
