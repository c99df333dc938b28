package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/await"
	"github.com/sealpost/sealpost/internal/db/dbtest"
)

// Where the two engines keep the log that makes a commit durable.
var (
	sqliteLog   = regexp.MustCompile(`sealpost\.db-wal>`)
	postgresLog = regexp.MustCompile(`/pg_wal/[0-9A-F]{24}>`)
)

// TestDurability watches the system calls of the server, and of PostgreSQL:
// before 250 and before 202 are written to the client, the database's log was
// written and an fsync or fdatasync of it has returned.
func TestDurability(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testDurability(t, newSite(t, "", ""), sqliteLog, nil) })
	t.Run("PostgreSQL", func(t *testing.T) {
		testDurability(t, newSite(t, dbtest.PostgresURL(t), ""), postgresLog, func() []int {
			return postgresProcesses(t, dbtest.PostgresDir(t))
		})
	})
}

const watched = 3 // messages through each door

func testDurability(t *testing.T, s *site, log *regexp.Regexp, more func() []int) {
	sv := s.start()
	var pids []int
	if more != nil {
		pids = more()
	}
	tr := sv.trace(t, pids)
	viaSMTP := dialRelay(t, s.relay)
	viaAPI := dialAPI(t, s)
	for range watched {
		tr.quiet(log)
		viaSMTP.mail(t, "dr.ada@clinic.test", "mira@modern.example")
		if reply := viaSMTP.data(t, "From: dr.ada@clinic.test\r\nSubject: x\r\n\r\nx\r\n"); !strings.HasPrefix(reply, "250 ") {
			t.Fatal(reply)
		}
		tr.quiet(log)
		said := len(writesTo(parseTrace(t, tr.file), viaAPI.port))
		viaAPI.send(t, http.StatusAccepted)
		await.Until(t, func() string { // strace writes down what the client has seen already
			if w := writesTo(parseTrace(t, tr.file), viaAPI.port); len(w) == said || !w[len(w)-1].ok {
				return "the trace shows no answer"
			}
			return ""
		})
	}
	all := tr.calls()
	for _, door := range []struct {
		name string
		port int
	}{{"250", viaSMTP.port}, {"202", viaAPI.port}} {
		n := watched
		if door.name == "250" {
			n *= 4 // MAIL, RCPT, DATA and the end
		}
		pairs := answers(t, all, door.port, n)
		for i, p := range pairs {
			if door.name == "250" {
				if i%4 != 3 {
					continue
				}
				if !strings.Contains(p[1].text, "250 2.0.0 Accepted") {
					t.Fatalf("this is not the answer to a message: %s", p[1].text)
				}
			}
			if !syncedBetween(all, log, p[0], p[1]) {
				t.Errorf("%s was written before the log was synced", door.name)
			}
		}
	}
}

