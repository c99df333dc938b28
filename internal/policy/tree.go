package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
)

// Bounds of a document, checked before anything is matched against it.
const (
	MaxDocument = 256 << 10
	MaxRules    = 256
	maxItems    = 512
	maxDepth    = 8
	maxFaults   = 50
)

// node is one JSON value with the pointer (RFC 6901) to it.
type node struct {
	pointer string
	value   any // string, bool, json.Number, nil, []node or object
}

type object struct {
	keys   []string // in the order of the text, with repetitions
	values map[string]node
}

// readTree reads JSON into nodes. encoding/json alone would take the last of
// two equal keys in silence.
func readTree(data []byte) (node, *fault.Fault) {
	if len(data) > MaxDocument {
		return node{}, fault.Newf(fault.TooLarge, "policy_too_large", "The policy document is larger than %d KiB.", MaxDocument>>10)
	}
	if !utf8.Valid(data) {
		return node{}, invalid("", "not_utf8", "The policy document is not valid UTF-8.")
	}
	var probe json.RawMessage
	if err := json.Unmarshal(data, &probe); err != nil {
		return node{}, syntaxFault(data, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return readNode(dec, "", 0)
}

func invalid(pointer, reason, text string) *fault.Fault {
	return fault.New(fault.Invalid, reason, text).At(pointer)
}

func syntaxFault(data []byte, err error) *fault.Fault {
	line := 1
	if syntax, ok := err.(*json.SyntaxError); ok {
		end := min(max(int(syntax.Offset), 0), len(data))
		line += bytes.Count(data[:end], []byte("\n"))
	}
	return fault.Newf(fault.Invalid, "not_json", "The policy document is not JSON; line %d is the first that cannot be read.", line)
}

func readNode(dec *json.Decoder, pointer string, depth int) (node, *fault.Fault) {
	if depth > maxDepth {
		return node{}, invalid(pointer, "too_deep", "The policy document is nested too deeply.")
	}
	token, err := dec.Token()
	if err != nil {
		return node{}, invalid(pointer, "not_json", "The policy document is not JSON.").Because(err)
	}
	switch token {
	case json.Delim('{'):
		return readObject(dec, pointer, depth)
	case json.Delim('['):
		return readArray(dec, pointer, depth)
	}
	return node{pointer, token}, nil
}

func readObject(dec *json.Decoder, pointer string, depth int) (node, *fault.Fault) {
	o := object{values: map[string]node{}}
	for dec.More() {
		token, err := dec.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return node{}, invalid(pointer, "not_json", "The policy document is not JSON.")
		}
		value, bad := readNode(dec, pointer+"/"+escape(key), depth+1)
		if bad != nil {
			return node{}, bad
		}
		o.keys = append(o.keys, key)
		o.values[key] = value
	}
	_, _ = dec.Token()
	return node{pointer, o}, nil
}

func readArray(dec *json.Decoder, pointer string, depth int) (node, *fault.Fault) {
	items := []node{}
	for dec.More() {
		item, bad := readNode(dec, pointer+"/"+strconv.Itoa(len(items)), depth+1)
		if bad != nil {
			return node{}, bad
		}
		items = append(items, item)
	}
	_, _ = dec.Token()
	return node{pointer, items}, nil
}

// escape writes a key for a pointer. What does not look like a key of ours is
// cut short and stripped of anything odd, since pointers are logged.
func escape(key string) string {
	key = strings.Map(func(r rune) rune {
		if r < '!' || r > '~' {
			return '?'
		}
		return r
	}, key)
	if len(key) > 40 {
		key = key[:40]
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// reader collects the mistakes of a document.
type reader struct {
	faults []*fault.Fault
}

func (r *reader) bad(n node, reason, format string, args ...any) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, invalid(n.pointer, reason, fmt.Sprintf(format, args...)))
	}
}

// object reads an object that may have the known keys only, and must have the
// required ones.
func (r *reader) object(n node, known []string, required ...string) (map[string]node, bool) {
	o, ok := n.value.(object)
	if !ok {
		r.bad(n, "wrong_type", "This must be an object.")
		return nil, false
	}
	seen := map[string]bool{}
	for _, key := range o.keys {
		r.key(o.values[key], key, known, seen)
	}
	for _, key := range required {
		if !seen[key] {
			r.bad(node{pointer: n.pointer + "/" + key}, "missing", "This is missing.")
		}
	}
	return o.values, true
}

func (r *reader) key(n node, key string, known []string, seen map[string]bool) {
	if seen[key] {
		r.bad(n, "repeated_key", "This key stands here twice.")
	}
	seen[key] = true
	for _, k := range known {
		if k == key {
			return
		}
	}
	if near := fault.Nearest(key, known); near != "" {
		r.bad(n, "unknown_key", "This key is not known. Did you mean %s?", near)
		return
	}
	r.bad(n, "unknown_key", "This key is not known. Known here: %s.", strings.Join(known, ", "))
}

func (r *reader) array(n node, most int) []node {
	items, ok := n.value.([]node)
	switch {
	case !ok:
		r.bad(n, "wrong_type", "This must be a list.")
		return nil
	case len(items) > most:
		r.bad(n, "too_many", "This list is longer than %d.", most)
		return nil
	}
	return items
}

func (r *reader) text(n node) (string, bool) {
	s, ok := n.value.(string)
	if !ok {
		r.bad(n, "wrong_type", "This must be a text in quotes.")
	}
	return s, ok
}

func (r *reader) integer(n node, least, most int64) int64 {
	number, ok := n.value.(json.Number)
	if !ok {
		r.bad(n, "wrong_type", "This must be a number.")
		return 0
	}
	i, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || i < least || i > most {
		r.bad(n, "out_of_range", "This must be a whole number from %d to %d.", least, most)
		return 0
	}
	return i
}
