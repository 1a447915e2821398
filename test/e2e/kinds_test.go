package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// Of the kinds and strategies of which a restart would do harm, do nothing or is not wanted, each is held
// for a reason that names its cure, and in the mesh once that has been taken, where there is one.
func TestEveryKindReachesFullMeshOrIsHeldWithItsCure(test *testing.T) {
	t := onCluster(test)
	const shop = "kinds"
	plain := builder.Deployment(shop, "plain").Replicas(2).Build()
	recreate := builder.Deployment(shop, "recreate").Replicas(2).Recreate().Build()
	alone := builder.StatefulSet(shop, "alone").Build()
	paused := builder.Deployment(shop, "paused").Replicas(2).Build()
	legacy := builder.Deployment(shop, "legacy").Replicas(2).Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).Build()
	startShop(t, shop, plain, recreate, alone, paused, legacy)
	modify(t, paused, func(d *appsv1.Deployment) { d.Spec.Paused = true })
	nightly := builder.CronJob(shop, "nightly").Build()
	create(t, nightly,
		builder.StatefulSet(shop, "broken").Replicas(2).Grace(1).TemplateAnnotated(cluster.Behaviour, cluster.Crash).Build(),
		builder.Job(shop, "migrate").Build(),
		builder.Pod(shop, "bare").Build(),
		builder.Pod(shop, "clone-1").OwnedByOther(builder.ControlledByOther("apps.kruise.io/v1alpha1", "CloneSet", "clone", "clone-set")).Build(),
		&corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "old"}, Spec: corev1.ReplicationControllerSpec{
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "old"}}, Spec: plain.Spec.Template.Spec},
		}},
	)
	create(t, builder.Job(shop, "nightly-1").OwnedBy(nightly).Build())
	eventually(t, "every Pod runs", func(ctx context.Context) error {
		if all, err := pods(ctx, t, shop); err != nil || len(all) == 15 {
			return err
		}
		return fmt.Errorf("some are missing")
	})

	label(t, shop, "istio-injection", "enabled")
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).ProgressTimeout(10).Unbounded().Build())
	for _, held := range []struct {
		kind, name, reason string
		clearsBy           v1alpha1.ClearedBy
		cure               string
	}{
		{"Deployment", "recreate", "WouldCauseDowntime", v1alpha1.ClearedByAdmin, "accept: [Downtime]"},
		{"StatefulSet", "alone", "WouldCauseDowntime", v1alpha1.ClearedByAdmin, "accept: [Downtime]"},
		{"Deployment", "paused", "Paused", v1alpha1.ClearedByOwner, "kubectl rollout resume deployment/paused -n " + shop},
		{"Deployment", "legacy", "OptedOut", v1alpha1.ClearedByOwner, "remove the annotation"},
		{"StatefulSet", "broken", "RolloutStuck", v1alpha1.ClearedByOwner, "Fix or delete that Pod"},
		{"Job", "migrate", "JobRunsToCompletion", v1alpha1.ClearedByTime, "one created now is injected"},
		{"CronJob", "nightly", "JobRunsToCompletion", v1alpha1.ClearedByTime, "the next run is injected"},
		{"Pod", "bare", "NoController", v1alpha1.ClearedByOwner, "Delete it and create it again"},
		{"CloneSet", "clone", "OwnedByOperator", v1alpha1.ClearedByOwner, "by the means of that controller"},
		{"ReplicationController", "old", "OwnedByOperator", v1alpha1.ClearedByOwner, "delete the Pods that must be replaced one by one"},
	} {
		if row := awaitHeld(t, shop, held.kind, held.name, held.reason); row.ClearsBy != held.clearsBy || !containsAll(row.Message, held.cure) {
			t.Errorf("%s %s is held by %+v", held.kind, held.name, row)
		}
	}

	downtime := map[string]string{v1alpha1.AcceptAnnotation: string(v1alpha1.RiskDowntime)}
	modify(t, recreate, func(d *appsv1.Deployment) { d.Annotations = downtime })
	modify(t, alone, func(s *appsv1.StatefulSet) { s.Annotations = downtime })
	modify(t, paused, func(d *appsv1.Deployment) { d.Spec.Paused = false })
	modify(t, legacy, func(d *appsv1.Deployment) { delete(d.Annotations, v1alpha1.RestartAnnotation) })
	modify(t, &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "broken"}}, func(s *appsv1.StatefulSet) {
		delete(s.Spec.Template.Annotations, cluster.Behaviour)
	})
	remove(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "broken-0"}})
	left := map[string]bool{"migrate": true, "nightly-1": true, "bare": true, "clone-1": true, "old": true}
	eventually(t, "every other Pod is in the mesh and ready", func(ctx context.Context) error {
		all, err := pods(ctx, t, shop)
		if err != nil || len(all) != 16 {
			return fmt.Errorf("%d Pods, %w", len(all), err)
		}
		for i := range all {
			if !left[all[i].Labels["app"]] && (!isInjected(&all[i]) || !isReady(&all[i])) {
				return fmt.Errorf("Pod %s is not", all[i].Name)
			}
		}
		return nil
	})
	awaitReport(t, shop, v1alpha1.ConditionSettled, metav1.ConditionTrue)
	want := map[string]int{"deployments/plain": 1, "deployments/recreate": 1, "statefulsets/alone": 1, "deployments/paused": 1, "deployments/legacy": 1}
	if diff := cmp.Diff(want, templateChanges(operatorRequests(t, begin), shop)); diff != "" {
		t.Errorf("restarts are others than expected (-want +got):\n%s", diff)
	}
}

