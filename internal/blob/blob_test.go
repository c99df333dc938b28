package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
)

const chunk = 64 << 10

// house is a database with custody, a store and one organization.
type house struct {
	d   *db.DB
	c   *custody.Custody
	s   *blob.Store
	org id.ID
}

func newHouse(t testing.TB, d *db.DB) *house {
	org := id.New()
	return &house{d: d, c: custodytest.New(t, d, org), s: blob.New(d, t.TempDir()), org: org}
}

// body is a saved body.
type body struct {
	org, key, blob id.ID
}

func (h *house) save(org id.ID, r io.Reader) (body, error) {
	k, err := h.c.NewDataKey(org)
	if err != nil {
		return body{}, err
	}
	b := body{org, k.ID, id.New()}
	g, err := h.s.Stage(k, b.blob, r)
	if err != nil {
		return b, err
	}
	defer g.Close()
	return b, h.d.Write(context.Background(), org, func(tx *db.Tx) error {
		return errors.Join(h.c.SaveDataKey(tx, k), g.Save(tx))
	})
}

func (h *house) saved(t testing.TB, text []byte) body {
	t.Helper()
	b, err := h.save(h.org, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *house) open(b body) (io.ReadCloser, error) {
	var k *custody.DataKey
	err := h.d.Read(context.Background(), b.org, func(tx *db.Tx) (err error) {
		k, err = h.c.DataKey(tx, b.key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h.s.Open(context.Background(), k, b.blob), nil
}

func (h *house) read(b body) ([]byte, error) {
	r, err := h.open(b)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func (h *house) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if err := h.d.Write(context.Background(), h.org, func(tx *db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = random.Read(b)
	return b
}

func TestRoundTripAroundTheBorders(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 4*chunk - 1, 4 * chunk, 4*chunk + 1, 5 * chunk, 5*chunk + 17} {
			text := noise(n)
			got, err := h.read(h.saved(t, text))
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
			}
		}
	})
}

func TestRoundTripOfAnything(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t))
	rapid.Check(t, func(t *rapid.T) {
		n := max(0, rapid.IntRange(0, 6).Draw(t, "chunks")*chunk+rapid.IntRange(-3, 3).Draw(t, "more"))
		text := noise(n)
		reader := rapid.SampledFrom([]func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.HalfReader, iotest.DataErrReader,
		}).Draw(t, "reader")
		b, err := h.save(h.org, reader(bytes.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.open(b)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := iotest.TestReader(r, text); err != nil {
			message := err.Error() // quotes all bytes
			t.Fatalf("%d bytes: %.60s … %s", n, message, message[max(0, len(message)-60):])
		}
	})
}

func TestStageIsReRunnable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		for _, n := range []int{10, 6*chunk + 5} {
			text := noise(n)
			k, err := h.c.NewDataKey(h.org)
			if err != nil {
				t.Fatal(err)
			}
			b := body{h.org, k.ID, id.New()}
			g, err := h.s.Stage(k, b.blob, bytes.NewReader(text))
			if err != nil || g.Size() != int64(n) {
				t.Fatalf("size %d, %v", g.Size(), err)
			}
			boom := errors.New("boom")
			for i := range 2 {
				err := d.Write(context.Background(), h.org, func(tx *db.Tx) error {
					if err := errors.Join(h.c.SaveDataKey(tx, k), g.Save(tx)); err != nil || i == 1 {
						return err
					}
					return boom
				})
				if (i == 0) != errors.Is(err, boom) || i == 1 && err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Write(context.Background(), db.System, g.Save); err == nil {
				t.Error("saved for another organization")
			}
			if err := errors.Join(g.Close(), g.Close()); err != nil {
				t.Error(err)
			}
			if err := d.Write(context.Background(), h.org, g.Save); err == nil {
				t.Error("saved after Close")
			}
			if got, err := h.read(b); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
		}
	})
}

