package restart_test

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

var cartKey = mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "cart"}

// answersOf are what the checks of a trace answered, by phase and check.
func answersOf(trace *restart.Trace) map[string]restart.Answer {
	answers := map[string]restart.Answer{}
	for _, phase := range trace.Phases {
		for _, check := range phase.Checks {
			answers[phase.Phase+" "+check.Check] = check.Answer
		}
	}
	return answers
}

func TestTrace(t *testing.T) {
	const last = "pacing LeavesNoRoom"
	for name, test := range map[string]struct {
		scene *scene
		// key of the workload; of cart when unset.
		key mesh.Key
		// passed is the last check that was asked and passed it; holds is the one that holds it.
		passed, holds string
		action        v1alpha1.Action
	}{
		"nothing speaks against a restart": {
			scene: newScene(outside(cart(), 3)), passed: last, action: v1alpha1.ActionRestart,
		},
		"the owner has paused it": {
			scene:  newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Spec.Paused = true }), 3)),
			passed: "eligibility IsScaledToZero", holds: "eligibility IsPaused", action: v1alpha1.ActionHold,
		},
		"the policy only reports": {
			scene:  newScene(outside(cart(), 3), builder.Reporting("mesh")),
			passed: "gate PolicyIsInvalid", holds: "gate ModeIsReport", action: v1alpha1.ActionHold,
		},
		"the budget is used by the other": {
			scene: newScene(
				outside(cart(), 3), outside(deployment("shop", "a"), 3), builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil),
			),
			passed: "pacing CanaryIsInProgress", holds: last, action: v1alpha1.ActionHold,
		},
		"no policy governs its namespace": {
			scene: newScene(outside(cart(), 3), builder.Enforcing("mesh").Over("team", "another")),
		},
		"a workload of which only its Pod is known": {
			scene: newScene(
				builder.Pod("shop", "debug").CreatedAt(yesterday).Ready(yesterday).Build(),
			), key: mesh.Key{Kind: "Pod", Namespace: "shop", Name: "debug"},
			passed: "eligibility IsAJob", holds: "eligibility HasNoController", action: v1alpha1.ActionHold,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, key := test.scene.input(), cmp.Or(test.key, cartKey)
			trace, found := restart.Explain(in, key)
			if !found {
				t.Fatal("it was not found")
			}
			want := map[string]restart.Answer{}
			passed := test.passed != ""
			for _, phase := range restart.Phases() {
				for _, check := range phase.Checks {
					name := phase.Name + " " + check
					switch {
					case name == test.holds:
						want[name] = restart.AnswerHolds
					case passed:
						want[name] = restart.AnswerPassed
					default:
						want[name] = restart.AnswerNotReached
					}
					passed = passed && name != test.passed
				}
			}
			if diff := gocmp.Diff(want, answersOf(trace)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if trace.Verdict.Action != test.action {
				t.Errorf("the verdict is %q, want %q", trace.Verdict.Action, test.action)
			}
			if verdict, open := verdicts(restart.Decide(in))[key.String()]; open && verdict.Message != trace.Verdict.Message {
				t.Errorf("Decide says %q, and the trace %q", verdict.Message, trace.Verdict.Message)
			}
		})
	}
}

// A phase answers what the first of its checks does that holds; one that only waits yields to the gate, and both are
// shown.
func TestTraceSumsUpPhases(t *testing.T) {
	waits := cart().With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })
	trace, _ := restart.Explain(newScene(outside(waits, 3), builder.Reporting("mesh")).input(), cartKey)
	var got []string
	for _, phase := range trace.Phases {
		got = append(got, phase.Phase+" "+string(phase.Answer))
	}
	want := []string{
		"eligibility Passed", "history Passed", "safety Holds", "gate Holds", "readiness NotReached", "evidence NotReached", "pacing NotReached",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
}

