package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// serving is a restart that was decided on when such requests stood.
func serving(requests v1alpha1.RetryRequests) tweak {
	return func(r *inventory.Restart) { r.Requests = requests }
}

// askedIn is the namespace shop with a request for another try.
func askedIn(value string) *corev1.Namespace {
	return builder.Namespace("shop").Labelled("istio-injection", "enabled").Annotated(
		v1alpha1.RetryAnnotation, value,
	).CreatedAt(yesterday).Build()
}

// A request lets what failed, was without effect, was taken back or was done already be tried once more; what a
// restart has served, it does not serve again.
func TestRequestIsServedOnce(t *testing.T) {
	const minute = time.Minute
	failed := func(changes ...tweak) []any { return failedAgo("shop", "cart", 5*minute, changes...) }
	tried := func(result v1alpha1.RestartResult, changes ...tweak) []any {
		return withPods(asking(tried("shop", "cart", result, 5*minute, changes...)), uninjected, uninjected, uninjected)
	}
	mesh := func() *v1alpha1.MeshPolicy { return requested(builder.Enforcing("mesh").Unbounded()) }
	for name, test := range map[string]struct {
		scene *scene
		// reason is that of a restart that is due when unset.
		reason restart.Reason
	}{
		"nobody asks":                            {scene: newScene(failed()), reason: restart.ReasonRestartFailed},
		"the owner asks, for one that failed":    {scene: newScene(tried(v1alpha1.ResultFailed))},
		"the owner asks, for one without effect": {scene: newScene(tried(v1alpha1.ResultIneffective)).checkedSince()},
		"the owner asks, for one taken back":     {scene: newScene(tried(v1alpha1.ResultReverted)).when(evictionDisabled)},
		"the owner asks, for one that is done":   {scene: newScene(tried(v1alpha1.ResultSucceeded)).checkedSince()},
		"the owner asks by a value that was served": {
			scene:  newScene(asking(failed(serving(v1alpha1.RetryRequests{Workload: "now"})))),
			reason: restart.ReasonRestartFailed,
		},
		"the owner asks by another value": {scene: newScene(asking(failed(serving(v1alpha1.RetryRequests{Workload: "before"}))))},
		"the owner has taken the request away": {
			scene:  newScene(failed(serving(v1alpha1.RetryRequests{Workload: "before"}))),
			reason: restart.ReasonRestartFailed,
		},
		"on the policy": {scene: newScene(mesh(), failed())},
		"on the policy, and it was served": {
			scene:  newScene(mesh(), failed(serving(v1alpha1.RetryRequests{Policy: "now"}))),
			reason: restart.ReasonRestartFailed,
		},
		"on the policy, and another one was served": {scene: newScene(mesh(), failed(serving(v1alpha1.RetryRequests{Policy: "before"})))},
		"on another policy than it was tried under": {scene: newScene(mesh(), failed(under("other"))), reason: restart.ReasonRestartFailed},
		"on the Namespace":                          {scene: newScene(askedIn("now"), failed())},
		"on the Namespace, and it was served": {
			scene:  newScene(askedIn("now"), failed(serving(v1alpha1.RetryRequests{Namespace: "now"}))),
			reason: restart.ReasonRestartFailed,
		},
		"by nothing but spaces":        {scene: newScene(askedIn("  "), failed()), reason: restart.ReasonRestartFailed},
		"of which only one was served": {scene: newScene(askedIn("now"), asking(failed(serving(v1alpha1.RetryRequests{Namespace: "now"}))))},
		"one that was interrupted has served none": {
			scene: newScene(
				outside(
					restarted(
						restarted(cart(), ended(v1alpha1.ResultFailed)), ended(v1alpha1.ResultInterrupted), attempt(2),
						serving(v1alpha1.RetryRequests{Workload: "now"}),
					).Annotated(v1alpha1.RetryAnnotation, "now"),
					3,
				),
			),
		},
		"for one of which the Pods are all in": {
			scene:  newScene(withPods(asking(failed()), readyInMeshAt(noon), readyInMeshAt(noon), crashing)),
			reason: restart.ReasonRestartFailed,
		},
		"though the Pods of the failed one fail": {scene: newScene(withPods(asking(failed()), uninjected, uninjected, crashing))},
		"though its own rollout goes on":         {scene: newScene(asking(rollingOut(failed())))},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if test.reason != "" {
				if verdict.Reason != test.reason {
					t.Errorf("verdict %s: %s", verdict.Reason, verdict.Message)
				}
				return
			}
			if verdict.Reason != restart.ReasonRestartDue {
				t.Fatalf("verdict %s: %s", verdict.Reason, verdict.Message)
			}
			// When it has been served, and failed as well, it is not served again.
			again := test.scene.with(written(verdict.Restart.Ended(v1alpha1.ResultFailed, "It has failed.", noon)))
			again.Now = noon.Add(time.Second)
			if verdict := only(t, again.decide()); verdict.Reason != restart.ReasonRestartFailed {
				t.Errorf("served, it is %s: %s", verdict.Reason, verdict.Message)
			}
		})
	}
}

