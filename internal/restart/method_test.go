package restart_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// share is so many Pods outside of so many.
func share(outside, of int) []func(*builder.PodBuilder) {
	return append(
		slices.Repeat([]func(*builder.PodBuilder){uninjected}, outside), slices.Repeat([]func(*builder.PodBuilder){injected}, of-outside)...,
	)
}

func TestTheMethodFollowsKindStrategyShareAndDisruptionBudget(t *testing.T) {
	takingOne := func(replicas int32) *builder.Workload[*appsv1.Deployment] {
		return cart().Replicas(replicas).Surge(0).Unavailable(1).RolledOut()
	}
	for name, test := range map[string]struct {
		scene  *scene
		method v1alpha1.RestartMethod
		says   string
	}{
		"a Deployment": {
			scene:  newScene(outside(cart(), 3)),
			method: v1alpha1.MethodRolloutRestart,
			says:   "(rollout restart, 0 down and 1 on top at once)",
		},
		"a Deployment that is recreated": {
			scene:  newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime), outside(cart().Recreate(), 3)),
			method: v1alpha1.MethodRolloutRestart,
			says:   "(rollout restart, all Pods at once)",
		},
		"a quarter is out": {
			scene:  newScene(runs(takingOne(8).Build(), share(2, 8)...)),
			method: v1alpha1.MethodEviction,
			says:   "(eviction of Pods: 2, 1 at once, because 2 of its 8 Pods must be replaced and the others stay)",
		},
		"more than a quarter is out": {scene: newScene(runs(takingOne(8).Build(), share(3, 8)...)), method: v1alpha1.MethodRolloutRestart},
		"a quarter is out, and it surges": {
			scene:  newScene(runs(cart().Replicas(8).RolledOut().Build(), share(2, 8)...)),
			method: v1alpha1.MethodRolloutRestart,
			says:   "0 down",
		},
		"a quarter is out, and two may be down": {
			scene:  newScene(runs(cart().Replicas(12).Unavailable(2).RolledOut().Build(), share(3, 12)...)),
			method: v1alpha1.MethodEviction,
			says:   "Pods: 3, 2 at once",
		},
		"one is out, and two may be down": {
			scene:  newScene(runs(cart().Replicas(12).Unavailable(2).RolledOut().Build(), share(1, 12)...)),
			method: v1alpha1.MethodEviction,
			says:   "Pods: 1, 1 at once",
		},
		"two may be down, and a budget lets one": {
			scene: newScene(
				builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, 1),
				runs(cart().Replicas(12).Unavailable(2).RolledOut().Build(), share(3, 12)...),
			),
			method: v1alpha1.MethodEviction,
			says:   "Pods: 3, 1 at once",
		},
		"a StatefulSet of which every Pod is out": {scene: newScene(outside(db(), 3)), method: v1alpha1.MethodRolloutRestart},
		"a StatefulSet of which one is in": {
			scene:  newScene(runs(db().Build(), share(2, 3)...)),
			method: v1alpha1.MethodEviction,
			says:   "2 of its 3 Pods",
		},
		"a StatefulSet that may take two, and does not": {
			scene:  newScene(runs(db().Replicas(6).Unavailable(2).RolledOut().Build(), share(5, 6)...)),
			method: v1alpha1.MethodEviction,
			says:   "Pods: 5, 1 at once",
		},
		"a DaemonSet of which every Pod is out": {
			scene:  newScene(outside(builder.DaemonSet("shop", "agent").RolledOut(3), 3)),
			method: v1alpha1.MethodRolloutRestart,
		},
		"a DaemonSet of which one is in": {
			scene:  newScene(runs(builder.DaemonSet("shop", "agent").RolledOut(3).Build(), share(2, 3)...)),
			method: v1alpha1.MethodEviction,
			says:   "2 of its 3 Pods",
		},
		"a DaemonSet that surges": {
			scene:  newScene(runs(builder.DaemonSet("shop", "agent").Surge(1).Unavailable(0).RolledOut(3).Build(), share(2, 3)...)),
			method: v1alpha1.MethodRolloutRestart,
		},
		"a StatefulSet that is updated on deletion": {
			scene:  newScene(outside(db().OnDelete(), 3)),
			method: v1alpha1.MethodEviction,
			says:   "its update strategy is OnDelete",
		},
		"a StatefulSet with a partition": {
			scene:  newScene(outside(db().Partition(2), 3)),
			method: v1alpha1.MethodEviction,
			says:   "stops at partition 2",
		},
		"a ReplicaSet by itself": {
			scene:  newScene(outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut().CreatedAt(yesterday), 3)),
			method: v1alpha1.MethodEviction,
			says:   "does not roll out its template",
		},
		"a StatefulSet with a Pod that cannot become ready": {
			scene:  newScene(runs(db().Build(), uninjected, uninjected, broken)),
			method: v1alpha1.MethodEviction,
			says:   "would wait for a Pod that cannot become ready",
		},
		"its disruption budget allows less than the strategy takes": {scene: newScene(
			builder.DisruptionBudget("shop", "cart").Healthy(20, 19, 20).Build(), outside(cart().Replicas(20).Unavailable(5).RolledOut(), 20),
		),
			method: v1alpha1.MethodEviction, says: "PodDisruptionBudget cart, which allows 1 Pods to be down where the strategy takes 5"},
		"its disruption budget allows as many": {
			scene: newScene(
				builder.DisruptionBudget("shop", "cart").Healthy(20, 15, 20).Build(), outside(cart().Replicas(20).Unavailable(5).RolledOut(), 20),
			),
			method: v1alpha1.MethodRolloutRestart,
		},
		"its disruption budget allows none, and it takes none": {
			scene:  newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart(), 3)),
			method: v1alpha1.MethodRolloutRestart,
		},
		"something else controls it": {
			scene:  newScene(outside(cart().OwnedBy(db().Build()).Annotated(v1alpha1.AcceptAnnotation, "OwnedByOperator"), 3)),
			method: v1alpha1.MethodEviction,
			says:   "StatefulSet shop/db controls it and would undo a change",
		},
		"its last restart was taken back": {
			scene:  newScene(outside(restarted(cart(), ended(v1alpha1.ResultReverted)), 3)),
			method: v1alpha1.MethodEviction,
			says:   "somebody took back the change",
		},
		"few are out, and nothing may be evicted": {
			scene:  newScene(runs(takingOne(8).Build(), share(2, 8)...)).when(evictionDisabled),
			method: v1alpha1.MethodRolloutRestart,
			says:   "1 down",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Action != v1alpha1.ActionRestart || verdict.Method != test.method || verdict.Restart.Method != test.method ||
				!strings.Contains(
					verdict.Message, test.says,
				) {
				t.Errorf(
					"%s %s by %s, written down as %s, want %s: %q does not say %q", verdict.Action, verdict.Reason, verdict.Method,
					verdict.Restart.Method, test.method, verdict.Message, test.says,
				)
			}
		})
	}
}

