package seal

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
)

const (
	mostTime   = time.Second * slower
	mostMemory = (64 << 20) * slower
)

// measured runs f and gives the processor time it took and the most memory in
// use beside what was there before.
func measured(f func()) (took time.Duration, memory int64) {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	debug.FreeOSMemory()
	inUse := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	before := inUse()
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		for {
			most = max(most, inUse()-before)
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	start := processor()
	f()
	took = processor() - start
	close(stop)
	return took, <-done
}

func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // of ourselves it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pgpBomb is an OpenPGP message to Bob that is small and holds zeros.
func pgpBomb(t *testing.T, algorithm string, size int) string {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	env := []string{"GNUPGHOME=" + home}
	gpg := []string{"gpg", "--batch", "--quiet", "--no-tty", "--trust-model=always", "--pinentry-mode=loopback", "--passphrase="}
	output(t, env, "", append(gpg, "--import", filepath.Join(openFolder, "keys", "bob.asc"))...)
	return output(t, env, entityText+strings.Repeat("\x00", size), append(gpg, "--armor", "-e", "-r", "bob@clinic.example", "--compress-algo="+algorithm, "-z9")...)
}

func TestOpenIsBounded(t *testing.T) {
	var deflated bytes.Buffer
	z := zlib.NewWriter(&deflated)
	for range 100 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	zip := pgpBomb(t, "zlib", 50<<20)
	bomb := string(encryptedMail(zip))
	bomb = bomb[strings.Index(bomb, "Content-Type:"):]
	nested := entityText
	alice := recipientOf(t, "alice")
	signer := &cms.Signer{Key: alice.Key.(crypto.Signer), Certificate: alice.Certificate}
	for range 12 {
		der, err := cms.SignOpaque(signer, []byte(nested), openedAt)
		if err != nil {
			t.Fatal(err)
		}
		nested = "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n" + string(der)
	}
	mixed := func(part string, times int) []byte {
		return letterOf("multipart/mixed; boundary=around", "\r\n"+strings.Repeat("--around\r\n"+part+"\r\n", times)+"--around--\r\n")
	}
	deep := "\r\n"
	for i := range 5000 {
		deep += fmt.Sprintf("--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
	}
	filler := strings.Repeat("0123456789abcdef0123456789abcdef\r\n", 300_000) // 10 MB
	o := bobs(t)
	for _, tc := range []struct {
		name, words string
		raw         []byte
	}{
		{"OpenPGP, zlib", "too_large", encryptedMail(zip)},
		{"OpenPGP, bzip2", "too_large", encryptedMail(pgpBomb(t, "bzip2", 16<<20))},
		{"OpenPGP, twenty times", "too_large too_deep not_signed part_encrypted", mixed(bomb, 20)},
		{"CMS, compressed", "compressed", pkcs7Mail(compressedData(deflated.String()))},
		{"CMS, compressed, a hundred times", "compressed not_signed", mixed(strings.SplitAfterN(string(pkcs7Mail(compressedData(deflated.String()))), "MIME-Version: 1.0\r\n", 2)[1], 100)},
		{"CMS, in each other", "too_deep", append([]byte("From: alice@sender.example\r\n"), nested...)},
		{"multiparts in each other", "not_signed structure_broken", letterOf("multipart/mixed; boundary=b0", deep)},
		{"many parts", "not_signed structure_broken", mixed("x", 100_000)},
		{"delimiters", "not_signed structure_broken", letterOf("multipart/mixed; boundary=b", "\r\n"+strings.Repeat("--b", 3<<20))},
		{"a long field", "malformed", []byte("Subject: " + strings.Repeat("x", 10<<20) + "\r\n\r\nx")},
		{"a folded field", "malformed", []byte("Subject:\r\n " + strings.ReplaceAll(filler, "\r\n", "\r\n ") + "\r\n\r\nx")},
		{"many fields", "malformed", []byte(strings.Repeat("A: b\r\n", 2<<20) + "\r\nx")},
		{"many senders", "not_signed no_from", []byte("From: " + strings.Repeat("a@b.example, ", 60_000) + "c@d.example\r\n\r\nx")},
		{"a long name", "not_signed no_from", []byte("From: \"" + strings.Repeat("a@", 400_000) + "\" <c@d.example>\r\n\r\nx")},
		{"CMS of nothing", "not_signed malformed_protection", pkcs7Mail(strings.Repeat("\x30\x80", 4<<20))},
		{"CMS of lengths", "not_signed malformed_protection", pkcs7Mail("\x30\x84\xff\xff\xff\xff" + strings.Repeat("\x24\x80", 1<<20))},
		{"armor of nothing", "cannot_decrypt", encryptedMail("-----BEGIN PGP MESSAGE-----\n\n" + strings.Repeat("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", 150_000) + "-----END PGP MESSAGE-----\n")},
		{"ten megabytes of text", "not_signed", letterOf("text/plain", "\r\n"+filler)},
		{"ten megabytes of HTML", "not_signed", letterOf("text/html", "\r\n"+strings.ReplaceAll(filler, "\r\n", "<"))},
		{"ten megabytes signed by nobody", "signature_invalid", signedMail("application/pgp-signature", "Content-Type: text/plain\r\n\r\n"+filler, "x")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got *Opened
			var err error
			took, memory := measured(func() { got, err = Open(tc.raw, o) })
			if err != nil {
				t.Fatal(err)
			}
			if took > mostTime || memory > mostMemory {
				t.Errorf("%d octets took %v and %d MB", len(tc.raw), took, memory>>20)
			}
			t.Logf("%d octets: %v, %d MB, %s %s", len(tc.raw), took.Round(time.Millisecond), memory>>20, got.Verdict.Outcome, doubts(got.Verdict))
			if tc.words != "" && doubts(got.Verdict) != tc.words || got.Verdict.Outcome == Proved {
				t.Errorf("%s %q, want %q", got.Verdict.Outcome, doubts(got.Verdict), tc.words)
			}
		})
	}
	o.Limits.Bytes = 1000
	if _, err := Open(make([]byte, 1001), o); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a message over the limit: %v", err)
	}
}

// compressedData is CompressedData (RFC 3274); the openssl of Debian is built
// without it.
func compressedData(content string) string {
	element := func(tag byte, body string) string {
		n := len(body)
		return string([]byte{tag, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + body
	}
	const compressed, zlib, data = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x09", "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x03\x08", "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	return element(0x30, compressed+element(0xa0, element(0x30, "\x02\x01\x00"+element(0x30, zlib)+element(0x30, data+element(0xa0, element(0x04, content))))))
}
