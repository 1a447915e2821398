package restart

import (
	"fmt"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

func exceedsDisruptionBudget(s *situation) *hold {
	if s.method().name == v1alpha1.MethodEviction {
		return disruptionBudgetAllowsNone(s)
	}
	object := s.workload.Object
	if s.method().name == v1alpha1.MethodRestartAt {
		return argoMayEvictNone(s)
	}
	if object.Strategy.MaxUnavailable == 0 || s.workload.Pods.Ready == 0 {
		return nil
	}
	for _, budget := range s.disruptionBudgets() {
		switch answer := exceeds(budget, fmt.Sprintf("Its strategy may take down %d Pods at once", object.Strategy.MaxUnavailable), object.Strategy.MaxUnavailable); {
		case answer == nil:
		case answer.clearsBy == v1alpha1.ClearedByOwner:
			answer.message += " It never allows as many. Set maxUnavailable: 0 with a maxSurge, or loosen the budget."
			return answer
		default:
			return answer
		}
	}
	return nil
}

// disruptionBudgetAllowsNone speaks where an eviction would be refused. One of a Pod that is not ready
// may not be.
func disruptionBudgetAllowsNone(s *situation) *hold {
	if covering := s.disruptionBudgets(); len(covering) == 1 {
		switch pods := s.workload.Pods; {
		case pods.ToReplaceReady+pods.ToReplacePending < pods.ToReplace:
			return s.unreadyMayNotBeEvicted(covering[0])
		case pods.ToReplacePending > 0:
			return nil // these go first, and no budget protects them
		}
	}
	return s.readyMayNotBeEvicted("Its Pods would be evicted", "Loosen the budget, or have new Pods come before old ones go (maxUnavailable: 0 with a maxSurge).")
}

// readyMayNotBeEvicted speaks where the API server would refuse to evict Pods that are ready, whoever asks it.
// The cure is of a budget that never allows it.
func (s *situation) readyMayNotBeEvicted(does, cure string) *hold {
	covering := s.disruptionBudgets()
	switch len(covering) {
	case 0:
		return nil
	case 1:
		answer := exceeds(covering[0], does, 1)
		if answer != nil && answer.clearsBy == v1alpha1.ClearedByOwner {
			answer.message += " It never allows any. " + cure
		}
		return answer
	default:
		return &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("PodDisruptionBudgets %s and %s both cover it, and Kubernetes evicts no such Pod. Leave it one of them.", covering[0].Name, covering[1].Name)}
	}
}

// unreadyMayNotBeEvicted speaks where the API server would refuse to evict Pods that are not ready, which go
// first (https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy).
func (s *situation) unreadyMayNotBeEvicted(budget *inventory.DisruptionBudget) *hold {
	if budget.EvictsUnready || budget.Healthy >= budget.Desired {
		return nil
	}
	answer := &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Its Pods that are not ready would be evicted first, and PodDisruptionBudget %s allows that only while as many are healthy as it needs (%d healthy, %d needed).", budget.Name, budget.Healthy, budget.Desired)}
	if failing := s.workload.AnyFailing(); failing != nil {
		answer.clearsBy = v1alpha1.ClearedByOwner
		answer.message += fmt.Sprintf(" One does not become ready by itself: %s.", describe(failing))
	}
	answer.message += fmt.Sprintf(" Set unhealthyPodEvictionPolicy: AlwaysAllow, or delete the Pods that are not ready; those that follow are %s.", s.come())
	return answer
}

// exceeds is the hold of a workload that takes down more Pods at once than a disruption budget allows.
// Its owner clears it where the budget never allows as many.
func exceeds(budget *inventory.DisruptionBudget, does string, takes int) *hold {
	answer := &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster}
	switch {
	case !budget.Observed:
		answer.message = fmt.Sprintf("PodDisruptionBudget %s covers it and has changed; the disruption controller has not said yet how many Pods may be down.", budget.Name)
	case budget.Allowed >= takes:
		return nil
	default:
		answer.message = fmt.Sprintf("%s and PodDisruptionBudget %s allows %d now (%d healthy, %d needed).", does, budget.Name, budget.Allowed, budget.Healthy, budget.Desired)
		if budget.Expected-budget.Desired < takes {
			answer.clearsBy = v1alpha1.ClearedByOwner
		}
	}
	return answer
}

// disruptionBudgets are those that cover the workload's Pods.
func (s *situation) disruptionBudgets() []*inventory.DisruptionBudget {
	return s.namespace.BudgetsOver(s.workload.Template.Labels)
}

// exhausted is a disruption budget that allows no Pod of the workload to be evicted now; nil if all do.
func (s *situation) exhausted() *inventory.DisruptionBudget {
	for _, budget := range s.disruptionBudgets() {
		if budget.Allowed == 0 {
			return budget
		}
	}
	return nil
}
