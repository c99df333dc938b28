package custody_test

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
)

// versions counts an organization's data keys by the version that wraps them.
func versions(t testing.TB, d *db.DB, org id.ID) map[int]int {
	t.Helper()
	out := map[int]int{}
	if err := d.Read(context.Background(), org, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT org_key_version, count(*) FROM custody_data_keys WHERE org_id = ? GROUP BY org_key_version", org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v, n int
			if err := rows.Scan(&v, &n); err != nil {
				return err
			}
			out[v] = n
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// stored gives the versions of an organization's key in the store.
func stored(t testing.TB, s *site, org id.ID) (out []int) {
	t.Helper()
	keys, err := folder(t, s.keysPath()).Org(org)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Kind == custody.KindOrg {
			out = append(out, k.Version)
		}
	}
	return out
}

func saveMany(t testing.TB, c *custody.Custody, d *db.DB, org id.ID, n int) []*custody.DataKey {
	t.Helper()
	keys := make([]*custody.DataKey, n)
	var err error
	for i := range keys {
		if keys[i], err = c.NewDataKey(org); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Write(context.Background(), org, func(tx *db.Tx) error {
		for _, k := range keys {
			if err := c.SaveDataKey(tx, k); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestRotateOrg(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		c, a, b := s.node(t), id.New(), id.New()
		create(t, c, a, b)
		keys := saveMany(t, c, d, a, 450) // more than two batches
		other := saved(t, c, d, b)
		for want := 2; want <= 3; want++ {
			r, err := c.RotateOrg(context.Background(), a)
			if err != nil || r.Version != want || r.Rewrapped != 450 || !slices.Equal(r.Removed, []int{want - 1}) {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := stored(t, s, a); !slices.Equal(got, []int{want}) {
				t.Errorf("versions in the store: %v", got)
			}
			if got := versions(t, d, a); got[want] != 450 || len(got) != 1 {
				t.Errorf("data keys by version: %v", got)
			}
		}
		node := s.node(t)
		for _, k := range append(keys, other) {
			if err := opens(node, d, k); err != nil {
				t.Fatal(err)
			}
		}
		if got := versions(t, d, b); got[1] != 1 {
			t.Errorf("another organization was rotated too: %v", got)
		}
		if err := s.node(t).CreateOrg(a); err != nil || !slices.Equal(stored(t, s, a), []int{3}) {
			t.Errorf("CreateOrg after a rotation: %v, %v", err, stored(t, s, a))
		}
		if _, err := c.RotateOrg(context.Background(), id.New()); reason(err) != "organization_unknown" {
			t.Errorf("unknown organization: %v", err)
		}
	})
}

// Writers that learn late of the new version keep writing meanwhile, on two
// nodes, and every key they were told is saved can be read afterwards.
func TestRotateOrgWhileNodesWrite(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		c, org := s.node(t), id.New()
		create(t, c, org)
		var mu sync.Mutex
		var keys []*custody.DataKey
		var wg sync.WaitGroup
		stop := make(chan bool)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, node := range []*custody.Custody{c, s.nodeAt(t, clock.NewFake(time.Now())), s.node(t)} {
			for range 3 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						k, err := save(node, d, org)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						keys = append(keys, k)
						mu.Unlock()
					}
				})
			}
		}
		for want := 2; want <= 4; want++ {
			if r, err := c.RotateOrg(ctx, org); err != nil || r.Version != want || r.Unreadable != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		}
		close(stop)
		wg.Wait()
		if got := stored(t, s, org); !slices.Equal(got, []int{4}) {
			t.Errorf("versions in the store: %v", got)
		}
		node := s.node(t)
		for _, k := range keys {
			if err := opens(node, d, k); err != nil {
				t.Fatalf("a saved key is lost: %v", err)
			}
		}
		t.Logf("%d keys", len(keys))
	})
}

