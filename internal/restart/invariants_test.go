package restart_test

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/referee"
)

// takesDownFirst reports whether old Pods go before new ones come.
func takesDownFirst(verdict *restart.Verdict) bool {
	return verdict.Method != v1alpha1.MethodRolloutRestart || verdict.Workload.Object.Strategy.MaxUnavailable > 0
}

// mayStart fails the test where a restart is begun that must not be. What it compares with is the
// cluster itself; only what nobody can know better than the inventory is taken from there.
func (s *simulation) mayStart(namespace *restart.NamespacePlan, verdict *restart.Verdict) {
	workload := verdict.Workload
	never := func(format string, arguments ...any) {
		s.t.Fatalf("%s must not be restarted: "+format+"\n%s", append(append([]any{workload.Key}, arguments...), s.transcript.String())...)
	}
	s.promised(s.referee.MayStart(verdict.Restart))
	policy := s.policies[slices.IndexFunc(s.policies, func(p *v1alpha1.MeshPolicy) bool { return p.Name == namespace.Policy.Name })]
	switch check, known := s.checks[verdict.CheckKey]; {
	case s.stopped:
		never("the red button is pressed")
	case policy.Spec.Mode != v1alpha1.ModeEnforce:
		never("the policy only reports")
	case s.guard != restart.GuardHolds:
		never("the guard is not proven")
	case !known || !check.Promises(workload.Expectation) && (check.Outcome != restart.CheckFitsInTurn || !takesDownFirst(verdict)):
		never("no dry run has shown a sidecar")
	case s.now.Before(namespace.Changed.Add(settle(policy))):
		never("labels changed at %s", namespace.Changed)
	case s.moving(workload.Expectation) != "":
		never("the injector is not at rest: %s", s.moving(workload.Expectation))
	case s.lacksCapacity(workload.Key) != "":
		never("there is no room: %s", s.lacksCapacity(workload.Key))
	case s.refused(namespace, workload) > 0 && !slices.Contains(policy.Spec.Accept, v1alpha1.RiskStrictMTLS):
		never("it would refuse %d Pods, and nobody accepted it", s.refused(namespace, workload))
	case stillOpen(s.plan.Policies[namespace.Policy].Breaker, s.now), stillOpen(namespace.Breaker, s.now):
		never("a breaker is open")
	case !remediates(policy, workload.Finding):
		never("it is %s, which the policy does not act on", workload.Finding)
	}
	// What was decided on an older generation is never written.
	if a := s.appOf(workload.Object.UID); a != nil && a.argo != nil && a.object.GetGeneration() == verdict.Restart.Generation {
		s.mayRestartAt(a, verdict, never)
	}
	s.mayStartNow(policy, namespace, workload, never)
	for _, budget := range policy.Spec.Budgets {
		used, of := s.inFlight(budget.Scope, namespace), s.base(budget.Scope, namespace)
		used.Workloads++
		used.Pods += takes(verdict.Method, workload.Object)
		allowed := referee.Usage{Workloads: limitOf(budget.Workloads, of.Workloads), Pods: limitOf(budget.Pods, of.Pods)}
		if err := (referee.Budget{Scope: string(budget.Scope), Usage: allowed}).Allows(used); err != nil {
			never("%v", err)
		}
	}
	for _, budget := range namespace.Budgets {
		if !budget.Selector.Matches(labels.Set(workload.Template.Labels)) {
			continue
		}
		if verdict.Method == v1alpha1.MethodRestartAt {
			if workload.Pods.Ready > 0 && budget.Allowed == 0 {
				never("%s refuses every eviction", budget.Name)
			}
		} else if verdict.Method == v1alpha1.MethodRolloutRestart && workload.Pods.Ready > 0 && workload.Object.Strategy.MaxUnavailable > budget.Allowed {
			never("it may take down %d and %s allows %d", workload.Object.Strategy.MaxUnavailable, budget.Name, budget.Allowed)
		}
		for _, a := range s.apps {
			if a.object.GetNamespace() == namespace.Name && s.unfinished(a) != nil && budget.Selector.Matches(labels.Set(a.template.Labels)) {
				never("%s is in flight under %s as well", a, budget.Name)
			}
		}
	}
}

// moving is what of the control plane that would inject is being rolled out or not there in full, as far
// as that has been learned of; empty where it is at rest.
func (s *simulation) moving(expected mesh.Expectation) string {
	if !expected.Inject {
		return ""
	}
	pods := 0
	planes := slices.Clone(s.planes)
	planes = slices.DeleteFunc(planes, func(a *app) bool { return a.template.Labels["istio.io/rev"] != expected.Revision })
	for _, a := range planes {
		learned := s.learned(a)
		if learned == nil {
			return ""
		}
		o := learned.Object
		pods += o.Replicas
		if o.ObservedGeneration != o.Generation || o.Updated != o.Replicas || o.Current != o.Replicas || o.Available != o.Replicas {
			return a.String()
		}
	}
	if len(planes) > 0 && pods == 0 {
		return "no Pod is asked for"
	}
	return ""
}

