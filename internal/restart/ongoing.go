package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

func anotherRolloutIsGoingOn(s *situation) *hold {
	object := s.workload.Object
	switch {
	case object == nil || !object.RollingOut(), s.ownRolloutIsToBeRepeated():
		return nil
	case s.untold:
		return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("Its restart by Fullmesh is going on (%d of %d Pods updated), and what was written down about it on the workload has been taken away or changed. Have whatever replaces its annotations keep fullmesh.dev/ ones.", object.Updated, object.Replicas)}
	case object.Stuck && object.IsRollout():
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("An update of its own%s was aborted or has failed (%d of %d Pods updated). Run it again (kubectl argo rollouts retry rollout %s -n %s) or undo it first.", begunBy(object.TemplateWriter), object.Updated, object.Replicas, object.Name, object.Namespace)}
	case object.Stuck:
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A rollout of its own%s has exceeded its progress deadline (%d of %d Pods updated). Mend or undo that one first.", begunBy(object.TemplateWriter), object.Updated, object.Replicas)}
	}
	stalls := s.rolloutStalls()
	if !stalls.IsZero() && !s.pass.Now.Before(stalls) {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A rollout of its own%s does not go on: %s (%d of %d Pods updated). Mend or undo that one first.", begunBy(object.TemplateWriter), s.whyItStalls(), object.Updated, object.Replicas)}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster, until: stalls,
		message: fmt.Sprintf("A rollout that Fullmesh did not start is going on (%d of %d Pods updated); its new Pods are %s.", object.Updated, object.Replicas, s.come())}
}

// rolloutStalls is when a rollout of a StatefulSet or DaemonSet is taken to be stuck unless something moves
// until then: these have no deadline of their own. It is zero for other kinds, and where the object does not
// tell when its template was changed.
func (s *situation) rolloutStalls() time.Time {
	object, workload := s.workload.Object, s.workload
	if object.Kind != "StatefulSet" && object.Kind != "DaemonSet" || object.TemplateChanged.IsZero() {
		return time.Time{}
	}
	moved := max(object.TemplateChanged.Unix(), workload.NewestReady, workload.NewestMeshed, workload.NewestToReplace)
	return time.Unix(moved, 0).Add(s.policy.progressTimeout + object.Patience())
}

func (s *situation) whyItStalls() string {
	switch workload := s.workload; {
	case workload.Failing != nil:
		return describeInMesh(workload.Failing)
	case workload.FailingOutside != nil:
		return describe(workload.FailingOutside)
	}
	return fmt.Sprintf("no further Pod was made or became ready for %s", s.policy.progressTimeout+s.workload.Object.Patience())
}

// statefulSetWaitsForItsPods speaks where a change of the template would replace nothing: the
// controller of a StatefulSet with podManagementPolicy OrderedReady touches no Pod while another is
// not ready, and would roll out the change at a time that nobody has chosen
// (https://github.com/kubernetes/kubernetes/issues/67250).
func statefulSetWaitsForItsPods(s *situation) *hold {
	object, pods := s.workload.Object, s.workload.Pods
	if object == nil || !object.Ordered || pods.Ready >= object.Replicas {
		return nil
	}
	if s.method().name == v1alpha1.MethodEviction && onlyOutsideIsDown(s.workload) {
		return nil
	}
	if failing := s.workload.AnyFailing(); failing != nil {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A Pod cannot become ready (%s), and a StatefulSet with podManagementPolicy OrderedReady replaces none until it is. Mend or delete that Pod; the one that follows it is %s.", describe(failing), s.come())}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and a StatefulSet with podManagementPolicy OrderedReady replaces none until all are. Where that does not come about, delete the Pods that are not ready; those that follow are %s.", pods.Ready, object.Replicas, s.come())}
}
