package restart_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// tried is a Deployment, with its Pods outside, whose restart ended so long ago; one that goes on where the result is
// empty.
func tried(namespace, name string, result v1alpha1.RestartResult, ago time.Duration, changes ...tweak) []any {
	ending := []tweak{since(noon.Add(-ago - time.Minute))}
	if result != "" {
		ending = append(ending, endedAt(result, noon.Add(-ago)))
	}
	pod := uninjected
	if result == v1alpha1.ResultSucceeded {
		pod = injected
	}
	return runs(restarted(deployment(namespace, name), append(ending, changes...)...).Build(), pod, pod, pod)
}

func failedAgo(namespace, name string, ago time.Duration, changes ...tweak) []any {
	return tried(namespace, name, v1alpha1.ResultFailed, ago, changes...)
}

// ineffective is a Deployment whose restart ended so long ago and brought no sidecar.
func ineffective(namespace, name string, ago time.Duration, changes ...tweak) []any {
	return tried(namespace, name, v1alpha1.ResultIneffective, ago, changes...)
}

// probe makes a restart the probe of a policy's breaker, of such a number.
func probe(number int) tweak { return func(r *inventory.Restart) { r.Probes.Policy = number } }

// ofNamespace makes a restart the probe of the breaker of its namespace, of such a number.
func ofNamespace(number int) tweak { return func(r *inventory.Restart) { r.Probes.Namespace = number } }

func inNamespaces(names ...string) []any {
	var all []any
	for _, name := range names {
		all = append(all, meshed(name))
	}
	return all
}

