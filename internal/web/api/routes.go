package api

import (
	"net/http"
	"reflect"

	"github.com/sealpost/sealpost/internal/auth"
)

// routes is the one table of operations.
func routes() []route {
	return []route{
		{
			method: http.MethodPost, path: "/api/v1/messages", name: "sendMessage", scope: auth.Send,
			summary: "Send a message",
			description: "Hands in one message. It is stored when the answer comes, and sealed for each recipient as your organization's policy says. " +
				"The answer does not wait for the network: the seal in it is a forecast until final is true. " +
				"Every recipient gets a copy of their own, and recipients in bcc show nowhere.",
			headers: []param{{idempotencyKey, "string", "Makes the request safe to repeat: for 72 hours the same key and body get the same answer and nothing is sent twice. " +
				"Another body is refused with 409.", "0190a6e4-7d1c-7c55-9c86-3f0f6f4d2b11"}},
			in: reflect.TypeFor[draftRequest](), out: reflect.TypeFor[sendAnswer](), status: http.StatusAccepted,
			errors: []int{409, 413, 415, 422, 429}, example: exampleSend, answer: exampleSent, act: send,
		},
		{
			method: http.MethodGet, path: "/api/v1/messages/{id}", name: "getMessage", scope: auth.Read,
			summary: "Look at a message", description: "The message as it was accepted, and all of its deliveries as they are now.",
			out: reflect.TypeFor[messageAnswer](), status: http.StatusOK, errors: []int{404}, act: getMessage,
		},
		{
			method: http.MethodPost, path: "/api/v1/messages/{id}/cancel", name: "cancelMessage", scope: auth.Cancel,
			summary: "Cancel a message",
			description: "Cancels every delivery that is not on its way or settled yet, and takes back those that wait in the portal to be read. " +
				"It can be repeated without harm.",
			in: reflect.TypeFor[cancelRequest](), bodyOptional: true, out: reflect.TypeFor[cancelAnswer](), status: http.StatusOK,
			errors: []int{404, 413, 415}, act: cancel,
		},
		{
			method: http.MethodPost, path: "/api/v1/messages/search", name: "searchMessages", scope: auth.Read,
			summary:     "Search messages",
			description: "Finds messages by exact address, state and time, newest first. Addresses stand in the body, so that they never end in a log of URLs.",
			in:          reflect.TypeFor[searchRequest](), out: reflect.TypeFor[searchAnswer](), status: http.StatusOK,
			errors: []int{413, 415}, example: exampleSearch, act: search,
		},
		{
			method: http.MethodGet, path: "/api/v1/deliveries/{id}", name: "getDelivery", scope: auth.Read,
			summary:     "Look at a delivery",
			description: "One message to one recipient: its state, and every attempt with the evidence of the transport. The answer is current at once.",
			out:         reflect.TypeFor[deliveryAnswer](), status: http.StatusOK, errors: []int{404}, act: getDelivery,
		},
		{
			method: http.MethodGet, path: "/api/v1/events", name: "listEvents", scope: auth.Events,
			summary: "Read events",
			description: "Your organization's ledger in order and without gaps. Events appear within two seconds. Keep next, and ask again with it as after. " +
				"Ignore fields and types you do not know.",
			query: []param{{"after", "string", "The next of the answer before. Without it the events come from the very first.", "42"},
				{"limit", "integer", "How many, from 1 to 1,000; 100 when left out.", "100"}},
			out: reflect.TypeFor[eventsAnswer](), status: http.StatusOK, act: events,
		},
		{
			method: http.MethodPost, path: "/api/v1/seal/preview", name: "previewSeal", scope: auth.Send,
			summary:     "Preview the seals of a message",
			description: "Takes the same body as sending, and says per recipient which seal to expect, and why. Nothing is stored or sent.",
			in:          reflect.TypeFor[draftRequest](), out: reflect.TypeFor[previewAnswer](), status: http.StatusOK,
			errors: []int{413, 415}, example: exampleSend, act: preview,
		},
	}
}

const (
	exampleSend = `{
  "from": "Riverside Clinic <results@clinic.example>",
  "to": ["Ada Example <ada@example.org>"],
  "subject": "Your results",
  "text": "Good news: everything is fine.",
  "purpose": "treatment"
}`
	exampleSent = `{
  "id": "msg_06fz1k8mcdvxx0h4s8w3q2t9ag",
  "deliveries": [
    {
      "id": "dlv_06fz1k8mcdvxx0h4s8w3q2t9ah",
      "recipient": "ada@example.org",
      "seal": "tls",
      "final": false,
      "grade": "verified",
      "reason": "The recipient's domain is known to offer verified TLS.",
      "reason_code": "",
      "rule": "default",
      "reasons": [],
      "state": "ready"
    }
  ]
}`
	exampleSearch = `{
  "recipient": "ada@example.org",
  "state": "delivered"
}`
)
