package portal

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/web"
)

// door is what the pages before the session show. Link only repeats the
// address the person came by.
type door struct {
	Link  string
	Error string
	Again bool // a code was asked for before, on this page
}

func doorOf(r *http.Request) door { return door{Link: "/m/" + r.PathValue("credential")} }

// ask is where the link leads: scanners and people get the same inert page.
func (p *Portal) ask(w http.ResponseWriter, r *http.Request) {
	p.show(w, http.StatusOK, "ask", doorOf(r))
}

// sendCode answers first and queues the code after, so that neither the answer
// nor its time depends on the link.
func (p *Portal) sendCode(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formLimit)
	browser, ok := p.cookies.Get(r, cookieBrowser)
	if !ok || !pickup.KnownBrowser(browser) {
		browser = pickup.NewBrowser()
	}
	p.cookies.Set(w, cookieBrowser, browser, browserAge)
	d := doorOf(r)
	d.Again = r.PostFormValue("again") != ""
	p.show(w, http.StatusOK, "code", d)
	_ = http.NewResponseController(w).Flush() // without it the answer leaves a little later
	p.Pickup.RequestCode(private.NewString(r.PathValue("credential")), browser)
}

// open turns the code into a session.
func (p *Portal) open(w http.ResponseWriter, r *http.Request) {
	began := p.Clock.Now()
	r.Body = http.MaxBytesReader(w, r.Body, formLimit)
	digits, ok := pickup.CodeDigits(r.PostFormValue("code"))
	if !ok {
		d := doorOf(r)
		d.Error = "The code has six digits, like 123 456. Please type it again."
		p.show(w, http.StatusUnprocessableEntity, "code", d)
		return
	}
	browser, ok := p.cookies.Get(r, cookieBrowser)
	if !ok {
		browser = pickup.NewBrowser() // known to nobody: refused in the same time
	}
	session, err := p.Pickup.Redeem(r.Context(), private.NewString(r.PathValue("credential")), browser, digits)
	switch {
	case errors.Is(err, pickup.ErrRefused):
		p.pause(r, began)
		d := doorOf(r)
		d.Error = "That code did not work. Use the one from the newest email, or ask for a new code below. " +
			"After five tries a code no longer works."
		p.show(w, http.StatusUnprocessableEntity, "code", d)
	case err != nil:
		p.pause(r, began)
		p.fail(w, r, err)
	default:
		p.cookies.Set(w, cookieSession, session, sessionAge)
		http.Redirect(w, r, "/read", http.StatusSeeOther)
	}
}

// pause lets every refusal take the same time, as long as the database is
// quicker than that.
func (p *Portal) pause(r *http.Request, began time.Time) {
	rest := p.Pace - p.Clock.Now().Sub(began)
	if rest <= 0 {
		return
	}
	select {
	case <-p.Clock.After(rest):
	case <-r.Context().Done():
	}
}

func (p *Portal) leave(w http.ResponseWriter, r *http.Request) {
	if session, ok := p.cookies.Get(r, cookieSession); ok {
		if err := p.Pickup.Leave(r.Context(), session); err != nil {
			p.fail(w, r, err)
			return
		}
	}
	p.cookies.Clear(w, cookieSession)
	p.problem(w, http.StatusOK, "The message is closed",
		"To read it again, open the link in your email.")
}

// logFailure puts what went wrong into the request's record.
func logFailure(r *http.Request, err error) {
	f := fault.From(err)
	attrs := []slog.Attr{slog.String("reason", f.Reason), slog.String("error", err.Error())}
	if cause := f.Unwrap(); cause != nil {
		attrs = append(attrs, slog.String("cause", cause.Error()))
	}
	web.Add(r.Context(), attrs...)
}