func TestBreakers(t *testing.T) {
	const minute = time.Minute
	policy := func() *builder.PolicyBuilder { return builder.Enforcing("mesh").Unbounded() }
	three := func(ago time.Duration, changes ...tweak) []any {
		return slices.Concat(
			inNamespaces("a", "b", "c"), failedAgo("a", "x", ago+2*minute), failedAgo("b", "x", ago+minute), failedAgo("c", "x", ago, changes...),
		)
	}
	target := outside(cart(), 3)
	for name, test := range map[string]struct {
		scene    *scene
		reason   restart.Reason
		clearsBy v1alpha1.ClearedBy
		message  string
		// until is how long from now a probe starts.
		until time.Duration
	}{
		"two failed workloads do not stop a policy": {
			scene:  newScene(target, meshed("a"), meshed("b"), failedAgo("a", "x", minute), failedAgo("b", "x", minute)),
			reason: restart.ReasonRestartDue,
		},
		"three do": {
			scene: newScene(target, three(minute)), reason: restart.ReasonBreakerOpen, clearsBy: byTime, until: 59 * minute,
			message: "Nothing more is restarted under MeshPolicy mesh: the restarts of 3 workloads have failed (Deployment c/x, Deployment b/x, " +
				"Deployment a/x). At 2026-11-23T12:59:00Z one is restarted as a probe. To go on before that, fix what is wrong and run: " +
				`kubectl annotate meshpolicy/mesh fullmesh.dev/retry-requested="$(date)" --overwrite`,
		},
		"as many as the policy says": {
			scene:    newScene(policy().StopAfter(1), target, meshed("a"), failedAgo("a", "x", minute)),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			message:  "the restart of 1 workload has failed", until: 59 * minute,
		},
		"not before as many as the policy says": {
			scene: newScene(policy().StopAfter(4), target, three(minute)), reason: restart.ReasonRestartDue,
		},
		"one that was without effect counts": {
			scene:    newScene(policy().StopAfter(1), target, meshed("a"), ineffective("a", "x", minute)).checkedSince(),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    59 * minute,
		},
		"unless that is excused": {
			scene: newScene(
				policy().StopAfter(1), target, meshed("a"), ineffective("a", "x", minute, excusedFor(v1alpha1.ExcuseInjectorSilent)),
			).checkedSince(),
			reason: restart.ReasonRestartDue,
		},
		"one that was taken back does not count": {
			scene:  newScene(policy().StopAfter(1), target, meshed("a"), tried("a", "x", v1alpha1.ResultReverted, minute)),
			reason: restart.ReasonRestartDue,
		},
		"nor one that was interrupted": {
			scene:  newScene(policy().StopAfter(1), target, meshed("a"), tried("a", "x", v1alpha1.ResultInterrupted, minute)),
			reason: restart.ReasonRestartDue,
		},
		"one that failed before one that was interrupted does": {
			scene:    newScene(policy().StopAfter(1), target, meshed("a"), interruptedAfterFailure()),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    50 * minute,
		},
		"for as long as the policy says": {
			scene:    newScene(policy().CoolDown(300), target, three(minute)),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			message:  "12:04:00Z",
			until:    4 * minute,
		},
		"then one is restarted as a probe": {
			scene: newScene(policy().CoolDown(300), target, three(5*minute)), reason: restart.ReasonRestartDue,
		},
		"one whose template was changed since does not count": {
			scene: newScene(
				target, inNamespaces("a", "b", "c"), failedAgo("a", "x", minute), failedAgo("b", "x", minute),
				failedAgo("c", "x", minute, decidedBy("1-else")),
			),
			reason: restart.ReasonRestartDue,
		},
		"one whose inputs were hashed in another format does": {
			scene: newScene(
				target, inNamespaces("a", "b", "c"), failedAgo("a", "x", minute), failedAgo("b", "x", minute),
				failedAgo("c", "x", minute, decidedBy("0-else")),
			),
			reason: restart.ReasonBreakerOpen, clearsBy: byTime, until: 59 * minute,
		},
		"one that was asked for again does not count": {
			scene: newScene(
				target, inNamespaces("a", "b", "c"), failedAgo("a", "x", minute), failedAgo("b", "x", minute), asking(failedAgo("c", "x", minute)),
			),
			reason: restart.ReasonRestartDue,
		},
		"one that another policy governs does not count": {
			scene: newScene(target, three(minute)).labelled("c", "team", "other").
				governedBy(policy(), builder.Enforcing("other").Unbounded().Priority(1).Over("team", "other")), reason: restart.ReasonRestartDue,
		},
		"those that the policy leaves out do not count": {
			scene:  newScene(policy().Selecting("tier", "web"), outside(cart().Labelled("tier", "web"), 3), three(minute)),
			reason: restart.ReasonRestartDue,
		},
		"while a probe is in flight nothing else is": {
			scene:    newScene(target, three(61*minute), meshed("d"), tried("d", "x", "", minute, probe(1))),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byCluster,
			message:  "Deployment d/x is restarted alone, as a probe.",
		},
		"the probe of another policy is none": {
			scene:    newScene(target, three(61*minute), meshed("d"), tried("d", "x", "", minute, probe(1), under("other"))),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byCluster,
			message:  "One is restarted as a probe when those in flight have ended.",
		},
		"a probe waits for what was in flight before": {
			scene:    newScene(target, three(61*minute), meshed("d"), tried("d", "x", "", minute)),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byCluster,
			message:  "One is restarted as a probe when those in flight have ended.",
		},
		"a probe that failed doubles the wait": {
			scene: newScene(target, three(minute, probe(1))), reason: restart.ReasonBreakerOpen, clearsBy: byTime, until: 119 * minute,
		},
		"another one doubles it again": {
			scene: newScene(target, three(minute, probe(2))), reason: restart.ReasonBreakerOpen, clearsBy: byTime, until: 239 * minute,
		},
		"after three somebody must ask": {
			scene: newScene(target, three(1000*minute, probe(3))), reason: restart.ReasonBreakerOpen, clearsBy: byAdmin,
			message: "Each of 3 probes failed as well. Fix what is wrong and run: kubectl annotate meshpolicy/mesh",
		},
		"an administrator who asks closes it": {
			scene: newScene(requested(policy()), target, three(1000*minute, probe(3))), reason: restart.ReasonRestartDue,
		},
		"a probe that came through closes it": {
			scene:  newScene(target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute, probe(1))),
			reason: restart.ReasonRestartDue,
		},
		"unless something has failed after it": {
			scene:    newScene(target, three(minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, 3*minute, probe(1))).stopAfter(2),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    59 * minute,
		},
		"what failed before it counts no more": {
			scene:  newScene(target, three(minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, 150*time.Second, probe(1))).stopAfter(3),
			reason: restart.ReasonRestartDue,
		},
		"a probe of the namespace's breaker does not": {
			scene:    newScene(target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute, ofNamespace(1))),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    50 * minute,
		},
		"nor a probe of another policy": {
			scene:    newScene(target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute, probe(1), under("other"))),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    50 * minute,
		},
		"nor a restart that came through and was no probe": {
			scene:    newScene(target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute)),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    50 * minute,
		},
		"a probe closes it whose workload is gone": {
			scene: newScene(
				target, three(10*minute), meshed("d"),
				restartOf(deployment("d", "x").Build(), since(noon.Add(-2*minute)), endedAt(v1alpha1.ResultSucceeded, noon.Add(-minute)), probe(1)),
			),
			reason: restart.ReasonRestartDue,
		},
		"the status does not close it": {
			scene:    newScene(standing(policy(), v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing}), target, three(10*minute)),
			reason:   restart.ReasonBreakerOpen,
			clearsBy: byTime,
			until:    50 * minute,
		},
		"nor does it open it": {
			scene:  newScene(standing(policy(), v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, ProbesFailed: new(int32(3))}), target),
			reason: restart.ReasonRestartDue,
		},
		"two failed workloads stop their namespace": {
			scene:    newScene(target, failedAgo("shop", "x", minute), failedAgo("shop", "y", minute)),
			reason:   restart.ReasonNamespaceBreakerOpen,
			clearsBy: byTime,
			until:    59 * minute,
			message: "Nothing more is restarted in this namespace: the restarts of 2 workloads have failed (Deployment shop/y, Deployment " +
				"shop/x). " +
				"At 2026-11-23T12:59:00Z one is restarted as a probe. To go on before that, fix what is wrong and run: " +
				`kubectl annotate namespace/shop fullmesh.dev/retry-requested="$(date)" --overwrite`,
		},
		"and no other": {
			scene:  newScene(target, meshed("bank"), failedAgo("bank", "x", minute), failedAgo("bank", "y", minute)),
			reason: restart.ReasonRestartDue,
		},
		"a probe of the namespace that failed doubles the wait": {
			scene:    newScene(target, failedAgo("shop", "x", minute), failedAgo("shop", "y", minute, ofNamespace(1))),
			reason:   restart.ReasonNamespaceBreakerOpen,
			clearsBy: byTime,
			until:    119 * minute,
		},
		"whoever asks on the Namespace closes its breaker": {
			scene: newScene(builder.Namespace("shop").Labelled("istio-injection", "enabled").Annotated(
				v1alpha1.RetryAnnotation, "now",
			).CreatedAt(yesterday).Build(),
				target, failedAgo("shop", "x", minute), failedAgo("shop", "y", minute, ofNamespace(3))), reason: restart.ReasonRestartDue,
		},
		"a probe of it that came through closes it as well": {
			scene: newScene(
				target, failedAgo("shop", "x", 5*minute), failedAgo("shop", "y", 5*minute),
				tried("shop", "z", v1alpha1.ResultSucceeded, minute, ofNamespace(1)),
			),
			reason: restart.ReasonRestartDue,
		},
		"no more of one namespace count than stop it": {
			scene:  newScene(target, meshed("a"), failedAgo("a", "x", minute), failedAgo("a", "y", minute), failedAgo("a", "z", minute)),
			reason: restart.ReasonRestartDue,
		},
		"the newest of them do": {
			scene: newScene(
				target, inNamespaces("a", "b"), failedAgo("a", "x", 3*minute), failedAgo("a", "y", minute), failedAgo("a", "z", minute),
				failedAgo("b", "x", 2*minute),
			),
			reason: restart.ReasonBreakerOpen, clearsBy: byTime, until: 59 * minute,
			message: "3 workloads have failed (Deployment a/z, Deployment a/y, Deployment b/x)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := test.scene.decide()
			verdict := verdicts(plan)["Deployment shop/cart"]
			if verdict.Reason != test.reason || verdict.ClearsBy != test.clearsBy || !strings.Contains(verdict.Message, test.message) {
				t.Errorf("verdict %s, cleared by %q: %s", verdict.Reason, verdict.ClearsBy, verdict.Message)
			}
			if until := verdict.Until.Sub(noon); test.until != 0 && (until != test.until || plan.NextChange.After(verdict.Until)) {
				t.Errorf("a probe starts in %s, and the plan changes in %s", until, plan.NextChange.Sub(noon))
			}
		})
	}
}

