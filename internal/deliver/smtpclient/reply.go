package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/sealpost/sealpost/internal/private"
)

const (
	maxReplyLine  = 2048 // RFC 5321 section 4.5.3.1.5 has 512; some hosts are chatty
	maxReplyLines = 50
)

// Reply is what a mail host answered.
type Reply struct {
	Code     int
	Enhanced [3]int         // RFC 3463; zero where the host gave none
	Text     private.String // without codes; lines separated by "\n"
}

// Permanent reports whether trying the same again is useless. The enhanced
// code, which tells more, goes before the basic one.
func (r Reply) Permanent() bool {
	if r.Enhanced[0] == 4 || r.Enhanced[0] == 5 {
		return r.Enhanced[0] == 5
	}
	return r.Code/100 == 5
}

// Temporary reports whether a later attempt may succeed.
func (r Reply) Temporary() bool { return !r.Accepted() && !r.Permanent() }

// Accepted reports whether the host said yes. Only the basic code says that.
func (r Reply) Accepted() bool { return r.Code/100 == 2 }

// Status is both codes, for logs: "550 5.1.1".
func (r Reply) Status() string {
	if r.Enhanced == [3]int{} {
		return strconv.Itoa(r.Code)
	}
	return fmt.Sprintf("%d %d.%d.%d", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
}

// readReply reads one reply of RFC 5321 section 4.2 within its bounds.
func readReply(r *bufio.Reader) (Reply, error) {
	var reply Reply
	var text strings.Builder
	for n := range maxReplyLines {
		line, err := readReplyLine(r)
		if err != nil {
			return Reply{}, err
		}
		code, rest, last, err := parseReplyLine(line)
		if err != nil {
			return Reply{}, err
		}
		if n > 0 && code != reply.Code {
			return Reply{}, protocolError("the code changes within a reply")
		}
		reply.Code = code
		enhanced, rest := cutEnhanced(rest)
		if n == 0 {
			reply.Enhanced = enhanced
		} else {
			text.WriteByte('\n')
		}
		text.WriteString(printable(rest))
		if last {
			reply.Text = private.NewString(text.String())
			return reply, nil
		}
	}
	return Reply{}, protocolError("a reply has too many lines")
}

func readReplyLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), err == nil && len(line) > maxReplyLine:
		return nil, protocolError("a line of a reply is too long")
	case err != nil:
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

func parseReplyLine(line []byte) (code int, rest string, last bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, "", false, protocolError("not a reply of SMTP")
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, "", true, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, protocolError("not a reply of SMTP")
	}
	return code, string(line[4:]), line[3] == ' ', nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// cutEnhanced takes a status code such as 5.1.1 off the front (RFC 2034
// section 4). Its class may differ from the basic code's: hosts that answer
// "550 4.7.1" exist and mean the 4.
func cutEnhanced(s string) (code [3]int, rest string) {
	word, rest, _ := strings.Cut(s, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return [3]int{}, s
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || len(p) > 3 {
			return [3]int{}, s
		}
		code[i] = int(n)
	}
	return code, rest
}

// printable makes text safe to show: no control characters, valid UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return '?'
		}
		return r
	}, s)
}

// extensions are what a host offers in answer to EHLO.
type extensions struct {
	startTLS, pipelining, eightBit, utf8, requireTLS bool
	size                                             int64 // 0: no limit told
}

func parseEHLO(reply Reply) extensions {
	var x extensions
	lines := strings.Split(reply.Text.Reveal(), "\n")
	for _, line := range lines[1:] { // the first greets
		keyword, args, _ := strings.Cut(line, " ")
		switch strings.ToUpper(keyword) {
		case "STARTTLS":
			x.startTLS = true
		case "PIPELINING":
			x.pipelining = true
		case "8BITMIME":
			x.eightBit = true
		case "SMTPUTF8":
			x.utf8 = true
		case "REQUIRETLS":
			x.requireTLS = true
		case "SIZE":
			if n, err := strconv.ParseInt(strings.TrimSpace(args), 10, 64); err == nil && n > 0 {
				x.size = n
			}
		}
	}
	// RFC 6531 section 3.1: SMTPUTF8 without 8BITMIME cannot be used.
	x.utf8 = x.utf8 && x.eightBit
	return x
}
