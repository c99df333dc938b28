package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime/quotedprintable"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/sealpost/sealpost/e2e/internal/await"
	"github.com/sealpost/sealpost/internal/db/dbtest"
)

// canaries are words that stand nowhere else. Each kind of content has one.
var canaries = map[string]string{
	"subject": "Kanarienvogel-Betreff-71", "text": "quetzal-body-text-4482", "html": "quetzal-html-part-9315",
	"local part": "zaunkoenig.patient77", "file name": "albatros-befund-2093", "attachment": "PELIKAN-attachment-5561",
	"tag": "eisvogel-tag-3347", "metadata": "wiedehopf-meta-8826", "header": "turmfalke-header-1954",
	"sender name": "Goldammer-Sendername", "smtp subject": "Rohrdommel-SMTP-subj", "smtp body": "rotkehlchen-smtp-6617",
	"reply": "blaumeise-reply-7719", "archive": "kiebitz.archive9102", "suppressed": "bachstelze.stop4417", "imported": "dompfaff.list8230",
	"note": "zilpzalp-note-6641", "matter": "Steinkauz-v-Clinic-3308", "hold reason": "eichelhaeher-subpoena-5527", "holder": "Mauersegler-officer-2204",
	"held": "schwarzspecht.held5093", "diagnostic": "wendehals-mailbox-9954", "report contact": "kranich.contact7736", "report comment": "seeadler-comment-1183",
	"member": "nachtigall.nurse6659", "stranger": "habicht.outside3318", "inbound": "gimpel-inbound-text-4471",
	"partner key": "kernbeisser-partner-key-8813-xyz", // octets of a private key
	// What PKCS #8 has before the octets of an RSA key, whatever they are.
	"DKIM key": "\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x82",
}

// TestCanary sends marked content through every flow and finds it neither on
// the wire nor, after a kill, on disk: not in the data folder, the logs or the
// database's files.
func TestCanary(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testCanary(t, "", nil) })
	t.Run("PostgreSQL", func(t *testing.T) { testCanary(t, dbtest.PostgresURL(t), []string{dbtest.PostgresDir(t)}) })
}

