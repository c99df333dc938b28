package api

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

func TestMessageAndDelivery(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		msg, dlv := w.accepted(`{"from":"Ada <ada@clinic.example>","to":["pat@good.example"],"bcc":["x@weak.example"],"subject":"Résumé","text":"hello",
			"tags":["lab"],"metadata":{"case":"A-17"},"purpose":"payment","stream":"bulk","priority":0}`)
		a := w.ask("GET", "/api/v1/messages/"+msg, "")
		if a.status != 200 || a.body["subject"] != "Résumé" || a.body["from"] != `"Ada" <ada@clinic.example>` || a.body["purpose"] != "payment" || a.body["stream"] != "bulk" || a.body["priority"] != 0.0 ||
			a.body["created_at"] != "2026-03-01T08:00:00Z" || a.body["tags"].([]any)[0] != "lab" || a.body["metadata"].(map[string]any)["case"] != "A-17" {
			t.Errorf("message: %d %s", a.status, a.text)
		}
		if n := len(a.body["deliveries"].([]any)); n != 2 {
			t.Errorf("%d deliveries", n)
		}
		w.attempt(msg, dlv[0])
		a = w.ask("GET", "/api/v1/deliveries/"+dlv[0], "")
		if a.status != 200 || a.body["state"] != "deferred" || a.body["final"] != true || a.body["seal"] != "tls" || a.body["reason_code"] != "temporary_failure" ||
			a.body["reason"] != "The recipient's mail server asked to try again later." || a.body["recipient"] != "pat@good.example" ||
			a.body["message_id"] != msg || a.body["floor"] != "verified" || a.body["attempted"] != 1.0 || a.body["next_at"] == nil {
			t.Errorf("delivery: %d %s", a.status, a.text)
		}
		tried := a.body["attempts"].([]any)[0].(map[string]any)
		evidence := tried["evidence"].(map[string]any)
		if tried["result"] != "temporary" || tried["reply"] != "ada@good.example is greylisted" || tried["code"] != 450.0 || tried["status"] != "4.2.0" ||
			tried["host"] != "mx.good.example" || tried["duration_us"] != 2e6 || evidence["grade"] != "verified" || evidence["tls_version"] != "TLS 1.3" {
			t.Errorf("attempt: %v", tried)
		}
	})
}

// TestForeignIDs asks every route for what is another organization's, what
// does not exist and what is no id: the answers are the same.
func TestForeignIDs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		msg, dlv := w.accepted(small)
		absent := id.New()
		asked := 0
		for path, item := range w.api.describe().Paths {
			if !strings.Contains(path, "{id}") {
				continue
			}
			ids := []string{absent.Text(id.Message), msg, "msg_x", dlv[0]}
			own := msg
			if strings.Contains(path, "deliver") {
				ids = []string{absent.Text(id.Delivery), dlv[0], "dlv_x", msg}
				own = dlv[0]
			}
			method := "GET"
			switch {
			case item.Delete != nil:
				method = "DELETE"
				own = w.ask("POST", "/api/v1/suppressions", `{"address":"ada@example.org"}`).body["id"].(string)
				ids = []string{absent.Text(id.Suppression), own, "sup_x", msg}
			case item.Get == nil:
				method = "POST"
			}
			var first string
			for _, i := range ids {
				a := w.ask(method, strings.Replace(path, "{id}", i, 1), "", "Authorization", "Bearer "+w.other)
				if first == "" {
					first = a.same()
				}
				if a.status != http.StatusNotFound || a.same() != first {
					t.Errorf("%s %s with %s: %d\n%s\n%s", method, path, i, a.status, a.same(), first)
				}
				asked++
			}
			if a := w.ask(method, strings.Replace(path, "{id}", own, 1), ""); a.status != http.StatusOK {
				t.Errorf("%s %s with its own id: %d", method, path, a.status)
			}
		}
		if asked != 16 {
			t.Errorf("%d requests for foreign ids", asked)
		}
		// What has no id in its address shows nothing of others either.
		for path, list := range map[string]string{"/api/v1/messages/search": "messages", "/api/v1/events": "events"} {
			method, body := "GET", ""
			if list == "messages" {
				method, body = "POST", `{}`
			}
			a := w.ask(method, path, body, "Authorization", "Bearer "+w.other)
			if a.status != 200 || strings.Contains(a.text, msg) || list == "messages" && len(a.body[list].([]any)) > 0 {
				t.Errorf("%s: %d %s", path, a.status, a.text)
			}
		}
		if a := w.ask("POST", "/api/v1/messages/search", `{"before":"`+msg+`","recipient":"pat@good.example"}`, "Authorization", "Bearer "+w.other); len(a.body["messages"].([]any)) > 0 {
			t.Errorf("search by a foreign id: %s", a.text)
		}
	})
}

