package config

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

const preamble = `# Configuration of Sealpost.
#
# Every key is shown with its default; keys without a default are commented
# out and show an example. An unknown key is an error.
#
# The environment overrides this file: SEALPOST_SECTION_KEY, for example
# SEALPOST_LOG_LEVEL for level in [log]; lists are separated by commas. A secret
# can be given as a file instead: its key, or variable, with _file behind it.
#
# Sizes are written like 25MiB, durations like 90s, 15m, 48h or 30d.
`

// Describe is the commented reference: a file that reads as the defaults.
func Describe() string {
	c := Default()
	root := reflect.ValueOf(c).Elem()
	var out strings.Builder
	out.WriteString(preamble)
	describeFields(&out, fieldsOf(root, ""))
	for i := range root.NumField() {
		section := root.Type().Field(i)
		if !isSection(section.Type) {
			continue
		}
		name := section.Tag.Get("toml")
		out.WriteString("\n")
		comment(&out, section.Tag.Get("doc"))
		out.WriteString("[" + name + "]\n")
		describeFields(&out, fieldsOf(root.Field(i), name))
		describeTables(&out, root.Field(i), name)
	}
	describeTables(&out, root, "")
	return out.String()
}

func describeFields(out *strings.Builder, fields []field) {
	for _, f := range fields {
		out.WriteString("\n")
		comment(out, f.tag.Get("doc")+limits(f.tag))
		if _, ok := f.tag.Lookup("default"); ok {
			out.WriteString(f.name + " = " + render(f.value) + "\n")
			continue
		}
		example(out, f)
		if f.tag.Get("file") != "" {
			out.WriteString("# " + f.name + "_file = " + strconv.Quote("/run/secrets/"+strings.ReplaceAll(f.key, ".", "_")) + "\n")
		}
	}
}

func describeTables(out *strings.Builder, section reflect.Value, path string) {
	for i := range section.NumField() {
		t := section.Type().Field(i)
		if !isTables(t.Type) {
			continue
		}
		out.WriteString("\n")
		comment(out, t.Tag.Get("doc"))
		out.WriteString("# [[" + join(path, t.Tag.Get("toml")) + "]]\n")
		for _, f := range fieldsOf(reflect.New(t.Type.Elem()).Elem(), "") {
			comment(out, f.tag.Get("doc"))
			example(out, f)
		}
	}
}

// example writes a commented-out key with the example of its tag.
func example(out *strings.Builder, f field) {
	v := reflect.New(f.value.Type()).Elem()
	shown := field{f.key, f.name, f.tag, v}
	// A test reads every example, so this cannot fail.
	_ = shown.setText(f.tag.Get("example"))
	text := render(v)
	if f.secret() {
		text = strconv.Quote(f.tag.Get("example"))
	}
	out.WriteString("# " + f.name + " = " + text + "\n")
}

// limits tells what the tags allow, as a sentence behind the doc.
func limits(tag reflect.StructTag) string {
	if set := tag.Get("set"); set != "" {
		return " Of: " + strings.ReplaceAll(set, ",", ", ") + "."
	}
	if tag.Get("max") != "" {
		return " From " + tag.Get("min") + " to " + tag.Get("max") + "."
	}
	return ""
}

// comment writes text as comment lines of at most 78 characters.
func comment(out *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 78 {
			out.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	out.WriteString(line + "\n")
}

// Show writes the configuration in effect. Secrets that are set read
// "[private]".
func (c *Config) Show() string {
	root := reflect.ValueOf(c).Elem()
	var out strings.Builder
	showFields(&out, fieldsOf(root, ""))
	for i := range root.NumField() {
		section := root.Type().Field(i)
		if !isSection(section.Type) {
			continue
		}
		name := section.Tag.Get("toml")
		if fields := fieldsOf(root.Field(i), name); len(fields) > 0 {
			out.WriteString("\n[" + name + "]\n")
			showFields(&out, fields)
		}
		showTables(&out, root.Field(i), name)
	}
	showTables(&out, root, "")
	return out.String()
}

func showFields(out *strings.Builder, fields []field) {
	for _, f := range fields {
		out.WriteString(f.name + " = " + render(f.value) + "\n")
	}
}

func showTables(out *strings.Builder, section reflect.Value, path string) {
	for i := range section.NumField() {
		t := section.Type().Field(i)
		if !isTables(t.Type) {
			continue
		}
		for j := range section.Field(i).Len() {
			out.WriteString("\n[[" + join(path, t.Tag.Get("toml")) + "]]\n")
			showFields(out, fieldsOf(section.Field(i).Index(j), ""))
		}
	}
}

// render writes a value as TOML.
func render(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Size:
		return quote(x.String())
	case time.Duration:
		return quote(formatDuration(x))
	case []string:
		return list(x)
	case []netip.Prefix:
		items := make([]string, len(x))
		for i, p := range x {
			items[i] = p.String()
		}
		return list(items)
	case []int:
		items := make([]string, len(x))
		for i, n := range x {
			items[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case bool:
		return strconv.FormatBool(x)
	case int:
		return strconv.Itoa(x)
	case string:
		return quote(x)
	}
	if v.IsZero() {
		return `""`
	}
	return `"[private]"`
}

func list(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes a TOML basic string. Control characters are refused on the way
// in, so backslash and quotation mark are all there is to escape.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
