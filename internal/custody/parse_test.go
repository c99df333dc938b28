package custody

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/sealpost/sealpost/internal/id"
)

func FuzzMasterFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseMaster(text)
		if err != nil {
			return
		}
		if lines := bytes.Count(text, []byte("\n")); lines != len(r.keys) || r.keys[r.current] == nil {
			t.Fatalf("%d lines gave %d keys, current %q", lines, len(r.keys), r.current)
		}
	})
}

// What is read, written and read again is the same key under the same name.
func FuzzKeyFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKey(data)
		if err != nil {
			return
		}
		out, err := k.render()
		if err != nil {
			return // a year that RFC 3339 cannot write
		}
		again, err := parseKey(out)
		if err != nil || again.Ref != k.Ref || !bytes.Equal(again.Wrapped, k.Wrapped) || !again.CreatedAt.Equal(k.CreatedAt) {
			t.Fatalf("read %+v, then %+v (%v)", k, again, err)
		}
		if name := fileName(k.Ref); bytes.ContainsAny([]byte(name), "/\x00") {
			t.Fatalf("file name %q", name)
		}
		if !json.Valid(out) {
			t.Fatal("not JSON")
		}
	})
}

func FuzzBox(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	aead, err := newAEAD(key)
	if err != nil {
		f.Fatal(err)
	}
	k := &DataKey{ID: id.ID{1}, Org: id.ID{2}, aead: aead}
	f.Add(k.Seal("l", id.ID{3}, []byte("text")))
	f.Fuzz(func(t *testing.T, box []byte) {
		plain, err := k.Open("l", id.ID{3}, box)
		if err != nil && plain != nil {
			t.Fatal("an error came with bytes")
		}
		if err == nil && len(plain)+Overhead != len(box) {
			t.Fatal("bytes were ignored")
		}
	})
}
