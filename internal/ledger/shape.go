package ledger

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"github.com/sealpost/sealpost/internal/private"
)

// shapes remembers which types may be a part of an entry: reflect.Type → error.
var shapes sync.Map

// checkPart refuses what has no fixed fields, since anything could slip into
// it, and what redacts itself, since the ledger would keep "[private]" where a
// value was meant.
func checkPart(v any) error {
	t := reflect.TypeOf(v)
	if known, ok := shapes.Load(t); ok {
		err, _ := known.(error)
		return err
	}
	err := checkShape(t, map[reflect.Type]bool{})
	if s := t; err == nil {
		if s.Kind() == reflect.Pointer {
			s = s.Elem()
		}
		if s.Kind() != reflect.Struct {
			err = fmt.Errorf("a part of an entry is a struct, not %v", t)
		}
	}
	shapes.Store(t, err)
	return err
}

var (
	redacting = map[reflect.Type]bool{
		reflect.TypeFor[private.String](): true,
		reflect.TypeFor[private.Bytes]():  true,
	}
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func checkShape(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	if redacting[t] {
		return fmt.Errorf("%v redacts itself: reveal it into a field of the private part", t)
	}
	switch t.Kind() {
	case reflect.Map, reflect.Interface:
		if !t.Implements(jsonMarshaler) && !t.Implements(textMarshaler) {
			return fmt.Errorf("%v has no fixed fields", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return checkShape(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).Tag.Get("json") == "-" {
				continue
			}
			if err := checkShape(t.Field(i).Type, seen); err != nil {
				return fmt.Errorf("%s: %w", t.Field(i).Name, err)
			}
		}
	}
	return nil
}
