package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
)

// Action is what Rspamd says is to be done with a message.
type Action string

// The actions, from the least to the most.
const (
	Pass       Action = "pass"        // "no action"
	Later      Action = "later"       // "greylist", "soft reject": the peer comes again
	Mark       Action = "mark"        // "add header", "rewrite subject", "quarantine"
	Reject     Action = "reject"      // "reject", "discard": nothing is lost in silence
	symbolsMax        = 100           // of one message
	replyMax          = 1 << 20       // octets that Rspamd says
	checkPath         = "/checkv2"    // https://docs.rspamd.com/developers/protocol
	noScore           = float64(9999) // beyond which a score says nothing more
)

var actions = map[string]Action{
	"no action": Pass, "greylist": Later, "soft reject": Later,
	"add header": Mark, "rewrite subject": Mark, "quarantine": Mark, "reject": Reject, "discard": Reject,
}

// Envelope is what a scanner is told of a message besides its octets.
type Envelope struct {
	IP   netip.Addr
	EHLO string
	From mail.Address // zero for the null sender
	Rcpt []mail.Address
	ID   string
}

// Opinion is what Rspamd thinks of a message.
type Opinion struct {
	Action          Action
	Score, Required float64
	Symbols         []string // sorted; only those of the usual form
}

// Rspamd is a client of Rspamd.
type Rspamd struct {
	url     string
	client  *http.Client
	timeout time.Duration
}

// RspamdDeps are what an Rspamd is made with.
type RspamdDeps struct {
	URL     string        // http://127.0.0.1:11333
	Dial    Dial          // nil: a plain one
	Timeout time.Duration // of one message; zero: a minute
}

// NewRspamd makes a client. It asks nothing yet.
func NewRspamd(d RspamdDeps) (*Rspamd, error) {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the URL of Rspamd is http://host:port")
	}
	r := &Rspamd{url: u.JoinPath(checkPath).String(), timeout: d.Timeout}
	if r.timeout == 0 {
		r.timeout = defaultTime
	}
	r.client = &http.Client{
		Transport:     &http.Transport{DialContext: d.Dial.or(), MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// Check reads a message to its end and gives Rspamd's opinion of it.
func (r *Rspamd) Check(ctx context.Context, e Envelope, message io.Reader) (Opinion, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	in := &source{r: message}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, io.NopCloser(in))
	if err != nil {
		return Opinion{}, unavailable(err)
	}
	e.tell(req.Header)
	resp, err := r.client.Do(req)
	if err != nil {
		return Opinion{}, in.blame(quiet(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Opinion{}, in.blame(fmt.Errorf("Rspamd answers with status %d", resp.StatusCode))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, replyMax))
	if err != nil {
		return Opinion{}, in.blame(quiet(err))
	}
	return read(text)
}

// quiet takes the URL out of an error.
func quiet(err error) error {
	var bad *url.Error
	if errors.As(err, &bad) {
		return bad.Err
	}
	return err
}

// tell writes the envelope as Rspamd's protocol has it.
func (e Envelope) tell(h http.Header) {
	h.Set("User-Agent", "Sealpost")
	if e.IP.IsValid() {
		h.Set("Ip", e.IP.Unmap().String())
	}
	if e.EHLO != "" {
		h.Set("Helo", e.EHLO)
	}
	h.Set("From", e.From.Reveal())
	for _, to := range e.Rcpt {
		h.Add("Rcpt", to.Reveal())
	}
	if e.ID != "" {
		h.Set("Queue-Id", e.ID)
	}
}

// symbol is the form of Rspamd's names for what it saw.
var symbol = regexp.MustCompile(`^[A-Z][A-Z0-9_]{1,63}$`)

// read takes what Rspamd answered. What is not understood is no opinion.
func read(text []byte) (Opinion, error) {
	var w struct {
		Action        *string                    `json:"action"`
		Score         float64                    `json:"score"`
		RequiredScore float64                    `json:"required_score"`
		Symbols       map[string]json.RawMessage `json:"symbols"`
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return Opinion{}, unavailable(errors.New("the answer of Rspamd is not the JSON it should be"))
	}
	if w.Action == nil {
		return Opinion{}, unavailable(errors.New("the answer of Rspamd names no action"))
	}
	action, known := actions[*w.Action]
	if !known {
		return Opinion{}, unavailable(errors.New("the answer of Rspamd names an action that is not known"))
	}
	o := Opinion{Action: action, Score: bounded(w.Score), Required: bounded(w.RequiredScore)}
	for name := range w.Symbols {
		if symbol.MatchString(name) {
			o.Symbols = append(o.Symbols, name)
		}
	}
	slices.Sort(o.Symbols)
	o.Symbols = o.Symbols[:min(len(o.Symbols), symbolsMax)]
	return o, nil
}

func bounded(score float64) float64 {
	if math.IsNaN(score) {
		return 0
	}
	return max(-noScore, min(noScore, score))
}
