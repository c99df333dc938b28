package fake

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Message is one mail as one recipient received it.
type Message struct {
	N          int // counts from 1 in the order of arrival
	From       string
	To         string
	Raw        []byte // exactly as sent, dots unstuffed, lines ending in CRLF
	TLS        string // "TLS 1.3 TLS_AES_128_GCM_SHA256", or empty when it came in clear
	Host       string // the MX that took it
	ReceivedAt time.Time
	RequireTLS bool // under REQUIRETLS (RFC 8689)
}

// MarshalJSON is the form of the mailboxes' HTTP interface. Where raw is not
// UTF-8, raw_base64 has the exact bytes.
func (m Message) MarshalJSON() ([]byte, error) {
	v := struct {
		From       string    `json:"from"`
		To         string    `json:"to"`
		Raw        string    `json:"raw"`
		RawBase64  string    `json:"raw_base64,omitempty"`
		TLS        string    `json:"tls"`
		ReceivedAt time.Time `json:"received_at"`
	}{From: m.From, To: m.To, Raw: string(m.Raw), TLS: m.TLS, ReceivedAt: m.ReceivedAt}
	if !utf8.Valid(m.Raw) {
		v.RawBase64 = base64.StdEncoding.EncodeToString(m.Raw)
	}
	return json.Marshal(v)
}

// mailboxes keeps what arrived, in memory, the oldest being dropped when it
// grows past its limit.
type mailboxes struct {
	mu      sync.Mutex
	all     []Message
	last    int // number of the newest message
	bytes   int
	limit   int
	discard bool
	total   int
	changed chan struct{} // closed and replaced on every arrival that somebody waits for
}

func newMailboxes(limit int, discard bool) *mailboxes {
	return &mailboxes{limit: limit, discard: discard}
}

func (b *mailboxes) add(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total++
	if !b.discard {
		b.last++
		m.N = b.last
		b.all = append(b.all, m)
		b.bytes += len(m.Raw)
		for b.bytes > b.limit && len(b.all) > 1 {
			b.bytes -= len(b.all[0].Raw)
			b.all = slices.Delete(b.all, 0, 1)
		}
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

func (b *mailboxes) messages(to string) []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Message{}
	for _, m := range b.all {
		if to == "" || strings.EqualFold(m.To, to) {
			out = append(out, m)
		}
	}
	return out
}

// wait returns when done says so, asking after every arrival.
func (b *mailboxes) wait(ctx context.Context, done func() bool) error {
	for {
		b.mu.Lock()
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Messages lists what arrived for an address, or for all with an empty one,
// oldest first.
func (n *Internet) Messages(to string) []Message { return n.boxes.messages(to) }

// Wait waits until at least count messages have arrived for an address and
// gives them.
func (n *Internet) Wait(ctx context.Context, to string, count int) ([]Message, error) {
	var got []Message
	err := n.boxes.wait(ctx, func() bool {
		got = n.boxes.messages(to)
		return len(got) >= count
	})
	if err != nil {
		return got, fmt.Errorf("%d of %d messages arrived: %w", len(got), count, err)
	}
	return got, nil
}

// Received counts every message accepted since the start, also when bodies
// are discarded.
func (n *Internet) Received() int {
	n.boxes.mu.Lock()
	defer n.boxes.mu.Unlock()
	return n.boxes.total
}

// Signed counts the messages that came by DATA with a DKIM signature, valid or
// not.
func (n *Internet) Signed() int { return int(n.signed.Load()) }

// WaitReceived waits until Received is at least count.
func (n *Internet) WaitReceived(ctx context.Context, count int) error {
	if err := n.boxes.wait(ctx, func() bool { return n.Received() >= count }); err != nil {
		return fmt.Errorf("%d of %d messages arrived: %w", n.Received(), count, err)
	}
	return nil
}

// Forget empties all mailboxes.
func (n *Internet) Forget() {
	n.boxes.mu.Lock()
	defer n.boxes.mu.Unlock()
	n.boxes.all, n.boxes.bytes = nil, 0
}

func (n *Internet) startMailboxes() error {
	ln, err := net.Listen("tcp", "127.0.0.1:"+port(n.opts.MailboxesPort))
	if err != nil {
		return fmt.Errorf("listen for the mailboxes: %w", err)
	}
	n.MailboxesURL = "http://" + ln.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		all := n.Messages(r.FormValue("to"))
		if r.FormValue("open") == "" {
			_ = json.NewEncoder(w).Encode(all) // the reader may be gone
			return
		}
		_ = json.NewEncoder(w).Encode(n.openAll(r.Context(), all)) // the reader may be gone
	})
	mux.HandleFunc("DELETE /messages", func(w http.ResponseWriter, _ *http.Request) {
		n.Forget()
		w.WriteHeader(http.StatusNoContent)
	})
	n.pages(mux)
	return n.serveHTTP(&http.Server{Handler: onlyLocal(mux)}, ln)
}

// openedMessage is a message of the mailboxes' HTTP interface with what its
// owner reads of it.
type openedMessage struct {
	Message  Message `json:"message"`
	Sealed   bool    `json:"sealed"`
	Opened   string  `json:"opened,omitempty"`
	OpenedBy string  `json:"opened_by,omitempty"`
	Problem  string  `json:"problem,omitempty"`
}

func (n *Internet) openAll(ctx context.Context, all []Message) []openedMessage {
	out := []openedMessage{}
	for _, m := range all {
		one := openedMessage{Message: m, Sealed: true}
		opened, err := n.Open(ctx, m)
		switch {
		case errors.Is(err, ErrNotSealed):
			one.Sealed = false
		case err != nil:
			one.Problem = err.Error()
		default:
			one.Opened, one.OpenedBy = string(opened.Raw), opened.By
		}
		out = append(out, one)
	}
	return out
}

// onlyLocal refuses requests under a name that is not this machine's, so that
// a web page elsewhere cannot read the mailboxes by rebinding its name.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host != "localhost" && host != "127.0.0.1" {
			http.Error(w, "ask for 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
