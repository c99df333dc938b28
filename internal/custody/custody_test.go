package custody_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// site is an installation's folder with its master key file and key store.
type site struct {
	dir string
	d   *db.DB
}

func newSite(t testing.TB, d *db.DB) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), d: d}
	if _, err := custody.InitMaster(s.masterPath()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) masterPath() string { return filepath.Join(s.dir, "master.key") }
func (s *site) keysPath() string   { return filepath.Join(s.dir, "keys") }

func (s *site) node(t testing.TB) *custody.Custody { return custodytest.Open(t, s.d, s.dir) }

// nodeAt is a node with a clock of its own.
func (s *site) nodeAt(t testing.TB, c clock.Clock) *custody.Custody {
	t.Helper()
	custodyOf, err := s.open(c)
	if err != nil {
		t.Fatal(err)
	}
	return custodyOf
}

func (s *site) open(c clock.Clock) (*custody.Custody, error) {
	m, err := custody.OpenMaster(s.masterPath())
	if err != nil {
		return nil, err
	}
	f, err := custody.OpenFolder(s.keysPath())
	if err != nil {
		return nil, err
	}
	return custody.Open(context.Background(), custody.Deps{DB: s.d, Master: m, Store: f, Clock: c})
}

func create(t testing.TB, c *custody.Custody, orgs ...id.ID) {
	t.Helper()
	for _, o := range orgs {
		if err := c.CreateOrg(o); err != nil {
			t.Fatal(err)
		}
	}
}

func save(c *custody.Custody, d *db.DB, org id.ID) (*custody.DataKey, error) {
	k, err := c.NewDataKey(org)
	if err != nil {
		return nil, err
	}
	return k, d.Write(context.Background(), org, func(tx *db.Tx) error { return c.SaveDataKey(tx, k) })
}

