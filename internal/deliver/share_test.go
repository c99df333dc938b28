package deliver_test

import (
	"fmt"
	"testing"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// Mail for many domains that hang fills half of the memory at most: there is
// room for a domain that works.
func TestDomainsThatHangLeaveRoom(t *testing.T) {
	n := internet(t)
	h := start(t, dbtest.SQLite(t), n, func(deps *deliver.Deps) { deps.Window = 20 })
	good := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
	h.until("a good domain is known", func() bool { return h.delivery(good).State == spool.Delivered })
	for i := range 8 {
		name := fmt.Sprintf("hangs%d.example", i)
		h.add(fake.Domain{Name: name, Host: &fake.Behavior{Hang: fake.HangBanner}})
		for p := range 8 {
			h.accept(submit.Draft{}, fmt.Sprintf("p%d@%s", p, name))
		}
	}
	next := []spool.Item{{ID: id.New(), Org: h.Org.ID, Domain: "modern.example", Lane: spool.LaneOf(spool.Transactional, 5)}}
	run := h.engine.Reserve(next)
	if run.IsZero() {
		t.Errorf("there is no room; %d are in memory", h.engine.Depth())
	}
	h.engine.Push(run, next, nil)
}
