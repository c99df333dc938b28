package e2e

import (
	"database/sql"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db/dbtest"
)

// TestDiskFull fills the disk under the database. What cannot be stored is
// refused for now, what was acknowledged is not lost, and when there is room
// again everything goes on, without a restart.
func TestDiskFull(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		s := newSite(t, "", "")
		disk := smallDisk(t, "24m")
		if out, err := exec.Command("cp", "-a", s.data+"/.", disk).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Rename(s.data, s.data+".before"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(disk, s.data); err != nil {
			t.Fatal(err)
		}
		testDiskFull(t, s, disk, func() {})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		disk := smallDisk(t, "160m")
		p := ownPostgres(t, disk)
		s := newSite(t, p.URL("postgres"), "")
		// A fresh segment of the log has room, so the tables are what grows first:
		// without room for its log PostgreSQL itself goes down.
		psql(t, p, "SELECT pg_switch_wal()", "CHECKPOINT")
		testDiskFull(t, s, disk, func() {
			if !accepts(p) {
				if err := p.Start(); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

func testDiskFull(t *testing.T, s *site, disk string, repair func()) {
	s.refuseWith("no such person")
	s.start()
	l := &load{s: s}
	for range 10 {
		if err := l.one(true); err != nil {
			t.Fatal(err)
		}
		if err := l.one(false); err != nil {
			t.Fatal(err)
		}
	}
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	for n := 0; l.one(n%2 == 0) == nil; n++ {
		if n == 3000 {
			t.Fatal("the disk is never full")
		}
	}
	refusedForNow(t, s)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	repair()
	goesOn(t, l)
	checkAcknowledged(t, s, l.acked())
	verifyLedger(t, s)
}

// refusedForNow: both doors say clearly that they cannot take mail now.
func refusedForNow(t *testing.T, s *site) {
	t.Helper()
	var message = map[string]any{"from": "dr.ada@clinic.test", "to": []string{"mira@modern.example"}, "text": strings.Repeat("x", 100_000)}
	if code, err := s.call(http.MethodPost, "/api/v1/messages", message, nil); code != http.StatusServiceUnavailable ||
		!strings.Contains(err.Error(), "database_unavailable") {
		t.Errorf("the API says %d, %v", code, err)
	}
	var reply *textproto.Error
	_, err := relay(s.relay, "mira@modern.example", "Subject: x\r\n\r\n"+strings.Repeat("x\r\n", 50_000))
	if !errors.As(err, &reply) || reply.Code != 451 || !strings.HasPrefix(reply.Msg, "4.3.0 ") {
		t.Errorf("SMTP says %v", err)
	}
}

// goesOn waits until both doors take mail again, and hands some in.
func goesOn(t *testing.T, l *load) {
	t.Helper()
	for _, api := range []bool{true, false} {
		deadline := time.Now().Add(20 * time.Second)
		for err := l.one(api); err != nil; err = l.one(api) {
			if time.Now().After(deadline) {
				t.Fatalf("it does not go on: %v\n%s", err, l.s.tail())
			}
			time.Sleep(50 * time.Millisecond)
		}
		for range 5 {
			if err := l.one(api); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDatabaseGone stops PostgreSQL under load, in order and by a crash, and
// starts it again.
func TestDatabaseGone(t *testing.T) {
	p := ownPostgres(t, "")
	s := newSite(t, p.URL("postgres"), "")
	s.refuseWith("no such person")
	s.start()
	l := &load{s: s}
	stop := l.begin()
	for _, how := range []string{"fast", "immediate"} {
		l.reaches(t, len(l.acked())+20)
		if err := p.Stop(how); err != nil {
			t.Fatal(err)
		}
		if code := s.probe("/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz without a database: %d", code)
		}
		if code := s.probe("/healthz"); code != http.StatusOK {
			t.Errorf("/healthz without a database: %d", code)
		}
		refusedForNow(t, s)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		l.reaches(t, len(l.acked())+50)
		if code := s.probe("/readyz"); code != http.StatusOK {
			t.Errorf("/readyz afterwards: %d", code)
		}
	}
	stop()
	checkAcknowledged(t, s, l.acked())
	verifyLedger(t, s)
}

// probe asks the server's health listener and gives the status, 0 when it does
// not answer.
func (s *site) probe(path string) int {
	resp, err := http.Get("http://" + s.metrics + path)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// smallDisk is a file system of its own, in memory.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost-disk-")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=755"); err != nil {
		t.Fatalf("mount a tmpfs, for which it takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		_ = os.Remove(dir)
	})
	return dir
}

// fill writes a file until the disk has no room.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) >= 4096; block = block[:len(block)/2] {
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
}

// ownPostgres starts a server that a test may stop, in dir if that is given.
func ownPostgres(t *testing.T, dir string) *dbtest.Postgres {
	t.Helper()
	before := os.Getenv("TMPDIR")
	if dir != "" {
		t.Setenv("TMPDIR", dir)
	}
	p, err := dbtest.NewPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop("immediate"); _ = os.RemoveAll(p.Dir) })
	t.Setenv("TMPDIR", before)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func psql(t *testing.T, p *dbtest.Postgres, statements ...string) {
	t.Helper()
	d, err := sql.Open("pgx", p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, s := range statements {
		if _, err := d.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// accepts reports whether the server takes connections.
func accepts(p *dbtest.Postgres) bool {
	d, err := sql.Open("pgx", p.URL("postgres"))
	if err != nil {
		return false
	}
	defer d.Close()
	return d.Ping() == nil
}
