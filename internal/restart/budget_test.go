package restart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

const (
	perPolicy    = v1alpha1.BudgetScopePolicy
	perNamespace = v1alpha1.BudgetScopeNamespace
)

// started are the workloads that are begun, in the order of the verdicts.
func started(plan *restart.Plan) []string {
	var names []string
	for _, namespace := range plan.Namespaces {
		for _, verdict := range namespace.Verdicts {
			if verdict.Action == v1alpha1.ActionRestart {
				names = append(names, namespace.Name+"/"+verdict.Workload.Key.Name)
			}
		}
	}
	return names
}

// many are Deployments a, b, c … of three Pods, of which each takes one on top.
func many(namespace string, number int) []any {
	var objects []any
	for n := range number {
		objects = append(objects, outside(deployment(namespace, string(rune('a'+n))), 3)...)
	}
	return objects
}

// inFlightIn is a Deployment in the middle of a restart.
func inFlightIn(namespace, name string, changes ...tweak) []any {
	return outside(restarted(deployment(namespace, name), changes...).With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 0 }), 3)
}

func TestBudgets(t *testing.T) {
	enforcing := func() *builder.PolicyBuilder { return builder.Enforcing("mesh") }
	for name, test := range map[string]struct {
		scene *scene
		want  []string
	}{
		"five workloads of a policy and a twentieth of each namespace, unless it says so": {
			scene: newScene(enforcing(), meshed("bank"), many("bank", 3), many("shop", 26)), want: []string{"bank/a", "shop/a", "shop/b"}},
		"five workloads of a policy, unless it says so": {
			scene: newScene(enforcing(), manyNamespaces(7)), want: []string{"n0/a", "n1/a", "n2/a", "n3/a", "n4/a"}},
		"a hundred Pods of a policy, unless it says so": {
			scene: newScene(
				enforcing(), meshed("bank"), outside(deployment("bank", "wide").Replicas(60).Surge(60).RolledOut(), 60),
				outside(deployment("shop", "wide").Replicas(60).Surge(60).RolledOut(), 60),
			),
			want: []string{"bank/wide"}},
		"a number of workloads of a policy": {
			scene: newScene(enforcing().Budget(perPolicy, 2, nil), many("shop", 4)),
			want:  []string{"shop/a", "shop/b"},
		},
		"a number of workloads of a namespace": {
			scene: newScene(
				enforcing().Budget(perNamespace, 1, nil), meshed("bank"), many("bank", 2), many("shop", 2),
			), want: []string{"bank/a", "shop/a"}},
		"a percentage of workloads, rounded up": {
			scene: newScene(enforcing().Budget(perPolicy, "26%", nil), many("shop", 4)),
			want:  []string{"shop/a", "shop/b"},
		},
		"a percentage of a policy is of all its namespaces": {
			scene: newScene(
				enforcing().Budget(perPolicy, "50%", nil), meshed("bank"), many("bank", 1), many("shop", 3),
			), want: []string{"bank/a", "shop/a"}},
		"a percentage counts the workloads that are in the mesh": {
			scene: newScene(
				enforcing().Budget(perPolicy, "50%", nil), many("shop", 2), runs(deployment("shop", "x").Build(), injected),
				runs(deployment("shop", "y").Build(), injected),
			),
			want: []string{"shop/a", "shop/b"}},
		"a percentage does not count what no sidecar is expected of": {
			scene: newScene(enforcing().Budget(perPolicy, "50%", nil), many("shop", 2), outside(
				deployment("shop", "x").Labelled("sidecar.istio.io/inject", "false"), 3,
			),
				outside(builder.Job("shop", "y"), 1)), want: []string{"shop/a"}},
		"a percentage does not count what the policy leaves out": {
			scene: newScene(enforcing().Selecting("tier", "web").Budget(perPolicy, "50%", nil), outside(
				deployment("shop", "a").Labelled("tier", "web"), 3,
			),
				outside(deployment("shop", "b").Labelled("tier", "web"), 3), many("shop", 4)[10:]), want: []string{"shop/a"}},
		"a number of Pods": {scene: newScene(enforcing().Budget(perPolicy, nil, 2), many("shop", 3)), want: []string{"shop/a", "shop/b"}},
		"a percentage of Pods": {
			scene: newScene(enforcing().Budget(perPolicy, nil, "30%"), many("shop", 3)),
			want:  []string{"shop/a", "shop/b", "shop/c"},
		},
		"the tightest of several": {
			scene: newScene(enforcing().Budget(perPolicy, 3, nil).Budget(perNamespace, nil, 2).Budget(perPolicy, "90%", 4), many("shop", 4)),
			want:  []string{"shop/a", "shop/b"},
		},
		"what is in flight counts": {
			scene: newScene(enforcing().Budget(perPolicy, 2, nil), many("shop", 3), inFlightIn("shop", "z")),
			want:  []string{"shop/a"},
		},
		"what is in flight counts where its namespace has opted out since": {
			scene: newScene(enforcing().Budget(perPolicy, 1, nil), builder.Namespace("bank").Labelled("istio-injection", "enabled").Annotated(
				v1alpha1.RestartAnnotation, "disabled",
			).CreatedAt(yesterday).Build(),
				many("shop", 1), inFlightIn("bank", "z"))},
		"what is in flight and not selected counts": {
			scene: newScene(
				enforcing().Selecting("tier", "web").Budget(perPolicy, 1, nil), outside(deployment("shop", "a").Labelled("tier", "web"), 3),
				inFlightIn("shop", "z"),
			)},
		"what is in flight where nobody governs counts against the policy that began it": {
			scene: newScene(enforcing().Over("kubernetes.io/metadata.name", "shop").Budget(perPolicy, 1, nil), builder.Namespace("shop").Labelled(
				"istio-injection", "enabled", "kubernetes.io/metadata.name", "shop",
			).CreatedAt(yesterday).Build(),
				meshed("bank"), many("shop", 1), inFlightIn("bank", "z"))},
		"what a policy that is gone has begun counts against nobody": {
			scene: newScene(enforcing().Over("kubernetes.io/metadata.name", "shop").Budget(perPolicy, 1, nil), builder.Namespace("shop").Labelled(
				"istio-injection", "enabled", "kubernetes.io/metadata.name", "shop",
			).CreatedAt(yesterday).Build(),
				meshed("bank"), many("shop", 1), inFlightIn("bank", "z", under("gone"))), want: []string{"shop/a"}},
		"another policy's budgets are its own": {
			scene: newScene(meshed("bank"), many("bank", 2), many("shop", 2)).governedBy(enforcing().Budget(perPolicy, 1, nil),
				builder.Enforcing("other").Priority(1).Over("team", "bank").Budget(perPolicy, 1, nil)).labelled(
				"bank", "team", "bank",
			), want: []string{"bank/a", "shop/a"}},
		"none at all": {scene: newScene(enforcing().Budget(perPolicy, 0, nil), many("shop", 1))},
		"no Pods":     {scene: newScene(enforcing().Budget(perPolicy, nil, 0), many("shop", 1))},
		"too costly, and others go": {
			scene: newScene(
				enforcing().Budget(perPolicy, nil, 2), outside(deployment("shop", "wide").Replicas(5).Surge(3).RolledOut(), 5), many("shop", 1),
			), want: []string{"shop/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, started(test.scene.decide())); diff != "" {
				t.Errorf("started (-want +got):\n%s", diff)
			}
		})
	}
}

