package openpgp

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// allocated is how many octets f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestManyPartsAreCheap: packets of parts that are an octet long or none, as
// many as the data holds.
func TestManyPartsAreCheap(t *testing.T) {
	key := newMaker(t, now.Add(-year)).alice().encryption(t).out
	packets := bytes.Repeat([]byte{0xc0 | tagCompressed, 0xe0, 0, 0}, 19_000)
	packets = appendPacket(packets, raw{60, make([]byte, maxKeyOctets-len(key)-len(packets)-10)})
	parts := append([]byte{0xc0 | tagLiteral}, bytes.Repeat([]byte{0xe0, 'b'}, 500_000)...)
	parts = append(parts, 0)
	for name, c := range map[string]struct {
		want string
		read func() error
	}{
		"key":                      {Malformed, func() error { _, err := ReadKeys(append(bytes.Clone(key), packets...)); return err }},
		"one packet of many parts": {"", func() error { _, err := Open(parts, nil, nil, now, 1<<20); return err }},
	} {
		begin := processor(t)
		var err error
		used := allocated(func() { err = c.read() })
		if got := word(t, err); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
		if took := processor(t) - begin; used > 16<<20 || took > time.Second {
			t.Errorf("%s: %v, %d MiB were allocated", name, took, used>>20)
		}
	}
}

// TestKeysHaveDefiniteLengths: a packet that may be cut up in a message may
// not be in a key.
func TestKeysHaveDefiniteLengths(t *testing.T) {
	key := newMaker(t, now.Add(-year)).alice().encryption(t).out
	for name, c := range map[string]struct {
		packet []byte
		want   string
	}{
		"one octet":  {[]byte{0xc0 | 60, 1, 'x'}, ""},
		"two octets": {appendPacket(nil, raw{60, make([]byte, 300)}), ""},
		"five":       {[]byte{0xc0 | 60, 255, 0, 0, 0, 1, 'x'}, ""},
		"partial":    {[]byte{0xc0 | tagLiteral, 0xe0, 'x', 0}, Malformed},
		"to the end": {[]byte{0x80 | tagCompressed<<2 | 3, 'x'}, Malformed},
	} {
		_, err := ReadKeys(append(bytes.Clone(key), c.packet...))
		if got := word(t, err); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}