// A key that another transaction has written and not committed holds up the
// removal of the version it is wrapped with.
func TestRotateOrgWaitsForOpenTransactions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		c, org := s.node(t), id.New()
		create(t, c, org)
		k, err := c.NewDataKey(org)
		if err != nil {
			t.Fatal(err)
		}
		inside, done, wrote, rotated := make(chan bool), make(chan bool), make(chan error, 1), make(chan error, 1)
		commit := sync.OnceFunc(func() { close(done) })
		t.Cleanup(commit)
		go func() {
			wrote <- d.Write(context.Background(), org, func(tx *db.Tx) error {
				err := c.SaveDataKey(tx, k)
				inside <- true
				<-done
				return err
			})
		}()
		<-inside
		go func() {
			_, err := s.node(t).RotateOrg(context.Background(), org)
			rotated <- err
		}()
		waitFor(t, func() bool { return slices.Equal(stored(t, s, org), []int{1, 2}) })
		if d.Dialect == db.PostgreSQL {
			waitFor(t, func() bool {
				var n int
				if err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
					return tx.Row("SELECT count(*) FROM pg_locks WHERE relation = 'custody_data_keys'::regclass AND mode = 'ShareLock' AND NOT granted").Scan(&n)
				}); err != nil {
					t.Fatal(err)
				}
				return n == 1
			})
		}
		if got := stored(t, s, org); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("versions in the store before the commit: %v", got)
		}
		commit()
		if err := errors.Join(<-wrote, <-rotated); err != nil {
			t.Fatal(err)
		}
		if err := opens(s.node(t), d, k); err != nil {
			t.Error(err)
		}
		if got := stored(t, s, org); !slices.Equal(got, []int{2}) {
			t.Errorf("versions in the store: %v", got)
		}
	})
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
	}
}

// A node that sleeps through whole rotations still saves under a key that is
// there, and still reads.
func TestASleepingNodeNeverUsesARemovedVersion(t *testing.T) {
	d := dbtest.SQLite(t)
	s := newSite(t, d)
	org := id.New()
	asleep := s.nodeAt(t, clock.NewFake(time.Now())) // never looks at the store by itself
	create(t, asleep, org)
	first := saved(t, asleep, d, org)
	for range 2 {
		if _, err := s.node(t).RotateOrg(context.Background(), org); err != nil {
			t.Fatal(err)
		}
	}
	if err := opens(asleep, d, first); err != nil {
		t.Errorf("reading: %v", err)
	}
	again := s.nodeAt(t, clock.NewFake(time.Now()))
	if _, err := again.NewDataKey(org); err != nil {
		t.Fatal(err)
	}
	if _, err := s.node(t).RotateOrg(context.Background(), org); err != nil {
		t.Fatal(err)
	}
	if k := saved(t, again, d, org); opens(s.node(t), d, k) != nil {
		t.Error("a key was saved under a version that is gone")
	}
}

func TestRotateOrgResumes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		c, org := s.node(t), id.New()
		create(t, c, org)
		keys := saveMany(t, c, d, org, 250)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := c.RotateOrg(ctx, org); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		node := s.node(t)
		keys = append(keys, saveMany(t, node, d, org, 5)...)
		if got := versions(t, d, org); got[1] != 250 || got[2] != 5 {
			t.Fatalf("half way: %v", got)
		}
		r, err := node.RotateOrg(context.Background(), org)
		if err != nil || r.Version != 2 || r.Rewrapped != 250 {
			t.Fatalf("resumed: %+v, %v", r, err)
		}
		for _, k := range keys {
			if err := opens(c, d, k); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := c.RotateOrg(context.Background(), org); err != nil || r.Version != 3 {
			t.Errorf("the next one: %+v, %v", r, err)
		}
	})
}

