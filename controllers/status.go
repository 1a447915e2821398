package controllers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// reportStatus says how far a namespace is. What was reported before gives the times since when
// things are as they are.
func reportStatus(plan *restart.NamespacePlan, before v1alpha1.MeshReportStatus, generation int64, now time.Time) v1alpha1.MeshReportStatus {
	sum := plan.Summarise()
	status := v1alpha1.MeshReportStatus{
		Policy: plan.Policy.Name,
		Pods: &v1alpha1.ReportedPods{
			Eligible:    new(int32(sum.Eligible)),
			Meshed:      new(int32(sum.Meshed)),
			NotExpected: notExpected(sum.NotExpected),
		},
		OmittedWorkloads: new(int32(max(0, len(plan.Verdicts)-v1alpha1.MaxReportedWorkloads))),
		Recent:           recentRestarts(plan, before.Recent, now),
		Breaker:          plan.Standing.Breaker,
		InjectorBreakers: plan.Standing.Injectors,
		RetryServed:      plan.Standing.RetryServed,
	}
	since := map[v1alpha1.WorkloadReference]v1alpha1.ReportedWorkload{}
	for _, row := range before.Workloads {
		since[row.WorkloadReference] = row
	}
	for i := range plan.Verdicts[:min(len(plan.Verdicts), v1alpha1.MaxReportedWorkloads)] {
		row := reportedWorkload(&plan.Verdicts[i], now)
		if old, found := since[row.WorkloadReference]; found && old.Action == row.Action && old.Reason == row.Reason {
			row.Since = old.Since
		}
		status.Workloads = append(status.Workloads, row)
	}
	set := conditionSetter(&status.Conditions, before.Conditions, generation, now)
	set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonObserved, "The namespace is being watched.")
	setProgress(set, &sum, worst(plan.Verdicts))
	if sum.Settled() {
		set(v1alpha1.ConditionSettled, metav1.ConditionTrue, v1alpha1.ReasonNothingLeft, "Nothing is left that Fullmesh will do by itself.")
	} else {
		set(v1alpha1.ConditionSettled, metav1.ConditionFalse, v1alpha1.ReasonInProgress, inWords(&sum, ""))
	}
	return status
}

// setUnknown says of conditions that they are not known while the cluster cannot be watched.
func setUnknown(set setCondition, blind string, conditions ...string) {
	for _, condition := range conditions {
		set(condition, metav1.ConditionUnknown, v1alpha1.ReasonNotObserved, restart.BlindInWords(blind))
	}
}

// policyState is what the status of a policy is made of.
type policyState struct {
	standing  restart.Standing
	sum       restart.Summary
	matched   int
	complete  int
	worst     string
	invalid   error
	stopped   bool
	guard     restart.Guard
	blind     string
	unread    map[string]string
	enforcing bool
	// closed is the stretch in which the policy's windows are closed; nil where they are open.
	closed *restart.Stretch
}

