package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vbauerster/mpb/v8"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// observedProduction is a policy that the operator has looked at.
func observedProduction(fullMesh metav1.ConditionStatus, reason, message string) v1alpha1.MeshPolicy {
	policy := builder.Enforcing("production").Build()
	policy.Status.ObservedGeneration = new(policy.Generation)
	policy.Status.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionFullMesh, Status: fullMesh, Reason: reason, Message: message},
		{Type: v1alpha1.ConditionRestartsAllowed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEnforcing, Message: "Workloads are restarted where that helps and is safe."},
	}
	return *policy
}

// report is of a namespace with so many Pods; full mesh and settled follow from the rows.
func report(namespace string, eligible, meshed int32, rows ...v1alpha1.ReportedWorkload) v1alpha1.MeshReport {
	fullMesh, reason, settled := metav1.ConditionFalse, v1alpha1.ReasonWorkloadsHeld, metav1.ConditionTrue
	switch eligible {
	case 0:
		reason = v1alpha1.ReasonNoneExpected
	case meshed:
		fullMesh, reason = metav1.ConditionTrue, v1alpha1.ReasonAllMeshed
	}
	for i := range rows {
		if rows[i].Action != v1alpha1.ActionHold {
			reason, settled = v1alpha1.ReasonInProgress, metav1.ConditionFalse
		}
	}
	report := v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.ReportName}}
	report.Status = v1alpha1.MeshReportStatus{
		Policy: "production",
		Pods:   &v1alpha1.ReportedPods{Eligible: &eligible, Meshed: &meshed},
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionFullMesh, Status: fullMesh, Reason: reason, LastTransitionTime: metav1.NewTime(then)},
			{Type: v1alpha1.ConditionSettled, Status: settled, Reason: v1alpha1.ReasonObserved, LastTransitionTime: metav1.NewTime(then)},
		},
		Workloads:        rows,
		OmittedWorkloads: new(int32(0)),
	}
	return report
}

func restartedBy(method v1alpha1.RestartMethod, row v1alpha1.ReportedWorkload) v1alpha1.ReportedWorkload {
	row.Method = method
	return row
}

func reportedRow(kind, name string, action v1alpha1.Action, reason string, clearsBy v1alpha1.ClearedBy, message string) v1alpha1.ReportedWorkload {
	return v1alpha1.ReportedWorkload{
		WorkloadReference: v1alpha1.WorkloadReference{Group: "apps", Kind: kind, Name: name},
		Pods:              new(int32(3)),
		Meshed:            new(int32(1)),
		Finding:           v1alpha1.FindingMissing,
		Action:            action,
		Reason:            reason,
		ClearsBy:          clearsBy,
		Since:             metav1.NewTime(then),
		Message:           message,
	}
}

var (
	heldRow     = reportedRow("StatefulSet", "db", v1alpha1.ActionHold, "WouldCauseDowntime", v1alpha1.ClearedByAdmin, "A restart leaves no Pod ready for a moment.")
	inFlightRow = restartedBy(v1alpha1.MethodEviction, reportedRow("Deployment", "web", v1alpha1.ActionInFlight, "RestartInProgress", "", "Restarting since noon."))
)

func TestStatusIsPrinted(t *testing.T) {
	policy := observedProduction(metav1.ConditionFalse, v1alpha1.ReasonInProgress, "15 of 20 Pods are in the mesh, 1 being restarted, 1 held until somebody acts.")
	shop := report("shop", 9, 4, heldRow, inFlightRow)
	shop.Status.Pods.NotExpected = []v1alpha1.NotExpectedPods{{Reason: "PodLabelOptOut", Pods: 2}}
	shop.Status.OmittedWorkloads = new(int32(1))
	unseen := report("unseen", 3, 3)
	unseen.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFullMesh, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonWatchStale, Message: restart.WatchStaleMessage("pods cannot be watched since 2026-11-23T12:00:00Z (403 Forbidden)")}}
	reports := []v1alpha1.MeshReport{shop, report("cart", 8, 8), unseen}
	for _, test := range []struct {
		golden string
		asked  string
		format format
		width  int
	}{
		{"status.txt", "", formatTable, 0},
		{"status-terminal.txt", "", formatTable, 100},
		{"status-shop.txt", "shop", formatTable, 0},
		{"status-unseen.txt", "unseen", formatTable, 0},
		{"status.json", "", formatJSON, 0},
	} {
		t.Run(test.golden, func(t *testing.T) {
			document := newStatusDocument([]v1alpha1.MeshPolicy{policy}, reports, test.asked)
			var printed bytes.Buffer
			if err := test.format.print(screen{&printed, test.width}, document, document.print); err != nil {
				t.Fatal(err)
			}
			checkGolden(t, test.golden, printed.Bytes())
		})
	}
}