// TestDurabilitySearch gives the search traces in the right and in the wrong
// order.
func TestDurabilitySearch(t *testing.T) {
	const before, answer = `1 write(5<TCP:[127.0.0.1:1->127.0.0.1:77]>, "354", 3) = 3`, `1 write(5<TCP:[127.0.0.1:1->127.0.0.1:77]>, "250", 3) = 3`
	const write = `2 pwrite64(9</x/sealpost.db-wal>, ""..., 4096, 0) = 4096`
	for name, c := range map[string]struct {
		lines []string
		want  bool
	}{
		"in order":          {[]string{before, write, `2 fdatasync(9</x/sealpost.db-wal>) = 0`, answer}, true},
		"torn in order":     {[]string{before, write, `2 fsync(9</x/sealpost.db-wal> <unfinished ...>`, `2 <... fsync resumed>) = 0`, answer}, true},
		"answered too soon": {[]string{before, write, `2 fsync(9</x/sealpost.db-wal> <unfinished ...>`, answer, `2 <... fsync resumed>) = 0`}, false},
		"reversed":          {[]string{before, answer, write, `2 fdatasync(9</x/sealpost.db-wal>) = 0`}, false},
		"no sync":           {[]string{before, write, answer}, false},
		"synced too soon":   {[]string{before, `2 fdatasync(9</x/sealpost.db-wal>) = 0`, write, answer}, false},
		"failed":            {[]string{before, write, `2 fdatasync(9</x/sealpost.db-wal>) = -1 EIO (Input/output error)`, answer}, false},
		"another file":      {[]string{before, write, `2 fdatasync(9</x/sealpost.db>) = 0`, answer}, false},
	} {
		file := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(file, []byte(strings.Join(c.lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		all := parseTrace(t, file)
		p := answers(t, all, 77, 1)[0]
		if got := syncedBetween(all, sqliteLog, p[0], p[1]); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestSyncFails makes every fsync fail: nothing is acknowledged, and when the
// disk works again so does the server.
func TestSyncFails(t *testing.T) {
	s := newSite(t, "", "")
	sv := s.start()
	tr := sv.trace(t, nil, "-e", "inject=fsync,fdatasync:error=EIO")
	door := dialRelay(t, s.relay)
	door.mail(t, "dr.ada@clinic.test", "mira@modern.example")
	if reply := door.data(t, "From: dr.ada@clinic.test\r\nSubject: x\r\n\r\nx\r\n"); !strings.HasPrefix(reply, "451 4.3.0 ") {
		t.Errorf("SMTP on a disk that fails: %s", reply)
	}
	dialAPI(t, s).send(t, http.StatusServiceUnavailable)
	tr.detach()
	r, err := s.post(map[string]any{"to": []string{"mira@modern.example"}, "text": "x"})
	if err != nil {
		t.Fatalf("after the disk came back: %v", err)
	}
	s.settles(r.Deliveries[0].ID, "delivered")
	if n := len(s.net.Messages("")); n != 1 {
		t.Errorf("%d messages arrived, want the acknowledged one", n)
	}
}

// postgresProcesses lists the processes of a PostgreSQL server.
func postgresProcesses(t *testing.T, dir string) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%s/task/%s/children", first, first))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range append([]string{first}, strings.Fields(string(children))...) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// smtpDoor is a client in clear that keeps every reply.
type smtpDoor struct {
	c    *textproto.Conn
	port int // of the client
}

func dialRelay(t *testing.T, addr string) *smtpDoor {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newDoor(t, conn)
}

// newDoor greets over a connection on which the server speaks first.
func newDoor(t *testing.T, conn net.Conn) *smtpDoor {
	t.Helper()
	d := &smtpDoor{textproto.NewConn(conn), conn.LocalAddr().(*net.TCPAddr).Port}
	t.Cleanup(func() { _ = d.c.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	d.reply(t)
	d.ask(t, "EHLO client.clinic.test")
	return d
}

// overTLS greets again, behind STARTTLS.
func overTLS(t *testing.T, conn net.Conn) *smtpDoor {
	t.Helper()
	d := &smtpDoor{textproto.NewConn(conn), conn.LocalAddr().(*net.TCPAddr).Port}
	d.ask(t, "EHLO client.clinic.test")
	return d
}

// reply reads one reply; of several lines it gives the last.
func (d *smtpDoor) reply(t *testing.T) string {
	t.Helper()
	for {
		line, err := d.c.ReadLine()
		if err != nil {
			t.Fatalf("read a reply: %v", err)
		}
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

func (d *smtpDoor) ask(t *testing.T, format string, args ...any) string {
	t.Helper()
	if err := d.c.PrintfLine(format, args...); err != nil {
		t.Fatal(err)
	}
	return d.reply(t)
}

// mail opens a transaction, which must be taken.
func (d *smtpDoor) mail(t *testing.T, from string, to ...string) {
	t.Helper()
	lines := []string{"MAIL FROM:<" + from + ">"}
	for _, a := range to {
		lines = append(lines, "RCPT TO:<"+a+">")
	}
	for _, line := range lines {
		if reply := d.ask(t, "%s", line); !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("%s: %s", line, reply)
		}
	}
}

// data sends a message, dots stuffed, and gives the last reply.
func (d *smtpDoor) data(t *testing.T, message string) string {
	t.Helper()
	if reply := d.ask(t, "DATA"); !strings.HasPrefix(reply, "354 ") {
		return reply
	}
	stuffed := strings.ReplaceAll("\r\n"+message, "\r\n.", "\r\n..")[2:]
	if _, err := io.WriteString(d.c.W, stuffed); err != nil {
		t.Fatal(err)
	}
	return d.ask(t, ".")
}

// apiDoor is one connection to the API that stays open.
type apiDoor struct {
	s    *site
	conn net.Conn
	r    *bufio.Reader
	port int
}

func dialAPI(t *testing.T, s *site) *apiDoor {
	t.Helper()
	conn, err := tls.Dial("tcp", s.http, &tls.Config{RootCAs: s.net.CAPool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return &apiDoor{s, conn, bufio.NewReader(conn), conn.LocalAddr().(*net.TCPAddr).Port}
}

// send hands in a message that is not due yet, and checks the status.
func (d *apiDoor) send(t *testing.T, want int) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"from": "dr.ada@clinic.test", "to": []string{"mira@modern.example"}, "text": "x",
		"send_at": time.Now().Add(time.Hour).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, d.s.url+"/api/v1/messages", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.s.key)
	req.Header.Set("Content-Type", "application/json")
	if err := req.Write(d.conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(d.r, req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("POST /api/v1/messages: %s: %s (%v), want %d", resp.Status, answer, err, want)
	}
}
