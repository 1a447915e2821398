package restart_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

var cartKey = mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "cart"}

// allChecks are the names that a trace lists.
func allChecks() []string {
	return slices.Concat([]string{"RestartIsInFlight"}, restart.CheckNames(), []string{"IsNotTheProbe", "SharesDisruptionBudget", "FirstWorkloadIsNotWell", "LeavesNoRoom"})
}

func TestTrace(t *testing.T) {
	const last = "LeavesNoRoom"
	for name, test := range map[string]struct {
		scene *scene
		key   mesh.Key
		// silentTo is the last check that was asked and said nothing; spoke is the one that gave the
		// verdict.
		silentTo, spoke string
		want            v1alpha1.Action
	}{
		"nothing speaks against a restart":      {newScene(outside(cart(), 3)), cartKey, last, "", v1alpha1.ActionRestart},
		"the owner has paused it":               {newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Spec.Paused = true }), 3)), cartKey, "IsScaledToZero", "IsPaused", v1alpha1.ActionHold},
		"the policy only reports":               {newScene(outside(cart(), 3), builder.Reporting("mesh")), cartKey, "NeverFitsABudget", "PolicyOnlyReports", v1alpha1.ActionHold},
		"the budget is used up by the other":    {newScene(outside(cart(), 3), outside(deployment("shop", "a"), 3), builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil)), cartKey, "FirstWorkloadIsNotWell", last, v1alpha1.ActionHold},
		"everything is in the mesh":             {newScene(runs(cart().Build(), injected, injected, injected)), cartKey, "RestartIsInFlight", "", v1alpha1.ActionNone},
		"its restart is going on":               {newScene(runs(restarting().Build(), readyInMeshAt(noon), uninjected, uninjected)), cartKey, "", "RestartIsInFlight", v1alpha1.ActionInFlight},
		"no policy governs its namespace":       {newScene(outside(cart(), 3), builder.Enforcing("mesh").Over("team", "another")), cartKey, "", "", ""},
		"a workload that only its Pods tell of": {newScene(builder.Pod("shop", "debug").CreatedAt(yesterday).Ready(yesterday).Build()), mesh.Key{Kind: "Pod", Namespace: "shop", Name: "debug"}, "IsAJob", "NobodyRecreatesIt", v1alpha1.ActionHold},
	} {
		t.Run(name, func(t *testing.T) {
			in := test.scene.input()
			trace, found := restart.Explain(in, test.key)
			if !found {
				t.Fatal("it was not found")
			}
			want := make([]restart.Asked, 0, len(allChecks()))
			silent := test.silentTo != ""
			for _, check := range allChecks() {
				asked := restart.Asked{Check: check, Answer: restart.AnswerNotAsked}
				switch {
				case check == test.spoke:
					asked.Answer = restart.AnswerSpoke
				case silent:
					asked.Answer = restart.AnswerSilent
				}
				silent = silent && check != test.silentTo
				want = append(want, asked)
			}
			if diff := cmp.Diff(want, trace.Checks); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
			if trace.Verdict.Action != test.want {
				t.Errorf("the verdict is %q, want %q", trace.Verdict.Action, test.want)
			}
			if verdict, open := verdicts(restart.Decide(in))[test.key.String()]; open && verdict.Message != trace.Verdict.Message {
				t.Errorf("Decide says %q, and the trace %q", verdict.Message, trace.Verdict.Message)
			}
		})
	}
}

func TestTraceDoesNotClaimADryRun(t *testing.T) {
	in := newScene(outside(cart(), 3)).input()
	in.Check = nil
	trace, _ := restart.Explain(in, cartKey)
	want := restart.Asked{Check: "DryRunCheckSaysNo", Answer: restart.AnswerTaken}
	if !slices.Contains(trace.Checks, want) {
		t.Errorf("the checks are %v", trace.Checks)
	}
}

func TestTraceOfNothing(t *testing.T) {
	if _, found := restart.Explain(newScene().input(), cartKey); found {
		t.Error("a workload was found that is not there")
	}
}

// Whoever restarts by hand what Fullmesh leaves alone is told of nothing that would do harm.
func TestTraceNamesRisksThatWereNotComeTo(t *testing.T) {
	optedOut := func() *builder.Workload[*appsv1.Deployment] {
		return cart().Recreate().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled)
	}
	for name, test := range map[string]struct {
		scene *scene
		want  []restart.Reason
		key   mesh.Key // of cart when unset
	}{
		"the downtime":                 {newScene(outside(optedOut(), 3)), []restart.Reason{restart.ReasonWouldCauseDowntime}, mesh.Key{}},
		"its operator":                 {newScene(outside(optedOut().OwnedBy(db().Build()), 3)), []restart.Reason{restart.ReasonOwnedByOperator}, mesh.Key{}},
		"Pods that crash already":      {newScene(runs(cart().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).Build(), uninjected, uninjected, crashing)), []restart.Reason{restart.ReasonInjectedPodsFailing}, mesh.Key{}},
		"an update that is pending":    {newScene(outside(db().OnDelete().With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }), 3), builder.Reporting("mesh")), []restart.Reason{restart.ReasonUpdatePending}, mesh.Key{Group: "apps", Kind: "StatefulSet", Namespace: "shop", Name: "db"}},
		"callers that it would refuse": {newScene(strictIn("shop"), outside(cart().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled), 3), outside(deployment("shop", "web"), 3)), []restart.Reason{restart.ReasonStrictMTLS}, mesh.Key{}},
		"none":                         {newScene(outside(cart().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled), 3)), nil, mesh.Key{}},
		"none of them, ungoverned":     {newScene(outside(cart().Recreate(), 3), builder.Enforcing("mesh").Over("team", "another")), nil, mesh.Key{}},
		"a budget that allows none":    {newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3), builder.Reporting("mesh")), []restart.Reason{restart.ReasonExceedsDisruptionBudget}, mesh.Key{}},
	} {
		t.Run(name, func(t *testing.T) {
			key := test.key
			if key == (mesh.Key{}) {
				key = cartKey
			}
			trace, found := restart.Explain(test.scene.input(), key)
			if !found || !slices.Equal(trace.Risks, test.want) {
				t.Errorf("the risks are %v, want %v", trace.Risks, test.want)
			}
		})
	}
}