func TestRetainKeepsOldVersionsForBackups(t *testing.T) {
	d := dbtest.SQLite(t)
	s := newSite(t, d)
	org, now := id.New(), clock.NewFake(time.Now())
	m, err := custody.OpenMaster(s.masterPath())
	if err != nil {
		t.Fatal(err)
	}
	c, err := custody.Open(context.Background(), custody.Deps{DB: d, Master: m, Store: folder(t, s.keysPath()), Clock: now, Retain: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	create(t, c, org)
	k := saved(t, c, d, org)
	backup := takeRows(t, d)
	for i, want := range [][]int{{1, 2}, {1, 2, 3}, {2, 3, 4}} {
		if _, err := c.RotateOrg(context.Background(), org); err != nil {
			t.Fatal(err)
		}
		if got := stored(t, s, org); !slices.Equal(got, want) {
			t.Errorf("rotation %d leaves %v, want %v", i, got, want)
		}
		if i == 1 {
			restored := dbtest.SQLite(t)
			putRows(t, restored, backup)
			if err := opens((&site{dir: s.dir, d: restored}).node(t), restored, k); err != nil {
				t.Errorf("the backup cannot be read: %v", err)
			}
		}
		now.Advance(24 * time.Hour)
	}
	putRows(t, d, backup) // too old by now
	if err := opens(c, d, k); !errors.Is(err, custody.ErrDestroyed) {
		t.Errorf("an older backup: %v", err)
	}
	if r, err := c.RotateOrg(context.Background(), org); err != nil || r.Unreadable != 1 {
		t.Errorf("rotation over unreadable rows: %+v, %v", r, err)
	}
}

type row struct {
	id, org id.ID
	version int
	wrapped []byte
}

func takeRows(t testing.TB, d *db.DB) (out []row) {
	t.Helper()
	if err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT id, org_id, org_key_version, wrapped FROM custody_data_keys")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.id, &r.org, &r.version, &r.wrapped); err != nil {
				return err
			}
			out = append(out, r)
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func putRows(t testing.TB, d *db.DB, rows []row) {
	t.Helper()
	if err := d.Write(context.Background(), db.System, func(tx *db.Tx) error {
		if _, err := tx.Exec("DELETE FROM custody_data_keys"); err != nil {
			return err
		}
		for _, r := range rows {
			if _, err := tx.Exec("INSERT INTO custody_data_keys (id, org_id, org_key_version, wrapped) VALUES (?, ?, ?, ?)", r.id, r.org, r.version, r.wrapped); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRotateMaster(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		serving, org := s.node(t), id.New()
		create(t, serving, org)
		k := saved(t, serving, d, org)
		_, vkey, err := serving.SigningKey("n")
		if err != nil {
			t.Fatal(err)
		}
		newID, err := custody.AddMaster(s.masterPath())
		if err != nil {
			t.Fatal(err)
		}
		rows := takeRows(t, d)
		n, err := s.node(t).RotateMaster(context.Background())
		if err != nil || n != 5 { // two org keys, two index keys, one signing key
			t.Fatalf("%d keys, %v", n, err)
		}
		if again, err := s.node(t).RotateMaster(context.Background()); err != nil || again != 0 {
			t.Errorf("again: %d keys, %v", again, err)
		}
		if now := takeRows(t, d); !slices.EqualFunc(rows, now, func(a, b row) bool { return a.version == b.version && slices.Equal(a.wrapped, b.wrapped) }) {
			t.Error("rotating the master key changed data keys")
		}
		// The old key may leave the file now.
		text, err := os.ReadFile(s.masterPath())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.masterPath(), text[:slices.Index(text, '\n')+1], 0o600); err != nil {
			t.Fatal(err)
		}
		created := id.New()
		create(t, serving, created)
		for _, node := range []*custody.Custody{serving, s.node(t)} {
			if err := opens(node, d, k); err != nil {
				t.Error(err)
			}
			if _, v, err := node.SigningKey("n"); err != nil || v != vkey {
				t.Errorf("signing key: %v", err)
			}
		}
		st, err := serving.Status()
		if err != nil || st.MasterID != newID || len(st.Keys) != 7 {
			t.Errorf("status: %+v, %v", st, err)
		}
		for _, k := range st.Keys {
			if k.MasterID != newID {
				t.Errorf("%s is wrapped by %s", k.Ref, k.MasterID)
			}
		}
	})
}

// A process that rotates both keys again and again is killed at random; after
// each kill everything opens and everything reads.
func TestRotationSurvivesKill(t *testing.T) {
	ctx := context.Background()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	open := func(s *site) *db.DB {
		d, err := db.Open(ctx, db.Options{Path: filepath.Join(s.dir, "sealpost.db")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		return d
	}
	s := newSite(t, nil)
	s.d = open(s)
	org := id.New()
	c := s.node(t)
	create(t, c, org)
	keys := saveMany(t, c, s.d, org, 600)
	for range 5 {
		if err := s.d.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), rotateDir+"="+s.dir, rotateOrg+"="+org.Text(id.Org))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("the process did not start: %q, %v", line, err)
		}
		time.Sleep(time.Duration(random.IntN(120_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		s.d = open(s)
		node := s.node(t)
		for _, k := range keys {
			if err := opens(node, s.d, k); err != nil {
				t.Fatalf("after a kill: %v", err)
			}
		}
	}
	if _, err := s.node(t).RotateOrg(ctx, org); err != nil {
		t.Error(err)
	}
	if got := stored(t, s, org); len(got) != 1 || got[0] < 2 {
		t.Errorf("versions in the store: %v", got)
	}
	if err := s.d.Close(); err != nil {
		t.Error(err)
	}
}
