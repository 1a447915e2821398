package controllers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// planned is what is decided about a namespace: verdicts on Deployments of one Pod each, of which
// none is in the mesh, in addition to so many Pods that are.
func planned(meshed int, verdicts ...restart.Verdict) *restart.NamespacePlan {
	namespace := &inventory.Namespace{Name: "shop", Totals: inventory.Totals{Meshed: meshed, Eligible: meshed}}
	if meshed > 0 {
		namespace.Workloads = append(namespace.Workloads,
			&inventory.Workload{Key: mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "complete"}})
	}
	for i := range verdicts {
		namespace.Workloads = append(namespace.Workloads, verdicts[i].Workload)
		namespace.Totals.Eligible += verdicts[i].Workload.Pods.Eligible
	}
	return &restart.NamespacePlan{Namespace: namespace, Policy: &restart.Policy{Name: "production", Mode: v1alpha1.ModeEnforce},
		Verdicts: verdicts}
}

// outside is a Deployment of one Pod that is not in the mesh.
func outside(name string) *inventory.Workload {
	return &inventory.Workload{
		Key:     mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: name},
		Object:  inventory.FromDeployment(builder.Deployment("shop", name).Build()),
		Finding: v1alpha1.FindingMissing,
		Pods:    inventory.Pods{Running: 1, ToReplace: 1, Eligible: 1},
	}
}

func held(name string, reason restart.Reason, clearsBy v1alpha1.ClearedBy) restart.Verdict {
	return restart.Verdict{Workload: outside(name), Action: v1alpha1.ActionHold, Reason: reason, ClearsBy: clearsBy, Message: "Because."}
}

func done(name string, action v1alpha1.Action, reason restart.Reason) restart.Verdict {
	return restart.Verdict{Workload: outside(name), Action: action, Reason: reason, Method: v1alpha1.MethodEviction,
		Message: "It is being done."}
}

var (
	paused     = held("paused", restart.ReasonPaused, v1alpha1.ClearedByOwner)
	settling   = held("settling", restart.ReasonSettling, v1alpha1.ClearedByTime)
	usedUp     = held("next", restart.ReasonBudgetExhausted, v1alpha1.ClearedByCluster)
	downtime   = held("alone", restart.ReasonWouldCauseDowntime, v1alpha1.ClearedByAdmin)
	due        = done("due", v1alpha1.ActionRestart, restart.ReasonRestartDue)
	inProgress = done("restarting", v1alpha1.ActionInFlight, restart.ReasonRestartInProgress)
)

func TestReportSaysHowFarANamespaceIs(t *testing.T) {
	const observed = "Ready=True/Observed"
	for _, test := range []struct {
		name string
		plan *restart.NamespacePlan
		want []string
		says string
	}{
		{
			name: "every eligible Pod is in",
			plan: planned(3),
			want: []string{"FullMesh=True/AllMeshed", observed, "Settled=True/NothingLeft"},
			says: "3 of 3 Pods are in the mesh.",
		},
		{
			name: "nothing is eligible",
			plan: planned(0),
			want: []string{"FullMesh=False/NoneExpected", observed, "Settled=True/NothingLeft"},
			says: "Injection expects no Pod here.",
		},
		{
			name: "one is restarted next",
			plan: planned(3, due),
			want: []string{"FullMesh=False/InProgress", observed, "Reconciling=True/InProgress", "Settled=False/InProgress"},
			says: "3 of 4 Pods are in the mesh, 1 next.",
		},
		{
			name: "one is being restarted",
			plan: planned(3, inProgress),
			want: []string{"FullMesh=False/InProgress", observed, "Reconciling=True/InProgress", "Settled=False/InProgress"},
			says: "3 of 4 Pods are in the mesh, 1 being restarted.",
		},
		{
			name: "all wait",
			plan: planned(0, settling, usedUp),
			want: []string{"FullMesh=False/InProgress", observed, "Reconciling=True/InProgress", "Settled=False/InProgress"},
			says: "0 of 2 Pods are in the mesh, 2 waiting.",
		},
		{
			name: "the rest needs somebody",
			plan: planned(3, downtime, paused),
			want: []string{"FullMesh=False/WorkloadsHeld", observed, "Settled=True/NothingLeft", "Stalled=True/WorkloadsHeld"},
			says: "3 of 5 Pods are in the mesh, 2 held until somebody acts, first Deployment shop/alone (WouldCauseDowntime).",
		},
		{
			name: "some need somebody and some go on",
			plan: planned(3, paused, inProgress, due, settling),
			want: []string{"FullMesh=False/InProgress", observed, "Reconciling=True/InProgress", "Settled=False/InProgress"},
			says: "3 of 7 Pods are in the mesh, 1 being restarted, 1 next, 1 waiting, 1 held until somebody acts, first Deployment shop/paused (Paused).",
		},
	} {
		// What was said before makes no difference.
		for before, status := range everyStatusBefore() {
			t.Run(test.name+", "+before, func(t *testing.T) {
				got := reportStatus(test.plan, status, 3, noon)
				if diff := cmp.Diff(test.want, inShort(got.Conditions)); diff != "" {
					t.Errorf("conditions (-want +got):\n%s", diff)
				}
				if condition := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionFullMesh); condition == nil ||
					condition.Message != test.says {
					t.Errorf("FullMesh says %+v, want %q", condition, test.says)
				}
				checkConditions(t, got.Conditions, 3)
				checkReport(t, got)
			})
		}
	}
}

