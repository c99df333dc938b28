package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

var sealedAt = time.Now().Truncate(time.Second)

func contents(t testing.TB, s stream) []byte {
	t.Helper()
	r, err := s.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// octets reads an artifact and checks what it says of itself.
func octets(t testing.TB, a *Artifact) []byte {
	t.Helper()
	b := contents(t, stream{a.Size(), a.Open})
	if int64(len(b)) != a.Size() {
		t.Errorf("%d octets, said to be %d", len(b), a.Size())
	}
	if a.EightBit() || a.RequireTLS() {
		t.Error("asks for 8BITMIME or REQUIRETLS")
	}
	high := bytes.ContainsFunc(b, func(r rune) bool { return r > 127 })
	if high && !a.UTF8() {
		t.Error("not ASCII, and does not say so")
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(b, []byte("\r\n")), []byte("\r\n")) {
		if bytes.ContainsAny(line, "\r\n") || len(line) > 998 {
			t.Fatalf("line %d is no line of mail", i+1)
		}
	}
	return b
}

// sealing makes an artifact in one of the two ways and opens one with our own
// code, in tests that are not about the format.
type sealing struct {
	name  string
	batch func(context.Context, Body) (*Batch, error)
	seal  func(*Batch) (*Artifact, error)
	open  func([]byte) ([]byte, error)
}

func sealings(t testing.TB) []sealing {
	t.Helper()
	from, to := addr(t, "ada@clinic.example"), addr(t, "pat@home.example")
	var all []sealing
	for name, p := range map[string]openpgp.Profile{"pgp v4": openpgp.V4Curve25519, "pgp v6": openpgp.V6Curve25519} {
		secret, err := openpgp.Generate(p, "Pat", to, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sealing{name,
			func(ctx context.Context, b Body) (*Batch, error) {
				return PGPBatch(ctx, b, p == openpgp.V6Curve25519, nil, sealedAt)
			},
			func(b *Batch) (*Artifact, error) { return PGP(b, from, to, policy.None, secret.Public(), sealedAt) },
			func(raw []byte) ([]byte, error) {
				_, armored, _ := bytes.Cut(raw, []byte("-----BEGIN"))
				o, err := openpgp.Open(append([]byte("-----BEGIN"), armored...), []*openpgp.Secret{secret}, nil, sealedAt, 64<<20)
				if err != nil {
					return nil, err
				}
				return o.Plain, nil
			},
		})
	}
	r := newCertificate(t, "rsa")
	for name, c := range map[string]cms.Cipher{"smime cbc": cms.AES256CBC, "smime gcm": cms.AES256GCM} {
		all = append(all, sealing{name,
			func(ctx context.Context, b Body) (*Batch, error) { return SMIMEBatch(ctx, b, c, nil, sealedAt) },
			func(b *Batch) (*Artifact, error) { return SMIME(b, from, to, policy.None, r.cert, cms.WrapOptions{}) },
			func(raw []byte) ([]byte, error) {
				_, text, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
				d, err := cms.Decrypt(unbase64(text), []cms.Recipient{{Key: r.key, Certificate: r.cert}}, 64<<20)
				if err != nil {
					return nil, err
				}
				return d.Plain, nil
			},
		})
	}
	return all
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// large is a message of about so many octets that is written anew whenever it
// is opened, so that it takes no memory.
func large(size int) Body {
	const head = "From: ada@clinic.example\r\nTo: pat@home.example\r\nSubject: scan\r\nMIME-Version: 1.0\r\nContent-Type: application/dicom\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	lines := size / 78
	return Body{Size: int64(len(head) + lines*78), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(head), &attachment{rng: rand.NewPCG(1, 2), left: lines})), nil
	}}
}

type attachment struct {
	rng  *rand.PCG
	left int
	line []byte
}

func (a *attachment) Read(p []byte) (int, error) {
	if len(a.line) == 0 {
		if a.left == 0 {
			return 0, io.EOF
		}
		a.left--
		a.line = fmt.Appendf(a.line[:0], "%076x\r\n", a.rng.Uint64())
	}
	n := copy(p, a.line)
	a.line = a.line[n:]
	return n, nil
}

func TestFloorOfSealedMailIsEncrypted(t *testing.T) {
	for _, s := range sealings(t) {
		b := must[*Batch](t)(s.batch(context.Background(), given(letter)))
		a := must[*Artifact](t)(s.seal(b))
		if a.Floor() != policy.Encrypted || a.From() != addr(t, "ada@clinic.example") || a.To() != addr(t, "pat@home.example") || a.UTF8() {
			t.Errorf("%s: floor %v", s.name, a.Floor())
		}
	}
}