// interruptedAfterFailure is a Deployment whose restart failed ten minutes ago and was interrupted when it was tried
// again.
func interruptedAfterFailure() []any {
	b := restarted(deployment("a", "x"), since(noon.Add(-time.Hour)), endedAt(v1alpha1.ResultFailed, noon.Add(-10*time.Minute)))
	return outside(restarted(b, attempt(2), endedAt(v1alpha1.ResultInterrupted, noon.Add(-time.Minute))), 3)
}

// stopAfter has the scene's policy stop after so many failures.
func (s *scene) stopAfter(failures int32) *scene {
	return s.with(builder.Enforcing("mesh").Unbounded().StopAfter(failures))
}

// requested is a policy that is asked for another try.
func requested(b *builder.PolicyBuilder) *v1alpha1.MeshPolicy {
	policy := b.Build()
	policy.Annotations = map[string]string{v1alpha1.RetryAnnotation: "now"}
	return policy
}

// standing is a policy whose status shows a breaker.
func standing(b *builder.PolicyBuilder, breaker v1alpha1.BreakerStatus) *v1alpha1.MeshPolicy {
	policy := b.Build()
	policy.Status.Breaker = &breaker
	return policy
}

// asking adds the owner's request for another try to a workload.
func asking(objects []any) []any {
	annotations := objects[0].(*appsv1.Deployment).Annotations
	annotations[v1alpha1.RetryAnnotation] = "now"
	return objects
}

