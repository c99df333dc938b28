package scan

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// ClamAV is a client of clamd.
type ClamAV struct {
	network, addr string
	dial          Dial
	timeout       time.Duration
}

// ClamAVDeps are what a ClamAV is made with.
type ClamAVDeps struct {
	URL     string        // tcp://host:port or unix:///path
	Dial    Dial          // nil: a plain one
	Timeout time.Duration // of one message; zero: a minute
}

// NewClamAV makes a client. It asks nothing yet.
func NewClamAV(d ClamAVDeps) (*ClamAV, error) {
	u, err := url.Parse(d.URL)
	if err != nil {
		return nil, errors.New("the URL of clamd cannot be read")
	}
	c := &ClamAV{dial: d.Dial.or(), timeout: d.Timeout}
	if c.timeout == 0 {
		c.timeout = defaultTime
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		c.network, c.addr = "unix", u.Path
	case u.Scheme == "tcp" && u.Port() != "" && u.Path == "":
		c.network, c.addr = "tcp", u.Host
	default:
		return nil, errors.New("the URL of clamd is tcp://host:port or unix:///path")
	}
	return c, nil
}

const (
	chunk      = 64 << 10
	answerMax  = 1024 // octets that clamd says
	nothing    = "stream: OK"
	foundWord  = " FOUND"
	answerHead = "stream: "
)

// signature is the form in which names of what was found may be shown.
var signature = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:!+-]{0,127}$`)

// Ping reports whether clamd answers.
func (c *ClamAV) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, done, err := c.open(ctx)
	if err != nil {
		return unavailable(err)
	}
	defer done()
	if _, err := io.WriteString(conn, "zPING\x00"); err != nil {
		return unavailable(err)
	}
	answer, err := listen(conn)
	if err == nil && answer != "PONG" {
		err = errors.New("clamd does not say PONG")
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// Check reads a message to its end and gives the name of what was found in it,
// or "". A name that is of no known form is "unnamed".
func (c *ClamAV) Check(ctx context.Context, message io.Reader) (found string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, done, err := c.open(ctx)
	if err != nil {
		return "", unavailable(err)
	}
	defer done()
	in := &source{r: message}
	// clamd may answer before it has heard everything, so its answer counts
	// for more than what became of the sending.
	sent := stream(conn, in)
	if in.err != nil {
		return "", in.err
	}
	answer, err := listen(conn)
	if err != nil {
		return "", unavailable(errors.Join(sent, err))
	}
	name, ok := strings.CutSuffix(answer, foundWord)
	switch {
	case answer == nothing && sent == nil:
		return "", nil
	case ok:
		if name, ok = strings.CutPrefix(name, answerHead); !ok || !signature.MatchString(name) {
			name = "unnamed"
		}
		return name, nil
	case strings.Contains(answer, "size limit exceeded"):
		return "", unavailable(errors.New("the message is larger than StreamMaxLength of clamd"))
	}
	return "", unavailable(errors.New("clamd answers something else than what it found"))
}

// open connects; done hangs up and stops watching ctx.
func (c *ClamAV) open(ctx context.Context) (conn net.Conn, done func(), err error) {
	conn, err = c.dial(ctx, c.network, c.addr)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to clamd: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

// stream is INSTREAM of clamd(8): chunks behind their length, and one of none.
func stream(conn net.Conn, message io.Reader) error {
	if _, err := io.WriteString(conn, "zINSTREAM\x00"); err != nil {
		return err
	}
	buf := make([]byte, 4+chunk)
	for {
		n, err := io.ReadFull(message, buf[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			if _, err := conn.Write(buf[:4+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, err := conn.Write([]byte{0, 0, 0, 0})
			return err
		case err != nil:
			return err
		}
	}
}

func listen(conn net.Conn) (string, error) {
	answer, err := bufio.NewReader(io.LimitReader(conn, answerMax)).ReadString(0)
	if err != nil {
		return "", fmt.Errorf("clamd gives no whole answer: %w", err)
	}
	return strings.TrimSuffix(answer, "\x00"), nil
}
