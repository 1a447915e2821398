package restart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// A name fits wherever it is written: as an object's, and as an annotation that people read.
func TestRestartName(t *testing.T) {
	for name, test := range map[string]struct {
		workload string
		want     string
	}{
		"a short one":               {workload: "cart", want: "deployment-cart-"},
		"one that is cut":           {workload: strings.Repeat("a", 100), want: "deployment-" + strings.Repeat("a", 41) + "-"},
		"one that is cut at a dot":  {workload: strings.Repeat("a", 40) + ".b", want: "deployment-" + strings.Repeat("a", 40) + "-"},
		"one that is cut at dashes": {workload: strings.Repeat("a", 38) + "---b", want: "deployment-" + strings.Repeat("a", 38) + "-"},
	} {
		t.Run(name, func(t *testing.T) {
			got := restart.NameOf(mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: test.workload}, "uid", 1)
			if hash, found := strings.CutPrefix(got, test.want); !found || len(hash) != 10 {
				t.Errorf("%s, want %s and ten digits", got, test.want)
			}
			if wrong := validation.IsDNS1123Subdomain(got); len(got) > 63 || len(wrong) > 0 {
				t.Errorf("%s has %d bytes: %v", got, len(got), wrong)
			}
		})
	}
}

// Whoever makes the same attempt creates the same name: the API server refuses the second.
func TestRestartNameIsOfTheAttempt(t *testing.T) {
	first := restart.NameOf(cartKey, "uid", 1)
	if again := restart.NameOf(cartKey, "uid", 1); again != first {
		t.Errorf("the same attempt is called %s and %s", first, again)
	}
	for name, other := range map[string]string{
		"another attempt":                          restart.NameOf(cartKey, "uid", 2),
		"another workload of this name":            restart.NameOf(cartKey, "another", 1),
		"a workload and attempt that run together": restart.NameOf(cartKey, "uid/1", 1),
	} {
		if other == first {
			t.Errorf("%s is called %s as well", name, other)
		}
	}
}

func TestAttemptsAreCounted(t *testing.T) {
	standing := func(attempt int) string { return restart.NameOf(cartKey, "deployment-shop-cart", attempt) }
	for name, test := range map[string]struct {
		scene *scene
		want  int
	}{
		"the first": {scene: newScene(outside(cart(), 3)), want: 1},
		"after one": {scene: newScene(outside(restarted(cart(), ended(v1alpha1.ResultInterrupted)), 3)), want: 2},
		"after the highest that is kept": {
			scene: newScene(
				outside(restarted(restarted(cart(), ended(v1alpha1.ResultInterrupted), attempt(7)), ended(v1alpha1.ResultInterrupted), attempt(3)), 3),
			),
			want: 8,
		},
		"when the template names the first": {
			scene: newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartedByAnnotation, standing(1)), 3)),
			want:  2,
		},
		"when the template names the third": {
			scene: newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartedByAnnotation, standing(3)), 3)),
			want:  1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := only(t, test.scene.decide())
			if got.Action != v1alpha1.ActionRestart || got.Restart.Attempt != test.want || got.Restart.Name != standing(test.want) {
				t.Errorf("%s: attempt %d, %s", got.Reason, got.Restart.Attempt, got.Restart.Name)
			}
		})
	}
}