// checkedSince answers every dry run after all that has happened.
func (s *scene) checkedSince() *scene {
	return s.answer(restart.Check{Observed: sidecar("default"), At: noon.Add(time.Second), Received: noon})
}

// What the ledger says of a restart that starts as a probe says so, and statuses show which breaker is probed.
func TestProbeIsWrittenDown(t *testing.T) {
	s := newScene(builder.Enforcing("mesh").Unbounded().CoolDown(60), outside(cart(), 3), outside(deployment("shop", "pay"), 3),
		inNamespaces("a", "b", "c"), failedAgo("a", "x", time.Hour), failedAgo("b", "x", time.Hour), failedAgo("c", "x", time.Hour, probe(1)),
		failedAgo("shop", "x", time.Hour), failedAgo("shop", "y", time.Hour))
	plan := s.decide()
	given := verdicts(plan)
	if got := given["Deployment shop/cart"]; got.Step != restart.StepRestart ||
		got.Restart.Probes != (inventory.Probes{Policy: 2, Namespace: 1}) {
		t.Errorf("the probe: step %d: %s", got.Step, got.Message)
	}
	if got := given["Deployment shop/pay"]; got.Reason != restart.ReasonBreakerOpen ||
		!strings.Contains(got.Message, "Deployment shop/cart is restarted alone, as a probe.") {
		t.Errorf("the other one: %s: %s", got.Reason, got.Message)
	}
	since := new(metav1.NewTime(noon.Add(-time.Hour)))
	for _, policy := range plan.Policies {
		want := &v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Since: since, ProbesFailed: new(int32(1)), FailedWorkloads: new(int32(5))}
		if diff := cmp.Diff(want, policy.Breaker); diff != "" {
			t.Errorf("the policy's breaker (-want +got):\n%s", diff)
		}
	}
	for _, namespace := range plan.Namespaces {
		var want *v1alpha1.BreakerStatus
		if namespace.Name == "shop" {
			want = &v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Since: since, ProbesFailed: new(int32(0)), FailedWorkloads: new(int32(2))}
		}
		if diff := cmp.Diff(want, namespace.Breaker); diff != "" {
			t.Errorf("the breaker of %s (-want +got):\n%s", namespace.Name, diff)
		}
	}
}

