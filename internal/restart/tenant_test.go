package restart_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// A namespace's admin may do everything in its own namespace but write MeshRestarts. These are attempts to use that
// against other namespaces: evil is the namespace that makes them, shop the one that must not notice.

type deploymentBuilder = builder.Workload[*appsv1.Deployment]

// evilWeb is the Deployment of the namespace that attacks.
func evilWeb() *deploymentBuilder { return deployment("evil", "web") }

// attack is the Deployment evil/web with its Pods while its restart is in flight, after its owner has changed it.
func attack(changes ...func(*deploymentBuilder)) []any {
	b := restarted(evilWeb(), takingAtOnce(1)).With(goesOn)
	for _, change := range changes {
		change(b)
	}
	return runs(b.Build(), readyInMeshAt(noon.Add(-time.Minute)), uninjected, uninjected)
}

// edited is a change of the spec.
func edited(change func(*appsv1.Deployment)) func(*deploymentBuilder) {
	return func(b *deploymentBuilder) { b.With(change).Changed() }
}

// writing has the template name a MeshRestart that its owner has written there.
func writing(name string) func(*deploymentBuilder) {
	return func(b *deploymentBuilder) { b.TemplateAnnotated(v1alpha1.RestartedByAnnotation, name).Changed() }
}

// labelled is a change of the template's labels.
func labelled(key, value string) func(*deploymentBuilder) {
	return func(b *deploymentBuilder) { b.Labelled(key, value).Changed() }
}

func scaledTo(replicas int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &replicas }
}

func surgingByAll(d *appsv1.Deployment) { surge(d, "100%") }

const everyRisk = "Downtime,StrictMTLS,OwnedByOperator,Unchecked"

func annotated(key, value string) func(*deploymentBuilder) {
	return func(b *deploymentBuilder) { b.Annotated(key, value) }
}

// pods are so many Pods of evil/web, each made as asked for.
func pods(n int, how func(*builder.PodBuilder)) []any {
	owner := builder.ReplicaSet("evil", "web-1").OwnedBy(evilWeb().Build()).Build()
	var all []any
	for i := range n {
		b := builder.Pod("evil", fmt.Sprintf("forged-%d", i)).OwnedBy(owner)
		how(b)
		all = append(all, b.Build())
	}
	return all
}

// covering is a PodDisruptionBudget of evil over everything that carries shop's labels, and over its own.
func covering() []any {
	var all []any
	for _, app := range []string{"web", "cart"} {
		all = append(all, builder.DisruptionBudget("evil", app).Covering("app", app).Healthy(1, 1, 1).Build())
	}
	return all
}

