package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

// The operator is killed at ten points of a run and started again: every workload is restarted
// once, and none is missed.
func TestKilledOperatorRestartsEverythingOnce(test *testing.T) {
	t := onCluster(test)
	const shop, points = "killed", 10
	want := startFleet(t, shop, points+2)
	begin := serverTime()
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 2, nil).Build())
	for point := 1; point <= points; point++ {
		running := startOperator(t)
		awaitRestarts(t, shop, point)
		running.Kill()
	}
	startOperator(t)
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	if diff := cmp.Diff(want, templateChanges(operatorRequests(t, begin), shop)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
}

// Of two replicas the leader is killed: the other goes on, and restarts nothing twice.
func TestSecondReplicaGoesOn(test *testing.T) {
	t := onCluster(test)
	const shop = "failover"
	want := startFleet(t, shop, 6)
	begin := serverTime()
	replicas := []*operator.Replica{startOperator(t), startOperator(t)}
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 1, nil).Build())
	awaitRestarts(t, shop, 2)
	leader, other := replicas[0], replicas[1]
	if !leader.Leads() {
		leader, other = other, leader
	}
	if !leader.Leads() || other.Leads() {
		t.Fatalf("not exactly one of two replicas leads: %t, %t", leader.Leads(), other.Leads())
	}
	leader.Kill()
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	if !other.Leads() {
		t.Error("the other replica never led")
	}
	if diff := cmp.Diff(want, templateChanges(operatorRequests(t, begin), shop)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
}

// startFleet makes a namespace of small Deployments whose Pods take a moment to become ready, labels
// it late, and returns one restart for each.
func startFleet(t *clusterTest, namespace string, size int) map[string]int {
	t.Helper()
	want := map[string]int{}
	var workloads []client.Object
	for i := range size {
		name := fmt.Sprintf("app-%02d", i)
		want["deployments/"+name] = 1
		workloads = append(workloads, builder.Deployment(namespace, name).Replicas(2).TemplateAnnotated(cluster.ReadyAfter, "300ms").Build())
	}
	startShop(t, namespace, workloads...)
	label(t, namespace, "istio-injection", "enabled")
	return want
}

// awaitRestarts waits until so many Deployments of a namespace were restarted. It looks often, so
// that what a test does then meets the operator in the middle of something.
func awaitRestarts(t *clusterTest, namespace string, atLeast int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d workloads are restarted", atLeast), func(ctx context.Context) error {
		var list appsv1.DeploymentList
		if err := t.admin.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return err
		}
		restarted := 0
		for i := range list.Items {
			if list.Items[i].Spec.Template.Annotations[v1alpha1.RestartedByAnnotation] != "" {
				restarted++
			}
		}
		if restarted < atLeast {
			return fmt.Errorf("%d are", restarted)
		}
		return nil
	})
}
