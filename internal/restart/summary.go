package restart

import (
	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Summary counts a namespace's or a policy's workloads by what is done about them, and their Pods.
type Summary struct {
	Complete, InFlight, WillRestart, Waiting, NeedsAction int
	// LeftAlone are those of Waiting that end without Fullmesh: Jobs, which run to their end.
	LeftAlone        int
	Eligible, Meshed int
	NotExpected      map[mesh.Reason]int
}

// Summarise counts what is decided about a namespace.
func (n *NamespacePlan) Summarise() Summary {
	sum := Summary{
		Complete:    len(n.Workloads) - len(n.Verdicts),
		Eligible:    n.Totals.Eligible,
		Meshed:      n.Totals.Meshed,
		NotExpected: n.Totals.NotExpected,
	}
	for i := range n.Verdicts {
		switch verdict := &n.Verdicts[i]; {
		case verdict.Action == v1alpha1.ActionInFlight:
			sum.InFlight++
		case verdict.Action == v1alpha1.ActionRestart:
			sum.WillRestart++
		case verdict.Waits():
			sum.Waiting++
			if verdict.Reason == ReasonJobRunsToCompletion {
				sum.LeftAlone++
			}
		default:
			sum.NeedsAction++
		}
	}
	return sum
}

// Add sums up two summaries.
func (s *Summary) Add(other Summary) {
	s.Complete += other.Complete
	s.InFlight += other.InFlight
	s.WillRestart += other.WillRestart
	s.Waiting += other.Waiting
	s.LeftAlone += other.LeftAlone
	s.NeedsAction += other.NeedsAction
	s.Eligible += other.Eligible
	s.Meshed += other.Meshed
	if s.NotExpected == nil {
		s.NotExpected = map[mesh.Reason]int{}
	}
	for reason, pods := range other.NotExpected {
		s.NotExpected[reason] += pods
	}
}

// NotExpectedPods is how many Pods injection does not expect.
func (s *Summary) NotExpectedPods() int {
	total := 0
	for _, pods := range s.NotExpected {
		total += pods
	}
	return total
}

// FullMesh reports whether every eligible Pod is in the mesh, and there is one. While something is
// restarted it is not yet so: Pods that are gone for a moment do not count as brought in.
func (s *Summary) FullMesh() bool {
	return s.Eligible > 0 && s.Meshed == s.Eligible && s.InFlight == 0 && s.WillRestart == 0
}

// Settled reports whether nothing is left that Fullmesh will do by itself.
func (s *Summary) Settled() bool {
	return s.InFlight == 0 && s.WillRestart == 0 && s.Waiting == s.LeftAlone
}

// WorthReporting reports whether injection expects or has made something in the namespace.
func (n *NamespacePlan) WorthReporting() bool {
	return n.Policy != nil && !n.Terminating && (n.Totals.Eligible > 0 || n.Totals.Sidecars > 0 || len(n.Verdicts) > 0)
}

// All are the verdicts on every workload, complete ones included, in the namespace's order.
func (n *NamespacePlan) All() []Verdict {
	given := make(map[*inventory.Workload]Verdict, len(n.Verdicts))
	for _, verdict := range n.Verdicts {
		given[verdict.Workload] = verdict
	}
	all := make([]Verdict, 0, len(n.Workloads))
	for _, workload := range n.Workloads {
		verdict, open := given[workload]
		if !open {
			verdict = Verdict{Workload: workload, Action: v1alpha1.ActionNone, Reason: Reason(workload.Reason), Message: workload.Message}
		}
		all = append(all, verdict)
	}
	return all
}