// attempts are what evil does while its restart is in flight.
func attempts() map[string][]any {
	cartReplicaSet := builder.ReplicaSet("shop", "cart-1").OwnedBy(cart().Build()).Build()
	secondReplicaSet := builder.ReplicaSet("evil", "cart-2").OwnedBy(cart().Build()).Build()
	ofShop := func(how func(*builder.PodBuilder)) []any {
		b := builder.Pod("evil", "cart-9").Labelled("app", "cart").OwnedBy(cartReplicaSet)
		how(b)
		return []any{b.Build()}
	}
	huge := int32(math.MaxInt32)
	innocent := restart.NameOf(cartKey, cart().Build().UID, 1)
	own := restart.NameOf(cartKey, evilWeb().Build().UID, 1)
	return map[string][]any{
		"the template names a MeshRestart that nobody made":         attack(writing("deployment-web-0123456789")),
		"the template names another workload's MeshRestart":         attack(writing(restart.NameOf(cartKey, "other", 1))),
		"the template names the innocent workload's MeshRestart":    attack(writing(innocent)),
		"the template names the MeshRestart of the next attempt":    attack(writing(restart.NameOf(cartKey, evilWeb().Build().UID, 2))),
		"the annotation is taken off the template":                  attack(writing("")),
		"the annotation is taken off and written again":             attack(writing(""), writing(own)),
		"the generation moves all the time":                         attack(edited(func(d *appsv1.Deployment) { d.Generation += 1000 })),
		"its strategy adds a thousand Pods at once":                 attack(edited(func(d *appsv1.Deployment) { surge(d, 1000) })),
		"its strategy takes down a thousand Pods at once":           attack(edited(takesDown(1000))),
		"it is scaled to the largest number":                        attack(edited(scaledTo(math.MaxInt32)), edited(surgingByAll)),
		"it is scaled to zero":                                      attack(edited(scaledTo(0))),
		"it is paused":                                              attack(edited(func(d *appsv1.Deployment) { d.Spec.Paused = true })),
		"its Pods count as available in 68 years":                   attack(edited(func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = huge })),
		"its Pods take 68 years to end":                             attack(func(b *deploymentBuilder) { b.Grace(int64(huge)).Changed() }),
		"its template asks for no sidecar any more":                 attack(labelled("sidecar.istio.io/inject", "false")),
		"it asks for another try":                                   attack(annotated(v1alpha1.RetryAnnotation, "now")),
		"it asks for another try in a million bytes":                attack(annotated(v1alpha1.RetryAnnotation, strings.Repeat("x", 1<<20))),
		"it asks not to be restarted":                               attack(annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled)),
		"it accepts every risk":                                     attack(annotated(v1alpha1.AcceptAnnotation, everyRisk)),
		"it says that it is the canary":                             attack(annotated(v1alpha1.CanaryAnnotation, "true")),
		"it is deleted and a finalizer keeps it":                    attack(func(b *deploymentBuilder) { b.With(terminating) }),
		"it is deleted":                                             {restartOf(evilWeb().Build())},
		"it is deleted and made again with its Pods":                append(outside(evilWeb().UID("again"), 3), restartOf(evilWeb().Build())),
		"it is deleted and made again each minute":                  againAndAgain(),
		"something else seems to control it":                        attack(func(b *deploymentBuilder) { b.OwnedBy(cart().Build()) }),
		"Pods without a sidecar look like its own":                  append(attack(), pods(50, uninjected)...),
		"Pods that came without a sidecar just now are like its":    append(attack(), pods(5, uninjectedAt(noon.Add(-time.Second)))...),
		"Pods with a sidecar look like its own":                     append(attack(), pods(50, injected)...),
		"Pods that crash look like its own":                         append(attack(), pods(50, broken)...),
		"a Pod outside names the innocent workload's ReplicaSet":    append(attack(), ofShop(uninjectedAt(noon.Add(-time.Second)))...),
		"a Pod that crashes names the innocent one's ReplicaSet":    append(attack(), ofShop(broken)...),
		"a Pod without a node names the innocent one's ReplicaSet":  append(attack(), ofShop(unschedulable("no room"))...),
		"a Pod in the mesh names the innocent one's ReplicaSet":     append(attack(), ofShop(injected)...),
		"a ReplicaSet names the innocent Deployment":                append(attack(), secondReplicaSet),
		"a PodDisruptionBudget covers the innocent workload's Pods": append(attack(), covering()...),
		"there is an istiod that is being rolled out":               append(attack(), fakeIstiod()),
		"there is a PeerAuthentication for everything":              append(attack(), builder.PeerAuthentication("evil", "default", "STRICT")),
		"there are a hundred more workloads that ask for sidecars":  append(attack(), manyOutside(100)...),
	}
}

// surge sets how many Pods a rolling update adds at once.
func surge(d *appsv1.Deployment, most any) {
	b := builder.Deployment("evil", "x").Surge(most).Build()
	d.Spec.Strategy.RollingUpdate.MaxSurge = b.Spec.Strategy.RollingUpdate.MaxSurge
}

// againAndAgain are the MeshRestarts of workloads of one name that were deleted one after the other, and what is there
// now.
func againAndAgain() []any {
	all := outside(evilWeb().UID("now"), 3)
	return append(all, restartOf(evilWeb().UID("then").Build()))
}

// fakeIstiod says that it runs the injector, in a namespace of its own, and never comes up.
func fakeIstiod() *appsv1.Deployment {
	return builder.Deployment("evil", "istiod").Replicas(2).CreatedAt(yesterday).
		Labelled("app", "istiod", "istio.io/rev", "default", "sidecar.istio.io/inject", "false").Build()
}

func manyOutside(n int) []any {
	var all []any
	for i := range n {
		all = append(all, outside(deployment("evil", fmt.Sprintf("w-%d", i)), 3)...)
	}
	return all
}

// decided is what is decided about a workload, as far as it must not depend on what other namespaces do.
func decided(verdict restart.Verdict) string {
	text := fmt.Sprintf("%s %s, step %d, cleared by %q, until %s", verdict.Action, verdict.Reason, verdict.Step, verdict.ClearsBy,
		verdict.Until)
	if verdict.Step == restart.StepRestart {
		text += ", as " + verdict.Restart.Name
	}
	return text
}

