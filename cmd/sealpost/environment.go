package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/config"
)

// environment is what a command has around it.
type environment struct {
	variables      []string // as os.Environ gives them
	stdin          io.Reader
	stdout, stderr io.Writer

	configFile string
	JSON       bool // print results as JSON
}

const systemConfig = "/etc/sealpost/sealpost.toml"

// file is the configuration file to read, or empty for none.
func (e *environment) file() string {
	if e.configFile != "" {
		return e.configFile
	}
	if _, err := os.Stat(systemConfig); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return systemConfig
}

// load reads the configuration.
func (e *environment) load() (*config.Config, error) {
	return config.Load(e.file(), e.variables)
}

// withCore runs fn on an open installation.
func (e *environment) withCore(ctx context.Context, fn func(*app.Core) error) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	core, err := app.Open(ctx, cfg, app.Options{})
	if err != nil {
		return err
	}
	return errors.Join(fn(core), core.Close())
}

// result prints what a command found or did: v as JSON, or what human writes.
func (e *environment) result(v any, human func(p *page)) error {
	if e.JSON {
		out := json.NewEncoder(e.stdout)
		out.SetEscapeHTML(false)
		return out.Encode(v)
	}
	p := &page{}
	human(p)
	_, err := io.WriteString(e.stdout, p.text.String())
	return err
}

// sayf tells something beside the result.
func (e *environment) sayf(format string, args ...any) {
	fmt.Fprintf(e.stderr, format+"\n", args...)
}

// page is a result written for people.
type page struct{ text strings.Builder }

func (p *page) linef(format string, args ...any) {
	fmt.Fprintf(&p.text, format+"\n", args...)
}

// table writes aligned columns. Cells can hold what somebody else wrote, so
// control characters, which a terminal would obey, are taken out.
func (p *page) table(rows ...[]string) {
	w := tabwriter.NewWriter(&p.text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = printable(c)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	_ = w.Flush() // a Builder cannot fail
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// when writes a time for people; a zero time is the word given.
func when(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// stamp gives a time as it is stored, so that it reads the same each time.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// orDash shows that there is nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
