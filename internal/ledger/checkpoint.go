package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Deps are what a Notary works with.
type Deps struct {
	DB    *db.DB
	Clock clock.Clock
	// Origin names the installation, like a URL without a scheme. The origin of
	// one tree is Origin/org_…. It must never change: checkpoints of another
	// origin vouch for another ledger.
	Origin string
	Signer note.Signer
	VKey   string // the public half, as note.NewVerifier reads it
	// A checkpoint is due when this much time has passed since the last, or
	// this many entries were added. 0 means an hour and a thousand.
	Every   time.Duration
	Entries int64
}

// Notary signs checkpoints and exports ledgers.
type Notary struct{ d Deps }

// New checks what it is given.
func New(d Deps) (*Notary, error) {
	if d.Origin == "" || strings.ContainsAny(d.Origin, " +\t\r\n") {
		return nil, errors.New("the origin of checkpoints must be set and free of spaces and plus signs")
	}
	if d.Signer == nil || d.VKey == "" {
		return nil, errors.New("checkpoints need a signing key")
	}
	if d.Every <= 0 {
		d.Every = time.Hour
	}
	if d.Entries <= 0 {
		d.Entries = 1000
	}
	return &Notary{d}, nil
}

// OriginOf is the first line of the organization's checkpoints.
func (n *Notary) OriginOf(org id.ID) string { return n.d.Origin + "/" + org.Text(id.Org) }

// CheckpointDue writes the checkpoints that are due. What fails for one
// organization is reported after the others are done.
func (n *Notary) CheckpointDue(ctx context.Context) (written int, err error) {
	var orgs []id.ID
	before := clock.Micros(n.d.Clock.Now().Add(-n.d.Every))
	err = n.d.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		orgs, err = db.All(tx, db.Value[id.ID], `SELECT org_id FROM ledger_heads
			WHERE size > checkpoint_size AND (checkpoint_at <= ? OR size >= checkpoint_size + ?)`, before, n.d.Entries)
		return err
	})
	if err != nil {
		return 0, err
	}
	var bad []error
	for _, org := range orgs {
		if _, err := n.Checkpoint(ctx, org); err != nil {
			bad = append(bad, err)
			continue
		}
		written++
	}
	return written, errors.Join(bad...)
}

// Checkpoint writes a checkpoint of the organization's tree as it stands and
// gives its text; if there is one of this size already, that one.
func (n *Notary) Checkpoint(ctx context.Context, org id.ID) ([]byte, error) {
	var text []byte // touched by nobody when ctx ends before the write
	if err := n.d.DB.WriteAlone(ctx, org, func(tx *db.Tx) (err error) {
		text, err = n.checkpoint(tx)
		return err
	}); err != nil {
		return nil, fmt.Errorf("checkpoint of %s: %w", org.Text(id.Org), err)
	}
	return text, nil
}

func (n *Notary) checkpoint(tx *db.Tx) ([]byte, error) {
	org := tx.Org()
	size, err := lockHead(tx, org)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, fault.New(fault.NotFound, "ledger_empty", "The ledger has no entries yet.")
	}
	tree := readHashes(tx)
	text, have, err := n.last(tx, tree)
	if err != nil || have == size {
		return text, err
	}
	if have > size {
		return nil, damaged(org, "it has fewer entries than its newest checkpoint")
	}
	root, err := tlog.TreeHash(size, tree)
	if err != nil {
		return nil, err
	}
	text, err = note.Sign(&note.Note{Text: formatCheckpoint(n.OriginOf(org), size, root)}, n.d.Signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	now := clock.Micros(n.d.Clock.Now())
	if _, err := tx.Exec("INSERT INTO ledger_checkpoints (org_id, size, at, note) VALUES (?, ?, ?, ?)", org, size, now, string(text)); err != nil {
		return nil, err
	}
	_, err = tx.Exec("UPDATE ledger_heads SET checkpoint_size = ?, checkpoint_at = ? WHERE org_id = ?", size, now, org)
	return text, err
}

// last gives the newest checkpoint. A tree that contradicts it was tampered
// with and is not signed again: the signature would cover the traces.
func (n *Notary) last(tx *db.Tx, tree *hashes) (text []byte, size int64, err error) {
	err = tx.Row("SELECT size, note FROM ledger_checkpoints WHERE org_id = ? ORDER BY size DESC LIMIT 1", tx.Org()).Scan(&size, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	body, _, _ := bytes.Cut(text, []byte("\n\n"))
	c, err := parseCheckpoint(string(body) + "\n")
	if err != nil || c.size != size {
		return nil, 0, damaged(tx.Org(), "its newest checkpoint cannot be read")
	}
	if root, err := tlog.TreeHash(size, tree); err != nil || root != c.root {
		return nil, 0, errors.Join(damaged(tx.Org(), "its tree contradicts its newest checkpoint"), err)
	}
	return text, size, nil
}

// checkpoint is the signed text of https://c2sp.org/tlog-checkpoint.
type checkpoint struct {
	origin string
	size   int64
	root   tlog.Hash
}

func formatCheckpoint(origin string, size int64, root tlog.Hash) string {
	return origin + "\n" + strconv.FormatInt(size, 10) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}

// parseCheckpoint reads the text without its signatures. Lines behind the
// third are extensions and are ignored, as the format asks.
func parseCheckpoint(text string) (checkpoint, error) {
	wrong := errors.New("not a checkpoint")
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return checkpoint{}, wrong
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 1 || strconv.FormatInt(size, 10) != lines[1] {
		return checkpoint{}, wrong
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != hashSize || len(lines[2]) != 44 {
		return checkpoint{}, wrong
	}
	return checkpoint{lines[0], size, tlog.Hash(root)}, nil
}

// ExportCheckpoints writes all checkpoints of an organization, oldest first,
// one behind the other; SplitCheckpoints takes them apart.
func (n *Notary) ExportCheckpoints(ctx context.Context, org id.ID, w io.Writer) error {
	const page = 500
	for after := int64(-1); ; {
		var notes []string
		err := n.d.DB.Read(ctx, org, func(tx *db.Tx) error {
			rows, err := tx.Query("SELECT size, note FROM ledger_checkpoints WHERE org_id = ? AND size > ? ORDER BY size LIMIT ?", org, after, page)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var text string
				if err := rows.Scan(&after, &text); err != nil {
					return err
				}
				notes = append(notes, text)
			}
			return rows.Err()
		})
		if err != nil {
			return err
		}
		for _, text := range notes {
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
		if len(notes) < page {
			return nil
		}
	}
}

// SplitCheckpoints takes a file of checkpoints apart: each ends with its
// signature lines, which begin with an em dash.
func SplitCheckpoints(file []byte) [][]byte {
	var out [][]byte
	start, signed := 0, false
	for i := 0; i < len(file); {
		end := len(file)
		if nl := bytes.IndexByte(file[i:], '\n'); nl >= 0 {
			end = i + nl + 1
		}
		signature := bytes.HasPrefix(file[i:end], []byte("— "))
		if signed && !signature {
			out = append(out, file[start:i])
			start = i
		}
		signed = signature
		i = end
	}
	if rest := file[start:]; len(bytes.TrimSpace(rest)) > 0 {
		out = append(out, rest)
	}
	return out
}
