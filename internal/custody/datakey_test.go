package custody_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
)

func freshKey(t testing.TB) *custody.DataKey {
	t.Helper()
	k, err := newSite(t, dbtest.SQLite(t)).node(t).NewDataKey(db.System)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCiphertextForm(t *testing.T) {
	k := freshKey(t)
	box := k.Seal("l", id.New(), []byte("hello"))
	if box[0] != 1 || !bytes.Equal(box[1:17], k.ID[:]) || len(box) != 5+custody.Overhead || custody.Overhead != 1+16+12+16 {
		t.Errorf("form: %x", box)
	}
	if of, err := custody.KeyIDOf(box); err != nil || of != k.ID {
		t.Errorf("KeyIDOf: %v, %v", of, err)
	}
	for _, bad := range [][]byte{nil, box[:custody.Overhead-1], append([]byte{2}, box[1:]...)} {
		if _, err := custody.KeyIDOf(bad); !errors.Is(err, custody.ErrDamaged) {
			t.Errorf("KeyIDOf of %d bytes: %v", len(bad), err)
		}
	}
	if bytes.Equal(box[17:29], k.Seal("l", id.New(), []byte("hello"))[17:29]) {
		t.Error("a nonce came twice")
	}
}

func TestCiphertextOpensOnlyInItsPlace(t *testing.T) {
	k, other := freshKey(t), freshKey(t)
	row, text := id.New(), []byte("content")
	box := k.SealChunk(nil, "label.v1", row, 7, false, text)
	if got, err := k.OpenChunk(nil, "label.v1", row, 7, false, box); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("in its place: %v", err)
	}
	moved := *k
	moved.Org = id.New()
	renamed := *other
	renamed.ID = k.ID
	for name, try := range map[string]func() ([]byte, error){
		"label":        func() ([]byte, error) { return k.OpenChunk(nil, "label.v2", row, 7, false, box) },
		"row":          func() ([]byte, error) { return k.OpenChunk(nil, "label.v1", id.New(), 7, false, box) },
		"chunk":        func() ([]byte, error) { return k.OpenChunk(nil, "label.v1", row, 8, false, box) },
		"last":         func() ([]byte, error) { return k.OpenChunk(nil, "label.v1", row, 7, true, box) },
		"organization": func() ([]byte, error) { return moved.OpenChunk(nil, "label.v1", row, 7, false, box) },
		"key":          func() ([]byte, error) { return other.OpenChunk(nil, "label.v1", row, 7, false, box) },
		"key, same id": func() ([]byte, error) { return renamed.OpenChunk(nil, "label.v1", row, 7, false, box) },
		"whole value":  func() ([]byte, error) { return k.Open("label.v1", row, box) },
	} {
		if got, err := try(); !errors.Is(err, custody.ErrDamaged) || got != nil {
			t.Errorf("another %s: %q, %v", name, got, err)
		}
	}
	for i := range box {
		bad := bytes.Clone(box)
		bad[i] ^= 0x80
		if _, err := k.OpenChunk(nil, "label.v1", row, 7, false, bad); !errors.Is(err, custody.ErrDamaged) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		if _, err := k.OpenChunk(nil, "label.v1", row, 7, false, box[:i]); !errors.Is(err, custody.ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestSealRoundTrip(t *testing.T) {
	k := freshKey(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		label := rapid.String().Draw(t, "label")
		n, last := rapid.Uint64().Draw(t, "n"), rapid.Bool().Draw(t, "last")
		row, prefix := id.New(), []byte("before")
		box := k.SealChunk(bytes.Clone(prefix), label, row, n, last, text)
		got, err := k.OpenChunk(bytes.Clone(prefix), label, row, n, last, box[len(prefix):])
		if err != nil || !bytes.Equal(got, append(prefix, text...)) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func TestDataKeysDoNotShowThemselves(t *testing.T) {
	k := freshKey(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", k)
	doc, err := json.Marshal(map[string]any{"key": k})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprintf("%v %+v %#v %s %x %q", k, k, k, k, k, k), fmt.Sprint(struct{ K *custody.DataKey }{k}), log.String(),
	} {
		shown = strings.ReplaceAll(shown, fmt.Sprint(k), "id") // the id itself can hold 0x
		for word := range strings.FieldsSeq(strings.Trim(shown, "{}\n")) {
			if strings.Contains(word, "0x") || strings.Contains(word, "[") {
				t.Errorf("shown: %s", shown)
			}
		}
	}
	if string(doc) != `{"key":"[private]"}` {
		t.Errorf("JSON: %s", doc)
	}
}

func BenchmarkSeal10K(b *testing.B) {
	k, text, row := freshKey(b), make([]byte, 10<<10), id.New()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		k.Seal("bench.v1", row, text)
	}
}
