package spool_test

import (
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

// TestADeliveryIsFoundByItsKey, whatever PostgreSQL believes of the tables: its
// statistics may be of the time when they were empty, and every other index
// that serves looks as good then.
func TestADeliveryIsFoundByItsKey(t *testing.T) {
	d := dbtest.PostgreSQL(t) // SQLite counts no scans, and needs no statistics for this
	s := newSite(t, d)
	run := s.runs[1]
	for _, waiting := range []int{0, 20_000} {
		if waiting > 0 { // and is told to PostgreSQL, which then takes nothing for owned
			s.check(spooltest.Preload(ctx, d, spooltest.Load{Deliveries: waiting, Domains: 100, Orgs: 1, DueAt: s.clk.Now()}))
		}
		for range 8 { // from the sixth time on a plan serves for all values
			m, all := s.accept(given{owner: run}, "a@home.example", "b@home.example")
			var scans string
			s.check(d.WriteAlone(ctx, s.org, func(tx *db.Tx) error {
				if _, err := spool.Start(tx, item(all[0]), run, all[0].Plan, spool.Sealing{Seal: policy.TLS}, nil, s.clk.Now()); err != nil {
					t.Log(1, err)
					return err
				}
				if _, err := spool.Finish(tx, item(all[0]), run, nil, spool.Outcome{State: spool.Delivered, At: s.clk.Now()}); err != nil {
					t.Log(2, err)
					return err
				}
				if _, err := spool.Finish(tx, item(all[1]), run, nil, spool.Outcome{State: spool.Deferred, At: s.clk.Now()}); err != nil {
					t.Log(3, err)
					return err
				}
				if _, err := spool.LoadMessage(tx, s.keys, m.ID); err != nil {
					t.Log(4, err)
					return err
				}
				if _, err := spool.LoadDelivery(tx, m.Key, all[0].ID); err != nil {
					return err
				}
				return tx.Row(`SELECT string_agg(relname::text, ' ' ORDER BY relname) FROM pg_class
					WHERE relkind = 'i' AND relname LIKE 'spool%' AND pg_stat_get_xact_numscans(oid) > 0`).Scan(&scans)
			}))
			for _, index := range strings.Fields(scans) {
				if index != "spool_messages_org" && !strings.HasSuffix(index, "_pkey") { // that one is of organization and id
					t.Fatalf("with %d waiting these were read: %s", waiting, scans)
				}
			}
		}
	}
}