func TestAllArtifactsOfABatchHaveOneCiphertext(t *testing.T) {
	for _, s := range sealings(t) {
		for name, body := range map[string]Body{"small": given(letter), "large": large(600 << 10)} {
			b := must[*Batch](t)(s.batch(context.Background(), body))
			one, two := must[*Artifact](t)(s.seal(b)), must[*Artifact](t)(s.seal(b))
			if !bytes.Equal(contents(t, b.ciphertext()), contents(t, b.ciphertext())) {
				t.Errorf("%s, %s: the ciphertext differs from reading to reading", s.name, name)
			}
			if !bytes.Equal(octets(t, one), octets(t, one)) {
				t.Errorf("%s, %s: a second attempt sends other octets", s.name, name)
			}
			if bytes.Equal(octets(t, one), octets(t, two)) {
				t.Errorf("%s, %s: the key is wrapped alike twice", s.name, name)
			}
			if kept := b.Bytes() > int64(len(b.outer)); kept != (name == "small") {
				t.Errorf("%s, %s: holds %d octets", s.name, name, b.Bytes())
			}
		}
	}
}

// TestWhatIsSealedOpensToTheSameOctets takes any octets as a body.
func TestWhatIsSealedOpensToTheSameOctets(t *testing.T) {
	all := sealings(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.SampledFrom(all).Draw(rt, "sealing")
		head := rapid.SampledFrom([]string{
			"From: a@clinic.example\r\n", "From: a@clinic.example\r\nContent-Type: multipart/mixed\r\n",
			"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n", "X: =?\r\nContent-Type: ;\r\n",
		}).Draw(rt, "header")
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(rt, "body"))
		if n := rapid.SampledFrom([]int{1, 1, 1, 200}).Draw(rt, "times"); n > 1 {
			text = strings.Repeat(text, n)
		}
		b, err := s.batch(context.Background(), given(head+"\r\n"+text))
		if err != nil {
			rt.Fatal(err)
		}
		a, err := s.seal(b)
		if err != nil {
			rt.Fatal(err)
		}
		plain, err := s.open(octets(t, a))
		if err != nil {
			rt.Fatal(err)
		}
		head, got, _ := strings.Cut(string(plain), "\r\n\r\n")
		if strings.Contains(head, "; hp-legacy-display=\"1\"") || strings.Contains(head, ";\r\n hp-legacy-display=\"1\"") {
			var found bool
			if got, found = strings.CutPrefix(got, "Subject: x\r\n\r\n"); !found || !strings.HasPrefix(s.name, "smime") {
				rt.Fatalf("%s: a mark without the subject", s.name)
			}
		}
		if got != text {
			rt.Fatalf("%s: other octets", s.name)
		}
	})
}

var errStore = errors.New("the store is away")

// failing gives the body up to an octet and then an error, from the second
// opening for reading on.
func failingAt(b Body, octet int64, err error) (Body, *atomic.Int64) {
	var open atomic.Int64
	var count atomic.Int64
	out := b
	out.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, oerr := b.Open(ctx)
		if oerr != nil {
			return nil, oerr
		}
		open.Add(1)
		c := closed{r, &open}
		if count.Add(1) <= 2 { // the header, the first pass
			return c, nil
		}
		return readCloser{io.MultiReader(io.LimitReader(c, octet), errReader{err}), c}, nil
	}
	return out, &open
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

type closed struct {
	io.ReadCloser
	open *atomic.Int64
}

func (c closed) Close() error { c.open.Add(-1); return c.ReadCloser.Close() }

func TestABodyThatFailsMidwayIsAnErrorAndNoMessage(t *testing.T) {
	defer goleak.VerifyNone(t)
	whole := large(600 << 10)
	for _, s := range sealings(t) {
		for _, at := range []int64{0, 50, 1000, 300 << 10, whole.Size - 1, whole.Size} {
			for _, failure := range []error{errStore, io.EOF, io.ErrUnexpectedEOF} {
				if failure != errStore && at == whole.Size {
					continue
				}
				body, open := failingAt(whole, at, failure)
				b := must[*Batch](t)(s.batch(context.Background(), body))
				a := must[*Artifact](t)(s.seal(b))
				r, err := a.Open(context.Background())
				var got []byte
				if err == nil {
					got, err = io.ReadAll(r)
					_ = r.Close()
				}
				if err == nil || failure == errStore && !errors.Is(err, errStore) {
					t.Fatalf("%s at %d with %v: %v", s.name, at, failure, err)
				}
				if int64(len(got)) >= a.Size() || bytes.Contains(got, []byte("-----END")) {
					t.Errorf("%s at %d: a whole message of %d octets", s.name, at, len(got))
				}
				if n := open.Load(); n != 0 {
					t.Errorf("%s at %d: %d readers are open", s.name, at, n)
				}
			}
		}
	}
}

