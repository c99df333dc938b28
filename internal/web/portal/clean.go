package portal

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/internal/mail"
)

const (
	maxHTML     = 4 << 20  // larger HTML is only offered as a file
	maxPicture  = 1 << 20  // larger pictures are only offered as files
	maxPictures = 16 << 20 // all pictures of one page together
)

// The page the cleaned HTML stands in. Mail is written for white paper, so it
// is not darkened.
const (
	htmlHead = `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">` +
		`<meta name="viewport" content="width=device-width, initial-scale=1"><title>Message</title><style>` +
		`html{color-scheme:light;background:#fff;color:#16191d}` +
		`body{margin:16px;font:17px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}` +
		`img{max-width:100%;height:auto}table{max-width:100%}pre{white-space:pre-wrap}a{color:#1d5fb4}` +
		"</style></head><body>\n"
	htmlFoot = "\n</body></html>\n"
)

// pictureKinds are shown; SVG is a document and is not.
var pictureKinds = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true}

var policy = newPolicy()

var (
	number   = regexp.MustCompile(`^[0-9]{1,4}(px|%)?$`)
	word     = regexp.MustCompile(`^[a-zA-Z]{1,20}$`)
	color    = regexp.MustCompile(`^(#[0-9a-fA-F]{3,8}|[a-zA-Z]{1,30})$`)
	fontName = regexp.MustCompile(`^[\w ,'-]{1,200}$`)
	language = regexp.MustCompile(`^[a-zA-Z0-9-]{1,35}$`)
)

// newPolicy keeps what mail is made of: text, tables, colors, pictures that
// came along, links.
func newPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("a", "abbr", "b", "big", "blockquote", "br", "caption", "center", "cite", "code", "col", "colgroup",
		"dd", "del", "div", "dl", "dt", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd",
		"li", "ol", "p", "pre", "q", "s", "small", "span", "strike", "strong", "sub", "sup", "table", "tbody", "td",
		"tfoot", "th", "thead", "tr", "tt", "u", "ul")
	p.SkipElementsContent("title", "svg", "math", "template", "noscript", "select", "applet")
	p.AllowAttrs("href").OnElements("a")
	p.AllowAttrs("src", "alt").OnElements("img")
	p.AllowAttrs("title").Globally()
	p.AllowAttrs("dir", "align", "valign").Matching(word).Globally()
	p.AllowAttrs("lang").Matching(language).Globally()
	p.AllowAttrs("width", "height", "border", "cellpadding", "cellspacing", "colspan", "rowspan", "span", "start").Matching(number).
		OnElements("table", "td", "th", "tr", "col", "colgroup", "img", "ol", "hr")
	p.AllowAttrs("bgcolor", "color").Matching(color).OnElements("table", "tr", "td", "th", "font")
	p.AllowAttrs("face").Matching(fontName).OnElements("font")
	p.AllowAttrs("size").Matching(regexp.MustCompile(`^[+-]?[0-9]$`)).OnElements("font")
	p.AllowURLSchemes("http", "https", "mailto", "tel", "cid")
	p.AllowRelativeURLs(false)
	p.RequireParseableURLs(true)
	p.AllowStyles("background-color", "border", "border-bottom", "border-collapse", "border-color", "border-left",
		"border-radius", "border-right", "border-spacing", "border-style", "border-top", "border-width", "color", "direction",
		"display", "font", "font-family", "font-size", "font-style", "font-weight", "height", "letter-spacing", "line-height",
		"list-style-type", "margin", "margin-bottom", "margin-left", "margin-right", "margin-top", "max-width", "min-width",
		"padding", "padding-bottom", "padding-left", "padding-right", "padding-top", "text-align", "text-decoration",
		"text-indent", "text-transform", "vertical-align", "white-space", "width", "word-break").
		MatchingHandler(plainStyle).Globally()
	return p
}

var functions = regexp.MustCompile(`^(?i:rgb|rgba|hsl|hsla)$`)

// plainStyle refuses every value that could fetch or escape: no functions but
// those of colors, no quotes but around a font's name, no backslash, no @.
func plainStyle(value string) bool {
	if len(value) > 300 {
		return false
	}
	start := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '(':
			if !functions.MatchString(value[start:i]) {
				return false
			}
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-':
			continue
		case c >= '0' && c <= '9', strings.IndexByte(" #%.,)!'\"/", c) >= 0:
		default:
			return false
		}
		start = i + 1
	}
	return true
}

// clean makes HTML harmless: what the policy does not know is dropped,
// pictures come from the message itself, links open apart from us.
func clean(source string, inline []mail.Inline) string {
	pictures := newAlbum(inline)
	var out strings.Builder
	z := html.NewTokenizer(strings.NewReader(policy.Sanitize(source)))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return out.String()
		}
		raw := string(z.Raw())
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			out.WriteString(raw)
			continue
		}
		t := z.Token()
		switch t.Data {
		case "img":
			t.Attr = pictures.place(t.Attr)
			out.WriteString(t.String())
		case "a":
			t.Attr = apart(t.Attr)
			out.WriteString(t.String())
		default:
			out.WriteString(raw)
		}
	}
}

// apart makes a link open a window that knows nothing of ours.
func apart(attrs []html.Attribute) []html.Attribute {
	kept := []html.Attribute{}
	href := false
	for _, a := range attrs {
		switch a.Key {
		case "target", "rel":
			continue
		case "href":
			if strings.HasPrefix(strings.ToLower(a.Val), "cid:") {
				continue
			}
			href = true
		}
		kept = append(kept, a)
	}
	if href {
		kept = append(kept, html.Attribute{Key: "target", Val: "_blank"}, html.Attribute{Key: "rel", Val: "noopener noreferrer"})
	}
	return kept
}

// album holds the pictures that came with the message.
type album struct {
	byID map[string]mail.Inline
	left int
}

func newAlbum(inline []mail.Inline) *album {
	a := &album{byID: map[string]mail.Inline{}, left: maxPictures}
	for _, i := range inline {
		a.byID[strings.ToLower(i.ContentID.Reveal())] = i
	}
	return a
}

// place puts the picture itself where its content id stood. A picture from
// elsewhere would tell its host that and when the message was read.
func (p *album) place(attrs []html.Attribute) []html.Attribute {
	kept := []html.Attribute{}
	alt := false
	for _, a := range attrs {
		alt = alt || a.Key == "alt"
		if a.Key != "src" {
			kept = append(kept, a)
			continue
		}
		if uri, ok := p.data(a.Val); ok {
			kept = append(kept, html.Attribute{Key: "src", Val: uri})
		}
	}
	if !alt {
		kept = append(kept, html.Attribute{Key: "alt", Val: ""})
	}
	return kept
}

func (p *album) data(src string) (uri string, ok bool) {
	if len(src) < 4 || !strings.EqualFold(src[:4], "cid:") {
		return "", false
	}
	name := src[4:]
	if plain, err := url.PathUnescape(name); err == nil {
		name = plain
	}
	picture, ok := p.byID[strings.ToLower(name)]
	if !ok {
		return "", false
	}
	content := picture.Content.Reveal()
	kind := http.DetectContentType(content)
	if len(content) > maxPicture || len(content) > p.left || !pictureKinds[kind] {
		return "", false
	}
	p.left -= len(content)
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(content), true
}