// Of a workload that is not decided on like others, the chain is shown that is asked of it.
func TestTraceOfOtherMoments(t *testing.T) {
	dbKey := mesh.Key{Group: "apps", Kind: "StatefulSet", Namespace: "shop", Name: "db"}
	for name, test := range map[string]struct {
		scene  *scene
		key    mesh.Key
		want   []string
		action v1alpha1.Action
	}{
		"everything is in the mesh": {
			scene: newScene(runs(cart().Build(), injected, injected, injected)), key: cartKey,
			want: []string{"when complete NotReached"}, action: v1alpha1.ActionNone,
		},
		"everything is in the mesh, and not ready since its restart": {
			scene: newScene(runs(rolledOut(ended(v1alpha1.ResultFailed)).Build(), crashing, crashing, crashing)), key: cartKey,
			want: []string{"when complete Holds"}, action: v1alpha1.ActionHold,
		},
		"its restart is in progress": {
			scene: newScene(runs(restarting().Build(), readyInMeshAt(noon), uninjected, uninjected)), key: cartKey,
			action: v1alpha1.ActionInFlight,
		},
		"its Pods are being evicted": {
			scene: newScene(outside(evicting(db().OnDelete()), 3)), key: dbKey,
			want: []string{"to keep evicting Passed", "to start a round of evictions Passed"}, action: v1alpha1.ActionInFlight,
		},
		"its evictions are held": {
			scene: newScene(outside(evicting(db().OnDelete()), 3)).when(func(in *restart.Input) { in.Stopped = true }), key: dbKey,
			want: []string{"to keep evicting Holds", "to start a round of evictions NotReached"}, action: v1alpha1.ActionInFlight,
		},
	} {
		t.Run(name, func(t *testing.T) {
			trace, _ := restart.Explain(test.scene.input(), test.key)
			var got []string
			for _, phase := range trace.Phases {
				got = append(got, phase.Phase+" "+string(phase.Answer))
			}
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
			if trace.Verdict.Action != test.action {
				t.Errorf("the verdict is %q, want %q", trace.Verdict.Action, test.action)
			}
		})
	}
}

func TestTraceDoesNotClaimADryRun(t *testing.T) {
	trace, _ := restart.Explain(newScene(outside(cart(), 3)).assuming().input(), cartKey)
	if got := answersOf(trace)["evidence DryRunSaysNo"]; got != restart.AnswerAssumed {
		t.Errorf("the dry run is said to have %s", got)
	}
}

func TestTraceOfNothing(t *testing.T) {
	if _, found := restart.Explain(newScene().input(), cartKey); found {
		t.Error("a workload was found that is not there")
	}
}

// Whoever restarts by hand what Fullmesh leaves alone is told of nothing that would do harm.
func TestTraceNamesRisksThatWereNotComeTo(t *testing.T) {
	alone := func(b *builder.Workload[*appsv1.Deployment]) *builder.Workload[*appsv1.Deployment] {
		return b.Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled)
	}
	halfUpdated := func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }
	for name, test := range map[string]struct {
		scene *scene
		want  []restart.Reason
		// key of the workload; of cart when unset.
		key mesh.Key
	}{
		"the downtime": {
			scene: newScene(outside(alone(cart().Recreate()), 3)), want: []restart.Reason{restart.ReasonWouldCauseDowntime},
		},
		"its operator": {
			scene: newScene(outside(alone(cart().Recreate()).OwnedBy(db().Build()), 3)), want: []restart.Reason{restart.ReasonOwnedByOperator},
		},
		"Pods that crash already": {
			scene: newScene(runs(alone(cart()).Build(), uninjected, uninjected, crashing)), want: []restart.Reason{restart.ReasonInjectedPodsFailing},
		},
		"an update that is pending": {
			scene: newScene(outside(db().OnDelete().With(halfUpdated), 3), builder.Reporting("mesh")),
			want:  []restart.Reason{restart.ReasonUpdatePending}, key: mesh.Key{Group: "apps", Kind: "StatefulSet", Namespace: "shop", Name: "db"},
		},
		"callers that it would refuse": {
			scene: newScene(strictIn("shop"), outside(alone(cart()), 3), outside(deployment("shop", "web"), 3)),
			want:  []restart.Reason{restart.ReasonStrictMTLS},
		},
		"none":                     {scene: newScene(outside(alone(cart()), 3))},
		"none of them, ungoverned": {scene: newScene(outside(cart().Recreate(), 3), builder.Enforcing("mesh").Over("team", "another"))},
		"a budget that allows none": {
			scene: newScene(
				builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3), builder.Reporting("mesh"),
			),
			want: []restart.Reason{restart.ReasonExceedsDisruptionBudget},
		},
	} {
		t.Run(name, func(t *testing.T) {
			trace, found := restart.Explain(test.scene.input(), cmp.Or(test.key, cartKey))
			if !found || !slices.Equal(trace.Risks, test.want) {
				t.Errorf("the risks are %v, want %v", trace.Risks, test.want)
			}
		})
	}
}
