// Package parcel opens what machine-made reports arrive in: mails with
// attachments, gzip, zip, or the bare document.
//
// Invariants:
//   - What comes out is bounded in octets together, in pieces and in nesting,
//     whatever is put in: one that would unpack to more is refused before more
//     is unpacked. So is what is unpacked on the way: files within files that
//     hold nothing in the end cost no more.
//   - What a piece is, its octets tell; what a mail calls it, is only kept.
package parcel

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// The bounds.
const (
	MaxPacked = 24 << 20 // octets that are read
	MaxOpen   = 16 << 20 // octets that come out, of all pieces together
	maxPieces = 64
	maxOpened = 4 * maxPieces // pieces and what they were packed in
	maxDepth  = 10
	maxOnWay  = 2 * MaxOpen // octets of pieces and of what they were packed in, that were unpacked
)

// Piece is something that was in the parcel.
type Piece struct {
	Media string // what the mail called it; empty outside of mails
	Body  []byte
}

// Kinds of bodies.
func (p Piece) trimmed() []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(p.Body, []byte("\xef\xbb\xbf")), " \t\r\n")
}

// XML reports whether the piece begins like an XML document.
func (p Piece) XML() bool { return bytes.HasPrefix(p.trimmed(), []byte("<")) }

// JSON reports whether the piece begins like a JSON object.
func (p Piece) JSON() bool { return bytes.HasPrefix(p.trimmed(), []byte("{")) }

func tooLarge() error {
	return fault.Newf(fault.TooLarge, "report_too_large",
		"The report is larger than %d MiB, or than %d MiB when it is unpacked.", MaxPacked>>20, MaxOpen>>20)
}

func damaged(what string) *fault.Fault {
	return fault.Newf(fault.Invalid, "report_damaged", "The %s that holds the report is damaged or nested too deep.", what)
}

// Open unpacks everything. What cannot be unpacked is an error.
func Open(r io.Reader) ([]Piece, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxPacked+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxPacked {
		return nil, tooLarge()
	}
	o := &opener{left: MaxOpen, onWay: maxOnWay}
	if err := o.open("", raw, 0); err != nil {
		return nil, err
	}
	return o.pieces, nil
}

type opener struct {
	pieces []Piece
	left   int64 // octets of pieces
	onWay  int64 // octets that may still be unpacked
	opened int
}

func (o *opener) open(media string, b []byte, depth int) error {
	p := Piece{Media: media, Body: b}
	o.opened++
	switch {
	case depth > maxDepth || len(o.pieces) == maxPieces || o.opened > maxOpened:
		return damaged("parcel")
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		return o.gunzip(media, b, depth)
	case bytes.HasPrefix(b, []byte("PK\x03\x04")), bytes.HasPrefix(b, []byte("PK\x05\x06")):
		return o.unzip(media, b, depth)
	case media == "" && !p.XML() && !p.JSON():
		return o.mail(b, depth)
	}
	return o.keep(p)
}

func (o *opener) keep(p Piece) error {
	if o.left -= int64(len(p.Body)); o.left < 0 {
		return tooLarge()
	}
	o.pieces = append(o.pieces, p)
	return nil
}

// inflate reads what is left to read of a compressed stream.
func (o *opener) inflate(r io.Reader) ([]byte, error) {
	most := min(o.left, o.onWay)
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if int64(len(b)) > most {
		return nil, tooLarge()
	}
	o.onWay -= int64(len(b))
	return b, err
}

// gunzip opens the first member. Some reporters leave octets behind it.
func (o *opener) gunzip(media string, b []byte, depth int) error {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return damaged("gzip file").Because(err)
	}
	z.Multistream(false)
	out, err := o.inflate(z)
	if fault.Is(err, fault.TooLarge) {
		return err
	}
	if err != nil {
		return damaged("gzip file").Because(err)
	}
	return o.open(known(media), out, depth+1)
}

func (o *opener) unzip(media string, b []byte, depth int) error {
	// The library would read a directory of any length before it is looked at.
	if bytes.Count(b, []byte("PK\x01\x02")) > maxOpened {
		return damaged("zip file")
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(z.File) > maxPieces {
		return damaged("zip file").Because(err)
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() || strings.HasPrefix(f.Name, "__MACOSX/") {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return damaged("zip file").Because(err)
		}
		out, err := o.inflate(in)
		_ = in.Close() // it was only read
		if fault.Is(err, fault.TooLarge) {
			return err
		}
		if err != nil {
			return damaged("zip file").Because(err)
		}
		if err := o.open(known(media), out, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// known keeps what was inside of a file from being read as a mail.
func known(media string) string {
	if media == "" {
		return "application/octet-stream"
	}
	return media
}

// mail opens the parts. A line that mail programs put before a mail in a
// mailbox file is dropped.
func (o *opener) mail(b []byte, depth int) error {
	if bytes.HasPrefix(b, []byte("From ")) {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	p, err := mail.ReadPart(b)
	if err != nil || p.Header.Len() == 0 {
		return fault.New(fault.Invalid, "no_report", "This is neither a mail nor a report.")
	}
	return o.part(p, depth+1)
}

func (o *opener) part(p mail.Part, depth int) error {
	if strings.HasPrefix(p.Media, "multipart/") {
		parts, ok := p.Parts(maxPieces)
		if !ok || depth > maxDepth {
			return damaged("mail")
		}
		for _, child := range parts {
			if err := o.part(child, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	content, ok := p.Content()
	if !ok {
		return damaged("mail")
	}
	return o.open(p.Media, content, depth)
}
