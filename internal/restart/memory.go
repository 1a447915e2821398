package restart

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// memoryLasts is how long a workload is remembered of which nothing has happened.
const memoryLasts = 24 * time.Hour

// How soon what was refused is tried again: after a time that doubles from FirstRetry, up to LastRetry where the
// cluster may end it by itself.
const (
	FirstRetry = 2 * time.Second
	LastRetry  = 15 * time.Second
)

// Memory is what is remembered of workloads between decisions. It is a cache: a process that knows nothing decides
// the same a little later.
type Memory struct {
	Evictions   map[types.UID]Evictions
	SpecChanges map[types.UID]SpecChanges
	// Served is when a restart was begun last in each namespace: MeshRestarts go with their workloads, and whoever
	// deletes these must not come first each time.
	Served map[string]time.Time
}

// Evictions is what is remembered of the evictions of one workload.
type Evictions struct {
	// Last is when the API server accepted one last.
	Last time.Time
	// Refused is why it refused the newest one, since RefusedSince, and Until when to wait after that many
	// refusals in a row.
	Refused             string
	RefusedSince, Until time.Time
	Refusals            int
}

// SpecChanges is what is remembered of a workload whose spec changed each time before it could be restarted.
type SpecChanges struct {
	// InARow is how often it did, and Until when to wait.
	InARow int
	Until  time.Time
}

// Recorder remembers what became of what was decided. It is safe for concurrent use, and its zero value is ready
// for it.
type Recorder struct {
	mu    sync.Mutex
	known Memory
}

// Memory is what is remembered now.
func (r *Recorder) Memory() Memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Memory{Evictions: maps.Clone(r.known.Evictions), SpecChanges: maps.Clone(r.known.SpecChanges), Served: maps.Clone(r.known.Served)}
}

// EvictionAccepted remembers that the API server accepted an eviction.
func (r *Recorder) EvictionAccepted(uid types.UID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setEvictions(uid, Evictions{Last: now}, now)
}

// EvictionRefused remembers that it refused one, and reports whether that is the first refusal in a row.
func (r *Recorder) EvictionRefused(uid types.UID, why string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	past := r.known.Evictions[uid]
	first := past.Refused == ""
	if first {
		past.RefusedSince = now
	}
	past.Refused, past.Until = why, now.Add(Backoff(past.Refusals, LastRetry))
	past.Refusals++
	r.setEvictions(uid, past, now)
	return first
}

func (r *Recorder) setEvictions(uid types.UID, past Evictions, now time.Time) {
	r.known.Evictions = fresh(r.known.Evictions, func(old Evictions) bool {
		return now.Sub(old.Last) > memoryLasts && now.Sub(old.Until) > memoryLasts
	})
	r.known.Evictions[uid] = past
}

// SpecChanged remembers that the spec of a workload changed before it could be restarted.
func (r *Recorder) SpecChanged(uid types.UID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.SpecChanges = fresh(r.known.SpecChanges, func(old SpecChanges) bool { return now.Sub(old.Until) > memoryLasts })
	past := r.known.SpecChanges[uid]
	r.known.SpecChanges[uid] = SpecChanges{InARow: past.InARow + 1, Until: now.Add(Backoff(past.InARow, LastRetry))}
}

// Served remembers that a restart was begun in a namespace.
func (r *Recorder) Served(namespace string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.Served = fresh(r.known.Served, func(last time.Time) bool { return now.Sub(last) > memoryLasts })
	r.known.Served[namespace] = later(r.known.Served[namespace], now)
}

// Restarted remembers that a workload could be restarted.
func (r *Recorder) Restarted(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known.SpecChanges, uid)
}

// Backoff is how long to wait after a refusal that so many came before, which is longest at most.
func Backoff(before int, longest time.Duration) time.Duration {
	return min(FirstRetry<<min(before, 16), longest)
}

// fresh is what is known without what is too old. It is never nil.
func fresh[K comparable, V any](known map[K]V, isOld func(V) bool) map[K]V {
	if known == nil {
		return map[K]V{}
	}
	maps.DeleteFunc(known, func(_ K, value V) bool { return isOld(value) })
	return known
}