// evicting is a workload of which Pods are being evicted since began.
func evicting[T metav1.Object](b *builder.Workload[T], changes ...tweak) *builder.Workload[T] {
	return restarted(b, append([]tweak{byEviction}, changes...)...)
}

func TestEvictionInFlight(t *testing.T) {
	onDelete := func() *builder.Workload[*appsv1.StatefulSet] { return evicting(db().OnDelete()) }
	two := func() *builder.Workload[*appsv1.Deployment] {
		return evicting(cart().Replicas(8).Unavailable(2).RolledOut())
	}
	starting := func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") }
	crashed := func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default").Crashing("app", 1) }
	remembered := func(past restart.Evictions) func(*restart.Input) {
		return func(in *restart.Input) {
			in.Memory.Evictions = map[types.UID]restart.Evictions{"statefulset-shop-db": past}
		}
	}
	for name, test := range map[string]struct {
		scene *scene
		// evicts are the Pods that are evicted now. Otherwise it waits for a step, or has a result.
		evicts []string
		step   restart.Step
		reason restart.Reason
		result v1alpha1.RestartResult
		says   string
	}{
		"one at a time of a StatefulSet": {scene: newScene(outside(onDelete(), 3)), evicts: []string{"db-0"}, says: "Evicting since"},
		"the next when the one before is back": {
			scene:  newScene(runs(onDelete().Build(), injected, uninjected, uninjected)),
			evicts: []string{"db-1"},
		},
		"none while one is coming":       {scene: newScene(runs(onDelete().Build(), starting, uninjected, uninjected))},
		"none while one is missing":      {scene: newScene(outside(onDelete(), 2))},
		"as many as the strategy allows": {scene: newScene(runs(two().Build(), share(5, 8)...)), evicts: []string{"cart-0", "cart-1"}},
		"no more than are left":          {scene: newScene(runs(two().Build(), share(1, 8)...)), evicts: []string{"cart-0"}},
		"no more than the budgets allow": {
			scene:  newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, 1), runs(two().Build(), share(5, 8)...)),
			evicts: []string{"cart-0"},
		},
		"no more than its disruption budget": {
			scene:  newScene(builder.DisruptionBudget("shop", "cart").Healthy(8, 7, 8).Build(), runs(two().Build(), share(5, 8)...)),
			evicts: []string{"cart-0"},
		},
		"never the last that is ready": {
			scene:  newScene(outside(evicting(cart().Replicas(2).Unavailable(2).RolledOut()), 2)),
			evicts: []string{"cart-0"},
		},
		"all that are ready, where it is accepted": {
			scene: newScene(
				builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime),
				outside(evicting(cart().Replicas(2).Unavailable(2).RolledOut()), 2),
			),
			evicts: []string{"cart-0", "cart-1"},
		},
		"first what is not ready": {scene: newScene(runs(onDelete().Build(), uninjected, uninjected, broken)), evicts: []string{"db-2"}},
		"the oldest first": {
			scene:  newScene(runs(onDelete().Build(), uninjected, uninjectedAt(yesterday.Add(-time.Hour)), uninjected)),
			evicts: []string{"db-1"},
		},
		"it has succeeded":         {scene: newScene(runs(onDelete().Build(), injected, injected, injected)), result: v1alpha1.ResultSucceeded},
		"the last is not back yet": {scene: newScene(runs(onDelete().Build(), injected, injected, starting))},
		"a Pod came up without a sidecar": {
			scene:  newScene(runs(onDelete().Build(), uninjectedAt(noon), uninjected, uninjected)),
			result: v1alpha1.ResultIneffective,
		},
		"the one that follows never came": {
			scene:  newScene(runs(evicting(db().OnDelete(), hourAgo).Build(), uninjected, uninjected)),
			result: v1alpha1.ResultFailed,
			says:   "no further Pod became ready",
		},
		"the one that follows came up late, and was evicted late": {
			scene: newScene(
				runs(evicting(db().OnDelete(), hourAgo).Build(), uninjected, uninjected),
			).when(remembered(restart.Evictions{Last: noon})),
		},
		"the one that follows crashes": {
			scene:  newScene(runs(onDelete().Build(), crashed, uninjected, uninjected)),
			reason: restart.ReasonEvictionHeld,
			says:   "No further Pod is evicted: Pods of this workload that are in the mesh already cannot become ready",
		},
		"it waits for minReadySeconds": {
			scene: newScene(
				runs(onDelete().With(func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 60 }).Build(), injected, uninjected, uninjected),
			),
		},
		"no check is known": {scene: newScene(outside(onDelete(), 3)).unasked(), step: restart.StepCheck},
		"the injector is silent": {
			scene:  newScene(outside(onDelete(), 3)).answer(restart.Check{At: noon, Received: noon}),
			reason: restart.ReasonEvictionHeld,
			step:   restart.StepCheck,
			says:   "without a sidecar",
		},
		"the red button is pressed": {
			scene:  newScene(outside(onDelete(), 3)).when(func(in *restart.Input) { in.Stopped = true }),
			reason: restart.ReasonEvictionHeld,
			says:   "fullmesh stop --clear",
		},
		"it is set to Report": {
			scene:  newScene(builder.Reporting("mesh"), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "mode Report",
		},
		"nobody governs it any more": {
			scene:  newScene(builder.Enforcing("mesh").Over("team", "other"), outside(onDelete(), 3)),
			result: v1alpha1.ResultInterrupted,
			says:   "no MeshPolicy governs",
		},
		"nobody governs it any more, and one is coming": {
			scene:  newScene(builder.Enforcing("mesh").Over("team", "other"), runs(onDelete().Build(), starting, uninjected, uninjected)),
			reason: restart.ReasonEvictionHeld,
			says:   "No MeshPolicy governs",
		},
		"nobody governs it any more, and one may have been evicted just now": {scene: newScene(
			builder.Enforcing("mesh").Over("team", "other"), outside(evicting(db().OnDelete(), naming("db-1")), 3),
		).
			when(
				remembered(restart.Evictions{Last: noon.Add(-time.Second)}),
			), reason: restart.ReasonEvictionHeld, step: restart.StepEvict, says: "No MeshPolicy governs"},
		"one of a round that was not brought to its end comes first": {
			scene:  newScene(outside(evicting(db().OnDelete(), naming("db-1")), 3)),
			evicts: []string{"db-1"},
		},
		"one of a round is down": {
			scene: newScene(runs(evicting(db().OnDelete(), naming("db-2", "db-9")).Build(), starting, uninjected, uninjected)),
		},
		"one of a round is up, and no further Pod may be evicted": {scene: newScene(
			outside(evicting(db().OnDelete(), naming("db-1")), 3),
		).when(func(in *restart.Input) { in.Stopped = true }),
			reason: restart.ReasonEvictionHeld, step: restart.StepEvict, says: "fullmesh stop --clear"},
		"not everything has been read": {
			scene:  newScene(outside(onDelete(), 3)).notRead("Rollout", ""),
			reason: restart.ReasonEvictionHeld,
			says:   "has been read",
		},
		"the workload is being deleted": {
			scene:  newScene(outside(onDelete().With(func(s *appsv1.StatefulSet) { s.DeletionTimestamp = new(metav1.NewTime(noon)) }), 3)),
			result: v1alpha1.ResultInterrupted,
			says:   "The workload is being deleted.",
		},
		"first what is not ready, in the order in which they are made": {
			scene:  newScene(runs(onDelete().Build(), broken, brokenAt(yesterday.Add(-time.Hour)), uninjected)),
			evicts: []string{"db-0"},
		},
		"what was refused before these evictions, an hour ago": {
			scene: newScene(outside(evicting(db().OnDelete(), hourAgo), 3)).when(
				remembered(restart.Evictions{Refused: "a webhook says no", RefusedSince: noon.Add(-3 * time.Hour), Until: noon.Add(-2 * time.Hour)}),
			),
			evicts: []string{"db-0"},
		},
		"its owner opted out": {
			scene:  newScene(outside(onDelete().Annotated(v1alpha1.RestartAnnotation, "disabled"), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "asks for no restart",
		},
		"the guard is gone": {
			scene:  newScene(outside(onDelete(), 3)).when(func(in *restart.Input) { in.Guard = restart.GuardMissing }),
			reason: restart.ReasonEvictionHeld,
			says:   "Apply config/guard",
		},
		"the labels have just changed": {
			scene:  newScene(labelledAt(noon), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "Waiting until",
		},
		"evictions were disabled": {
			scene:  newScene(outside(onDelete(), 3)).when(evictionDisabled),
			reason: restart.ReasonEvictionHeld,
			says:   "--eviction=Disabled",
		},
		"its template has changed": {
			scene:  newScene(outside(onDelete().With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 0 }), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "another template",
		},
		"its disruption budget allows none": {
			scene:  newScene(builder.DisruptionBudget("shop", "db").Healthy(2, 2, 3).Build(), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "allows 0 now",
		},
		"a budget allows nothing any more": {
			scene:  newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 0, nil), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "Raise it",
		},
		"the namespace is being deleted": {
			scene: newScene(
				builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(yesterday).Terminating(noon).Build(),
				outside(onDelete(), 3),
			),
			reason: restart.ReasonEvictionHeld,
			says:   "is being deleted",
		},
		"the selector leaves it out": {
			scene:  newScene(builder.Enforcing("mesh").Unbounded().Selecting("tier", "web"), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "Widen the selector",
		},
		"what it was begun for is not remediated any more": {
			scene:  newScene(builder.Enforcing("mesh").Unbounded().Remediating("Leftover"), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "spec.remediate",
		},
		"it is scaled to zero": {
			scene:  newScene(outside(onDelete().Replicas(0).RolledOut(), 1)),
			reason: restart.ReasonEvictionHeld,
			says:   "the next ones are injected",
		},
		"it is paused": {
			scene:  newScene(runs(two().With(func(d *appsv1.Deployment) { d.Spec.Paused = true }).Build(), share(5, 8)...)),
			reason: restart.ReasonEvictionHeld,
			says:   "kubectl rollout resume",
		},
		"ambient is asked for as well": {
			scene:  newScene(both(), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "Remove either",
		},
		"the injector is being rolled out": {
			scene:  newScene(outside(onDelete(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })),
			reason: restart.ReasonEvictionHeld,
			says:   "is being rolled out",
		},
		"somebody else controls it now": {scene: newScene(outside(onDelete().With(func(s *appsv1.StatefulSet) {
			s.OwnerReferences = []metav1.OwnerReference{builder.ControlledByOther("acid.zalan.do/v1", "postgresql", "main", "pg")}
		}), 3)), reason: restart.ReasonEvictionHeld, says: "postgresql.acid.zalan.do"},
		"the only Pod that is ready would go": {
			scene:  newScene(outside(evicting(db().Replicas(1).OnDelete().RolledOut()), 1)),
			reason: restart.ReasonEvictionHeld,
			says:   "accept: [Downtime]",
		},
		"it would refuse others": {
			scene:  newScene(strictIn("shop"), outside(onDelete(), 3), runs(plain("old").Build(), uninjected)),
			reason: restart.ReasonEvictionHeld,
			says:   "accept: [StrictMTLS]",
		},
		"its owner rolls it out": {
			scene:  newScene(runs(two().With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }).Build(), share(5, 8)...)),
			reason: restart.ReasonEvictionHeld,
			says:   "A rollout that Fullmesh did not start",
		},
		"a node is drained": {
			scene: newScene(
				builder.Node("north", false), builder.Node("south", true), runs(onDelete().Build(), on("north"), on("north"), on("south")),
			),
			reason: restart.ReasonEvictionHeld,
			says:   "node south, which is cordoned",
		},
		"its policy cannot be used": {
			scene:  newScene(unusable(), outside(onDelete(), 3)),
			reason: restart.ReasonEvictionHeld,
			says:   "MeshPolicy frozen until it is corrected",
		},
		"it is held for long": {
			scene:  newScene(outside(evicting(db().OnDelete(), hourAgo), 3)).when(func(in *restart.Input) { in.Stopped = true }),
			result: v1alpha1.ResultInterrupted,
			says:   "Not every Pod was evicted: Everything is stopped",
		},
		"it was held for long and is no longer": {scene: newScene(outside(evicting(db().OnDelete(), hourAgo), 3)), evicts: []string{"db-0"}},
		"the API server has just refused one": {
			scene: newScene(outside(onDelete(), 3)).when(
				remembered(restart.Evictions{Refused: "a webhook says no", RefusedSince: noon.Add(-time.Minute), Until: noon.Add(time.Second)}),
			),
			says: "is tried again: a webhook says no",
		},
		"what was refused in former evictions is not counted": {
			scene: newScene(outside(onDelete(), 3)).when(
				remembered(restart.Evictions{Refused: "a webhook says no", RefusedSince: noon.Add(-3 * time.Hour), Until: noon.Add(-2 * time.Hour)}),
			),
			evicts: []string{"db-0"},
		},
		"it is refused as long as since it began": {
			scene: newScene(outside(onDelete(), 3)).when(
				remembered(restart.Evictions{Refused: "a webhook says no", RefusedSince: noon.Add(-3 * time.Hour), Until: noon.Add(time.Second)}),
			),
			says: "did not succeed and is tried again: a webhook says no",
		},
		"traffic of the one that follows is not captured yet": {
			scene: newScene(runs(onDelete().Build(), uncaptured(noon.Add(-20*time.Second)), uncaptured(yesterday), uninjected)),
		},
		"traffic of the one that follows is never captured": {
			scene:  newScene(runs(evicting(db().OnDelete(), hourAgo).Build(), uncaptured(noon.Add(-50*time.Minute)), uninjected, uninjected)),
			result: v1alpha1.ResultFailed,
		},
		"Pods that become ready and unready again": {
			scene: newScene(
				runs(evicting(db().OnDelete(), since(noon.Add(-10*time.Hour))).Build(), crashed, readyInMeshAt(noon.Add(-time.Minute)), uninjected),
			),
			result: v1alpha1.ResultFailed,
		},
		"Pods that come back, one after the other": {
			scene: newScene(
				runs(evicting(db().OnDelete(), since(noon.Add(-10*time.Hour))).Build(), starting, readyInMeshAt(noon.Add(-time.Minute)), uninjected),
			).when(remembered(restart.Evictions{Last: noon.Add(-time.Minute)})),
		},
		"a leftover waits for minReadySeconds": {
			scene: newScene(
				noLabel, builder.Enforcing("mesh").Unbounded().Remediating("Leftover"),
				runs(
					evicting(
						db().OnDelete().With(func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 300 }), forFinding(v1alpha1.FindingLeftover),
					).Build(),
					leftover, leftover, readyOutsideAt(noon.Add(-10*time.Second)),
				),
			).answer(restart.Check{At: noon, Received: noon}),
		},
		"a leftover whose minReadySeconds are over": {
			scene: newScene(
				noLabel, builder.Enforcing("mesh").Unbounded().Remediating("Leftover"),
				runs(
					evicting(
						db().OnDelete().With(func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 5 }), forFinding(v1alpha1.FindingLeftover),
					).Build(),
					leftover, leftover, readyOutsideAt(noon.Add(-10*time.Second)),
				),
			).answer(restart.Check{At: noon, Received: noon}),
			evicts: []string{"db-0"},
		},
		"the API server refuses for long": {
			scene: newScene(outside(evicting(db().OnDelete(), hourAgo), 3)).when(
				remembered(restart.Evictions{Refused: "a webhook says no", RefusedSince: noon.Add(-time.Hour), Until: noon}),
			),
			result: v1alpha1.ResultFailed,
			says:   "No eviction has succeeded for 10m0s: a webhook says no",
		},
		"it was given up and came through": {
			scene:  newScene(runs(evicting(db().OnDelete(), ended(v1alpha1.ResultFailed)).Build(), injected, injected, injected)),
			result: v1alpha1.ResultSucceeded,
			says:   "Late",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			step, reason := test.step, test.reason
			var evicts []string
			for _, pod := range verdict.Evict {
				evicts = append(evicts, pod.Name)
			}
			if test.evicts != nil {
				step = restart.StepEvict
			}
			if reason == "" {
				reason = restart.ReasonRestartInProgress
			}
			message := verdict.Message
			if test.result != "" {
				step, reason, message = restart.StepFinish, restart.ReasonRestartEnded, verdict.Restart.Message
			}
			if verdict.Action != v1alpha1.ActionInFlight || verdict.Method != v1alpha1.MethodEviction || verdict.Reason != reason ||
				verdict.Step != step || verdict.Restart.Result != test.result {
				t.Errorf(
					"%s %s by %s, step %d, result %q, want step %d: %s", verdict.Action, verdict.Reason, verdict.Method, verdict.Step,
					verdict.Restart.Result, step, verdict.Message,
				)
			}
			if !slices.Equal(evicts, test.evicts) {
				t.Errorf("it evicts %v, want %v", evicts, test.evicts)
			}
			if !strings.Contains(message, test.says) {
				t.Errorf("%q does not say %q", message, test.says)
			}
		})
	}
}

