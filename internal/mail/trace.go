package mail

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

// FormatDate writes a date-time (RFC 5322 section 3.3) in UTC.
func FormatDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700") }

// NewMessageID makes a Message-ID of 128 random bits under a domain of ours.
func NewMessageID(domain string) string { return "<" + randomHex() + "@" + domain + ">" }

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// checkMessageID accepts <left@right> of visible ASCII (RFC 5322 section
// 3.6.4).
func checkMessageID(s string) error {
	bad := fault.New(fault.Invalid, "bad_message_id", "The Message-ID is not of the form <something@example.org>.")
	in, ok1 := strings.CutPrefix(s, "<")
	in, ok2 := strings.CutSuffix(in, ">")
	left, right, ok3 := strings.Cut(in, "@")
	if !ok1 || !ok2 || !ok3 || left == "" || right == "" || len(s) > 250 || strings.ContainsAny(in, "<>@ \t()\\\",;") && strings.Count(in, "@") != 1 {
		return bad
	}
	for i := 0; i < len(in); i++ {
		if in[i] <= ' ' || in[i] >= 0x7f || strings.IndexByte("<>()\\\",;", in[i]) >= 0 {
			return bad
		}
	}
	return nil
}

// Trace is what a Received field tells (RFC 5321 section 4.4).
type Trace struct {
	EHLO string // as the client said it; left out unless it is a full host name
	// Peer is the client's address, of mail from outside only: otherwise it
	// would tell every recipient where a member of the organization sits.
	Peer     netip.Addr
	By       string // our host name
	Protocol string // ESMTPSA and the like (RFC 3848); HTTP for the API
	ID       string
	At       time.Time
}

// Received gives the value of a Received field.
func Received(t Trace) string {
	var b strings.Builder
	if d, err := ParseDomain(t.EHLO); err == nil && strings.Contains(d, ".") {
		b.WriteString("from " + d + " ")
	} else if t.Peer.IsValid() {
		b.WriteString("from unknown ")
	}
	if t.Peer.IsValid() {
		literal := "[" + t.Peer.Unmap().String() + "]"
		if t.Peer.Unmap().Is6() { // RFC 5321 section 4.1.3
			literal = "[IPv6:" + t.Peer.WithZone("").String() + "]"
		}
		b.WriteString("(" + literal + ") ")
	}
	b.WriteString("by " + traceToken(t.By))
	if p := traceToken(t.Protocol); p != "" {
		b.WriteString(" with " + p)
	}
	if id := traceToken(t.ID); id != "" {
		b.WriteString(" id " + id)
	}
	b.WriteString("; " + FormatDate(t.At))
	return b.String()
}

// traceToken keeps what may stand in a word of a trace field.
func traceToken(s string) string {
	return strings.Map(func(r rune) rune {
		if isAtext(r) || r == '.' {
			return r
		}
		return -1
	}, s)
}

// Passes counts the Received fields that a host of this name has written.
func Passes(h Header, by string) (n int) {
	for _, value := range h.Values("Received") {
		words := strings.Fields(value)
		for i, w := range words[:max(0, len(words)-1)] {
			if strings.EqualFold(w, "by") && strings.EqualFold(strings.TrimRight(words[i+1], ".;"), by) {
				n++
				break
			}
		}
	}
	return n
}
