package restart

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// turns hands out restarts in a fair order: the namespace that has the fewest in flight is next; among
// those the one that has waited for the longest, by what its report says, and then the first by name. One
// gets more than half of what its policy allows at once only when no other one can use it. While an open
// breaker lets one be tried, that is the one whose failure would cost the least, of a namespace in which
// nothing has failed.
type turns struct {
	ledger *ledger
	queues []*queue
}

// queue are the candidates of one namespace that have not had their turn.
type queue struct {
	namespace  string
	candidates []candidate
	// served is when it had its last turn.
	served time.Time
	// failed, rank and size say what the first of the candidates would cost as the one that is tried; 0
	// while everything goes on.
	failed, rank, size int
}

// moveUp looks at the candidate that is the first now.
func (q *queue) moveUp() {
	q.failed, q.rank, q.size = 0, 0, 0
	if len(q.candidates) == 0 {
		return
	}
	if s := q.candidates[0].situation; s.pass.breakers.tryOne(s, true) {
		// The owner's word is about the namespace alone.
		q.failed, q.rank, q.size = s.pass.breakers.failedIn(s), max(1, rankAsFirst(s.workload)), s.workload.Pods.Running
	}
}

// newTurns puts the candidates of each namespace in order.
func newTurns(candidates []candidate, ledger *ledger) *turns {
	byName := map[string]*queue{}
	t := &turns{ledger: ledger}
	for _, c := range candidates {
		q, found := byName[c.plan.Name]
		if !found {
			q = &queue{namespace: c.plan.Name, served: lastTurn(c.situation.pass.reported(c.plan.Name))}
			byName[c.plan.Name] = q
			t.queues = append(t.queues, q)
		}
		q.candidates = append(q.candidates, c)
	}
	for _, q := range t.queues {
		slices.SortStableFunc(q.candidates, inOrder)
		q.moveUp()
	}
	heap.Init(t)
	return t
}

// lastTurn is when the newest restart began of which a report tells, also of workloads that are gone.
func lastTurn(report *v1alpha1.MeshReportStatus) time.Time {
	var last time.Time
	if report == nil {
		return last
	}
	for i := range report.Recent {
		if started := report.Recent[i].StartTime.Time; started.After(last) {
			last = started
		}
	}
	return last
}

// next is the candidate whose turn it is. What has been decided about those before it counts.
func (t *turns) next() (candidate, bool) {
	for len(t.queues) > 0 {
		heap.Fix(t, 0) // the one before may have taken a place
		first := t.queues[0]
		if len(first.candidates) == 0 {
			heap.Pop(t)
			continue
		}
		next := first.candidates[0]
		first.candidates = first.candidates[1:]
		first.moveUp()
		return next, true
	}
	return candidate{}, false
}

// inOrder compares candidates of a namespace. Where it is to be shown that injection works, or that
// restarts go well again, the one that is to go first comes first. Otherwise those that serve nothing now
// do; StatefulSets are the last, and the small come before the large.
func inOrder(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.turn(), b.turn()),
		cmp.Compare(a.situation.workload.Pods.Running, b.situation.workload.Pods.Running),
		strings.Compare(a.situation.workload.Key.String(), b.situation.workload.Key.String()),
	)
}

func (c *candidate) turn() int {
	if c.situation.trial().open() || c.situation.pass.breakers.tryOne(c.situation, false) {
		return rankAsFirst(c.situation.workload)
	}
	return turn(c.situation.workload)
}

func turn(workload *inventory.Workload) int {
	switch {
	case workload.Pods.Ready == 0:
		return 0
	case workload.Key.Kind == "StatefulSet":
		return 2
	default:
		return 1
	}
}

func (t *turns) used(i int) int { return t.ledger.namespaces[t.queues[i].namespace].used.workloads }

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (t *turns) Len() int { return len(t.queues) }

// Less is documented at Len.
func (t *turns) Less(i, j int) bool {
	a, b := t.queues[i], t.queues[j]
	return cmp.Or(cmp.Compare(a.failed, b.failed), cmp.Compare(a.rank, b.rank), cmp.Compare(a.size, b.size),
		cmp.Compare(t.used(i), t.used(j)), a.served.Compare(b.served), strings.Compare(a.namespace, b.namespace)) < 0
}

// Swap is documented at Len.
func (t *turns) Swap(i, j int) { t.queues[i], t.queues[j] = t.queues[j], t.queues[i] }

// Push is documented at Len; nothing is ever pushed.
func (t *turns) Push(any) {}

// Pop is documented at Len.
func (t *turns) Pop() any {
	last := t.queues[len(t.queues)-1]
	t.queues = t.queues[:len(t.queues)-1]
	return last
}