// breakerOf is the breaker of the only policy, in short.
func breakerOf(plan *restart.Plan) string {
	for _, policy := range plan.Policies {
		if breaker := policy.Breaker; breaker != nil {
			return fmt.Sprintf("%s until %s", breaker.State, breaker.RetryTime)
		}
	}
	return "closed"
}

// surroundings are what evil and shop live in.
func surroundings() map[string][]any {
	others := inNamespaces("a", "b", "c", "evil")
	failed := slices.Concat(failedAgo("a", "x", 40*time.Minute), failedAgo("b", "x", 30*time.Minute), failedAgo("c", "x", 20*time.Minute))
	limited := func(workloads, pods any) *builder.PolicyBuilder {
		return builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, workloads, pods)
	}
	return map[string][]any{
		"where the budget has one more place":       append(slices.Clone(others), limited(2, 2)),
		"where another one has the only place":      slices.Concat(others, []any{limited(1, nil)}, tried("b", "x", "", time.Minute)),
		"where others have opened the breaker":      slices.Concat(others, failed),
		"where a failure more opens the breaker":    slices.Concat(others, failedAgo("a", "x", time.Minute), failedAgo("b", "x", time.Minute)),
		"where nothing is open and nothing limited": others,
	}
}

func TestATenantChangesNothingForOthers(t *testing.T) {
	for where, objects := range surroundings() {
		for name, attempt := range attempts() {
			t.Run(name+", "+where, func(t *testing.T) {
				want := newScene(objects, outside(cart(), 3), attack()).checkedSince().decide()
				got := newScene(objects, outside(cart(), 3), attempt).checkedSince().decide()
				before, after := verdicts(want)["Deployment shop/cart"], verdicts(got)["Deployment shop/cart"]
				if decided(before) != decided(after) {
					t.Errorf("%s: %s\nand without the attempt %s", decided(after), after.Message, decided(before))
				}
				if breakerOf(got) != breakerOf(want) {
					t.Errorf("the policy's breaker is %s, and without the attempt %s", breakerOf(got), breakerOf(want))
				}
				verdict, uid := verdicts(got)["Deployment evil/web"], evilWeb().Build().UID
				if verdict.Step == restart.StepRestart && verdict.Workload.Object.UID == uid {
					t.Errorf("it is restarted again: %s", verdict.Message)
				}
			})
		}
	}
}

// alone are shop and evil under a policy that restarts one workload at a time. shop was served a while ago.
func alone(objects ...any) *scene {
	done := tried("shop", "done", v1alpha1.ResultSucceeded, time.Hour)
	return newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil), meshed("evil"), done, outside(cart(), 3), objects)
}

// checkedAt answers every dry run at a time.
func (s *scene) checkedAt(at time.Time) *scene {
	return s.answer(restart.Check{Observed: sidecar("default"), At: at, Received: at})
}

// MeshRestarts go with their workloads, so the ledger alone says that evil was never served.
func TestATenantThatDeletesWhatWasRestartedIsNotServedFirstEachTime(t *testing.T) {
	for name, test := range map[string]struct {
		served map[string]time.Time
		want   []string
	}{
		"it was never served":         {want: []string{"evil/web"}},
		"it was served longer ago":    {served: map[string]time.Time{"evil": noon.Add(-2 * time.Hour)}, want: []string{"evil/web"}},
		"it was served a moment ago":  {served: map[string]time.Time{"evil": noon.Add(-time.Second)}, want: []string{"shop/cart"}},
		"the other one was as well":   {served: map[string]time.Time{"evil": noon.Add(-2), "shop": noon.Add(-1)}, want: []string{"evil/web"}},
		"the ledger knows more of it": {served: map[string]time.Time{"shop": noon.Add(-48 * time.Hour)}, want: []string{"evil/web"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := alone(outside(evilWeb(), 3)).when(func(in *restart.Input) { in.Memory.Served = test.served })
			if got := started(s.decide()); !slices.Equal(got, test.want) {
				t.Errorf("started are %v, want %v", got, test.want)
			}
		})
	}
}