func testCanary(t *testing.T, databaseURL string, disks []string) {
	traces := newCollector(t)
	s := newSite(t, databaseURL, traces.settings())
	wire := capture(t, s)
	s.plant(t)
	sv := s.start()
	to := canaries["local part"]
	s.refuseWith(canaries["reply"])
	r, err := s.post(map[string]any{
		"from": canaries["sender name"] + " <dr.ada@clinic.test>", "subject": canaries["subject"],
		"to":   []string{to + "@modern.example", to + "@expired.example", to + "@says-no.example"},
		"text": canaries["text"], "html": "<p>" + canaries["html"] + "</p>", "tags": []string{canaries["tag"]},
		"metadata": map[string]string{"visit": canaries["metadata"]}, "headers": map[string]string{"X-Visit": canaries["header"]},
		"attachments": []map[string]any{{"filename": canaries["file name"] + ".txt", "content_type": "text/plain",
			"content": base64.StdEncoding.EncodeToString([]byte(canaries["attachment"]))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"delivered", "waiting", "failed"} {
		s.settles(r.Deliveries[i].ID, want)
	}
	if page := s.reader(to + "@expired.example").open(); !strings.Contains(page, canaries["text"]) {
		t.Fatal("the portal does not show the message")
	}
	s.sendToKeys(t, to)
	s.submit(t, to+"@expired.example", canaries["smtp subject"], canaries["smtp body"])
	s.submit(t, to+"@says-no.example", canaries["smtp subject"], canaries["smtp body"]) // leads to a DSN
	if _, err := s.net.Wait(t.Context(), "dr.ada@clinic.test", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.call("POST", "/api/v1/messages/search", map[string]any{"recipient": to + "@modern.example"}, nil); err != nil {
		t.Fatal(err)
	}
	s.comesIn(t, r.Deliveries[0].ID)
	s.tells(t)
	search(t, "the traces", traces.traces(t))
	_ = sv.end(syscall.SIGKILL)
	captured := wire()
	if len(captured) < 50_000 {
		t.Fatalf("the capture has only %d bytes", len(captured))
	}
	search(t, "the wire", captured)
	for _, dir := range append([]string{s.dir}, disks...) {
		searchDir(t, dir)
	}
}

// refuseWith brings up a host that quotes in its refusal, as hosts do.
func (s *site) refuseWith(text string) {
	s.t.Helper()
	if err := s.net.AddDomain(saysNo(text)); err != nil {
		s.t.Fatal(err)
	}
}

// TestCanarySearchFinds plants each word in each encoding and must find it:
// a search that finds nothing proves something only if it can find.
func TestCanarySearchFinds(t *testing.T) {
	for kind, word := range canaries {
		for i, form := range forms(word) {
			hay := append([]byte(strings.Repeat("x", 1000)), form...)
			if len(found(hay)) == 0 {
				t.Errorf("%s in form %d is not found", kind, i)
			}
		}
		for pad := range 3 {
			hay := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("p", pad) + "before " + word + " after"))
			if len(found([]byte(hay))) == 0 {
				t.Errorf("%s in base64 at offset %d is not found", kind, pad)
			}
		}
	}
}

// forms are the encodings a word could leak in.
func forms(word string) (all [][]byte) {
	all = append(all, []byte(word), []byte(strings.ToLower(word)), []byte(strings.ToUpper(word)))
	for _, order := range []int{0, 1} {
		var b []byte
		for _, u := range utf16.Encode([]rune(word)) {
			pair := []byte{byte(u), byte(u >> 8)}
			b = append(b, pair[order], pair[1-order])
		}
		all = append(all, b)
	}
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	_, _ = w.Write([]byte(word))
	_ = w.Close()
	all = append(all, qp.Bytes(), []byte(fmt.Sprintf("%x", word)))
	for pad := range 3 {
		// The bytes of the word that do not depend on what stands around it.
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", pad) + word))
		from := []int{0, 2, 3}[pad]
		upTo := (pad+len(word))/3*4 - 1
		all = append(all, []byte(enc[from:upTo]), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(enc[from:upTo])))
	}
	return all
}

func found(hay []byte) (kinds []string) {
	for kind, word := range canaries {
		for _, form := range forms(word) {
			if bytes.Contains(hay, form) {
				kinds = append(kinds, kind)
				break
			}
		}
	}
	return kinds
}

func search(t *testing.T, where string, hay []byte) {
	t.Helper()
	for _, kind := range found(hay) {
		t.Errorf("%s shows the %s", where, kind)
	}
}

func searchDir(t *testing.T, dir string) {
	t.Helper()
	files := 0
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, ".pcap") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		search(t, strings.TrimPrefix(path, dir), b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if files < 3 {
		t.Fatalf("only %d files in %s", files, dir)
	}
}

// capture records everything on the loopback interface but the port that
// mailboxes are read from. The function it gives stops it and reads the file.
func capture(t *testing.T, s *site) func() []byte {
	t.Helper()
	_, mailboxes, err := net.SplitHostPort(strings.TrimPrefix(s.net.MailboxesURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return tcpdump(t, filepath.Join(s.dir, "wire.pcap"), "not", "port", mailboxes)
}

// lastPacket is the address of a packet that ends a capture, and its content.
const lastPacket = "127.23.250.99"

// tcpdump records what a filter lets through.
func tcpdump(t *testing.T, file string, filter ...string) func() []byte {
	t.Helper()
	cmd := exec.Command("tcpdump", append([]string{"-i", "lo", "-U", "--immediate-mode", "-s", "0", "-B", "65536", "-w", file, "-Z", "root"}, append(filter, "or", "host", lastPacket)...)...)
	errs := &bytes.Buffer{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatalf("tcpdump: %v", err)
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGINT)
			_ = cmd.Wait()
		})
	}
	t.Cleanup(stop)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("tcpdump does not start: %s", errs)
		}
	}
	return func() []byte {
		// What the kernel still holds comes before this.
		mark, err := net.Dial("udp", lastPacket+":9")
		if err != nil {
			t.Fatal(err)
		}
		defer mark.Close()
		if _, err := mark.Write([]byte(lastPacket)); err != nil {
			t.Fatal(err)
		}
		await.Until(t, func() string {
			if b, err := os.ReadFile(file); err != nil || !bytes.Contains(b, []byte(lastPacket)) {
				return "the capture has not come to its end"
			}
			return ""
		})
		stop()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
