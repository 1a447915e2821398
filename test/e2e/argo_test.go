package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// Argo Rollouts are brought in by Argo's own controller, which the operator meets when it is installed
// and forgets when it is removed, and other workloads as ever.
func TestArgoRolloutsReachFullMesh(test *testing.T) {
	t := onCluster(test)
	const shop, later = "argo", "argo-later"
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())

	if err := t.StartRollouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := t.RemoveRollouts(context.Background()); err != nil {
			t.Error(err)
		}
	})
	lender := builder.Deployment(shop, "lender").Replicas(0).Build()
	startShop(t, shop, lender)
	web := builder.Rollout(shop, "web").Replicas(3).Build()
	borrower := builder.Rollout(shop, "lender").Replicas(2).TemplateOf("apps/v1", "Deployment", "lender").Build()
	alone := builder.Rollout(shop, "alone").Build()
	for _, rollout := range []*unstructured.Unstructured{web, borrower, alone} {
		create(t, rollout)
		awaitHealthy(t, rollout)
	}
	inside := builder.Rollout(shop, "inside").Replicas(2).Labelled("sidecar.istio.io/inject", "false").Build()
	create(t, inside)
	awaitHealthy(t, inside)
	untouched := uids(podsOf(t, shop, "inside"))

	begin := serverTime()
	label(t, shop, "istio-injection", "enabled")
	awaitHeld(t, shop, "Rollout", "alone", "WouldCauseDowntime")
	for _, name := range []string{"web", "lender"} {
		awaitInjected(t, shop, name)
	}
	modify(t, alone, func(rollout *unstructured.Unstructured) {
		rollout.SetAnnotations(map[string]string{v1alpha1.AcceptAnnotation: string(v1alpha1.RiskDowntime)})
	})
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	awaitReport(t, shop, v1alpha1.ConditionSettled, metav1.ConditionTrue)
	want := map[string]int{"web": 1, "lender": 1, "alone": 1}
	requests := operatorRequests(t, begin)
	if diff := cmp.Diff(want, restartAts(requests, shop)); diff != "" {
		t.Errorf("restarts of Rollouts (-want +got):\n%s", diff)
	}
	if restarts := templateChanges(requests, shop); len(restarts) > 0 {
		t.Errorf("templates were changed: %v", restarts)
	}
	if diff := cmp.Diff(untouched, uids(podsOf(t, shop, "inside"))); diff != "" {
		t.Errorf("Pods that are to stay outside were replaced (-before +after):\n%s", diff)
	}

	// The operator goes on where the kind goes.
	if err := t.RemoveRollouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, builder.Enforcing(later).Over("team", later).Settling(2).Build())
	startShop(t, later, builder.Deployment(later, "web").Replicas(2).Build())
	label(t, later, "istio-injection", "enabled")
	awaitReport(t, later, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
}

// awaitHealthy waits until Argo's controller has nothing left to do for a Rollout.
func awaitHealthy(t *clusterTest, rollout *unstructured.Unstructured) {
	t.Helper()
	eventually(t, "Rollout "+rollout.GetName()+" is healthy", func(ctx context.Context) error {
		if err := t.admin.Get(ctx, client.ObjectKeyFromObject(rollout), rollout); err != nil {
			return err
		}
		phase, _, _ := unstructured.NestedString(rollout.Object, "status", "phase")
		message, _, _ := unstructured.NestedString(rollout.Object, "status", "message")
		if phase != "Healthy" {
			return fmt.Errorf("it is %s: %s", phase, message)
		}
		return nil
	})
}

// awaitInjected waits until every Pod with the label app=name is in the mesh.
func awaitInjected(t *clusterTest, namespace, name string) {
	t.Helper()
	eventually(t, "every Pod of "+name+" is in the mesh", func(context.Context) error {
		left := map[types.UID]string{}
		running := podsOf(t, namespace, name)
		for i := range running {
			if !isInjected(&running[i]) {
				left[running[i].UID] = running[i].Name
			}
		}
		if len(running) == 0 || len(left) > 0 {
			return fmt.Errorf("of %d Pods outside are %v", len(running), left)
		}
		return nil
	})
}

// restartAts counts, by name, how often the operator asked for a restart of the Rollouts of a namespace.
func restartAts(events []cluster.AuditEvent, namespace string) map[string]int {
	counts := map[string]int{}
	for i := range events {
		event := &events[i]
		if event.Namespace == namespace && event.Resource == "rollouts" && event.Verb == "patch" && !event.DryRun &&
			event.Code == 200 && strings.Contains(string(event.Object), "/spec/restartAt") {
			counts[event.Name]++
		}
	}
	return counts
}
