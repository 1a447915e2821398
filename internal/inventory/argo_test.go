package inventory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestRolloutKeepsWhatIsJudged(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	built := builder.Rollout("shop", "cart").Replicas(8).RolledOut().Unavailable(2).
		Labelled("sidecar.istio.io/inject", "true").Annotated("team", "cart").
		Set(int64(5), "spec", "minReadySeconds").RestartAt(at).RestartedAt(at.Add(-time.Hour)).Build()
	built.SetResourceVersion("7")
	got := inventory.FromRollout(built)
	if got.Template.Labels["sidecar.istio.io/inject"] != "true" || got.TemplateHash == "" {
		t.Errorf("the template is %+v", got.Template)
	}
	want := &inventory.Object{
		Meta:               mesh.MetaOf(built),
		Group:              "argoproj.io",
		Kind:               "Rollout",
		Annotations:        map[string]string{"team": "cart"},
		Template:           got.Template,
		TemplateHash:       got.TemplateHash,
		Generation:         1,
		ObservedGeneration: 1,
		Replicas:           8, Current: 8, Updated: 8, Available: 8,
		Strategy:        inventory.Strategy{Type: inventory.StrategyRolling, MaxUnavailable: 2},
		MinReadySeconds: 5,
		RestartAt:       at, RestartedAt: at.Add(-time.Hour),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if key := got.Key().String(); key != "Rollout.argoproj.io shop/cart" {
		t.Errorf("it is named %s", key)
	}
}

// The amounts are those that Argo's controller computes: utils/replicaset, MaxUnavailable, and at
// least one for a restart.
func TestRolloutRestartsSoManyPodsAtOnce(t *testing.T) {
	for _, test := range []struct {
		rollout *builder.RolloutBuilder
		want    int
	}{
		{builder.Rollout("shop", "a quarter, rounded down").Replicas(11), 2},
		{builder.Rollout("shop", "at least one").Replicas(3), 1},
		{builder.Rollout("shop", "none").Replicas(4).Unavailable(0), 1},
		{builder.Rollout("shop", "so many").Replicas(4).Unavailable(3), 3},
		{builder.Rollout("shop", "no more than there are").Replicas(2).Unavailable(3), 2},
		{builder.Rollout("shop", "a percentage").Replicas(10).Unavailable("30%"), 3},
		{builder.Rollout("shop", "a percentage without its sign").Replicas(10).Unavailable("30"), 3},
		{builder.Rollout("shop", "neither unavailable nor on top").Replicas(10).Canary(map[string]any{"maxUnavailable": "1%", "maxSurge": int64(0)}), 1},
		{builder.Rollout("shop", "blue and green").Replicas(8).BlueGreen(map[string]any{}), 2},
		{builder.Rollout("shop", "blue and green, so many").Replicas(8).BlueGreen(map[string]any{"maxUnavailable": int64(5)}), 5},
		{builder.Rollout("shop", "no strategy").Replicas(8).Without("spec", "strategy"), 2},
		{builder.Rollout("shop", "scaled to zero").Replicas(0), 1},
		{builder.Rollout("shop", "of one").Replicas(1), 1},
		{builder.Rollout("shop", "of one by default").Without("spec", "replicas"), 1},
	} {
		t.Run(test.rollout.Build().GetName(), func(t *testing.T) {
			got := inventory.FromRollout(test.rollout.Build()).Strategy
			if want := (inventory.Strategy{Type: inventory.StrategyRolling, MaxUnavailable: test.want}); got != want {
				t.Errorf("strategy %+v, want %+v", got, want)
			}
		})
	}
}

func TestRolloutIsUpdating(t *testing.T) {
	for _, test := range []struct {
		name                      string
		rollout                   *builder.RolloutBuilder
		rollingOut, paused, stuck bool
	}{
		{"healthy", builder.Rollout("shop", "cart").Replicas(3).RolledOut(), false, false, false},
		{"its controller has not seen it", builder.Rollout("shop", "cart").Replicas(3), true, false, false},
		{"its controller has not seen the last change", builder.Rollout("shop", "cart").RolledOut().Set(int64(2), "metadata", "generation"), true, false, false},
		{"an update that waits for its next step", builder.Rollout("shop", "cart").RolledOut().Set("2", "status", "currentPodHash").
			Set([]any{map[string]any{"reason": "CanaryPauseStep"}}, "status", "pauseConditions"), true, true, false},
		{"paused by its owner", builder.Rollout("shop", "cart").RolledOut().Set(true, "spec", "paused"), false, true, false},
		{"an update that was given up", builder.Rollout("shop", "cart").RolledOut().Set("2", "status", "currentPodHash").Set(true, "status", "abort"), true, false, true},
		{"degraded", builder.Rollout("shop", "cart").RolledOut().Set("Degraded", "status", "phase"), false, false, true},
		{"blue is still there beside green", builder.Rollout("shop", "cart").Replicas(3).RolledOut().Set(int64(6), "status", "replicas"), true, false, false},
		{"a Pod is being restarted", builder.Rollout("shop", "cart").Replicas(3).RolledOut().Set(int64(2), "status", "availableReplicas").Set("Progressing", "status", "phase"), false, false, false},
		{"the generation is a hash, as before 1.0", builder.Rollout("shop", "cart").RolledOut().Set("7f8b9c", "status", "observedGeneration"), true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := inventory.FromRollout(test.rollout.Build())
			if got.RollingOut() != test.rollingOut || got.Paused != test.paused || got.Stuck != test.stuck {
				t.Errorf("rolling out %t, paused %t, stuck %t", got.RollingOut(), got.Paused, got.Stuck)
			}
		})
	}
}

