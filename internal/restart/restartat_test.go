package restart_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// afterNewest is when the Pods of canary() are asked to be restarted: the second after they were created.
var afterNewest = yesterday.Add(time.Second)

// restartingRollout is the Rollout canary in the middle of a restart.
func restartingRollout() *builder.RolloutBuilder { return restartingRolloutSince(began) }

func restartingRolloutSince(start time.Time) *builder.RolloutBuilder {
	b := canary()
	return b.Restarted(restartOf(b.Build(), since(start), func(r *inventory.Restart) {
		r.Method, r.RestartAt = v1alpha1.MethodRestartAt, afterNewest
	}))
}

func TestRolloutIsRestartedTheSecondAfterItsNewestPod(t *testing.T) {
	newer := func(b *builder.PodBuilder) { uninjectedAt(noon.Add(-time.Hour))(b) }
	for name, test := range map[string]struct {
		scene *scene
		want  time.Time
	}{
		"never restarted before": {
			scene: newScene(rolloutOutside(canary(), 3)), want: afterNewest,
		},
		"Pods of several seconds": {
			scene: newScene(runs(canary().Build(), uninjected, newer, uninjected)), want: noon.Add(-time.Hour + time.Second),
		},
		"restarted before its Pods were created": {
			scene: newScene(
				rolloutOutside(canary().RestartAt(yesterday.Add(-time.Hour)).RestartedAt(yesterday.Add(-time.Hour)), 3),
			), want: afterNewest,
		},
		"its owner's restart, which left them": {
			scene: newScene(
				rolloutOutside(canary().RestartAt(noon.Add(-time.Hour)).RestartedAt(noon.Add(-time.Hour)), 3),
			), want: noon.Add(-time.Hour + time.Second),
		},
		"the same time, which left them": {
			scene: newScene(rolloutOutside(canary().RestartAt(afterNewest).RestartedAt(afterNewest), 3)), want: afterNewest.Add(time.Second),
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Step != restart.StepRestart || verdict.Method != v1alpha1.MethodRestartAt ||
				verdict.Restart.Method != v1alpha1.MethodRestartAt {
				t.Fatalf("verdict %s %s, step %d by %s: %s", verdict.Action, verdict.Reason, verdict.Step, verdict.Method, verdict.Message)
			}
			if !verdict.Restart.RestartAt.Equal(test.want) {
				t.Errorf("restartAt is %s, want %s", verdict.Restart.RestartAt, test.want)
			}
			if !strings.Contains(verdict.Message, "spec.restartAt, for which Argo Rollouts evicts 1 at once") {
				t.Errorf("the message is %q", verdict.Message)
			}
		})
	}
}

// Argo evicts in place, whatever the strategy says of Pods on top.
func TestSingleReplicaRolloutIsRestartedOnlyWhereDowntimeIsAccepted(t *testing.T) {
	alone := func() []any { return rolloutOutside(canary().Replicas(1).RolledOut().Unavailable(0), 1) }
	if verdict := only(t, newScene(alone()).decide()); verdict.Reason != restart.ReasonWouldCauseDowntime || verdict.ClearsBy != byAdmin {
		t.Errorf("verdict %s, cleared by %s: %s", verdict.Reason, verdict.ClearsBy, verdict.Message)
	}
	accepted := builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime)
	if verdict := only(t, newScene(accepted, alone()).decide()); verdict.Action != v1alpha1.ActionRestart {
		t.Errorf("with Downtime accepted: %s: %s", verdict.Reason, verdict.Message)
	}
}

func TestRolloutAsksDisruptionBudgetsForOnePodAtATime(t *testing.T) {
	wide := func() []any { return rolloutOutside(canary().Unavailable(2), 3) }
	budget := func(healthy, desired, expected int32) any {
		return builder.DisruptionBudget("shop", "canary").Healthy(healthy, desired, expected).Build()
	}
	for name, test := range map[string]struct {
		objects  []any
		clearsBy v1alpha1.ClearedBy
		message  string
	}{
		"room for one":        {[]any{budget(3, 2, 3)}, "", ""},
		"no room now":         {[]any{budget(2, 2, 3)}, byCluster, "allows 0 now (2 healthy, 2 needed)"},
		"never any room":      {[]any{budget(3, 3, 3)}, byOwner, "It never allows any"},
		"nothing is said yet": {[]any{builder.DisruptionBudget("shop", "canary").NotSeen().Build()}, byCluster, "has not said yet"},
		"two of them": {
			[]any{budget(3, 1, 3), builder.DisruptionBudget("shop", "all").Covering().Healthy(3, 1, 3).Build()}, byOwner, "Leave it one of them",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, newScene(test.objects, wide()).decide())
			if test.clearsBy == "" {
				if verdict.Action != v1alpha1.ActionRestart {
					t.Errorf("verdict %s: %s", verdict.Reason, verdict.Message)
				}
				return
			}
			if verdict.Reason != restart.ReasonExceedsDisruptionBudget || verdict.ClearsBy != test.clearsBy || !strings.Contains(
				verdict.Message, test.message,
			) {
				t.Errorf("verdict %s, cleared by %s: %s", verdict.Reason, verdict.ClearsBy, verdict.Message)
			}
		})
	}
}