// hourAgo begins a restart so long ago that something should have come of it.
func hourAgo(r *inventory.Restart) { r.Start = noon.Add(-time.Hour) }

// naming has a round of evictions name Pods of the namespace shop.
func naming(pods ...string) tweak {
	return func(r *inventory.Restart) {
		for _, pod := range pods {
			r.Evicting = append(r.Evicting, types.UID("pod-shop-"+pod))
		}
	}
}

// noLabel is the namespace shop, in which nothing is injected.
var noLabel = builder.Namespace("shop").CreatedAt(yesterday).Build()

// leftover is a ready Pod with a sidecar that nobody asks for any more.
func leftover(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("default").Ready(yesterday) }

// uncaptured is a Pod with a sidecar whose traffic Istio's CNI agent has not redirected.
func uncaptured(created time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(created).Injected("default").RedirectionFailed() }
}

func readyOutsideAt(ready time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(ready.Add(-20 * time.Second)).Ready(ready) }
}

// What a workload may take down may grow after its evictions have begun.
func TestEvictionsKeepToTheBudgetsThoughMoreMayBeDownNow(t *testing.T) {
	web := func(name string, replicas int, most any) []any {
		object := evicting(builder.Deployment("shop", name).Replicas(int32(replicas)).Unavailable(most).Surge(0).CreatedAt(yesterday).RolledOut())
		return runs(object.Build(), share(replicas/4, replicas)...)
	}
	for name, test := range map[string]struct {
		pods    int
		objects []any
		want    int
	}{
		"its owner lets more be down":   {10, []any{web("a", 40, 10), web("b", 40, 5)}, 2},
		"both are scaled up":            {4, []any{web("a", 32, "13%"), web("b", 32, "13%")}, 2},
		"there is room for all of them": {15, []any{web("a", 40, 10), web("b", 40, 5)}, 15},
	} {
		t.Run(name, func(t *testing.T) {
			evicted := 0
			for _, verdict := range verdicts(
				newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, nil, test.pods), test.objects).decide(),
			) {
				evicted += len(verdict.Evict)
			}
			if evicted != test.want {
				t.Errorf("%d Pods are evicted at once, want %d", evicted, test.want)
			}
		})
	}
}

