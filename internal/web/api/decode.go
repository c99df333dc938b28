package api

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
)

// Bounds of a body, beyond its size.
const (
	maxDepth  = 8
	maxValues = 50_000
	maxFaults = 50
)

// decoder reads JSON (RFC 8259) into structs of strings, times, numbers,
// octets, lists and maps of strings. Unlike encoding/json it refuses unknown
// and repeated keys, null, and text that is not Unicode, and says where all of
// them are. A field without omitempty or omitzero must be there.
type decoder struct {
	data   []byte
	pos    int
	values int
	faults []*fault.Fault
}

// decodeJSON reads data into the struct that into points to.
func decodeJSON(data []byte, into any) error {
	d := &decoder{data: data}
	d.space()
	bad := d.value(reflect.ValueOf(into).Elem(), "", 0)
	if bad == nil {
		if d.space(); d.pos < len(d.data) {
			bad = d.syntax()
		}
	}
	if bad != nil {
		return bad
	}
	if len(d.faults) > 0 {
		return fault.Join(d.faults...)
	}
	return nil
}

func (d *decoder) syntax() *fault.Fault {
	return fault.Newf(fault.Invalid, "not_json", "The body is not JSON: octet %d is the first that cannot be read.", d.pos)
}

func (d *decoder) bad(pointer, reason, format string, args ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, fault.Newf(fault.Invalid, reason, format, args...).At(pointer))
	}
}

func (d *decoder) space() {
	for d.pos < len(d.data) && strings.IndexByte(" \t\r\n", d.data[d.pos]) >= 0 {
		d.pos++
	}
}

func (d *decoder) next() byte {
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return 0
}

// take skips one octet if it is c.
func (d *decoder) take(c byte) bool {
	if d.next() != c {
		return false
	}
	d.pos++
	return true
}

