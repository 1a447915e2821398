package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

// Pods that came up without a sidecar while the injector was down, under failurePolicy Ignore, are
// found, and brought in when it is back.
func TestSilentInjectorIsHealed(test *testing.T) {
	t := onCluster(test)
	const shop = "silent"
	startShop(t, shop)
	label(t, shop, "istio-injection", "enabled")
	web := builder.Deployment(shop, "web").Replicas(2).Build()
	startInjected(t, web)
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)

	letPass(t)
	if err := t.StopIstiod(t.Context(), cluster.DefaultRevision); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { startIstiod(t) })
	modify(t, web, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(4)) })
	eventually(t, "four Pods run", func(ctx context.Context) error { return rolledOut(ctx, t, web) })
	if !slices.ContainsFunc(podsOf(t, shop, "web"), func(pod corev1.Pod) bool { return !isInjected(&pod) }) {
		t.Fatal("every Pod has a sidecar, though the injector was down")
	}
	row := awaitHeld(t, shop, "Deployment", "web", "InjectorSilent")
	if row.ClearsBy != v1alpha1.ClearedByCluster {
		t.Errorf("the hold is cleared by %s", row.ClearsBy)
	}
	begin := serverTime()
	startIstiod(t)
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	if diff := cmp.Diff([]string{"web by RolloutRestart: Succeeded"}, inWords(awaitNothingInFlight(t, shop))); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
	if got := templateChanges(operatorRequests(t, begin), shop)["deployments/web"]; got != 1 {
		t.Errorf("%d restarts, want 1", got)
	}
}

// letPass sets failurePolicy Ignore for the test.
func letPass(t *clusterTest) {
	t.Helper()
	if err := t.SetFailurePolicy(t.Context(), admissionregistrationv1.Ignore); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := t.SetFailurePolicy(context.Background(), admissionregistrationv1.Fail); err != nil {
			t.Error(err)
		}
	})
}

func startIstiod(t *clusterTest) {
	t.Helper()
	if err := t.StartIstiod(context.Background(), cluster.DefaultRevision); err != nil {
		t.Error(err)
	}
}

// A namespace is deleted in the middle of a run.
func TestDeletedNamespaceLeavesNoReport(test *testing.T) {
	t := onCluster(test)
	const gone, stays = "deleted", "stays"
	startFleet(t, gone, 4)
	startShop(t, stays, builder.Deployment(stays, "web").Replicas(2).Build())
	label(t, stays, "team", gone)
	startOperator(t)
	create(t, builder.Enforcing(gone).Over("team", gone).Settling(2).Build())
	awaitRestarts(t, gone, 1)
	remove(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: gone}})
	// Where only counts change, they are written once a minute; a change of FullMesh is written at once.
	label(t, stays, "istio-injection", "enabled")
	awaitReport(t, stays, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	eventually(t, "one namespace is counted", func(ctx context.Context) error {
		policy := &v1alpha1.MeshPolicy{}
		if err := t.admin.Get(ctx, client.ObjectKey{Name: gone}, policy); err != nil {
			return err
		}
		if matched := policy.Status.Namespaces.Matched; *matched != 1 {
			return fmt.Errorf("%d are", *matched)
		}
		return nil
	})
}

// A policy is deleted in the middle of a run: what is in flight ends, nothing else starts, and no
// report stays behind.
func TestDeletedPolicyRestartsNothingMore(test *testing.T) {
	t := onCluster(test)
	const shop = "policy-deleted"
	startFleet(t, shop, 6)
	startOperator(t)
	policy := builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 1, nil).Build()
	create(t, policy)
	awaitRestarts(t, shop, 1)
	remove(t, policy)
	eventually(t, "the report is gone", func(ctx context.Context) error {
		err := t.admin.Get(ctx, client.ObjectKey{Namespace: shop, Name: v1alpha1.ReportName}, &v1alpha1.MeshReport{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("there is one"))
	})
	begin := serverTime()
	awaitNothingInFlight(t, shop)
	if got := templateChanges(operatorRequests(t, begin), shop); len(got) != 0 {
		t.Errorf("restarts without a policy: %v", got)
	}
}

// A policy is edited in the middle of a run: what it no longer governs is not restarted.
func TestEditedPolicyRestartsNothingOutside(t *testing.T) {
	t.Parallel()
	for _, edit := range []struct {
		name   string
		change func(*v1alpha1.MeshPolicySpec)
	}{
		{"to-report", func(spec *v1alpha1.MeshPolicySpec) { spec.Mode = v1alpha1.ModeReport }},
		{"to-another", func(spec *v1alpha1.MeshPolicySpec) {
			spec.NamespaceSelector.MatchLabels["team"] = "another"
		}},
		{"to-workloads", func(spec *v1alpha1.MeshPolicySpec) {
			spec.WorkloadSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "none"}}
		}},
	} {
		t.Run(edit.name, func(test *testing.T) {
			t := onCluster(test)
			shop := "edited-" + edit.name
			startFleet(t, shop, 6)
			startOperator(t)
			policy := builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 1, nil).Build()
			create(t, policy)
			awaitRestarts(t, shop, 1)
			modify(t, policy, func(p *v1alpha1.MeshPolicy) { edit.change(&p.Spec) })
			eventually(t, "the edited policy is observed", func(ctx context.Context) error {
				if err := t.admin.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
					return err
				}
				if observed := policy.Status.ObservedGeneration; observed == nil || *observed != policy.Generation {
					return fmt.Errorf("generation %v of %d is", observed, policy.Generation)
				}
				return nil
			})
			begin := serverTime()
			awaitNothingInFlight(t, shop)
			if got := templateChanges(operatorRequests(t, begin), shop); len(got) != 0 {
				t.Errorf("restarts outside of the policy: %v", got)
			}
		})
	}
}

