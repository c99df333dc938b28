package parcel

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/sealpost/sealpost/internal/fault"
)

func zipped(t testing.TB, files int, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i := range files {
		w, err := z.Create(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// listed is a zip file whose directory names the same nothing so many times.
func listed(times int) []byte {
	entry := make([]byte, 46)
	copy(entry, "PK\x01\x02")
	dir := append([]byte("PK\x03\x04"), bytes.Repeat(entry, times)...)
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint16(end[8:], uint16(times))
	binary.LittleEndian.PutUint16(end[10:], uint16(times))
	binary.LittleEndian.PutUint32(end[12:], uint32(len(dir)-4))
	binary.LittleEndian.PutUint32(end[16:], 4)
	return append(dir, end...)
}

// TestFilesWithinFiles: what is packed many times over costs little before it
// is refused, also where there is nothing in it at last.
func TestFilesWithinFiles(t *testing.T) {
	nothing := zipped(t, 0, nil)
	for range 4 { // 16 million empty files if each were opened
		nothing = zipped(t, maxPieces, nothing)
	}
	padded, padding := []byte("<a/>"), make([]byte, 8<<20) // behind the file that is opened, so it comes to nothing
	for range maxDepth - 1 {
		padded = gzipped(t, append(gzipped(t, padded), padding...))
	}
	for name, in := range map[string][]byte{
		"zips without anything": nothing,
		"gzips with padding":    padded,
		"a long directory":      listed(400_000),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Open(bytes.NewReader(in))
		runtime.ReadMemStats(&after)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Reason != "report_damaged" && f.Reason != "report_too_large" {
			t.Errorf("%s: %v", name, err)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 200 {
			t.Errorf("%s: %d MiB were allocated for %d KiB", name, mib, len(in)>>10)
		}
	}
}

// FuzzOpen: whatever comes, it is refused with a fault, or gives no more than
// it may.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nPGEvPg==\r\n--b--\r\n"))
	f.Add(zipped(f, 2, []byte("<a/>")))
	f.Add(zipped(f, 2, gzipped(f, []byte("{}"))))
	f.Add(gzipped(f, zipped(f, 0, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		pieces, err := Open(bytes.NewReader(b))
		var known *fault.Fault
		if err != nil && !errors.As(err, &known) {
			t.Fatalf("%T: %v", err, err)
		}
		octets := 0
		for _, p := range pieces {
			octets += len(p.Body)
		}
		if len(pieces) > maxPieces || octets > MaxOpen {
			t.Fatalf("%d pieces, %d octets", len(pieces), octets)
		}
	})
}
