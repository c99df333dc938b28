// Package private holds values that must not reach a log, an error, a URL or
// a metric: message content, addresses, names and secrets.
//
// Invariants:
//   - Every way Go has of showing a value (fmt, log/slog, encoding/json,
//     encoding.TextMarshaler) shows "[private]".
//   - Reveal is the only way out, so every place where content leaves is found
//     by searching for one word.
package private

import (
	"fmt"
	"log/slog"
)

const shown = "[private]"

// String is text that redacts itself.
type String struct{ value string }

// NewString wraps s.
func NewString(s string) String { return String{s} }

// Reveal gives the text itself.
func (s String) Reveal() string { return s.value }

// Empty reports whether there is no text.
func (s String) Empty() bool { return s.value == "" }

func (String) String() string               { return shown }
func (String) GoString() string             { return shown }
func (String) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(shown)) }
func (String) LogValue() slog.Value         { return slog.StringValue(shown) }
func (String) MarshalJSON() ([]byte, error) { return []byte(`"` + shown + `"`), nil }
func (String) MarshalText() ([]byte, error) { return []byte(shown), nil }

// Bytes are bytes that redact themselves.
type Bytes struct{ value []byte }

// NewBytes wraps b without copying it.
func NewBytes(b []byte) Bytes { return Bytes{b} }

// Reveal gives the bytes themselves, not a copy.
func (b Bytes) Reveal() []byte { return b.value }

// Len is the number of bytes.
func (b Bytes) Len() int { return len(b.value) }

func (Bytes) String() string               { return shown }
func (Bytes) GoString() string             { return shown }
func (Bytes) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(shown)) }
func (Bytes) LogValue() slog.Value         { return slog.StringValue(shown) }
func (Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + shown + `"`), nil }
func (Bytes) MarshalText() ([]byte, error) { return []byte(shown), nil }
