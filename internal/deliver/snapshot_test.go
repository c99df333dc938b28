package deliver_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestOtherProcessesSeeTheSites: what an engine knows of its sites can be read
// from the database, while it runs and no longer.
func TestOtherProcessesSeeTheSites(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.SMTP.Timeouts.Rcpt = time.Minute })
		h.net.SetA("mx.dead.example", netip.MustParseAddr("127.23.250.251"))
		h.add(fake.Domain{Name: "dead.example", HostName: "mx2.dead.example", Host: &fake.Behavior{}, MX: []fake.MX{{Preference: 10, Host: "mx.dead.example"}}})
		h.add(fake.Domain{Name: "silent.example", Host: &fake.Behavior{Hang: fake.HangRcpt}})
		for i := range 6 {
			h.accept(submit.Draft{}, fmt.Sprintf("p%d@dead.example", i))
			h.accept(submit.Draft{}, fmt.Sprintf("p%d@silent.example", i))
			h.accept(submit.Draft{}, fmt.Sprintf("p%d@modern.example", i))
		}
		site := map[string]deliver.SiteStat{}
		h.until("all sites are told", func() bool {
			all, err := deliver.Snapshots(context.Background(), d)
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			clear(site)
			for _, s := range all[0].Sites {
				site[s.Site] = s
			}
			return !site["dead.example"].Suspended.IsZero() && site["modern.example"].PerMinute == 6 && site["silent.example"].Connections > 0
		})
		if dead := site["dead.example"]; dead.LastReply != "unreachable" || dead.Trouble() <= site["silent.example"].Trouble() {
			t.Errorf("the dead site: %+v", dead)
		}
		if silent := site["silent.example"]; silent.Ready+silent.InFlight != 6 {
			t.Errorf("the silent site: %+v", silent)
		}
		if ok := site["modern.example"]; ok.LastReply != "accepted" || ok.Trouble() != 0 {
			t.Errorf("the good site: %+v", ok)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		h.engine.Stop(ctx)
		if all, err := deliver.Snapshots(context.Background(), d); err != nil || len(all) != 0 {
			t.Errorf("a stopped node is told: %v, %v", all, err)
		}
	})
}

func TestNodesAddUp(t *testing.T) {
	until := time.Now()
	a := deliver.SiteStat{Site: "x.example", Ready: 1, Connections: 2, PerMinute: 3, LastReply: "accepted"}
	b := deliver.SiteStat{Site: "x.example", Ready: 10, Connections: 20, PerMinute: 30, LastReply: "timeout", Suspended: until, Why: "unreachable"}
	for _, got := range []deliver.SiteStat{a.Add(b), b.Add(a)} {
		want := deliver.SiteStat{Site: "x.example", Ready: 11, Connections: 22, PerMinute: 33, LastReply: "timeout", Suspended: until, Why: "unreachable"}
		if got != want {
			t.Errorf("%+v", got)
		}
	}
}
