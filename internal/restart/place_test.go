package restart_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// failedAt is the Deployment cart after a restart that failed. Three of its Pods were ready before.
func failedAt(end time.Time, changes ...func(*appsv1.Deployment)) *builder.Workload[*appsv1.Deployment] {
	record := inventory.NewRecord(older(cartCause()), "RolloutRestart", decidedNow(), end.Add(-time.Hour))
	record.Replicas, record.Ready = 3, 3
	b := cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).
		Annotated(v1alpha1.LastRestartAnnotation, record.Ended(v1alpha1.ResultFailed, "It has failed.", end).String())
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
		"its rollout goes on":                           {outside(failedAt(noon.Add(-minute), goesOn), 3), restart.ReasonBudgetUsedUp, 9*minute + 30*time.Second},
		"its rollout has gone nowhere for long":         {outside(failedAt(noon.Add(-11*minute), goesOn), 3), restart.ReasonRestartDue, 0},
		"its rollout went on a moment ago":              {runs(failedAt(noon.Add(-11*minute), goesOn).Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-minute))), restart.ReasonBudgetUsedUp, 9*minute + 30*time.Second},
		"its controller may take down another Pod":      {outside(failedAt(noon.Add(-time.Hour), goesOn, takesDown(1)), 3), restart.ReasonRestartDue, 0},
		"it ends by a clock that is ahead":              {outside(failedAt(noon.Add(10*minute)), 2), restart.ReasonBudgetUsedUp, 20*minute + 30*time.Second},
		"it ends in the future":                         {outside(failedAt(noon.Add(10*minute+time.Second)), 2), restart.ReasonRestartDue, 0},
		"a Pod of it becomes ready over and over":       {runs(failedAt(noon.Add(-time.Hour), goesOn).Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-minute))), restart.ReasonRestartDue, 0},
		"its controller has taken down all it may":      {outside(failedAt(noon.Add(-time.Hour), goesOn, takesDown(1)), 2), restart.ReasonRestartDue, 0},
		"its controller is paused":                      {outside(failedAt(noon.Add(-time.Hour), goesOn, takesDown(1), func(d *appsv1.Deployment) { d.Spec.Paused = true }), 3), restart.ReasonRestartDue, 0},
		"fewer Pods are ready than before":              {outside(failedAt(noon.Add(-minute)), 2), restart.ReasonBudgetUsedUp, 9*minute + 30*time.Second},
		"fewer Pods are ready than before, for long":    {outside(failedAt(noon.Add(-11*minute)), 2), restart.ReasonRestartDue, 0},
		"as many Pods are ready as before":              {runs(failedAt(noon.Add(-minute)).Build(), uninjected, uninjected, uninjected, crashing), restart.ReasonRestartDue, 0},
		"as many Pods are ready as are still asked for": {outside(failedAt(noon.Add(-minute)).Replicas(2).RolledOut(), 2), restart.ReasonRestartDue, 0},
	} {
		t.Run(name, func(t *testing.T) {
			policy := builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil)
			plan := newScene(policy, test.cart, outside(deployment("shop", "pay"), 3)).decide()
			if got := verdicts(plan)["Deployment shop/pay"]; got.Reason != test.want {
				t.Errorf("the other Deployment: %s %s: %s", got.Action, got.Reason, got.Message)
			}
			if test.until != 0 && !plan.NextLook.Equal(noon.Add(test.until)) {
				t.Errorf("looked at again at %s", plan.NextLook)
			}
		})
	}
}

