package controllers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func openBreaker(state v1alpha1.BreakerState) *v1alpha1.BreakerStatus {
	return &v1alpha1.BreakerStatus{
		State: state, Since: new(metav1.NewTime(noon)), RetryTime: new(metav1.NewTime(noon.Add(time.Hour))),
		ProbesFailed: new(int32(0)), FailedWorkloads: new(int32(3)),
	}
}

func TestStatusesShowTheBreaker(t *testing.T) {
	for _, breaker := range []*v1alpha1.BreakerStatus{nil, openBreaker(v1alpha1.BreakerOpen), openBreaker(v1alpha1.BreakerProbing)} {
		state := &policyState{plan: &restart.PolicyPlan{Breaker: breaker}}
		if got := policyStatus(state, builder.Enforcing("production").Build(), noon); got.Breaker != breaker {
			t.Errorf("the policy shows %v, want %v", got.Breaker, breaker)
		}
		plan := planned(1, paused)
		plan.Breaker = breaker
		if got := reportStatus(plan, v1alpha1.MeshReportStatus{}, 1, noon); got.Breaker != breaker {
			t.Errorf("the report shows %v, want %v", got.Breaker, breaker)
		}
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
	open, probing, closed := openBreaker(v1alpha1.BreakerOpen), openBreaker(v1alpha1.BreakerProbing),
		&v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed}
	var got []int
	for _, change := range []struct{ before, after *v1alpha1.BreakerStatus }{
		{before: nil, after: nil}, {before: nil, after: open}, {before: open, after: open}, {before: open, after: probing},
		{before: probing, after: open}, {before: probing, after: closed}, {before: closed, after: nil},
	} {
		announcer.Breaker(policy(change.after), change.before, gated(restart.ReasonBreakerOpen))
		got = append(got, len(events.take()))
	}
	if diff := cmp.Diff([]int{0, 1, 0, 0, 0, 1, 0}, got); diff != "" {
		t.Errorf("Events at each change (-want +got):\n%s", diff)
	}
}

func TestWhatAnnouncesABreakerIsAboutTheBreaker(t *testing.T) {
	for _, test := range []struct {
		gate restart.Reason
		want string
	}{
		{gate: restart.ReasonBreakerOpen, want: "Because of BreakerOpen."},
		{gate: restart.ReasonWindowClosed, want: "Too many restarts have failed, and nothing more is started under this policy."},
		{gate: "", want: "Too many restarts have failed, and nothing more is started under this policy."},
	} {
		events := &recorder{}
		policy := builder.Enforcing("production").Build()
		policy.Status.Breaker = openBreaker(v1alpha1.BreakerOpen)
		announcer{recorder: events}.Breaker(policy, nil, gated(test.gate))
		if diff := cmp.Diff([]string{"Warning BreakerOpened on MeshPolicy production: " + test.want}, events.take()); diff != "" {
			t.Errorf("with the gate %q (-want +got):\n%s", test.gate, diff)
		}
	}
}

func TestBreakerIsMeasured(t *testing.T) {
	collector := &planCollector{}
	a, b := &restart.Policy{Name: "a"}, &restart.Policy{Name: "b"}
	breakerSeries := func() []string {
		return slices.DeleteFunc(seriesOf(t, collector), func(series string) bool { return !strings.HasPrefix(series, "fullmesh_breaker_open") })
	}
	probing := &restart.PolicyPlan{Breaker: openBreaker(v1alpha1.BreakerProbing)}
	collector.plan.Store(&restart.Plan{Policies: map[*restart.Policy]*restart.PolicyPlan{a: probing, b: {}}})
	if diff := cmp.Diff([]string{`fullmesh_breaker_open{policy="a"} 1`, `fullmesh_breaker_open{policy="b"} 0`}, breakerSeries()); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	collector.plan.Store(&restart.Plan{Policies: map[*restart.Policy]*restart.PolicyPlan{b: {}}})
	if diff := cmp.Diff([]string{`fullmesh_breaker_open{policy="b"} 0`}, breakerSeries()); diff != "" {
		t.Errorf("without policy a (-want +got):\n%s", diff)
	}
}
