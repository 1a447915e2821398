package restart

import (
	"fmt"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// graceAfterChange is how long after a change of labels or webhooks API servers may still create
// Pods by the former ones.
const graceAfterChange = 30 * time.Second

// longestSkew is how far the clocks of the cluster may be apart.
const longestSkew = 10 * time.Minute

// maxExcused is how often in a row an ineffective restart is excused. An injector that answers dry runs and not
// controllers would otherwise have a workload restarted forever.
const maxExcused = 3

// inFlight gives the verdict on a workload whose restart has not ended: that it goes on, or how it
// ended. It does not matter whether a policy still governs it.
func inFlight(c *Candidate, r *inventory.Restart, progressTimeout time.Duration) Verdict {
	workload, object := c.workload, c.workload.Object
	switch {
	case c.pass.WatchStale != "":
		verdict := c.goesOn(r, fmt.Sprintf("Restarting since %s. How far it is, is not known: %s.", moment(r.Start), c.pass.WatchStale))
		verdict.Reason = ReasonWatchStale
		return verdict
	case !isKnown(r.Method):
		return c.goesOn(r, fmt.Sprintf("Restarting since %s by the method %q, which this version of Fullmesh does not know. It is left alone: "+
			"run a version that knows it, or delete MeshRestart %s as an administrator of the cluster.", moment(r.Start), r.Method, r.Name))
	case object.Terminating:
		return c.finish(r, v1alpha1.ResultInterrupted, "The workload is being deleted.")
	case !r.HasTouched(object):
		return c.notTouched(r)
	case r.Method == v1alpha1.MethodEviction:
		return evicting(c, r, progressTimeout)
	case r.Method == v1alpha1.MethodRestartAt:
		if verdict, dropped := c.restartWasDropped(r); dropped {
			return verdict
		}
	}
	if rolledOut(workload, r) {
		if isBroughtIn(workload, r) {
			return c.finishBroughtIn(r)
		}
		if workload.NewestToReplace > r.Cause.Newest {
			return c.finishIneffective(r)
		}
	}
	// Times are written down by the second.
	deadline := c.progressDeadline(r, progressTimeout).Add(time.Second)
	if !c.pass.Now.Before(deadline) {
		if isDroppedByArgo(workload, r) {
			return c.finish(r, v1alpha1.ResultReverted, "Argo Rollouts counts the restart as done (status.restartedAt), though not every Pod "+
				"was replaced: a change of the Rollout makes it drop one.")
		}
		if isNoWorse(workload, r) {
			return c.finish(r, v1alpha1.ResultSucceeded, fmt.Sprintf("%d of %d Pods are ready, no fewer than before the restart.",
				workload.Pods.Ready, object.Replicas))
		}
		return c.fail(r, progressTimeout)
	}
	verdict := c.goesOn(r, fmt.Sprintf("Restarting since %s: %s.", moment(r.Start), progress(workload, r)))
	verdict.Until = deadline
	return verdict
}

// isKnown reports whether this version can tell how far a restart by a method is.
func isKnown(method v1alpha1.RestartMethod) bool {
	switch method {
	case v1alpha1.MethodRolloutRestart, v1alpha1.MethodRestartAt, v1alpha1.MethodEviction:
		return true
	default:
		return false
	}
}

// notTouched gives the verdict on a restart of which its workload shows nothing. It was written down and is about to
// touch the workload; or somebody else wrote first, and the API server refuses it now; or it was taken back.
func (c *Candidate) notTouched(r *inventory.Restart) Verdict {
	object := c.workload.Object
	if object.Generation > r.Generation+1 {
		return c.finishReverted(r)
	}
	verdict := c.goesOn(r, fmt.Sprintf("A restart was decided on at %s and is about to begin.", moment(r.Start)))
	verdict.Until = r.Start.Add(intentLasts)
	if !r.Pending() && object.Generation > r.Generation || IntentIsOver(r, c.pass.Now) {
		verdict.Step = StepRecheck
	}
	return verdict
}

// finishReverted ends a restart that is no longer in the template. An owner who rolled it back wants the former Pods:
// that is a failure, after which nothing is evicted either.
func (c *Candidate) finishReverted(r *inventory.Restart) Verdict {
	writer := c.workload.Object.LastWriter
	switch {
	case r.Method == v1alpha1.MethodRestartAt:
		return c.finish(r, v1alpha1.ResultReverted, "Somebody took spec.restartAt away, or set an earlier one. Have whatever manages the "+
			"Rollout keep it.")
	case writer.IsRollback():
		return c.finish(r, v1alpha1.ResultFailed, fmt.Sprintf("Its owner rolled the restart back (kubectl rollout undo, at %s).",
			moment(writer.Time)))
	case writer.Manager == "":
		return c.finish(r, v1alpha1.ResultReverted, fmt.Sprintf("The annotation %s was taken off the template, or never landed there. Have "+
			"whatever manages the workload keep fullmesh.dev/ annotations.", v1alpha1.RestartedByAnnotation))
	default:
		return c.finish(r, v1alpha1.ResultReverted, fmt.Sprintf("The annotation %s was taken off the template, most likely by field manager "+
			"%q (at %s), or never landed there. Have whatever manages the workload keep fullmesh.dev/ annotations.",
			v1alpha1.RestartedByAnnotation, writer.Manager, moment(writer.Time)))
	}
}

// completedLate gives the verdict on a failed restart that came through after all.
func completedLate(c *Candidate) (Verdict, bool) {
	last := c.workload.Outcome
	if c.pass.WatchStale != "" || !last.Failed() || !rolledOut(c.workload, last) || !isBroughtIn(c.workload, last) {
		return Verdict{}, false
	}
	if _, reservation := succeeded(c.workload, last); reservation != "" || !last.HasTouched(c.workload.Object) {
		return Verdict{}, false // others brought that about
	}
	return c.finish(last, v1alpha1.ResultSucceeded, "Late: it had been given up."), true
}

// rolledOut reports whether the kind's controller has replaced every Pod that it was to replace, and
// all Pods are known here and ready.
func rolledOut(workload *inventory.Workload, r *inventory.Restart) bool {
	if r.Method == v1alpha1.MethodEviction {
		return isWhole(workload)
	}
	object := workload.Object
	return !object.RollingOut() && workload.Pods.Running == object.Replicas && workload.Pods.Ready == workload.Pods.Running
}

// isBroughtIn reports whether nothing of what the restart was made for is left, nor anything worse.
func isBroughtIn(workload *inventory.Workload, r *inventory.Restart) bool {
	return inventory.Worse(r.Cause.Finding, workload.Finding)
}

// succeeded is the result of a restart that left nothing to replace. It shows that restarts work only where Pods came
// as it was to make them.
func succeeded(workload *inventory.Workload, r *inventory.Restart) (v1alpha1.RestartResult, string) {
	switch {
	case isNotExpectedAnyMore(workload, r):
		return v1alpha1.ResultInterrupted, "No sidecar is expected any more. " + workload.Expectation.Message
	case workload.Object.Replicas == 0:
		return v1alpha1.ResultInterrupted, "It was scaled to zero meanwhile; its next Pods come as they should be."
	default:
		return v1alpha1.ResultSucceeded, ""
	}
}

func (c *Candidate) finishBroughtIn(r *inventory.Restart) Verdict {
	result, message := succeeded(c.workload, r)
	return c.finish(r, result, message)
}

// isNotExpectedAnyMore reports whether the sidecar that the restart was made for is not expected now.
func isNotExpectedAnyMore(workload *inventory.Workload, r *inventory.Restart) bool {
	return !workload.Expectation.Inject && r.Cause.Finding != v1alpha1.FindingLeftover
}

// finishIneffective ends a restart whose new Pods came up without the sidecar. It is not held against the workload
// where API servers may not have known of a change yet, or the webhook lets Pods pass when the injector is down.
func (c *Candidate) finishIneffective(r *inventory.Restart) Verdict {
	verdict := c.finish(r, v1alpha1.ResultIneffective, fmt.Sprintf("The Pods were replaced and are still %s.", c.workload.Finding))
	created := time.Unix(c.workload.NewestToReplace, 0)
	changedLast := later(c.namespace.Changed, c.pass.Snapshot.ChangedFor(c.workload.Expectation))
	switch {
	case r.Excused >= maxExcused:
	case created.Before(changedLast.Add(graceAfterChange)):
		verdict.Restart.Excuse = v1alpha1.ExcuseChangedJustBefore
		verdict.Restart.Message = "The Pods were created so soon after a change of labels or webhooks that the former ones made them."
	case c.workload.Finding == v1alpha1.FindingMissing && c.pass.Snapshot.Injector.FailurePolicyIgnore(c.workload.Expectation.Revision):
		verdict.Restart.Excuse = v1alpha1.ExcuseInjectorSilent
		verdict.Restart.Message = "The injector was silent: the Pods came up without the sidecar, and the webhook's failurePolicy is Ignore."
	}
	return verdict
}

func (c *Candidate) goesOn(r *inventory.Restart, message string) Verdict {
	return Verdict{Workload: c.workload, Action: v1alpha1.ActionInFlight, Reason: ReasonRestartInProgress, Method: r.Method,
		Message: message, Restart: r}
}

func (c *Candidate) finish(r *inventory.Restart, result v1alpha1.RestartResult, message string) Verdict {
	return Verdict{
		Workload: c.workload,
		Action:   v1alpha1.ActionInFlight,
		Reason:   ReasonRestartEnded,
		Method:   r.Method,
		Message:  fmt.Sprintf("The restart has ended: %s.", result),
		Step:     StepFinish,
		Restart:  r.Ended(result, strings.TrimSpace(message), c.pass.Now),
	}
}

// progress says how far a restart is.
func progress(workload *inventory.Workload, r *inventory.Restart) string {
	if r.Cause.Finding == v1alpha1.FindingLeftover {
		return fmt.Sprintf("%d of %d Pods have lost their sidecar", replaced(workload), workload.Object.Replicas)
	}
	return fmt.Sprintf("%d of %d Pods are ready in the mesh", workload.Pods.MeshedReady, workload.Object.Replicas)
}

// replaced is how many Pods run that the restart need not replace any more, ready or not.
func replaced(workload *inventory.Workload) int {
	return max(0, workload.Pods.Running-workload.Pods.ToReplace)
}

// progressDeadline is when a restart has failed unless it has made progress by then. A further Pod that
// is ready puts it off, and one that is ready over and over puts it off no further than the Pods that
// were replaced may have taken, each by itself.
func (c *Candidate) progressDeadline(r *inventory.Restart, timeout time.Duration) time.Time {
	patience := timeout + c.workload.Object.Patience()
	return earlier(lastProgress(c.workload, r).Add(patience), c.longest(r, patience))
}

// longest is when a restart that has come as far as this one has taken longer than it may. Pods that were scaled away
// have taken their time as well; those that were added get none of their own, or a restart would go on for as long as
// its owner adds some.
func (c *Candidate) longest(r *inventory.Restart, patience time.Duration) time.Time {
	scaledAway := max(0, r.Replicas-c.workload.Object.Replicas)
	return r.Start.Add(time.Duration(min(replaced(c.workload)+scaledAway, r.Replicas)+1) * patience)
}

// lastProgress is when the newest Pod of those that the restart brought became ready, or when the
// restart began.
func lastProgress(workload *inventory.Workload, r *inventory.Restart) time.Time {
	return later(r.Start, time.Unix(newestReady(workload, r), 0))
}

// newestReady is when the newest Pod became ready of those that are as the restart was to make them.
func newestReady(workload *inventory.Workload, r *inventory.Restart) int64 {
	if r.Cause.Finding == v1alpha1.FindingLeftover {
		return workload.NewestReady
	}
	return workload.NewestMeshedReady
}

// isNoWorse reports whether a restart that makes no further progress brought all that it was made for,
// and no Pod is missing that was ready before: one of a node that is gone, or that never was.
func isNoWorse(workload *inventory.Workload, r *inventory.Restart) bool {
	before := min(r.Ready, workload.Object.Replicas)
	return before > 0 && workload.Pods.Ready >= before && isBroughtIn(workload, r) && !isNotExpectedAnyMore(workload, r)
}

// freesItsPlace is when a restart that has failed no longer takes up what the budgets allow: at once
// where as many Pods are ready as before it, and otherwise when nothing has moved for as long again.
// Pods that become ready over and over put it off no further than each by itself may have taken.
func freesItsPlace(workload *inventory.Workload, r *inventory.Restart, timeout time.Duration) time.Time {
	object, pods := workload.Object, workload.Pods
	goesOn := object.RollingOut() && !object.Paused && r.HasTouched(object)
	if r.Method == v1alpha1.MethodRestartAt {
		goesOn = !object.RestartAt.Equal(object.RestartedAt)
	}
	if !goesOn && pods.Ready >= min(r.Ready, object.Replicas) {
		return r.Start
	}
	last, patience := later(lastProgress(workload, r), r.End), timeout+object.Patience()
	return earlier(last.Add(patience), r.End.Add(time.Duration(min(replaced(workload), r.Replicas)+1)*patience))
}