// What a restart says of requests is what stood when it was decided on. A hash stands for what is too long.
func TestRequestsAreWrittenDown(t *testing.T) {
	s := newScene(
		requested(builder.Enforcing("mesh").Unbounded()), askedIn(strings.Repeat("n", 64)),
		outside(cart().Annotated(v1alpha1.RetryAnnotation, strings.Repeat("w", 65)), 3),
	)
	got := only(t, s.decide()).Restart.Requests
	if got.Policy != "now" || got.Namespace != strings.Repeat("n", 64) {
		t.Errorf("on the policy %q, on the Namespace %q", got.Policy, got.Namespace)
	}
	if !strings.HasPrefix(got.Workload, "sha256:") || len(got.Workload) > 64 {
		t.Errorf("on the workload %q", got.Workload)
	}
	other := newScene(outside(cart().Annotated(v1alpha1.RetryAnnotation, strings.Repeat("w", 66)), 3))
	if long := only(t, other.decide()).Restart.Requests.Workload; long == got.Workload {
		t.Errorf("another long value is written down as %q as well", long)
	}
}

// withPods is a workload with other Pods.
func withPods(objects []any, pods ...func(*builder.PodBuilder)) []any {
	return runs(objects[0].(metav1.Object), pods...)
}

// rollingOut is a Deployment whose controller has not replaced every Pod.
func rollingOut(objects []any) []any {
	objects[0].(*appsv1.Deployment).Status.UpdatedReplicas = 1
	return objects
}

// A restart that failed keeps its place for a while, and does not wait for itself when it is asked for again.
func TestNobodyWaitsForItself(t *testing.T) {
	failed := restarted(cart(), since(noon.Add(-15*time.Minute)), endedAt(v1alpha1.ResultFailed, noon.Add(-time.Minute))).
		Annotated(v1alpha1.RetryAnnotation, "please").
		With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Status.Replicas = 1, 4 })
	pods := []func(*builder.PodBuilder){uninjected, uninjected, uninjected, notReadySince(noon.Add(-14 * time.Minute))}
	for name, extra := range map[string]any{
		"under a disruption budget": builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(),
		"under a policy's budget":   builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil),
	} {
		t.Run(name, func(t *testing.T) {
			given := verdicts(newScene(runs(failed.Build(), pods...), extra, outside(deployment("shop", "pay"), 3)).decide())
			if got := given["Deployment shop/cart"]; got.Action != v1alpha1.ActionRestart {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
}

// What failed is tried again whenever something that decides has changed, though it is as it was before.
func TestEachChangeOfTheInjectorIsAnotherTry(t *testing.T) {
	b := restarted(cart(), since(noon.Add(-6*time.Hour)), endedAt(v1alpha1.ResultFailed, noon.Add(-5*time.Hour)))
	for n := range 5 {
		same, changed := newScene(outside(b, 3)), newScene(outside(b, 3))
		if n%2 == 0 {
			changed.lettingPass()
		} else {
			same.lettingPass()
		}
		if got := only(t, same.decide()); got.Reason != restart.ReasonRestartFailed {
			t.Errorf("after failure %d, as it was: %s: %s", n+1, got.Reason, got.Message)
		}
		got := only(t, changed.decide())
		if got.Action != v1alpha1.ActionRestart || got.Restart.Attempt != n+2 {
			t.Fatalf("after failure %d and a change: %s: %s", n+1, got.Reason, got.Message)
		}
		r := *got.Restart
		r.Start = noon.Add(-4*time.Hour + time.Duration(n)*time.Minute)
		b.Restarted(written(r.Ended(v1alpha1.ResultFailed, "It has failed.", r.Start.Add(time.Minute))))
	}
}