// An intent is a MeshRestart of which its workload shows nothing: it is about to touch it, somebody else wrote first, or
// it was taken back. It holds its place, and when no doubt is left it is asked from the API server.
func TestIntents(t *testing.T) {
	just := since(noon.Add(-time.Minute))
	twoMinutes := since(noon.Add(-2 * time.Minute))
	for name, test := range map[string]struct {
		cart   []any
		step   restart.Step
		result v1alpha1.RestartResult
		until  time.Time
	}{
		"it has not touched its workload yet": {
			cart: outside(intended(cart(), just), 3), until: noon.Add(time.Minute),
		},
		"it has not for two minutes": {
			cart: outside(intended(cart(), twoMinutes), 3), step: restart.StepRecheck,
		},
		"it has not for a second less": {
			cart: outside(intended(cart(), since(noon.Add(-2*time.Minute+time.Second))), 3), until: noon.Add(time.Second),
		},
		"somebody else has written the workload": {
			cart: outside(intended(cart(), just).Changed(), 3), step: restart.StepRecheck,
		},
		"somebody else has, and the API server may not have the MeshRestart": {
			cart: append(outside(cart().Changed(), 3), pending(just)), until: noon.Add(time.Minute),
		},
		"it is not known for two minutes whether the API server has it": {
			cart: append(outside(cart(), 3), pending(twoMinutes)), step: restart.StepRecheck,
		},
		"the workload was written twice since": {
			cart: outside(intended(cart(), just).Changed().Changed(), 3), step: restart.StepFinish, result: v1alpha1.ResultReverted,
		},
		"the template names it, however late": {
			cart: outside(restarted(cart(), since(noon.Add(-5*time.Minute))).With(goesOn), 3), until: noon.Add(5*time.Minute + 31*time.Second),
		},
		"the template names another one": {
			cart: outside(
				intended(cart(), just).TemplateAnnotated(v1alpha1.RestartedByAnnotation, "deployment-cart-0123456789"), 3,
			), until: noon.Add(time.Minute),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := only(t, newScene(test.cart).decide())
			if got.Action != v1alpha1.ActionInFlight || got.Step != test.step || resultOf(got) != test.result {
				t.Errorf("%s with step %d and result %q: %s", got.Action, got.Step, resultOf(got), got.Message)
			}
			if !test.until.IsZero() && !got.Until.Equal(test.until) {
				t.Errorf("looked at again at %s, want %s", got.Until, test.until)
			}
		})
	}
}

// pending is a MeshRestart of the Deployment cart of which it is not known whether the API server has it.
func pending(changes ...tweak) *inventory.Restart {
	r := inventory.FromMeshRestart(restartOf(cart().Build(), changes...))
	r.UID, r.ResourceVersion = "", ""
	return r
}

// orphan is the MeshRestart of a workload that is not known.
func orphan(changes ...tweak) *v1alpha1.MeshRestart {
	return restartOf(deployment("shop", "gone").Build(), changes...)
}

// What has been begun counts until it is known to have ended, whatever became of its workload.
func TestWhatTheLedgerSaysHoldsItsPlace(t *testing.T) {
	stray := func() []any {
		return outside(restarted(intended(cart(), since(noon.Add(-time.Hour))), attempt(2)).With(goesOn), 3)
	}
	for name, test := range map[string]struct {
		objects []any
		places  int
		waits   bool
		// rechecked are those of which the API server is asked.
		rechecked int
	}{
		"one that is intended":                          {objects: outside(intended(cart()), 3), places: 1, waits: true},
		"one that the API server may not have":          {objects: append(outside(cart(), 3), pending()), places: 1, waits: true},
		"one of a workload that is not known":           {objects: []any{orphan()}, places: 1, waits: true, rechecked: 1},
		"one of a workload that is gone, and has ended": {objects: []any{orphan(ended(v1alpha1.ResultSucceeded))}, places: 1},
		"one of a workload that another has replaced": {
			objects:   outside(restarted(cart()).UID("another").Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled), 3),
			places:    1,
			waits:     true,
			rechecked: 1,
		},
		"two of one workload take two places":                    {objects: stray(), places: 2, waits: true, rechecked: 1},
		"two of one workload leave room for a third":             {objects: stray(), places: 3, rechecked: 1},
		"one that a policy has begun that is gone takes a place": {objects: outside(intended(cart(), under("gone")), 3), places: 1, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			plan := newScene(
				builder.Enforcing("mesh").Budget(perPolicy, test.places, nil), test.objects, outside(deployment("shop", "pay"), 3),
			).decide()
			if got := verdicts(plan)["Deployment shop/pay"]; (got.Reason == restart.ReasonBudgetExhausted) != test.waits {
				t.Errorf("the other Deployment: %s: %s", got.Reason, got.Message)
			}
			if got := len(plan.Namespaces[0].Recheck); got != test.rechecked {
				t.Errorf("%d are asked of the API server, want %d", got, test.rechecked)
			}
		})
	}
}

