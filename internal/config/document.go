package config

import "reflect"

// Document is another TOML file of the program, read as strictly as the
// configuration and described by the same tags.
type Document struct{ l *loader }

// ReadDocument reads text into the struct that into points to. What is wrong
// is gathered; Err tells all of it once the caller has added its own checks.
func ReadDocument(name string, text []byte, into any) *Document {
	l := loaderInto(reflect.ValueOf(into).Elem())
	l.mistakes.File = name
	if len(text) > maxFile {
		l.mistakes.List = append(l.mistakes.List, Mistake{Text: "the file is larger than " + Size(maxFile).String()})
		return &Document{l}
	}
	l.file(text)
	return &Document{l}
}

// Wrong adds a mistake at a key, unless the key has one already. A key of a
// table in an array is called name[0].key; a key that is not there has the line
// of its table.
func (d *Document) Wrong(table, key, text string) {
	if table == "" {
		d.l.wrong(key, text)
		return
	}
	d.l.at(table, "."+key, text)
}

// Has reports whether a key was given.
func (d *Document) Has(key string) bool {
	_, ok := d.l.places[key]
	return ok
}

// Err gives a *Mistakes, or nil when there are none.
func (d *Document) Err() error {
	if len(d.l.mistakes.List) == 0 {
		return nil
	}
	d.l.mistakes.sort()
	return d.l.mistakes
}