func TestRestartOfARolloutInFlight(t *testing.T) {
	longAgo := noon.Add(-12 * time.Minute)
	updating := func(b *builder.RolloutBuilder) *builder.RolloutBuilder { return b.Set("2", "status", "currentPodHash") }
	for name, test := range map[string]struct {
		scene *scene
		// result is empty where the restart goes on.
		result  v1alpha1.RestartResult
		message string
	}{
		"goes on while Pods are replaced": {
			scene:   newScene(runs(restartingRollout().Build(), readyInMeshAt(noon), uninjected, uninjected)),
			message: "1 of 3 Pods are ready in the mesh",
		},
		"goes on when Argo is done and the last Pods are coming up": {
			scene: newScene(
				runs(
					restartingRollout().RestartedAt(afterNewest).Build(), readyInMeshAt(noon), readyInMeshAt(noon),
					func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") },
				),
			),
			message: "2 of 3",
		},
		"goes on when Argo is done and the news of Pods is late": {
			scene:   newScene(runs(restartingRollout().RestartedAt(afterNewest).Build(), readyInMeshAt(noon), uninjected, uninjected)),
			message: "1 of 3",
		},
		"goes on for as long as Argo pauses": {
			scene:   newScene(runs(restartingRolloutSince(noon.Add(-10*time.Minute-50*time.Second)).Build(), uninjected, uninjected, uninjected)),
			message: "0 of 3",
		},
		"goes on when its owner asks for a later one": {
			scene:   newScene(runs(restartingRollout().RestartAt(noon).Build(), readyInMeshAt(noon), uninjected, uninjected)),
			message: "1 of 3",
		},
		"has succeeded when every Pod is ready in the mesh": {
			scene: newScene(
				runs(restartingRollout().RestartedAt(afterNewest).Build(), readyInMeshAt(noon), readyInMeshAt(noon), readyInMeshAt(noon)),
			),
			result: v1alpha1.ResultSucceeded,
		},
		"has succeeded though an update follows at once": {
			scene: newScene(
				runs(updating(restartingRollout().RestartedAt(afterNewest)).Build(), readyInMeshAt(noon), readyInMeshAt(noon), readyInMeshAt(noon)),
			),
			message: "3 of 3",
		},
		"was ineffective when the new Pods have no sidecar": {
			scene:  newScene(runs(restartingRollout().RestartedAt(afterNewest).Build(), uninjectedAt(noon), uninjectedAt(noon), uninjectedAt(noon))),
			result: v1alpha1.ResultIneffective, message: "The Pods were replaced and are still Missing.",
		},
		"has failed, and names the disruption budget that keeps Argo from evicting": {
			scene: newScene(
				builder.DisruptionBudget("shop", "canary").Healthy(3, 3, 3).Build(),
				runs(restartingRolloutSince(longAgo).Build(), uninjected, uninjected, uninjected),
			),
			result:  v1alpha1.ResultFailed,
			message: "(0 of 3 Pods are ready in the mesh); PodDisruptionBudget canary does not let Argo Rollouts evict the next Pod.",
		},
		"has failed, where the disruption budget would let it": {
			scene: newScene(
				builder.DisruptionBudget("shop", "canary").Healthy(3, 2, 3).Build(),
				runs(restartingRolloutSince(longAgo).Build(), uninjected, uninjected, uninjected),
			),
			result: v1alpha1.ResultFailed, message: "(0 of 3 Pods are ready in the mesh).",
		},
		"was put off by its owner": {
			scene:  newScene(runs(restartingRolloutSince(longAgo).RestartAt(noon.Add(8*time.Hour)).Build(), uninjected, uninjected, uninjected)),
			result: v1alpha1.ResultReverted, message: "put the restart off until 2026-11-23T20:00:00Z",
		},
		"was taken back when restartAt is gone": {
			scene:  newScene(runs(restartingRollout().Without("spec", "restartAt").Changed().Build(), readyInMeshAt(noon), uninjected, uninjected)),
			result: v1alpha1.ResultReverted, message: "took spec.restartAt away",
		},
		"was taken back when restartAt is earlier": {
			scene:  newScene(runs(restartingRollout().RestartAt(yesterday).Changed().Build(), readyInMeshAt(noon), uninjected, uninjected)),
			result: v1alpha1.ResultReverted, message: "or set an earlier one",
		},
		"was dropped by an update": {
			scene:  newScene(runs(updating(restartingRollout().RestartedAt(afterNewest)).Build(), readyInMeshAt(noon), uninjected, uninjected)),
			result: v1alpha1.ResultReverted, message: "Argo Rollouts drops the restart then",
		},
		"was dropped by Argo for another reason": {
			scene:  newScene(runs(restartingRolloutSince(longAgo).RestartedAt(afterNewest).Build(), uninjected, uninjected, uninjected)),
			result: v1alpha1.ResultReverted, message: "counts the restart as done",
		},
		"has failed when nobody restarts it": {
			scene:  newScene(runs(restartingRolloutSince(longAgo).Build(), uninjected, uninjected, uninjected)),
			result: v1alpha1.ResultFailed, message: "no further Pod became ready",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := only(t, test.scene.decide())
			if test.result == "" {
				if got.Action != v1alpha1.ActionInFlight || got.Step != restart.StepNone || got.Method != v1alpha1.MethodRestartAt || !strings.Contains(
					got.Message, test.message,
				) {
					t.Errorf("verdict %s %s, step %d: %s %s", got.Action, got.Reason, got.Step, got.Message, got.Restart.Message)
				}
				return
			}
			if got.Step != restart.StepFinish || got.Restart.Result != test.result || !strings.Contains(got.Restart.Message, test.message) {
				t.Errorf("verdict %s %s, step %d: %s, %s", got.Action, got.Reason, got.Step, got.Restart.Result, got.Restart.Message)
			}
		})
	}
}
