package suppress

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// The form of a file: CSV (RFC 4180) with a header line that names these
// columns in any order; address alone must be there.
var fields = []string{"address", "scope", "reason", "created_at", "expires_at", "note"}

const (
	maxLine     = 16 << 10 // octets of one line
	maxMistakes = 100      // that are told of one file
)

// Mistake is one line of a file that cannot be imported.
type Mistake struct {
	Line int    `json:"line"`
	Text string `json:"text"`
}

// BadFile says what is wrong with a file. Nothing of it was imported.
type BadFile struct {
	Mistakes []Mistake // the first of them
	Total    int
}

func (b *BadFile) Error() string {
	return fmt.Sprintf("the file has %d mistakes; nothing was imported", b.Total)
}

func (b *BadFile) add(line int, text string) {
	if b.Total++; len(b.Mistakes) < maxMistakes {
		b.Mistakes = append(b.Mistakes, Mistake{line, text})
	}
}

// records reads the entries of a file one by one.
type records struct {
	in    *bounded
	csv   *csv.Reader
	at    map[string]int // column → place
	org   id.ID
	now   time.Time
	wrong *BadFile
}

func newRecords(r io.Reader, org id.ID, now time.Time) (*records, error) {
	in := &bounded{r: r}
	c := csv.NewReader(in)
	c.ReuseRecord = true
	rs := &records{in: in, csv: c, at: map[string]int{}, org: org, now: now, wrong: &BadFile{}}
	head, err := c.Read()
	switch {
	case errors.Is(err, io.EOF):
		rs.wrong.add(1, "The file is empty. Its first line names the columns: "+strings.Join(fields, ",")+".")
		return nil, rs.wrong
	case err != nil:
		return nil, rs.broken(err)
	}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		if _, twice := rs.at[name]; twice || !slices.Contains(fields, name) {
			rs.wrong.add(1, "The first line names the columns, each once: "+strings.Join(fields, ", ")+". Only address must be there.")
			return nil, rs.wrong
		}
		rs.at[name] = i
	}
	if _, ok := rs.at["address"]; !ok {
		rs.wrong.add(1, "There is no column address.")
		return nil, rs.wrong
	}
	return rs, nil
}

// broken is for what leaves the rest of a file unreadable.
func (rs *records) broken(err error) error {
	var bad *csv.ParseError
	switch {
	case errors.Is(err, errLongLine):
		rs.wrong.add(rs.in.line+1, fmt.Sprintf("The line is longer than %d octets.", maxLine))
	case errors.As(err, &bad):
		rs.wrong.add(bad.Line, "The quotation marks are not those of CSV (RFC 4180). The lines behind it were not looked at.")
	default:
		return err
	}
	return rs.wrong
}

func (rs *records) line() int {
	line, _ := rs.csv.FieldPos(0)
	return line
}

// next gives an entry, or io.EOF. ok is false for a line with a mistake.
func (rs *records) next() (e Entry, ok bool, err error) {
	cells, err := rs.csv.Read()
	switch {
	case errors.Is(err, io.EOF):
		return e, false, io.EOF
	case errors.Is(err, csv.ErrFieldCount):
		rs.wrong.add(rs.line(), fmt.Sprintf("The line has %d cells and the first line names %d columns.", len(cells), len(rs.at)))
		return e, false, nil
	case err != nil:
		return e, false, rs.broken(err)
	}
	before := rs.wrong.Total
	e = rs.entry(cells)
	return e, rs.wrong.Total == before, nil
}

func (rs *records) entry(cells []string) Entry {
	cell := func(name string) string {
		i, ok := rs.at[name]
		if !ok {
			return ""
		}
		return plain(strings.TrimSpace(cells[i]))
	}
	wrong := func(text string) { rs.wrong.add(rs.line(), text) }
	e := Entry{ID: id.New(), Org: rs.org, Scope: All, Reason: Import, CreatedAt: rs.now, Note: private.NewString(cell("note"))}
	var err error
	if e.Address, err = mail.ParseAddress(cell("address")); err != nil {
		wrong("The address cannot be read.") // never quoted: mistakes end in logs of jobs
	}
	switch s := Scope(cell("scope")); s {
	case "":
	case All, Bulk:
		e.Scope = s
	default:
		wrong("The scope is all, bulk or empty.")
	}
	switch r := Reason(cell("reason")); r {
	case "":
	case HardBounce, SoftBounces, Complaint, Manual, Import:
		e.Reason = r
	default:
		wrong("The reason is hard_bounce, soft_bounces, complaint, manual, import or empty.")
	}
	if e.CreatedAt, err = instant(cell("created_at"), rs.now); err != nil || e.CreatedAt.After(rs.now) {
		wrong("created_at is a time of the past such as 2026-01-31T12:00:00Z, or empty.")
	}
	if e.ExpiresAt, err = instant(cell("expires_at"), time.Time{}); err != nil || !e.ExpiresAt.IsZero() && !e.ExpiresAt.After(rs.now) {
		wrong("expires_at is a time ahead such as 2030-01-31T12:00:00Z, or empty.")
	}
	if !noteFits(cell("note")) {
		wrong(fmt.Sprintf("The note is longer than %d octets or holds control characters.", noteLimit))
	}
	return e
}

func noteFits(s string) bool {
	return len(s) <= noteLimit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func instant(s string, otherwise time.Time) (time.Time, error) {
	if s == "" {
		return otherwise, nil
	}
	return time.Parse(time.RFC3339, s)
}

// formula is what makes a spreadsheet run a cell in place of showing it.
const formula = "=+-@\t\r'"

// inert keeps a spreadsheet from running a cell; plain takes that back.
func inert(s string) string {
	if s != "" && strings.IndexByte(formula, s[0]) >= 0 {
		return "'" + s
	}
	return s
}

func plain(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.IndexByte(formula, s[1]) >= 0 {
		return s[1:]
	}
	return s
}

// bounded ends at a line that is too long to be one of a file of addresses.
type bounded struct {
	r    io.Reader
	line int // behind how many line ends
	run  int // octets since the last
}

var errLongLine = errors.New("a line is too long")

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	rest := p[:n]
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if b.run += i; b.run > maxLine {
			return 0, errLongLine
		}
		b.run, rest = 0, rest[i+1:]
		b.line++
	}
	if b.run += len(rest); b.run > maxLine {
		return 0, errLongLine
	}
	return n, err
}

const exportPage = 5000

// Export writes all entries that last, and gives their number.
func (s *Service) Export(ctx context.Context, org id.ID, w io.Writer) (n int, err error) {
	out := csv.NewWriter(w)
	if err := out.Write(fields); err != nil {
		return 0, err
	}
	for after := (id.ID{}); ; {
		page, err := s.List(ctx, org, mail.Address{}, after, exportPage)
		if err != nil {
			return n, err
		}
		for _, e := range page {
			after = e.ID
			if e.Scope == None {
				continue // of no use elsewhere
			}
			n++
			if err := out.Write(cells(e)); err != nil {
				return n, err
			}
		}
		if len(page) < exportPage {
			out.Flush()
			return n, out.Error()
		}
	}
}

func cells(e Entry) []string {
	until := ""
	if !e.ExpiresAt.IsZero() {
		until = e.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return []string{inert(e.Address.Reveal()), string(e.Scope), string(e.Reason), e.CreatedAt.UTC().Format(time.RFC3339), until, inert(e.Note.Reveal())}
}