// lacksCapacity is a Pod of a workload for which a node is missing, as far as that has been learned of.
func (s *simulation) lacksCapacity(key mesh.Key) string {
	for _, pod := range s.inventory.PodDetails(key) {
		switch {
		case !pod.Running():
		case pod.Unschedulable != nil, key.Kind != "DaemonSet" && s.knownAsCordoned.Has(pod.Node.Value()):
			return pod.Name
		}
	}
	return ""
}

// refused is how many Pods of others would be refused by a workload whose first Pods come into the mesh, as
// far as that has been learned of.
func (s *simulation) refused(namespace *restart.NamespacePlan, workload *inventory.Workload) int {
	if !s.knownAsStrict.Has(namespace.Name) || workload.Finding != v1alpha1.FindingMissing || workload.Pods.Ready == 0 {
		return 0
	}
	outside := 0
	for _, other := range s.plan.Namespaces {
		if other.Policy == nil || other.Policy.Name != namespace.Policy.Name {
			continue
		}
		for _, candidate := range other.Workloads {
			for _, pod := range s.inventory.PodDetails(candidate.Key) {
				isOut := pod.Observed.Value().Proxy == mesh.ProxyNone
				switch {
				case !pod.Running():
				case candidate.Key == workload.Key && !isOut:
					return 0 // it refuses them already
				case candidate.Key != workload.Key && isOut:
					outside++
				}
			}
		}
	}
	return outside
}

// stillOpen reports whether a breaker is open and no workload is to be tried yet.
func stillOpen(breaker *v1alpha1.BreakerStatus, now time.Time) bool {
	return breaker != nil && breaker.State == v1alpha1.BreakerOpen && (breaker.RetryTime == nil || breaker.RetryTime.After(now))
}

func settle(policy *v1alpha1.MeshPolicy) time.Duration {
	if policy.Spec.SettleSeconds == nil {
		return 30 * time.Second
	}
	return time.Duration(*policy.Spec.SettleSeconds) * time.Second
}

// inFlight counts what is being restarted by the ledger, and what it takes at once.
func (s *simulation) inFlight(scope v1alpha1.BudgetScope, namespace *restart.NamespacePlan) referee.Usage {
	return s.referee.InUse(func(r *inventory.Restart) (pods int, counts bool) {
		switch a := s.appOf(r.WorkloadUID); {
		case a == nil || !s.inScope(scope, a, namespace):
			return 0, false
		case r.Method == v1alpha1.MethodRolloutRestart:
			return a.cut().Strategy.AtOnce(), true
		default:
			return min(max(0, a.replicas()-a.count(ready)), a.evictedAtOnce()), true
		}
	})
}

// appOf is the workload of a UID; nil where it is gone.
func (s *simulation) appOf(uid types.UID) *app {
	if at := slices.IndexFunc(s.apps, func(a *app) bool { return a.object.GetUID() == uid }); at >= 0 {
		return s.apps[at]
	}
	return nil
}

// learned is what has been learned of a workload that has been read; nil where nothing has.
func (s *simulation) learned(a *app) *inventory.Workload {
	return ofApp(s.inventory.Snapshot().Namespaces, a)
}

// ofApp is a workload with its object among those of namespaces; nil where it is not there.
func ofApp(namespaces []*inventory.Namespace, a *app) *inventory.Workload {
	for _, namespace := range namespaces {
		for _, workload := range namespace.Workloads {
			if workload.Object != nil && workload.Object.UID == a.object.GetUID() {
				return workload
			}
		}
	}
	return nil
}

// evictedAtOnce is how many Pods may be down because of evictions; others may be of themselves.
func (a *app) evictedAtOnce() int {
	if a.cut().Kind == "StatefulSet" {
		return 1
	}
	return max(1, a.cut().Strategy.MaxUnavailable)
}

// takes is how many Pods a restart takes at once at least.
func takes(by v1alpha1.RestartMethod, object *inventory.Object) int {
	if by == v1alpha1.MethodRolloutRestart {
		return object.Strategy.AtOnce()
	}
	return 1
}