func saved(t testing.TB, c *custody.Custody, d *db.DB, org id.ID) *custody.DataKey {
	t.Helper()
	k, err := save(c, d, org)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// opens loads a key anew and opens with it what k sealed.
func opens(c *custody.Custody, d *db.DB, k *custody.DataKey) error {
	row, text := id.New(), []byte("the content")
	box := k.Seal("test.v1", row, text)
	return d.Read(context.Background(), k.Org, func(tx *db.Tx) error {
		of, err := custody.KeyIDOf(box)
		if err != nil {
			return err
		}
		loaded, err := c.DataKey(tx, of)
		if err != nil {
			return err
		}
		got, err := loaded.Open("test.v1", row, box)
		if err == nil && !bytes.Equal(got, text) {
			return errors.New("other content came back")
		}
		return err
	})
}

func TestKeysOpenOnlyForTheirOrganization(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		c := s.node(t)
		a, b := id.New(), id.New()
		create(t, c, a, b)
		create(t, c, a) // again
		for _, org := range []id.ID{a, b, db.System} {
			k := saved(t, c, d, org)
			if err := opens(s.node(t), d, k); err != nil {
				t.Errorf("another node: %v", err)
			}
			err := d.Read(context.Background(), id.New(), func(tx *db.Tx) error { _, err := c.DataKey(tx, k.ID); return err })
			if !errors.Is(err, custody.ErrDestroyed) {
				t.Errorf("another organization: %v", err)
			}
		}
		k, err := c.NewDataKey(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Write(context.Background(), b, func(tx *db.Tx) error { return c.SaveDataKey(tx, k) }); err == nil {
			t.Error("a key was saved for another organization")
		}
		if _, err := c.NewDataKey(id.New()); reason(err) != "organization_unknown" {
			t.Errorf("unknown organization: %v", err)
		}
		// A row that was copied to another organization must not unwrap there.
		if err := d.WriteAlone(context.Background(), b, func(tx *db.Tx) error {
			_, err := tx.Exec("UPDATE custody_data_keys SET org_id = ? WHERE org_id = ?", b, a)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.Read(context.Background(), b, func(tx *db.Tx) error {
			rows, err := tx.Query("SELECT id FROM custody_data_keys WHERE org_id = ?", b)
			if err != nil {
				return err
			}
			var keys []id.ID
			for rows.Next() {
				var key id.ID
				if err := rows.Scan(&key); err != nil {
					return err
				}
				keys = append(keys, key)
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
			failed := 0
			for _, key := range keys {
				if _, err := c.DataKey(tx, key); errors.Is(err, custody.ErrDamaged) {
					failed++
				}
			}
			if failed != 1 {
				return fmt.Errorf("%d moved rows failed, want 1", failed)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestDestroyDataKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c, org := newSite(t, d).node(t), id.New()
		create(t, c, org)
		gone, stays := saved(t, c, d, org), saved(t, c, d, org)
		for range 2 {
			if err := d.Write(context.Background(), org, func(tx *db.Tx) error { return c.DestroyDataKey(tx, gone.ID) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := opens(c, d, gone); !errors.Is(err, custody.ErrDestroyed) {
			t.Errorf("destroyed key: %v", err)
		}
		if err := opens(c, d, stays); err != nil {
			t.Error(err)
		}
	})
}

func TestDestroyOrgIsHonoredByEveryNode(t *testing.T) {
	d := dbtest.SQLite(t)
	s := newSite(t, d)
	time0 := clock.NewFake(time.Now())
	here, there := s.nodeAt(t, time0), s.nodeAt(t, time0)
	a, b := id.New(), id.New()
	create(t, here, a, b)
	ka, kb := saved(t, here, d, a), saved(t, here, d, b)
	if err := opens(there, d, ka); err != nil {
		t.Fatal(err)
	}
	stone, err := here.DestroyOrg(a)
	if err != nil || stone.Org != a || len(stone.Versions) != 1 || !stone.At.Equal(time0.Now().Truncate(time.Microsecond)) {
		t.Fatalf("certificate %+v, %v", stone, err)
	}
	if again, err := here.DestroyOrg(a); err != nil || !again.At.Equal(stone.At) {
		t.Errorf("certificate again %+v, %v", again, err)
	}
	if err := opens(here, d, ka); !errors.Is(err, custody.ErrDestroyed) {
		t.Errorf("this process, at once: %v", err)
	}
	time0.Advance(time.Second)
	if err := opens(there, d, ka); !errors.Is(err, custody.ErrDestroyed) {
		t.Errorf("another process, a second later: %v", err)
	}
	for name, err := range map[string]error{
		"NewDataKey": second(here.NewDataKey(a)), "Index": second(here.Index(a, "l", "v")),
		"RotateOrg": second(here.RotateOrg(context.Background(), a)),
	} {
		if !errors.Is(err, custody.ErrDestroyed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := here.CreateOrg(a); reason(err) != "organization_destroyed" {
		t.Errorf("CreateOrg: %v", err)
	}
	if _, err := here.DestroyOrg(db.System); err == nil {
		t.Error("the installation's own keys were destroyed")
	}
	if _, err := here.DestroyOrg(id.New()); reason(err) != "organization_unknown" {
		t.Errorf("unknown organization: %v", err)
	}
	if err := opens(there, d, kb); err != nil {
		t.Errorf("the other organization: %v", err)
	}
	if st, err := here.Status(); err != nil || len(st.Destroyed) != 1 || len(st.Keys) != 4 {
		t.Errorf("status %+v, %v", st, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestIndex(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	c := s.node(t)
	a, b := id.New(), id.New()
	create(t, c, a, b)
	index := func(c *custody.Custody, org id.ID, label, value string) string {
		v, err := c.Index(org, label, value)
		if err != nil || len(v) != 32 {
			t.Fatalf("%d bytes, %v", len(v), err)
		}
		return string(v)
	}
	all := map[string]bool{}
	for _, org := range []id.ID{a, b, db.System} {
		for _, pair := range [][2]string{{"l", "v"}, {"l", "w"}, {"m", "v"}, {"lv", ""}, {"", "lv"}} {
			all[index(c, org, pair[0], pair[1])] = true
		}
	}
	if len(all) != 15 {
		t.Errorf("%d different values, want 15", len(all))
	}
	before := index(c, a, "l", "v")
	if _, err := custody.AddMaster(s.masterPath()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RotateMaster(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RotateOrg(context.Background(), a); err != nil {
		t.Fatal(err)
	}
	if index(c, a, "l", "v") != before || index(s.node(t), a, "l", "v") != before {
		t.Error("rotation changed index values")
	}
}

func TestMissingMasterKeyIsNamed(t *testing.T) {
	d := dbtest.SQLite(t)
	s := newSite(t, d)
	c := s.node(t)
	a := id.New()
	create(t, c, a)
	k := saved(t, c, d, a)
	st, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.masterPath())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.masterPath()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(clock.System{}); reason(err) != "master_key_file_missing" {
		t.Errorf("lost master key: %v", err)
	}
	if _, err := custody.InitMaster(s.masterPath()); err != nil {
		t.Fatal(err)
	}
	_, err = s.open(clock.System{})
	if reason(err) != "master_key_missing" || !strings.Contains(err.Error(), st.MasterID) {
		t.Errorf("wrong master key: %v; want %s named", err, st.MasterID)
	}
	if err := os.WriteFile(s.masterPath(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := opens(s.node(t), d, k); err != nil {
		t.Errorf("the right master key again: %v", err)
	}
}

func TestDamagedAndForeignKeyStoresAreRefused(t *testing.T) {
	d := dbtest.SQLite(t)
	s := newSite(t, d)
	c := s.node(t)
	saved(t, c, d, db.System)
	f := folder(t, s.keysPath())
	all, err := f.All()
	if err != nil {
		t.Fatal(err)
	}
	bad := all[0]
	bad.Wrapped = bytes.Clone(bad.Wrapped)
	bad.Wrapped[20] ^= 1
	if err := f.Replace(all[0], bad); err != nil {
		t.Fatal(err)
	}
	_, err = s.open(clock.System{})
	if reason(err) != "key_damaged" || !strings.Contains(err.Error(), bad.Ref.String()) {
		t.Errorf("damaged key: %v", err)
	}
	if err := os.RemoveAll(s.keysPath()); err != nil {
		t.Fatal(err)
	}
	if _, err = s.open(clock.System{}); reason(err) != "key_store_missing" {
		t.Errorf("empty key store beside content: %v", err)
	}
}

func TestSwappedKeysDoNotUnwrap(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	c := s.node(t)
	a, b := id.New(), id.New()
	create(t, c, a, b)
	f := folder(t, s.keysPath())
	from, err := f.Get(custody.Ref{Kind: custody.KindOrg, Org: a, Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	to, err := f.Get(custody.Ref{Kind: custody.KindOrg, Org: b, Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	forged := to
	forged.Wrapped = from.Wrapped
	if err := f.Replace(to, forged); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(clock.System{}); reason(err) != "key_damaged" {
		t.Errorf("one organization's key in the place of another's: %v", err)
	}
}

func TestSigningKey(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	c := s.node(t)
	const name = "sealpost.example.org/ledger"
	signer, vkey, err := c.SigningKey(name)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "checkpoint\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	again, vkey2, err := s.node(t).SigningKey(name)
	if err != nil || vkey2 != vkey || again.KeyHash() != signer.KeyHash() {
		t.Fatalf("another node has another key: %v", err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(verifier)); err != nil {
		t.Error(err)
	}
	if _, other, err := c.SigningKey("another"); err != nil || other == vkey {
		t.Errorf("another name: %v", err)
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb"} {
		if _, _, err := c.SigningKey(bad); err == nil {
			t.Errorf("name %q is taken", bad)
		}
	}
}

func TestNothingSecretLiesInTheKeyStore(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	c := s.node(t)
	if _, _, err := c.SigningKey("n"); err != nil {
		t.Fatal(err)
	}
	for _, e := range strings.Fields(fileNames(t, s.keysPath())) {
		data, err := os.ReadFile(filepath.Join(s.keysPath(), e))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("PRIVATE")) {
			t.Errorf("%s shows a key", e)
		}
	}
	if f := fault.From(custody.ErrDestroyed); f.Kind != fault.NotFound || f.Reason != "content_destroyed" {
		t.Errorf("ErrDestroyed is %+v", f)
	}
}
