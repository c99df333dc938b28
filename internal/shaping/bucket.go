package shaping

import "time"

// rounding keeps the sums of floating point on the safe side.
const rounding = 1e-9

// bucket is a token bucket that keeps its rate in every stretch of time, the
// burst included: it holds burst tokens and gets (messages-burst+1) more in
// Per, so that no stretch shorter than Per has room for more than messages.
type bucket struct {
	rate   Rate
	at     time.Time // tokens were counted
	tokens float64
}

// share is the part of a rate that one of so many may use. Where that is less
// than one message, it is one in a longer time: nodes that happen to send
// together can then exceed a short stretch, but never the rate in the long run.
func (r Rate) share(parts int) Rate {
	if r.Messages >= parts {
		return Rate{r.Messages / parts, r.Per}
	}
	return Rate{1, time.Duration(float64(r.Per) * float64(parts) / float64(r.Messages))}
}

// burst is a tenth, so that a few messages need not wait for each other.
func (r Rate) burst() int { return max(1, r.Messages/10) }

// take asks for one message of one of so many that share the rate.
func (b *bucket) take(now time.Time, parts int) (ok bool, retry time.Time) {
	if b.rate.Messages <= 0 {
		return true, time.Time{}
	}
	own := b.rate.share(parts)
	burst := float64(own.burst())
	perSecond := (float64(own.Messages) - burst + 1) / own.Per.Seconds() * (1 - rounding)
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*perSecond)
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return true, time.Time{}
	}
	wait := time.Duration((1 - b.tokens) / perSecond * float64(time.Second))
	return false, now.Add(max(wait, time.Millisecond))
}