// A namespace in which two workloads crash in the mesh stops; others go on. When its owner asks for
// another try, what has failed is restarted once more, and the rest goes on.
func TestNamespaceStopsAfterTwoFailuresAndGoesOnWhenAsked(test *testing.T) {
	t := onCluster(test)
	const bad, good = "stops", "goes-on"
	create(t, builder.Namespace(bad).Labelled("team", bad).Build(), builder.Namespace(good).Labelled("team", bad).Build())
	crashing := func(name string) *appsv1.Deployment {
		return builder.Deployment(bad, name).Replicas(2).Surge(1).Unavailable(0).Grace(1).
			TemplateAnnotated(cluster.Behaviour, cluster.CrashInjected).Build()
	}
	startWorkloads(t, crashing("a"), crashing("b"), builder.Deployment(bad, "c").Replicas(2).Build(),
		builder.Deployment(good, "a").Replicas(2).Build(), builder.Deployment(good, "b").Replicas(2).Build(), builder.StatefulSet(good, "c").Replicas(2).Build())
	label(t, bad, "istio-injection", "enabled")
	label(t, good, "istio-injection", "enabled")
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(bad).Over("team", bad).Settling(2).ProgressTimeout(10).CoolDown(3600).Budget(v1alpha1.BudgetScopePolicy, 2, nil).Build())
	row := awaitHeld(t, bad, "Deployment", "c", "CanaryFailed")
	if row.ClearsBy != v1alpha1.ClearedByOwner || !containsAll(row.Message, "Deployment stops/a", "Deployment stops/b", "kubectl annotate namespace/stops fullmesh.dev/retry-requested=") {
		t.Errorf("it is held by %+v", row)
	}
	for _, name := range []string{"a", "b"} {
		if row := awaitHeld(t, bad, "Deployment", name, "RestartFailed"); !containsAll(row.Message, "container app", "CrashLoopBackOff", "exit code 1") {
			t.Errorf("the crash is not named: %s", row.Message)
		}
	}
	awaitReport(t, good, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	report := awaitReport(t, bad, v1alpha1.ConditionSettled, metav1.ConditionTrue)
	if report.Status.Breaker == nil || report.Status.Breaker.State != v1alpha1.BreakerOpen {
		t.Errorf("the breaker of the namespace is %+v", report.Status.Breaker)
	}
	restarts := func(want map[string]int) {
		t.Helper()
		if diff := cmp.Diff(want, templateChanges(operatorRequests(t, begin), bad)); diff != "" {
			t.Errorf("restarts are others than expected (-want +got):\n%s", diff)
		}
	}
	restarts(map[string]int{"deployments/a": 1, "deployments/b": 1})

	modify(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: bad}}, func(n *corev1.Namespace) {
		n.Annotations = map[string]string{v1alpha1.RetryAnnotation: "once"}
	})
	awaitInjected(t, bad, "c")
	eventually(t, "the others have failed once more", func(context.Context) error {
		if made := templateChanges(operatorRequests(t, begin), bad); made["deployments/a"] < 2 || made["deployments/b"] < 2 {
			return fmt.Errorf("restarts are %v", made)
		}
		return nil
	})
	awaitReport(t, bad, v1alpha1.ConditionSettled, metav1.ConditionTrue)
	served := map[string]string{}
	for _, r := range awaitNothingInFlight(t, bad) {
		served[fmt.Sprintf("%s, attempt %d", r.Workload.Name, r.Attempt)] = r.Requests.Namespace
	}
	wantServed := map[string]string{"a, attempt 1": "", "a, attempt 2": "once", "b, attempt 1": "", "b, attempt 2": "once", "c, attempt 1": "once"}
	if diff := cmp.Diff(wantServed, served); diff != "" {
		t.Errorf("requests served by restarts (-want +got):\n%s", diff)
	}
	restarts(map[string]int{"deployments/a": 2, "deployments/b": 2, "deployments/c": 1})
}
