package custody

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Folder is a key store of one file per key:
//
//	org-<id>-v<N>.json  index-<id>.json  signing-<name>.json  org-<id>.destroyed
//
// Changes are made under a lock on the folder, as a new file that is renamed;
// file and folder are fsynced. Where there is a tombstone, the other files of
// that organization are as good as gone, whatever a crash left of them.
type Folder struct{ dir string }

type keyFile struct {
	Kind      Kind      `json:"kind"`
	Org       string    `json:"org"`
	Version   int       `json:"version,omitempty"`
	Name      string    `json:"name,omitempty"`
	MasterID  string    `json:"master_id"`
	Wrapped   []byte    `json:"wrapped"`
	CreatedAt time.Time `json:"created_at"`
	Rotating  bool      `json:"rotating,omitempty"`
}

type tombstoneFile struct {
	Org      string    `json:"org"`
	Versions []int     `json:"versions"`
	At       time.Time `json:"destroyed_at"`
}

const destroyedSuffix = ".destroyed"

// OpenFolder opens a key store, makes its folder if there is none, and ends
// what a crash left half done.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key store: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("make key store: %w", err)
	}
	f := &Folder{dir: dir}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("lock key store: %w", err)
	}
	defer unlock()
	stones, err := f.Tombstones()
	if err != nil {
		return nil, err
	}
	for _, t := range stones {
		if err := f.shred(t.Org); err != nil {
			return nil, err
		}
	}
	return f, sweep(f.dir)
}

func plainID(org id.ID) string { return strings.TrimPrefix(org.Text(id.Org), id.Org+"_") }

func fileName(r Ref) string {
	switch r.Kind {
	case KindOrg:
		return "org-" + plainID(r.Org) + "-v" + strconv.Itoa(r.Version) + ".json"
	case KindIndex:
		return "index-" + plainID(r.Org) + ".json"
	}
	return "signing-" + url.PathEscape(r.Name) + ".json"
}

func (f *Folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *Folder) tombstonePath(org id.ID) string {
	return f.path("org-" + plainID(org) + destroyedSuffix)
}

func (f *Folder) names(prefix, suffix string) ([]string, error) {
	all, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range all {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), suffix) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// All reads every key file.
func (f *Folder) All() ([]Key, error) {
	names, err := f.names("", ".json")
	if err != nil {
		return nil, err
	}
	return f.readAll(names)
}

// Org reads the files of one organization.
func (f *Folder) Org(org id.ID) ([]Key, error) {
	names, err := f.names("org-"+plainID(org)+"-v", ".json")
	if err != nil {
		return nil, err
	}
	keys, err := f.readAll(append(names, fileName(Ref{Kind: KindIndex, Org: org})))
	if err != nil {
		return nil, err
	}
	if gone, err := exists(f.tombstonePath(org)); err != nil || gone {
		return nil, cmp.Or(err, ErrTombstone)
	}
	return keys, nil
}

func (f *Folder) readAll(names []string) ([]Key, error) {
	var keys []Key
	for _, name := range names {
		k, err := f.read(name)
		if errors.Is(err, ErrNoKey) || errors.Is(err, ErrTombstone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.Org[:], b.Org[:]),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.Name, b.Name))
	})
	return keys, nil
}

// Get reads one key file.
func (f *Folder) Get(ref Ref) (Key, error) { return f.read(fileName(ref)) }

// read looks for the tombstone after it has read the file, and before it
// trusts what it read: the file may be in the middle of its destruction.
func (f *Folder) read(name string) (Key, error) {
	data, err := os.ReadFile(f.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Key{}, err
	}
	if org, ok := orgOf(name); ok {
		if gone, err := exists(f.path("org-" + org + destroyedSuffix)); err != nil || gone {
			return Key{}, cmp.Or(err, ErrTombstone)
		}
	}
	if err != nil {
		return Key{}, ErrNoKey
	}
	k, err := parseKey(data)
	if err != nil || fileName(k.Ref) != name {
		return Key{}, fault.Newf(fault.Invalid, "key_damaged",
			"The file %s of the key store is damaged or is not what its name says. Restore it from a copy.", name).Because(err)
	}
	return k, nil
}

func orgOf(name string) (string, bool) {
	for _, prefix := range []string{"org-", "index-"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && len(rest) >= 26 {
			return rest[:26], true
		}
	}
	return "", false
}

func parseKey(data []byte) (Key, error) {
	var j keyFile
	if err := json.Unmarshal(data, &j); err != nil {
		return Key{}, errors.New("not JSON")
	}
	org, err := id.Parse(id.Org, j.Org)
	if err != nil {
		return Key{}, err
	}
	k := Key{Ref: Ref{Kind: j.Kind, Org: org, Version: j.Version, Name: j.Name}, MasterID: j.MasterID, Wrapped: j.Wrapped, CreatedAt: j.CreatedAt, Rotating: j.Rotating}
	if (j.Kind == KindOrg) != (j.Version > 0) || (j.Kind == KindSigning) != (j.Name != "") || j.Version < 0 {
		return Key{}, errors.New("fields contradict each other")
	}
	if !slices.Contains([]Kind{KindOrg, KindIndex, KindSigning}, j.Kind) || j.Kind == KindSigning && !org.IsZero() {
		return Key{}, errors.New("unknown kind of key")
	}
	return k, nil
}

