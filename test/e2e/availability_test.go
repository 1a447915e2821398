package e2e

import (
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/availability"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// prober counts ready Pods in every state that the cluster goes through, and keeps the least.
type prober struct {
	journal *cluster.Journal
	pods    availability.Pods

	mu     sync.Mutex
	probes []*counted
}

// counted are Pods with the least of them that were ready.
type counted struct {
	namespace string
	with      labels.Selector
	least     int
}

// probe follows all Pods until the test ends. It knows none yet, so that it has to be started before
// they are.
func probe(t *clusterTest) *prober {
	t.Helper()
	p := &prober{}
	var err error
	p.journal, err = t.Follow(t.Context(), func(write *cluster.Write) {
		if err := p.pods.See(write); err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, probe := range p.probes {
			if write.Resource == "pods" && write.Namespace == probe.namespace {
				p.look(probe)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.journal.Close)
	return p
}

func (p *prober) look(probe *counted) {
	ready, _ := p.pods.Count(probe.namespace, probe.with)
	probe.least = min(probe.least, ready)
}

// watch begins to count the ready Pods of a namespace with a label.
func (p *prober) watch(t *clusterTest, namespace, key, value string) *counted {
	t.Helper()
	p.sync(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	probe := &counted{namespace: namespace, with: labels.SelectorFromSet(labels.Set{key: value})}
	probe.least, _ = p.pods.Count(namespace, probe.with)
	p.probes = append(p.probes, probe)
	return probe
}

// leastReady is how many Pods were ready at the worst moment.
func (p *prober) leastReady(t *clusterTest, probe *counted) int {
	t.Helper()
	p.sync(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	return probe.least
}

func (p *prober) sync(t *clusterTest) {
	t.Helper()
	if err := p.journal.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// guarded is a workload behind a disruption budget that needs so many of its Pods.
type guarded struct {
	workload client.Object
	needed   int32
}

// guardedWorkloads are of every kind, with every strategy that makes a difference. The budgets are as
// tight as can be where the strategy still fits, and tighter where it does not.
func guardedWorkloads(namespace string) []guarded {
	slow := []string{cluster.ReadyAfter, "700ms"}
	deployment := func(name string, replicas int32, surge, unavailable any) *appsv1.Deployment {
		return builder.Deployment(namespace, name).Replicas(replicas).Surge(surge).Unavailable(unavailable).TemplateAnnotated(slow...).Build()
	}
	set := func(name string, replicas int32) *builder.Workload[*appsv1.StatefulSet] {
		return builder.StatefulSet(namespace, name).Replicas(replicas).TemplateAnnotated(slow...)
	}
	parallel := func(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }
	return []guarded{
		{deployment("surges", 3, 1, 0), 3},
		{deployment("surges-by-two", 4, 2, 0), 4},
		{deployment("surges-from-one", 1, 1, 0), 1},
		{deployment("doubles", 3, "100%", 0), 3},
		{deployment("takes-one", 3, 0, 1), 2},
		{deployment("takes-two", 6, 0, 2), 4},
		{deployment("takes-a-quarter", 8, "25%", "25%"), 6},
		{deployment("takes-half", 4, 0, "50%"), 2},
		{deployment("both", 4, 1, 1), 3},
		{deployment("roomy", 5, 1, 1), 1},
		{deployment("default-of-three", 3, "25%", "25%"), 3},
		{set("ordered", 3).Build(), 2},
		{set("ordered-pair", 2).Build(), 1},
		{set("parallel", 4).With(parallel).Build(), 3},
		{set("parallel-roomy", 3).With(parallel).Build(), 0},
		{builder.DaemonSet(namespace, "agent").TemplateAnnotated(slow...).Build(), 2},
		{builder.DaemonSet(namespace, "agent-surging").Surge(1).Unavailable(0).TemplateAnnotated(slow...).Build(), 3},
		{builder.DaemonSet(namespace, "agent-roomy").TemplateAnnotated(slow...).Build(), 1},
	}
}

// While twenty workloads of all kinds are brought into the mesh, no disruption budget is ever below
// what it needs, in no state that the API server goes through; two of them share one.
func TestAvailabilityNeverFallsBelowTheDisruptionBudgets(test *testing.T) {
	t := onCluster(test)
	const shop = "guarded"
	prober := probe(t)
	all := guardedWorkloads(shop)
	var workloads []client.Object
	for _, one := range all {
		workloads = append(workloads, one.workload)
	}
	quorum := func(name string) client.Object {
		return builder.StatefulSet(shop, name).Replicas(2).Labelled("quorum", "both").TemplateAnnotated(cluster.ReadyAfter, "700ms").Build()
	}
	startShop(t, shop, append(workloads, quorum("quorum-a"), quorum("quorum-b"))...)
	needed := map[*counted]int{}
	guard := func(name, key, value string, pods int32) {
		create(t, minAvailable(shop, name, key, value, pods))
		needed[prober.watch(t, shop, key, value)] = int(pods)
	}
	guard("quorum", "quorum", "both", 3)
	for _, one := range all {
		guard(one.workload.GetName(), "app", one.workload.GetName(), one.needed)
	}

	label(t, shop, "istio-injection", "enabled")
	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 6, nil).Build())
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	usedUp := 0
	for probe, pods := range needed {
		least := prober.leastReady(t, probe)
		if least < pods {
			t.Errorf("at the worst moment %d Pods with %s were ready; their disruption budget needs %d", least, probe.with, pods)
		}
		if least == pods {
			usedUp++
		}
	}
	if usedUp < 5 {
		t.Errorf("%d disruption budgets were ever used up; that shows little", usedUp)
	}
	for name, times := range templateChanges(operatorRequests(t, begin), shop) {
		if times != 1 {
			t.Errorf("%d restarts of %s", times, name)
		}
	}
}

// minAvailable is a disruption budget over the Pods with a label.
func minAvailable(namespace, name, key, value string, pods int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt32(pods)),
			Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
		},
	}
}

// Deployments whose injected Pods crash lose as many ready Pods as their own strategies take at once,
// and not one more, however long they are left alone. Each is in a namespace of its own, which the others
// do not stop.
func TestCrashingWorkloadLosesNoMoreThanItsStrategyTakes(test *testing.T) {
	t := onCluster(test)
	const team = "losing"
	prober := probe(t)
	losses := map[*counted]int{}
	for name, test := range map[string]struct {
		replicas           int32
		surge, unavailable any
		loses              int
	}{
		"surges":          {3, 1, 0, 0},
		"takes-one":       {4, 0, 1, 1},
		"takes-a-quarter": {8, "25%", "25%", 2},
	} {
		create(t, builder.Namespace(name).Labelled("team", team).Build())
		startWorkloads(t, builder.Deployment(name, "web").Replicas(test.replicas).Surge(test.surge).Unavailable(test.unavailable).
			Grace(1).TemplateAnnotated(cluster.Behaviour, cluster.CrashInjected).Build())
		losses[prober.watch(t, name, "app", "web")] = int(test.replicas) - test.loses
		label(t, name, "istio-injection", "enabled")
	}
	startOperator(t)
	create(t, builder.Enforcing(team).Over("team", team).Settling(2).ProgressTimeout(10).Budget(v1alpha1.BudgetScopePolicy, 3, nil).Build())
	for probe, left := range losses {
		row := awaitHeld(t, probe.namespace, "Deployment", "web", "RestartFailed")
		if !containsAll(row.Message, "CrashLoopBackOff") {
			t.Errorf("%s: the crash is not named: %s", probe.namespace, row.Message)
		}
		if least := prober.leastReady(t, probe); least != left {
			t.Errorf("%s: %d Pods were ready at the worst moment; its own strategy leaves %d", probe.namespace, least, left)
		}
	}
}
