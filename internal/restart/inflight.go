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

// excusedAtMost is how often in a row an ineffective restart is excused. An injector that is silent
// to controllers and not to dry runs would otherwise have a workload restarted for ever.
const excusedAtMost = 3

// newRecord is what a restart that begins now is written down as.
func (s *situation) newRecord(method v1alpha1.RestartMethod) inventory.Record {
	record := inventory.NewRecord(s.cause(), method, s.decided(), s.pass.Now)
	record.Retry, record.Asked, record.Mended = s.serving()
	record.Replicas, record.Ready = s.workload.Object.Replicas, s.workload.Pods.Ready
	if last := s.workload.Record; last != nil && last.Result == v1alpha1.ResultIneffective {
		record.Excused = last.Excused
	}
	return record
}

// inFlight gives the verdict on a workload whose restart has begun: that it goes on, or how it
// ended. It does not matter whether a policy still governs it.
func inFlight(s *situation, progressTimeout time.Duration) Verdict {
	record, workload := s.workload.Record, s.workload
	if s.pass.Blind != "" {
		return Verdict{
			Workload: workload,
			Action:   v1alpha1.ActionInFlight,
			Reason:   ReasonNotObserved,
			Method:   record.Method,
			Message:  fmt.Sprintf("Restarting since %s. It is not known how far it is: %s.", record.Start.Format(time.RFC3339), s.pass.Blind),
		}
	}
	if verdict, dropped := s.wasTakenBack(); dropped {
		return verdict
	}
	if record.Start.After(s.pass.Now.Add(longestSkew)) {
		return s.finish(v1alpha1.ResultReverted, "The record of the restart says that it begins in the future; somebody else wrote it.")
	}
	if record.Method == v1alpha1.MethodEviction {
		return evicting(s, progressTimeout)
	}
	if rolledOut(workload) {
		if isBroughtIn(workload) {
			return s.finish(v1alpha1.ResultSucceeded, reservation(workload))
		}
		if cause, _ := inventory.ParseCause(record.Cause); workload.NewestToReplace > cause.Newest {
			return s.finishIneffective()
		}
	}
	// Times are written down by the second.
	deadline := s.progressDeadline(progressTimeout).Add(time.Second)
	if !s.pass.Now.Before(deadline) {
		if isDroppedByArgo(workload) {
			return s.finish(v1alpha1.ResultReverted, "Argo Rollouts counts the restart as done (status.restartedAt), though not every Pod was replaced: a change of the Rollout makes it drop one.")
		}
		if isNoWorse(workload) {
			return s.finish(v1alpha1.ResultSucceeded, fmt.Sprintf("%d of %d Pods are ready, no fewer than before the restart.", workload.Pods.Ready, workload.Object.Replicas))
		}
		return s.fail(progressTimeout)
	}
	return Verdict{
		Workload: workload,
		Action:   v1alpha1.ActionInFlight,
		Reason:   ReasonRestartInProgress,
		Method:   record.Method,
		Message:  fmt.Sprintf("Restarting since %s: %s.", record.Start.Format(time.RFC3339), progress(workload)),
		Until:    deadline,
	}
}

// wasTakenBack gives the verdict on a restart of which nothing is asked for any more; false where it is.
func (s *situation) wasTakenBack() (Verdict, bool) {
	record, object := s.workload.Record, s.workload.Object
	switch record.Method {
	case v1alpha1.MethodRolloutRestart:
		if object.Template.Annotations[v1alpha1.RestartCauseAnnotation] != record.Cause {
			return s.finishUndone(), true
		}
	case v1alpha1.MethodRestartAt:
		return s.restartWasDropped()
	}
	return Verdict{}, false
}

// completedLate gives the verdict on a failed restart that came through after all.
func completedLate(s *situation) (Verdict, bool) {
	record := s.workload.Record
	if s.pass.Blind != "" || !record.Failed() || !rolledOut(s.workload) || !isBroughtIn(s.workload) {
		return Verdict{}, false
	}
	return s.finish(v1alpha1.ResultSucceeded, strings.TrimSpace("Late: it had been given up. "+reservation(s.workload))), true
}

// rolledOut reports whether the kind's controller has replaced every Pod that it was to replace, and
// all Pods are known here and ready.
func rolledOut(workload *inventory.Workload) bool {
	if workload.Record.Method == v1alpha1.MethodEviction {
		return isWhole(workload)
	}
	object := workload.Object
	return !object.RollingOut() && workload.Pods.Running == object.Replicas && workload.Pods.Ready == workload.Pods.Running
}

// isBroughtIn reports whether nothing of what the restart was made for is left, nor anything worse.
func isBroughtIn(workload *inventory.Workload) bool {
	cause, err := inventory.ParseCause(workload.Record.Cause)
	return err == nil && inventory.Worse(cause.Finding, workload.Finding)
}

// reservation says what a restart that succeeded did not bring; empty where it brought everything.
func reservation(workload *inventory.Workload) string {
	switch {
	case isNotExpectedAnyMore(workload):
		return "No sidecar is expected any more. " + workload.Expectation.Message
	case workload.Object.Replicas == 0:
		return "It was scaled to zero meanwhile; its next Pods come as they should be."
	default:
		return ""
	}
}