// A record that a newer version wrote holds a place while it looks as if its restart went on, for as long as
// that may take. What anybody else wrote holds none.
func TestRecordsThatCannotBeReadHoldNoPlaceForLong(t *testing.T) {
	const minute, patience = time.Minute, 10*time.Minute + 30*time.Second
	written := func(record string, changes ...func(*appsv1.Deployment)) []any {
		b := cart().Annotated(v1alpha1.LastRestartAnnotation, record)
		for _, change := range append(changes, goesOn) {
			b.With(change)
		}
		return outside(b, 3)
	}
	begun := func(ago time.Duration) string {
		return fmt.Sprintf(`{"version":2,"start":%q}`, noon.Add(-ago).Format(time.RFC3339))
	}
	changed := func(ago time.Duration) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.CreationTimestamp = metav1.NewTime(noon.Add(-ago))
		}
	}
	whole := func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 3 }
	for name, test := range map[string]struct {
		cart []any
		want restart.Reason
		// until is when the place is free by itself.
		until time.Duration
	}{
		"one of a newer version":                              {written(begun(minute)), restart.ReasonBudgetUsedUp, patience - minute},
		"one of a newer version that began long ago":          {written(begun(patience)), restart.ReasonRestartDue, 0},
		"one of a newer version by a clock that is ahead":     {written(begun(-9 * minute)), restart.ReasonBudgetUsedUp, patience + 9*minute},
		"one of a newer version that begins in the future":    {written(begun(-11 * minute)), restart.ReasonRestartDue, 0},
		"one that does not tell when, of a template just now": {written(`{"version":2}`, changed(minute)), restart.ReasonBudgetUsedUp, patience - minute},
		"one that does not tell when":                         {written(`{"version":2}`), restart.ReasonRestartDue, 0},
		"each Pod that came in may take as long": {
			runs(cart().Annotated(v1alpha1.LastRestartAnnotation, begun(patience)).With(goesOn).Build(), uninjected, uninjected, injected), restart.ReasonBudgetUsedUp, patience},
		"fewer Pods are ready than are asked for": {
			runs(cart().Annotated(v1alpha1.LastRestartAnnotation, begun(minute)).Build(), uninjected, uninjected, broken), restart.ReasonBudgetUsedUp, patience - minute},
		"one of a newer version whose Pods are all there": {outside(cart().Annotated(v1alpha1.LastRestartAnnotation, begun(minute)).With(whole), 3), restart.ReasonRestartDue, 0},
		"one that is none":                          {written("yes", changed(minute)), restart.ReasonRestartDue, 0},
		"one of no version":                         {written("{}", changed(minute)), restart.ReasonRestartDue, 0},
		"one of this version that it did not write": {written(`{"version":1,"cause":"x"}`, changed(minute)), restart.ReasonRestartDue, 0},
	} {
		t.Run(name, func(t *testing.T) {
			policy := builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil)
			plan := newScene(policy, test.cart, outside(deployment("shop", "pay"), 3)).decide()
			if got := verdicts(plan)["Deployment shop/pay"]; got.Reason != test.want {
				t.Errorf("the other Deployment: %s %s: %s", got.Action, got.Reason, got.Message)
			}
			if test.until != 0 && !plan.NextLook.Equal(noon.Add(test.until)) {
				t.Errorf("looked at again in %s", plan.NextLook.Sub(noon))
			}
		})
	}
}

// begunAt is the Deployment cart in the middle of a restart of which so many Pods were ready.
func begunAt(start time.Time, replicas, ready int) *builder.Workload[*appsv1.Deployment] {
	record := inventory.NewRecord(cartCause(), "RolloutRestart", decidedNow(), start)
	record.Replicas, record.Ready = replicas, ready
	return restarting().Annotated(v1alpha1.LastRestartAnnotation, record.String())
}

// The owner may write any number of Pods into a record; only whoever began the restart knows how many there were.
func TestHowManyPodsThereWereIsKnownToWhoeverBeganTheRestart(t *testing.T) {
	start := noon.Add(-105 * time.Minute)
	for name, test := range map[string]struct {
		started restart.Start
		want    v1alpha1.RestartResult
	}{
		"this process, of so many":  {restart.Start{Cause: cartCause().String(), At: start, Replicas: 12}, ""},
		"this process, of fewer":    {restart.Start{Cause: cartCause().String(), At: start, Replicas: 3}, v1alpha1.ResultFailed},
		"somebody else, as is said": {restart.Start{}, v1alpha1.ResultFailed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(runs(begunAt(start, 12, 12).Build(), readyInMeshAt(noon.Add(-time.Minute)), uninjected, uninjected)).when(tookOver(noon.Add(-2 * time.Hour)))
			s.Started = func(types.UID) restart.Start { return test.started }
			if got := only(t, s.decide()); got.Record.Result != test.want {
				t.Errorf("the result is %q, want %q: %s", got.Record.Result, test.want, got.Message)
			}
		})
	}
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
			runs(begunAt(noon.Add(-2*patience-time.Second), 3, 3).Build(), justReady, uninjected, uninjected), v1alpha1.ResultFailed, "become ready and unready again"},
		"each further Pod may take as long": {
			runs(begunAt(noon.Add(-3*patience), 3, 3).Build(), justReady, readyInMeshAt(noon.Add(-patience)), uninjected), "", ""},
		"Pods that were scaled away had their time": {
			runs(begunAt(noon.Add(-10*patience), 12, 12).Build(), justReady, uninjected, uninjected), "", ""},
		"no more Pods are ready than before, and all are in the mesh": {
			runs(begunAt(noon.Add(-time.Hour), 3, 2).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), crashing),
			v1alpha1.ResultSucceeded, "2 of 3 Pods are ready, no fewer than before the restart."},
		"fewer Pods are ready than before": {
			runs(begunAt(noon.Add(-time.Hour), 3, 3).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), crashing), v1alpha1.ResultFailed, "CrashLoopBackOff"},
		"none was ready before and none is": {
			runs(begunAt(noon.Add(-time.Hour), 3, 0).Build(), crashing, crashing, crashing), v1alpha1.ResultFailed, "CrashLoopBackOff"},
		"as many are ready as before, and one is outside": {
			runs(begunAt(noon.Add(-time.Hour), 3, 2).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), uninjected), v1alpha1.ResultFailed, "2 of 3"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, newScene(test.objects).decide())
			if verdict.Action != v1alpha1.ActionInFlight || verdict.Record.Result != test.result || !strings.Contains(verdict.Record.Message, test.message) {
				t.Errorf("%s %s with result %q: %s %s", verdict.Action, verdict.Reason, verdict.Record.Result, verdict.Message, verdict.Record.Message)
			}
		})
	}
}