// policyStatus says how far a policy's namespaces are.
func policyStatus(state *policyState, object *v1alpha1.MeshPolicy, now time.Time) v1alpha1.MeshPolicyStatus {
	status := v1alpha1.MeshPolicyStatus{
		ObservedGeneration: new(object.Generation),
		Namespaces:         &v1alpha1.NamespaceCounts{Matched: new(int32(state.matched)), Complete: new(int32(state.complete))},
		Workloads: &v1alpha1.WorkloadCounts{
			Complete:    new(int32(state.sum.Complete)),
			InFlight:    new(int32(state.sum.InFlight)),
			WillRestart: new(int32(state.sum.WillRestart)),
			Waiting:     new(int32(state.sum.Waiting)),
			NeedsAction: new(int32(state.sum.NeedsAction)),
		},
		Pods: &v1alpha1.PodCounts{
			Eligible:    new(int32(state.sum.Eligible)),
			Meshed:      new(int32(state.sum.Meshed)),
			NotExpected: new(int32(state.sum.NotExpectedPods())),
		},
	}
	status.Breaker, status.InjectorBreakers, status.RetryServed = state.standing.Breaker, state.standing.Injectors, state.standing.RetryServed
	set := conditionSetter(&status.Conditions, object.Status.Conditions, object.Generation, now)
	if state.invalid != nil {
		message := "The policy cannot be used, and nothing is restarted under it: " + state.invalid.Error()
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, message)
		set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonInvalidSpec, message)
		set(v1alpha1.ConditionFullMesh, metav1.ConditionUnknown, v1alpha1.ReasonInvalidSpec, message)
		set(v1alpha1.ConditionRestartsAllowed, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, message)
		return status
	}
	if state.blind != "" {
		setUnknown(set, state.blind, v1alpha1.ConditionReady, v1alpha1.ConditionFullMesh, v1alpha1.ConditionRestartsAllowed)
		return status
	}
	set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonObserved, "The policy is in force.")
	if state.matched == 0 {
		set(v1alpha1.ConditionFullMesh, metav1.ConditionFalse, v1alpha1.ReasonNoneExpected, "No namespace follows this policy: its namespaceSelector selects none, or policies of higher priority have them, or they are system namespaces without the label "+v1alpha1.IncludeLabel+"=true.")
	} else {
		setProgress(set, &state.sum, state.worst)
	}
	setRestartsAllowed(set, object.Name, state)
	return status
}

func setRestartsAllowed(set setCondition, policy string, state *policyState) {
	const condition = v1alpha1.ConditionRestartsAllowed
	unread, _ := restart.UnreadInWords(state.unread)
	switch {
	case !state.enforcing:
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonReportMode, "The policy is in mode Report and restarts nothing.")
	case state.stopped:
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonStopped, "Everything is stopped; rollouts that have begun go on, and no further Pod is evicted. "+restart.StoppedCure)
	case state.guard == restart.GuardMissing:
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonGuardMissing, restart.GuardMissingInWords)
	case state.guard == restart.GuardUnknown:
		set(condition, metav1.ConditionUnknown, v1alpha1.ReasonGuardUnknown, restart.GuardUnknownInWords)
	case unread != "":
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonNotReadYet, unread)
	case state.closed != nil && state.closed.Never:
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonWindowClosed, fmt.Sprintf("The windows are closed and do not open before %s, as far as that was looked for. Correct spec.windows.", state.closed.Opens.UTC().Format(time.RFC3339)))
	case state.closed != nil:
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonWindowClosed, fmt.Sprintf("The windows are closed until %s; what is in flight ends.", state.closed.Opens.UTC().Format(time.RFC3339)))
	case state.standing.Open():
		set(condition, metav1.ConditionFalse, v1alpha1.ReasonBreakerOpen, breakerInWords(policy, state.standing.Breaker))
	default:
		var text strings.Builder
		text.WriteString("Workloads are restarted where that helps and is safe.")
		for i := range state.standing.Injectors {
			injector := &state.standing.Injectors[i]
			fmt.Fprintf(&text, " Under injector revision %q: %s", injector.Revision, breakerInWords(policy, &injector.Breaker))
		}
		set(condition, metav1.ConditionTrue, v1alpha1.ReasonEnforcing, text.String())
	}
}

// breakerInWords says why nothing more is started, and what comes next.
func breakerInWords(policy string, breaker *v1alpha1.BreakerStatus) string {
	text := fmt.Sprintf("%d workloads have failed (%s), and nothing more is started.", ptr.Deref(breaker.FailedWorkloads, 0), strings.Join(breaker.Failed[:min(len(breaker.Failed), 3)], ", "))
	cure := "mend what is wrong and run: " + restart.RetryCommand("meshpolicy", policy, "")
	switch {
	case breaker.State == v1alpha1.BreakerProbing:
		return text + " One more is tried alone now."
	case breaker.RetryTime == nil:
		return fmt.Sprintf("%s Each of %d more that were tried alone failed as well. To go on, %s", text, ptr.Deref(breaker.ProbesFailed, 0), cure)
	default:
		return fmt.Sprintf("%s At %s one more is tried alone. To go on before that, %s", text, breaker.RetryTime.UTC().Format(time.RFC3339), cure)
	}
}

