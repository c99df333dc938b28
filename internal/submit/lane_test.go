package submit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestTheLaneOfAMessage: what the caller or a header field asks for, and
// always bulk for marketing. The fields do not travel on.
func TestTheLaneOfAMessage(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	first := 0
	for what, c := range map[string]struct {
		fields string
		change func(*submit.Draft)
		want   spool.Lane
	}{
		"nothing said":         {"", func(*submit.Draft) {}, spool.DefaultLane},
		"by the draft":         {"", func(d *submit.Draft) { d.Stream, d.Priority = spool.Bulk, &first }, spool.LaneOf(spool.Bulk, 0)},
		"by fields":            {"x-sealpost-stream: bulk\r\nX-Sealpost-Priority: 2\r\n", func(*submit.Draft) {}, spool.LaneOf(spool.Bulk, 2)},
		"the draft goes first": {"X-Sealpost-Priority: 2\r\nX-Sealpost-Stream: bulk\r\n", func(d *submit.Draft) { d.Stream, d.Priority = spool.Transactional, &first }, spool.LaneOf(spool.Transactional, 0)},
		"marketing":            {"X-Sealpost-Stream: transactional\r\nX-Sealpost-Priority: 9\r\n", func(d *submit.Draft) { d.Purpose = policy.Marketing }, spool.LaneOf(spool.Bulk, 9)},
	} {
		dr := h.draft(c.fields+plain, "x@y.example")
		c.change(&dr)
		r, err := h.door.Accept(context.Background(), dr)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		m, _, _ := h.stored(r.Message)
		if m.Lane != c.want {
			t.Errorf("%s: lane %d, want %d", what, m.Lane, c.want)
		}
		if text := strings.ToLower(string(m.Header)); strings.Contains(text, "x-sealpost") {
			t.Errorf("%s: the header is %s", what, text)
		}
		var lane spool.Lane
		if err := h.DB.Read(context.Background(), db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT lane FROM spool_unsettled WHERE message_id = ?", r.Message).Scan(&lane)
		}); err != nil || lane != c.want {
			t.Errorf("%s: it waits in lane %d: %v", what, lane, err)
		}
	}
}

// A secret that a mail suite puts into all its mail leaves by no door.
func TestProofsOfTenantsGoNowhere(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	h.door.TenantFields = []string{"X-Other", "X-Suite-Proof"}
	r, err := h.door.Accept(context.Background(), h.draft("x-suite-proof: a-secret\r\nX-Suite-Proof: a-secret\r\nX-Suite: kept\r\n"+plain, "x@y.example"))
	if err != nil {
		t.Fatal(err)
	}
	if m, _, _ := h.stored(r.Message); strings.Contains(string(m.Header), "a-secret") || !strings.Contains(string(m.Header), "X-Suite: kept") {
		t.Errorf("the header is %s", m.Header)
	}
}

func TestALaneThatIsNoneIsRefused(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	for fields, want := range map[string]string{
		"X-Sealpost-Stream: fast\r\n": "unknown_stream", "X-Sealpost-Stream:\r\n": "unknown_stream",
		"X-Sealpost-Priority: 10\r\n": "bad_priority", "X-Sealpost-Priority: -1\r\n": "bad_priority", "X-Sealpost-Priority: high\r\n": "bad_priority",
	} {
		if _, err := h.door.Accept(context.Background(), h.draft(fields+plain, "x@y.example")); fault.From(err).Reason != want {
			t.Errorf("%q: %v", fields, err)
		}
		if _, err := h.door.Preview(context.Background(), h.draft(fields+plain, "x@y.example")); fault.From(err).Reason != want {
			t.Errorf("preview of %q: %v", fields, err)
		}
	}
	h.nothingStored("refused lanes")
}