// everyStatusBefore are conditions that a report may have had.
func everyStatusBefore() map[string]v1alpha1.MeshReportStatus {
	all := func(status metav1.ConditionStatus) []metav1.Condition {
		var conditions []metav1.Condition
		for _, kind := range []string{"Ready", "FullMesh", "Settled", "Reconciling", "Stalled", "RestartsAllowed"} {
			conditions = append(conditions, metav1.Condition{Type: kind, Status: status, Reason: "Former",
				LastTransitionTime: metav1.NewTime(yesterday)})
		}
		return conditions
	}
	return map[string]v1alpha1.MeshReportStatus{
		"new":                 {},
		"after all was true":  {Conditions: all(metav1.ConditionTrue)[:5]},
		"after all was false": {Conditions: all(metav1.ConditionFalse)[:5]},
		"after another version": {Conditions: append(all(metav1.ConditionUnknown)[:3],
			metav1.Condition{Type: "Soaking", Status: metav1.ConditionTrue, Reason: "New"})},
		"with other rows and more": {Policy: "other", Workloads: []v1alpha1.ReportedWorkload{{Reason: "Gone"}}},
	}
}

// gated is what is said of a policy that may start nothing; with an empty reason, of one that may.
func gated(reason restart.Reason) *restart.PolicyPlan {
	if reason == "" {
		return &restart.PolicyPlan{}
	}
	return &restart.PolicyPlan{Gate: &restart.Gate{Reason: reason, Message: "Because of " + string(reason) + ".",
		ClearsBy: v1alpha1.ClearedByAdmin}}
}

