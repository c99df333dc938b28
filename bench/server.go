package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// server is a mail server that runs for one round.
type server interface {
	pids() []int       // of the processes that all others descend from
	relayAddr() string // where it takes mail
	stop()
}

// apart starts a process in a session of its own. Linux shares the processors
// out between sessions first (sched_autogroup), and Postfix makes one for
// itself: without this it alone would have a share apart from the generator's.
func apart(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// freePort gives a port of 127.0.0.1 that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// awaitListener returns when somebody listens at addr.
func awaitListener(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody listens at %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tmpfs is the type of a file system in memory (statfs(2)).
const tmpfs = 0x01021994

// workFolder makes the folder of a run. Processes of other users look into it,
// and it must be on a disk: syncs to memory would be no syncs.
func workFolder(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "sealpost-bench-")
	if err != nil {
		return "", err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return dir, fmt.Errorf("look at the file system of %s: %w", parent, err)
	}
	if fs.Type == tmpfs {
		return dir, fmt.Errorf("%s is in memory, where a sync costs nothing: name a folder on a disk with -dir", parent)
	}
	return dir, os.Chmod(dir, 0o755)
}
