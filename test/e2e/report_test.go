package e2e

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
)

// A policy in mode Report finds everything and writes to no workload.
func TestReportModeWritesToNoWorkload(test *testing.T) {
	t := onCluster(test)
	const shop = "report-mode"
	startShop(t, shop,
		builder.Deployment(shop, "web").Replicas(2).Build(),
		builder.StatefulSet(shop, "db").Replicas(2).Build(),
		builder.DaemonSet(shop, "agent").Build(),
	)
	label(t, shop, "istio-injection", "enabled")
	begin := serverTime()
	startOperator(t)
	create(t, builder.Reporting(shop).Over("team", shop).Settling(2).Build())

	awaitPolicy(t, shop, v1alpha1.ConditionRestartsAllowed, metav1.ConditionFalse, v1alpha1.ReasonReportMode)
	for kind, name := range map[string]string{"Deployment": "web", "StatefulSet": "db", "DaemonSet": "agent"} {
		row := awaitHeld(t, shop, kind, name, "ReportMode")
		if row.Finding != v1alpha1.FindingMissing || row.ClearsBy != v1alpha1.ClearedByAdmin {
			t.Errorf("%s %s is reported as %+v", kind, name, row)
		}
	}
	awaitReport(t, shop, v1alpha1.ConditionSettled, metav1.ConditionTrue)

	own := []string{"meshreports", "meshpolicies", "events", "leases", "selfsubjectaccessreviews"}
	requests := operatorRequests(t, begin)
	if len(requests) == 0 {
		t.Fatal("the audit log has no request of the operator")
	}
	for _, request := range requests {
		harmless := slices.Contains([]string{"get", "list", "watch"}, request.Verb) ||
			slices.Contains(own, request.Resource) || request.DryRun && (request.Verb == "patch" || request.Resource == "meshrestarts")
		if !harmless {
			t.Errorf("the operator sent %s %s (%s)", request.Verb, request.URI, request.Object)
		}
	}
}