// isNotExpectedAnyMore reports whether the sidecar that the restart was made for is not expected now.
func isNotExpectedAnyMore(workload *inventory.Workload) bool {
	cause, _ := inventory.ParseCause(workload.Record.Cause)
	return !workload.Expectation.Inject && cause.Finding != v1alpha1.FindingLeftover
}

// finishIneffective ends a restart whose new Pods came up without the sidecar. Where API servers
// may not have known of a change yet, or the webhook lets Pods pass when the injector is down, it
// is not held against the workload: what decided is left out, so that a later restart is possible.
func (s *situation) finishIneffective() Verdict {
	verdict := s.finish(v1alpha1.ResultIneffective, fmt.Sprintf("The Pods were replaced and are still %s.", s.workload.Finding))
	created := time.Unix(s.workload.NewestToReplace, 0)
	changedLast := s.namespace.Changed
	if changed := s.pass.Snapshot.ChangedFor(s.workload.Expectation); changed.After(changedLast) {
		changedLast = changed
	}
	record := &verdict.Record
	switch {
	case record.Excused >= excusedAtMost:
	case created.Before(changedLast.Add(graceAfterChange)):
		record.Excused++
		record.Decided = ""
		record.Message = "The Pods were created so soon after a change of labels or webhooks that they were made by the former ones."
	case s.workload.Finding == v1alpha1.FindingMissing && s.pass.Snapshot.Injector.FailurePolicyIgnore(s.workload.Expectation.Revision):
		record.Excused++
		record.Decided = ""
		record.Message = "The injector was silent: the Pods came up without the sidecar, and the webhook's failurePolicy is Ignore."
	}
	return verdict
}

func (s *situation) finish(result v1alpha1.RestartResult, message string) Verdict {
	return Verdict{
		Workload: s.workload,
		Action:   v1alpha1.ActionInFlight,
		Reason:   ReasonRestartEnded,
		Method:   s.workload.Record.Method,
		Message:  fmt.Sprintf("The restart has ended: %s.", result),
		Step:     StepFinish,
		Record:   s.workload.Record.Ended(result, message, s.pass.Now),
	}
}

// progress says how far a restart is.
func progress(workload *inventory.Workload) string {
	if cause, _ := inventory.ParseCause(workload.Record.Cause); cause.Finding == v1alpha1.FindingLeftover {
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
func (s *situation) progressDeadline(timeout time.Duration) time.Time {
	patience := timeout + s.workload.Object.Patience()
	return earlier(lastProgress(s.workload).Add(patience), s.longest(patience))
}

// longest is when a restart that has come as far as this one has taken longer than it may. How many Pods there
// were when it began is believed where this process has begun it: the owner may write any number.
func (s *situation) longest(patience time.Duration) time.Time {
	workload, scaledAway := s.workload, 0
	switch start, begun := s.pass.began(workload); {
	case begun:
		scaledAway = start.Replicas - workload.Object.Replicas
	case s.pass.TookOver.IsZero():
		scaledAway = workload.Record.Replicas - workload.Object.Replicas
	}
	return workload.Record.Start.Add(time.Duration(replaced(workload)+max(0, scaledAway)+1) * patience)
}

// lastProgress is when the newest Pod of those that the restart brought became ready, or when the
// restart began.
func lastProgress(workload *inventory.Workload) time.Time {
	if ready := time.Unix(newestReady(workload), 0); ready.After(workload.Record.Start) {
		return ready
	}
	return workload.Record.Start
}

// newestReady is when the newest Pod became ready of those that are as the workload's last restart was to
// make them.
func newestReady(workload *inventory.Workload) int64 {
	if cause, _ := inventory.ParseCause(workload.Record.Cause); cause.Finding == v1alpha1.FindingLeftover {
		return workload.NewestReady
	}
	return workload.NewestMeshedReady
}

// isNoWorse reports whether a restart that makes no further progress brought all that it was made for,
// and no Pod is missing that was ready before: one of a node that is gone, or that never was.
func isNoWorse(workload *inventory.Workload) bool {
	before := min(workload.Record.Ready, workload.Object.Replicas)
	return before > 0 && workload.Pods.Ready >= before && isBroughtIn(workload)
}

// freesItsPlace is when a restart that has failed no longer takes up what the budgets allow: at once
// where as many Pods are ready as before it, and otherwise when nothing has moved for as long again.
// Pods that become ready over and over put it off no further than each by itself may have taken.
func freesItsPlace(workload *inventory.Workload, record *inventory.Record, timeout time.Duration) time.Time {
	object, pods := workload.Object, workload.Pods
	goesOn := object.RollingOut() && !object.Paused && object.Template.Annotations[v1alpha1.RestartCauseAnnotation] == record.Cause
	if record.Method == v1alpha1.MethodRestartAt {
		goesOn = !object.RestartAt.Equal(object.RestartedAt)
	}
	if !goesOn && pods.Ready >= min(record.Ready, object.Replicas) {
		return record.Start
	}
	last, ended, patience := lastProgress(workload), record.Start, timeout+object.Patience()
	if record.End != nil {
		ended = *record.End
	}
	if ended.After(last) {
		last = ended
	}
	return earlier(last.Add(patience), ended.Add(time.Duration(replaced(workload)+1)*patience))
}
