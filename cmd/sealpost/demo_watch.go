package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

// expectation is one recipient of the samples and what must become of it.
type expectation struct {
	entry fake.Entry
	sent  time.Time
	done  bool
	got   delivered
}

// delivered is what the API says of a delivery.
type delivered struct {
	ID        string `json:"id"`
	Recipient string `json:"recipient"`
	Seal      string `json:"seal"`
	Grade     string `json:"grade"`
	State     string `json:"state"`
	Reason    string `json:"reason_code"`
	Attempts  []struct {
		Evidence   json.RawMessage `json:"evidence"`
		Protection json.RawMessage `json:"protection"`
		PassedOver []string        `json:"passed_over"`
	} `json:"attempts"`
}

// reached reports whether the delivery came to what the table of the loopback
// internet says.
func (x *expectation) reached() bool {
	e := x.entry
	if x.got.State != e.EndState {
		return false
	}
	if e.EndState == fake.Delivered || e.EndState == fake.Waiting {
		return x.got.Seal == e.Seal && x.got.Grade == e.Grade
	}
	return x.got.Reason == e.Reason
}

// evidence gives how the transport of the last attempt was proved, and how it
// was sealed to the recipient's key.
func (x *expectation) evidence() (transport, protection json.RawMessage) {
	if n := len(x.got.Attempts); n > 0 {
		last := x.got.Attempts[n-1]
		return last.Evidence, last.Protection
	}
	return nil, nil
}

// watcher sends the samples and follows the event stream until every delivery
// is where it must be.
type watcher struct {
	demo   *demo
	out    *demoOutput
	want   map[string]*expectation // by address
	cursor string
}

func (w *watcher) sendSamples(ctx context.Context) error {
	for _, s := range samples() {
		for _, to := range append(append([]string(nil), s.to...), s.bcc...) {
			entry, ok := findEntry(to)
			if !ok {
				return fmt.Errorf("the loopback internet does not know one of the samples' recipients")
			}
			w.want[to] = &expectation{entry: entry, sent: time.Now()}
		}
		if err := w.demo.send(ctx, s); err != nil {
			return fmt.Errorf("send a sample by %s: %w", s.via, err)
		}
	}
	return nil
}

const pollEvery = 250 * time.Millisecond

// follow reads events until all deliveries are where they must be or ctx
// ends, and reports whether all are.
func (w *watcher) follow(ctx context.Context) (bool, error) {
	for {
		if err := w.poll(ctx); err != nil {
			return false, err
		}
		if w.complete() {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

type eventPage struct {
	Events []struct {
		Type     string `json:"type"`
		Delivery string `json:"delivery_id"`
	} `json:"events"`
	Next string `json:"next"`
}

func (w *watcher) poll(ctx context.Context) error {
	for {
		path := "/api/v1/events?limit=500"
		if w.cursor != "" {
			path += "&after=" + url.QueryEscape(w.cursor)
		}
		var page eventPage
		if err := w.demo.api.do(ctx, http.MethodGet, path, nil, "", &page); err != nil {
			return err
		}
		for _, e := range page.Events {
			switch e.Type {
			case "delivery.delivered", "delivery.waiting", "delivery.failed", "delivery.expired", "delivery.deferred":
				if err := w.look(ctx, e.Delivery); err != nil {
					return err
				}
			}
		}
		w.cursor = page.Next
		if len(page.Events) == 0 {
			return nil
		}
	}
}

func (w *watcher) look(ctx context.Context, id string) error {
	var got delivered
	if err := w.demo.api.do(ctx, http.MethodGet, "/api/v1/deliveries/"+id, nil, "", &got); err != nil {
		return err
	}
	x := w.want[got.Recipient]
	if x == nil || x.done {
		return nil
	}
	x.got = got
	if got.State == fake.Deferred && x.entry.EndState != fake.Deferred {
		return nil // it will be tried again
	}
	if got.State == fake.Delivered && x.entry.EndState == fake.Failed {
		return nil // it will come back
	}
	x.done = true
	w.out.row(x)
	return nil
}

func (w *watcher) complete() bool {
	for _, x := range w.want {
		if !x.done {
			return false
		}
	}
	return true
}

// wrong counts deliveries that came to something else than they must.
func (w *watcher) wrong() int {
	n := 0
	for _, x := range w.want {
		if !x.reached() {
			n++
		}
	}
	return n
}
