package deliver_test

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// What a host says at length is recorded in part: an outcome that did not fit
// into the ledger would never be recorded, and the mail be sent for ever.
func TestALongReplyIsRecorded(t *testing.T) {
	n := internet(t)
	long := strings.Repeat("550-5.1.1 "+strings.Repeat(`"`, 2030)+"\r\n", 49) + "550 5.1.1 no such user"
	if err := n.AddDomain(fake.Domain{Name: "long.example", Host: &fake.Behavior{Rcpt: func(string, int) string { return long }}}); err != nil {
		t.Fatal(err)
	}
	h := start(t, dbtest.SQLite(t), n, nil)
	r := h.accept(submit.Draft{}, "anna@long.example").Deliveries[0].Delivery
	h.until("it fails", func() bool { return h.delivery(r).State.Settled() })
	if got := h.delivery(r); got.State != spool.Failed || got.Reason != spool.ReasonUserUnknown {
		t.Errorf("%s, %q", got.State, got.Reason)
	}
}
