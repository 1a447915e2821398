package controllers

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
)

var (
	restartsStarted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fullmesh_restarts_started_total",
		Help: "Restarts that were started, by finding.",
	}, []string{"finding"})
	restartsEnded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fullmesh_restarts_ended_total",
		Help: "Restarts that ended, by result.",
	}, []string{"result"})
	evictions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fullmesh_evictions_total",
		Help: "Evictions of Pods, by what the API server answered: evicted, refused.",
	}, []string{"result"})
	checksAnswered = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fullmesh_dry_run_checks_total",
		Help: "Dry-run checks that were answered, by outcome; refused: the restart itself was.",
	}, []string{"outcome"})
	disagreements = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fullmesh_evaluator_disagreements_total",
		Help: "Dry-run checks that showed another Pod than the evaluator expected: a silent injector, or a defect.",
	})

	newestPlan = &planCollector{}
)

func init() {
	metrics.Registry.MustRegister(restartsStarted, restartsEnded, evictions, checksAnswered, disagreements, newestPlan)
}

// planCollector gives the gauges of the newest plan when they are asked for, so the series of
// a policy go with it.
type planCollector struct {
	plan atomic.Pointer[restart.Plan]
}

var (
	podsDesc = prometheus.NewDesc("fullmesh_pods",
		"Running Pods in the namespaces that follow a policy: eligible (injection expects them), meshed (of those, in the mesh), not_expected.",
		[]string{"policy", "state"}, nil)
	workloadsDesc = prometheus.NewDesc("fullmesh_workloads",
		"Workloads in the namespaces that follow a policy, by what is done about them: complete, in_flight, will_restart, waiting, needs_action.",
		[]string{"policy", "state"}, nil)
	heldDesc = prometheus.NewDesc("fullmesh_held_workloads",
		"Workloads that need a restart and do not get one now, by reason and by who clears it.",
		[]string{"policy", "reason", "clears_by"}, nil)
	breakerDesc = prometheus.NewDesc("fullmesh_breaker_open",
		"1 while a policy starts nothing more because too many restarts have failed, 0 otherwise.",
		[]string{"policy"}, nil)
)

// Describe implements prometheus.Collector.
func (c *planCollector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- podsDesc
	descriptions <- workloadsDesc
	descriptions <- heldDesc
	descriptions <- breakerDesc
}

// Collect implements prometheus.Collector.
func (c *planCollector) Collect(series chan<- prometheus.Metric) {
	plan := c.plan.Load()
	if plan == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	for policy, sum := range summariseByPolicy(plan) {
		gauge(podsDesc, sum.Eligible, policy, "eligible")
		gauge(podsDesc, sum.Meshed, policy, "meshed")
		gauge(podsDesc, sum.NotExpectedPods(), policy, "not_expected")
		gauge(workloadsDesc, sum.Complete, policy, "complete")
		gauge(workloadsDesc, sum.InFlight, policy, "in_flight")
		gauge(workloadsDesc, sum.WillRestart, policy, "will_restart")
		gauge(workloadsDesc, sum.Waiting, policy, "waiting")
		gauge(workloadsDesc, sum.NeedsAction, policy, "needs_action")
	}
	for policy, own := range plan.Policies {
		open := 0
		if own.Breaker != nil {
			open = 1
		}
		gauge(breakerDesc, open, policy.Name)
	}
	for held, workloads := range countHolds(plan) {
		gauge(heldDesc, workloads, held.policy, string(held.reason), string(held.clearsBy))
	}
}

type heldBy struct {
	policy   string
	reason   restart.Reason
	clearsBy v1alpha1.ClearedBy
}

func countHolds(plan *restart.Plan) map[heldBy]int {
	counts := map[heldBy]int{}
	for _, namespace := range plan.Namespaces {
		for i := range namespace.Verdicts {
			if verdict := &namespace.Verdicts[i]; verdict.Action == v1alpha1.ActionHold && namespace.Policy != nil {
				counts[heldBy{namespace.Policy.Name, verdict.Reason, verdict.ClearsBy}]++
			}
		}
	}
	return counts
}

func summariseByPolicy(plan *restart.Plan) map[string]restart.Summary {
	sums := map[string]restart.Summary{}
	for _, namespace := range plan.Namespaces {
		if namespace.Policy != nil {
			sum := sums[namespace.Policy.Name]
			sum.Add(namespace.Summarise())
			sums[namespace.Policy.Name] = sum
		}
	}
	return sums
}