// The red button is pressed in the middle of a run: what is in flight ends, nothing else starts.
// When it is let go, the run goes on.
func TestRedButton(test *testing.T) {
	t := onCluster(test)
	const shop = "stopped"
	want := startFleet(t, shop, 6)
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 1, nil).Build())
	awaitRestarts(t, shop, 2)
	button := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.StopConfigMap}}
	create(t, button.DeepCopy())
	t.Cleanup(func() { remove(t, button.DeepCopy()) })
	awaitPolicy(t, shop, v1alpha1.ConditionRestartsAllowed, metav1.ConditionFalse, v1alpha1.ReasonStopped)
	stopped := serverTime()
	awaitNothingInFlight(t, shop)
	if got := templateChanges(operatorRequests(t, stopped), shop); len(got) != 0 {
		t.Errorf("restarts though stopped: %v", got)
	}
	before := templateChanges(operatorRequests(t, begin), shop)
	if len(before) == len(want) {
		t.Fatal("everything was restarted before the button was pressed; nothing is shown")
	}
	remove(t, button.DeepCopy())
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
}

// Without the guard, Enforce is refused with a condition that says so; with it, the run goes on.
func TestWithoutGuardNothingIsRestarted(test *testing.T) {
	t := onCluster(test)
	const shop = "unguarded"
	want := startFleet(t, shop, 2)
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	applyGuard := func(ctx context.Context) error { return manifests.Apply(ctx, t.admin, root, "config/guard") }
	t.Cleanup(func() {
		if err := applyGuard(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var bindings admissionregistrationv1.ValidatingAdmissionPolicyBindingList
	if err := t.admin.List(t.Context(), &bindings); err != nil || len(bindings.Items) == 0 {
		t.Fatalf("listing the guard's %d bindings: %v", len(bindings.Items), err)
	}
	for i := range bindings.Items {
		remove(t, &bindings.Items[i])
	}
	eventually(t, "the API server has let go of the guard", func(ctx context.Context) error {
		return labelAsOperator(ctx, t, shop, "app-00")
	})
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	awaitPolicy(t, shop, v1alpha1.ConditionRestartsAllowed, metav1.ConditionFalse, v1alpha1.ReasonGuardMissing)
	awaitHeld(t, shop, "Deployment", "app-00", "GuardMissing")
	if got := templateChanges(operatorRequests(t, begin), shop); len(got) != 0 {
		t.Errorf("restarts without the guard: %v", got)
	}
	if err := applyGuard(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	if got := templateChanges(operatorRequests(t, begin), shop); len(got) != len(want) {
		t.Errorf("restarts are %v, want %v", got, want)
	}
}

// labelAsOperator tries, as a dry run, a change that the guard forbids to the operator's account.
func labelAsOperator(ctx context.Context, t *clusterTest, namespace, name string) error {
	config, err := clientcmd.BuildConfigFromFlags("", t.fullmesh.Kubeconfig)
	if err != nil {
		return err
	}
	operator, err := client.New(config, client.Options{Scheme: t.admin.Scheme()})
	if err != nil {
		return err
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return operator.Patch(ctx, deployment, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"tried":"yes"}}}`)), client.DryRunAll)
}

// A Deployment whose injected Pods crash is given up and named with the crash; the rest goes on.
func TestCrashingWorkloadIsNamed(test *testing.T) {
	t := onCluster(test)
	const shop = "crashing"
	bad := builder.Deployment(shop, "bad").Replicas(2).Grace(1).TemplateAnnotated(cluster.Behaviour, cluster.CrashInjected).Build()
	startShop(t, shop, bad, builder.Deployment(shop, "good").Replicas(3).Build())
	label(t, shop, "istio-injection", "enabled")
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).ProgressTimeout(10).Budget(v1alpha1.BudgetScopePolicy, 2, nil).Build())
	row := awaitHeld(t, shop, "Deployment", "bad", "RestartFailed")
	if row.ClearsBy != v1alpha1.ClearedByOwner || !containsAll(row.Message, "CrashLoopBackOff", "exit code 1") {
		t.Errorf("the failure is reported as %+v", row)
	}
	report := awaitReport(t, shop, v1alpha1.ConditionSettled, metav1.ConditionTrue)
	if got := *report.Status.Pods.Meshed; got < 3 {
		t.Errorf("%d Pods are in the mesh; the three of the other Deployment should be", got)
	}
	want := map[string]int{"deployments/bad": 1, "deployments/good": 1}
	if got := templateChanges(operatorRequests(t, begin), shop); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("restarts are %v, want %v", got, want)
	}
	ready := 0
	for _, pod := range podsOf(t, shop, "bad") {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready != 2 {
		t.Errorf("%d Pods of the Deployment that crashes in the mesh are ready; its own strategy keeps 2", ready)
	}
}
