//go:build unix

package smtpclient

import (
	"errors"
	"net"
	"syscall"
)

// quiet reports whether an idle connection is open with nothing to read. Its
// end, or a 421 said into the silence, would show.
func quiet(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		open = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && open
}
