package restart_test

import (
	"testing"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// unproven leaves it to the Pods to show that injection works.
func (s *scene) unproven() *scene {
	s.unshown = true
	return s
}

// pacingCases are those of what depends on other workloads.
func pacingCases() map[string]cases {
	const minute = time.Minute
	const cartName = "Deployment shop/cart"
	three := func(ago time.Duration) []any {
		return append(inNamespaces("a", "b", "c"), failedAgo("a", "x", ago), failedAgo("b", "x", ago), failedAgo("c", "x", ago))
	}
	two := func(changes ...tweak) []any {
		return append(failedAgo("shop", "x", minute, changes...), failedAgo("shop", "y", minute, changes...)...)
	}
	wellSince := func(ago time.Duration) []any { // the first canary
		return tried("shop", "first", v1alpha1.ResultSucceeded, ago)
	}
	return map[string]cases{
		"PolicyBreakerIsOpen": {
			holds: map[string]holding{
				"three failures": {
					scene: newScene(outside(cart(), 3), three(minute)), of: cartName, reason: restart.ReasonBreakerOpen, clearsBy: byTime,
					message: "At 2026-11-23T12:59:00Z one is restarted as a probe.",
				},
			},
			passes: map[string]*scene{"none": newScene(outside(cart(), 3))},
		},
		"NamespaceBreakerIsOpen": {
			holds: map[string]holding{
				"two failures in the namespace": {
					scene: newScene(outside(cart(), 3), two()), of: cartName, reason: restart.ReasonNamespaceBreakerOpen, clearsBy: byTime,
					message: "At 2026-11-23T12:59:00Z one is restarted as a probe.",
				},
				"three probes that failed": {
					scene: newScene(outside(cart(), 3), two(ofNamespace(3))), of: cartName, reason: restart.ReasonNamespaceBreakerOpen, clearsBy: byAdmin,
					message: "Each of 3 probes failed as well. Fix what is wrong and run: kubectl annotate namespace/shop",
				},
			},
			passes: map[string]*scene{"none": newScene(outside(cart(), 3))},
		},
		"IsNotTheProbe": {
			holds: map[string]holding{
				"a probe that is due while another restart is in flight": {
					scene: newScene(
						outside(cart(), 3), three(61*minute), inFlightIn("shop", "z"),
					), of: cartName, reason: restart.ReasonBreakerOpen, clearsBy: byCluster,
					message: "One is restarted as a probe when those in flight have ended.",
				},
				"a probe that starts now": {
					scene: newScene(
						outside(cart(), 3), three(61*minute), outside(deployment("shop", "a"), 3),
					), of: cartName, reason: restart.ReasonBreakerOpen, clearsBy: byCluster,
					message: "Deployment shop/a is restarted alone, as a probe.",
				},
			},
			passes: map[string]*scene{"a breaker that is closed": newScene(outside(cart(), 3))},
		},
		"SharesDisruptionBudget": {
			holds: map[string]holding{
				"a budget that covers one that is restarted": {
					scene: newScene(
						builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 0, 9).Build(), outside(cart(), 3), inFlightIn("shop", "z"),
					), of: cartName,
					reason:   restart.ReasonSharesDisruptionBudget,
					clearsBy: byCluster,
					message:  "PodDisruptionBudget all also covers a workload that is being restarted; one follows the other.",
				},
			},
			passes: map[string]*scene{
				"a budget of its own": newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 0, 3).Build(), outside(cart(), 3)),
			},
		},
		"LeavesNoRoom": {
			holds: map[string]holding{
				"a budget that is used": {
					scene: newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, nil), outside(cart(), 3), inFlightIn("shop", "z")), of: cartName,
					reason:   restart.ReasonBudgetExhausted,
					clearsBy: byCluster,
					message:  "Waiting: the policy's budget (1 workload) is used by 1 restart in progress (1 Pod).",
				},
				"the namespace's budget that is used": {
					scene: newScene(
						builder.Enforcing("mesh").Budget(perNamespace, nil, 2), outside(cart(), 3), inFlightIn("shop", "y"), inFlightIn("shop", "z"),
					), of: cartName,
					reason: restart.ReasonBudgetExhausted, clearsBy: byCluster,
					message: "Waiting: the namespace's budget (2 Pods, and this takes 1 at once) is used by 2 restarts in progress (2 Pods).",
				},
				"a workload of another namespace that comes next": {
					scene: newScene(builder.Enforcing("mesh").Budget(perPolicy, nil, 4), meshed("bank"), outside(
						deployment("bank", "wide").Surge(3), 3,
					), outside(cart(), 3),
						inFlightIn("shop", "y"), inFlightIn("bank", "z")), of: cartName,
					reason:   restart.ReasonBudgetExhausted,
					clearsBy: byCluster,
					message:  "Waiting: a workload of namespace bank comes next, and needs more room in the policy's budget.",
				},
			},
			passes: map[string]*scene{"a budget that has room": newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, 1), outside(cart(), 3))},
		},
		"CanaryIsInProgress": {
			holds: map[string]holding{
				"a canary that starts now": {
					scene: newScene(
						outside(cart(), 3), outside(deployment("shop", "a"), 3),
					).unproven(), of: cartName, reason: restart.ReasonCanaryInProgress, clearsBy: byCluster,
					message: "Deployment shop/a is being restarted as this namespace's canary; the rest start once its Pods are ready in the mesh.",
				},
				"a canary that is in flight": {
					scene: newScene(
						outside(cart(), 3), inFlightIn("shop", "z"),
					).unproven(), of: cartName, reason: restart.ReasonCanaryInProgress, clearsBy: byCluster,
					message: "Deployment shop/z is being restarted as this namespace's canary",
				},
				"another canary, as not every Pod of the first is ready": {
					scene: newScene(outside(cart(), 3), outside(deployment("shop", "a"), 3), runs(
						restarted(deployment("shop", "first"), ended(v1alpha1.ResultSucceeded)).Build(), injected, injected, notReadySince(noon),
					)).unproven(),
					of: cartName, reason: restart.ReasonCanaryInProgress, clearsBy: byCluster,
					message: "Deployment shop/a is being restarted as this namespace's canary",
				},
				"a canary that soaks": {
					scene: newScene(builder.Enforcing("mesh").Unbounded().Soaking(600), outside(cart(), 3), wellSince(minute)).unproven(), of: cartName,
					reason: restart.ReasonSoaking, clearsBy: byTime,
					message: "Deployment shop/first is this namespace's canary and in the mesh; the rest start at 2026-11-23T12:10:00Z, when it has " +
						"been well for 10m0s.",
				},
			},
			passes: map[string]*scene{
				"the canary itself":                    newScene(outside(cart(), 3)).unproven(),
				"a canary that has been well":          newScene(outside(cart(), 3), wellSince(minute)).unproven(),
				"a Pod that was injected and is ready": newScene(outside(cart(), 3), runs(deployment("shop", "web").Build(), injected)).unproven(),
			},
		},
		"CanaryHasFailed": {
			holds: map[string]holding{
				"two canaries that failed": {
					scene: newScene(outside(cart(), 3), two()).unproven(), of: cartName, reason: restart.ReasonCanaryFailed, clearsBy: byOwner,
					message: "2 canaries of this namespace are not well in the mesh (Deployment shop/x, Deployment shop/y). Nothing else is restarted " +
						"here before one is: see " +
						"their messages and fix one, or ask for another try: " +
						`kubectl annotate namespace/shop fullmesh.dev/retry-requested="$(date)" --overwrite`,
				},
			},
			passes: map[string]*scene{
				"a canary whose Pods crash after it came through, as the only one": newScene(
					outside(cart(), 3), outside(restarted(deployment("shop", "gone").Replicas(0).RolledOut(), ended(v1alpha1.ResultSucceeded)), 0),
				).unproven(),
			},
		},
	}
}

// The next canary starts when the first has failed; it is asked for by the Pods of the whole namespace.
func TestAnotherCanaryFollowsTheFirst(t *testing.T) {
	for name, test := range map[string]struct {
		first []any
		want  restart.Reason
	}{
		"that failed":             {first: failedAgo("shop", "x", time.Minute), want: restart.ReasonRestartDue},
		"that was without effect": {first: ineffective("shop", "x", time.Minute), want: restart.ReasonRestartDue},
		"that was taken back":     {first: tried("shop", "x", v1alpha1.ResultReverted, time.Minute), want: restart.ReasonCanaryInProgress},
		"that was interrupted":    {first: tried("shop", "x", v1alpha1.ResultInterrupted, time.Minute), want: restart.ReasonCanaryInProgress},
		"and whose Pods crash since it ended": {
			first: runs(restarted(deployment("shop", "x"), ended(v1alpha1.ResultSucceeded)).Build(), crashing, crashing, crashing),
			want:  restart.ReasonRestartDue,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(outside(deployment("shop", "z"), 3), test.first).unproven().checkedSince()
			if got := verdicts(s.decide())["Deployment shop/z"]; got.Reason != test.want {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
}
