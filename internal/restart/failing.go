package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// injectedPodsAreFailing holds where the others would most likely go the same way.
func injectedPodsAreFailing(c *Candidate) *hold {
	failing := c.workload.Failing
	if failing == nil || c.replacesFailed() || failing.Stale && c.workload.Finding == v1alpha1.FindingStale {
		return nil
	}
	return &hold{reason: ReasonInjectedPodsFailing, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Pods of this workload that are in the mesh already cannot become ready: %s. Fix that before the others follow.",
			describeInMesh(failing))}
}

// replacesFailed reports whether a restart would replace the Pods as well with which the last one failed. Evictions
// leave them where they are.
func (c *Candidate) replacesFailed() bool {
	last := c.workload.Outcome
	return last.Failed() && !c.stillHolds(last) && c.method().name != v1alpha1.MethodEviction
}

// fail ends a restart that makes no progress, and says what keeps it from going on. Where the owner has
// started a rollout of another template since, that is what makes none.
func (c *Candidate) fail(r *inventory.Restart, progressTimeout time.Duration) Verdict {
	culprit, writer := c.whatFails(r), c.workload.Object.TemplateWriter
	if c.inputsChanged(r) && writer.Time.After(r.Start) {
		return c.finish(r, v1alpha1.ResultInterrupted, fmt.Sprintf("A rollout of its own%s overtook the restart and makes no progress (%s)%s.",
			begunBy(writer), progress(c.workload, r), culprit))
	}
	return c.finish(r, v1alpha1.ResultFailed, c.failure(r, progressTimeout)+culprit+".")
}

// failure says for how long a restart has made no progress.
func (c *Candidate) failure(r *inventory.Restart, progressTimeout time.Duration) string {
	workload, patience := c.workload, progressTimeout+c.workload.Object.Patience()
	if c.longest(r, patience).Before(lastProgress(workload, r).Add(patience)) {
		return fmt.Sprintf("The restart has failed: its Pods become ready and unready again, and no further one stayed ready for %s (%s)",
			seconds(patience), progress(workload, r))
	}
	return fmt.Sprintf("The restart has failed: no further Pod became ready for %s (%s)", seconds(patience), progress(workload, r))
}

// whatFails names what keeps a restart from going on, as far as is known.
func (c *Candidate) whatFails(r *inventory.Restart) string {
	workload := c.workload
	inMesh, exhausted := r.Cause.Finding != v1alpha1.FindingLeftover, c.exhausted()
	switch object := workload.Object; {
	case inMesh && workload.Failing != nil:
		return "; " + describeInMesh(workload.Failing)
	case !inMesh && workload.FailingOutside != nil:
		return "; " + describe(workload.FailingOutside)
	case object.ReplicaFailure != "":
		return "; no further Pod is created: " + inShort(object.ReplicaFailure)
	case workload.Unschedulable != nil:
		return fmt.Sprintf("; the scheduler finds no node for Pod %s: %s", workload.Unschedulable.Pod, inShort(workload.Unschedulable.Scheduler))
	case workload.Unready != nil:
		return fmt.Sprintf("; Pod %s is not ready", workload.Unready.Name)
	case r.Method == v1alpha1.MethodRestartAt && exhausted != nil:
		return fmt.Sprintf("; PodDisruptionBudget %s does not let Argo Rollouts evict the next Pod", exhausted.Name)
	default:
		return ""
	}
}

// describeInMesh is describe, with the hint that helps Pods with a sidecar most often.
func describeInMesh(failing *inventory.FailingPod) string {
	text := describe(failing)
	if hint := failing.Trouble.Hint(); hint != "" {
		text += " (" + hint + ")"
	}
	return text
}

// describe names what keeps a Pod from being ready.
func describe(failing *inventory.FailingPod) string {
	return fmt.Sprintf("Pod %s, %s", failing.Name, &failing.Trouble)
}
