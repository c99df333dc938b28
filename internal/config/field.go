package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/private"
)

// field is one key: its place in the struct and what its tags say.
type field struct {
	key   string // section.key
	name  string // the key alone
	tag   reflect.StructTag
	value reflect.Value
}

// variable is the name of the environment variable.
func (f field) variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

func (f field) secret() bool { return f.value.Type() == secretType }

var (
	secretType   = reflect.TypeFor[private.String]()
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[time.Duration]()
	listType     = reflect.TypeFor[[]string]()
	numbersType  = reflect.TypeFor[[]int]()
	prefixesType = reflect.TypeFor[[]netip.Prefix]()
)

// fieldsOf gives the keys of a struct in order, without those of sections in
// it.
func fieldsOf(v reflect.Value, section string) []field {
	var out []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if isSection(f.Type) || isTables(f.Type) {
			continue
		}
		out = append(out, field{join(section, f.Tag.Get("toml")), f.Tag.Get("toml"), f.Tag, v.Field(i)})
	}
	return out
}

// allFields gives the keys of the whole configuration, except those in arrays
// of tables.
func allFields(c *Config) []field { return fieldsIn(reflect.ValueOf(c).Elem()) }

func fieldsIn(root reflect.Value) []field {
	out := fieldsOf(root, "")
	for i := range root.NumField() {
		if f := root.Type().Field(i); isSection(f.Type) {
			out = append(out, fieldsOf(root.Field(i), f.Tag.Get("toml"))...)
		}
	}
	return out
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != secretType
}

func isTables(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && isSection(t.Elem()) && t != prefixesType
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// setText reads a value from text: a tag or the environment.
func (f field) setText(text string) error {
	switch f.value.Type() {
	case listType, prefixesType:
		items := []any{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		return f.set(items)
	case sizeType, durationType, secretType:
		return f.set(text)
	case numbersType:
		items := []any{}
		for item := range strings.SplitSeq(text, ",") {
			n, err := strconv.ParseInt(strings.TrimSpace(item), 10, 64)
			if err != nil {
				return errNumbers
			}
			items = append(items, n)
		}
		return f.set(items)
	}
	switch f.value.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return errors.New("must be true or false")
		}
		return f.set(text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errors.New("must be a whole number")
		}
		return f.set(n)
	}
	return f.set(text)
}

// set reads a value as TOML gives it: string, int64, bool or []any.
func (f field) set(raw any) error {
	switch f.value.Type() {
	case listType:
		return f.setList(raw)
	case prefixesType:
		return f.setPrefixes(raw)
	case numbersType:
		return f.setNumbers(raw)
	case sizeType:
		return f.setSize(raw)
	case durationType:
		return f.setDuration(raw)
	}
	switch f.value.Kind() {
	case reflect.Bool:
		b, ok := raw.(bool)
		if !ok {
			return errors.New("must be true or false")
		}
		f.value.SetBool(b)
		return nil
	case reflect.Int:
		n, ok := raw.(int64)
		if !ok {
			return errors.New("must be a whole number")
		}
		f.value.SetInt(n)
		return f.inRange(n, func(text string) int64 { n, _ := strconv.ParseInt(text, 10, 64); return n })
	}
	s, ok := raw.(string)
	switch {
	case !ok:
		return errors.New("must be a text in quotes")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("must not contain control characters")
	case f.secret():
		f.value.Set(reflect.ValueOf(private.NewString(s)))
		return nil
	}
	f.value.SetString(s)
	return f.inSet(s)
}

func (f field) setSize(raw any) error {
	if n, ok := raw.(int64); ok && n >= 0 {
		raw = strconv.FormatInt(n, 10)
	}
	text, ok := raw.(string)
	if !ok {
		return errSize
	}
	size, err := ParseSize(text)
	if err != nil {
		return err
	}
	f.value.SetInt(int64(size))
	return f.inRange(int64(size), func(text string) int64 { s, _ := ParseSize(text); return int64(s) })
}

func (f field) setDuration(raw any) error {
	text, ok := raw.(string)
	if !ok {
		return errDuration
	}
	d, err := ParseDuration(text)
	if err != nil {
		return err
	}
	f.value.SetInt(int64(d))
	return f.inRange(int64(d), func(text string) int64 { d, _ := ParseDuration(text); return int64(d) })
}

func (f field) setList(raw any) error {
	items, err := texts(raw)
	if err != nil {
		return err
	}
	for i, item := range items {
		if err := f.inSet(item); err != nil {
			return err
		}
		if slices.Contains(items[:i], item) {
			return errors.New("names something twice")
		}
	}
	f.value.Set(reflect.ValueOf(items))
	return nil
}

func (f field) setPrefixes(raw any) error {
	items, err := texts(raw)
	if err != nil {
		return err
	}
	var out []netip.Prefix
	for _, item := range items {
		p, err := netip.ParsePrefix(item)
		if err != nil || p.Addr().Is4In6() {
			return errors.New("must be networks such as 10.20.0.0/16")
		}
		if p != p.Masked() {
			return errors.New("has a network with bits set behind its length; write 10.20.0.0/16, not 10.20.3.4/16")
		}
		out = append(out, p)
	}
	f.value.Set(reflect.ValueOf(out))
	return nil
}

var errNumbers = errors.New("must be a list of whole numbers")

// setNumbers reads a list of numbers, each within the limits of the tags.
func (f field) setNumbers(raw any) error {
	items, ok := raw.([]any)
	if !ok {
		return errNumbers
	}
	out := []int{}
	for _, item := range items {
		n, ok := item.(int64)
		if !ok {
			return errNumbers
		}
		if err := f.inRange(n, func(text string) int64 { n, _ := strconv.ParseInt(text, 10, 64); return n }); err != nil {
			return err
		}
		out = append(out, int(n))
	}
	f.value.Set(reflect.ValueOf(out))
	return nil
}

func texts(raw any) ([]string, error) {
	items, ok := raw.([]any)
	out := []string{}
	for _, item := range items {
		s, isText := item.(string)
		ok = ok && isText
		out = append(out, s)
	}
	if !ok {
		return nil, errors.New("must be a list of texts in quotes")
	}
	return out, nil
}

func (f field) inSet(word string) error {
	set, limited := f.tag.Lookup("set")
	if words := strings.Split(set, ","); limited && !slices.Contains(words, word) {
		return fmt.Errorf("must be of: %s", strings.Join(words, ", "))
	}
	return nil
}

func (f field) inRange(n int64, read func(string) int64) error {
	least, most := f.tag.Get("min"), f.tag.Get("max")
	if n < read(least) || n > read(most) {
		return fmt.Errorf("must be between %s and %s", least, most)
	}
	return nil
}