func TestPolicyStatusSaysWhatIsAllowed(t *testing.T) {
	enforcing := func(gate restart.Reason, change func(*policyState)) *policyState {
		state := &policyState{plan: gated(gate), matched: 2, complete: 1, sum: restart.Summary{Eligible: 4, Meshed: 4, Complete: 2}}
		if change != nil {
			change(state)
		}
		return state
	}
	for _, test := range []struct {
		name  string
		state *policyState
		want  []string
		says  string
	}{
		{
			name:  "it is in force and all is well",
			state: enforcing("", nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=True/Enforcing"},
			says:  "Workloads are restarted where that helps and is safe.",
		},
		{
			name:  "it only reports",
			state: enforcing(restart.ReasonReportMode, nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=False/ReportMode"},
			says:  "Because of ReportMode.",
		},
		{
			name:  "everything is stopped",
			state: enforcing(restart.ReasonStopped, nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=False/Stopped"},
			says:  "Because of Stopped.",
		},
		{
			name:  "the guard is missing",
			state: enforcing(restart.ReasonGuardMissing, nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=False/GuardMissing"},
			says:  "Because of GuardMissing.",
		},
		{
			name:  "the guard has not been tried",
			state: enforcing(restart.ReasonGuardUnknown, nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=Unknown/GuardUnknown"},
			says:  "Because of GuardUnknown.",
		},
		{
			name:  "a kind has not been read",
			state: enforcing(restart.ReasonCacheNotSynced, nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=False/CacheNotSynced"},
			says:  "Because of CacheNotSynced.",
		},
		{
			name:  "its breaker is open",
			state: enforcing(restart.ReasonBreakerOpen, nil),
			want:  []string{"FullMesh=True/AllMeshed", "Ready=True/Observed", "RestartsAllowed=False/BreakerOpen"},
			says:  "Because of BreakerOpen.",
		},
		{
			name:  "the cluster cannot be watched, whatever else stops it",
			state: enforcing(restart.ReasonGuardMissing, func(s *policyState) { s.watchStale = "pods cannot be watched" }),
			want:  []string{"FullMesh=Unknown/WatchStale", "Ready=Unknown/WatchStale", "RestartsAllowed=Unknown/WatchStale"},
			says:  restart.WatchStaleMessage("pods cannot be watched"),
		},
		{
			name: "restarts are going on",
			state: enforcing("", func(s *policyState) {
				s.sum, s.worst = restart.Summary{Eligible: 4, Meshed: 1, InFlight: 1, NeedsAction: 1}, "Deployment shop/alone (WouldCauseDowntime)"
			}),
			want: []string{"FullMesh=False/InProgress", "Ready=True/Observed", "Reconciling=True/InProgress", "RestartsAllowed=True/Enforcing"},
		},
		{
			name:  "somebody must act",
			state: enforcing("", func(s *policyState) { s.sum = restart.Summary{Eligible: 4, Meshed: 1, NeedsAction: 3} }),
			want:  []string{"FullMesh=False/WorkloadsHeld", "Ready=True/Observed", "RestartsAllowed=True/Enforcing", "Stalled=True/WorkloadsHeld"},
		},
		{
			name:  "it governs nothing",
			state: &policyState{},
			want:  []string{"FullMesh=False/NoneExpected", "Ready=True/Observed", "RestartsAllowed=True/Enforcing"},
		},
		{
			name:  "it cannot be used",
			state: &policyState{invalid: errors.New("reading spec.namespaceSelector: no such operator")},
			want: []string{"FullMesh=Unknown/InvalidSpec", "Ready=False/InvalidSpec", "RestartsAllowed=False/InvalidSpec",
				"Stalled=True/InvalidSpec"},
			says: "The policy cannot be used, and nothing is restarted under it: reading spec.namespaceSelector: no such operator",
		},
	} {
		for before, status := range everyStatusBefore() {
			t.Run(test.name+", "+before, func(t *testing.T) {
				object := builder.Enforcing("production").Build()
				object.Generation = 7
				object.Status = v1alpha1.MeshPolicyStatus{ObservedGeneration: new(int64(6)), Conditions: status.Conditions}
				got := policyStatus(test.state, object, noon)
				if diff := cmp.Diff(test.want, inShort(got.Conditions)); diff != "" {
					t.Errorf("conditions (-want +got):\n%s", diff)
				}
				allowed := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionRestartsAllowed)
				if test.says != "" && (allowed == nil || allowed.Message != test.says) {
					t.Errorf("RestartsAllowed says %+v, want %q", allowed, test.says)
				}
				if *got.ObservedGeneration != 7 {
					t.Errorf("the observed generation is %d", *got.ObservedGeneration)
				}
				checkConditions(t, got.Conditions, 7)
			})
		}
	}
}

func TestPolicyStatusCounts(t *testing.T) {
	state := &policyState{
		matched: 3, complete: 1,
		sum: restart.Summary{
			Complete: 1, InFlight: 2, WillRestart: 3, Waiting: 4, NeedsAction: 5, Eligible: 60, Meshed: 7,
			NotExpected: map[mesh.Reason]int{"a": 8, "b": 9},
		},
	}
	got := policyStatus(state, builder.Enforcing("production").Build(), noon)
	want := v1alpha1.MeshPolicyStatus{
		Namespaces: &v1alpha1.NamespaceCounts{Matched: new(int32(3)), Complete: new(int32(1))},
		Workloads: &v1alpha1.WorkloadCounts{
			Complete: new(int32(1)), InFlight: new(int32(2)), WillRestart: new(int32(3)), Waiting: new(int32(4)), NeedsAction: new(int32(5)),
		},
		Pods: &v1alpha1.PodCounts{Eligible: new(int32(60)), Meshed: new(int32(7)), NotExpected: new(int32(17))},
	}
	got.Conditions, got.ObservedGeneration = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the status (-want +got):\n%s", diff)
	}
}

func TestTimesSinceWhenStayUntilThingsChange(t *testing.T) {
	first := reportStatus(planned(1, paused, settling), v1alpha1.MeshReportStatus{}, 1, noon)
	later := noon.Add(time.Hour)
	sinceOf := func(status v1alpha1.MeshReportStatus) map[string]time.Time {
		since := map[string]time.Time{}
		for _, row := range status.Workloads {
			since[row.Name] = row.Since.Time
		}
		for _, condition := range status.Conditions {
			since[condition.Type] = condition.LastTransitionTime.Time
		}
		return since
	}
	for _, test := range []struct {
		name string
		plan *restart.NamespacePlan
		want map[string]time.Time
	}{
		{
			name: "nothing has changed",
			plan: planned(1, paused, settling),
			want: map[string]time.Time{"paused": noon, "settling": noon, "Ready": noon, "FullMesh": noon, "Settled": noon, "Reconciling": noon},
		},
		{
			name: "only words and counts have changed",
			plan: planned(2, restart.Verdict{Workload: outside("paused"), Action: v1alpha1.ActionHold, Reason: restart.ReasonPaused,
				ClearsBy: v1alpha1.ClearedByOwner, Message: "In other words."}, settling),
			want: map[string]time.Time{"paused": noon, "settling": noon, "Ready": noon, "FullMesh": noon, "Settled": noon, "Reconciling": noon},
		},
		{
			name: "one waits for something else, and one has come in",
			plan: planned(2, paused, held("other", restart.ReasonSettling, v1alpha1.ClearedByTime)),
			want: map[string]time.Time{"paused": noon, "other": later, "Ready": noon, "FullMesh": noon, "Settled": noon, "Reconciling": noon},
		},
		{
			name: "the reason has changed",
			plan: planned(1, held("paused", restart.ReasonOptedOut, v1alpha1.ClearedByOwner), settling),
			want: map[string]time.Time{"paused": later, "settling": noon, "Ready": noon, "FullMesh": noon, "Settled": noon, "Reconciling": noon},
		},
		{
			name: "it is settled",
			plan: planned(2, paused),
			want: map[string]time.Time{"paused": noon, "Ready": noon, "FullMesh": noon, "Settled": later, "Stalled": later},
		},
		{
			name: "it is complete",
			plan: planned(3),
			want: map[string]time.Time{"Ready": noon, "FullMesh": later, "Settled": later},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := reportStatus(test.plan, first, 1, later)
			if diff := cmp.Diff(test.want, sinceOf(got)); diff != "" {
				t.Errorf("since when (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, sinceOf(reportStatus(test.plan, got, 1, later.Add(time.Hour)))); diff != "" {
				t.Errorf("since when, an hour later (-want +got):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(map[string]time.Time{"paused": noon, "settling": noon},
		map[string]time.Time{"paused": sinceOf(first)["paused"], "settling": sinceOf(first)["settling"]}); diff != "" {
		t.Errorf("the former status was changed (-want +got):\n%s", diff)
	}
}

func TestReportListsAreBounded(t *testing.T) {
	var verdicts []restart.Verdict
	for i := range 100 {
		verdicts = append(verdicts, held(fmt.Sprintf("app-%03d", i), restart.ReasonPaused, v1alpha1.ClearedByOwner))
	}
	got := reportStatus(planned(0, verdicts...), v1alpha1.MeshReportStatus{}, 1, noon)
	if len(got.Workloads) != 64 || *got.OmittedWorkloads != 36 {
		t.Errorf("%d rows and %d omitted", len(got.Workloads), *got.OmittedWorkloads)
	}
	if first, last := got.Workloads[0].Name, got.Workloads[63].Name; first != "app-000" || last != "app-063" {
		t.Errorf("the rows go from %s to %s", first, last)
	}
	checkReport(t, got)
}

func TestReportTellsTheMethod(t *testing.T) {
	rows := reportStatus(planned(0, paused, inProgress), v1alpha1.MeshReportStatus{}, 1, noon).Workloads
	if rows[0].Method != "" || rows[1].Method != v1alpha1.MethodEviction {
		t.Errorf("methods %q and %q", rows[0].Method, rows[1].Method)
	}
}

func TestReportTellsWhatIsWorthKnowingBesideAVerdict(t *testing.T) {
	verdict := held("legacy", restart.ReasonPaused, v1alpha1.ClearedByOwner)
	verdict.Workload.Notes = []mesh.Note{{Reason: mesh.ReasonConflict, Message: "Two labels contradict each other."}}
	status := reportStatus(planned(1, verdict, paused), v1alpha1.MeshReportStatus{}, 1, noon)
	got := []string{status.Workloads[0].Message, status.Workloads[1].Message}
	if diff := cmp.Diff([]string{"Because. Note: Two labels contradict each other.", "Because."}, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestReportCountsWhatIsNotExpectedByReason(t *testing.T) {
	plan := planned(1)
	plan.Totals.NotExpected = map[mesh.Reason]int{"PodLabelOptOut": 3, "HostNetwork": 1}
	got := reportStatus(plan, v1alpha1.MeshReportStatus{}, 1, noon)
	want := &v1alpha1.ReportedPods{
		Eligible: new(int32(1)), Meshed: new(int32(1)),
		NotExpected: []v1alpha1.NotExpectedPods{{Reason: "HostNetwork", Pods: 1}, {Reason: "PodLabelOptOut", Pods: 3}},
	}
	if diff := cmp.Diff(want, got.Pods); diff != "" {
		t.Errorf("Pods (-want +got):\n%s", diff)
	}
}

// Whoever may write a Pod's owner can put anything there. The API server
// must take the report all the same, and keep it as it is: a report that differs from what is stored
// would be written again and again.
func TestReportIsStoredWhateverOthersWrite(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	odd := outside("odd")
	odd.Key = mesh.Key{Group: strings.Repeat("g", 300), Kind: strings.Repeat("K", 300), Namespace: "shop", Name: strings.Repeat("ö", 300)}
	odd.Object = nil
	long := restart.Verdict{Workload: odd, Action: v1alpha1.ActionHold, Reason: restart.ReasonCreationDenied,
		ClearsBy: v1alpha1.ClearedByOwner, Message: strings.Repeat("refusé ", 200)}
	var verdicts []restart.Verdict
	for i := range 100 {
		verdicts = append(verdicts, held(fmt.Sprintf("app-%03d", i), restart.ReasonPaused, v1alpha1.ClearedByOwner))
	}
	plan := planned(3, append([]restart.Verdict{long, inProgress, due, settling}, verdicts...)...)
	plan.Totals.NotExpected = map[mesh.Reason]int{"PodLabelOptOut": 3}
	report := &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: v1alpha1.ReportName}}
	w.create(t, report)
	want := reportStatus(plan, v1alpha1.MeshReportStatus{}, report.Generation, noon)
	checkReport(t, want)
	report.Status = want
	if err := w.operator.Status().Update(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, get(t, w, report).Status); diff != "" {
		t.Errorf("what is stored (-want +got):\n%s", diff)
	}
	if again := reportStatus(plan, report.Status, report.Generation, noon.Add(time.Minute)); !cmp.Equal(report.Status, again) {
		t.Errorf("it would be written again (-stored +again):\n%s", cmp.Diff(report.Status, again))
	}
}

func TestPolicyStatusIsStored(t *testing.T) {
	w := apiServer(t)
	for name, state := range map[string]*policyState{
		"in-force": {
			plan: gated(restart.ReasonWindowClosed), matched: 1, worst: "Deployment shop/" + strings.Repeat("n", 253) + " (Paused)",
			sum: restart.Summary{Eligible: 2, Meshed: 1, NeedsAction: 1, Waiting: 1, InFlight: 1, WillRestart: 1},
		},
		"stalled": {plan: gated(""), matched: 1, sum: restart.Summary{Eligible: 2, NeedsAction: 1}},
		"invalid": {invalid: errors.New(strings.Repeat("no such operator ", 100))},
		"empty":   {},
	} {
		t.Run(name, func(t *testing.T) {
			policy := builder.Enforcing("status-" + name).Build()
			w.create(t, policy)
			want := policyStatus(state, policy, noon)
			policy.Status = want
			if err := w.operator.Status().Update(t.Context(), policy); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, get(t, w, policy).Status); diff != "" {
				t.Errorf("what is stored (-want +got):\n%s", diff)
			}
		})
	}
}

// checkConditions holds conditions to the rules of kstatus
// (https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md) and to our own.
func checkConditions(t *testing.T, conditions []metav1.Condition, generation int64) {
	t.Helper()
	var types []string
	for _, condition := range conditions {
		types = append(types, condition.Type)
		if condition.ObservedGeneration != generation {
			t.Errorf("%s is of generation %d, want %d", condition.Type, condition.ObservedGeneration, generation)
		}
		if condition.Reason == "" || condition.Message == "" || condition.LastTransitionTime.IsZero() {
			t.Errorf("%s has no reason, message or time: %+v", condition.Type, condition)
		}
		if len(condition.Message) > 32768 || !utf8.ValidString(condition.Message) {
			t.Errorf("%s has a message of %d bytes that cannot be stored", condition.Type, len(condition.Message))
		}
		if slices.Contains([]string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}, condition.Type) &&
			condition.Status != metav1.ConditionTrue {
			t.Errorf("%s is %s and should not be there", condition.Type, condition.Status)
		}
	}
	for _, want := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionFullMesh} {
		if !slices.Contains(types, want) {
			t.Errorf("there is no condition %s in %v", want, types)
		}
	}
	if slices.Contains(types, v1alpha1.ConditionReconciling) && slices.Contains(types, v1alpha1.ConditionStalled) {
		t.Error("it goes on and is stalled at once")
	}
	slices.Sort(types)
	if len(slices.Compact(types)) != len(conditions) {
		t.Errorf("a condition is there twice: %v", types)
	}
}

// checkReport holds a report to the bounds of the API.
func checkReport(t *testing.T, status v1alpha1.MeshReportStatus) {
	t.Helper()
	within := func(what, text string, limit int) {
		t.Helper()
		if text == "" || len(text) > limit || !utf8.ValidString(text) {
			t.Errorf("%s has %d bytes, want 1 to %d: %q", what, len(text), limit, text)
		}
	}
	within("the policy", status.Policy, 253)
	if *status.OmittedWorkloads < 0 || len(status.Workloads) > 64 {
		t.Errorf("%d rows, %d omitted", len(status.Workloads), *status.OmittedWorkloads)
	}
	for i := range status.Workloads {
		row := &status.Workloads[i]
		within("a kind", row.Kind, 63)
		within("a name", row.Name, 253)
		within("a reason", row.Reason, 64)
		within("a message", row.Message, 1024)
		if (row.Action == v1alpha1.ActionHold) != (row.ClearsBy != "") {
			t.Errorf("%s: action %s is cleared by %q", row.Name, row.Action, row.ClearsBy)
		}
		if row.Since.IsZero() || row.Since.Nanosecond() != 0 {
			t.Errorf("%s: since %s", row.Name, row.Since)
		}
	}
}

// inShort are conditions in one line each, sorted.
func inShort(conditions []metav1.Condition) []string {
	var lines []string
	for _, condition := range conditions {
		lines = append(lines, fmt.Sprintf("%s=%s/%s", condition.Type, condition.Status, condition.Reason))
	}
	slices.Sort(lines)
	return lines
}
