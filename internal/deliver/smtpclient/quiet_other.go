//go:build !unix

package smtpclient

import "net"

// quiet cannot tell here; the next Send will.
func quiet(net.Conn) bool { return true }
