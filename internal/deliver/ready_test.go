package deliver

import (
	"fmt"
	"testing"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// order gives the names of what is popped, in order.
func order(r *ready, names map[id.ID]string) (all []string) {
	for {
		w, ok := r.pop(false)
		if !ok {
			return all
		}
		all = append(all, names[w.ID])
	}
}

// TestTheOrderOfADomainsMail: notices, lanes, organizations in turn, and one
// bulk item among eight.
func TestTheOrderOfADomainsMail(t *testing.T) {
	var r ready
	names := map[id.ID]string{}
	put := func(name string, org byte, l spool.Lane, notice bool) {
		w := spool.Work{Item: spool.Item{ID: id.New(), Org: id.ID{org}, Lane: l, Notice: notice}}
		names[w.ID] = name
		r.push(w)
	}
	for i := range 3 {
		put(fmt.Sprintf("bulk%d", i), 1, spool.LaneOf(spool.Bulk, 0), false)
	}
	for i := range 9 {
		put(fmt.Sprintf("big%d", i), 1, spool.DefaultLane, false)
	}
	put("small0", 2, spool.DefaultLane, false)
	put("small1", 2, spool.DefaultLane, false)
	put("first", 3, spool.LaneOf(spool.Transactional, 0), false)
	put("last", 3, spool.LaneOf(spool.Transactional, 9), false)
	put("code", 1, 0, true)
	if n := r.len(); n != len(names) {
		t.Fatalf("%d waiting of %d", n, len(names))
	}
	w, _ := r.pop(true)
	if _, more := r.pop(true); more || names[w.ID] != "code" {
		t.Errorf("notices alone: %s, more: %v", names[w.ID], more)
	}
	r.unpush(w)
	w, _ = r.pop(false)
	if names[w.ID] != "code" {
		t.Errorf("first came %s", names[w.ID])
	}
	w, _ = r.pop(false)
	if names[w.ID] != "first" {
		t.Errorf("then came %s", names[w.ID])
	}
	got := fmt.Sprint(order(&r, names))
	if want := "[big0 small0 big1 small1 big2 big3 bulk0 big4 big5 big6 big7 big8 last bulk1 bulk2]"; got != want {
		t.Errorf("order %s\nwant  %s", got, want)
	}
	if r.len() != 0 || len(r.lanes) != 0 {
		t.Errorf("%d left in %d lanes", r.len(), len(r.lanes))
	}
}
