package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// From the label to full mesh the operator asks the API server for little: per restarted workload
// one dry-run Pod, one MeshRestart, one change of the template and one result. It reads from its watches
// only, except for the mesh's root certificate, once per namespace.
func TestRequestsPerRestart(test *testing.T) {
	t := onCluster(test)
	const shop, size = "requests", 8
	var want []string
	var workloads []client.Object
	for i := range size {
		want = append(want, fmt.Sprintf("app-%02d", i))
		workloads = append(workloads, builder.Deployment(shop, want[i]).Replicas(2).Build())
	}
	startShop(t, shop, workloads...)
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	awaitPolicy(t, shop, v1alpha1.ConditionRestartsAllowed, metav1.ConditionTrue, v1alpha1.ReasonEnforcing)

	begin := serverTime()
	label(t, shop, "istio-injection", "enabled")
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	awaitNothingInFlight(t, shop)
	requests := operatorRequests(t, begin)

	counts := map[string]int{}
	for i := range requests {
		if what := classify(&requests[i]); what != "" {
			counts[what]++
		}
	}
	t.Logf("requests from the label to full mesh of %d workloads: %v", size, counts)
	for what, count := range map[string]int{"dry-run Pod": size, "MeshRestart": size, "template change": size, "result": size, "other change of a workload": 0} {
		if counts[what] != count {
			t.Errorf("%d requests of the sort %q, want %d", counts[what], what, count)
			for i := range requests {
				if request := &requests[i]; classify(request) == what {
					t.Logf("  %s: %s %s %s, answered %d: %s", request.Received.Format(time.StampMilli), request.Verb, request.Resource, request.Name, request.Code, request.Object)
				}
			}
		}
	}
	for what, count := range counts {
		if strings.HasPrefix(what, "read") && (what != "read configmaps" || count > 1) {
			t.Errorf("%d requests of the sort %q, want none", count, what)
		}
	}
	changes := templateChanges(requests, shop)
	var changed []string
	for name, count := range changes {
		if count != 1 {
			t.Errorf("%d template changes of %s", count, name)
		}
		changed = append(changed, strings.TrimPrefix(name, "deployments/"))
	}
	slices.Sort(changed)
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("restarted workloads (-want +got):\n%s", diff)
	}
}

// classify names the sort of a request; the lease is left out.
func classify(request *cluster.AuditEvent) string {
	switch {
	case request.Resource == "leases", request.Verb == "watch":
		return ""
	case request.Verb == "get", request.Verb == "list":
		return "read " + request.Resource
	case request.Resource == "pods" && request.DryRun && request.Code >= http.StatusBadRequest:
		return "dry-run Pod without a good answer"
	case request.Resource == "pods" && request.DryRun:
		return "dry-run Pod"
	case request.DryRun:
		return "guard probe"
	case request.Resource == "meshrestarts" && request.Verb == "create":
		return "MeshRestart"
	case request.Resource == "meshrestarts" && request.Subresource == "status":
		return "result"
	case request.Verb == "patch" && strings.Contains(string(request.Object), "/spec/template"):
		return "template change"
	case slices.Contains(workloadKinds, request.Resource):
		return "other change of a workload"
	default:
		return request.Verb + " " + strings.TrimSuffix(request.Resource+"/"+request.Subresource, "/")
	}
}
