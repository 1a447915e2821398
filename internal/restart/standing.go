package restart

import (
	"maps"
	"slices"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// Standing is what is to be written about a policy or a namespace beside the verdicts. It is read back
// from there: what is written counts, and not what this process remembers.
type Standing struct {
	// Breaker is nil where it is closed and nothing has to be kept of it.
	Breaker *v1alpha1.BreakerStatus
	// Injectors are the open breakers of injector revisions: those that a policy minds, or those of the namespace
	// alone.
	Injectors []v1alpha1.InjectorBreaker
	// RetryServed is the request to try again that was taken in last; nil where there was none.
	RetryServed *v1alpha1.ServedRetry
}

// Open reports whether the breaker is not closed.
func (s *Standing) Open() bool {
	return s.Breaker != nil && s.Breaker.State != v1alpha1.BreakerClosed
}

// standings takes down how the breakers stand, and takes in what is asked for.
func (p *Plan) standings(from *pass) {
	p.Policies = map[*Policy]*Standing{}
	ended := map[*Policy]time.Time{}
	for _, namespace := range p.Namespaces {
		policy := namespace.Policy
		if policy == nil {
			continue
		}
		last := namespace.lastEnd(from.Now)
		if last.After(ended[policy]) {
			ended[policy] = last
		}
		namespace.Standing.Breaker = from.breakers.namespaces[namespace.Name].status()
		namespace.Standing.Injectors = openOf(from.breakers.within[namespace.Name])
		var before v1alpha1.MeshReportStatus
		if report := from.reported(namespace.Name); report != nil {
			before = *report
		}
		namespace.Standing.RetryServed = serve(requested(namespace.Annotations), before.RetryServed, len(before.Conditions) == 0, last)
	}
	for policy, last := range ended {
		p.Policies[policy] = &Standing{
			Breaker:     from.breakers.policies[policy].status(),
			Injectors:   openOf(from.breakers.injectors[policy]),
			RetryServed: serve(policy.retryRequested, policy.retryServed, policy.isNew, last),
		}
	}
}

// lastEnd is when the newest restart ended of those that did not end well, or now where that is later:
// clocks of several replicas may differ, and a request is about all that has ended before it.
func (n *NamespacePlan) lastEnd(now time.Time) time.Time {
	last := now
	for _, workload := range n.Open {
		if record := workload.Record; record != nil && record.End != nil && record.End.After(last) && !record.End.After(now.Add(longestSkew)) {
			last = *record.End
		}
	}
	return last
}

// openOf are those breakers of injector revisions that are open.
func openOf(injectors map[string]*breaker) []v1alpha1.InjectorBreaker {
	var open []v1alpha1.InjectorBreaker
	for _, revision := range slices.Sorted(maps.Keys(injectors)) {
		if injector := injectors[revision]; injector.open && len(open) < v1alpha1.MaxInjectorBreakers {
			open = append(open, v1alpha1.InjectorBreaker{Revision: revision, Breaker: *injector.status()})
		}
	}
	return open
}

func (in *Input) reported(namespace string) *v1alpha1.MeshReportStatus {
	if in.Reported == nil {
		return nil
	}
	return in.Reported(namespace)
}