// A breaker that is open says in the status when it is probed; one that needs an administrator never is.
func TestOpenBreakerSaysWhenItIsProbed(t *testing.T) {
	for name, test := range map[string]struct {
		number int
		want   *metav1.Time
	}{
		"no probe has failed": {number: 0, want: new(metav1.NewTime(noon.Add(59 * time.Minute)))},
		"three have":          {number: 3, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(outside(cart(), 3), meshed("a"), failedAgo("a", "x", time.Minute, probe(test.number))).stopAfter(1)
			for _, policy := range s.decide().Policies {
				if policy.Breaker.State != v1alpha1.BreakerOpen || !policy.Breaker.RetryTime.Equal(test.want) {
					t.Errorf("it is %+v", policy.Breaker)
				}
			}
		})
	}
}

// What is restarted as a probe is what costs the least where it fails.
func TestTheSmallestIsTheProbe(t *testing.T) {
	const ago = 6 * time.Minute
	huge := func(namespace string) []any { return outside(deployment(namespace, "huge").Replicas(9).RolledOut(), 9) }
	small := func(namespace string) []any {
		return outside(deployment(namespace, "small").Replicas(2).RolledOut(), 2)
	}
	three := slices.Concat(failedAgo("a", "x", ago), failedAgo("b", "x", ago), failedAgo("c", "x", ago))
	without := slices.Concat(ineffective("a", "x", ago), ineffective("b", "x", ago), ineffective("c", "x", ago))
	for name, test := range map[string]struct {
		objects []any
		want    string
	}{
		"of a large one and a small one, the small one":    {objects: []any{three, huge("aa"), small("shop")}, want: "Deployment shop/small"},
		"nothing of a namespace in which something failed": {objects: []any{three, small("a"), huge("shop")}, want: "Deployment shop/huge"},
		"nor of one in which something was without effect": {objects: []any{without, small("a"), huge("shop")}, want: "Deployment shop/huge"},
		"unless there is no other":                         {objects: []any{three, small("a"), huge("a")}, want: "Deployment a/small"},
		"a healthy one before one that is not": {
			objects: []any{three, runs(deployment("aa", "ill").Replicas(2).RolledOut().Build(), uninjected, broken), huge("shop")},
			want:    "Deployment shop/huge",
		},
		"whatever an owner wants to be the canary": {
			objects: []any{three, outside(deployment("aa", "loud").Annotated(v1alpha1.CanaryAnnotation, "true"), 3), small("shop")},
			want:    "Deployment shop/small",
		},
		"the small one, though another serves nothing": {
			objects: []any{three, runs(deployment("shop", "down").Build(), broken, broken, broken), small("shop")},
			want:    "Deployment shop/small",
		},
		"of a namespace that has stopped alone, the small one": {
			objects: []any{
				failedAgo("shop", "x", ago), failedAgo("shop", "y", ago), runs(deployment("shop", "down").Build(), broken, broken, broken),
				small("shop"),
			},
			want: "Deployment shop/small",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(builder.Enforcing("mesh").Unbounded().CoolDown(300), inNamespaces("a", "aa", "b", "c"), test.objects).checkedSince()
			var starts []string
			for key, verdict := range verdicts(s.decide()) {
				if verdict.Step == restart.StepRestart {
					starts = append(starts, key)
				}
			}
			if len(starts) != 1 || starts[0] != test.want {
				t.Errorf("restarted are %v", starts)
			}
		})
	}
}
