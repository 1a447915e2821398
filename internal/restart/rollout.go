package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// anotherRolloutIsInProgress holds while the kind's controller replaces Pods for somebody else, or does not get on
// with it.
func anotherRolloutIsInProgress(c *Candidate) *hold {
	object := c.workload.Object
	if object == nil || !object.RollingOut() || c.ownRolloutIsRepeated() {
		return nil
	}
	by, updated := begunBy(object.TemplateWriter), fmt.Sprintf("%d of %d Pods updated", object.Updated, object.Replicas)
	stalls := c.rolloutStalls()
	stuck := &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner}
	switch {
	case object.Stuck && object.IsRollout():
		stuck.message = fmt.Sprintf("An update of its own%s was aborted or has failed (%s). Run it again (kubectl argo rollouts retry "+
			"rollout %s -n %s) or undo it first.",
			by, updated, object.Name, object.Namespace)
		return stuck
	case object.Stuck:
		stuck.message = fmt.Sprintf("A rollout of its own%s has exceeded its progress deadline (%s). Fix or undo that one first.", by, updated)
		return stuck
	case !stalls.IsZero() && !c.pass.Now.Before(stalls):
		stuck.message = fmt.Sprintf("A rollout of its own%s makes no progress: %s (%s). Fix or undo that one first.", by, c.whyItStalls(),
			updated)
		return stuck
	default:
		return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster, until: stalls,
			message: fmt.Sprintf("A rollout that Fullmesh did not start is in progress (%s); its new Pods are %s.", updated, c.newPodsAre())}
	}
}

// rolloutStalls is when a rollout of a StatefulSet or DaemonSet is taken to be stuck unless something moves
// until then: these have no deadline of their own. It is zero for other kinds, and where the object does not
// tell when its template was changed.
func (c *Candidate) rolloutStalls() time.Time {
	object, workload := c.workload.Object, c.workload
	if object.Is().HasDeadline || object.TemplateChanged.IsZero() {
		return time.Time{}
	}
	moved := max(object.TemplateChanged.Unix(), workload.NewestReady, workload.NewestMeshed, workload.NewestToReplace)
	return time.Unix(moved, 0).Add(c.policy.progressTimeout + object.Patience())
}

func (c *Candidate) whyItStalls() string {
	switch workload := c.workload; {
	case workload.Failing != nil:
		return describeInMesh(workload.Failing)
	case workload.FailingOutside != nil:
		return describe(workload.FailingOutside)
	}
	return fmt.Sprintf("no further Pod was made or became ready for %s", c.policy.progressTimeout+c.workload.Object.Patience())
}

// statefulSetWaitsForItsPods holds where a change of the template would replace nothing: the
// controller of a StatefulSet with podManagementPolicy OrderedReady touches no Pod while another is
// not ready, and would roll out the change at a time that nobody has chosen
// (https://github.com/kubernetes/kubernetes/issues/67250).
func statefulSetWaitsForItsPods(c *Candidate) *hold {
	object, pods := c.workload.Object, c.workload.Pods
	if object == nil || !object.Ordered || pods.Ready >= object.Replicas {
		return nil
	}
	if c.method().name == v1alpha1.MethodEviction && onlyOutsideIsDown(c.workload) {
		return nil
	}
	if failing := c.workload.AnyFailing(); failing != nil {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A Pod cannot become ready (%s), and a StatefulSet with podManagementPolicy OrderedReady replaces none until "+
				"it is. Fix or delete that Pod; the one that follows it is %s.", describe(failing), c.newPodsAre())}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and a StatefulSet with podManagementPolicy OrderedReady replaces none until all "+
			"are. If that does not happen, delete the Pods that are not ready; those that follow are %s.",
			pods.Ready, object.Replicas, c.newPodsAre())}
}
