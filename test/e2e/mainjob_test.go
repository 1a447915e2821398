package e2e

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"

	appsv1 "k8s.io/api/apps/v1"
)

// A namespace that was labelled late reaches full mesh: what lacks the sidecar is restarted, once;
// what needs nothing keeps its Pods.
func TestLateLabelReachesFullMesh(test *testing.T) {
	t := onCluster(test)
	const shop = "late-label"
	web := builder.Deployment(shop, "web").Replicas(3).Build()
	cart := builder.Deployment(shop, "cart").Replicas(2).Build()
	db := builder.StatefulSet(shop, "db").Replicas(3).Build()
	agent := builder.DaemonSet(shop, "agent").Build()
	optedOut := builder.Deployment(shop, "legacy").With(func(d *appsv1.Deployment) {
		d.Spec.Template.Labels["sidecar.istio.io/inject"] = "false"
	}).Build()
	hostNetwork := builder.Deployment(shop, "node-proxy").With(func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.HostNetwork = true
	}).Build()
	startShop(t, shop, web, cart, db, agent, optedOut, hostNetwork)
	label(t, shop, "istio-injection", "enabled")
	inside := builder.Deployment(shop, "inside").Replicas(2).Build()
	startInjected(t, inside)

	untouched := map[string][]types.UID{}
	for _, name := range []string{"legacy", "node-proxy", "inside"} {
		untouched[name] = uids(podsOf(t, shop, name))
	}
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())

	report := awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	awaitReport(t, shop, v1alpha1.ConditionSettled, metav1.ConditionTrue)
	if got := *report.Status.Pods.Eligible; got != 13 {
		t.Errorf("%d Pods are eligible, want 13", got)
	}
	for name, before := range untouched {
		if diff := cmp.Diff(before, uids(podsOf(t, shop, name))); diff != "" {
			t.Errorf("Pods of %s, which needed nothing, were replaced (-before +after):\n%s", name, diff)
		}
	}
	want := map[string]int{"deployments/web": 1, "deployments/cart": 1, "statefulsets/db": 1, "daemonsets/agent": 1}
	if diff := cmp.Diff(want, templateChanges(operatorRequests(t, begin), shop)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
	for _, name := range []string{"web", "cart", "db", "agent"} {
		for _, pod := range podsOf(t, shop, name) {
			if !isInjected(&pod) {
				t.Errorf("Pod %s has no sidecar", pod.Name)
			}
		}
	}
}

// startInjected starts workloads in a labelled namespace, again until every Pod is injected: API
// servers may match webhooks by the namespace's former labels for a moment.
func startInjected(t *clusterTest, workloads ...*appsv1.Deployment) {
	t.Helper()
	for _, workload := range workloads {
		fresh := workload.DeepCopy()
		eventually(t, "Pods of "+workload.Name+" are injected", func(ctx context.Context) error {
			return dryRunInjects(ctx, t, workload)
		})
		startWorkloads(t, fresh)
	}
}

// dryRunInjects says why a Pod of the workload would not be injected now.
func dryRunInjects(ctx context.Context, t *clusterTest, workload *appsv1.Deployment) error {
	pod := &corev1.Pod{ObjectMeta: *workload.Spec.Template.ObjectMeta.DeepCopy(), Spec: *workload.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.GenerateName = workload.Namespace, workload.Name+"-"
	return expectInjected(ctx, t, pod)
}
