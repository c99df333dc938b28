package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

// FuzzDecode compares with encoding/json: what we take, it takes and reads
// alike, and what it refuses, we refuse.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		small, `{}`, `{"from":""}`, ` { "from" : "a\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t" } `, `{"from":"x","to":["a","b"],"headers":{"A":"b"}}`,
		`{"from":"x","attachments":[{"filename":"a","content":"aGVsbG8="}]}`, `{"from":"x","send_at":"2026-03-01T08:00:00.5+01:00"}`,
		`{"from":"x","from":"y"}`, `{"from":"x","a":[1,-0,1.5e+3,true,false,null,{"b":[]}]}`, `{"from":"\ud83d"}`, "{\"from\":\"\xff\"}", `{"from":"x"}x`,
		`{"from":"x",}`, `{"from":"x","to":[,]}`, `[[[[[[[[[[[]]]]]]]]]]]`, `{"from":"\u00zz"}`, "{\"from\":\"\x01\"}", `{"from":01}`, `{"from":1.}`, `{"from":nul}`, `{"from":"x","to":[""`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours, theirs draftRequest
		err := decodeJSON(data, &ours)
		if err != nil {
			if fault.From(err).Kind == fault.Internal {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		strict := json.NewDecoder(bytes.NewReader(data))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&theirs); err != nil || !json.Valid(data) {
			t.Fatalf("%q: we take what encoding/json refuses: %v", data, err)
		}
		theirs.SendAt, theirs.ExpiresAt = utc(theirs.SendAt), utc(theirs.ExpiresAt)
		for _, d := range []*draftRequest{&ours, &theirs} {
			for i := range d.Attachments {
				if len(d.Attachments[i].Content) == 0 {
					d.Attachments[i].Content = nil
				}
			}
			d.To, d.Cc, d.Bcc, d.ReplyTo, d.Tags = none(d.To), none(d.Cc), none(d.Bcc), none(d.ReplyTo), none(d.Tags)
			if len(d.Attachments) == 0 {
				d.Attachments = nil
			}
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q: %+v, encoding/json reads %+v", data, ours, theirs)
		}
	})
}

func utc(t time.Time) time.Time { return t.UTC() }

func none(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}

// TestDecodeTakes: what is right is not refused.
func TestDecodeTakes(t *testing.T) {
	var in draftRequest
	text := "\t{\"from\" : \"a\\u00e9\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\u20ac\" ,\r\n\"to\":[ \"x\" , \"y\" ], \"cc\":[], \"headers\":{}, \"send_at\":\"2026-03-01T08:00:00+01:00\"} \n"
	if err := decodeJSON([]byte(text), &in); err != nil {
		t.Fatal(err)
	}
	if in.From != "aé😀\"\\/\b\f\n\r\t€" || strings.Join(in.To, "") != "xy" || !in.SendAt.Equal(time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC)) {
		t.Errorf("read: %+v", in)
	}
	var s searchRequest
	if err := decodeJSON([]byte(`{"limit":-7}`), &s); err != nil || s.Limit != -7 {
		t.Errorf("limit: %v %v", s.Limit, err)
	}
}
