package restart_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
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

// holding is a case in which a check holds a workload. The message must say how to end that.
type holding struct {
	scene    *scene
	reason   restart.Reason
	clearsBy v1alpha1.ClearedBy
	message  string
	// of is the workload; where it is unset there is only one.
	of string
}

// cases are those of one check: those in which it holds a workload, and their neighbours, which it passes.
type cases struct {
	holds  map[string]holding
	passes map[string]*scene
}

// allCases are those of every check of a decision.
func allCases() map[string]cases {
	all := checkCases()
	maps.Copy(all, historyCases())
	maps.Copy(all, pacingCases())
	return all
}

func TestChecks(t *testing.T) {
	all := allCases()
	for _, phase := range restart.Phases() {
		for _, check := range phase.Checks {
			of, found := all[check]
			if delete(all, check); !found || len(of.holds) == 0 || len(of.passes) == 0 {
				t.Errorf("nothing shows when %s holds and when not", check)
			}
			t.Run(check, func(t *testing.T) { of.test(t) })
		}
	}
	for check := range all {
		t.Errorf("there is no check %s", check)
	}
}

func (c *cases) test(t *testing.T) {
	for name, test := range c.holds {
		t.Run("holds "+name, func(t *testing.T) {
			verdict := test.verdict(t)
			if verdict.Action != v1alpha1.ActionHold || verdict.Reason != test.reason || verdict.ClearsBy != test.clearsBy {
				t.Errorf(
					"verdict %s %s, cleared by %s; want Hold %s, cleared by %s", verdict.Action, verdict.Reason, verdict.ClearsBy, test.reason,
					test.clearsBy,
				)
			}
			if !strings.Contains(verdict.Message, test.message) {
				t.Errorf("message %q does not say %q", verdict.Message, test.message)
			}
			if verdict.Step == restart.StepRestart || verdict.Step == restart.StepFinish {
				t.Errorf("a hold with step %d", verdict.Step)
			}
		})
	}
	for name, scene := range c.passes {
		t.Run("passes "+name, func(t *testing.T) {
			if verdict := only(t, scene.decide()); verdict.Action != v1alpha1.ActionRestart {
				t.Errorf("verdict %s %s: %s", verdict.Action, verdict.Reason, verdict.Message)
			}
		})
	}
}

func (h *holding) verdict(t *testing.T) restart.Verdict {
	t.Helper()
	if h.of == "" {
		return only(t, h.scene.decide())
	}
	return verdicts(h.scene.decide())[h.of]
}

// What people read is in one file, to be read as they do.
func TestSentences(t *testing.T) {
	all := allCases()
	var text strings.Builder
	for _, phase := range restart.Phases() {
		for _, check := range phase.Checks {
			fmt.Fprintf(&text, "## %s: %s\n", phase.Name, check)
			of := all[check]
			for _, name := range slices.Sorted(maps.Keys(of.holds)) {
				test := of.holds[name]
				verdict := test.verdict(t)
				fmt.Fprintf(&text, "%s\n\t%s (%s) %s\n", name, verdict.Reason, verdict.ClearsBy, verdict.Message)
			}
		}
	}
	path := filepath.Join("testdata", "sentences.md")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text.String(), "\n")); diff != "" {
		t.Errorf("sentences have changed; -update writes them anew (-want +got):\n%s", diff)
	}
}

// What waits in the phase safety yields to the gate: nobody must read that something ends by itself which does not.
// What somebody must end does not yield.
func TestWhatWaitsYieldsToTheGate(t *testing.T) {
	all := allCases()
	for _, phase := range restart.Phases() {
		if phase.Name != "safety" {
			continue
		}
		for _, check := range phase.Checks {
			of := all[check]
			for name, test := range of.holds {
				t.Run(check+" of "+name, func(t *testing.T) {
					want := test.reason
					if test.clearsBy == byTime || test.clearsBy == byCluster {
						want = restart.ReasonStopped
					}
					test.scene.when(func(in *restart.Input) { in.Stopped = true })
					for _, policy := range test.scene.policies {
						if policy.Spec.Mode != v1alpha1.ModeEnforce && want == restart.ReasonStopped {
							want = restart.ReasonReportMode
						}
					}
					if got := test.verdict(t); got.Reason != want {
						t.Errorf("%s, want %s: %s", got.Reason, want, got.Message)
					}
				})
			}
		}
	}
}

// Of two checks of the phase safety that hold, what somebody must end is said, though another one is asked before it.
func TestWhatSomebodyMustEndHoldsBeforeWhatWaits(t *testing.T) {
	rollingOut := func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }
	got := only(t, newScene(outside(cart().Recreate().With(rollingOut), 3)).decide())
	if got.Reason != restart.ReasonWouldCauseDowntime || got.ClearsBy != byAdmin {
		t.Errorf("%s, cleared by %s: %s", got.Reason, got.ClearsBy, got.Message)
	}
}

