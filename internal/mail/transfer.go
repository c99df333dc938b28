package mail

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"mime/quotedprintable"
	"strings"
)

// Has8Bit reports whether an octet beyond ASCII is in b. It looks at eight at
// a time: every octet of every message passes here.
func Has8Bit(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b)&0x8080808080808080 != 0 {
			return true
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// decodeQ decodes =XX and keeps what is not such an escape.
func decodeQ(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '=' && i+2 < len(b) {
			hi, lo := unhex(b[i+1]), unhex(b[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// decodeQP decodes quoted-printable (RFC 2045 section 6.7). What is no valid
// escape is kept, as the section advises robust readers.
func decodeQP(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		end := ""
		if found {
			end = "\n"
			if bytes.HasSuffix(line, []byte("\r")) {
				line, end = line[:len(line)-1], "\r\n"
			}
		}
		line = bytes.TrimRight(line, " \t")
		if bytes.HasSuffix(line, []byte("=")) {
			line, end = line[:len(line)-1], ""
		}
		out = append(append(out, decodeQ(line)...), end...)
		b = rest
	}
	return out
}

// decodeBase64 decodes the body of a part. It says no to anything but base64,
// line ends and a tail of padding, so that nothing is dropped unseen.
func decodeBase64(b []byte) ([]byte, bool) {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			clean = append(clean, c)
		}
	}
	clean = bytes.TrimRight(clean, "=")
	n, err := base64.RawStdEncoding.Decode(clean, clean)
	return clean[:n], err == nil
}

// encodeBase64 writes base64 in lines of 76 (RFC 2045 section 6.8), the last
// one ended too.
func encodeBase64(b []byte) []byte {
	const width = 57
	out := make([]byte, 0, (len(b)+2)/3*4+(len(b)/width+1)*2)
	for len(b) > 0 {
		n := min(width, len(b))
		out = base64.StdEncoding.AppendEncode(out, b[:n])
		out = append(out, '\r', '\n')
		b = b[n:]
	}
	return out
}

// encodeQP writes quoted-printable with CRLF line ends as line breaks.
func encodeQP(b []byte) []byte {
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	_, _ = w.Write(b) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// crlf gives text with CRLF line ends and no others.
func crlf(s string) string { return toCRLF.Replace(s) }

var toCRLF = strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n")
