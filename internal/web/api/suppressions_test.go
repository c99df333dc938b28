package api

import (
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
)

func TestSuppressions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		const path = "/api/v1/suppressions"
		var ids []string
		for _, body := range []string{`{"address":"ada@example.org","note":"by phone"}`, `{"address":"ada@example.org","scope":"bulk"}`, `{"address":"bob@example.org"}`} {
			a := w.ask("POST", path, body)
			if a.status != 201 || a.body["reason"] != "manual" {
				t.Fatalf("%d %s", a.status, a.text)
			}
			ids = append(ids, a.body["id"].(string))
		}
		for body, status := range map[string]int{`{"address":"ada"}`: 400, `{"address":"a@b.example","scope":"some"}`: 400, `{}`: 400,
			`{"address":"a@b.example","expires_at":"2001-01-01T00:00:00Z"}`: 400, `{"address":"a@b.example","note":"a\u0000"}`: 400} {
			if a := w.ask("POST", path, body); a.status != status {
				t.Errorf("%s: %d %s", body, a.status, a.text)
			}
		}
		list := func(query string) []any { return w.ask("GET", path+query, "").body["suppressions"].([]any) }
		page := w.ask("GET", path+"?limit=2", "").body
		if rest := list("?limit=2&after=" + page["next"].(string)); len(page["suppressions"].([]any)) != 2 || len(rest) != 1 {
			t.Errorf("pages: %v, %v", page, rest)
		}
		if a := w.ask("POST", path+"/search", `{"address":"ADA@example.org"}`); len(a.body["suppressions"].([]any)) != 2 {
			t.Errorf("search: %s", a.text)
		}
		if a := w.ask("DELETE", path+"/"+ids[0], "", "Authorization", "Bearer "+w.other); a.status != 404 {
			t.Errorf("another organization's: %d", a.status)
		}
		if a := w.ask("GET", path, "", "Authorization", "Bearer "+w.other); len(a.body["suppressions"].([]any)) != 0 {
			t.Errorf("another organization's list: %s", a.text)
		}
		for _, status := range []int{200, 404} {
			if a := w.ask("DELETE", path+"/"+ids[0], ""); a.status != status {
				t.Errorf("remove: %d, want %d", a.status, status)
			}
		}
		if got := list(""); len(got) != 2 {
			t.Errorf("%d are left", len(got))
		}
		for _, bad := range []string{"?limit=0", "?limit=1001", "?after=x", "?when=now"} {
			if a := w.ask("GET", path+bad, ""); a.status != 400 {
				t.Errorf("%s: %d", bad, a.status)
			}
		}
	})
}
