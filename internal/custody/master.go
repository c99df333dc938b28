package custody

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sealpost/sealpost/internal/fault"
)

const (
	keySize      = 32
	masterFormat = "sealpost-master-v1"
	masterLimit  = 1 << 16 // bytes of a master key file
)

// ErrNoMaster says that a provider does not have the master key asked for.
var ErrNoMaster = errors.New("no such master key")

// errWrap says that wrapped bytes do not unwrap with the key they name.
var errWrap = errors.New("wrapped key does not verify")

// MasterKeys wraps and unwraps the keys in the key store. FileMaster is the
// provider for now; Vault and the clouds' key services are to come, and bound
// their own waiting.
type MasterKeys interface {
	// KeyID names the key that Wrap uses now.
	KeyID() (string, error)
	// Wrap encrypts a secret, binds it to context and names the key it used.
	Wrap(context, secret []byte) (keyID string, wrapped []byte, err error)
	// Unwrap decrypts with the key named. An unknown key is ErrNoMaster.
	Unwrap(keyID string, context, wrapped []byte) ([]byte, error)
}

// FileMaster takes master keys from a file of lines
//
//	sealpost-master-v1 <key id> <base64 of 32 bytes>
//
// whose first line is the current key. Nobody but the owner may read it. The
// file is read again to wrap, and when a key is not known, so that a running
// node follows a rotation.
type FileMaster struct {
	path string
	mu   sync.Mutex
	ring *masterRing
}

type masterRing struct {
	current string
	keys    map[string]cipher.AEAD
}

// OpenMaster reads a master key file.
func OpenMaster(path string) (*FileMaster, error) {
	m := &FileMaster{path: path}
	if _, err := m.read(); err != nil {
		return nil, err
	}
	return m, nil
}

// InitMaster makes a master key file with one new key. It never overwrites.
func InitMaster(path string) (keyID string, err error) {
	keyID, line := newMasterLine()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return "", fault.New(fault.Conflict, "master_key_exists",
			"There is a master key file already. It was left as it is: replacing it would make everything unreadable.")
	}
	if err != nil {
		return "", fmt.Errorf("make master key file: %w", err)
	}
	if err := writeSync(f, line); err != nil {
		return "", fmt.Errorf("write master key file: %w", err)
	}
	return keyID, syncDir(filepath.Dir(path))
}

// AddMaster puts a new current key on top of the file and keeps the others.
// RotateMaster then re-wraps what the older ones protect.
func AddMaster(path string) (keyID string, err error) {
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("lock master key file: %w", err)
	}
	defer unlock()
	if err := sweep(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("tidy master key folder: %w", err)
	}
	old, err := readMasterFile(path)
	if err != nil {
		return "", err
	}
	if _, err := parseMaster(old); err != nil {
		return "", err
	}
	keyID, line := newMasterLine()
	if err := replaceFile(path, append(line, old...)); err != nil {
		return "", fmt.Errorf("write master key file: %w", err)
	}
	return keyID, nil
}

func newMasterLine() (keyID string, line []byte) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	keyID = masterID(key)
	return keyID, fmt.Appendf(nil, "%s %s %s\n", masterFormat, keyID, base64.StdEncoding.EncodeToString(key))
}

// masterID names a key without telling anything about it.
func masterID(key []byte) string {
	sum := sha256.Sum256(append([]byte("sealpost master key id"), key...))
	return hex.EncodeToString(sum[:8])
}

// KeyID names the key on the first line.
func (m *FileMaster) KeyID() (string, error) {
	r, err := m.read()
	if err != nil {
		return "", err
	}
	return r.current, nil
}

// Wrap encrypts with the key on the first line.
func (m *FileMaster) Wrap(context, secret []byte) (string, []byte, error) {
	r, err := m.read()
	if err != nil {
		return "", nil, err
	}
	return r.current, r.keys[r.current].Seal(nil, nil, secret, context), nil
}

// Unwrap decrypts with the key named.
func (m *FileMaster) Unwrap(keyID string, context, wrapped []byte) ([]byte, error) {
	m.mu.Lock()
	r := m.ring
	m.mu.Unlock()
	if r.keys[keyID] == nil {
		var err error
		if r, err = m.read(); err != nil {
			return nil, err
		}
	}
	aead := r.keys[keyID]
	if aead == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoMaster, keyID)
	}
	secret, err := aead.Open(nil, nil, wrapped, context)
	if err != nil {
		return nil, errWrap
	}
	return secret, nil
}

func (m *FileMaster) read() (*masterRing, error) {
	text, err := readMasterFile(m.path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	r, err := parseMaster(text)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.ring = r
	m.mu.Unlock()
	return r, nil
}

func readMasterFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.Invalid, "master_key_file_missing",
			"There is no master key file at the configured place. Make one with: sealpost keys init").Because(err)
	}
	if err != nil {
		return nil, fmt.Errorf("open master key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at master key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.Newf(fault.Invalid, "master_key_exposed",
			"The master key file can be used by others than its owner (mode %04o). Set its mode to 0600.", info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, masterLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	if len(text) > masterLimit {
		return nil, badMaster(1, "the file is too large")
	}
	return text, nil
}

// parseMaster reads the lines. What it reports never quotes them.
func parseMaster(text []byte) (*masterRing, error) {
	r := &masterRing{keys: map[string]cipher.AEAD{}}
	body, ended := bytes.CutSuffix(text, []byte("\n"))
	if !ended {
		return nil, badMaster(1, "the file is empty or its last line does not end")
	}
	for i, line := range strings.Split(string(body), "\n") {
		word := strings.Split(line, " ")
		if len(word) != 3 || word[0] != masterFormat {
			return nil, badMaster(i+1, "it is not of the form \""+masterFormat+" KEY-ID BASE64\"")
		}
		key, err := base64.StdEncoding.DecodeString(word[2])
		if err != nil || len(key) != keySize || base64.StdEncoding.EncodeToString(key) != word[2] {
			return nil, badMaster(i+1, "the key is not the base64 of 32 bytes")
		}
		if masterID(key) != word[1] {
			return nil, badMaster(i+1, "the key id does not belong to the key")
		}
		if r.keys[word[1]] != nil {
			return nil, badMaster(i+1, "the key is there twice")
		}
		if r.keys[word[1]], err = newAEAD(key); err != nil {
			return nil, err
		}
		clear(key)
		if i == 0 {
			r.current = word[1]
		}
	}
	return r, nil
}

func badMaster(line int, why string) error {
	return fault.Newf(fault.Invalid, "master_key_file_invalid",
		"The master key file cannot be read, line %d: %s.", line, why)
}
