package seal

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"

	"github.com/sealpost/sealpost/internal/mail"
)

// content is the beginning of what a part says, and knows where it stands in
// the part's body as it is encoded.
type content struct {
	encoding string
	body     []byte // encoded
	octets   []byte
	partial  bool // there is more
	// Where each octet ends (quoted-printable), or each group of three begins
	// and ends (base64).
	starts, ends []int
}

// readContent decodes the beginning of a part. partial says that the body is
// cut.
func readContent(p mail.Part, partial bool) (content, bool) {
	c := content{encoding: transferEncoding(p.Header), body: p.Body, partial: partial}
	ok := true
	switch c.encoding {
	case "", "7bit", "8bit", "binary":
		c.octets = p.Body
	case "quoted-printable":
		c.readQP()
	case "base64":
		ok = c.readBase64()
	default:
		ok = false
	}
	if len(c.octets) > displayContent {
		c.octets, c.partial = c.octets[:displayContent], true
	}
	return c, ok
}

// readQP decodes as package mail does.
func (c *content) readQP() {
	for at := 0; at < len(c.body) && len(c.octets) <= displayContent; {
		line, next := c.body[at:], len(c.body)
		var end []byte
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line, end, next = line[:i], line[i:i+1], at+i+1
			if bytes.HasSuffix(line, []byte("\r")) {
				line, end = line[:i-1], c.body[next-2:next]
			}
		}
		line = bytes.TrimRight(line, " \t")
		if bytes.HasSuffix(line, []byte("=")) {
			line, end = line[:len(line)-1], nil
		}
		for i := 0; i < len(line); i++ {
			octet := line[i]
			if octet == '=' && i+2 < len(line) {
				if high, low := hexDigit(line[i+1]), hexDigit(line[i+2]); high >= 0 && low >= 0 {
					octet = byte(high<<4 | low)
					i += 2
				}
			}
			c.octets, c.ends = append(c.octets, octet), append(c.ends, at+i+1)
		}
		for i, octet := range end {
			c.octets, c.ends = append(c.octets, octet), append(c.ends, next-len(end)+i+1)
		}
		at = next
	}
}

func hexDigit(c byte) int {
	return bytes.IndexByte([]byte("0123456789ABCDEF"), bytes.ToUpper([]byte{c})[0])
}

// readBase64 refuses what package mail does not decode.
func (c *content) readBase64() bool {
	var group []byte
	padded := false
	for i, octet := range c.body {
		switch {
		case octet == '\r' || octet == '\n' || octet == ' ' || octet == '\t':
			continue
		case octet == '=':
			padded = true
			continue
		case padded:
			return false
		}
		if len(group) == 0 {
			if len(c.octets) > displayContent {
				return true
			}
			c.starts = append(c.starts, i)
		}
		if group = append(group, octet); len(group) == 4 {
			three, err := base64.StdEncoding.AppendDecode(c.octets, group)
			if err != nil {
				return false
			}
			c.octets, c.ends, group = three, append(c.ends, i+1), group[:0]
		}
	}
	if len(group) > 0 {
		c.starts = c.starts[:len(c.ends)]
		if c.partial {
			return true
		}
		last, err := base64.RawStdEncoding.AppendDecode(c.octets, group)
		c.octets = last
		return err == nil
	}
	return true
}

// put plans an edit of the body after which the decoded content has at a place
// what is written, and is otherwise the same.
func (c content) put(place int, write func(fill int) []byte) (edit, bool) {
	switch c.encoding {
	case "base64":
		return c.putBase64(place, write)
	case "quoted-printable":
		return c.putQP(place, write(0))
	case "binary":
		return edit{at: place, put: write(0)}, true
	}
	text := write(0)
	before := place - 1 - bytes.LastIndexByte(c.octets[:place], '\n')
	after := bytes.IndexByte(c.body[place:], '\n')
	if after < 0 {
		after = len(c.body) - place
	}
	first, last := bytes.IndexByte(text, '\n'), len(text)-1-bytes.LastIndexByte(text, '\n')
	if first < 0 {
		first, last = len(text)+after, len(text)+before
	}
	if before+after <= mostColumns && max(before+first, last+after) > mostColumns {
		return edit{}, false // the line was short enough (RFC 5322 section 2.1.1)
	}
	return edit{at: place, put: text}, true
}

func (c content) putQP(place int, text []byte) (edit, bool) {
	at := 0
	if place > 0 {
		at = c.ends[place-1]
	}
	column := at - 1 - bytes.LastIndexByte(c.body[:at], '\n')
	if column > 75 {
		return edit{}, false // no room for a soft line end (RFC 2045 section 6.7)
	}
	var out bytes.Buffer
	if column > 0 {
		out.WriteString("=\r\n")
	}
	w := quotedprintable.NewWriter(&out)
	_, _ = w.Write(text) // a bytes.Buffer takes everything
	_ = w.Close()
	if text[len(text)-1] != '\n' {
		out.WriteString("=\r\n")
	}
	return edit{at: at, put: out.Bytes()}, true
}

// putBase64 writes whole groups of three octets, so that those behind them
// stay as they are. A group that the place parts is written anew.
func (c content) putBase64(place int, write func(fill int) []byte) (edit, bool) {
	text := write(0)
	if fill := len(text) % 3; fill > 0 {
		text = write(3 - fill)
	}
	group, at, size := place/3, 0, 0
	switch {
	case group < len(c.ends):
		at = c.starts[group]
	case place == len(c.octets) && place%3 == 0 && !c.partial:
		if group > 0 {
			at = c.ends[group-1]
		}
	default:
		return edit{}, false
	}
	if place%3 > 0 {
		size = c.ends[group] - at
		text = bytes.Join([][]byte{c.octets[3*group : place], text, c.octets[place : 3*group+3]}, nil)
		for at+size < len(c.body) && (c.body[at+size] == '\r' || c.body[at+size] == '\n') {
			size++
		}
	}
	var out []byte
	if at > 0 && c.body[at-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	for len(text) > 0 {
		n := min(mimeLine, len(text))
		out = append(base64.StdEncoding.AppendEncode(out, text[:n]), "\r\n"...)
		text = text[n:]
	}
	return edit{at, size, out}, true
}
