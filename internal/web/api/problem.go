package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/web"
)

// problem is how an error is told (RFC 9457).
type problem struct {
	Type      string    `json:"type" doc:"Always about:blank: code says what kind of problem it is." example:"about:blank"`
	Title     string    `json:"title" doc:"The name of the status." example:"Bad Request"`
	Status    int       `json:"status" doc:"The HTTP status." example:"400"`
	Detail    string    `json:"detail" doc:"What is wrong and what to do, for people." example:"This key is not known."`
	Code      string    `json:"code" doc:"Stable word for programs." example:"unknown_key"`
	Errors    []mistake `json:"errors,omitempty" doc:"All mistakes that were found."`
	RequestID string    `json:"request_id,omitempty" doc:"Tell it to the administrator, who finds it in the log." example:"0f3c5e1b9a7d2468"`
}

// mistake is one thing wrong with a request.
type mistake struct {
	Pointer   string `json:"pointer,omitempty" doc:"JSON Pointer (RFC 6901) to the value in the body." example:"/to/0"`
	Parameter string `json:"parameter,omitempty" doc:"Parameter of the query at fault." example:"limit"`
	Header    string `json:"header,omitempty" doc:"Header of the request at fault." example:"Idempotency-Key"`
	Code      string `json:"code" doc:"Stable word for programs." example:"bad_address"`
	Detail    string `json:"detail" doc:"What is wrong and what to do, for people." example:"The address has no @ and domain."`
}

// fail answers an error; what is no fault is logged and told to nobody.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	status := fault.HTTP(f)
	switch {
	case f == notJSON:
		status = http.StatusUnsupportedMediaType
	case f.Kind == fault.Internal, f.Kind == fault.Unavailable:
		a.Log.Error("an API request failed", "request", web.RequestID(r.Context()), "code", f.Reason, "err", cause(err))
	}
	switch f.Kind {
	case fault.TooMany:
		w.Header().Set("Retry-After", "60")
	case fault.Unavailable:
		w.Header().Set("Retry-After", "5")
	}
	a.refuse(w, r, status, f)
}

// cause is what lies behind a fault, for the log.
func cause(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) && errors.Unwrap(f) != nil {
		return errors.Unwrap(f)
	}
	return err
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, status int, f *fault.Fault) {
	web.Add(r.Context(), slog.String("code", f.Reason))
	p := problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: f.Text, Code: f.Reason,
		RequestID: web.RequestID(r.Context())}
	for _, one := range append([]*fault.Fault{f}, f.Also...) {
		if one.Pointer != "" || len(f.Also) > 0 {
			p.Errors = append(p.Errors, mistakeOf(one))
		}
	}
	if len(f.Also) > 0 {
		p.Detail = strconv.Itoa(len(p.Errors)) + " things are wrong with this request; errors lists them."
	}
	writeJSON(w, status, "application/problem+json", p)
}

func mistakeOf(f *fault.Fault) mistake {
	m := mistake{Code: f.Reason, Detail: f.Text}
	if name, ok := strings.CutPrefix(f.Pointer, inQuery); ok {
		m.Parameter = name
	} else if name, ok := strings.CutPrefix(f.Pointer, inHeader); ok {
		m.Header = name
	} else {
		m.Pointer = f.Pointer
	}
	return m
}

func writeJSON(w http.ResponseWriter, status int, kind string, v any) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)              // addresses are easier to read with < and >
	if err := e.Encode(v); err != nil { // only a defect of ours: all answers are plain structs
		http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}
