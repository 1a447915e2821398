package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// reportStatus says how far a namespace is. What was reported before gives the times since when
// things are as they are.
func reportStatus(plan *restart.NamespacePlan, before v1alpha1.MeshReportStatus, generation int64,
	now time.Time) v1alpha1.MeshReportStatus {
	sum := plan.Summarise()
	status := v1alpha1.MeshReportStatus{
		Policy: plan.Policy.Name,
		Pods: &v1alpha1.ReportedPods{
			Eligible:    new(int32(sum.Eligible)),
			Meshed:      new(int32(sum.Meshed)),
			NotExpected: notExpected(sum.NotExpected),
		},
		OmittedWorkloads: new(int32(max(0, len(plan.Verdicts)-v1alpha1.MaxReportedWorkloads))),
		Breaker:          plan.Breaker,
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
func setUnknown(set setCondition, watchStale string, conditions ...string) {
	for _, condition := range conditions {
		set(condition, metav1.ConditionUnknown, v1alpha1.ReasonWatchStale, restart.WatchStaleMessage(watchStale))
	}
}

// policyState is what the status of a policy is made of.
type policyState struct {
	// plan is nil where the policy governs no namespace.
	plan       *restart.PolicyPlan
	sum        restart.Summary
	matched    int
	complete   int
	worst      string
	invalid    error
	watchStale string
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
	if state.plan != nil {
		status.Breaker = state.plan.Breaker
	}
	set := conditionSetter(&status.Conditions, object.Status.Conditions, object.Generation, now)
	if state.invalid != nil {
		message := "The policy cannot be used, and nothing is restarted under it: " + state.invalid.Error()
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, message)
		set(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonInvalidSpec, message)
		set(v1alpha1.ConditionFullMesh, metav1.ConditionUnknown, v1alpha1.ReasonInvalidSpec, message)
		set(v1alpha1.ConditionRestartsAllowed, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, message)
		return status
	}
	if state.watchStale != "" {
		setUnknown(set, state.watchStale, v1alpha1.ConditionReady, v1alpha1.ConditionFullMesh, v1alpha1.ConditionRestartsAllowed)
		return status
	}
	set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonObserved, "The policy is in force.")
	if state.matched == 0 {
		set(v1alpha1.ConditionFullMesh, metav1.ConditionFalse, v1alpha1.ReasonNoneExpected, "No namespace follows this policy: its "+
			"namespaceSelector selects none, or policies of higher priority have them, or they are system namespaces without the label "+
			v1alpha1.IncludeLabel+"=true.")
	} else {
		setProgress(set, &state.sum, state.worst)
	}
	setRestartsAllowed(set, state.plan)
	return status
}

// setRestartsAllowed shows the gate of the policy.
func setRestartsAllowed(set setCondition, plan *restart.PolicyPlan) {
	const condition = v1alpha1.ConditionRestartsAllowed
	switch {
	case plan == nil || plan.Gate == nil:
		set(condition, metav1.ConditionTrue, v1alpha1.ReasonEnforcing, "Workloads are restarted where that helps and is safe.")
	case plan.Gate.Reason == restart.ReasonGuardUnknown, plan.Gate.Reason == restart.ReasonWatchStale:
		set(condition, metav1.ConditionUnknown, string(plan.Gate.Reason), plan.Gate.Message)
	default:
		set(condition, metav1.ConditionFalse, string(plan.Gate.Reason), plan.Gate.Message)
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

// withNotes is what is said of a workload, followed by what is worth knowing in addition.
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