// setProgress sets FullMesh, and Reconciling and Stalled while they are true.
func setProgress(set setCondition, sum *restart.Summary, worst string) {
	switch {
	case sum.FullMesh():
		set(v1alpha1.ConditionFullMesh, metav1.ConditionTrue, v1alpha1.ReasonAllMeshed, inWords(sum, ""))
	case sum.Eligible == 0:
		set(v1alpha1.ConditionFullMesh, metav1.ConditionFalse, v1alpha1.ReasonNoneExpected, "Injection expects no Pod here.")
	case sum.Settled():
		set(v1alpha1.ConditionFullMesh, metav1.ConditionFalse, v1alpha1.ReasonWorkloadsHeld, inWords(sum, worst))
	default:
		set(v1alpha1.ConditionFullMesh, metav1.ConditionFalse, v1alpha1.ReasonInProgress, inWords(sum, worst))
	}
	switch {
	case !sum.Settled():
		set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonInProgress, inWords(sum, worst))
	case sum.NeedsAction > 0:
		set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonWorkloadsHeld, inWords(sum, worst))
	}
}

type setCondition func(kind string, status metav1.ConditionStatus, reason, message string)

// conditionSetter sets each condition anew. Those of before give the times since when, and one that is
// not set is gone: another version may have set it, and nobody would ever end it.
func conditionSetter(conditions *[]metav1.Condition, before []metav1.Condition, generation int64, now time.Time) setCondition {
	return func(kind string, status metav1.ConditionStatus, reason, message string) {
		if old := meta.FindStatusCondition(before, kind); old != nil {
			*conditions = append(*conditions, *old)
		}
		meta.SetStatusCondition(conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message,
			ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
		})
	}
}

// inWords says how far things are: how many Pods are in and what is done about the rest.
func inWords(sum *restart.Summary, worst string) string {
	parts := []string{fmt.Sprintf("%d of %d Pods are in the mesh", sum.Meshed, sum.Eligible)}
	for _, part := range []struct {
		workloads int
		what      string
	}{
		{sum.InFlight, "being restarted"}, {sum.WillRestart, "next"}, {sum.Waiting, "waiting"}, {sum.NeedsAction, "held until somebody acts"},
	} {
		if part.workloads > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.workloads, part.what))
		}
	}
	if worst != "" {
		parts = append(parts, "first "+worst)
	}
	return strings.Join(parts, ", ") + "."
}

// worst names the workload that needs somebody most.
func worst(verdicts []restart.Verdict) string {
	for i := range verdicts {
		if verdict := &verdicts[i]; verdict.NeedsAction() {
			return fmt.Sprintf("%s (%s)", verdict.Workload.Key, verdict.Reason)
		}
	}
	return ""
}

func reportedWorkload(verdict *restart.Verdict, now time.Time) v1alpha1.ReportedWorkload {
	workload := verdict.Workload
	return v1alpha1.ReportedWorkload{
		WorkloadReference: reference(workload.Key),
		Pods:              new(int32(workload.Pods.Running)),
		Meshed:            new(int32(workload.Pods.Meshed)),
		Finding:           workload.Finding,
		Action:            verdict.Action,
		Method:            verdict.Method,
		Reason:            string(verdict.Reason),
		ClearsBy:          verdict.ClearsBy,
		Since:             metav1.NewTime(now.Truncate(time.Second)),
		Message:           shorten(withNotes(verdict.Message, workload.Notes), longestMessage),
	}
}

// withNotes is what is said of a workload, followed by what is worth knowing beside it.
func withNotes(message string, notes []mesh.Note) string {
	for _, note := range notes {
		message += " Note: " + note.Message
	}
	return message
}

// reference names a workload within the bounds of the API. What a Pod says of its owner has none,
// and must not keep a report from being written.
func reference(key mesh.Key) v1alpha1.WorkloadReference {
	return v1alpha1.WorkloadReference{Group: shorten(key.Group, 253), Kind: shorten(key.Kind, 63), Name: shorten(key.Name, 253)}
}