func TestWhatIsFullMeshAndWhatIsSettled(t *testing.T) {
	seen := []v1alpha1.MeshPolicy{observedProduction(metav1.ConditionTrue, v1alpha1.ReasonAllMeshed, "")}
	unseen := observedProduction(metav1.ConditionTrue, v1alpha1.ReasonAllMeshed, "")
	unseen.Generation++
	begun := observedProduction(metav1.ConditionFalse, v1alpha1.ReasonInProgress, "")
	begun.Status.Conditions = append(begun.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInProgress})
	for _, test := range []struct {
		name     string
		policies []v1alpha1.MeshPolicy
		reports  []v1alpha1.MeshReport
		asked    string
		fullMesh bool
		settled  bool
	}{
		{"no policy, no report", nil, nil, "", true, true},
		{"a policy and nothing to report", seen, nil, "", true, true},
		{"every Pod is in the mesh", seen, []v1alpha1.MeshReport{report("shop", 3, 3)}, "", true, true},
		{"a workload is held", seen, []v1alpha1.MeshReport{report("shop", 3, 1, heldRow)}, "", false, true},
		{"a workload is being restarted", seen, []v1alpha1.MeshReport{report("shop", 3, 1, inFlightRow)}, "", false, false},
		{"another namespace is not there yet", seen, []v1alpha1.MeshReport{report("shop", 3, 3), report("cart", 3, 1, inFlightRow)}, "", false, false},
		{"another namespace is not there yet, and was not asked for", seen, []v1alpha1.MeshReport{report("shop", 3, 3), report("cart", 3, 1, inFlightRow)}, "shop", true, true},
		{"the policy has changed since", []v1alpha1.MeshPolicy{unseen}, []v1alpha1.MeshReport{report("shop", 3, 3)}, "", false, false},
		{"the policy is not there yet, and no report either", []v1alpha1.MeshPolicy{begun}, nil, "", false, false},
		{"the policy is not there yet, and the namespace that was asked for is", []v1alpha1.MeshPolicy{begun}, []v1alpha1.MeshReport{report("shop", 3, 3)}, "shop", true, true},
		{"nothing is expected anywhere", []v1alpha1.MeshPolicy{observedProduction(metav1.ConditionFalse, v1alpha1.ReasonNoneExpected, "")}, []v1alpha1.MeshReport{report("shop", 0, 0)}, "", true, true},
		{"nothing is expected in one namespace of many", seen, []v1alpha1.MeshReport{report("shop", 0, 0)}, "", true, true},
		{"nothing is expected in the namespace that was asked for", seen, []v1alpha1.MeshReport{report("shop", 0, 0)}, "shop", false, true},
		{"there is no report on the namespace that was asked for", seen, nil, "shop", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			document := newStatusDocument(test.policies, test.reports, test.asked)
			if got := document.isAtFullMesh(); got != test.fullMesh {
				t.Errorf("It is at full mesh: %t, want %t", got, test.fullMesh)
			}
			if got := document.isSettled(); got != test.settled {
				t.Errorf("It is settled: %t, want %t", got, test.settled)
			}
		})
	}
}

// Elsewhere than on a terminal, progress is a line for each change and none for what stays.
func TestChangesAreLines(t *testing.T) {
	var printed bytes.Buffer
	shown := &changes{out: screen{Writer: &printed}, before: map[string]string{}}
	for _, reports := range [][]v1alpha1.MeshReport{
		{report("shop", 3, 1, inFlightRow), report("cart", 2, 2)},
		{report("shop", 3, 1, inFlightRow), report("cart", 2, 2)},
		{report("shop", 3, 3), report("cart", 2, 2)},
	} {
		shown.show(newStatusDocument(nil, reports, ""))
	}
	shown.done()
	checkGolden(t, "changes.txt", printed.Bytes())
}

func TestBarsAreDrawn(t *testing.T) {
	var printed bytes.Buffer
	shown := newBars(screen{&printed, 100}, mpb.WithAutoRefresh(), mpb.WithWidth(100))
	shown.show(newStatusDocument(nil, []v1alpha1.MeshReport{report("shop", 4, 2, inFlightRow), report("cart", 2, 2)}, ""))
	shown.show(newStatusDocument(nil, []v1alpha1.MeshReport{report("shop", 4, 3, heldRow), report("cart", 2, 2)}, ""))
	shown.done()
	// What is drawn last stays.
	for _, want := range []string{"shop  [", "cart  [", "3 of 4 Pods are in the mesh, 1 workload held", "2 of 2 Pods are in the mesh"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("The bars do not show %q:\n%s", want, printed.String())
		}
	}
}