// What waits may become what somebody must end: that moment is not missed, whatever holds until then.
func TestWhatWaitsIsLookedAtAgain(t *testing.T) {
	waits := func() []any { return runs(cart().With(goesOn).Build(), uninjected, unschedulable("no room")) }
	for name, test := range map[string]struct {
		scene *scene
		want  time.Time
	}{
		"behind another check that waits": {scene: newScene(waits()), want: noon.Add(5 * time.Minute)},
		"behind the gate":                 {scene: newScene(builder.Reporting("mesh"), waits()), want: noon.Add(5 * time.Minute)},
		"behind a gate that opens before": {
			scene: newScene(builder.Enforcing("mesh").Unbounded().Window(allow, "1 12 * * *", 60, ""), waits()),
			want:  noon.Add(time.Minute),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := only(t, test.scene.decide()); !got.Until.Equal(test.want) {
				t.Errorf("%s until %s, want %s", got.Reason, got.Until, test.want)
			}
		})
	}
}

// Which check holds first decides what a workload's owner reads.
func TestPhasesAskInThisOrder(t *testing.T) {
	want := []restart.Chain{
		{Name: "eligibility", Checks: []string{
			"NamespaceIsTerminating",
			"WorkloadIsTerminating",
			"IsNotSelected",
			"IsOptedOut",
			"AcceptAnnotationIsInvalid",
			"CanaryAnnotationIsInvalid",
			"FindingIsNotRemediated",
			"IsAJob",
			"HasNoController",
			"OwnerIsNotRead",
			"TemplateIsUnknown",
			"IsScaledToZero",
			"IsPaused",
			"SidecarAndAmbientConflict",
			"EvictionIsDisabled",
			"TemplateIsShared",
		}},
		{Name: "history", Checks: []string{
			"LastRestartFailed",
			"RestartWasIneffective",
			"RestartWasReverted",
			"WasAlreadyRestarted",
		}},
		{Name: "safety", Checks: []string{
			"AnotherRolloutIsInProgress",
			"AnotherRestartIsRequested",
			"StatefulSetWaitsForItsPods",
			"ArgoWaitsForItsPods",
			"WouldCauseDowntime",
			"WouldRefuseItsCallers",
			"IsOwnedByOperator",
			"InjectedPodsAreFailing",
			"CapacityIsMissing",
			"UpdateIsPending",
			"ExceedsDisruptionBudget",
			"NeverFitsABudget",
		}},
		{Name: "gate", Checks: []string{
			"PolicyIsInvalid",
			"ModeIsReport",
			"CacheIsNotSynced",
			"EverythingIsStopped",
			"GuardIsNotInForce",
			"WatchIsStale",
			"WindowIsClosed",
			"PolicyBreakerIsOpen",
		}},
		{Name: "readiness", Checks: []string{
			"CanaryHasFailed",
			"NamespaceBreakerIsOpen",
			"InjectorIsDegraded",
			"IsSettling",
			"SpecKeepsChanging",
			"EvictionWaitsForItsPods",
		}},
		{Name: "evidence", Checks: []string{
			"DryRunSaysNo",
		}},
		{Name: "pacing", Checks: []string{
			"IsNotTheProbe",
			"SharesDisruptionBudget",
			"CanaryIsInProgress",
			"LeavesNoRoom",
		}},
	}
	if diff := cmp.Diff(want, restart.Phases()); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
}

// What is asked at other moments is a chain of its own: a check that belongs to two of them must be in both.
func TestOtherMomentsHaveChainsOfTheirOwn(t *testing.T) {
	want := []restart.Chain{
		{Name: "of the gate, to keep evicting", Checks: []string{
			"PolicyIsInvalid",
			"ModeIsReport",
			"CacheIsNotSynced",
			"EverythingIsStopped",
			"GuardIsNotInForce",
		}},
		{Name: "when complete", Checks: []string{
			"NamespaceIsTerminating",
			"LastRestartFailed",
		}},
		{Name: "to keep evicting", Checks: []string{
			"NamespaceIsTerminating",
			"IsNotSelected",
			"IsOptedOut",
			"FindingIsNotRemediated",
			"IsScaledToZero",
			"IsPaused",
			"SidecarAndAmbientConflict",
			"EvictionIsDisabled",
			"IsOwnedByOperator",
			"InjectedPodsAreFailing",
			"EvictionsAreStopped",
			"InjectorIsDegraded",
			"IsSettling",
			"DryRunSaysNo",
		}},
		{Name: "to start a round of evictions", Checks: []string{
			"AnotherRolloutIsInProgress",
			"WouldCauseDowntime",
			"WouldRefuseItsCallers",
			"CapacityIsMissing",
			"UpdateIsPending",
			"ExceedsDisruptionBudget",
			"NeverFitsABudget",
		}},
		{Name: "by hand", Checks: []string{
			"WouldCauseDowntime",
			"WouldRefuseItsCallers",
			"IsOwnedByOperator",
			"InjectedPodsAreFailing",
			"UpdateIsPending",
			"ExceedsDisruptionBudget",
		}},
	}
	if diff := cmp.Diff(want, restart.OtherChains()); diff != "" {
		t.Errorf("chains (-want +got):\n%s", diff)
	}
}