func TestABodyThatChangesIsNotSealed(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, s := range sealings(t) {
		for name, size := range map[string]int64{"shorter than said": 1, "longer than said": -1, "much longer": -int64(len(letter))} {
			body := given(letter)
			body.Size += size
			if _, err := s.batch(context.Background(), body); err == nil {
				t.Errorf("%s: sealed, although it is %s", s.name, name)
			}
		}
		// Two messages of one size, encrypted with one key and nonce, would
		// tell of each other.
		whole := large(600 << 10)
		changing := whole
		var opened atomic.Int64
		changing.Open = func(ctx context.Context) (io.ReadCloser, error) {
			r, err := whole.Open(ctx)
			if opened.Add(1) <= 2 || err != nil {
				return r, err
			}
			return readCloser{&flipped{r: r}, r}, nil
		}
		b := must[*Batch](t)(s.batch(context.Background(), changing))
		a := must[*Artifact](t)(s.seal(b))
		r := must[io.ReadCloser](t)(a.Open(context.Background()))
		if got, err := io.ReadAll(r); err == nil || int64(len(got)) >= a.Size() {
			t.Errorf("%s: another message of the same size gives %d of %d octets, %v", s.name, len(got), a.Size(), err)
		}
		_ = r.Close()
	}
}

// flipped changes one bit.
type flipped struct {
	r io.Reader
	n int64
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.n <= 300<<10 && f.n+int64(n) > 300<<10 {
		p[300<<10-f.n] ^= 1
	}
	f.n += int64(n)
	return n, err
}

func TestReadersThatGiveUpLeaveNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, s := range sealings(t) {
		body, open := failingAt(large(2<<20), 1<<40, nil)
		b := must[*Batch](t)(s.batch(context.Background(), body))
		a := must[*Artifact](t)(s.seal(b))
		for name, end := range map[string]func(context.CancelFunc, io.ReadCloser) error{
			"closed at once": func(context.CancelFunc, io.ReadCloser) error { return nil },
			"closed midway": func(_ context.CancelFunc, r io.ReadCloser) error {
				_, err := io.CopyN(io.Discard, r, 1<<20)
				return err
			},
			"canceled at once": func(stop context.CancelFunc, r io.ReadCloser) error { stop(); return canceled(r) },
			"canceled midway": func(stop context.CancelFunc, r io.ReadCloser) error {
				_, err := io.CopyN(io.Discard, r, 1<<20)
				stop()
				return errors.Join(err, canceled(r))
			},
		} {
			ctx, stop := context.WithCancel(context.Background())
			r := must[io.ReadCloser](t)(a.Open(ctx))
			if err := errors.Join(end(stop, r), r.Close()); err != nil {
				t.Errorf("%s, %s: %v", s.name, name, err)
			}
			stop()
			if n := open.Load(); n != 0 {
				t.Errorf("%s, %s: %d readers are open", s.name, name, n)
			}
		}
		ctx, stop := context.WithCancel(context.Background())
		stop()
		if _, err := s.batch(ctx, body); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a canceled batch: %v", s.name, err)
		}
	}
}

// TestACanceledReaderThatIsNeverClosedEnds: whoever forgets one has its
// context as the last rope.
func TestACanceledReaderThatIsNeverClosedEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, s := range sealings(t) {
		b := must[*Batch](t)(s.batch(context.Background(), large(2<<20)))
		ctx, stop := context.WithCancel(context.Background())
		r := must[io.ReadCloser](t)(must[*Artifact](t)(s.seal(b)).Open(ctx))
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Error(err)
		}
		stop()
	}
}

// canceled wants the context's error in place of the rest.
func canceled(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("reading on gives %v", err)
	}
	return nil
}

