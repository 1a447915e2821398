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
func (s *situation) method() method {
	if s.methodNow == nil {
		if record := s.workload.Record; record.InFlight() {
			s.methodNow = &method{name: record.Method}
		} else {
			s.methodNow = new(chooseMethod(s))
		}
	}
	return *s.methodNow
}

// chooseMethod chooses by kind, strategy, share and disruption budgets.
func chooseMethod(s *situation) method {
	object := s.workload.Object
	if object == nil || !object.Restartable() {
		return method{}
	}
	if object.IsRollout() {
		return method{name: v1alpha1.MethodRestartAt}
	}
	if why := onlyEvictionHelps(s); why != "" {
		return method{v1alpha1.MethodEviction, why}
	}
	// Where the strategy brings new Pods before it takes old ones, an eviction would take more.
	surges := object.Strategy.MaxUnavailable == 0 && object.Strategy.MaxSurge > 0
	if !surges && !s.pass.EvictionDisabled {
		if why := isBetterEvicted(s); why != "" {
			return method{v1alpha1.MethodEviction, why}
		}
	}
	return method{name: v1alpha1.MethodRolloutRestart}
}

// onlyEvictionHelps says why a change of the template would recreate nothing, not everything, or not
// for long; empty where it would.
func onlyEvictionHelps(s *situation) string {
	object, record := s.workload.Object, s.workload.Record
	switch {
	case object.Owner.Exists():
		return fmt.Sprintf("%s controls it and would undo a change of the template", object.Owner.Key(object.Namespace))
	case object.Kind == "ReplicaSet":
		return "a ReplicaSet by itself does not roll out its template"
	case object.Strategy.Type == inventory.StrategyNone:
		return "its update strategy is OnDelete"
	case object.Strategy.Partition > 0:
		return fmt.Sprintf("its rolling update stops at partition %d", object.Strategy.Partition)
	case wasTakenBack(record) && !s.pass.EvictionDisabled:
		return "somebody took back the change of the template that was made last"
	default:
		return ""
	}
}

// isLeftByEvictions reports whether the Pods that are to be replaced are those that evictions have not come to.
func (s *situation) isLeftByEvictions() bool {
	record := s.workload.Record
	return record != nil && record.Method == v1alpha1.MethodEviction && record.Result != v1alpha1.ResultSucceeded && s.left(record.Cause, record.Result, s.cause())
}

// wasTakenBack reports whether somebody took back what the last restart changed in the template, and
// would again.
func wasTakenBack(record *inventory.Record) bool {
	return record != nil && record.Result == v1alpha1.ResultReverted && record.Method == v1alpha1.MethodRolloutRestart
}

// isBetterEvicted says why a rolling update would replace or take down more than it should; empty
// where it would not.
func isBetterEvicted(s *situation) string {
	object, pods := s.workload.Object, s.workload.Pods
	if s.isLeftByEvictions() {
		return "others of its Pods were evicted for the same cause"
	}
	few := pods.ToReplace*4 <= pods.Running
	if object.Kind != "Deployment" {
		few = pods.ToReplace < pods.Running
	}
	if few {
		return fmt.Sprintf("%d of its %d Pods are to be replaced and the others stay", pods.ToReplace, pods.Running)
	}
	if object.Ordered && s.workload.FailingOutside != nil && onlyOutsideIsDown(s.workload) {
		return "a rolling update would wait for a Pod that cannot become ready"
	}
	if pods.Ready == 0 {
		return ""
	}
	for _, budget := range s.disruptionBudgets() {
		if budget.Observed && budget.Allowed < object.Strategy.MaxUnavailable {
			return fmt.Sprintf("a rolling update does not ask PodDisruptionBudget %s, which allows %d Pods to be down where the strategy takes %d", budget.Name, budget.Allowed, object.Strategy.MaxUnavailable)
		}
	}
	return ""
}

// atOnce is how many Pods of the workload a method takes down or adds at once.
func (s *situation) atOnce(by v1alpha1.RestartMethod) int {
	strategy := s.workload.Object.Strategy
	switch by {
	case v1alpha1.MethodRolloutRestart:
		return strategy.AtOnce()
	case v1alpha1.MethodEviction:
		return s.evictedAtOnce()
	default:
		return max(strategy.MaxUnavailable, 1)
	}
}

// methodInWords is the method for people: rollout restart, 1 down and 1 on top at once.
func (s *situation) methodInWords() string {
	method, strategy := s.method(), s.workload.Object.Strategy
	var text string
	switch {
	case method.name == v1alpha1.MethodRolloutRestart && strategy.Type == inventory.StrategyRecreate:
		text = "rollout restart, all Pods at once"
	case method.name == v1alpha1.MethodRolloutRestart:
		text = fmt.Sprintf("rollout restart, %d down and %d on top at once", strategy.MaxUnavailable, strategy.MaxSurge)
	case method.name == v1alpha1.MethodRestartAt:
		text = fmt.Sprintf("spec.restartAt, for which Argo Rollouts evicts %d at once", s.atOnce(method.name))
	default:
		text = fmt.Sprintf("eviction of Pods: %d, %d at once", s.workload.Pods.ToReplace, s.evictedAtOnce())
	}
	if method.why != "" {
		text += ", because " + method.why
	}
	return text
}