// mayEvictNow fails the test where a Pod is evicted that must not be.
func (s *simulation) mayEvictNow(namespace *restart.NamespacePlan, verdict *restart.Verdict, a *app, p *pod) {
	never := func(format string, arguments ...any) {
		s.t.Fatalf("%s of %s must not be evicted: "+format+"\n%s", append(append([]any{p.name, a}, arguments...), s.transcript.String())...)
	}
	if namespace.Policy == nil {
		never("nobody governs it")
	}
	policy := s.policies[slices.IndexFunc(s.policies, func(p *v1alpha1.MeshPolicy) bool { return p.Name == namespace.Policy.Name })]
	workload, r := verdict.Workload, s.unfinished(a)
	switch check, known := s.checks[verdict.CheckKey]; {
	case s.stopped:
		never("the red button is pressed")
	case policy.Spec.Mode != v1alpha1.ModeEnforce:
		never("the policy only reports")
	case s.guard != restart.GuardHolds:
		never("the guard is not proven")
	case r == nil || r.Method != v1alpha1.MethodEviction || !slices.Contains(r.Evicting, p.uid):
		never("it is not written down: %v", r)
	case p.created.Unix() > r.Cause.Newest:
		never("it is younger than what is to be replaced")
	case workload.Finding == v1alpha1.FindingMissing && p.injected != "":
		never("it is in the mesh")
	case workload.Finding == v1alpha1.FindingStale && p.injected == workload.Expectation.Revision:
		never("it is as it should be")
	case !known || !check.Promises(workload.Expectation) && (check.Outcome != restart.CheckFitsInTurn || !takesDownFirst(verdict)):
		never("no dry run has shown a sidecar")
	}
}

// downTogether fails the test where evictions have taken down more Pods than may be.
func (s *simulation) downTogether(namespace *restart.NamespacePlan, a *app) {
	if a.disturbed || a.crashes != nil {
		return
	}
	down, most := a.replicas()-a.count(ready), a.evictedAtOnce()
	if down > most {
		s.t.Fatalf("%d Pods of %s are down, and it allows %d:\n%s", down, a, most, s.transcript.String())
	}
	policy := s.policies[slices.IndexFunc(s.policies, func(p *v1alpha1.MeshPolicy) bool { return p.Name == namespace.Policy.Name })]
	for _, budget := range policy.Spec.Budgets {
		if limit := limitOf(budget.Pods, s.base(budget.Scope, namespace).Pods); down > limit {
			s.t.Fatalf("%d Pods of %s are down, and the budget of scope %s allows %d:\n%s", down, a, budget.Scope, limit, s.transcript.String())
		}
	}
}

// base is what percentages are taken of.
func (s *simulation) base(scope v1alpha1.BudgetScope, namespace *restart.NamespacePlan) referee.Usage {
	var sum referee.Usage
	for _, other := range s.plan.Namespaces {
		if scope == v1alpha1.BudgetScopeNamespace && other.Name != namespace.Name {
			continue
		}
		for _, workload := range other.Workloads {
			concerned := workload.Pods.Eligible
			if workload.Finding == v1alpha1.FindingLeftover {
				concerned = max(concerned, workload.Pods.ToReplace)
			}
			if concerned > 0 {
				sum.Workloads++
				sum.Pods += concerned
			}
		}
	}
	return sum
}

func limitOf(limit *intstr.IntOrString, of int) int {
	if limit == nil {
		return 1 << 30
	}
	if limit.Type == intstr.Int {
		return limit.IntValue()
	}
	percent, err := intstr.GetScaledValueFromIntOrPercent(limit, 100, false)
	if err != nil {
		return 0
	}
	return (of*percent + 99) / 100
}

// stayedUp fails the test where a restart took down the last ready Pod of a workload, though nobody
// has accepted that.
func (s *simulation) stayedUp(a *app, readyBefore int) {
	if readyBefore == 0 || a.count(ready) > 0 || a.replicas() == 0 || s.unfinished(a) == nil || a.crashes != nil || a.disturbed || s.acceptsDowntime() {
		return
	}
	s.t.Fatalf("%s has no ready Pod any more, and nobody accepted it:\n%s", a, s.transcript.String())
}

func (s *simulation) acceptsDowntime() bool {
	return slices.ContainsFunc(s.policies, func(policy *v1alpha1.MeshPolicy) bool {
		return slices.Contains(policy.Spec.Accept, v1alpha1.RiskDowntime)
	})
}

// remediates reports whether a policy acts on a finding.
func remediates(policy *v1alpha1.MeshPolicy, finding v1alpha1.Finding) bool {
	if len(policy.Spec.Remediate) == 0 {
		return finding == v1alpha1.FindingMissing
	}
	return slices.Contains(policy.Spec.Remediate, v1alpha1.Remediation(finding))
}