// What holds evictions is looked at when that may be over, or when they end.
func TestEvictionsThatAreHeldAreLookedAtInTime(t *testing.T) {
	plan := newScene(outside(evicting(db().OnDelete()), 3)).when(func(in *restart.Input) { in.Guard = restart.GuardUnknown }).decide()
	if want := began.Add(10*time.Minute + 31*time.Second); !plan.NextChange.Equal(want) {
		t.Errorf("looked at again at %s, want %s: %s", plan.NextChange, want, only(t, plan).Message)
	}
}

// Evictions leave Pods where they are that crash in the mesh since the last ones failed.
func TestEvictionsAreNotTriedAgainBesidePodsThatCrash(t *testing.T) {
	log := func() *builder.Workload[*appsv1.DaemonSet] {
		return builder.DaemonSet("shop", "log").CreatedAt(yesterday).With(func(d *appsv1.DaemonSet) {
			d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
		}).RolledOut(3)
	}
	failed := restarted(log(), byEviction, ended(v1alpha1.ResultFailed))
	got := only(t, newScene(runs(failed.Build(), crashing, uninjected, uninjected)).lettingPass().decide())
	if got.Reason != restart.ReasonInjectedPodsFailing {
		t.Errorf("%s, until %s clears it: %s", got.Reason, got.ClearsBy, got.Message)
	}
}

