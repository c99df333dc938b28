package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// keyLines tells the line of every key and table of a file that parses. Tables
// of an array are called name[0], name[1] and so on, and what stands in them
// begins with that. A key inside an inline table has the line of its own name.
func keyLines(data []byte) map[string]int {
	w := lineWalk{lines: map[string]int{}, counts: map[string]int{}}
	w.parser.Reset(data)
	table := ""
	for w.parser.NextExpression() {
		e := w.parser.Expression()
		switch e.Kind {
		case unstable.Table:
			table, _ = w.name(e, "")
		case unstable.ArrayTable:
			name, line := w.name(e, "")
			table = fmt.Sprintf("%s[%d]", name, w.counts[name])
			w.counts[name]++
			w.lines[table] = line
		case unstable.KeyValue:
			w.keyValue(e, table)
		}
	}
	return w.lines
}

type lineWalk struct {
	parser unstable.Parser
	lines  map[string]int
	counts map[string]int // tables seen of each array
}

// name gives the dotted name of a node and its line. It notes where each name
// on the way stands first.
func (w *lineWalk) name(n *unstable.Node, name string) (string, int) {
	line := 0
	for it := n.Key(); it.Next(); {
		name = join(w.inside(name), string(it.Node().Data))
		line = w.parser.Shape(it.Node().Raw).Start.Line
		if _, ok := w.lines[name]; !ok {
			w.lines[name] = line
		}
	}
	return name, line
}

// inside is the table of an array that a name goes on in: the last one.
func (w *lineWalk) inside(name string) string {
	if n := w.counts[name]; n > 0 {
		return fmt.Sprintf("%s[%d]", name, n-1)
	}
	return name
}

func (w *lineWalk) keyValue(n *unstable.Node, table string) {
	name, _ := w.name(n, table)
	value := n.Value()
	switch value.Kind {
	case unstable.InlineTable:
		w.inline(value, name)
	case unstable.Array:
		i := 0
		for it := value.Children(); it.Next(); i++ {
			if it.Node().Kind == unstable.InlineTable {
				w.inline(it.Node(), fmt.Sprintf("%s[%d]", name, i))
			}
		}
	}
}

func (w *lineWalk) inline(n *unstable.Node, name string) {
	for it := n.Children(); it.Next(); {
		w.keyValue(it.Node(), name)
	}
}

// clean makes a key that is not ours fit for an error: short and printable.
func clean(key string) string {
	key = strings.Map(func(r rune) rune {
		if r < '!' || r > '~' {
			return '?'
		}
		return r
	}, key)
	if len(key) > 40 {
		key = key[:40]
	}
	return key
}
