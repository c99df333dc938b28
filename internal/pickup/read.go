package pickup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// Opened is a message as its recipient may see it.
type Opened struct {
	View    *mail.View
	OrgName string
	Date    time.Time // as the sender wrote it, else when it was accepted
	Files   []File
	// Tag tells the messages of one browser apart. It opens nothing.
	Tag string

	message  spool.Message
	delivery id.ID
	leave    func()
}

// Close gives back the memory that the message was given; what came of it is
// not to be used any more.
func (o *Opened) Close() { o.leave() }

// File is a part of the message that can be saved.
type File struct {
	Index       int
	Name        private.String
	ContentType string
	Size        int64
	Inline      bool // a picture that belongs into the HTML
	Page        bool // the HTML itself, as the sender wrote it
}

// downloadedFact is the clear part of pickup.downloaded, downloadedPrivate its
// sealed one.
type downloadedFact struct {
	File int   `json:"file"`
	Size int64 `json:"size"`
}

type downloadedPrivate struct {
	Name string `json:"name"`
}

// Open gives the message of a session, to be closed. It waits while too much
// is being read.
func (p *Pickup) Open(ctx context.Context, session private.String) (*Opened, error) {
	c, ok := parseCredential(session)
	if !ok {
		return nil, ErrNoSession
	}
	o, late, err := p.load(ctx, c)
	if err != nil {
		return nil, err
	}
	if late {
		// It was opened before its notice was recorded as accepted.
		now := p.Clock.Now()
		if err := p.DB.Write(ctx, c.org, func(tx *db.Tx) error {
			return spool.MarkRead(tx, o.message.ID, o.delivery, now)
		}); err != nil {
			return nil, err
		}
	}
	org, err := p.Accounts.Org(ctx, c.org)
	if err != nil {
		return nil, err
	}
	o.OrgName = org.Name
	if o.leave, err = p.room.enter(ctx, o.delivery, o.message.Size); err != nil {
		return nil, err
	}
	if err := p.parse(ctx, o); err != nil {
		o.Close()
		return nil, err
	}
	sum := sha256.Sum256(c.sum())
	o.Tag = hex.EncodeToString(sum[:4])
	return o, nil
}

// load finds the message; late says that the delivery still counts as unread.
func (p *Pickup) load(ctx context.Context, c credential) (o *Opened, late bool, err error) {
	now := p.Clock.Now()
	err = p.DB.Read(ctx, c.org, func(tx *db.Tx) error {
		l, err := p.sessionLink(tx, c, now)
		if err != nil {
			return err
		}
		state, err := usable(tx, l, now)
		if err != nil {
			return err
		}
		m, err := spool.LoadMessage(tx, p.Custody, l.message)
		if err != nil {
			return err
		}
		// The link's row could name another message: only the right one has the
		// key that opens this delivery.
		if _, err := spool.LoadDelivery(tx, m.Key, l.delivery); err != nil {
			return err
		}
		o, late = &Opened{message: m, delivery: l.delivery}, state == spool.Waiting
		return nil
	})
	return o, late, err
}

func (p *Pickup) parse(ctx context.Context, o *Opened) error {
	body := p.Blob.Open(ctx, o.message.Key, o.message.Blob)
	defer body.Close()
	v, err := mail.Parse(io.MultiReader(bytes.NewReader(o.message.Header), body),
		mail.Limits{Bytes: int64(len(o.message.Header)) + o.message.Size + 1})
	if err != nil {
		return err
	}
	o.View, o.Date = v, v.Date
	if o.Date.IsZero() {
		o.Date = o.message.CreatedAt
	}
	for _, a := range v.Attachments {
		o.Files = append(o.Files, File{Index: a.Index, Name: a.Filename, ContentType: a.ContentType, Size: a.Size})
	}
	for _, i := range v.Inline {
		n := len(o.Files)
		o.Files = append(o.Files, File{Index: n, Name: pictureName(i), ContentType: i.ContentType, Size: int64(i.Content.Len()), Inline: true})
	}
	if !v.HTML.Empty() {
		o.Files = append(o.Files, File{Index: len(o.Files), Name: private.NewString("message.html"), ContentType: "text/html",
			Size: int64(len(v.HTML.Reveal())), Page: true})
	}
	return nil
}

func pictureName(i mail.Inline) private.String {
	ext := map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}[i.ContentType]
	name := mail.SafeFilename(i.ContentID.Reveal())
	if name == "" {
		name = "picture"
	}
	return private.NewString(name + ext)
}

func (o *Opened) content(f File) (io.Reader, error) {
	switch {
	case f.Page:
		return bytes.NewReader([]byte(o.View.HTML.Reveal())), nil
	case f.Inline:
		return bytes.NewReader(o.View.Inline[f.Index-len(o.View.Attachments)].Content.Reveal()), nil
	}
	return o.View.OpenAttachment(f.Index)
}

// Download gives one file of an opened message, after the ledger has the fact
// that it was given.
func (p *Pickup) Download(ctx context.Context, o *Opened, n int) (File, io.Reader, error) {
	if n < 0 || n >= len(o.Files) {
		return File{}, nil, ErrNoFile
	}
	f := o.Files[n]
	r, err := o.content(f)
	if err != nil {
		return f, nil, err
	}
	now := p.Clock.Now()
	err = p.DB.Write(ctx, o.message.Org, func(tx *db.Tx) error {
		return ledger.Append(tx, ledger.Fact{Type: ledger.PickupDownloaded, Message: o.message.ID, Delivery: o.delivery, At: now,
			Data: downloadedFact{n, f.Size}, Private: downloadedPrivate{f.Name.Reveal()}, Key: o.message.Key})
	})
	return f, r, err
}
