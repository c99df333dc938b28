package spool

// Stream is what kind of traffic a message belongs to.
type Stream string

// The streams. Bulk mail waits behind transactional mail, has a share of
// memory of its own and gets a turn now and then.
const (
	Transactional Stream = "transactional"
	Bulk          Stream = "bulk"
)

// Valid reports whether s is one of the streams.
func (s Stream) Valid() bool { return s == Transactional || s == Bulk }

// Priorities within a stream: 0 goes first and 9 last.
const (
	LastPriority    = 9
	DefaultPriority = 5
)

// Lane is a stream and a priority in one number: lower lanes go first.
type Lane int64

// DefaultLane is that of mail of which nothing is said.
const DefaultLane Lane = DefaultPriority

const perStream = LastPriority + 1

// LaneOf gives the lane of a stream and a priority.
func LaneOf(s Stream, priority int) Lane {
	lane := Lane(min(max(priority, 0), LastPriority))
	if s == Bulk {
		lane += perStream
	}
	return lane
}

// Stream is the lane's stream.
func (l Lane) Stream() Stream {
	if l >= perStream {
		return Bulk
	}
	return Transactional
}

// Priority is the lane's priority within its stream.
func (l Lane) Priority() int { return int(l % perStream) }