// A workload that is checked again and again would have the only place and never be restarted.
func TestATenantWhosePodsGoOnComingUpUninjectedTakesNoPlace(t *testing.T) {
	s := alone(runs(evilWeb().Build(), uninjectedAt(noon.Add(-time.Second)), uninjected, uninjected)).checkedAt(noon.Add(-time.Minute))
	given := verdicts(s.decide())
	if got := given["Deployment evil/web"]; got.Reason != restart.ReasonSettling {
		t.Errorf("evil/web: %s", decided(got))
	}
	if got := given["Deployment shop/cart"]; got.Step != restart.StepRestart {
		t.Errorf("shop/cart: %s: %s", decided(got), got.Message)
	}
}

// Neither what its owner adds nor Pods that become ready over and over keep a restart in flight, or a place for one
// that has failed: that would last as long as there are Pods.
func TestATenantThatAddsPodsKeepsItsPlaceNoLonger(t *testing.T) {
	web := func(ending ...tweak) []any {
		b := restarted(evilWeb(), append([]tweak{since(noon.Add(-5 * time.Hour)), takingAtOnce(1)}, ending...)...).Replicas(300).With(goesOn)
		many := slices.Repeat([]func(*builder.PodBuilder){readyInMeshAt(noon.Add(-time.Hour))}, 298)
		return runs(b.Build(), append(many, readyInMeshAt(noon.Add(-time.Minute)), uninjected)...)
	}
	t.Run("in flight", func(t *testing.T) {
		if got := verdicts(alone(web()).decide())["Deployment evil/web"]; resultOf(got) != v1alpha1.ResultFailed {
			t.Errorf("%s: %s", decided(got), got.Message)
		}
	})
	t.Run("failed", func(t *testing.T) {
		plan := alone(web(endedAt(v1alpha1.ResultFailed, noon.Add(-4*time.Hour)))).decide()
		if got := verdicts(plan)["Deployment shop/cart"]; got.Step != restart.StepRestart {
			t.Errorf("%s: %s", decided(got), got.Message)
		}
	})
}

// What waits until a Pod counts as available does so for an hour at most, whatever the template says.
func TestATenantWhosePodsAreNeverAvailableDoesNotKeepItsPlace(t *testing.T) {
	db := builder.StatefulSet("evil", "db").Replicas(3).CreatedAt(yesterday).RolledOut().OnDelete()
	db.With(func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = math.MaxInt32 })
	for ready, step := range map[time.Duration]restart.Step{59 * time.Minute: restart.StepNone, 61 * time.Minute: restart.StepEvict} {
		going := restarted(db, byEviction, since(noon.Add(-2*time.Hour)))
		s := newScene(meshed("evil"), runs(going.Build(), injectedAndReadyAt(noon.Add(-ready)), uninjected, uninjected))
		if got := only(t, s.decide()); got.Step != step || resultOf(got) != "" {
			t.Errorf("%s after its last Pod became ready: %s: %s", ready, decided(got), got.Message)
		}
	}
}

func injectedAndReadyAt(at time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(at.Add(-time.Second)).Injected("default").Ready(at) }
}

// Others have opened the breaker, and a probe is due. The workload of evil would be the best: nothing in its namespace
// has failed any more, and it is the smallest.
func TestATenantThatTakesBackItsFailureIsNotTheNextProbe(t *testing.T) {
	small := func(changes ...tweak) []any {
		b := deployment("evil", "web").Replicas(2).RolledOut()
		if len(changes) > 0 {
			b = restarted(b, changes...).Annotated(v1alpha1.RetryAnnotation, "now")
		}
		return outside(b, 2)
	}
	probed := []tweak{since(noon.Add(-30 * time.Minute)), endedAt(v1alpha1.ResultFailed, noon.Add(-19*time.Minute)), probe(1)}
	for name, test := range map[string]struct {
		evil   []any
		served map[string]time.Time
		want   []string
	}{
		"it was not tried":                      {evil: small(), want: []string{"evil/web"}},
		"it was tried and asks for another try": {evil: small(probed...), want: []string{"shop/cart"}},
		"it was tried, deleted and made once more": {
			evil: small(), served: map[string]time.Time{"evil": noon.Add(-30 * time.Minute)}, want: []string{"shop/cart"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(inNamespaces("a", "b", "c", "evil"), failedAgo("a", "x", 70*time.Minute), failedAgo("b", "x", 65*time.Minute),
				failedAgo("c", "x", 61*time.Minute), outside(cart(), 3), test.evil).
				when(func(in *restart.Input) { in.Memory.Served = test.served })
			if got := started(s.decide()); !slices.Equal(got, test.want) {
				t.Errorf("started are %v, want %v", got, test.want)
			}
		})
	}
}

