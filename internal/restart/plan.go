package restart

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Plan is what is decided.
type Plan struct {
	// Namespaces that a policy governs or in which a restart counts or ends, by name.
	Namespaces []*NamespacePlan
	// Policies is what is said of each policy that governs one of them.
	Policies map[*Policy]*PolicyPlan
	// NextChange is when time alone may change the plan; zero where it may not.
	NextChange time.Time
}

// PolicyPlan is what is said of a policy as a whole.
type PolicyPlan struct {
	// Gate is why the policy may start nothing; nil where it may.
	Gate *Gate
	// Breaker is nil while it is closed.
	Breaker *v1alpha1.BreakerStatus
}

// NamespacePlan is what is decided about one namespace.
type NamespacePlan struct {
	*inventory.Namespace
	// Policy that governs the namespace; nil where none does any more.
	Policy *Policy
	// Verdicts on the workloads that are not complete, the worst first.
	Verdicts []Verdict
	// Breaker is nil while it is closed.
	Breaker *v1alpha1.BreakerStatus
	// Recheck are restarts that have not ended and of whose workloads another restart is in flight, or nothing is
	// known: what became of them must be read from the API server.
	Recheck []*inventory.Restart
	// Surplus are MeshRestarts that are not kept any more.
	Surplus []*inventory.Restart
}

// Steps are what must be done, in its order: how restarts have ended comes first.
func (p *Plan) Steps() iter.Seq2[*NamespacePlan, *Verdict] {
	return func(yield func(*NamespacePlan, *Verdict) bool) {
		for _, finishes := range []bool{true, false} {
			for _, namespace := range p.Namespaces {
				for i := range namespace.Verdicts {
					verdict := &namespace.Verdicts[i]
					if verdict.Step != StepNone && finishes == (verdict.Step == StepFinish) && !yield(namespace, verdict) {
						return
					}
				}
			}
		}
	}
}

func (p *Plan) wakeAt(at, now time.Time) {
	if !at.IsZero() && at.Before(now) {
		at = now
	}
	p.NextChange = earlier(p.NextChange, at)
}

// sortVerdicts puts first what somebody must act on, then what is going on, then what waits.
func (n *NamespacePlan) sortVerdicts() {
	slices.SortStableFunc(n.Verdicts, func(a, b Verdict) int {
		return cmp.Or(
			cmp.Compare(urgency(&a), urgency(&b)),
			strings.Compare(a.Workload.Key.Kind, b.Workload.Key.Kind),
			strings.Compare(a.Workload.Key.Name, b.Workload.Key.Name),
			strings.Compare(a.Workload.Key.Group, b.Workload.Key.Group),
		)
	})
}

func urgency(verdict *Verdict) int {
	switch {
	case verdict.NeedsAction():
		return 0
	case verdict.Action == v1alpha1.ActionInFlight:
		return 1
	case verdict.Action == v1alpha1.ActionRestart:
		return 2
	default:
		return 3
	}
}
