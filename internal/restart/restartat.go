package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// restartAt is the time to be set as spec.restartAt: Argo evicts the Pods that were created before it,
// and those that were created in the same second not. One that was set before is never lowered, and one
// that Argo is done with must change for it to begin again.
func (s *situation) restartAt() time.Time {
	at := time.Unix(s.workload.NewestToReplace, 0).Add(time.Second)
	if former := s.workload.Object.RestartAt; !former.Before(at) {
		at = former.Add(time.Second)
	}
	return at.UTC()
}

// templateIsLent speaks where a change of the template would begin an update of something else.
func templateIsLent(s *situation) *hold {
	if !s.workload.Lends || s.method().name != v1alpha1.MethodRolloutRestart {
		return nil
	}
	return &hold{reason: ReasonTemplateLent, clearsBy: v1alpha1.ClearedByOwner,
		message: "An Argo Rollout takes its template from this workload, so that a rollout restart of one would begin an update of the other. Scale it to zero once the Rollout runs, or delete the Pods that are to be replaced one by one; those that follow are " + s.come() + "."}
}

// anotherRestartIsAskedFor speaks where somebody else has set spec.restartAt and Argo's controller is
// not done with it: a second one would begin before the first has ended.
func anotherRestartIsAskedFor(s *situation) *hold {
	object := s.workload.Object
	switch {
	case object == nil || object.RestartAt.IsZero():
		return nil
	case object.RestartAt.After(s.pass.Now):
		return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByTime, until: object.RestartAt,
			message: fmt.Sprintf("Its owner has asked for a restart at %s (spec.restartAt), and the Pods that follow are %s. Fullmesh does not set an earlier time.", moment(object.RestartAt), s.come())}
	case !object.RestartAt.Equal(object.RestartedAt):
		return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("A restart that Fullmesh did not ask for is going on (spec.restartAt: %s); the Pods that follow are %s.", moment(object.RestartAt), s.come())}
	default:
		return nil
	}
}

// argoWaitsForItsPods speaks where Argo's controller would evict no Pod, because as many as may be down
// are not ready already.
func argoWaitsForItsPods(s *situation) *hold {
	object, pods := s.workload.Object, s.workload.Pods
	if s.method().name != v1alpha1.MethodRestartAt || pods.Ready > max(object.Replicas, pods.Running)-object.Strategy.MaxUnavailable {
		return nil
	}
	if failing := s.workload.AnyFailing(); failing != nil {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A Pod cannot become ready (%s), and Argo Rollouts restarts none while as many are down as its strategy allows. Mend or delete that Pod; the one that follows it is %s.", describe(failing), s.come())}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and Argo Rollouts restarts none while as many are down as its strategy allows. Where that does not change, delete the Pods that are not ready; those that follow are %s.", pods.Ready, object.Replicas, s.come())}
}

// argoMayEvictNone speaks where the API server would refuse every eviction that Argo's controller asks
// for. It asks for one after the other, so that head-room for one is enough.
func argoMayEvictNone(s *situation) *hold {
	return s.readyMayNotBeEvicted("Argo Rollouts would evict its Pods", "Loosen the budget.")
}

// restartWasDropped gives the verdict on a restart that Argo's controller does not go on with; false
// where it does.
func (s *situation) restartWasDropped() (Verdict, bool) {
	object := s.workload.Object
	cause, _ := inventory.ParseCause(s.workload.Record.Cause)
	switch {
	case object.RestartAt.Unix() <= cause.Newest:
		return s.finish(v1alpha1.ResultReverted, "Somebody took spec.restartAt away, or set an earlier one, while the restart was going on. Have whatever manages the Rollout keep it."), true
	case object.RestartAt.After(s.pass.Now.Add(longestSkew)):
		return s.finish(v1alpha1.ResultReverted, fmt.Sprintf("Somebody has put the restart off until %s (spec.restartAt) while it was going on.", moment(object.RestartAt))), true
	case object.Updating && !isBroughtIn(s.workload):
		return s.finish(v1alpha1.ResultReverted, "Its template was changed while the restart was going on. Argo Rollouts drops the restart then, and the Pods of the update are "+s.come()+"."), true
	default:
		return Verdict{}, false
	}
}

// isDroppedByArgo reports whether Argo's controller has nothing left to do for a restart that is in
// flight, though Pods that it was to replace still run.
func isDroppedByArgo(workload *inventory.Workload) bool {
	object, cause := workload.Object, workload.Record.Cause
	left, _ := inventory.ParseCause(cause)
	return workload.Record.Method == v1alpha1.MethodRestartAt && object.RestartAt.Equal(object.RestartedAt) &&
		!isBroughtIn(workload) && workload.NewestToReplace <= left.Newest
}