// Whatever fails in one namespace, at most two failures count for its policy: they are not enough for its breaker.
func TestATenantDoesNotOpenThePolicysBreakerAlone(t *testing.T) {
	var failed []any
	for n := range 6 {
		failed = append(failed, failedAgo("evil", fmt.Sprintf("w-%d", n), time.Duration(n+1)*time.Minute)...)
	}
	plan := newScene(meshed("evil"), failed, outside(cart(), 3)).decide()
	if got := verdicts(plan)["Deployment shop/cart"]; got.Step != restart.StepRestart || breakerOf(plan) != "closed" {
		t.Errorf("%s, the breaker is %s", decided(got), breakerOf(plan))
	}
}

// What others have failed with keeps the breaker open, whatever becomes of evil's own failure.
func TestATenantDoesNotCloseThePolicysBreaker(t *testing.T) {
	failed := func() *deploymentBuilder {
		return restarted(evilWeb(), since(noon.Add(-3*time.Hour)), endedAt(v1alpha1.ResultFailed, noon.Add(-2*time.Hour)))
	}
	own := func(changes ...func(*deploymentBuilder)) []any {
		b := failed()
		for _, change := range changes {
			change(b)
		}
		return outside(b, 3)
	}
	for name, evil := range map[string][]any{
		"it asks for another try":             own(annotated(v1alpha1.RetryAnnotation, "now")),
		"its template is changed":             own(labelled("a", "b")),
		"it is deleted":                       {},
		"its Pods are in the mesh after all":  runs(failed().Build(), injected, injected, injected),
		"another restart of it has succeeded": append(own(), tried("evil", "other", v1alpha1.ResultSucceeded, time.Minute)...),
	} {
		t.Run(name, func(t *testing.T) {
			plan := newScene(surroundings()["where others have opened the breaker"], evil, outside(cart(), 3)).decide()
			if got := verdicts(plan)["Deployment shop/cart"]; got.Reason != restart.ReasonBreakerOpen {
				t.Errorf("%s: %s", decided(got), got.Message)
			}
		})
	}
}

// A restart that has ended is not made again for the same cause, whatever its owner writes.
func TestATenantHasNothingRestartedTwice(t *testing.T) {
	results := []v1alpha1.RestartResult{
		v1alpha1.ResultSucceeded, v1alpha1.ResultFailed, v1alpha1.ResultIneffective, v1alpha1.ResultReverted,
	}
	for _, result := range results {
		for name, change := range map[string]func(*deploymentBuilder){
			"the annotation is taken off":        writing(""),
			"the template names another one":     writing("deployment-web-0123456789"),
			"the template names the next one":    writing(restart.NameOf(cartKey, evilWeb().Build().UID, 2)),
			"the generation moves":               edited(func(d *appsv1.Deployment) { d.Generation += 1000 }),
			"it is scaled":                       edited(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(5)) }),
			"its strategy is changed":            edited(func(d *appsv1.Deployment) { surge(d, 3) }),
			"its Pods may take longer":           edited(func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 3000 }),
			"the request stays that was served":  annotated(v1alpha1.RetryAnnotation, "served"),
			"the request is written with spaces": annotated(v1alpha1.RetryAnnotation, "  served "),
			"the request is taken away":          annotated(v1alpha1.RetryAnnotation, ""),
			"it says that it is the canary":      annotated(v1alpha1.CanaryAnnotation, "true"),
			"it accepts every risk":              annotated(v1alpha1.AcceptAnnotation, everyRisk),
			"nothing":                            func(*deploymentBuilder) {},
		} {
			t.Run(fmt.Sprintf("%s: %s", result, name), func(t *testing.T) {
				b := restarted(evilWeb(), since(noon.Add(-2*time.Hour)), endedAt(result, noon.Add(-time.Hour)), func(r *inventory.Restart) {
					r.Requests.Workload = "served"
				})
				change(b)
				plan := newScene(meshed("evil"), outside(b.RolledOut(), 3)).when(func(in *restart.Input) { in.EvictionDisabled = true }).decide()
				if got := verdicts(plan)["Deployment evil/web"]; got.Action == v1alpha1.ActionRestart {
					t.Errorf("%s: %s", decided(got), got.Message)
				}
			})
		}
	}
}
