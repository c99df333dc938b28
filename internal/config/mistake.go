package config

import (
	"fmt"
	"slices"
	"strings"
)

// Mistake is one thing wrong with the configuration.
type Mistake struct {
	Line     int    // in the file, or 0
	Variable string // of the environment, or empty
	Key      string // section.key, or empty
	Text     string
}

// String is the mistake as a line without its end.
func (m Mistake) String() string {
	var where []string
	if m.Line > 0 {
		where = append(where, fmt.Sprintf("line %d", m.Line))
	}
	if m.Variable != "" {
		where = append(where, m.Variable)
	}
	if m.Key != "" {
		where = append(where, m.Key)
	}
	return strings.Join(append(where, m.Text), ": ")
}

// Mistakes are all that is wrong with the configuration. Its text has a line
// for each and never contains a value.
type Mistakes struct {
	File string // as given to Load, or empty
	List []Mistake
}

// Error lists the mistakes in the order of the file, then those of the
// environment and those that belong to no place.
func (e *Mistakes) Error() string {
	name := e.File
	if name == "" {
		name = "configuration"
	}
	noun := "mistakes"
	if len(e.List) == 1 {
		noun = "mistake"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %d %s", name, len(e.List), noun)
	for _, m := range e.List {
		out.WriteString("\n  " + m.String())
	}
	return out.String()
}

func (e *Mistakes) sort() {
	rank := func(m Mistake) int {
		switch {
		case m.Line > 0:
			return 0
		case m.Variable != "":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(e.List, func(a, b Mistake) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Variable+" "+a.Key, b.Variable+" "+b.Key)
	})
}