// What evictions have left is brought to its end by evictions, though a rolling update would do for as many Pods: those
// that are in the mesh stay. One that came up without a sidecar and has gone since does not leave the others outside.
func TestWhatEvictionsHaveLeftIsEvicted(t *testing.T) {
	web := func() *builder.Workload[*appsv1.Deployment] { return cart().Replicas(4).Unavailable(2).RolledOut() }
	evicted := func(b *builder.Workload[*appsv1.Deployment], result v1alpha1.RestartResult, changes ...tweak) *appsv1.Deployment {
		ending := []tweak{byEviction, since(noon.Add(-time.Hour)), endedAt(result, noon.Add(-time.Minute))}
		return restarted(b, append(ending, changes...)...).Build()
	}
	older := uninjectedAt(yesterday.Add(-time.Minute))
	excused := excusedFor(v1alpha1.ExcuseChangedJustBefore)
	for name, test := range map[string]struct {
		scene  *scene
		reason restart.Reason
		method v1alpha1.RestartMethod
	}{
		"they were interrupted": {
			scene:  newScene(runs(evicted(web(), v1alpha1.ResultInterrupted), injected, uninjected, uninjected, uninjected)),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodEviction,
		},
		"the newest has gone since": {
			scene:  newScene(runs(evicted(web(), v1alpha1.ResultInterrupted), injected, older, older, older)),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodEviction,
		},
		"one came without a sidecar, which is excused, and has gone": {
			scene:  newScene(runs(evicted(web(), v1alpha1.ResultIneffective, excused), injected, uninjected, uninjected, uninjected)),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodEviction,
		},
		"one came without a sidecar, and something that decides is new": {
			scene:  newScene(runs(evicted(web(), v1alpha1.ResultIneffective, decidedBy("1-else")), injected, uninjected, uninjected, uninjected)),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodEviction,
		},
		"one came without a sidecar, and nothing that decides has changed": {
			scene:  newScene(runs(evicted(web(), v1alpha1.ResultIneffective), injected, uninjected, uninjected, uninjected)),
			reason: restart.ReasonRestartIneffective, method: v1alpha1.MethodEviction,
		},
		"one came without a sidecar and is there: that is another cause": {
			scene: newScene(
				runs(evicted(web(), v1alpha1.ResultIneffective, excused), injected, uninjected, uninjected, uninjectedAt(noon.Add(-2*time.Minute))),
			),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodRolloutRestart,
		},
		"its owner has new Pods come first now": {
			scene: newScene(runs(
				evicted(cart().Replicas(4).RolledOut(), v1alpha1.ResultInterrupted), injected, uninjected, uninjected, uninjected,
			)),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodRolloutRestart,
		},
		"evictions are disabled": {
			scene:  newScene(runs(evicted(web(), v1alpha1.ResultInterrupted), injected, uninjected, uninjected, uninjected)).when(evictionDisabled),
			reason: restart.ReasonRestartDue, method: v1alpha1.MethodRolloutRestart,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := only(t, test.scene.decide()); got.Reason != test.reason || got.Method != test.method {
				t.Errorf("%s by %s: %s", got.Reason, got.Method, got.Message)
			}
		})
	}
}
