package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/private"
)

const (
	prefix    = "SEALPOST_"
	maxFile   = 256 << 10
	maxSecret = 64 << 10
)

// otherVariables begin with our prefix and are no keys: they belong to the
// command line.
var otherVariables = []string{
	"SEALPOST_CONFIG", "SEALPOST_API_URL", "SEALPOST_API_KEY", "SEALPOST_API_KEY_FILE",
}

// Default is the configuration before the file and the environment. It lacks
// what has no default, public_url above all.
func Default() *Config {
	c := &Config{}
	for _, f := range allFields(c) {
		if text, ok := f.tag.Lookup("default"); ok {
			// A test reads every default, so this cannot fail.
			_ = f.setText(text)
		}
	}
	return c
}

// Load reads the file at path, or none when path is empty, lets the variables
// in environ (as os.Environ gives them) override it, reads secrets from their
// files, fills in what follows from the rest, and checks the whole. Its error
// is a *Mistakes, except when the file cannot be read.
func Load(path string, environ []string) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readBounded(path, maxFile); err != nil {
			return nil, fmt.Errorf("the configuration file cannot be read: %w", err)
		}
	}
	l := newLoader()
	l.mistakes.File = path
	l.file(data)
	l.environment(environ)
	l.secretFiles()
	l.config.fill()
	l.check()
	if len(l.mistakes.List) > 0 {
		l.mistakes.sort()
		return nil, l.mistakes
	}
	return l.config, nil
}

// Complete fills in what follows from the rest and checks the whole, for a
// configuration that was made in code.
func (c *Config) Complete() error {
	l := newLoader()
	l.config = c
	c.fill()
	l.check()
	if len(l.mistakes.List) > 0 {
		return l.mistakes
	}
	return nil
}

// place is where a key was given last.
type place struct {
	line     int
	variable string
}

type loader struct {
	config   *Config
	root     reflect.Value // what is read into: the configuration, or another document
	mistakes *Mistakes
	places   map[string]place  // by key
	files    map[string]string // key of a secret → path of its file
	failed   map[string]bool   // keys with a mistake already: checks leave them alone
}

func newLoader() *loader {
	c := Default()
	l := loaderInto(reflect.ValueOf(c).Elem())
	l.config = c
	return l
}

func loaderInto(root reflect.Value) *loader {
	return &loader{
		root: root, mistakes: &Mistakes{},
		places: map[string]place{}, files: map[string]string{}, failed: map[string]bool{},
	}
}

// mistake adds one at the place where the key was given.
func (l *loader) mistake(key, text string) {
	p := l.places[key]
	l.failed[key] = true
	l.mistakes.List = append(l.mistakes.List, Mistake{Line: p.line, Variable: p.variable, Key: key, Text: text})
}

func (l *loader) file(data []byte) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		l.mistakes.List = append(l.mistakes.List, syntaxMistake(err))
		return
	}
	for key, line := range keyLines(data) {
		l.places[key] = place{line: line}
	}
	l.table(l.root, "", tree)
}

// syntaxMistake leaves the parser's own words out: they can quote the text,
// and so a secret.
func syntaxMistake(err error) Mistake {
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return Mistake{Text: "the file is not TOML"}
	}
	row, column := bad.Position()
	return Mistake{Line: row, Text: fmt.Sprintf("not TOML from column %d on; texts need quotes, and a key or table may stand only once", column)}
}

// table reads one table of the file into a section. Defaults of keys that are
// not there stay.
func (l *loader) table(section reflect.Value, path string, tree map[string]any) {
	known := map[string]func(any){}
	for _, f := range fieldsOf(section, path) {
		known[f.name] = func(raw any) { l.put(f, raw) }
		if f.tag.Get("file") != "" {
			known[f.name+"_file"] = func(raw any) { l.putFile(f, raw) }
		}
	}
	for i := range section.NumField() {
		t := section.Type().Field(i)
		name, value := t.Tag.Get("toml"), section.Field(i)
		switch {
		case isSection(t.Type):
			known[name] = func(raw any) { l.section(value, join(path, name), raw) }
		case isTables(t.Type):
			known[name] = func(raw any) { l.tables(value, join(path, name), raw) }
		}
	}
	for name, raw := range tree {
		if read, ok := known[name]; ok {
			read(raw)
			continue
		}
		l.unknown(path, name, known)
	}
}

func (l *loader) unknown(path, name string, known map[string]func(any)) {
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, join(path, k))
	}
	slices.Sort(names)
	key := join(path, name)
	text := "this key is not known"
	if near := l.nearest(key, name, names); near != "" {
		text += "; did you mean " + near + "?"
	}
	place := l.places[key]
	l.mistakes.List = append(l.mistakes.List, Mistake{Line: place.line, Key: join(path, clean(name)), Text: text})
}

