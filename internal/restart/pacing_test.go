package restart_test

import (
	"slices"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// mayStartNow fails the test where a restart is begun outside of the windows, beside the canary, or at the cost of a namespace that waits for as much.
func (s *simulation) mayStartNow(policy *v1alpha1.MeshPolicy, namespace *restart.NamespacePlan, workload *inventory.Workload, never func(string, ...any)) {
	ready, err := restart.NewPolicy(policy)
	if err != nil {
		never("its policy cannot be used: %v", err)
	}
	if windows := restart.WindowsAt(ready, s.now); !windows.Open {
		never("the windows are closed until %s", windows.Opens)
	}
	if others := s.begun(namespace, workload); len(others) > 0 && workload.Expectation.Inject && !s.isShown(policy, namespace, workload) {
		never("nothing shows that injection works, and %s is in flight", others[0])
	}
	s.mayTakeMoreThanHalf(policy, namespace, never)
}

// begun are the others that are in flight in a namespace and get the same sidecar.
func (s *simulation) begun(namespace *restart.NamespacePlan, workload *inventory.Workload) []*app {
	return slices.DeleteFunc(slices.Clone(s.apps), func(a *app) bool {
		return a.object.GetNamespace() != namespace.Name || a.object.GetUID() == workload.Object.UID || s.unfinished(a) == nil ||
			s.known(a) == nil || s.known(a).Expectation.Revision != workload.Expectation.Revision
	})
}

// isShown reports whether a ready Pod was injected after the injector's last change,
// and one that was restarted for it has soaked.
func (s *simulation) isShown(policy *v1alpha1.MeshPolicy, namespace *restart.NamespacePlan, workload *inventory.Workload) bool {
	changed := s.inventory.Snapshot().ChangedFor(workload.Expectation)
	return slices.ContainsFunc(namespace.Workloads, func(other *inventory.Workload) bool {
		last := other.Newest()
		switch {
		case other.Expectation.Revision != workload.Expectation.Revision || other.NewestInjected <= changed.Unix():
			return false
		case last == nil || last.Start.Before(changed):
			return true
		default:
			return last.Result == v1alpha1.ResultSucceeded && !last.End.Add(soak(policy)).After(s.now)
		}
	})
}

func soak(policy *v1alpha1.MeshPolicy) time.Duration {
	if policy.Spec.SoakSeconds == nil {
		return 0
	}
	return time.Duration(*policy.Spec.SoakSeconds) * time.Second
}

// mayTakeMoreThanHalf fails the test where a namespace takes more than half of the places of its policy
// while another one waits for one. Where Pods are counted as well, a place alone may be of no use.
func (s *simulation) mayTakeMoreThanHalf(policy *v1alpha1.MeshPolicy, namespace *restart.NamespacePlan, never func(string, ...any)) {
	limit := 1 << 30
	for _, budget := range policy.Spec.Budgets {
		if budget.Scope == v1alpha1.BudgetScopePolicy {
			limit = min(limit, limitOf(budget.Workloads, s.base(budget.Scope, namespace).Workloads))
			if budget.Pods != nil {
				return
			}
		}
	}
	if taken := s.inFlight(v1alpha1.BudgetScopeNamespace, namespace).Workloads; 2*(taken+1) <= limit+1 {
		return
	}
	for _, other := range s.plan.Namespaces {
		for _, verdict := range other.Verdicts {
			if other.Name != namespace.Name && other.Policy == namespace.Policy && verdict.Reason == restart.ReasonBudgetExhausted && strings.Contains(verdict.Message, "policy's budget") {
				never("its namespace takes more than half of %d places, and %s waits", limit, verdict.Workload.Key)
			}
		}
	}
}

// inScope reports whether a workload counts against a budget that counts for a namespace.
func (s *simulation) inScope(scope v1alpha1.BudgetScope, a *app, namespace *restart.NamespacePlan) bool {
	if a.object.GetNamespace() == namespace.Name {
		return true
	}
	return scope == v1alpha1.BudgetScopePolicy && slices.ContainsFunc(s.plan.Namespaces, func(other *restart.NamespacePlan) bool {
		return other.Name == a.object.GetNamespace() && other.Policy == namespace.Policy
	})
}

// known is a workload as the inventory knows it; nil where it does not.
func (s *simulation) known(a *app) *inventory.Workload {
	for _, namespace := range s.plan.Namespaces {
		for _, workload := range namespace.Workloads {
			if workload.Object != nil && workload.Object.UID == a.object.GetUID() {
				return workload
			}
		}
	}
	return nil
}