// A source that breaks off is not a shorter body.
func TestStageGivesErrorsBack(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t))
	for _, n := range []int{0, 10, chunk, 6 * chunk} {
		for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("cut")} {
			_, err := h.save(h.org, io.MultiReader(bytes.NewReader(noise(n)), iotest.ErrReader(cause)))
			if !errors.Is(err, cause) {
				t.Errorf("after %d bytes: %v, want %v", n, err, cause)
			}
		}
	}
	if _, err := h.save(h.org, stuck{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	nowhere := blob.New(h.d, filepath.Join(t.TempDir(), "missing"))
	k, err := h.c.NewDataKey(h.org)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nowhere.Stage(k, id.New(), bytes.NewReader(noise(6*chunk))); err == nil || strings.Contains(err.Error(), "missing") {
		t.Errorf("no temporary folder: %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestTampering(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		text := noise(3*chunk + 5) // chunks 0 to 3
		twin := h.saved(t, noise(3*chunk+5))
		short := h.saved(t, []byte("short"))
		for name, tamper := range map[string]func(b body){
			"flip in chunk 2": func(b body) { h.flip(t, b, 2) },
			"flip in last":    func(b body) { h.flip(t, b, 3) },
			"swap 0 and 1":    func(b body) { h.swap(t, b, 0, 1) },
			"swap 1 and 2":    func(b body) { h.swap(t, b, 1, 2) },
			"without last":    func(b body) { h.exec(t, "DELETE FROM blob_chunks WHERE blob_id = ? AND n = 3", b.blob) },
			"without 1 to 3":  func(b body) { h.exec(t, "DELETE FROM blob_chunks WHERE blob_id = ? AND n > 0", b.blob) },
			"without 1":       func(b body) { h.exec(t, "DELETE FROM blob_chunks WHERE blob_id = ? AND n = 1", b.blob) },
			"without first": func(b body) {
				h.exec(t, "DELETE FROM blob_chunks WHERE blob_id = ? AND n = 0", b.blob)
				h.exec(t, "UPDATE blob_chunks SET n = n - 10 WHERE blob_id = ?", b.blob)
				h.exec(t, "UPDATE blob_chunks SET n = n + 9 WHERE blob_id = ?", b.blob)
			},
			"last again": func(b body) {
				h.exec(t, "INSERT INTO blob_chunks (blob_id, n, org_id, data) SELECT blob_id, 4, org_id, data FROM blob_chunks WHERE blob_id = ? AND n = 3", b.blob)
			},
			"chunk of another body": func(b body) {
				h.exec(t, "UPDATE blob_chunks SET data = (SELECT data FROM blob_chunks WHERE blob_id = ? AND n = 1) WHERE blob_id = ? AND n = 1", twin.blob, b.blob)
			},
			"another body": func(b body) {
				h.exec(t, "DELETE FROM blob_chunks WHERE blob_id = ?", b.blob)
				h.exec(t, "INSERT INTO blob_chunks (blob_id, n, org_id, data) SELECT ?, n, org_id, data FROM blob_chunks WHERE blob_id = ?", b.blob, short.blob)
			},
			"longer chunk": func(b body) {
				h.exec(t, h.d.Pick("UPDATE blob_chunks SET data = CAST(data || x'00' AS BLOB) WHERE blob_id = ? AND n = 2",
					"UPDATE blob_chunks SET data = data || '\\x00'::bytea WHERE blob_id = ? AND n = 2"), b.blob)
			},
			"empty chunk": func(b body) {
				h.exec(t, "UPDATE blob_chunks SET data = ? WHERE blob_id = ? AND n = 2", []byte{}, b.blob)
			},
		} {
			b := h.saved(t, text)
			tamper(b)
			got, err := h.read(b)
			if err == nil || !errors.Is(err, custody.ErrDamaged) {
				t.Errorf("%s: %v", name, err)
			}
			if !bytes.HasPrefix(text, got) {
				t.Errorf("%s: bytes that are not of the body were handed out", name)
			}
		}
	})
}

func (h *house) flip(t *testing.T, b body, n int) {
	var data []byte
	if err := h.d.Read(context.Background(), b.org, func(tx *db.Tx) error {
		return tx.Row("SELECT data FROM blob_chunks WHERE blob_id = ? AND n = ?", b.blob, n).Scan(&data)
	}); err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	h.exec(t, "UPDATE blob_chunks SET data = ? WHERE blob_id = ? AND n = ?", data, b.blob, n)
}

func (h *house) swap(t *testing.T, b body, i, j int) {
	for _, move := range [][2]int{{i, -1}, {j, i}, {-1, j}} {
		h.exec(t, "UPDATE blob_chunks SET n = ? WHERE blob_id = ? AND n = ?", move[1], b.blob, move[0])
	}
}

func TestAnotherOrganizationSeesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		mine := h.saved(t, noise(10))
		other := id.New()
		if err := h.c.CreateOrg(other); err != nil {
			t.Fatal(err)
		}
		theirs, err := h.save(other, bytes.NewReader(noise(20)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.read(body{other, theirs.key, mine.blob}); !errors.Is(err, custody.ErrDestroyed) {
			t.Errorf("a foreign body: %v", err)
		}
		h.exec(t, "UPDATE blob_chunks SET org_id = ? WHERE blob_id = ?", other, mine.blob)
		if _, err := h.read(body{other, theirs.key, mine.blob}); !errors.Is(err, custody.ErrDamaged) {
			t.Errorf("a body that was moved to another organization: %v", err)
		}
		for org, gone := range map[id.ID]bool{h.org: false, other: true} {
			if err := d.Write(context.Background(), org, func(tx *db.Tx) error { return h.s.Delete(tx, theirs.blob) }); err != nil {
				t.Fatal(err)
			}
			if org == h.org {
				continue
			}
			if _, err := h.read(theirs); errors.Is(err, custody.ErrDestroyed) != gone {
				t.Errorf("after Delete: %v", err)
			}
		}
	})
}

