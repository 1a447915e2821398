package restart

import (
	"fmt"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// method is how a workload is restarted, and why in this way.
type method struct {
	// name is empty where the workload cannot be restarted.
	name v1alpha1.RestartMethod
	// why is the reason as a clause that follows "because"; empty where the method is the usual one.
	why string
}

// method is the one by which the workload is being restarted, or the one that is chosen for its next
// restart.
func (c *Candidate) method() method {
	if c.methodNow == nil {
		if r := c.workload.InFlight; r != nil {
			c.methodNow = &method{name: r.Method}
		} else {
			c.methodNow = new(chooseMethod(c))
		}
	}
	return *c.methodNow
}

// chooseMethod chooses by kind, strategy, share and disruption budgets.
func chooseMethod(c *Candidate) method {
	object := c.workload.Object
	if object == nil || !object.Restartable() {
		return method{}
	}
	if object.IsRollout() {
		return method{name: v1alpha1.MethodRestartAt}
	}
	if why := onlyEvictionHelps(c); why != "" {
		return method{v1alpha1.MethodEviction, why}
	}
	// Where the strategy brings new Pods before it takes old ones, an eviction would take more.
	surges := object.Strategy.MaxUnavailable == 0 && object.Strategy.MaxSurge > 0
	if !surges && !c.pass.EvictionDisabled {
		if why := isBetterEvicted(c); why != "" {
			return method{v1alpha1.MethodEviction, why}
		}
	}
	return method{name: v1alpha1.MethodRolloutRestart}
}

// onlyEvictionHelps says why a change of the template would recreate nothing, not everything, or not
// for long; empty where it would.
func onlyEvictionHelps(c *Candidate) string {
	object := c.workload.Object
	switch {
	case object.Owner.Exists():
		return fmt.Sprintf("%s controls it and would undo a change of the template", object.Owner.Key(object.Namespace))
	case object.Is().Method == v1alpha1.MethodEviction:
		return fmt.Sprintf("a %s by itself does not roll out its template", object.Kind)
	case object.Strategy.Type == inventory.StrategyNone:
		return "its update strategy is OnDelete"
	case object.Strategy.Partition > 0:
		return fmt.Sprintf("its rolling update stops at partition %d", object.Strategy.Partition)
	case wasReverted(c.workload) && !c.pass.EvictionDisabled:
		return "somebody took back the change of the template that was made last"
	default:
		return ""
	}
}

// isBetterEvicted says why a rolling update would replace or take down more than it should; empty
// where it would not.
func isBetterEvicted(c *Candidate) string {
	object, pods := c.workload.Object, c.workload.Pods
	if c.leftByEviction() {
		return "others of its Pods were evicted for the same cause"
	}
	few := pods.ToReplace*4 <= pods.Running
	if !object.Is().ByShare {
		few = pods.ToReplace < pods.Running
	}
	if few {
		return fmt.Sprintf("%d of its %d Pods must be replaced and the others stay", pods.ToReplace, pods.Running)
	}
	if object.Ordered && c.workload.FailingOutside != nil && onlyOutsideIsDown(c.workload) {
		return "a rolling update would wait for a Pod that cannot become ready"
	}
	if pods.Ready == 0 {
		return ""
	}
	for _, budget := range c.disruptionBudgets() {
		if budget.Observed && budget.Allowed < object.Strategy.MaxUnavailable {
			return fmt.Sprintf("a rolling update does not ask PodDisruptionBudget %s, which allows %d Pods to be down where the strategy takes %d",
				budget.Name, budget.Allowed, object.Strategy.MaxUnavailable)
		}
	}
	return ""
}

// atOnce is how many Pods of the workload a method takes down or adds at once.
func (c *Candidate) atOnce(by v1alpha1.RestartMethod) int {
	strategy := c.workload.Object.Strategy
	switch by {
	case v1alpha1.MethodRolloutRestart:
		return strategy.AtOnce()
	case v1alpha1.MethodEviction:
		return c.evictedAtOnce()
	default:
		return max(strategy.MaxUnavailable, 1)
	}
}

// atOnceBy is how many Pods a restart of the workload that is in the ledger takes down or adds at once. Its owner may
// have changed the strategy, or the number of Pods, since it was decided: that takes no more room from others.
func (c *Candidate) atOnceBy(r *inventory.Restart) int {
	now := c.atOnce(r.Method)
	if r.AtOnce > 0 {
		return min(now, r.AtOnce)
	}
	return now
}

// methodInWords is the method for people: rollout restart, 1 down and 1 on top at once.
func (c *Candidate) methodInWords() string {
	method, strategy := c.method(), c.workload.Object.Strategy
	var text string
	switch {
	case method.name == v1alpha1.MethodRolloutRestart && strategy.Type == inventory.StrategyRecreate:
		text = "rollout restart, all Pods at once"
	case method.name == v1alpha1.MethodRolloutRestart:
		text = fmt.Sprintf("rollout restart, %d down and %d on top at once", strategy.MaxUnavailable, strategy.MaxSurge)
	case method.name == v1alpha1.MethodRestartAt:
		text = fmt.Sprintf("spec.restartAt, for which Argo Rollouts evicts %d at once", c.atOnce(method.name))
	default:
		text = fmt.Sprintf("eviction of Pods: %d, %d at once", c.workload.Pods.ToReplace, c.evictedAtOnce())
	}
	if method.why != "" {
		text += ", because " + method.why
	}
	return text
}
