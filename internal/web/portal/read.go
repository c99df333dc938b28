package portal

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/private"
)

// message is what the page of an opened message shows.
type message struct {
	Org, From, Subject string
	Date, Stamp        string
	Text               []piece
	Frame              string // address of the HTML, shown in a frame
	Rich               string // address of the HTML beside the text
	TooLong            bool   // the HTML is only offered as a file
	Broken             bool
	Files              []file
}

type file struct{ Name, URL, Size string }

// tag ties the addresses on a page to its message: when another message was
// opened in the same browser since, they give a page that says so.
const tag = "m"

// opened gives the message of the request's session, or answers.
func (p *Portal) opened(w http.ResponseWriter, r *http.Request) (*pickup.Opened, bool) {
	session, ok := p.cookies.Get(r, cookieSession)
	if !ok {
		p.fail(w, r, pickup.ErrNoSession)
		return nil, false
	}
	o, err := p.Pickup.Open(r.Context(), session)
	if err != nil {
		p.fail(w, r, err)
		return nil, false
	}
	if want := r.URL.Query().Get(tag); want != "" && want != o.Tag {
		o.Close()
		p.problem(w, http.StatusConflict, "You have opened another message",
			"To come back to this one, open the link in its email again.")
		return nil, false
	}
	return o, true
}

func (p *Portal) read(w http.ResponseWriter, r *http.Request) {
	o, ok := p.opened(w, r)
	if !ok {
		return
	}
	defer o.Close()
	v := o.View
	m := message{Org: o.OrgName, From: v.From.Reveal(), Subject: v.Subject.Reveal(), Broken: v.Broken,
		Date: readableDate(o.Date), Stamp: o.Date.Format(time.RFC3339)}
	query := "?" + tag + "=" + o.Tag
	shown := map[int]bool{}
	switch text := strings.TrimRight(v.Text.Reveal(), "\n\r \t"); {
	case v.Broken:
	case v.HTML.Empty():
		m.Text = linked(text)
	case len(v.HTML.Reveal()) > maxHTML:
		m.Text, m.TooLong = linked(text), true
	default:
		if text != "" {
			m.Text, m.Rich = linked(text), "/read/html"+query
		} else {
			m.Frame = "/read/html" + query
		}
		shown = embeddable(o)
	}
	for _, f := range o.Files {
		if f.Inline && shown[f.Index] || f.Page && !m.TooLong {
			continue
		}
		m.Files = append(m.Files, file{f.Name.Reveal(), fmt.Sprintf("/read/file/%d%s", f.Index, query), readableSize(f.Size)})
	}
	p.show(w, http.StatusOK, "read", m)
}

// embeddable tells which pictures the HTML shows; the others are offered as
// files.
func embeddable(o *pickup.Opened) map[int]bool {
	shown := map[int]bool{}
	for _, f := range o.Files {
		if f.Inline {
			shown[f.Index] = f.Size <= maxPicture && pictureKinds[f.ContentType]
		}
	}
	return shown
}

// readHTML gives the cleaned HTML an opaque origin, also when it is opened
// directly: the policy's sandbox does what the frame's attribute does.
func (p *Portal) readHTML(w http.ResponseWriter, r *http.Request) {
	o, ok := p.opened(w, r)
	if !ok {
		return
	}
	defer o.Close()
	if html := o.View.HTML.Reveal(); html == "" || len(html) > maxHTML {
		p.fail(w, r, pickup.ErrNoFile)
		return
	}
	var out bytes.Buffer
	out.WriteString(htmlHead)
	out.WriteString(clean(o.View.HTML.Reveal(), o.View.Inline))
	out.WriteString(htmlFoot)
	w.Header().Set("Content-Security-Policy", "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "+
		"img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors "+p.origin)
	// Links may open a new window of another site without a way back to us.
	w.Header().Set("Cross-Origin-Opener-Policy", "unsafe-none")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

func (p *Portal) readFile(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		p.fail(w, r, pickup.ErrNoFile)
		return
	}
	o, ok := p.opened(w, r)
	if !ok {
		return
	}
	defer o.Close()
	if r.Method == http.MethodHead {
		return // nothing is handed out, so nothing is recorded
	}
	f, content, err := p.Pickup.Download(r.Context(), o, n)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", harmlessType(f.ContentType))
	h.Set("Content-Disposition", disposition(f.Name))
	h.Set("Content-Length", strconv.FormatInt(f.Size, 10))
	_, _ = io.Copy(w, content) // the reader may be gone
}

// harmlessType keeps the type where it helps a phone to choose a program, and
// hides what a browser would run if it were ever tricked into showing it.
func harmlessType(declared string) string {
	media, _, err := mime.ParseMediaType(declared)
	if err != nil {
		return "application/octet-stream"
	}
	switch {
	case media == "image/svg+xml":
	case strings.HasPrefix(media, "image/"), strings.HasPrefix(media, "audio/"), strings.HasPrefix(media, "video/"),
		strings.HasPrefix(media, "application/vnd."), media == "application/pdf", media == "application/zip", media == "application/msword":
		return media
	}
	return "application/octet-stream"
}

// disposition writes the name twice (RFC 6266 appendix D): in ASCII for old
// programs, and as it is.
func disposition(name private.String) string {
	safe := mail.SafeFilename(name.Reveal())
	if safe == "" {
		safe = "file"
	}
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '%' {
			return '_'
		}
		return r
	}, safe)
	return `attachment; filename="` + ascii + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(safe), "+", "%20")
}

// piece is text, or a link when URL is set.
type piece struct{ Text, URL string }

var urlForm = regexp.MustCompile(`https?://[^\s<>"\x{00a0}]*[^\s<>".,;:!?)\]'\x{00a0}]`)

// linked finds addresses of web pages in text.
func linked(text string) []piece {
	var out []piece
	last := 0
	for _, at := range urlForm.FindAllStringIndex(text, 2000) {
		out = append(out, piece{Text: text[last:at[0]]}, piece{text[at[0]:at[1]], text[at[0]:at[1]]})
		last = at[1]
	}
	return append(out, piece{Text: text[last:]})
}

func readableSize(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1_000_000:
		return fmt.Sprintf("%d KB", (n+500)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// readableDate keeps the sender's time zone and names it: we do not know the
// reader's.
func readableDate(t time.Time) string {
	zone := "UTC"
	if _, offset := t.Zone(); offset != 0 {
		zone = "UTC" + t.Format("-07:00")
	}
	return t.Format("January 2, 2006, 3:04 PM") + " (" + zone + ")"
}
