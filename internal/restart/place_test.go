package restart_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// failedAt is the Deployment cart after a restart that failed. Three of its Pods were ready before.
func failedAt(end time.Time, changes ...func(*appsv1.Deployment)) *builder.Workload[*appsv1.Deployment] {
	b := restarted(cart(), forOlder, since(end.Add(-time.Hour)), endedAt(v1alpha1.ResultFailed, end))
	for _, change := range changes {
		b.With(change)
	}
	return b
}

func goesOn(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }

func takesDown(unavailable int) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate.MaxUnavailable = new(intstr.FromInt(unavailable))
	}
}

// A restart that has failed makes room for others when as many Pods are ready as before it, or when
// nothing moves any more.
func TestFailedRestartKeepsItsPlaceForAWhile(t *testing.T) {
	const minute = time.Minute
	for name, test := range map[string]struct {
		cart []any
		want restart.Reason
		// until is when the place is free by itself.
		until time.Duration
	}{
		"its rollout goes on": {
			cart: outside(failedAt(noon.Add(-minute), goesOn), 3), want: restart.ReasonBudgetExhausted, until: 9*minute + 30*time.Second,
		},
		"its rollout has gone nowhere for long": {
			cart: outside(failedAt(noon.Add(-11*minute), goesOn), 3), want: restart.ReasonRestartDue,
		},
		"its rollout went on a moment ago": {
			cart: runs(
				failedAt(noon.Add(-11*minute), goesOn).Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-minute)),
			), want: restart.ReasonBudgetExhausted, until: 9*minute + 30*time.Second,
		},
		"its controller may take down another Pod": {
			cart: outside(failedAt(noon.Add(-time.Hour), goesOn, takesDown(1)), 3), want: restart.ReasonRestartDue,
		},
		"it ends by a clock that is ahead": {
			cart: outside(failedAt(noon.Add(10*minute)), 2), want: restart.ReasonBudgetExhausted, until: 20*minute + 30*time.Second,
		},
		"a Pod of it becomes ready over and over": {
			cart: runs(
				failedAt(noon.Add(-time.Hour), goesOn).Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-minute)),
			), want: restart.ReasonRestartDue,
		},
		"its controller has taken down all it may": {
			cart: outside(failedAt(noon.Add(-time.Hour), goesOn, takesDown(1)), 2), want: restart.ReasonRestartDue,
		},
		"its controller is paused": {
			cart: outside(
				failedAt(noon.Add(-time.Hour), goesOn, takesDown(1), func(d *appsv1.Deployment) { d.Spec.Paused = true }), 3,
			), want: restart.ReasonRestartDue,
		},
		"fewer Pods are ready than before": {
			cart: outside(failedAt(noon.Add(-minute)), 2), want: restart.ReasonBudgetExhausted, until: 9*minute + 30*time.Second,
		},
		"fewer Pods are ready than before, for long": {
			cart: outside(failedAt(noon.Add(-11*minute)), 2), want: restart.ReasonRestartDue,
		},
		"as many Pods are ready as before": {
			cart: runs(failedAt(noon.Add(-minute)).Build(), uninjected, uninjected, uninjected, crashing), want: restart.ReasonRestartDue,
		},
		"as many Pods are ready as are still asked for": {
			cart: outside(failedAt(noon.Add(-minute)).Replicas(2).RolledOut(), 2), want: restart.ReasonRestartDue,
		},
	} {
		t.Run(name, func(t *testing.T) {
			policy := builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil)
			plan := newScene(policy, test.cart, outside(deployment("shop", "pay"), 3)).decide()
			if got := verdicts(plan)["Deployment shop/pay"]; got.Reason != test.want {
				t.Errorf("the other Deployment: %s %s: %s", got.Action, got.Reason, got.Message)
			}
			if test.until != 0 && !plan.NextChange.Equal(noon.Add(test.until)) {
				t.Errorf("looked at again at %s", plan.NextChange)
			}
		})
	}
}

// begunAt is the Deployment cart in the middle of a restart of which so many Pods were ready.
func begunAt(start time.Time, replicas, ready int) *builder.Workload[*appsv1.Deployment] {
	return restarting(since(start), ofPods(replicas, ready))
}

