package controllers

import (
	"maps"
	"time"

	"github.com/fullmesh/fullmesh/internal/restart"
)

// What fails is tried again after a time that doubles, up to restart.LastRetry where the cluster may
// fix it by itself, and up to lastRetryByHand where somebody must. Failures are remembered for as long
// as failuresAreKept.
const (
	lastRetryByHand = time.Minute
	failuresAreKept = time.Hour
)

// backOff remembers what has failed, how often in a row, and until when it is left alone. Its zero
// value is ready for use, by one goroutine at a time.
type backOff[K comparable] struct{ known map[K]failures }

type failures struct {
	inARow int
	until  time.Time
}

// failed counts one more failure and returns until when to wait, which is longest at most.
func (b *backOff[K]) failed(key K, now time.Time, longest time.Duration) time.Time {
	if b.known == nil {
		b.known = map[K]failures{}
	}
	maps.DeleteFunc(b.known, func(_ K, old failures) bool { return now.Sub(old.until) > failuresAreKept })
	failed := b.known[key]
	failed.until = now.Add(restart.Backoff(failed.inARow, longest))
	failed.inARow++
	b.known[key] = failed
	return failed.until
}

// succeeded forgets the failures.
func (b *backOff[K]) succeeded(key K) { delete(b.known, key) }

// wait is for how long to leave it alone.
func (b *backOff[K]) wait(key K, now time.Time) time.Duration {
	return max(0, b.known[key].until.Sub(now))
}
