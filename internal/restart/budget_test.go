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
	"github.com/fullmesh/fullmesh/internal/inventory"
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
func inFlightIn(namespace, name string) []any {
	b := deployment(namespace, name)
	uid := b.Build().UID
	record := inventory.NewRecord(inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: uid, Newest: yesterday.Unix()}, "RolloutRestart", "", began)
	b.TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Annotated(v1alpha1.LastRestartAnnotation, record.String()).
		With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 0 })
	return outside(b, 3)
}

func TestBudgets(t *testing.T) {
	enforcing := func() *builder.PolicyBuilder { return builder.Enforcing("mesh") }
	for name, test := range map[string]struct {
		scene *scene
		want  []string
	}{
		"five workloads of a policy and a twentieth of each namespace, unless it says so": {
			newScene(enforcing(), meshed("bank"), many("bank", 3), many("shop", 26)), []string{"bank/a", "shop/a", "shop/b"}},
		"five workloads of a policy, unless it says so": {
			newScene(enforcing(), manyNamespaces(7)), []string{"n0/a", "n1/a", "n2/a", "n3/a", "n4/a"}},
		"a hundred Pods of a policy, unless it says so": {
			newScene(enforcing(), meshed("bank"), outside(deployment("bank", "wide").Replicas(60).Surge(60).RolledOut(), 60), outside(deployment("shop", "wide").Replicas(60).Surge(60).RolledOut(), 60)),
			[]string{"bank/wide"}},
		"a number of workloads of a policy": {newScene(enforcing().Budget(perPolicy, 2, nil), many("shop", 4)), []string{"shop/a", "shop/b"}},
		"a number of workloads of a namespace": {
			newScene(enforcing().Budget(perNamespace, 1, nil), meshed("bank"), many("bank", 2), many("shop", 2)), []string{"bank/a", "shop/a"}},
		"a percentage of workloads, rounded up": {newScene(enforcing().Budget(perPolicy, "26%", nil), many("shop", 4)), []string{"shop/a", "shop/b"}},
		"a percentage of a policy is of all its namespaces": {
			newScene(enforcing().Budget(perPolicy, "50%", nil), meshed("bank"), many("bank", 1), many("shop", 3)), []string{"bank/a", "shop/a"}},
		"a percentage counts the workloads that are in the mesh": {
			newScene(enforcing().Budget(perPolicy, "50%", nil), many("shop", 2), runs(deployment("shop", "x").Build(), injected), runs(deployment("shop", "y").Build(), injected)),
			[]string{"shop/a", "shop/b"}},
		"a percentage does not count what no sidecar is expected of": {
			newScene(enforcing().Budget(perPolicy, "50%", nil), many("shop", 2), outside(deployment("shop", "x").Labelled("sidecar.istio.io/inject", "false"), 3),
				outside(builder.Job("shop", "y"), 1)), []string{"shop/a"}},
		"a percentage does not count what the policy leaves out": {
			newScene(enforcing().Selecting("tier", "web").Budget(perPolicy, "50%", nil), outside(deployment("shop", "a").Labelled("tier", "web"), 3),
				outside(deployment("shop", "b").Labelled("tier", "web"), 3), many("shop", 4)[10:]), []string{"shop/a"}},
		"a number of Pods":         {newScene(enforcing().Budget(perPolicy, nil, 2), many("shop", 3)), []string{"shop/a", "shop/b"}},
		"a percentage of Pods":     {newScene(enforcing().Budget(perPolicy, nil, "30%"), many("shop", 3)), []string{"shop/a", "shop/b", "shop/c"}},
		"the tightest of several":  {newScene(enforcing().Budget(perPolicy, 3, nil).Budget(perNamespace, nil, 2).Budget(perPolicy, "90%", 4), many("shop", 4)), []string{"shop/a", "shop/b"}},
		"what is in flight counts": {newScene(enforcing().Budget(perPolicy, 2, nil), many("shop", 3), inFlightIn("shop", "z")), []string{"shop/a"}},
		"what is in flight counts where its namespace has opted out since": {
			newScene(enforcing().Budget(perPolicy, 1, nil), builder.Namespace("bank").Labelled("istio-injection", "enabled").Annotated(v1alpha1.RestartAnnotation, "disabled").CreatedAt(yesterday).Build(),
				many("shop", 1), inFlightIn("bank", "z")), nil},
		"what is in flight and not selected counts": {
			newScene(enforcing().Selecting("tier", "web").Budget(perPolicy, 1, nil), outside(deployment("shop", "a").Labelled("tier", "web"), 3), inFlightIn("shop", "z")), nil},
		"what is in flight where nobody governs counts against nobody": {
			newScene(enforcing().Over("kubernetes.io/metadata.name", "shop").Budget(perPolicy, 1, nil), builder.Namespace("shop").Labelled("istio-injection", "enabled", "kubernetes.io/metadata.name", "shop").CreatedAt(yesterday).Build(),
				meshed("bank"), many("shop", 1), inFlightIn("bank", "z")), []string{"shop/a"}},
		"another policy's budgets are its own": {
			newScene(meshed("bank"), many("bank", 2), many("shop", 2)).governedBy(enforcing().Budget(perPolicy, 1, nil),
				builder.Enforcing("other").Priority(1).Over("team", "bank").Budget(perPolicy, 1, nil)).labelled("bank", "team", "bank"), []string{"bank/a", "shop/a"}},
		"none at all": {newScene(enforcing().Budget(perPolicy, 0, nil), many("shop", 1)), nil},
		"no Pods":     {newScene(enforcing().Budget(perPolicy, nil, 0), many("shop", 1)), nil},
		"too costly, and others go": {
			newScene(enforcing().Budget(perPolicy, nil, 2), outside(deployment("shop", "wide").Replicas(5).Surge(3).RolledOut(), 5), many("shop", 1)), []string{"shop/a"}},
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
		objects := inFlightIn("shop", "z")
		z := objects[0].(*appsv1.Deployment)
		record := inventory.NewRecord(inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: z.UID, Newest: yesterday.Unix()}, "RolloutRestart", "", began)
		z.Annotations[v1alpha1.LastRestartAnnotation] = record.Ended(v1alpha1.ResultFailed, "It has failed.", noon).String()
		return append(objects, builder.Pod("shop", "z-new").OwnedBy(objects[1].(*appsv1.ReplicaSet)).CreatedAt(noon).Build())
	}
	for name, test := range map[string]speaks{
		"used up": {newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, nil), many("shop", 1), inFlightIn("shop", "z")),
			restart.ReasonBudgetUsedUp, byCluster, "the restarts in flight (workloads: 1, Pods: 1) leave no room in the budget of scope Policy (workloads: 1)"},
		"used up by a restart that has failed": {newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, nil), many("shop", 1), failed()),
			restart.ReasonBudgetUsedUp, byCluster, "until as many of their Pods are ready as before or nothing has moved for a while: Deployment shop/z"},
		"used up by a restart that has failed and one that goes on": {newScene(builder.Enforcing("mesh").Budget(perPolicy, 2, nil), many("shop", 1), failed(), inFlightIn("shop", "y")),
			restart.ReasonBudgetUsedUp, byCluster, "These have failed and still count"},
		"never": {newScene(builder.Enforcing("mesh").Budget(perNamespace, 0, nil), many("shop", 1)),
			restart.ReasonExceedsBudget, byAdmin, "(scope Namespace, workloads: 0) allows no restart at all. Raise it."},
		"never as many Pods": {newScene(builder.Enforcing("mesh").Budget(perPolicy, nil, "10%"), outside(deployment("shop", "a").Surge(2), 3)),
			restart.ReasonExceedsBudget, byAdmin, "takes 2 Pods at once, and a budget of MeshPolicy mesh (scope Policy, pods: 10%) never allows more than 1. Raise that, or lower the workload's maxSurge"},
		"shared with one in flight": {newScene(builder.Enforcing("mesh").Unbounded(), builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 0, 9).Build(), many("shop", 1), inFlightIn("shop", "z")),
			restart.ReasonSharesDisruptionBudget, byCluster, "PodDisruptionBudget all covers another workload that is being restarted; one follows the other"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := verdicts(test.scene.decide())["Deployment shop/a"]
			if verdict.Action != v1alpha1.ActionHold || verdict.Reason != test.reason || verdict.ClearsBy != test.clearsBy || !strings.Contains(verdict.Message, test.message) {
				t.Errorf("verdict %s %s, cleared by %s: %q, want %s, cleared by %s: %q", verdict.Action, verdict.Reason, verdict.ClearsBy, verdict.Message, test.reason, test.clearsBy, test.message)
			}
		})
	}
}