func TestCancel(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		msg, dlv := w.accepted(`{"from":"ada@clinic.example","to":["pat@good.example","x@weak.example"],"text":"x"}`)
		a := w.ask("POST", "/api/v1/messages/"+msg+"/cancel", "")
		if a.status != 200 || a.body["canceled"] != 2.0 {
			t.Fatalf("cancel: %d %s", a.status, a.text)
		}
		for _, x := range a.body["deliveries"].([]any) {
			if dl := x.(map[string]any); dl["state"] != "canceled" || dl["reason_code"] != "by_sender" || dl["settled_at"] == nil {
				t.Errorf("delivery: %v", dl)
			}
		}
		if a := w.ask("POST", "/api/v1/messages/"+msg+"/cancel", "{}"); a.status != 200 || a.body["canceled"] != 0.0 {
			t.Errorf("again: %d %s", a.status, a.text)
		}
		if a := w.ask("POST", "/api/v1/messages/"+msg+"/cancel", `{"force":true}`); a.status != 400 || a.mistakes()["/force"] != "unknown_key" {
			t.Errorf("unknown key: %d %s", a.status, a.text)
		}
		if a := w.ask("GET", "/api/v1/deliveries/"+dlv[0], ""); a.body["state"] != "canceled" {
			t.Errorf("delivery: %s", a.text)
		}
	})
}

func TestSearch(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		var all []string
		for i, to := range []string{"pat@good.example", "sam@good.example", "Pat@GOOD.example", "pat@good.example"} {
			from := "ada@clinic.example"
			if i == 3 {
				from = "bob@clinic.example"
			}
			msg, _ := w.accepted(`{"from":"` + from + `","to":["` + to + `"],"text":"x"}`)
			all = append(all, msg)
			w.clock.Advance(time.Hour)
		}
		w.ask("POST", "/api/v1/messages/"+all[1]+"/cancel", "")
		for body, want := range map[string][]string{
			`{}`:                               {all[3], all[2], all[1], all[0]},
			`{"recipient":"pat@good.example"}`: {all[3], all[2], all[0]},
			`{"recipient":"nobody@x.example"}`: {},
			`{"sender":"bob@clinic.example"}`:  {all[3]},
			`{"state":"canceled"}`:             {all[1]},
			`{"state":"ready","limit":2}`:      {all[3], all[2]},
			`{"before":"` + all[2] + `"}`:      {all[1], all[0]},
			`{"since":"2026-03-01T09:00:00Z","until":"2026-03-01T10:00:00Z"}`: {all[1]},
		} {
			a := w.ask("POST", "/api/v1/messages/search", body)
			var got []string
			list, _ := a.body["messages"].([]any)
			for _, m := range list {
				got = append(got, m.(map[string]any)["id"].(string))
			}
			if a.status != 200 || strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s: %d %v, want %v", body, a.status, got, want)
			}
			if next, _ := a.body["next"].(string); (next != "") != strings.Contains(body, "limit") || next != "" && next != got[len(got)-1] {
				t.Errorf("%s: next %q", body, next)
			}
		}
		for body, where := range map[string]string{
			`{"sender":"x"}`: "/sender", `{"state":"lost"}`: "/state", `{"before":"dlv_x"}`: "/before", `{"limit":101}`: "/limit",
			`{"limit":-1}`: "/limit", `{"limit":1.5}`: "/limit", `{"limit":"1"}`: "/limit", `{"limit":99999999999999999999}`: "/limit",
		} {
			if a := w.ask("POST", "/api/v1/messages/search", body); a.status != 400 || a.mistakes()[where] == "" {
				t.Errorf("%s: %d %s", body, a.status, a.text)
			}
		}
	})
}

