package custodytest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/id"
)

// MasterKeys is what every provider of master keys must keep to. fresh gives
// two providers with different keys.
func MasterKeys(t *testing.T, fresh func(t *testing.T) (one, other custody.MasterKeys)) {
	one, other := fresh(t)
	context, secret := []byte("context"), []byte("0123456789abcdef0123456789abcdef")
	keyID, wrapped, err := one.Wrap(context, secret)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := one.KeyID(); err != nil || now != keyID {
		t.Errorf("KeyID says %q (%v), Wrap used %q", now, err, keyID)
	}
	if bytes.Contains(wrapped, secret) {
		t.Error("the wrapped key shows the secret")
	}
	if got, err := one.Unwrap(keyID, context, wrapped); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Unwrap: %v", err)
	}
	if _, again, _ := one.Wrap(context, secret); bytes.Equal(again, wrapped) {
		t.Error("wrapping twice gives the same bytes")
	}
	if _, err := one.Unwrap(keyID, []byte("elsewhere"), wrapped); err == nil || errors.Is(err, custody.ErrNoMaster) {
		t.Errorf("Unwrap in another context: %v", err)
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if _, err := one.Unwrap(keyID, context, bad); err == nil {
			t.Errorf("Unwrap takes a flipped bit in byte %d", i)
		}
	}
	if _, err := one.Unwrap(keyID, context, nil); err == nil {
		t.Error("Unwrap takes no bytes at all")
	}
	if _, err := other.Unwrap(keyID, context, wrapped); !errors.Is(err, custody.ErrNoMaster) {
		t.Errorf("Unwrap without the key: %v, want ErrNoMaster", err)
	}
}

