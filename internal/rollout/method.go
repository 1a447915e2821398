package rollout

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
	switch {
	case object == nil, !object.Restartable():
		return method{}
	case object.IsRollout():
		return method{name: v1alpha1.MethodRestartAt}
	default:
		return method{name: v1alpha1.MethodRolloutRestart}
	}
}

// atOnce is how many Pods of a workload a method takes down or adds at once.
func atOnce(workload *inventory.Workload, name v1alpha1.RestartMethod) int {
	strategy := workload.Object.Strategy
	if name == v1alpha1.MethodRolloutRestart {
		return strategy.AtOnce()
	}
	return max(strategy.MaxUnavailable, 1)
}

// inWords is the method for people: rollout restart, 1 down and 1 on top at once.
func (m method) inWords(workload *inventory.Workload) string {
	strategy := workload.Object.Strategy
	var text string
	switch {
	case m.name == v1alpha1.MethodRolloutRestart && strategy.Type == inventory.StrategyRecreate:
		text = "rollout restart, all Pods at once"
	case m.name == v1alpha1.MethodRolloutRestart:
		text = fmt.Sprintf("rollout restart, %d down and %d on top at once", strategy.MaxUnavailable, strategy.MaxSurge)
	case m.name == v1alpha1.MethodRestartAt:
		text = fmt.Sprintf("spec.restartAt, for which Argo Rollouts evicts %d at once", atOnce(workload, m.name))
	default:
		text = fmt.Sprintf("%s, %d down at once", m.name, atOnce(workload, m.name))
	}
	if m.why != "" {
		text += ", because " + m.why
	}
	return text
}