func (k Key) render() ([]byte, error) {
	data, err := json.MarshalIndent(keyFile{Kind: k.Kind, Org: k.Org.Text(id.Org), Version: k.Version, Name: k.Name,
		MasterID: k.MasterID, Wrapped: k.Wrapped, CreatedAt: k.CreatedAt, Rotating: k.Rotating}, "", "  ")
	return append(data, '\n'), err
}

// Changed looks for three files. Old versions are removed oldest first, so the
// newest is still the newest when it is there and its successor is not.
func (f *Folder) Changed(org id.ID, newest int) (bool, error) {
	if gone, err := exists(f.tombstonePath(org)); err != nil || gone {
		return true, err
	}
	if there, err := exists(f.path(fileName(Ref{Kind: KindOrg, Org: org, Version: newest}))); err != nil || !there {
		return true, err
	}
	return exists(f.path(fileName(Ref{Kind: KindOrg, Org: org, Version: newest + 1})))
}

// Create writes a new key file.
func (f *Folder) Create(k Key) error {
	unlock, err := lockDir(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	switch _, err := f.Get(k.Ref); {
	case err == nil:
		return ErrKeyExists
	case !errors.Is(err, ErrNoKey):
		return err
	}
	return f.write(k)
}

func (f *Folder) write(k Key) error {
	data, err := k.render()
	if err != nil {
		return err
	}
	return replaceFile(f.path(fileName(k.Ref)), data)
}

// Replace rewrites a key file that is still as the caller knew it.
func (f *Folder) Replace(old, new Key) error {
	if old.Ref != new.Ref {
		return errors.New("a key cannot be replaced by another one")
	}
	unlock, err := lockDir(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := f.Get(old.Ref)
	switch {
	case errors.Is(err, ErrNoKey) || errors.Is(err, ErrTombstone):
		return ErrKeyChanged
	case err != nil:
		return err
	case !bytes.Equal(now.Wrapped, old.Wrapped) || now.Rotating != old.Rotating:
		return ErrKeyChanged
	}
	return f.write(new)
}

// Remove deletes a key file.
func (f *Folder) Remove(ref Ref) error {
	unlock, err := lockDir(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(f.path(fileName(ref))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(f.dir)
}

// Destroy writes the tombstone and then erases the organization's key files.
func (f *Folder) Destroy(org id.ID, at time.Time) (Tombstone, error) {
	unlock, err := lockDir(f.dir)
	if err != nil {
		return Tombstone{}, err
	}
	defer unlock()
	t, err := f.tombstone(org)
	if errors.Is(err, os.ErrNotExist) {
		t, err = f.bury(org, at)
	}
	if err != nil {
		return Tombstone{}, err
	}
	return t, errors.Join(f.shred(org), sweep(f.dir))
}

func (f *Folder) bury(org id.ID, at time.Time) (Tombstone, error) {
	keys, err := f.Org(org)
	if err != nil {
		return Tombstone{}, err
	}
	t := Tombstone{Org: org, At: at.UTC().Truncate(time.Microsecond)}
	for _, k := range keys {
		if k.Kind == KindOrg {
			t.Versions = append(t.Versions, k.Version)
		}
	}
	if len(keys) == 0 {
		return Tombstone{}, ErrNoKey
	}
	data, err := json.MarshalIndent(tombstoneFile{Org: org.Text(id.Org), Versions: t.Versions, At: t.At}, "", "  ")
	if err != nil {
		return Tombstone{}, err
	}
	return t, replaceFile(f.tombstonePath(org), append(data, '\n'))
}

// shred erases the key files of an organization that has a tombstone.
func (f *Folder) shred(org id.ID) error {
	names, err := f.names("org-"+plainID(org)+"-v", ".json")
	if err != nil {
		return err
	}
	for _, name := range append(names, fileName(Ref{Kind: KindIndex, Org: org})) {
		if err := erase(f.path(name)); err != nil {
			return err
		}
	}
	return syncDir(f.dir)
}

func (f *Folder) tombstone(org id.ID) (Tombstone, error) {
	data, err := os.ReadFile(f.tombstonePath(org))
	if err != nil {
		return Tombstone{}, err
	}
	// The name alone destroys; the rest is for the certificate.
	var j tombstoneFile
	if err := json.Unmarshal(data, &j); err != nil {
		return Tombstone{Org: org}, nil
	}
	return Tombstone{Org: org, Versions: j.Versions, At: j.At}, nil
}

// Tombstones reads all tombstones.
func (f *Folder) Tombstones() ([]Tombstone, error) {
	names, err := f.names("org-", destroyedSuffix)
	if err != nil {
		return nil, err
	}
	var all []Tombstone
	for _, name := range names {
		org, err := id.Parse(id.Org, id.Org+"_"+strings.TrimSuffix(strings.TrimPrefix(name, "org-"), destroyedSuffix))
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "key_damaged", "The file %s of the key store has a name that is no organization's.", name)
		}
		t, err := f.tombstone(org)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}
