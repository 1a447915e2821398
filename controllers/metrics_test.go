package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// seriesOf are a collector's series as they are read from /metrics, sorted. The registry checks that
// none is there twice and that all are described.
func seriesOf(t *testing.T, collector prometheus.Collector) []string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var series []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			series = append(series, fmt.Sprintf("%s{%s} %g", family.GetName(), strings.Join(labels, ","), metric.GetGauge().GetValue()))
		}
	}
	slices.Sort(series)
	return series
}

func TestMetricsAreThoseOfTheNewestPlan(t *testing.T) {
	governed := func(policy string, plan *restart.NamespacePlan) *restart.NamespacePlan {
		plan.Policy = &restart.Policy{Name: policy}
		return plan
	}
	first := governed("a", planned(2, paused, downtime, inProgress))
	first.Totals.NotExpected = map[mesh.Reason]int{"HostNetwork": 1, "PodLabelOptOut": 2}
	second := governed("a", planned(1, held("other", restart.ReasonPaused, v1alpha1.ClearedByOwner), settling, due))
	ungoverned := planned(5, inProgress)
	ungoverned.Policy = nil
	collector := &planCollector{}

	if series := seriesOf(t, collector); series != nil {
		t.Errorf("before the first plan there is %v", series)
	}
	collector.plan.Store(&restart.Plan{Namespaces: []*restart.NamespacePlan{first, second, governed("b", planned(3)), ungoverned}})
	want := []string{
		`fullmesh_held_workloads{clears_by="Admin",policy="a",reason="WouldCauseDowntime"} 1`,
		`fullmesh_held_workloads{clears_by="Owner",policy="a",reason="Paused"} 2`,
		`fullmesh_held_workloads{clears_by="Time",policy="a",reason="Settling"} 1`,
		`fullmesh_pods{policy="a",state="eligible"} 9`,
		`fullmesh_pods{policy="a",state="meshed"} 3`,
		`fullmesh_pods{policy="a",state="not_expected"} 3`,
		`fullmesh_pods{policy="b",state="eligible"} 3`,
		`fullmesh_pods{policy="b",state="meshed"} 3`,
		`fullmesh_pods{policy="b",state="not_expected"} 0`,
		`fullmesh_workloads{policy="a",state="complete"} 2`,
		`fullmesh_workloads{policy="a",state="in_flight"} 1`,
		`fullmesh_workloads{policy="a",state="needs_action"} 3`,
		`fullmesh_workloads{policy="a",state="waiting"} 1`,
		`fullmesh_workloads{policy="a",state="will_restart"} 1`,
		`fullmesh_workloads{policy="b",state="complete"} 1`,
		`fullmesh_workloads{policy="b",state="in_flight"} 0`,
		`fullmesh_workloads{policy="b",state="needs_action"} 0`,
		`fullmesh_workloads{policy="b",state="waiting"} 0`,
		`fullmesh_workloads{policy="b",state="will_restart"} 0`,
	}
	if diff := cmp.Diff(want, seriesOf(t, collector)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	// A policy takes its series with it.
	collector.plan.Store(&restart.Plan{Namespaces: []*restart.NamespacePlan{governed("b", planned(3)), ungoverned}})
	if diff := cmp.Diff(want[6:9], slices.DeleteFunc(seriesOf(t, collector),
		func(line string) bool { return !strings.HasPrefix(line, "fullmesh_pods") })); diff != "" {
		t.Errorf("series without the policy (-want +got):\n%s", diff)
	}
	if series := seriesOf(t, collector); slices.ContainsFunc(series, func(line string) bool { return strings.Contains(line, `policy="a"`) }) {
		t.Errorf("series without the policy: %v", series)
	}
}

// Whoever watches these two numbers sees a loop of restarts.
func TestRestartsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b")
		started, failed := counted(t, restartsStarted, "Missing"), counted(t, restartsEnded, "Failed")
		for range 2 { // one to ask by dry run, one to restart
			if err := s.pass(t, 1); err != nil {
				t.Fatal(err)
			}
		}
		if got := counted(t, restartsStarted, "Missing") - started; got != 2 {
			t.Errorf("%v restarts are counted; 2 were started", got)
		}
		time.Sleep(time.Hour)
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		if got := counted(t, restartsEnded, "Failed") - failed; got != 2 {
			t.Errorf("%v failures are counted; nothing came of 2 restarts", got)
		}
	})
}

// counted is where a counter of one label stands.
func counted(t *testing.T, counters *prometheus.CounterVec, label string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(counters)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == label {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}