// Slow is not failed, and neither is what was broken before. What becomes ready over and over is.
func TestProgressIsAFurtherPodThatIsReady(t *testing.T) {
	const patience = 10*time.Minute + 30*time.Second
	justReady := readyInMeshAt(noon.Add(-time.Minute))
	for name, test := range map[string]struct {
		objects []any
		result  v1alpha1.RestartResult
		message string
	}{
		"a Pod that is ready after a long time is progress": {
			runs(begunAt(noon.Add(-2*patience), 3, 3).Build(), justReady, uninjected, uninjected), "", ""},
		"a Pod that is ready over and over is not": {
			runs(
				begunAt(noon.Add(-2*patience-time.Second), 3, 3).Build(), justReady, uninjected, uninjected,
			), v1alpha1.ResultFailed, "become ready and unready again"},
		"each further Pod may take as long": {
			runs(begunAt(noon.Add(-3*patience), 3, 3).Build(), justReady, readyInMeshAt(noon.Add(-patience)), uninjected), "", ""},
		"Pods that were scaled away had their time": {
			runs(begunAt(noon.Add(-10*patience), 12, 12).Build(), justReady, uninjected, uninjected), "", ""},
		"no more Pods are ready than before, and all are in the mesh": {
			runs(begunAt(noon.Add(-time.Hour), 3, 2).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), crashing),
			v1alpha1.ResultSucceeded, "2 of 3 Pods are ready, no fewer than before the restart."},
		"fewer Pods are ready than before": {
			runs(
				begunAt(noon.Add(-time.Hour), 3, 3).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), crashing,
			), v1alpha1.ResultFailed, "CrashLoopBackOff"},
		"none was ready before and none is": {
			runs(begunAt(noon.Add(-time.Hour), 3, 0).Build(), crashing, crashing, crashing), v1alpha1.ResultFailed, "CrashLoopBackOff"},
		"as many are ready as before, and one is outside": {
			runs(
				begunAt(noon.Add(-time.Hour), 3, 2).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), uninjected,
			), v1alpha1.ResultFailed, "2 of 3"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, newScene(test.objects).decide())
			if verdict.Action != v1alpha1.ActionInFlight || resultOf(verdict) != test.result || !strings.Contains(
				verdict.Restart.Message, test.message,
			) {
				t.Errorf(
					"%s %s with result %q: %s %s", verdict.Action, verdict.Reason, verdict.Restart.Result, verdict.Message, verdict.Restart.Message,
				)
			}
		})
	}
}

// The progress of a restart that takes sidecars away is Pods without them.
func TestTakingSidecarsAwayMakesProgressToo(t *testing.T) {
	leftover := restarting(forFinding(v1alpha1.FindingLeftover), since(noon.Add(-15*time.Minute)))
	verdict := only(
		t,
		newScene(
			noLabel, runs(leftover.Build(), readyInMeshAt(yesterday), readyInMeshAt(yesterday), uninjectedAt(noon.Add(-time.Minute))),
		).decide(),
	)
	if verdict.Action != v1alpha1.ActionInFlight || resultOf(verdict) != "" || !strings.Contains(
		verdict.Message, "1 of 3 Pods have lost their sidecar",
	) {
		t.Errorf("%s %s with result %q: %s", verdict.Action, verdict.Reason, resultOf(verdict), verdict.Message)
	}
}

// failedAndAskedFor is the Deployment cart, whose restart has failed, keeps its place, and is asked for again.
func failedAndAskedFor(changes ...tweak) *appsv1.Deployment {
	ending := []tweak{since(noon.Add(-20 * time.Minute)), endedAt(v1alpha1.ResultFailed, noon.Add(-time.Minute))}
	return restarted(
		cart().Labelled("tier", "front"), append(ending, changes...)...,
	).Annotated(v1alpha1.RetryAnnotation, "now").With(goesOn).Build()
}

// What is tried again and has to wait keeps its place while it does.
func TestAFailedRestartKeepsItsPlaceWhileItWaits(t *testing.T) {
	going := tried("shop", "fly", "", time.Minute)
	going[0].(*appsv1.Deployment).Spec.Template.Labels["tier"] = "front"
	given := verdicts(newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil),
		builder.DisruptionBudget("shop", "front").Covering("tier", "front").Healthy(6, 5, 6).Build(),
		runs(failedAndAskedFor(), uninjected, uninjected, crashing), going, outside(deployment("shop", "pay"), 3)).decide())
	if got := given["Deployment shop/cart"]; got.Reason != restart.ReasonSharesDisruptionBudget {
		t.Errorf("what is tried again: %s: %s", got.Reason, got.Message)
	}
	if got := given["Deployment shop/pay"]; got.Reason != restart.ReasonBudgetExhausted {
		t.Errorf("another one: %s: %s", got.Reason, got.Message)
	}
}