func notExpected(counts map[mesh.Reason]int) []v1alpha1.NotExpectedPods {
	var rows []v1alpha1.NotExpectedPods
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		rows = append(rows, v1alpha1.NotExpectedPods{Reason: string(reason), Pods: int32(counts[reason])})
	}
	return rows
}

// recentRestarts are the newest restarts, the newest first: those that the workloads tell of, and those
// that were reported before and that they tell of no more. The report is a second place in which a
// restart is remembered, should somebody take away what is written on its workload.
func recentRestarts(plan *restart.NamespacePlan, before []v1alpha1.RecentRestart, now time.Time) []v1alpha1.RecentRestart {
	rows := recordedRestarts(plan.Restarted)
	told := map[string]bool{}
	for i := range rows {
		told[rows[i].Cause] = true
	}
	for i := range before {
		row := before[i]
		if told[row.Cause] {
			continue
		}
		if row.Result == "" && !endUntold(&row, plan, now) {
			continue
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b v1alpha1.RecentRestart) int {
		return cmp.Or(compareEnded(a.Result, b.Result), b.StartTime.Compare(a.StartTime.Time))
	})
	return rows[:min(len(rows), v1alpha1.MaxRecentRestarts)]
}

// compareEnded puts what has not ended first: that is to be found again whatever else has been restarted.
func compareEnded(a, b v1alpha1.RestartResult) int {
	return cmp.Compare(min(len(a), 1), min(len(b), 1))
}

// endUntold ends a restart of which nothing is written down any more. It is false where the workload has
// gone.
func endUntold(row *v1alpha1.RecentRestart, plan *restart.NamespacePlan, now time.Time) bool {
	at := slices.IndexFunc(plan.Workloads, func(workload *inventory.Workload) bool { return reference(workload.Key) == row.WorkloadReference })
	if at < 0 {
		return false
	}
	if plan.Workloads[at].Object == nil || plan.Workloads[at].RecordError != nil || slices.Contains(plan.Untold, plan.Workloads[at]) {
		return true // it has not been read yet, a newer version may go on with it, or its Pods are still being replaced
	}
	row.Result, row.Message = v1alpha1.ResultReverted, "What was written down about the restart on the workload has been taken away."
	for i := range plan.Verdicts {
		if verdict := &plan.Verdicts[i]; verdict.Workload == plan.Workloads[at] && verdict.Reason == restart.ReasonRolledBack {
			row.Result, row.Message = v1alpha1.ResultRolledBack, shorten(verdict.Message, longestMessage)
		}
	}
	row.EndTime = new(metav1.NewTime(now.Truncate(time.Second)))
	return true
}

// recordedRestarts are what the workloads tell of, those that have not ended first, then the newest. Records stand in annotations, which
// others can write: what the API server would not store, or not as it is, is left out or made to fit.
func recordedRestarts(recorded []restart.Restarted) []v1alpha1.RecentRestart {
	plausible := slices.DeleteFunc(slices.Clone(recorded), func(workload restart.Restarted) bool {
		return workload.Record.Start.IsZero()
	})
	newest := slices.SortedFunc(slices.Values(plausible), func(a, b restart.Restarted) int {
		return cmp.Or(compareEnded(a.Record.Result, b.Record.Result), b.Record.Start.Compare(a.Record.Start), strings.Compare(a.Key.String(), b.Key.String()))
	})
	var rows []v1alpha1.RecentRestart
	for _, workload := range newest[:min(len(newest), v1alpha1.MaxRecentRestarts)] {
		record := workload.Record
		row := v1alpha1.RecentRestart{
			WorkloadReference: reference(workload.Key),
			Cause:             shorten(record.Cause, 253),
			Policy:            workload.Policy,
			Method:            record.Method,
			StartTime:         metav1.NewTime(record.Start.Truncate(time.Second)),
			Result:            record.Result,
			Message:           shorten(record.Message, longestMessage),
		}
		if record.End != nil {
			row.EndTime = new(metav1.NewTime(record.End.Truncate(time.Second)))
		}
		rows = append(rows, row)
	}
	return rows
}