func TestOneOfADisruptionBudgetAtATime(t *testing.T) {
	budget := builder.DisruptionBudget("shop", "web").Covering("tier", "web").Healthy(9, 0, 9).Build()
	web := func(name string) []any { return outside(deployment("shop", name).Labelled("tier", "web"), 3) }
	got := started(newScene(budget, web("a"), web("b"), outside(deployment("shop", "c"), 3), meshed("bank"), outside(deployment("bank", "d").Labelled("tier", "web"), 3)).decide())
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
		"what serves nothing goes first":         {newScene(outside(deployment("shop", "a"), 3), runs(deployment("shop", "b").Build(), starting, starting, starting)), 1, []string{"shop/b"}},
		"StatefulSets go last":                   {newScene(outside(builder.StatefulSet("shop", "a").Replicas(2).CreatedAt(yesterday).RolledOut(), 2), outside(deployment("shop", "b"), 3)), 1, []string{"shop/b"}},
		"the small go before the large":          {newScene(outside(deployment("shop", "a").Replicas(4).RolledOut(), 4), outside(deployment("shop", "b"), 3)), 1, []string{"shop/b"}},
		"then the first by name":                 {newScene(outside(deployment("shop", "b"), 3), outside(deployment("shop", "a"), 3)), 1, []string{"shop/a"}},
		"one of each namespace, then the next":   {newScene(meshed("bank"), many("bank", 3), many("shop", 1)), 3, []string{"bank/a", "bank/b", "shop/a"}},
		"a namespace with fewer in flight first": {newScene(meshed("bank"), many("bank", 3), inFlightIn("bank", "z"), many("shop", 1)), 2, []string{"shop/a"}},
		"a namespace with more in flight waits":  {newScene(meshed("bank"), many("bank", 3), inFlightIn("bank", "y"), inFlightIn("bank", "z"), many("shop", 3)), 4, []string{"shop/a", "shop/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, order(test.scene, test.places)); diff != "" {
				t.Errorf("started (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextLookIsTheFirstMomentThatMayChangeSomething(t *testing.T) {
	settling := newScene(labelledAt(noon.Add(-10*time.Second)), outside(cart(), 3), inFlightIn("shop", "z"))
	if got, want := settling.decide().NextLook, noon.Add(20*time.Second); !got.Equal(want) {
		t.Errorf("looked at again at %s, want %s", got, want)
	}
	if got := newScene(outside(cart(), 3)).decide().NextLook; !got.IsZero() {
		t.Errorf("looked at again at %s, though time changes nothing", got)
	}
}

func TestVerdictsAreInOrderOfUrgency(t *testing.T) {
	plan := newScene(builder.Enforcing("mesh").Budget(perPolicy, 2, nil),
		many("shop", 2), inFlightIn("shop", "z"), outside(deployment("shop", "opted").Annotated(v1alpha1.RestartAnnotation, "disabled"), 3)).decide()
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
	scene := newScene(outside(builder.Job("shop", "import"), 1), aRunOf(builder.CronJob("shop", "nightly").Build()), runs(cart().Build(), injected))
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
		runs(deployment("shop", "done").Build(), injected, injected), outside(deployment("shop", "plain").Labelled("sidecar.istio.io/inject", "false"), 2)).decide()
	got := plan.Namespaces[0].Summarise()
	want := restart.Summary{Complete: 2, InFlight: 1, WillRestart: 1, Waiting: 1, NeedsAction: 1, Eligible: 14, Meshed: 2, NotExpected: got.NotExpected}
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