// nearest looks beside the unknown key first and then everywhere, since a key
// often stands in the wrong section.
func (l *loader) nearest(key, name string, beside []string) string {
	if near := fault.Nearest(key, beside); near != "" {
		return near
	}
	all := []string{}
	for _, f := range fieldsIn(l.root) {
		all = append(all, f.key)
		if f.name == name {
			return f.key
		}
	}
	return fault.Nearest(key, all)
}

func (l *loader) section(v reflect.Value, path string, raw any) {
	tree, ok := raw.(map[string]any)
	if !ok {
		l.mistake(path, "this is a section; write ["+path+"]")
		return
	}
	l.table(v, path, tree)
}

func (l *loader) tables(v reflect.Value, path string, raw any) {
	items, ok := raw.([]any)
	if !ok {
		l.mistake(path, "this is a list of tables; write [["+path+"]]")
		return
	}
	for i, item := range items {
		tree, ok := item.(map[string]any)
		if !ok {
			l.mistake(path, "this is a list of tables; write [["+path+"]]")
			return
		}
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		l.table(v.Index(i), fmt.Sprintf("%s[%d]", path, i), tree)
	}
}

func (l *loader) put(f field, raw any) {
	if err := f.set(raw); err != nil {
		l.mistake(f.key, err.Error())
	}
}

// putFile notes where a secret is to be read from. Both ways at once in the
// same place would leave open which is meant.
func (l *loader) putFile(f field, raw any) {
	path, ok := raw.(string)
	if !ok || path == "" {
		l.mistake(f.key+"_file", "must be the path of a file, in quotes")
		return
	}
	if _, both := l.places[f.key]; both {
		l.mistake(f.key+"_file", "give either "+f.key+" or "+f.key+"_file")
		return
	}
	l.files[f.key] = path
}

func (l *loader) environment(environ []string) {
	given := map[string]string{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, prefix) {
			given[name] = value
		}
	}
	known := slices.Clone(otherVariables)
	for _, f := range allFields(l.config) {
		name := f.variable()
		known = append(known, name)
		if f.tag.Get("file") != "" {
			known = append(known, name+"_FILE")
			l.fileVariable(f, given)
		}
		if value, ok := given[name]; ok {
			l.places[f.key] = place{variable: name}
			delete(l.failed, f.key)
			if err := f.setText(value); err != nil {
				l.mistake(f.key, err.Error())
			}
		}
	}
	l.unknownVariables(given, known)
}

// fileVariable lets the environment win over both forms in the file.
func (l *loader) fileVariable(f field, given map[string]string) {
	name := f.variable()
	path, asFile := given[name+"_FILE"]
	_, asValue := given[name]
	if asFile || asValue {
		delete(l.files, f.key)
	}
	if !asFile {
		return
	}
	fileKey := f.key + "_file"
	l.places[fileKey] = place{variable: name + "_FILE"}
	switch {
	case asValue:
		l.mistake(fileKey, "give either "+name+" or "+name+"_FILE")
	case path == "":
		l.mistake(fileKey, "must be the path of a file")
	default:
		l.files[f.key] = path
	}
}

func (l *loader) unknownVariables(given map[string]string, known []string) {
	for name := range given {
		if slices.Contains(known, name) || fromKubernetes(name) {
			continue
		}
		text := "this variable is not known"
		if near := fault.Nearest(name, known); near != "" {
			text += "; did you mean " + near + "?"
		}
		l.mistakes.List = append(l.mistakes.List, Mistake{Variable: clean(name), Text: text})
	}
}

// fromKubernetes knows the variables that Kubernetes sets in every container
// beside a service called sealpost.
func fromKubernetes(name string) bool {
	rest := strings.TrimPrefix(name, prefix)
	return rest == "PORT" || strings.HasPrefix(rest, "PORT_") ||
		rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || strings.HasPrefix(rest, "SERVICE_PORT_")
}

func (l *loader) secretFiles() {
	for _, f := range allFields(l.config) {
		path, ok := l.files[f.key]
		if !ok {
			continue
		}
		key := f.key + "_file"
		data, err := readBounded(path, maxSecret)
		if err != nil {
			l.mistake(key, "the file cannot be read: "+reason(err))
			continue
		}
		l.places[f.key] = l.places[key]
		secret := strings.TrimRight(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))), "\r\n")
		if secret == "" {
			l.mistake(key, "the file is empty")
			continue
		}
		f.value.Set(reflect.ValueOf(private.NewString(secret)))
	}
}

func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %s", Size(most))}
	}
	return data, err
}

func reason(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}
