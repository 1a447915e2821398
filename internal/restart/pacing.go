package restart

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// fairQueue gives the candidates in a fair order: the namespace that has the fewest in flight is next; among
// those the one that has waited for the longest, by the ledger, and then the first by name. One
// gets more than half of what its policy allows at once only when no other one can use it. While a probe is due for a
// policy, that is the workload whose failure would cost the least, of a namespace in which nothing has failed and
// nothing was restarted since the breaker opened.
type fairQueue struct {
	budgets    *accounts
	namespaces []*namespaceQueue
}

// queued is a candidate that waits for its turn.
type queued struct {
	candidate *Candidate
	plan      *NamespacePlan
}

// namespaceQueue are the candidates of one namespace that have not had their turn.
type namespaceQueue struct {
	namespace string
	queued    []queued
	// served is when it had its last turn.
	served time.Time
	// failed, rank and size say what the first of the candidates would cost as a probe; 0 while none is due.
	failed, rank, size int
}

// evaluateFirst looks at the candidate that is the first now.
func (q *namespaceQueue) evaluateFirst() {
	q.failed, q.rank, q.size = 0, 0, 0
	if len(q.queued) == 0 {
		return
	}
	if c := q.queued[0].candidate; c.pass.breakers.probeIsDue(c, true) {
		// The owner's word is about the namespace alone.
		q.failed, q.rank, q.size = len(c.pass.breakers.namespaces[q.namespace].failures), max(1,
			rankAsCanary(c.workload)), c.workload.Pods.Running
		if q.served.After(c.pass.breakers.policies[c.policy].since) {
			q.failed++ // that was a probe: an owner who takes back its failure does not get the next one as well
		}
	}
}

// newFairQueue puts the candidates of each namespace in order.
func newFairQueue(candidates []queued, budgets *accounts) *fairQueue {
	byName := map[string]*namespaceQueue{}
	f := &fairQueue{budgets: budgets}
	for _, waiting := range candidates {
		q, found := byName[waiting.plan.Name]
		if !found {
			q = &namespaceQueue{namespace: waiting.plan.Name, served: waiting.candidate.pass.lastStart(waiting.plan.Namespace)}
			byName[waiting.plan.Name] = q
			f.namespaces = append(f.namespaces, q)
		}
		q.queued = append(q.queued, waiting)
	}
	for _, q := range f.namespaces {
		slices.SortStableFunc(q.queued, inOrder)
		q.evaluateFirst()
	}
	heap.Init(f)
	return f
}

// lastStart is when the newest restart of a namespace began, as far as the ledger or memory says.
func (p *pass) lastStart(namespace *inventory.Namespace) time.Time {
	last := p.Memory.Served[namespace.Name]
	if len(namespace.Restarts) > 0 {
		last = later(last, namespace.Restarts[0].Start)
	}
	return last
}

// next is the candidate whose turn it is; nil where none is left. What has been decided about those before it counts.
func (f *fairQueue) next() *queued {
	for len(f.namespaces) > 0 {
		heap.Fix(f, 0) // the one before may have taken a place
		first := f.namespaces[0]
		if len(first.queued) == 0 {
			heap.Pop(f)
			continue
		}
		next := first.queued[0]
		first.queued = first.queued[1:]
		first.evaluateFirst()
		return &next
	}
	return nil
}

// inOrder compares candidates of a namespace. Where a canary or a probe is needed, the one that is best as such comes
// first. Otherwise those that serve nothing now do; StatefulSets are the last, and the small come before the large.
func inOrder(a, b queued) int {
	return cmp.Or(
		cmp.Compare(a.rank(), b.rank()),
		cmp.Compare(a.candidate.workload.Pods.Running, b.candidate.workload.Pods.Running),
		strings.Compare(a.candidate.workload.Key.String(), b.candidate.workload.Key.String()),
	)
}

func (q *queued) rank() int {
	c := q.candidate
	switch {
	case c.canary().isNeeded() || c.pass.breakers.probeIsDue(c, false):
		return rankAsCanary(c.workload)
	case c.workload.Pods.Ready == 0:
		return 0
	case c.workload.Key.Is().ByOrdinal:
		return 2
	default:
		return 1
	}
}

func (f *fairQueue) used(i int) int {
	return f.budgets.namespaces[f.namespaces[i].namespace].used.workloads
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (f *fairQueue) Len() int { return len(f.namespaces) }

// Less is documented at Len.
func (f *fairQueue) Less(i, j int) bool {
	a, b := f.namespaces[i], f.namespaces[j]
	return cmp.Or(cmp.Compare(a.failed, b.failed), cmp.Compare(a.rank, b.rank), cmp.Compare(a.size, b.size),
		cmp.Compare(f.used(i), f.used(j)), a.served.Compare(b.served), strings.Compare(a.namespace, b.namespace)) < 0
}

// Swap is documented at Len.
func (f *fairQueue) Swap(i, j int) {
	f.namespaces[i], f.namespaces[j] = f.namespaces[j], f.namespaces[i]
}

// Push is documented at Len; nothing is ever pushed.
func (f *fairQueue) Push(any) {}

// Pop is documented at Len.
func (f *fairQueue) Pop() any {
	last := f.namespaces[len(f.namespaces)-1]
	f.namespaces = f.namespaces[:len(f.namespaces)-1]
	return last
}