// What the API server stores under a schema that says nothing must not end the reading of the others.
func TestRolloutThatCannotBeReadIsKeptAsSuch(t *testing.T) {
	for _, content := range []map[string]any{
		{},
		{"spec": "none"},
		{"spec": map[string]any{"replicas": "three"}},
		{"spec": map[string]any{"template": []any{}}},
		{"spec": map[string]any{"workloadRef": map[string]any{}}},
		{"spec": map[string]any{"template": map[string]any{}}, "status": map[string]any{"replicas": "?"}},
	} {
		t.Run(fmt.Sprint(content), func(t *testing.T) {
			object := &unstructured.Unstructured{Object: content}
			object.SetName("cart")
			got := inventory.FromRollout(object)
			if got.TemplateUnknown == "" || got.Template == nil || got.Name != "cart" {
				t.Errorf("kept as %+v", got)
			}
		})
	}
}

func TestRolloutTakesItsTemplateFromADeployment(t *testing.T) {
	lender := func(change func(*builder.Workload[*appsv1.Deployment]) *builder.Workload[*appsv1.Deployment]) *inventory.Object {
		return inventory.FromDeployment(change(builder.Deployment("shop", "cart").Replicas(0).RolledOut()).Build())
	}
	asItIs := func(b *builder.Workload[*appsv1.Deployment]) *builder.Workload[*appsv1.Deployment] { return b }
	optedOut := func(b *builder.Workload[*appsv1.Deployment]) *builder.Workload[*appsv1.Deployment] {
		return b.Labelled("sidecar.istio.io/inject", "false").With(func(d *appsv1.Deployment) { d.Generation = 2 })
	}
	borrower := inventory.FromRollout(builder.Rollout("shop", "cart").Replicas(3).RolledOut().TemplateOf("apps/v1", "Deployment", "cart").Build())
	key := borrower.Key()
	i := inventory.New()
	i.SetInjector(injectorOf(builder.Webhooks()), noon)
	i.SetNamespace(builder.Namespace("shop").Labelled("istio-injection", "enabled").Build(), time.Time{})
	look := func() *inventory.Workload {
		t.Helper()
		for _, workload := range i.Snapshot().Namespaces[0].Workloads {
			if workload.Key == key {
				return workload
			}
		}
		t.Fatal("there is no Rollout")
		return nil
	}
	lends := func() bool {
		for _, workload := range i.Snapshot().Namespaces[0].Workloads {
			if workload.Key.Kind == "Deployment" {
				return workload.TemplateShared
			}
		}
		return false
	}

	i.SetObject(borrower)
	if got := look().Object; got.TemplateUnknown == "" {
		t.Errorf("without the Deployment the template is %+v", got.Template)
	}
	i.SetObject(lender(asItIs))
	if got := look(); got.Object.TemplateUnknown != "" || !got.Expectation.Inject || got.Object.RollingOut() {
		t.Errorf("with the Deployment: unknown %q, inject %t, rolling out %t", got.Object.TemplateUnknown, got.Expectation.Inject, got.Object.RollingOut())
	}
	if !lends() {
		t.Error("the Deployment is not known to lend its template")
	}
	i.SetObject(lender(optedOut))
	if got := look(); got.Expectation.Inject || !got.Object.RollingOut() {
		t.Errorf("after a change of the Deployment: inject %t, rolling out %t", got.Expectation.Inject, got.Object.RollingOut())
	}
	i.DeleteObject(lender(asItIs))
	if got := look().Object; got.TemplateUnknown == "" {
		t.Errorf("after the Deployment has gone the template is %+v", got.Template)
	}
	i.SetObject(lender(asItIs))
	i.DeleteObject(borrower)
	if lends() {
		t.Error("the Deployment still lends its template")
	}
	// Read after the Deployment, and turned to another.
	i.SetObject(borrower)
	if got := look().Object; got.TemplateUnknown != "" {
		t.Error(got.TemplateUnknown)
	}
	i.SetObject(inventory.FromRollout(builder.Rollout("shop", "cart").Replicas(3).RolledOut().TemplateOf("apps/v1", "Deployment", "other").Build()))
	if lends() || look().Object.TemplateUnknown == "" {
		t.Error("the template is still that of the former Deployment")
	}
}