// The progress of a restart that takes sidecars away is Pods without them.
func TestTakingSidecarsAwayMakesProgressToo(t *testing.T) {
	cause := cartCause()
	cause.Finding = v1alpha1.FindingLeftover
	record := inventory.NewRecord(cause, "RolloutRestart", decidedNow(), noon.Add(-15*time.Minute))
	leftover := restartedFor(v1alpha1.FindingLeftover).Annotated(v1alpha1.LastRestartAnnotation, record.String()).With(goesOn).With(func(d *appsv1.Deployment) { d.Generation, d.Status.ObservedGeneration = 2, 2 })
	ask := builder.Namespace("shop").CreatedAt(yesterday).Build()
	verdict := only(t, newScene(ask, runs(leftover.Build(), readyInMeshAt(yesterday), readyInMeshAt(yesterday), uninjectedAt(noon.Add(-time.Minute)))).decide())
	if verdict.Action != v1alpha1.ActionInFlight || verdict.Record.Result != "" || !strings.Contains(verdict.Message, "1 of 3 Pods have lost their sidecar") {
		t.Errorf("%s %s with result %q: %s %s", verdict.Action, verdict.Reason, verdict.Record.Result, verdict.Message, verdict.Record.Message)
	}
}

// failedAndAskedFor is the Deployment cart, whose restart has failed, keeps its place, and is asked for again.
func failedAndAskedFor() (record inventory.Record, workload *builder.Workload[*appsv1.Deployment]) {
	record = inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-20*time.Minute))
	record.Replicas, record.Ready = 3, 3
	record = record.Ended(v1alpha1.ResultFailed, "It has failed.", noon.Add(-time.Minute))
	return record, cart().Labelled("tier", "front").TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).
		Annotated(v1alpha1.LastRestartAnnotation, record.String(), v1alpha1.RetryAnnotation, "now").With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })
}

// What is to be tried again and has to wait keeps its place while it does.
func TestAFailedRestartKeepsItsPlaceWhileItWaits(t *testing.T) {
	_, again := failedAndAskedFor()
	going := tried("shop", "fly", "", time.Minute)
	going[0].(*appsv1.Deployment).Spec.Template.Labels["tier"] = "front"
	given := verdicts(newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil),
		builder.DisruptionBudget("shop", "front").Covering("tier", "front").Healthy(6, 5, 6).Build(),
		runs(again.Build(), uninjected, uninjected, crashing), going, outside(deployment("shop", "pay"), 3)).decide())
	if got := given["Deployment shop/cart"]; got.Reason != restart.ReasonSharesDisruptionBudget {
		t.Errorf("what is to be tried again: %s: %s", got.Reason, got.Message)
	}
	if got := given["Deployment shop/pay"]; got.Reason != restart.ReasonBudgetUsedUp {
		t.Errorf("another one: %s: %s", got.Reason, got.Message)
	}
}

// What is tried again under another policy counts against the budgets of that one from then on.
func TestAnotherTryCountsUnderThePolicyThatMakesIt(t *testing.T) {
	record, again := failedAndAskedFor()
	s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil).Over("team", "till"),
		runs(again.Build(), uninjected, uninjected, crashing),
		builder.Namespace("till").Labelled("istio-injection", "enabled", "team", "till").CreatedAt(yesterday).Build(),
		tried("till", "fly", "", time.Minute), outside(deployment("till", "pay"), 3))
	s.policies = append(s.policies, builder.Enforcing("other").Build())
	s.Started = startOf(cartCause().UID, restart.Start{Cause: record.Cause, At: record.Start, Policy: "mesh", Ended: true})
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