// value reads one value. With the zero v it is only skipped. What it returns
// ends the reading; other mistakes are collected.
func (d *decoder) value(v reflect.Value, pointer string, depth int) *fault.Fault {
	if d.values++; d.values > maxValues {
		return fault.Newf(fault.TooLarge, "too_many_values", "The body has more than %d values.", maxValues)
	}
	if depth > maxDepth {
		return fault.New(fault.Invalid, "too_deep", "The body is nested too deeply.").At(pointer)
	}
	if v.IsValid() && v.Kind() == reflect.Pointer { // a number that may be left out
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	var kind reflect.Kind
	var octets bool
	if v.IsValid() {
		kind = v.Kind()
		octets = v.Type() == octetsType
	}
	switch c := d.next(); {
	case c == '{' && kind == reflect.Struct && v.Type() != timeType:
		return d.object(v, pointer, depth)
	case c == '{' && kind == reflect.Map:
		return d.stringMap(v, pointer, depth)
	case c == '{':
		d.mismatch(v, pointer)
		return d.object(reflect.Value{}, pointer, depth)
	case c == '[' && kind == reflect.Slice && !octets:
		return d.array(v, pointer, depth)
	case c == '[':
		d.mismatch(v, pointer)
		return d.array(reflect.Value{}, pointer, depth)
	case c == '"':
		return d.text(v, pointer)
	case c == '-' || c >= '0' && c <= '9':
		return d.number(v, pointer)
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(d.data[d.pos:], []byte(word)) {
			d.pos += len(word)
			d.mismatch(v, pointer)
			return nil
		}
	}
	return d.syntax()
}

var (
	octetsType = reflect.TypeFor[[]byte]()
	timeType   = reflect.TypeFor[time.Time]()
)

// mismatch says what should be there.
func (d *decoder) mismatch(v reflect.Value, pointer string) {
	if !v.IsValid() {
		return
	}
	want := "a text in quotes"
	switch {
	case v.Type() == octetsType, v.Type() == timeType:
	case v.Kind() == reflect.Struct, v.Kind() == reflect.Map:
		want = "an object"
	case v.Kind() == reflect.Slice:
		want = "a list"
	case v.Kind() == reflect.Int:
		want = "a whole number"
	}
	d.bad(pointer, "wrong_type", "This must be %s.", want)
}

// object reads the members of a struct.
func (d *decoder) object(v reflect.Value, pointer string, depth int) *fault.Fault {
	fields := fieldsOf(v)
	seen := map[string]bool{}
	bad := d.members(pointer, func(key, at string) *fault.Fault {
		if !v.IsValid() {
			return d.value(reflect.Value{}, at, depth+1)
		}
		i, known := fields.index[key]
		switch {
		case !known:
			d.unknown(at, key, fields.names)
			return d.value(reflect.Value{}, at, depth+1)
		case seen[key]:
			d.bad(at, "repeated_key", "This key stands here twice.")
			return d.value(reflect.Value{}, at, depth+1)
		}
		seen[key] = true
		return d.value(v.Field(i), at, depth+1)
	})
	if bad != nil {
		return bad
	}
	for _, key := range fields.required {
		if !seen[key] {
			d.bad(pointer+"/"+key, "missing", "This is missing.")
		}
	}
	return nil
}

func (d *decoder) unknown(pointer, key string, known []string) {
	if near := fault.Nearest(key, known); near != "" {
		d.bad(pointer, "unknown_key", "This key is not known. Did you mean %s?", near)
		return
	}
	d.bad(pointer, "unknown_key", "This key is not known. Known here: %s.", strings.Join(known, ", "))
}

// stringMap reads an object with any keys and text as values.
func (d *decoder) stringMap(v reflect.Value, pointer string, depth int) *fault.Fault {
	m := map[string]string{}
	bad := d.members(pointer, func(key, at string) *fault.Fault {
		if _, twice := m[key]; twice {
			d.bad(at, "repeated_key", "This key stands here twice.")
		}
		var value string
		bad := d.value(reflect.ValueOf(&value).Elem(), at, depth+1)
		m[key] = value
		return bad
	})
	v.Set(reflect.ValueOf(m))
	return bad
}

func (d *decoder) members(pointer string, each func(key, at string) *fault.Fault) *fault.Fault {
	return d.list('}', func(int) *fault.Fault {
		if d.next() != '"' {
			return d.syntax()
		}
		key, ok, bad := d.literal()
		if bad != nil {
			return bad
		}
		at := pointer + "/" + escapeKey(key)
		if !ok {
			d.bad(at, "not_unicode", "The key is not valid Unicode text.")
		}
		if d.space(); !d.take(':') {
			return d.syntax()
		}
		d.space()
		return each(key, at)
	})
}

func (d *decoder) array(v reflect.Value, pointer string, depth int) *fault.Fault {
	return d.list(']', func(n int) *fault.Fault {
		var item reflect.Value
		if v.IsValid() {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			item = v.Index(n)
		}
		return d.value(item, pointer+"/"+strconv.Itoa(n), depth+1)
	})
}

// list reads from an opening bracket to its closing one.
func (d *decoder) list(closing byte, each func(n int) *fault.Fault) *fault.Fault {
	d.pos++
	if d.space(); d.take(closing) {
		return nil
	}
	for n := 0; ; n++ {
		if bad := each(n); bad != nil {
			return bad
		}
		if d.space(); d.take(closing) {
			return nil
		}
		if !d.take(',') {
			return d.syntax()
		}
		d.space()
	}
}

func (d *decoder) number(v reflect.Value, pointer string) *fault.Fault {
	start := d.pos
	if !d.skipNumber() {
		return d.syntax()
	}
	if !v.IsValid() {
		return nil
	}
	if v.Kind() != reflect.Int {
		d.mismatch(v, pointer)
		return nil
	}
	i, err := strconv.Atoi(string(d.data[start:d.pos]))
	if err != nil {
		d.mismatch(v, pointer)
		return nil
	}
	v.SetInt(int64(i))
	return nil
}

// skipNumber goes behind a number (RFC 8259 section 6).
func (d *decoder) skipNumber() bool {
	digits := func() bool {
		start := d.pos
		for c := d.next(); c >= '0' && c <= '9'; c = d.next() {
			d.pos++
		}
		return d.pos > start
	}
	if d.next() == '-' {
		d.pos++
	}
	if d.next() == '0' {
		d.pos++
	} else if !digits() {
		return false
	}
	if d.next() == '.' {
		if d.pos++; !digits() {
			return false
		}
	}
	if c := d.next(); c == 'e' || c == 'E' {
		d.pos++
		if c := d.next(); c == '+' || c == '-' {
			d.pos++
		}
		return digits()
	}
	return true
}

func (d *decoder) text(v reflect.Value, pointer string) *fault.Fault {
	if v.IsValid() && v.Type() == octetsType {
		return d.octets(v, pointer)
	}
	s, ok, bad := d.literal()
	switch {
	case bad != nil || !v.IsValid():
		return bad
	case !ok:
		d.bad(pointer, "not_unicode", "The text is not valid Unicode.")
	case v.Kind() == reflect.String:
		v.SetString(s)
	case v.Type() == timeType:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			d.bad(pointer, "bad_time", "This must be a time like 2026-03-01T08:00:00Z (RFC 3339).")
			return nil
		}
		v.Set(reflect.ValueOf(t.UTC()))
	default:
		d.mismatch(v, pointer)
	}
	return nil
}