func manyNamespaces(number int) []any {
	var objects []any
	for n := range number {
		name := fmt.Sprintf("n%d", n)
		objects = append(append(objects, meshed(name)), many(name, 2)...)
	}
	return objects
}

// governedBy sets several policies.
func (s *scene) governedBy(policies ...*builder.PolicyBuilder) *scene {
	s.policies = nil
	for _, b := range policies {
		s.policies = append(s.policies, b.Build())
	}
	return s
}

// labelled is a namespace that asks for sidecars and has one more label.
func (s *scene) labelled(name, key, value string) *scene {
	return s.with(builder.Namespace(name).Labelled("istio-injection", "enabled", key, value).CreatedAt(yesterday).Build())
}

func TestBudgetHoldsSayWhy(t *testing.T) {
	failed := func() []any {
		objects := inFlightIn("shop", "z", endedAt(v1alpha1.ResultFailed, noon))
		return append(objects, builder.Pod("shop", "z-new").OwnedBy(objects[1].(*appsv1.ReplicaSet)).CreatedAt(noon).Build())
	}
	for name, test := range map[string]holding{
		"used up": {scene: newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, nil), many("shop", 1), inFlightIn("shop", "z")),
			reason:   restart.ReasonBudgetExhausted,
			clearsBy: byCluster,
			message:  "Waiting: the policy's budget (1 workload) is used by 1 restart in progress (1 Pod).",
		},
		"used up by a restart that has failed": {scene: newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, nil), many("shop", 1), failed()),
			reason:   restart.ReasonBudgetExhausted,
			clearsBy: byCluster,
			message:  "until as many of their Pods are ready as before or nothing has moved for a while: Deployment shop/z",
		},
		"used up by a restart that has failed and one that goes on": {scene: newScene(
			builder.Enforcing("mesh").Budget(perPolicy, 2, nil), many("shop", 1), failed(), inFlightIn("shop", "y"),
		),
			reason: restart.ReasonBudgetExhausted, clearsBy: byCluster, message: "These have failed and still count"},
		"never": {scene: newScene(builder.Enforcing("mesh").Budget(perNamespace, 0, nil), many("shop", 1)),
			reason: restart.ReasonExceedsBudget, clearsBy: byAdmin, message: "(scope Namespace, workloads: 0) allows no restart at all. Raise it."},
		"never as many Pods": {scene: newScene(
			builder.Enforcing("mesh").Budget(perPolicy, nil, "10%"), outside(deployment("shop", "a").Surge(2), 3),
		),
			reason:   restart.ReasonExceedsBudget,
			clearsBy: byAdmin,
			message: "takes 2 Pods at once, and a budget of MeshPolicy mesh (scope Policy, pods: 10%) never allows more than 1. Raise that, or " +
				"lower the workload's maxSurge",
		},
		"shared with one in flight": {scene: newScene(
			builder.Enforcing("mesh").Unbounded(), builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 0, 9).Build(), many("shop", 1),
			inFlightIn("shop", "z"),
		),
			reason:   restart.ReasonSharesDisruptionBudget,
			clearsBy: byCluster,
			message:  "PodDisruptionBudget all also covers a workload that is being restarted; one follows the other.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := verdicts(test.scene.decide())["Deployment shop/a"]
			if verdict.Action != v1alpha1.ActionHold || verdict.Reason != test.reason || verdict.ClearsBy != test.clearsBy || !strings.Contains(
				verdict.Message, test.message,
			) {
				t.Errorf(
					"verdict %s %s, cleared by %s: %q, want %s, cleared by %s: %q", verdict.Action, verdict.Reason, verdict.ClearsBy, verdict.Message,
					test.reason, test.clearsBy, test.message,
				)
			}
		})
	}
}

