package api

import (
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/suppress"
)

// suppression is an address that nothing, or no bulk mail, is sent to.
type suppression struct {
	ID         string    `json:"id" doc:"The suppression." example:"sup_06fz1k8mcdvxx0h4s8w3q2t9ak"`
	Address    string    `json:"address" doc:"The address." example:"ada@example.org"`
	Scope      string    `json:"scope" doc:"Which mail is stopped: all, bulk, or none: then an operator keeps the rules from adding it." example:"all"`
	Reason     string    `json:"reason" doc:"Why: hard_bounce, soft_bounces, complaint, manual, import or allowed." example:"hard_bounce"`
	Note       string    `json:"note,omitempty" doc:"What somebody noted."`
	DeliveryID string    `json:"delivery_id,omitempty" doc:"The delivery whose bounce or complaint it was."`
	CreatedAt  time.Time `json:"created_at" doc:"Since when."`
	ExpiresAt  time.Time `json:"expires_at,omitzero" doc:"Until when; missing when it does not end by itself."`
}

func suppressionOf(e suppress.Entry) suppression {
	s := suppression{ID: e.ID.Text(id.Suppression), Address: e.Address.Reveal(), Scope: string(e.Scope), Reason: string(e.Reason),
		Note: e.Note.Reveal(), CreatedAt: e.CreatedAt, ExpiresAt: e.ExpiresAt}
	if !e.Delivery.IsZero() {
		s.DeliveryID = e.Delivery.Text(id.Delivery)
	}
	return s
}

type suppressionsAnswer struct {
	Suppressions []suppression `json:"suppressions" doc:"In the order in which they were made."`
	Next         string        `json:"next,omitempty" doc:"Give it as after to get the next page; missing on the last one."`
}

type suppressionRequest struct {
	Address   string    `json:"address" doc:"The address." example:"ada@example.org"`
	Scope     string    `json:"scope,omitempty" enum:"all,bulk" doc:"Which mail is stopped; all when left out."`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"Until when; for ever when left out."`
	Note      string    `json:"note,omitempty" doc:"Why, for people."`
}

type suppressionSearch struct {
	Address string `json:"address" doc:"The address." example:"ada@example.org"`
}

type suppressionRemoved struct {
	ID string `json:"id" doc:"The suppression that is gone." example:"sup_06fz1k8mcdvxx0h4s8w3q2t9ak"`
}

const suppressionsLimit, suppressionsMost = 100, 1000

const (
	exampleSuppress = `{
  "address": "ada@example.org",
  "note": "Asked for letters only."
}`
	exampleSuppressed = `{
  "address": "ada@example.org"
}`
)

// suppressionRoutes are the operations on suppressions.
func suppressionRoutes() []route {
	const path = "/api/v1/suppressions"
	return []route{
		{
			method: http.MethodGet, path: path, name: "listSuppressions", scope: auth.ReadSuppressions,
			summary: "List suppressions", description: "The addresses that nothing, or no bulk mail, is sent to, and why. A delivery to one is accepted and becomes suppressed at once.",
			query: []param{{"after", "string", "The next of the answer before.", "sup_06fz1k8mcdvxx0h4s8w3q2t9ak"},
				{"limit", "integer", "How many, from 1 to 1,000; 100 when left out.", "100"}},
			out: reflect.TypeFor[suppressionsAnswer](), status: http.StatusOK, act: listSuppressions,
		},
		{
			method: http.MethodPost, path: path, name: "addSuppression", scope: auth.WriteSuppressions,
			summary: "Suppress an address", description: "Nothing, or no bulk mail, is sent to the address from now on. What was there of the same scope is replaced.",
			in: reflect.TypeFor[suppressionRequest](), out: reflect.TypeFor[suppression](), status: http.StatusCreated,
			errors: []int{413, 415}, example: exampleSuppress, act: addSuppression,
		},
		{
			method: http.MethodPost, path: path + "/search", name: "searchSuppressions", scope: auth.ReadSuppressions,
			summary: "Say why an address is suppressed", description: "All suppressions of one address. It stands in the body, so that it never ends in a log of URLs.",
			in: reflect.TypeFor[suppressionSearch](), out: reflect.TypeFor[suppressionsAnswer](), status: http.StatusOK,
			errors: []int{413, 415}, example: exampleSuppressed, act: searchSuppressions,
		},
		{
			method: http.MethodDelete, path: path + "/{id}", name: "removeSuppression", scope: auth.WriteSuppressions,
			summary: "Remove a suppression", description: "The address is sent to again. Bounces and complaints of later mail can suppress it again.",
			out: reflect.TypeFor[suppressionRemoved](), status: http.StatusOK, errors: []int{404}, act: removeSuppression,
		},
	}
}

func listSuppressions(c *call) (any, error) {
	var m mistakes
	after, limit := id.ID{}, suppressionsLimit
	if c.query.Has("after") {
		var err error
		if after, err = id.Parse(id.Suppression, c.query.Get("after")); err != nil {
			m.say(inQuery+"after", "bad_cursor", "This must be the next of another answer.")
		}
	}
	if c.query.Has("limit") {
		n, err := strconv.Atoi(c.query.Get("limit"))
		if err != nil || n < 1 || n > suppressionsMost {
			m.say(inQuery+"limit", "out_of_range", "This must be from 1 to %d.", suppressionsMost)
		}
		limit = n
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	return c.suppressions(mail.Address{}, after, limit)
}

func (c *call) suppressions(of mail.Address, after id.ID, limit int) (any, error) {
	all, err := c.Suppress.List(c.r.Context(), c.principal.Org, of, after, limit+1)
	if err != nil {
		return nil, err
	}
	out := suppressionsAnswer{Suppressions: []suppression{}}
	for _, e := range all[:min(len(all), limit)] {
		out.Suppressions = append(out.Suppressions, suppressionOf(e))
	}
	if len(all) > limit {
		out.Next = out.Suppressions[limit-1].ID
	}
	return out, nil
}

func searchSuppressions(c *call) (any, error) {
	var m mistakes
	of := m.mailbox(body[suppressionSearch](c).Address, "/address").Address
	if err := m.err(); err != nil {
		return nil, err
	}
	return c.suppressions(of, id.ID{}, suppressionsMost)
}

func addSuppression(c *call) (any, error) {
	in := body[suppressionRequest](c)
	var m mistakes
	e := suppress.Entry{Org: c.principal.Org, Scope: suppress.All, Note: private.NewString(in.Note), ExpiresAt: in.ExpiresAt}
	e.Address = m.mailbox(in.Address, "/address").Address
	if in.Scope != "" {
		e.Scope = suppress.Scope(in.Scope)
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	e, err := c.Suppress.Add(c.r.Context(), e, c.principal.Client.Text(id.Client))
	if err != nil {
		return nil, err
	}
	return suppressionOf(e), nil
}

func removeSuppression(c *call) (any, error) {
	which, err := id.Parse(id.Suppression, c.r.PathValue("id"))
	if err != nil {
		return nil, suppress.ErrNone
	}
	if err := c.Suppress.Remove(c.r.Context(), c.principal.Org, which, c.principal.Client.Text(id.Client)); err != nil {
		return nil, err
	}
	return suppressionRemoved{which.Text(id.Suppression)}, nil
}
