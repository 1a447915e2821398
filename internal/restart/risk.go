package restart

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// acceptsWhatIsNoRisk speaks where an owner accepts something that nobody knows: who means to accept a
// risk is not to wait for a restart that never comes, nor to believe that nothing was accepted.
func acceptsWhatIsNoRisk(s *situation) *hold {
	unknown := sets.List(ownerAccepts(s.workload).Delete(v1alpha1.Risks...).Delete(""))
	if len(unknown) == 0 {
		return nil
	}
	known := make([]string, 0, len(v1alpha1.Risks))
	for _, risk := range v1alpha1.Risks {
		known = append(known, string(risk))
	}
	return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Annotation %s on the workload names %q, and no such risk is known. Use one or more of these, separated by commas: %s.", v1alpha1.AcceptAnnotation, unknown[0], strings.Join(known, ", "))}
}

// wouldCauseDowntime speaks where a restart may take down the last Pod that is ready. Where none is
// ready, nothing is lost.
func wouldCauseDowntime(s *situation) *hold {
	object, ready := s.workload.Object, s.workload.Pods.Ready
	if s.method().name == v1alpha1.MethodEviction {
		return evictionWouldCauseDowntime(s)
	}
	if object == nil || ready == 0 || object.Strategy.MaxUnavailable < leastReady(object, ready) || s.policy.accepts(v1alpha1.RiskDowntime, s.workload) {
		return nil
	}
	why := "it may take down every Pod at once"
	switch {
	case object.Strategy.Type == inventory.StrategyRecreate:
		why = "its strategy is Recreate"
	case object.Replicas == 1:
		why = "its only Pod goes before the new one comes"
	case ready < object.Replicas:
		why = fmt.Sprintf("only %d of its %d Pods are ready, and they may go first", ready, object.Replicas)
	}
	return downtime(s, why)
}

// evictionWouldCauseDowntime speaks where the only Pod that is ready would be evicted. One that is not
// goes first, and may be ready after.
func evictionWouldCauseDowntime(s *situation) *hold {
	pods := s.workload.Pods
	if pods.Ready != 1 || pods.ToReplaceReady == 0 || pods.ToReplaceReady < pods.ToReplace || s.policy.accepts(v1alpha1.RiskDowntime, s.workload) {
		return nil
	}
	return downtime(s, "its only Pod that is ready goes before the new one comes")
}

func downtime(s *situation, why string) *hold {
	return &hold{reason: ReasonWouldCauseDowntime, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("A restart leaves no Pod ready for a moment: %s. Accept it with accept: [Downtime] in MeshPolicy %s, or for this workload alone with the annotation %s=Downtime.", why, s.policy.Name, v1alpha1.AcceptAnnotation)}
}

// leastReady is how many Pods are ready at least when a rolling update begins to take down ready
// ones. A StatefulSet goes by ordinals, whether the other Pods are ready or not; other kinds wait
// until all but as many as may be unavailable are.
func leastReady(object *inventory.Object, ready int) int {
	if object.Kind == "StatefulSet" {
		return min(object.Replicas, ready)
	}
	return object.Replicas
}

// isOwnedByOperator speaks where something controls the workload that is not Kubernetes' own. Where
// not even its object is read there is nothing on which a restart could be written down, so that it
// would be forgotten in a crash and made again: such Pods are left to their owner, whatever is accepted.
func isOwnedByOperator(s *situation) *hold {
	object := s.workload.Object
	switch {
	case object == nil || !object.Restartable():
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("%s makes these Pods, and Fullmesh neither reads nor writes objects of that kind, so that it could not keep in mind what it has evicted. Restart it by the means of that controller, or delete the Pods that are to be replaced one by one; those that follow are %s.", s.workload.Key, s.come())}
	case !object.Owner.Exists():
		return nil
	case object.IsRollout():
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("%s controls it and would undo a change of the Rollout. Restart it by the means of that controller.", object.Owner.Key(object.Namespace))}
	case s.policy.accepts(v1alpha1.RiskOwnedByOperator, s.workload):
		return nil
	default:
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("%s controls it and would undo a change of the template. Restart it by the means of that controller. Or have its Pods evicted one by one: accept that with accept: [OwnedByOperator] in MeshPolicy %s, or for this workload alone with the annotation %s=OwnedByOperator.", object.Owner.Key(object.Namespace), s.policy.Name, v1alpha1.AcceptAnnotation)}
	}
}

// ownerAccepts is what the owner accepts for the workload alone.
func ownerAccepts(workload *inventory.Workload) sets.Set[v1alpha1.Risk] {
	accepted := sets.New[v1alpha1.Risk]()
	if workload.Object != nil {
		for word := range strings.SplitSeq(workload.Object.Annotations[v1alpha1.AcceptAnnotation], ",") {
			accepted.Insert(v1alpha1.Risk(strings.TrimSpace(word)))
		}
	}
	return accepted
}