func TestLargeMailTakesLittleMemory(t *testing.T) {
	const most = 32 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	all := sealings(t)
	from := addr(t, "ada@clinic.example")
	own := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Ada", from, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
	signer := newCertificate(t, "p256").signer()
	for _, s := range all {
		switch s.name {
		case "pgp v4":
			s.batch = func(ctx context.Context, b Body) (*Batch, error) { return PGPBatch(ctx, b, false, own, sealedAt) }
		case "smime gcm":
			s.batch = func(ctx context.Context, b Body) (*Batch, error) {
				return SMIMEBatch(ctx, b, cms.AES256GCM, signer, sealedAt)
			}
		default:
			continue
		}
		s.name += ", signed"
		all = append(all, s)
	}
	for _, s := range all {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		idle, peak := m.HeapAlloc, uint64(0)
		b := must[*Batch](t)(s.batch(context.Background(), large(14<<20))) // 10 MB in base64
		a := must[*Artifact](t)(s.seal(b))
		r := must[io.ReadCloser](t)(a.Open(context.Background()))
		sum := sha256.New()
		for {
			_, err := io.CopyN(sum, r, 256<<10)
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		_ = r.Close()
		if peak > idle && peak-idle > most {
			t.Errorf("%s: %d KiB above idle", s.name, (peak-idle)>>10)
		}
		t.Logf("%s: %d KiB above idle for %d octets", s.name, (int64(peak)-int64(idle))>>10, a.Size())
	}
}

// TestArtifactsAreReadAtTheSameTime is for the race detector, and for state
// that readers might share.
func TestArtifactsAreReadAtTheSameTime(t *testing.T) {
	for _, s := range sealings(t) {
		for size, body := range map[string]Body{"small": given(letter), "large": large(600 << 10)} {
			b := must[*Batch](t)(s.batch(context.Background(), body))
			whole := must[io.ReadCloser](t)(body.Open(context.Background()))
			want := []byte(bodyOf(string(must[[]byte](t)(io.ReadAll(whole)))))
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					a, err := s.seal(b)
					if err != nil {
						t.Error(err)
						return
					}
					r, err := a.Open(context.Background())
					if err != nil {
						t.Error(err)
						return
					}
					raw, err := io.ReadAll(r)
					plain, oerr := s.open(raw)
					if err := errors.Join(err, r.Close(), oerr); err != nil || !bytes.HasSuffix(plain, want) {
						t.Errorf("%s, %s: other octets, %v", s.name, size, err)
					}
				})
			}
			all.Wait()
		}
	}
}

// TestSealedMailNeedsSMTPUTF8ForAddressesAlone: every next hop without it
// would refuse the message.
func TestSealedMailNeedsSMTPUTF8ForAddressesAlone(t *testing.T) {
	for field, want := range map[string]bool{
		"From: Gr\u00f6\u00dfe <ada@clinic.example>\r\nSubject: Gr\u00f6\u00dfe\r\nTo: Gr\u00f6\u00dfe <pat@home.example>": false,
		"From: ada@clinic.example\r\nList-Id: Gr\u00f6\u00dfe <l.clinic.example>\r\nX-Gr: Gr\u00f6\u00dfe":                 false,
		"Received: from gr\u00f6\u00dfe.example\r\nFrom: ada@clinic.example":                                               false,
		"From: gr\u00f6\u00dfe@clinic.example":                                                                             true,
		"From: ada@clinic.example\r\nTo: gr\u00f6\u00dfe@home.example":                                                     true,
	} {
		body := given(field + "\r\n\r\nx\r\n")
		body.UTF8 = true
		for _, s := range sealings(t)[:1] {
			a := must[*Artifact](t)(s.seal(must[*Batch](t)(s.batch(context.Background(), body))))
			octets(t, a)
			if a.UTF8() != want {
				t.Errorf("%q: SMTPUTF8 %v", field, a.UTF8())
			}
		}
	}
}

// The goals are 5,000 OpenPGP and 8,000 S/MIME recipients a second on two
// cores.
func BenchmarkPGPX25519(b *testing.B)       { benchmarkSeal(b, "pgp v4") }
func BenchmarkPGPv6X25519(b *testing.B)     { benchmarkSeal(b, "pgp v6") }
func BenchmarkSMIMERSA2048(b *testing.B)    { benchmarkSeal(b, "smime cbc") }
func BenchmarkSMIMERSA2048GCM(b *testing.B) { benchmarkSeal(b, "smime gcm") }

func benchmarkSeal(b *testing.B, name string) {
	for _, s := range sealings(b) {
		if s.name != name {
			continue
		}
		text := "From: ada@clinic.example\r\nTo: pat@home.example\r\nSubject: results\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + strings.Repeat(strings.Repeat("word ", 15)+"\r\n", 133)
		batch := must[*Batch](b)(s.batch(context.Background(), given(text)))
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				a, err := s.seal(batch)
				if err != nil {
					b.Error(err)
					return
				}
				r, err := a.Open(context.Background())
				if err != nil {
					b.Error(err)
					return
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != a.Size() {
					b.Error(n, err)
					return
				}
				_ = r.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "recipients/s")
	}
}
