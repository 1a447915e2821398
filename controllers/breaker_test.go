package controllers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// openBreaker names three failed workloads.
func openBreaker(state v1alpha1.BreakerState) *v1alpha1.BreakerStatus {
	return &v1alpha1.BreakerStatus{
		State: state, Since: new(metav1.NewTime(noon)), RetryTime: new(metav1.NewTime(noon.Add(time.Hour))), LastFailureTime: new(metav1.NewTime(noon)),
		ProbesFailed: new(int32(0)), FailedWorkloads: new(int32(3)), Failed: []string{"Deployment shop/a", "Deployment shop/b", "Deployment shop/c"},
	}
}

func TestPolicyStatusTellsOfItsBreaker(t *testing.T) {
	tried := openBreaker(v1alpha1.BreakerProbing)
	tried.RetryTime = nil
	asking := openBreaker(v1alpha1.BreakerOpen)
	asking.RetryTime, asking.ProbesFailed = nil, new(int32(3))
	for name, test := range map[string]struct {
		breaker *v1alpha1.BreakerStatus
		want    string
		says    string
	}{
		"it never opened": {nil, "True/Enforcing", "Workloads are restarted"},
		"it is closed":    {&v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed}, "True/Enforcing", "Workloads are restarted"},
		"it is open":      {openBreaker(v1alpha1.BreakerOpen), "False/BreakerOpen", "3 workloads have failed (Deployment shop/a, Deployment shop/b, Deployment shop/c), and nothing more is started. At 2026-11-23T13:00:00Z one more is tried alone."},
		"one is tried":    {tried, "False/BreakerOpen", "One more is tried alone now."},
		"somebody must ask": {asking, "False/BreakerOpen",
			"Each of 3 more that were tried alone failed as well. To go on, mend what is wrong and run: kubectl annotate meshpolicy/production fullmesh.dev/retry-requested="},
	} {
		t.Run(name, func(t *testing.T) {
			served := &v1alpha1.ServedRetry{Value: "now", Time: metav1.NewTime(noon)}
			state := &policyState{enforcing: true, guard: restart.GuardHolds, standing: restart.Standing{Breaker: test.breaker, RetryServed: served}}
			got := policyStatus(state, builder.Enforcing("production").Build(), noon)
			at := slices.IndexFunc(got.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionRestartsAllowed })
			if condition := got.Conditions[at]; string(condition.Status)+"/"+condition.Reason != test.want || !strings.Contains(condition.Message, test.says) {
				t.Errorf("RestartsAllowed is %s/%s: %s", condition.Status, condition.Reason, condition.Message)
			}
			if got.Breaker != test.breaker || got.RetryServed != served {
				t.Errorf("the status has breaker %v and request %v", got.Breaker, got.RetryServed)
			}
		})
	}
}

func TestPolicyStatusTellsOfBreakersOfInjectors(t *testing.T) {
	injectors := []v1alpha1.InjectorBreaker{{Revision: "canary", Breaker: *openBreaker(v1alpha1.BreakerOpen)}}
	got := policyStatus(&policyState{enforcing: true, guard: restart.GuardHolds, standing: restart.Standing{Injectors: injectors}}, builder.Enforcing("production").Build(), noon)
	condition := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionRestartsAllowed)
	if condition.Status != metav1.ConditionTrue || !strings.Contains(condition.Message, `Under injector revision "canary": 3 workloads have failed`) {
		t.Errorf("RestartsAllowed is %s: %s", condition.Status, condition.Message)
	}
}

// What was asked for is not forgotten while a policy governs nothing, and so not asked for again later.
func TestServedRequestOutlivesThatNothingIsGoverned(t *testing.T) {
	object := builder.Enforcing("production").Build()
	object.Status.RetryServed = &v1alpha1.ServedRetry{Value: "now", Time: metav1.NewTime(noon)}
	policy, err := restart.NewPolicy(object)
	if err != nil {
		t.Fatal(err)
	}
	state := stateOf(&restart.Plan{}, &policyInForce{object: object, policy: policy}, globalState{})
	if got := policyStatus(&state, object, noon).RetryServed; got == nil || got.Value != "now" {
		t.Errorf("it is %v", got)
	}
}