func TestOnlyTheOwnerDeletes(t *testing.T) {
	h := newHouse(t, dbtest.SQLite(t))
	b := h.saved(t, noise(10))
	if err := h.d.Write(context.Background(), db.System, func(tx *db.Tx) error { return h.s.Delete(tx, b.blob) }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.read(b); err != nil {
		t.Errorf("another organization deleted it: %v", err)
	}
}

// A spilled body lies in a file without a name, and holds no plaintext.
func TestSpillHoldsCiphertextOnly(t *testing.T) {
	ctx, dir, temp := context.Background(), t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "sealpost.db")
	d, err := db.Open(ctx, db.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	h := &house{d: d, c: custodytest.New(t, d), s: blob.New(d, temp), org: db.System}
	marker := []byte("patient-marker-4711 ")
	text := bytes.Repeat(marker, 2<<20/len(marker))
	k, err := h.c.NewDataKey(h.org)
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.s.Stage(k, id.New(), bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(temp); err != nil || len(names) != 0 {
		t.Errorf("named files in the temporary folder: %v, %v", names, err)
	}
	spilled := openFiles(t, temp)
	if len(spilled) != 1 || len(spilled[0]) < len(text) {
		t.Errorf("%d spilled files", len(spilled))
	}
	if err := d.Write(ctx, h.org, func(tx *db.Tx) error { return errors.Join(h.c.SaveDataKey(tx, k), g.Save(tx)) }); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if left := openFiles(t, temp); len(left) != 0 {
		t.Error("Close keeps the file")
	}
	for _, f := range []string{path, path + "-wal"} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		spilled = append(spilled, data)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for i, data := range spilled {
		if bytes.Contains(data, marker[:12]) {
			t.Errorf("file %d holds plaintext", i)
		}
	}
}

// openFiles reads the files without a name that this process has open and
// that were made in dir.
func openFiles(t *testing.T, dir string) (out [][]byte) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		link := "/proc/self/fd/" + fd.Name()
		if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, dir) {
			continue
		}
		data, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

// endless gives n bytes without having them.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.n)
	e.n -= n
	return int(n), nil
}

func TestLargeBodiesTakeTheMemoryOfAFewChunks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const size, limit = 25 << 20, 6 << 20
		h := newHouse(t, d)
		if _, err := h.save(h.org, &endless{chunk * 8}); err != nil { // so that pools are warm
			t.Fatal(err)
		}
		base := heap()
		var peak uint64
		watch := func() { peak = max(peak, heap()) }
		k, err := h.c.NewDataKey(h.org)
		if err != nil {
			t.Fatal(err)
		}
		b := body{h.org, k.ID, id.New()}
		g, err := h.s.Stage(k, b.blob, &watched{&endless{size}, 0, watch})
		if err != nil || g.Size() != size {
			t.Fatal(err)
		}
		watch()
		if err := d.Write(context.Background(), h.org, func(tx *db.Tx) error {
			defer watch()
			return errors.Join(h.c.SaveDataKey(tx, k), g.Save(tx))
		}); err != nil {
			t.Fatal(err)
		}
		r, err := h.open(b)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, &watched{r, 0, watch}); err != nil || n != size {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if peak > base+limit {
			t.Errorf("%d KiB of memory at the peak, limit %d", (peak-base)>>10, limit>>10)
		}
		t.Logf("%d KiB over the start", (max(peak, base)-base)>>10)
		if err := errors.Join(r.Close(), g.Close()); err != nil {
			t.Error(err)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // pools let go only now
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// watched calls watch every 4 MiB.
type watched struct {
	r     io.Reader
	since int
	watch func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.since += n; w.since > 4<<20 {
		w.since = 0
		w.watch()
	}
	return n, err
}

func TestRotationLeavesBodiesAlone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		text := noise(2*chunk + 1)
		b := h.saved(t, text)
		before := chunks(t, d)
		if _, err := h.c.RotateOrg(context.Background(), h.org); err != nil {
			t.Fatal(err)
		}
		if _, err := h.c.RotateMaster(context.Background()); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(before, chunks(t, d), func(a, b row) bool { return slices.EqualFunc(a, b, bytes.Equal) }) {
			t.Error("rotation changed chunks")
		}
		if got, err := h.read(b); err != nil || !bytes.Equal(got, text) {
			t.Errorf("after rotation: %v", err)
		}
	})
}

func BenchmarkStage10K(b *testing.B) {
	h := newHouse(b, dbtest.SQLite(b))
	text := noise(10 << 10)
	k, err := h.c.NewDataKey(h.org)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		g, err := h.s.Stage(k, id.New(), bytes.NewReader(text))
		if err != nil {
			b.Fatal(err)
		}
		_ = g.Close()
	}
}