// octets reads base64 (RFC 4648 section 4) without line breaks.
func (d *decoder) octets(v reflect.Value, pointer string) *fault.Fault {
	raw, escaped, bad := d.quoted()
	if bad != nil {
		return bad
	}
	if escaped {
		s, _ := unescape(raw)
		raw = []byte(s)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Strict().Decode(out, raw)
	if err != nil || bytes.ContainsAny(raw, "\r\n") {
		d.bad(pointer, "bad_base64", "This must be base64 with padding and without line breaks.")
		return nil
	}
	v.SetBytes(out[:n])
	return nil
}

// literal reads a string; ok says that it is Unicode text.
func (d *decoder) literal() (s string, ok bool, bad *fault.Fault) {
	raw, escaped, bad := d.quoted()
	if bad != nil {
		return "", false, bad
	}
	if !utf8.Valid(raw) {
		return "", false, nil
	}
	if !escaped {
		return string(raw), true, nil
	}
	s, ok = unescape(raw)
	return s, ok, nil
}

// quoted gives what stands between the quotes, escapes and all.
func (d *decoder) quoted() (raw []byte, escaped bool, bad *fault.Fault) {
	d.pos++
	start := d.pos
	for ; d.pos < len(d.data); d.pos++ {
		switch c := d.data[d.pos]; {
		case c == '"':
			d.pos++
			return d.data[start : d.pos-1], escaped, nil
		case c < ' ':
			return nil, false, d.syntax()
		case c == '\\':
			escaped = true
			n := escapeLength(d.data[d.pos:])
			if n == 0 {
				return nil, false, d.syntax()
			}
			d.pos += n - 1
		}
	}
	return nil, false, d.syntax()
}

// escapeLength is the length of the escape that b begins with, or 0.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if strings.IndexByte(`"\/bfnrt`, b[1]) >= 0 {
		return 2
	}
	if b[1] == 'u' && len(b) >= 6 {
		if _, err := strconv.ParseUint(string(b[2:6]), 16, 16); err == nil {
			return 6
		}
	}
	return 0
}

// unescape replaces escapes that quoted has checked. Half a surrogate pair is
// not Unicode.
func unescape(raw []byte) (string, bool) {
	var b strings.Builder
	b.Grow(len(raw))
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			b.Write(raw)
			break
		}
		b.Write(raw[:i])
		raw = raw[i:]
		if raw[1] != 'u' {
			b.WriteByte("\"\\/\b\f\n\r\t"[strings.IndexByte(`"\/bfnrt`, raw[1])])
			raw = raw[2:]
			continue
		}
		r := codeUnit(raw)
		raw = raw[6:]
		if utf16.IsSurrogate(r) {
			if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
				return "", false
			}
			if r = utf16.DecodeRune(r, codeUnit(raw)); r == utf8.RuneError {
				return "", false
			}
			raw = raw[6:]
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

func codeUnit(escape []byte) rune {
	u, _ := strconv.ParseUint(string(escape[2:6]), 16, 16)
	return rune(u)
}

// escapeKey writes a key for a pointer (RFC 6901). What is no plain text is
// replaced, and what is too long is cut.
func escapeKey(key string) string {
	key = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, key)
	for len(key) > 80 {
		_, size := utf8.DecodeLastRuneInString(key)
		key = key[:len(key)-size]
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// fields are the members a struct takes.
type fields struct {
	index    map[string]int
	names    []string
	required []string
}

func fieldsOf(v reflect.Value) fields {
	f := fields{index: map[string]int{}}
	if !v.IsValid() {
		return f
	}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" {
			panic(fmt.Sprintf("%v has a field without a name in JSON", v.Type()))
		}
		f.index[name] = i
		f.names = append(f.names, name)
		if options == "" {
			f.required = append(f.required, name)
		}
	}
	return f
}