func TestBreakerIsAnnouncedWhenItOpensAndCloses(t *testing.T) {
	events := &recorder{}
	announcer := announcer{recorder: events}
	policy := func(breaker *v1alpha1.BreakerStatus) *v1alpha1.MeshPolicy {
		object := builder.Enforcing("production").Build()
		object.Status.Breaker = breaker
		return object
	}
	open, probing, closed := openBreaker(v1alpha1.BreakerOpen), openBreaker(v1alpha1.BreakerProbing), &v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed}
	var got []int
	for _, change := range []struct{ before, after *v1alpha1.BreakerStatus }{{nil, nil}, {nil, open}, {open, open}, {open, probing}, {probing, open}, {probing, closed}, {closed, nil}} {
		announcer.Breaker(policy(change.after), change.before)
		got = append(got, len(events.take()))
	}
	if diff := cmp.Diff([]int{0, 1, 0, 0, 0, 1, 0}, got); diff != "" {
		t.Errorf("Events at each change (-want +got):\n%s", diff)
	}
}

func TestBreakerIsMeasured(t *testing.T) {
	collector := &planCollector{}
	a, b := &restart.Policy{Name: "a"}, &restart.Policy{Name: "b"}
	breakerSeries := func() []string {
		return slices.DeleteFunc(seriesOf(t, collector), func(series string) bool { return !strings.HasPrefix(series, "fullmesh_breaker_open") })
	}
	collector.plan.Store(&restart.Plan{Policies: map[*restart.Policy]*restart.Standing{a: {Breaker: openBreaker(v1alpha1.BreakerProbing)}, b: {}}})
	if diff := cmp.Diff([]string{`fullmesh_breaker_open{policy="a"} 1`, `fullmesh_breaker_open{policy="b"} 0`}, breakerSeries()); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	collector.plan.Store(&restart.Plan{Policies: map[*restart.Policy]*restart.Standing{b: {}}})
	if diff := cmp.Diff([]string{`fullmesh_breaker_open{policy="b"} 0`}, breakerSeries()); diff != "" {
		t.Errorf("without policy a (-want +got):\n%s", diff)
	}
}

// The report remembers restarts of which nothing is written down any more, and says how they ended.
func TestReportRemembersWhatWorkloadsNoLongerTell(t *testing.T) {
	row := func(name, cause string, minutes int, result v1alpha1.RestartResult) v1alpha1.RecentRestart {
		return v1alpha1.RecentRestart{
			WorkloadReference: v1alpha1.WorkloadReference{Group: "apps", Kind: "Deployment", Name: name},
			Cause:             cause, StartTime: metav1.NewTime(noon.Add(time.Duration(minutes) * time.Minute)), Result: result,
		}
	}
	undone := held("undone", restart.ReasonRolledBack, v1alpha1.ClearedByOwner)
	plan := planned(1, held("told", restart.ReasonRestartFailed, v1alpha1.ClearedByOwner), held("replaced", restart.ReasonRestartReverted, v1alpha1.ClearedByOwner), undone)
	told := inventory.NewRecord(inventory.Cause{Finding: v1alpha1.FindingMissing, UID: "told", Newest: 1}, v1alpha1.MethodRolloutRestart, "", noon)
	plan.Restarted = []restart.Restarted{{Workload: &inventory.Workload{Key: mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "told"}, Record: &told}}}
	before := v1alpha1.MeshReportStatus{Recent: []v1alpha1.RecentRestart{
		row("told", told.Cause, 0, ""), row("replaced", "of replaced", -1, ""), row("undone", "of undone", -2, ""),
		row("gone", "of gone", -3, ""), row("long-gone", "of long gone", -4, v1alpha1.ResultSucceeded),
	}}
	status := reportStatus(plan, before, 1, noon)
	var got []string
	for _, row := range status.Recent {
		got = append(got, row.Name+" "+string(row.Result))
	}
	if diff := cmp.Diff([]string{"told ", "replaced Reverted", "undone RolledBack", "long-gone Succeeded"}, got); diff != "" {
		t.Errorf("recent restarts (-want +got):\n%s", diff)
	}
	if again := reportStatus(plan, status, 1, noon.Add(time.Hour)); !cmp.Equal(status.Recent, again.Recent) {
		t.Errorf("an hour later they are %v", again.Recent)
	}
	for n := range 30 {
		before.Recent = append(before.Recent, row("long-gone", strings.Repeat("x", n+1), -5, v1alpha1.ResultSucceeded))
	}
	if rows := reportStatus(plan, before, 1, noon).Recent; len(rows) != v1alpha1.MaxRecentRestarts || rows[0].Name != "told" {
		t.Errorf("%d rows, first %s", len(rows), rows[0].Name)
	}
}
