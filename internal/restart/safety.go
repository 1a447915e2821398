package restart

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// acceptAnnotationIsInvalid holds where an owner accepts something that nobody knows: whoever means to accept a
// risk must neither wait for a restart that never comes, nor believe that nothing was accepted.
func acceptAnnotationIsInvalid(c *Candidate) *hold {
	unknown := sets.List(ownerAccepts(c.workload).Delete(v1alpha1.Risks...).Delete(""))
	if len(unknown) == 0 {
		return nil
	}
	known := make([]string, 0, len(v1alpha1.Risks))
	for _, risk := range v1alpha1.Risks {
		known = append(known, string(risk))
	}
	return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Annotation %s on the workload names %q, and no such risk is known. Use one or more of these, separated by "+
			"commas: %s.", v1alpha1.AcceptAnnotation, unknown[0], strings.Join(known, ", "))}
}

// wouldCauseDowntime holds where a restart may take down the last Pod that is ready. Where none is
// ready, nothing is lost.
func wouldCauseDowntime(c *Candidate) *hold {
	object, ready := c.workload.Object, c.workload.Pods.Ready
	if c.method().name == v1alpha1.MethodEviction {
		return evictionWouldCauseDowntime(c)
	}
	if object == nil || ready == 0 || object.Strategy.MaxUnavailable < leastReady(object, ready) ||
		c.policy.accepts(v1alpha1.RiskDowntime, c.workload) {
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
	return downtime(c, why)
}

// evictionWouldCauseDowntime holds where the only Pod that is ready would be evicted. One that is not
// goes first, and may be ready after.
func evictionWouldCauseDowntime(c *Candidate) *hold {
	pods := c.workload.Pods
	if pods.Ready != 1 || pods.ToReplaceReady == 0 || pods.ToReplaceReady < pods.ToReplace ||
		c.policy.accepts(v1alpha1.RiskDowntime, c.workload) {
		return nil
	}
	return downtime(c, "its only Pod that is ready goes before the new one comes")
}

func downtime(c *Candidate, why string) *hold {
	return &hold{reason: ReasonWouldCauseDowntime, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("A restart leaves no Pod ready for a moment: %s. Accept it with accept: [Downtime] in MeshPolicy %s, or for "+
			"this workload alone with the annotation %s=Downtime.", why, c.policy.Name, v1alpha1.AcceptAnnotation)}
}

// leastReady is how many Pods are ready at least when a rolling update begins to take down ready
// ones. A StatefulSet goes by ordinals, whether the other Pods are ready or not; other kinds wait
// until all but as many as may be unavailable are.
func leastReady(object *inventory.Object, ready int) int {
	if object.Is().ByOrdinal {
		return min(object.Replicas, ready)
	}
	return object.Replicas
}

// isOwnedByOperator holds where something controls the workload that is not Kubernetes' own. Pods of
// kinds that are not read are left to their owner, whatever is accepted: nothing says when they may go.
func isOwnedByOperator(c *Candidate) *hold {
	object := c.workload.Object
	switch {
	case object == nil || !object.Restartable():
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("%s makes these Pods, and Fullmesh does not read objects of that kind. Restart it by the means of that "+
				"controller, or delete the Pods that must be replaced one by one; those that follow are %s.", c.workload.Key, c.newPodsAre())}
	case !object.Owner.Exists():
		return nil
	case object.IsRollout():
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("%s controls it and would undo a change of the Rollout. Restart it by the means of that controller.",
				object.Owner.Key(object.Namespace))}
	case c.policy.accepts(v1alpha1.RiskOwnedByOperator, c.workload):
		return nil
	default:
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("%s controls it and would undo a change of the template. Restart it by the means of that controller. Or have "+
				"its Pods evicted one by one: accept that with accept: [OwnedByOperator] in MeshPolicy %s, or for this workload alone with the "+
				"annotation %s=OwnedByOperator.", object.Owner.Key(object.Namespace), c.policy.Name, v1alpha1.AcceptAnnotation)}
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
