package inbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/fault"
)

var errTooLarge = fault.New(fault.TooLarge, "message_too_large", "The message is larger than this server accepts.")

// limited ends a message that is larger than it may be.
type limited struct {
	r    io.Reader
	left int64
	over bool
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		l.over = true
		return 0, errTooLarge
	}
	return n, err
}

// read keeps as much of a mail as there is room for, reads the rest away, and
// tells what it says. Where there is no room the beginning must do: a report
// stands in front of what it returns.
func (d *Door) read(ctx context.Context, in io.Reader) (classify.Report, error) {
	var kept bytes.Buffer
	_, err := io.CopyN(&kept, in, keptAlways)
	const more = keptMax - keptAlways
	if err == nil && d.room.TryAcquire(more) {
		defer d.room.Release(more)
		_, err = io.CopyN(&kept, in, more)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return classify.Report{}, err
	}
	if err := d.readers.Acquire(ctx, 1); err != nil {
		return classify.Report{}, err
	}
	defer d.readers.Release(1)
	return classify.Read(&kept)
}

// What is counted.
const (
	countBounce = iota
	countDelay
	countDelivered
	countComplaint
	countAutoreply
	countUnreadable // mail to a return path that says nothing of a delivery
	countRepeated   // what was recorded before
	countForged
	countLate
	countUnknown
	countLarge
	countReport
	countPostmaster
	countMember
	countMemberRefused
	countMemberLater
	countKinds
)

var countWords = [countKinds]string{"bounce", "delay", "delivered", "complaint", "autoreply", "unreadable", "repeated",
	"forged", "late", "unknown", "too_large", "report", "postmaster", "member", "member_refused", "member_later"}

type counts [countKinds]atomic.Int64

func (c *counts) add(what int) { c[what].Add(1) }

// Counts tells how often each thing has come since this node began.
func (d *Door) Counts() map[string]int64 {
	all := map[string]int64{}
	for i := range d.counts {
		all[countWords[i]] = d.counts[i].Load()
	}
	return all
}

// Bounces tells how often mail came back after it was taken, by class, since
// this node began.
func (d *Door) Bounces() map[string]int64 {
	all := map[string]int64{}
	for class, n := range d.bounces {
		all[class] = n.Load()
	}
	return all
}