func TestOneOfADisruptionBudgetAtATime(t *testing.T) {
	budget := builder.DisruptionBudget("shop", "web").Covering("tier", "web").Healthy(9, 0, 9).Build()
	web := func(name string) []any { return outside(deployment("shop", name).Labelled("tier", "web"), 3) }
	got := started(
		newScene(
			budget, web("a"), web("b"), outside(deployment("shop", "c"), 3), meshed("bank"),
			outside(deployment("bank", "d").Labelled("tier", "web"), 3),
		).decide(),
	)
	if diff := cmp.Diff([]string{"bank/d", "shop/a", "shop/c"}, got); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
}

// order is the order in which workloads get the one place that there is.
func order(s *scene, budget int) []string {
	s.policies = []*v1alpha1.MeshPolicy{builder.Enforcing("mesh").Budget(perPolicy, budget, nil).Accepting(v1alpha1.RiskDowntime).Build()}
	return started(s.decide())
}

func TestTurns(t *testing.T) {
	for name, test := range map[string]struct {
		scene  *scene
		places int
		want   []string
	}{
		"what serves nothing goes first": {
			scene:  newScene(outside(deployment("shop", "a"), 3), runs(deployment("shop", "b").Build(), starting, starting, starting)),
			places: 1,
			want:   []string{"shop/b"},
		},
		"StatefulSets go last": {
			scene: newScene(
				outside(builder.StatefulSet("shop", "a").Replicas(2).CreatedAt(yesterday).RolledOut(), 2), outside(deployment("shop", "b"), 3),
			),
			places: 1,
			want:   []string{"shop/b"},
		},
		"the small go before the large": {
			scene:  newScene(outside(deployment("shop", "a").Replicas(4).RolledOut(), 4), outside(deployment("shop", "b"), 3)),
			places: 1,
			want:   []string{"shop/b"},
		},
		"then the first by name": {
			scene:  newScene(outside(deployment("shop", "b"), 3), outside(deployment("shop", "a"), 3)),
			places: 1,
			want:   []string{"shop/a"},
		},
		"one of each namespace, then the next": {
			scene:  newScene(meshed("bank"), many("bank", 3), many("shop", 1)),
			places: 3,
			want:   []string{"bank/a", "bank/b", "shop/a"},
		},
		"a namespace with fewer in flight first": {
			scene:  newScene(meshed("bank"), many("bank", 3), inFlightIn("bank", "z"), many("shop", 1)),
			places: 2,
			want:   []string{"shop/a"},
		},
		"a namespace with more in flight waits": {
			scene:  newScene(meshed("bank"), many("bank", 3), inFlightIn("bank", "y"), inFlightIn("bank", "z"), many("shop", 3)),
			places: 4,
			want:   []string{"shop/a", "shop/b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, order(test.scene, test.places)); diff != "" {
				t.Errorf("started (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextChangeIsTheFirstMomentThatMayChangeSomething(t *testing.T) {
	settling := newScene(labelledAt(noon.Add(-10*time.Second)), outside(cart(), 3), inFlightIn("shop", "z"))
	if got, want := settling.decide().NextChange, noon.Add(20*time.Second); !got.Equal(want) {
		t.Errorf("looked at again at %s, want %s", got, want)
	}
	if got := newScene(outside(cart(), 3)).decide().NextChange; !got.IsZero() {
		t.Errorf("looked at again at %s, though time changes nothing", got)
	}
}

func TestVerdictsAreInOrderOfUrgency(t *testing.T) {
	plan := newScene(builder.Enforcing("mesh").Budget(perPolicy, 2, nil),
		many("shop", 2), inFlightIn("shop", "z"), outside(
			deployment("shop", "opted").Annotated(v1alpha1.RestartAnnotation, "disabled"), 3,
		)).decide()
	var got []string
	for _, verdict := range plan.Namespaces[0].Verdicts {
		got = append(got, verdict.Workload.Key.Name+" "+string(verdict.Action))
	}
	if want := []string{"opted Hold", "z InFlight", "a Restart", "b Hold"}; !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
}

// A Job runs to its end whatever Fullmesh does. A namespace of CronJobs would never be settled.
func TestJobsKeepNoNamespaceFromBeingSettled(t *testing.T) {
	scene := newScene(
		outside(builder.Job("shop", "import"), 1), aRunOf(builder.CronJob("shop", "nightly").Build()), runs(cart().Build(), injected),
	)
	got := scene.decide().Namespaces[0].Summarise()
	if got.Waiting != 2 || !got.Settled() || !got.FullMesh() {
		t.Errorf("%d are waiting, settled %t, full mesh %t", got.Waiting, got.Settled(), got.FullMesh())
	}
	total := restart.Summary{}
	if total.Add(got); !total.Settled() {
		t.Error("their sum is not settled")
	}
}

func TestSummary(t *testing.T) {
	plan := newScene(builder.Enforcing("mesh").Budget(perPolicy, 2, nil),
		many("shop", 2), inFlightIn("shop", "z"), outside(deployment("shop", "opted").Annotated(v1alpha1.RestartAnnotation, "disabled"), 3),
		runs(deployment("shop", "done").Build(), injected, injected), outside(
			deployment("shop", "plain").Labelled("sidecar.istio.io/inject", "false"), 2,
		)).decide()
	got := plan.Namespaces[0].Summarise()
	want := restart.Summary{
		Complete:    2,
		InFlight:    1,
		WillRestart: 1,
		Waiting:     1,
		NeedsAction: 1,
		Eligible:    14,
		Meshed:      2,
		NotExpected: got.NotExpected,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if got.NotExpectedPods() != 2 || got.FullMesh() || got.Settled() || !plan.Namespaces[0].WorthReporting() {
		t.Errorf("not expected %v, full mesh %t, settled %t", got.NotExpected, got.FullMesh(), got.Settled())
	}
	total := restart.Summary{}
	total.Add(got)
	total.Add(got)
	if total.Meshed != 4 || total.NotExpectedPods() != 4 || total.NeedsAction != 2 {
		t.Errorf("twice that is %+v", total)
	}
	var all []string
	for _, verdict := range plan.Namespaces[0].All() {
		all = append(all, verdict.Workload.Key.Name+" "+string(verdict.Action))
	}
	if want := []string{"a Restart", "b Hold", "done None", "opted Hold", "plain None", "z InFlight"}; !slices.Equal(all, want) {
		t.Errorf("all verdicts %v, want %v", all, want)
	}
}

// A disruption budget that has not been observed yet changes nothing for a workload that surges: one that never fits
// has nobody wait for it.
func TestWhatNeverFitsHasNobodyWait(t *testing.T) {
	given := verdicts(newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, nil, 2), meshed("tea"),
		builder.DisruptionBudget("shop", "cart").Healthy(20, 1, 20).NotSeen().Build(),
		outside(cart().Replicas(3).Surge(3).RolledOut(), 3), outside(deployment("tea", "pot"), 3)).decide())
	if got := given["Deployment shop/cart"]; got.Reason != restart.ReasonExceedsBudget {
		t.Errorf("the one that never fits: %s: %s", got.Reason, got.Message)
	}
	if got := given["Deployment tea/pot"]; got.Action != v1alpha1.ActionRestart {
		t.Errorf("the other one: %s: %s", got.Reason, got.Message)
	}
}
