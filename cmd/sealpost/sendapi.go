package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/spool"
)

// apiClient speaks to the API of a server.
type apiClient struct {
	base, key string
	http      *http.Client
}

const (
	answerLimit  = 64 << 20
	requestLimit = 5 * time.Minute
	watchMin     = 200 * time.Millisecond // between two looks at a delivery
	watchMax     = 5 * time.Second
)

func newAPIClient(base, key, caFile string) (*apiClient, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usagef("--api-url must be a URL such as https://mail.clinic.example.")
	}
	if u.Scheme == "http" && !onThisMachine(u.Hostname()) {
		return nil, usagef("--api-url must begin with https://, or the message would cross the network in clear.")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca-file: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usagef("--ca-file holds no certificate in PEM.")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &apiClient{strings.TrimSuffix(base, "/"), key, &http.Client{
		Transport: transport, Timeout: requestLimit,
		// The message and the key go to the server that was named and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func onThisMachine(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true // RFC 6761 section 6.3
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// sentDelivery is what the API tells of a delivery.
type sentDelivery struct {
	ID        string          `json:"id"`
	Recipient string          `json:"recipient"`
	State     spool.State     `json:"state"`
	Seal      string          `json:"seal"`
	Final     bool            `json:"final"`
	Grade     string          `json:"grade,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Code      string          `json:"reason_code,omitempty"`
	Attempts  json.RawMessage `json:"attempts,omitempty"`
}

// send posts the message. With the same key the server takes it only once, so
// an outcome that is unknown can be cleared up by sending again.
func (c *apiClient) send(ctx context.Context, m wireMessage, key string) (sent sentMessage, err error) {
	if key == "" {
		key = rand.Text()
	}
	body, err := json.Marshal(m)
	if err != nil {
		return sent, err
	}
	err = c.do(ctx, http.MethodPost, "/api/v1/messages", body, key, &sent)
	var lost *url.Error
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		err = fmt.Errorf("the server cannot be reached; check --api-url and that it runs: %w", err)
	case errors.As(err, &lost):
		err = fmt.Errorf("whether the message was accepted is not known; run the command again with --idempotency-key %s, and it is not sent twice: %w", key, err)
	}
	return sent, err
}

// watch looks at the deliveries until nothing more happens to them by itself.
func (c *apiClient) watch(ctx context.Context, m *sentMessage) error {
	pause := watchMin
	for {
		busy := false
		for i := range m.Deliveries {
			d := &m.Deliveries[i]
			if rests(d.State) {
				continue
			}
			was := *d
			err := c.do(ctx, http.MethodGet, "/api/v1/deliveries/"+url.PathEscape(d.ID), nil, "", d)
			if ctx.Err() != nil {
				*d = was
				return nil // as far as it is known; open counts it
			}
			if err != nil {
				return err
			}
			busy = busy || !rests(d.State)
		}
		if !busy {
			return nil
		}
		select {
		case <-time.After(pause):
			pause = min(pause*2, watchMax)
		case <-ctx.Done():
			return nil
		}
	}
}

// rests reports whether a delivery stays in this state unless somebody acts or
// a time far off comes.
func rests(s spool.State) bool {
	return s.Settled() || s == spool.Held || s == spool.Scheduled
}

func (c *apiClient) do(ctx context.Context, method, path string, body []byte, idempotencyKey string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("User-Agent", "sealpost/"+version)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", idempotencyKey)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return &url.Error{Op: method, URL: c.base + path, Err: err}
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errors.New("the answer is not that of a Sealpost API; check --api-url")
	}
	return nil
}

// problem is a refusal in the form of RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer   string `json:"pointer"`
		Parameter string `json:"parameter"`
		Header    string `json:"header"`
		Detail    string `json:"detail"`
	} `json:"errors"`
}

// refused is what the API answered, in its own words.
type refused struct {
	status int
	problem
}

func refusal(status int, text []byte) error {
	r := &refused{status: status}
	if json.Unmarshal(text, &r.problem) != nil || r.Title == "" && r.Detail == "" {
		return fmt.Errorf("the server answered with status %d and no explanation; check --api-url", status)
	}
	return r
}

// Error lists what is wrong, with pointers to the fields.
func (r *refused) Error() string {
	lines := []string{fmt.Sprintf("the server refused with status %d: %s", r.status, cmp.Or(r.Detail, r.Title))}
	for _, e := range r.Errors {
		if where := cmp.Or(e.Pointer, e.Parameter, e.Header); where != "" {
			e.Detail = where + ": " + e.Detail
		}
		lines = append(lines, e.Detail)
	}
	return strings.Join(lines, "\n  ")
}