// Orphans count under the policy that began them where nobody governs their namespace, and without one they bring no
// namespace into the plan.
func TestOrphansCountWhereNobodyGoverns(t *testing.T) {
	bank := builder.Namespace("bank").Labelled("istio-injection", "enabled", "team", "bank").CreatedAt(yesterday).Build()
	s := newScene(
		builder.Enforcing("mesh").Budget(perPolicy, 1, nil).Over("team", "bank"), orphan(), bank, outside(deployment("bank", "pay"), 3),
	)
	plan := s.decide()
	if got := verdicts(plan)["Deployment bank/pay"]; got.Reason != restart.ReasonBudgetExhausted {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
	at := slices.IndexFunc(plan.Namespaces, func(n *restart.NamespacePlan) bool { return n.Name == "shop" })
	if at < 0 || len(plan.Namespaces[at].Recheck) != 1 {
		t.Errorf("the API server is not asked about it: %v", plan.Namespaces)
	}
	ended := newScene(builder.Enforcing("mesh").Over("team", "bank"), orphan(ended(v1alpha1.ResultSucceeded)), bank).decide()
	if len(ended.Namespaces) != 1 {
		t.Errorf("%d namespaces are decided on", len(ended.Namespaces))
	}
}

// The newest ten that have ended are kept, and whatever still decides something.
func TestSurplus(t *testing.T) {
	ago := func(n int) tweak { return endedAt(v1alpha1.ResultSucceeded, noon.Add(-time.Duration(n)*time.Minute)) }
	many := func(number int) []any {
		var objects []any
		for n := range number {
			objects = append(objects, restartOf(deployment("shop", fmt.Sprintf("gone%02d", n)).Build(), since(yesterday), ago(n)))
		}
		return objects
	}
	old := func(name string, changes ...tweak) *v1alpha1.MeshRestart {
		return restartOf(deployment("shop", name).Build(), append([]tweak{since(yesterday), ago(600)}, changes...)...)
	}
	oldAnd := func(result v1alpha1.RestartResult, changes ...tweak) []any {
		ending := []tweak{since(yesterday), endedAt(result, noon.Add(-10*time.Hour))}
		return runs(restarted(cart(), append(ending, changes...)...).Build(), injected)
	}
	cartFirst := restart.NameOf(cartKey, "deployment-shop-cart", 1)
	gone := func(name string) string {
		return restart.NameOf(
			mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: name}, types.UID("deployment-shop-"+name), 1,
		)
	}
	for name, test := range map[string]struct {
		objects []any
		want    []string
	}{
		"ten":                         {objects: many(10)},
		"twelve":                      {objects: many(12), want: []string{gone("gone10"), gone("gone11")}},
		"one that goes on":            {objects: append(many(10), old("old", func(r *inventory.Restart) { r.Result = "" }))},
		"one that succeeded":          {objects: append(many(10), oldAnd(v1alpha1.ResultSucceeded)...), want: []string{cartFirst}},
		"one that failed":             {objects: append(many(10), oldAnd(v1alpha1.ResultFailed)...)},
		"one that was without effect": {objects: append(many(10), oldAnd(v1alpha1.ResultIneffective)...)},
		"one that was taken back":     {objects: append(many(10), oldAnd(v1alpha1.ResultReverted)...)},
		"one that was interrupted":    {objects: append(many(10), oldAnd(v1alpha1.ResultInterrupted)...), want: []string{cartFirst}},
		"one that failed, of a workload that is gone": {
			objects: append(many(10), old("old", endedAt(v1alpha1.ResultFailed, yesterday))),
			want:    []string{gone("old")},
		},
		"one that failed before one that failed": {
			objects: append(many(10), runs(restarted(restarted(cart(), since(yesterday), endedAt(v1alpha1.ResultFailed, noon.Add(-11*time.Hour))),
				attempt(2), since(yesterday), endedAt(v1alpha1.ResultFailed, noon.Add(-10*time.Hour))).Build(), injected)...),
			want: []string{cartFirst},
		},
		"one that failed before one that was interrupted": {
			objects: append(many(10), runs(restarted(restarted(cart(), since(yesterday), endedAt(v1alpha1.ResultFailed, noon.Add(-11*time.Hour))),
				attempt(2), since(yesterday), endedAt(v1alpha1.ResultInterrupted, noon.Add(-10*time.Hour))).Build(), injected)...),
			want: []string{restart.NameOf(cartKey, "deployment-shop-cart", 2)},
		},
		"the newest probes that came through": {
			objects: append(
				many(10), old("probe", probe(1)), old("former", probe(1), ago(700)), old("own", ofNamespace(1)),
				old("others", probe(1), under("other")),
			),
			want: []string{gone("former")},
		},
		"a probe that failed": {
			objects: append(many(10), old("probe", probe(1), endedAt(v1alpha1.ResultFailed, yesterday))),
			want:    []string{gone("probe")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range newScene(test.objects).decide().Namespaces[0].Surplus {
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("surplus (-want +got):\n%s", diff)
			}
		})
	}
}
