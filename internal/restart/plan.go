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
	// Policies is what else is to be said of the policies that govern one of them.
	Policies map[*Policy]*Standing
	// NextLook is when time alone may change the plan; zero where it may not.
	NextLook time.Time
	// Windows are what those of each policy are now.
	Windows map[*Policy]Stretch
}

// NamespacePlan is what is decided about one namespace.
type NamespacePlan struct {
	*inventory.Namespace
	// Policy that governs the namespace; nil where none does any more.
	Policy *Policy
	// Verdicts on the workloads that are not complete, the worst first.
	Verdicts []Verdict
	Standing Standing
	// Restarted are the workloads of which Fullmesh is known to have made the restart that they tell of.
	Restarted []Restarted
	// Counts says that a restart in the namespace counts against the budgets of somebody.
	Counts bool
	// Untold are the workloads whose restart goes on and that do not tell of it any more.
	Untold []*inventory.Workload
	// believed are those of which it may have.
	believed []*inventory.Workload

	// rest are the workloads of which no restart goes on or has just ended.
	rest []*situation
	// looks are when time may change what the verdicts rest on.
	looks []time.Time
}

// Steps are what is to be done, in its order: how restarts have ended is written down before others
// begin in their place, so that at no moment more is in flight, by what is written, than may be.
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

func (p *Plan) lookAgain(at, now time.Time) {
	if !at.IsZero() && at.Before(now) {
		at = now
	}
	p.NextLook = earlier(p.NextLook, at)
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