// KeyStore is what every key store must keep to. fresh makes an empty store
// and gives a function that opens it, each time as another process would.
func KeyStore(t *testing.T, fresh func(t *testing.T) (open func() custody.KeyStore)) {
	for name, test := range map[string]func(t *testing.T, open func() custody.KeyStore){
		"Create": storeCreates, "Replace": storeReplaces, "Remove": storeRemoves,
		"Destroy": storeDestroys, "Race": storeRace,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func key(kind custody.Kind, org id.ID, version int, name string) custody.Key {
	return custody.Key{
		Ref:      custody.Ref{Kind: kind, Org: org, Version: version, Name: name},
		MasterID: "0123456789abcdef", Wrapped: []byte{1, 2, byte(version)},
		CreatedAt: time.UnixMicro(1_700_000_000_123_456).UTC(),
	}
}

func same(a, b custody.Key) bool {
	return a.Ref == b.Ref && a.MasterID == b.MasterID && bytes.Equal(a.Wrapped, b.Wrapped) &&
		a.CreatedAt.Equal(b.CreatedAt) && a.Rotating == b.Rotating
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func storeCreates(t *testing.T, open func() custody.KeyStore) {
	s := open()
	a, b := id.New(), id.New()
	keys := []custody.Key{
		key(custody.KindIndex, a, 0, ""), key(custody.KindIndex, b, 0, ""),
		key(custody.KindOrg, id.ID{}, 1, ""), key(custody.KindOrg, a, 1, ""), key(custody.KindOrg, a, 2, ""),
		key(custody.KindOrg, a, 10, ""), key(custody.KindOrg, b, 1, ""),
		key(custody.KindSigning, id.ID{}, 0, "../a b/c%2f"),
	}
	for _, k := range slices.Backward(keys) {
		want(t, "Get before Create", second(s.Get(k.Ref)), custody.ErrNoKey)
		must(t, s.Create(k))
		want(t, "Create again", s.Create(k), custody.ErrKeyExists)
	}
	s = open()
	all, err := s.All()
	must(t, err)
	if !slices.EqualFunc(all, keys, same) {
		t.Errorf("All gives %v, want %v", all, keys)
	}
	for _, k := range keys {
		if got, err := s.Get(k.Ref); err != nil || !same(got, k) {
			t.Errorf("Get gives %v (%v), want %v", got, err, k)
		}
	}
	mine, err := s.Org(a)
	must(t, err)
	if len(mine) != 4 {
		t.Errorf("Org gives %v", mine)
	}
	for newest, wantChanged := range map[int]bool{1: true, 2: false, 3: true, 10: false} {
		if got, err := s.Changed(a, newest); err != nil || got != wantChanged {
			t.Errorf("Changed(%d) = %v, %v", newest, got, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func storeReplaces(t *testing.T, open func() custody.KeyStore) {
	s := open()
	old := key(custody.KindOrg, id.New(), 1, "")
	next := old
	next.MasterID, next.Wrapped, next.Rotating = "fedcba9876543210", []byte{9}, true
	want(t, "Replace of nothing", s.Replace(old, next), custody.ErrKeyChanged)
	must(t, s.Create(old))
	must(t, s.Replace(old, next))
	want(t, "Replace of what was", s.Replace(old, old), custody.ErrKeyChanged)
	if got, err := open().Get(old.Ref); err != nil || !same(got, next) {
		t.Errorf("Get gives %v, %v", got, err)
	}
	other := next
	other.Version = 2
	if s.Replace(next, other) == nil {
		t.Error("Replace changed which key it is")
	}
}

func storeRemoves(t *testing.T, open func() custody.KeyStore) {
	s := open()
	k := key(custody.KindOrg, id.New(), 1, "")
	must(t, s.Create(k))
	must(t, s.Remove(k.Ref))
	must(t, s.Remove(k.Ref))
	want(t, "Get of a removed key", second(open().Get(k.Ref)), custody.ErrNoKey)
}

func storeDestroys(t *testing.T, open func() custody.KeyStore) {
	s := open()
	a, b := id.New(), id.New()
	for _, k := range []custody.Key{key(custody.KindOrg, a, 2, ""), key(custody.KindOrg, a, 3, ""), key(custody.KindIndex, a, 0, ""), key(custody.KindOrg, b, 1, "")} {
		must(t, s.Create(k))
	}
	want(t, "Destroy of an unknown organization", second(s.Destroy(id.New(), time.Now())), custody.ErrNoKey)
	at := time.UnixMicro(1_800_000_000_000_001).UTC()
	for i := range 2 { // the second time, and after a restart, the answer is the first one
		stone, err := open().Destroy(a, at.Add(time.Duration(i)*time.Hour))
		must(t, err)
		if stone.Org != a || !slices.Equal(stone.Versions, []int{2, 3}) || !stone.At.Equal(at) {
			t.Errorf("tombstone: %+v", stone)
		}
	}
	k := key(custody.KindOrg, a, 2, "")
	want(t, "Get", second(s.Get(k.Ref)), custody.ErrTombstone)
	want(t, "Org", second(s.Org(a)), custody.ErrTombstone)
	want(t, "Create", s.Create(key(custody.KindOrg, a, 4, "")), custody.ErrTombstone)
	want(t, "Create of an index key", s.Create(key(custody.KindIndex, a, 0, "")), custody.ErrTombstone)
	want(t, "Replace", s.Replace(k, k), custody.ErrKeyChanged)
	if changed, err := s.Changed(a, 3); err != nil || !changed {
		t.Errorf("Changed after Destroy: %v, %v", changed, err)
	}
	all, err := s.All()
	must(t, err)
	if len(all) != 1 || all[0].Org != b {
		t.Errorf("All after Destroy: %v", all)
	}
	stones, err := s.Tombstones()
	must(t, err)
	if len(stones) != 1 || stones[0].Org != a || !stones[0].At.Equal(at) {
		t.Errorf("Tombstones: %+v", stones)
	}
}

// storeRace lets two processes create the same key, and replace and destroy.
func storeRace(t *testing.T, open func() custody.KeyStore) {
	for range 20 {
		org := id.New()
		k := key(custody.KindOrg, org, 1, "")
		var made atomic.Int32
		var wg sync.WaitGroup
		for i := range 4 {
			s := open()
			wg.Go(func() {
				mine := k
				mine.Wrapped = []byte{byte(i)}
				switch err := s.Create(mine); {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, custody.ErrKeyExists):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 {
			t.Fatalf("%d processes made the same key", made.Load())
		}
		one, two := open(), open()
		old, err := one.Get(k.Ref)
		must(t, err)
		next := old
		next.MasterID = "another"
		wg.Go(func() {
			if err := one.Replace(old, next); err != nil && !errors.Is(err, custody.ErrKeyChanged) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := two.Destroy(org, time.Now()); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		want(t, "Get after a race with Destroy", second(open().Get(k.Ref)), custody.ErrTombstone)
	}
}
