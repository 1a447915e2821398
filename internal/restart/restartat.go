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
func (c *Candidate) restartAt() time.Time {
	at := time.Unix(c.workload.NewestToReplace, 0).Add(time.Second)
	if former := c.workload.Object.RestartAt; !former.Before(at) {
		at = former.Add(time.Second)
	}
	return at.UTC()
}

// templateIsShared holds where a change of the template would begin an update of something else.
func templateIsShared(c *Candidate) *hold {
	if !c.workload.TemplateShared || c.method().name != v1alpha1.MethodRolloutRestart {
		return nil
	}
	return &hold{reason: ReasonTemplateSharedWithRollout, clearsBy: v1alpha1.ClearedByOwner,
		message: "An Argo Rollout takes its template from this workload, and a rollout restart of one would start an update of the other. " +
			"Scale it to zero once the Rollout runs, or delete the Pods that must be replaced one by one; those that follow are " +
			c.newPodsAre() + "."}
}

// anotherRestartIsRequested holds where somebody else has set spec.restartAt and Argo's controller is
// not done with it: a second one would begin before the first has ended.
func anotherRestartIsRequested(c *Candidate) *hold {
	object := c.workload.Object
	switch {
	case object == nil || object.RestartAt.IsZero():
		return nil
	case object.RestartAt.After(c.pass.Now):
		return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByTime, until: object.RestartAt,
			message: fmt.Sprintf("Its owner has asked for a restart at %s (spec.restartAt), and the Pods that follow are %s. Fullmesh does not "+
				"set an earlier time.", moment(object.RestartAt), c.newPodsAre())}
	case !object.RestartAt.Equal(object.RestartedAt):
		return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("A restart that Fullmesh did not ask for is going on (spec.restartAt: %s); the Pods that follow are %s.",
				moment(object.RestartAt), c.newPodsAre())}
	default:
		return nil
	}
}

// argoWaitsForItsPods holds where Argo's controller would evict no Pod, because as many as may be down
// are not ready already.
func argoWaitsForItsPods(c *Candidate) *hold {
	object, pods := c.workload.Object, c.workload.Pods
	if c.method().name != v1alpha1.MethodRestartAt || pods.Ready > max(object.Replicas, pods.Running)-object.Strategy.MaxUnavailable {
		return nil
	}
	if failing := c.workload.AnyFailing(); failing != nil {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A Pod cannot become ready (%s), and Argo Rollouts restarts none while as many are down as its strategy "+
				"allows. Fix or delete that Pod; the one that follows it is %s.", describe(failing), c.newPodsAre())}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and Argo Rollouts restarts none while as many are down as its strategy allows. "+
			"If that does not change, delete the Pods that are not ready; those that follow are %s.", pods.Ready, object.Replicas, c.newPodsAre())}
}

// argoMayEvictNone holds where the API server would refuse every eviction that Argo's controller asks
// for. It asks for one after the other, so head-room for one is enough.
func argoMayEvictNone(c *Candidate) *hold {
	return c.readyMayNotBeEvicted("Argo Rollouts would evict its Pods", "Loosen the budget.")
}

// restartWasDropped gives the verdict on a restart that Argo's controller does not go on with; false
// where it does.
func (c *Candidate) restartWasDropped(r *inventory.Restart) (Verdict, bool) {
	object := c.workload.Object
	switch {
	case object.RestartAt.After(c.pass.Now.Add(longestSkew)):
		return c.finish(r, v1alpha1.ResultReverted, fmt.Sprintf("Somebody has put the restart off until %s (spec.restartAt) while it was in "+
			"progress.", moment(object.RestartAt))), true
	case object.Updating && !isBroughtIn(c.workload, r):
		return c.finish(r, v1alpha1.ResultReverted, "Its template was changed while the restart was in progress. Argo Rollouts drops the "+
			"restart then, and the Pods of the update are "+c.newPodsAre()+"."), true
	default:
		return Verdict{}, false
	}
}

// isDroppedByArgo reports whether Argo's controller has nothing left to do for a restart that is in
// flight, though Pods that it was to replace still run.
func isDroppedByArgo(workload *inventory.Workload, r *inventory.Restart) bool {
	return r.Method == v1alpha1.MethodRestartAt && workload.Object.RestartAt.Equal(workload.Object.RestartedAt) &&
		!isBroughtIn(workload, r) && workload.NewestToReplace <= r.Cause.Newest
}