// What is tried again under another policy counts against the budgets of that one from then on.
func TestAnotherTryCountsUnderThePolicyThatMakesIt(t *testing.T) {
	s := newScene(runs(failedAndAskedFor(), uninjected, uninjected, crashing),
		builder.Namespace("till").Labelled("istio-injection", "enabled", "team", "till").CreatedAt(yesterday).Build(),
		tried("till", "fly", "", time.Minute), outside(deployment("till", "pay"), 3)).
		governedBy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil).Over("team", "till"), builder.Enforcing("other"))
	given := verdicts(s.decide())
	if len(given) != 3 {
		t.Errorf("%d verdicts", len(given))
	}
	for name, got := range given {
		if got.Action != v1alpha1.ActionRestart && got.Action != v1alpha1.ActionInFlight {
			t.Errorf("%s: %s: %s", name, got.Reason, got.Message)
		}
	}
}

// A restart counts against the budgets of the policy under which it was decided on until it ends, and while what has
// failed keeps its place, also where that policy does not govern the namespace any more.
func TestARestartCountsUnderThePolicyThatBeganIt(t *testing.T) {
	bank := func() *builder.PolicyBuilder {
		return builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil).Over("team", "bank")
	}
	for name, test := range map[string]struct {
		policies []*builder.PolicyBuilder
		begunBy  string
		waits    bool
	}{
		"nobody governs its namespace": {policies: []*builder.PolicyBuilder{bank()}, begunBy: "mesh", waits: true},
		"another policy governs it": {
			policies: []*builder.PolicyBuilder{bank(), builder.Enforcing("other")}, begunBy: "mesh", waits: true,
		},
		"another policy governs it and began it":   {policies: []*builder.PolicyBuilder{bank(), builder.Enforcing("other")}, begunBy: "other"},
		"a policy that is gone began it":           {policies: []*builder.PolicyBuilder{bank(), builder.Enforcing("other")}, begunBy: "gone"},
		"one that is gone, and nobody governs now": {policies: []*builder.PolicyBuilder{bank()}, begunBy: "gone"},
	} {
		for state, ending := range map[string]tweak{"in flight": under(test.begunBy), "failed": endedAt(
			v1alpha1.ResultFailed, noon.Add(-time.Minute),
		)} {
			t.Run(name+", "+state, func(t *testing.T) {
				going := restarted(cart(), since(noon.Add(-20*time.Minute)), under(test.begunBy), ending).With(goesOn)
				s := newScene(runs(going.Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-5*time.Minute)), crashing),
					builder.Namespace("bank").Labelled(
						"istio-injection", "enabled", "team", "bank",
					).CreatedAt(yesterday).Build(), outside(deployment("bank", "pay"), 3)).
					governedBy(test.policies...)
				if got := verdicts(s.decide())["Deployment bank/pay"]; (got.Reason == restart.ReasonBudgetExhausted) != test.waits {
					t.Errorf("the other Deployment: %s: %s", got.Reason, got.Message)
				}
			})
		}
	}
}

// No further Pod is evicted where nobody governs: what is down is all that counts.
func TestEvictionsThatNobodyGovernsTakeWhatIsDown(t *testing.T) {
	web := func() []any {
		b := evicting(builder.Deployment("shop", "cart").Replicas(40).Unavailable(20).Surge(0).CreatedAt(yesterday).RolledOut())
		return runs(b.Build(), append(slices.Repeat([]func(*builder.PodBuilder){uninjected}, 38), crashing)...)
	}
	for pods, want := range map[int]restart.Reason{3: restart.ReasonRestartDue, 2: restart.ReasonBudgetExhausted} {
		s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 5, pods).Over("team", "bank"), web(),
			builder.Namespace("bank").Labelled(
				"istio-injection", "enabled", "team", "bank",
			).CreatedAt(yesterday).Build(), outside(deployment("bank", "pay"), 3))
		if got := verdicts(s.decide())["Deployment bank/pay"]; got.Reason != want {
			t.Errorf("with room for %d Pods, the other Deployment: %s: %s", pods, got.Reason, got.Message)
		}
	}
}

// A restart that failed long ago counts against nobody's budgets, and nothing is said of its workload where nobody
// governs.
func TestAnOldFailureCountsAgainstNobody(t *testing.T) {
	old := outside(restarted(cart(), since(noon.Add(-48*time.Hour)), endedAt(v1alpha1.ResultFailed, noon.Add(-47*time.Hour))), 2)
	s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil).Over("team", "bank"), old,
		builder.Namespace("bank").Labelled(
			"istio-injection", "enabled", "team", "bank",
		).CreatedAt(yesterday).Build(), outside(deployment("bank", "pay"), 3))
	if got := only(t, s.decide()); got.Workload.Key.Name != "pay" || got.Action != v1alpha1.ActionRestart {
		t.Errorf("%s: %s: %s", got.Workload.Key, got.Reason, got.Message)
	}
}
