package restart

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// memoryLasts is how long a workload is remembered of which nothing has happened.
const memoryLasts = 24 * time.Hour

// How soon what was refused is tried again: after a time that doubles from firstRetry up to lastRetry.
const (
	firstRetry = 2 * time.Second
	lastRetry  = 15 * time.Second
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
	past.Refused, past.Until = why, now.Add(Backoff(past.Refusals))
	past.Refusals++
	r.setEvictions(uid, past, now)
	return first
}

func (r *Recorder) setEvictions(uid types.UID, past Evictions, now time.Time) {
	if r.known.Evictions == nil {
		r.known.Evictions = map[types.UID]Evictions{}
	}
	maps.DeleteFunc(r.known.Evictions, func(_ types.UID, old Evictions) bool {
		return now.Sub(old.Last) > memoryLasts && now.Sub(old.Until) > memoryLasts
	})
	r.known.Evictions[uid] = past
}

// SpecChanged remembers that the spec of a workload changed before it could be restarted.
func (r *Recorder) SpecChanged(uid types.UID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known.SpecChanges == nil {
		r.known.SpecChanges = map[types.UID]SpecChanges{}
	}
	maps.DeleteFunc(r.known.SpecChanges, func(_ types.UID, old SpecChanges) bool { return now.Sub(old.Until) > memoryLasts })
	past := r.known.SpecChanges[uid]
	r.known.SpecChanges[uid] = SpecChanges{InARow: past.InARow + 1, Until: now.Add(Backoff(past.InARow))}
}

// Served remembers that a restart was begun in a namespace.
func (r *Recorder) Served(namespace string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known.Served == nil {
		r.known.Served = map[string]time.Time{}
	}
	maps.DeleteFunc(r.known.Served, func(_ string, last time.Time) bool { return now.Sub(last) > memoryLasts })
	if last := r.known.Served[namespace]; last.Before(now) {
		r.known.Served[namespace] = now
	}
}

// Restarted remembers that a workload could be restarted.
func (r *Recorder) Restarted(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known.SpecChanges, uid)
}

// Backoff is how long to wait after a refusal that so many came before.
func Backoff(before int) time.Duration { return min(firstRetry<<min(before, 16), lastRetry) }
