package restart

import (
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// exceedsDisruptionBudget holds where a restart would take down more Pods at once than a PodDisruptionBudget allows.
func exceedsDisruptionBudget(c *Candidate) *hold {
	if c.method().name == v1alpha1.MethodEviction {
		return disruptionBudgetAllowsNone(c)
	}
	object := c.workload.Object
	if c.method().name == v1alpha1.MethodRestartAt {
		return argoMayEvictNone(c)
	}
	if object.Strategy.MaxUnavailable == 0 || c.workload.Pods.Ready == 0 {
		return nil
	}
	for _, budget := range c.disruptionBudgets() {
		switch answer := exceeds(budget, fmt.Sprintf("Its strategy may take down %s at once", count(object.Strategy.MaxUnavailable, "Pod")),
			object.Strategy.MaxUnavailable); {
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

// disruptionBudgetAllowsNone holds where an eviction would be refused. One of a Pod that is not ready
// may not be.
func disruptionBudgetAllowsNone(c *Candidate) *hold {
	if covering := c.disruptionBudgets(); len(covering) == 1 {
		switch pods := c.workload.Pods; {
		case pods.ToReplaceReady+pods.ToReplacePending < pods.ToReplace:
			return c.unreadyMayNotBeEvicted(covering[0])
		case pods.ToReplacePending > 0:
			return nil // these go first, and no budget protects them
		}
	}
	return c.readyMayNotBeEvicted("Its Pods would be evicted", "Loosen the budget, or have new Pods come before old ones go "+
		"(maxUnavailable: 0 with a maxSurge).")
}

// readyMayNotBeEvicted holds where the API server would refuse to evict Pods that are ready, whoever asks it.
// The cure is of a budget that never allows it.
func (c *Candidate) readyMayNotBeEvicted(does, cure string) *hold {
	covering := c.disruptionBudgets()
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
			message: fmt.Sprintf("PodDisruptionBudgets %s and %s both cover it, and Kubernetes evicts no such Pod. Leave it one of them.",
				covering[0].Name, covering[1].Name)}
	}
}

// unreadyMayNotBeEvicted holds where the API server would refuse to evict Pods that are not ready, which go
// first (https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy).
func (c *Candidate) unreadyMayNotBeEvicted(budget *inventory.DisruptionBudget) *hold {
	if budget.EvictsUnready || budget.Healthy >= budget.Desired {
		return nil
	}
	answer := &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Its Pods that are not ready would be evicted first, and PodDisruptionBudget %s allows that only while as many "+
			"are healthy as it needs (%d healthy, %d needed).", budget.Name, budget.Healthy, budget.Desired)}
	if failing := c.workload.AnyFailing(); failing != nil {
		answer.clearsBy = v1alpha1.ClearedByOwner
		answer.message += fmt.Sprintf(" One does not become ready by itself: %s.", describe(failing))
	}
	answer.message += fmt.Sprintf(" Set unhealthyPodEvictionPolicy: AlwaysAllow, or delete the Pods that are not ready; those that "+
		"follow are %s.", c.newPodsAre())
	return answer
}

// exceeds is the hold of a workload that takes down more Pods at once than a disruption budget allows.
// Its owner clears it where the budget never allows as many.
func exceeds(budget *inventory.DisruptionBudget, does string, takes int) *hold {
	answer := &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster}
	switch {
	case !budget.Observed:
		answer.message = fmt.Sprintf("PodDisruptionBudget %s covers it and has changed; the disruption controller has not said yet how many "+
			"Pods may be down.", budget.Name)
	case budget.Allowed >= takes:
		return nil
	default:
		answer.message = fmt.Sprintf("%s, and PodDisruptionBudget %s allows %d now (%d healthy, %d needed).", does, budget.Name,
			budget.Allowed, budget.Healthy, budget.Desired)
		if budget.Expected-budget.Desired < takes {
			answer.clearsBy = v1alpha1.ClearedByOwner
		}
	}
	return answer
}

// disruptionBudgets are those that cover the workload's Pods.
func (c *Candidate) disruptionBudgets() []*inventory.DisruptionBudget {
	return c.namespace.BudgetsOver(c.workload.Template.Labels)
}

// exhausted is a disruption budget that allows no Pod of the workload to be evicted now; nil if all do.
func (c *Candidate) exhausted() *inventory.DisruptionBudget {
	for _, budget := range c.disruptionBudgets() {
		if budget.Allowed == 0 {
			return budget
		}
	}
	return nil
}

// sharesDisruptionBudget holds where a workload that is in flight counts against the same
// PodDisruptionBudget: rolling updates do not ask them.
func sharesDisruptionBudget(c *Candidate) *hold {
	for _, budget := range c.disruptionBudgets() {
		for _, other := range c.pass.budgets.inFlight[c.namespace.Name] {
			if budget.Selector.Matches(labels.Set(other.Template.Labels)) {
				return &hold{reason: ReasonSharesDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster,
					message: fmt.Sprintf("PodDisruptionBudget %s also covers a workload that is being restarted; one follows the other.", budget.Name)}
			}
		}
	}
	return nil
}
