package fake

import (
	"bytes"
	"cmp"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// pages are for a person with a browser: what arrived, newest first, and one
// mail as text or HTML, with its links. No script, nothing from elsewhere.
func (n *Internet) pages(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", n.listPage)
	mux.HandleFunc("GET /mail/{n}", n.mailPage)
	mux.HandleFunc("GET /mail/{n}/html", n.htmlPage)
	mux.HandleFunc("GET /mail/{n}/source", n.sourcePage)
}

// listLimit bounds the page; older mail is still found by its number.
const listLimit = 200

type listed struct {
	N                 int
	To, Subject, Time string
	Secure            bool
}

func (n *Internet) listPage(w http.ResponseWriter, _ *http.Request) {
	all := n.Messages("")
	data := struct {
		Mails []listed
		More  int
	}{}
	for _, m := range slices.Backward(all) {
		if len(data.Mails) == listLimit {
			data.More = len(all) - listLimit
			break
		}
		data.Mails = append(data.Mails, listed{m.N, m.To, subject(m.Raw), clockTime(m.ReceivedAt), m.TLS != ""})
	}
	render(w, "list", data)
}

func (n *Internet) mailPage(w http.ResponseWriter, r *http.Request) {
	m, ok := n.numbered(r.PathValue("n"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	shown, opened, sealed := n.shown(r, m)
	read := walk(shown)
	page := mailView{
		Message: m, Sender: senderOf(m), Subject: subject(m.Raw), Time: clockTime(m.ReceivedAt),
		Transport: transport(m.TLS), Text: linked(read.text), Found: read.found, HTML: read.html != "", Attached: read.attached,
		Sealed: sealed, OpenedBy: opened.By, Outer: subject(m.Raw),
	}
	if inner := headerOr(shown, "Subject", ""); sealed && inner != "" {
		page.Subject = inner // RFC 9788: the one outside says nothing
	}
	if sealed {
		page.Ciphertext = ciphertext(m.Raw)
	}
	render(w, "mail", page)
}

// mailView is what the page of one mail shows.
type mailView struct {
	Message
	Sender, Subject, Time, Transport string
	Text                             []piece
	Found, HTML                      bool
	Attached                         []string

	Sealed          bool
	OpenedBy, Outer string
	Ciphertext      string
}

// shown is the mail as its reader sees it: opened where it was sealed to a key
// that lies in the mailbox.
func (n *Internet) shown(r *http.Request, m Message) (raw []byte, opened Opened, sealed bool) {
	opened, err := n.Open(r.Context(), m)
	switch {
	case errors.Is(err, ErrNotSealed):
		return m.Raw, Opened{}, false
	case err != nil:
		return m.Raw, Opened{}, true
	}
	return opened.Raw, opened, true
}

// ciphertext is the beginning of what traveled.
func ciphertext(raw []byte) string {
	_, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	const limit = 1200
	if len(body) > limit {
		return string(bytes.ToValidUTF8(body[:limit], nil)) + "\n…"
	}
	return string(bytes.ToValidUTF8(body, nil))
}

// htmlPage shows a mail's HTML as a mail program would: without scripts, and
// without an origin from which it could read other mail.
func (n *Internet) htmlPage(w http.ResponseWriter, r *http.Request) {
	m, ok := n.numbered(r.PathValue("n"))
	html := ""
	if ok {
		shown, _, _ := n.shown(r, m)
		html = walk(shown).html
	}
	if html == "" {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = io.WriteString(w, html) // the reader may be gone
}

func (n *Internet) sourcePage(w http.ResponseWriter, r *http.Request) {
	m, ok := n.numbered(r.PathValue("n"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(m.Raw) // the reader may be gone
}

func (n *Internet) numbered(text string) (Message, bool) {
	number, err := strconv.Atoi(text)
	if err != nil {
		return Message{}, false
	}
	all := n.Messages("")
	i, ok := slices.BinarySearchFunc(all, number, func(m Message, want int) int { return m.N - want })
	if !ok {
		return Message{}, false
	}
	return all[i], true
}

func clockTime(t time.Time) string { return t.Local().Format("15:04:05") }

func transport(tls string) string {
	if tls == "" {
		return "in clear, without encryption"
	}
	return "over " + tls
}

// piece is text, or a link when URL is set.
type piece struct{ Text, URL string }

var urlPattern = regexp.MustCompile(`https?://[^\s<>"]*[^\s<>".,;:!?)\]]`)

func linked(text string) []piece {
	var out []piece
	for {
		at := urlPattern.FindStringIndex(text)
		if at == nil {
			return append(out, piece{Text: text})
		}
		url := text[at[0]:at[1]]
		out = append(out, piece{Text: text[:at[0]]}, piece{url, url})
		text = text[at[1]:]
	}
}

func render(w http.ResponseWriter, name string, data any) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	_ = pageTemplates.ExecuteTemplate(w, name, data) // the reader may be gone
}

// senderOf gives a name with its address, without the quotes of RFC 5322.
func senderOf(m Message) string {
	text := headerOr(m.Raw, "From", cmp.Or(m.From, "nobody (empty sender)"))
	if a, err := mail.ParseAddress(text); err == nil && a.Name != "" {
		return a.Name + " <" + a.Address + ">"
	}
	return text
}

// headerOr reads one header of a mail for people, or gives other.
func headerOr(raw []byte, key, other string) string {
	msg, err := mail.ReadMessage(headOf(raw))
	if err != nil || msg.Header.Get(key) == "" {
		return other
	}
	return decodeWords(msg.Header.Get(key))
}

func subject(raw []byte) string { return headerOr(raw, "Subject", "(no subject)") }

var pageTemplates = template.Must(template.New("").Parse(pageText))

const pageText = `
{{define "head"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.}}</title>
<style>
:root { --ink: #1a1d21; --soft: #565d66; --page: #fff; --line: #d9dde2; --link: #0b57d0; --warn: #a8200d }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a6adb6; --page: #15181c; --line: #363c44; --link: #8ab4f8; --warn: #ff9c8a }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 46rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page) }
h1 { font-size: 1.375rem; line-height: 1.3; margin: 0 0 .25rem; overflow-wrap: anywhere }
p { margin: 0 0 1rem }
a { color: var(--link); overflow-wrap: anywhere }
a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
.soft { color: var(--soft) }
.warn { color: var(--warn); font-weight: 600 }
ol { list-style: none; margin: 1.25rem 0 0; padding: 0; border-top: 1px solid var(--line) }
li { border-bottom: 1px solid var(--line) }
li a { display: block; padding: .75rem 0; color: inherit; text-decoration: none }
li a:hover .subject { text-decoration: underline }
.row { display: flex; justify-content: space-between; gap: 1rem }
.row > :first-child { overflow-wrap: anywhere }
.subject { display: block; color: var(--link); overflow-wrap: anywhere }
time { color: var(--soft); font-variant-numeric: tabular-nums; white-space: nowrap }
dl { display: grid; grid-template-columns: auto 1fr; gap: .125rem 1rem; margin: 1rem 0 }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem }
.sealed { border-left: 3px solid var(--link); padding-left: .75rem }
.sealed-text { font: .8125rem/1.4 ui-monospace, monospace; color: var(--soft); white-space: pre-wrap; overflow-wrap: anywhere; max-height: 18rem; overflow: auto }
.text { white-space: pre-wrap; overflow-wrap: anywhere; border-top: 1px solid var(--line); padding-top: 1.25rem; margin: 1.25rem 0 }
</style>
</head>
<body>
{{end}}

{{define "list"}}{{template "head" "Mailboxes"}}
<main>
<h1>Mailboxes</h1>
<p class="soft">Everything that reached the mail servers of the demo, newest first. <a href="/">Look again</a></p>
{{if .Mails}}<ol>
{{range .Mails}}<li><a href="/mail/{{.N}}">
<span class="row"><span>{{.To}}</span><time>{{.Time}}</time></span>
<span class="subject">{{.Subject}}</span>
{{if not .Secure}}<span class="warn">Came without encryption</span>{{end}}
</a></li>
{{end}}</ol>
{{if .More}}<p class="soft">{{.More}} older ones are not shown.</p>{{end}}
{{else}}<p>Nothing has arrived yet.</p>{{end}}
</main>
</body>
</html>
{{end}}

{{define "mail"}}{{template "head" .Subject}}
<main>
<p><a href="/">All mailboxes</a></p>
<h1>{{.Subject}}</h1>
<dl>
<dt>To</dt><dd>{{.To}}</dd>
<dt>From</dt><dd>{{.Sender}}</dd>
<dt>Arrived</dt><dd>{{.Time}} at {{.Host}}, {{if .TLS}}{{.Transport}}{{else}}<span class="warn">{{.Transport}}</span>{{end}}</dd>
{{if .Attached}}<dt>Attached</dt><dd>{{range $i, $a := .Attached}}{{if $i}}, {{end}}{{$a}}{{end}}</dd>{{end}}
</dl>
{{if .OpenedBy}}<p class="sealed">Sealed to this person’s key. Below is what they read; {{.OpenedBy}} opened it. On the way everybody saw “{{.Outer}}” and the text at the end of this page.</p>
{{else if .Sealed}}<p class="sealed">Sealed to a key, and not opened here: only the sealed text is shown.</p>{{end}}
{{if and .Sealed (not .OpenedBy)}}{{else if .Found}}<div class="text">{{range .Text}}{{if .URL}}<a href="{{.URL}}" rel="noreferrer">{{.Text}}</a>{{else}}{{.Text}}{{end}}{{end}}</div>
{{else}}<p>This mail has no text part.</p>{{end}}
{{if .Ciphertext}}<h2>As it traveled</h2>
<pre class="sealed-text">{{.Ciphertext}}</pre>{{end}}
<p>{{if .HTML}}<a href="/mail/{{.N}}/html">Show it as designed</a> · {{end}}<a href="/mail/{{.N}}/source">Source of this mail</a></p>
</main>
</body>
</html>
{{end}}
`