func TestEvents(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		msg, _ := w.accepted(small)
		for n := -1; n != 0; {
			var err error
			if n, err = ledger.Place(context.Background(), d, 1000); err != nil {
				t.Fatal(err)
			}
		}
		var types []string
		after := ""
		for {
			path := "/api/v1/events?limit=2"
			if after != "" {
				path += "&after=" + after
			}
			a := w.ask("GET", path, "")
			if a.status != 200 {
				t.Fatalf("events: %d %s", a.status, a.text)
			}
			list := a.body["events"].([]any)
			for _, x := range list {
				e := x.(map[string]any)
				if e["seq"] != float64(len(types)) || e["v"] != 1.0 || e["data"] == nil || e["at"] == nil || e["id"] == nil {
					t.Errorf("event: %v", e)
				}
				types = append(types, e["type"].(string))
				if e["type"] == "message.accepted" && e["message_id"] != msg {
					t.Errorf("event: %v", e)
				}
			}
			if len(list) == 0 {
				if a.body["next"] != after {
					t.Errorf("next of an empty page: %v, want %s", a.body["next"], after)
				}
				break
			}
			after = a.body["next"].(string)
		}
		if got := strings.Join(types, " "); !strings.HasSuffix(got, "message.accepted") || !strings.Contains(got, "org.created") {
			t.Errorf("types: %s", got)
		}
		for query, where := range map[string]string{"after=x": "after", "after=-2": "after", "limit=0": "limit", "limit=1001": "limit", "limit=1&limit=2": "limit"} {
			if a := w.ask("GET", "/api/v1/events?"+query, ""); a.status != 400 || a.mistakes()[where] == "" {
				t.Errorf("%s: %d %s", query, a.status, a.text)
			}
		}
		if a := w.ask("GET", "/api/v1/events?secret=1", ""); a.status != 400 || strings.Contains(a.text, "secret") {
			t.Errorf("unknown parameter: %d %s", a.status, a.text)
		}
	})
}

// TestNothingToSee looks at addresses and methods that are not there.
func TestNothingToSee(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	for path, status := range map[string]int{"/api/": 404, "/api/v1/nothing": 404, "/api/v1/messages/a/b/c": 404, "/api/v2/messages": 404} {
		if a := w.ask("GET", path, ""); a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	for path, allow := range map[string]string{"/api/v1/messages": "POST", "/api/v1/events": "GET", "/api/openapi.json": "GET"} {
		if a := w.ask("DELETE", path, ""); a.status != 405 || a.header.Get("Allow") != allow {
			t.Errorf("DELETE %s: %d %v", path, a.status, a.header)
		}
	}
}

// TestDatabaseGone: what cannot be answered now says so and may be repeated.
func TestDatabaseGone(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	if a := w.send(small); a.status != 202 {
		t.Fatal(a.text)
	}
	w.clock.Advance(clockTrust)
	if err := w.DB.Close(); err != nil {
		t.Fatal(err)
	}
	a := w.send(small)
	if a.status != 503 && a.status != 500 || a.header.Get("Content-Type") != "application/problem+json" || strings.Contains(a.text, "sql") {
		t.Errorf("without a database: %d %s", a.status, a.text)
	}
	if !strings.Contains(w.log.String(), "an API request failed") {
		t.Error("the failure is not in the log")
	}
}

const clockTrust = 2 * time.Second
