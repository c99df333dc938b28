package custody_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/id"
)

// TestTheTombstoneComesFirst watches the folder: after a crash at any moment a
// key file is whole or there is a tombstone.
func TestTheTombstoneComesFirst(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	org := id.New()
	index := orgKey(org, 0)
	index.Ref = custody.Ref{Kind: custody.KindIndex, Org: org}
	for _, k := range []custody.Key{orgKey(org, 1), orgKey(org, 2), index} {
		if err := f.Create(k); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_MODIFY|syscall.IN_MOVE|syscall.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Destroy(org, time.Now()); err != nil {
		t.Fatal(err)
	}
	stone, erased := false, 0
	for _, e := range events(t, fd) {
		switch {
		case strings.HasSuffix(e.name, ".destroyed"):
			stone = stone || e.mask&syscall.IN_MOVED_TO != 0
		case strings.HasSuffix(e.name, ".json"):
			if !stone {
				t.Errorf("%s is changed before there is a tombstone", e.name)
			}
			if e.mask&syscall.IN_DELETE != 0 {
				erased++
			}
		}
	}
	if !stone || erased != 3 {
		t.Errorf("tombstone: %v; %d files erased, want 3", stone, erased)
	}
}

type event struct {
	name string
	mask uint32
}

// events reads what inotify(7) has seen so far.
func events(t *testing.T, fd int) (all []event) {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := syscall.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	for buf = buf[:n]; len(buf) >= syscall.SizeofInotifyEvent; {
		mask := binary.NativeEndian.Uint32(buf[4:])
		end := syscall.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		name, _, _ := bytes.Cut(buf[syscall.SizeofInotifyEvent:end], []byte{0})
		all = append(all, event{string(name), mask})
		buf = buf[end:]
	}
	return all
}
