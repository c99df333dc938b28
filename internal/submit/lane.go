package submit

import (
	"strconv"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
)

// Fields by which programs that speak SMTP ask for a lane. They are ours alone
// and are not sent.
const (
	streamField   = "X-Sealpost-Stream"
	priorityField = "X-Sealpost-Priority"
)

// asked is the lane that a draft or its header asks for. It takes the fields
// out of the header.
func asked(draft Draft, h *mail.Header) (spool.Lane, error) {
	stream, priority := draft.Stream, spool.DefaultPriority
	if draft.Priority != nil {
		priority = *draft.Priority
	}
	if h.Has(streamField) && stream == "" {
		if stream = spool.Stream(h.Get(streamField)); !stream.Valid() {
			return 0, fault.New(fault.Invalid, "unknown_stream", "The field X-Sealpost-Stream says transactional or bulk.")
		}
	}
	if h.Has(priorityField) && draft.Priority == nil {
		n, err := strconv.Atoi(h.Get(priorityField))
		if err != nil || n < 0 || n > spool.LastPriority {
			return 0, fault.Newf(fault.Invalid, "bad_priority",
				"The field X-Sealpost-Priority is a number from 0, the first, to %d, the last.", spool.LastPriority)
		}
		priority = n
	}
	h.Del(streamField)
	h.Del(priorityField)
	return spool.LaneOf(stream, priority), nil
}
