package restart

import (
	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// breakers are those of all scopes, in one pass.
type breakers struct {
	policies   map[*Policy]*breaker
	namespaces map[string]*breaker
}

func newBreakers() *breakers {
	return &breakers{policies: map[*Policy]*breaker{}, namespaces: map[string]*breaker{}}
}

// add makes the breakers of a namespace and its policy, and takes their successful probes from the ledger.
func (b *breakers) add(policy *Policy, namespace *inventory.Namespace) {
	if b.policies[policy] == nil {
		b.policies[policy] = &breaker{
			name: "under MeshPolicy " + policy.Name, reason: ReasonBreakerOpen, limit: policy.stopAfter, coolDown: policy.coolDown, shared: true,
			cure: RetryCommand("meshpolicy", policy.Name, ""),
		}
	}
	own := &breaker{
		name: "in this namespace", reason: ReasonNamespaceBreakerOpen, limit: namespaceStopAfter, coolDown: policy.coolDown,
		cure: RetryCommand("namespace", namespace.Name, ""),
	}
	b.namespaces[namespace.Name] = own
	for _, r := range namespace.Restarts {
		if r.Result != v1alpha1.ResultSucceeded {
			continue
		}
		if r.Probes.Namespace > 0 {
			own.lastProbe = later(own.lastProbe, r.End)
		}
		if of := b.policies[policy]; r.Probes.Policy > 0 && r.Policy == policy.Name {
			of.lastProbe = later(of.lastProbe, r.End)
		}
	}
}

// countFailure counts what the last restart of a workload came to, where it failed and that still holds.
func (b *breakers) countFailure(c *Candidate) {
	last := c.workload.Outcome
	if c.policy == nil || !hasFailed(c.workload) || !c.stillHolds(last) || !c.policy.Selects(c.workload) {
		return
	}
	policy, namespace := b.policies[c.policy], b.namespaces[c.namespace.Name]
	policy.failures = append(policy.failures, failure{c.workload, last.End, last.Probes.Policy})
	namespace.failures = append(namespace.failures, failure{c.workload, last.End, last.Probes.Namespace})
}

// probeIsDue reports whether one workload is to be restarted as a probe: for its policy, or for either scope.
func (b *breakers) probeIsDue(c *Candidate, policyOnly bool) bool {
	return b.policies[c.policy].open || !policyOnly && b.namespaces[c.namespace.Name].open
}

func namespaceBreakerIsOpen(c *Candidate) *hold {
	return c.pass.breakers.namespaces[c.namespace.Name].holds(c.pass.Now)
}

// isNotTheProbe holds where one workload must be restarted alone, and this is another one.
func isNotTheProbe(c *Candidate) *hold {
	for _, breaker := range []*breaker{c.pass.breakers.policies[c.policy], c.pass.breakers.namespaces[c.namespace.Name]} {
		if h := breaker.holdsOthers(); h != nil {
			return h
		}
	}
	return nil
}

// countInFlight counts a restart that is in flight.
func (b *breakers) countInFlight(c *Candidate, r *inventory.Restart) {
	if c.policy == nil {
		return
	}
	probe := r.Probes.Policy
	if r.Policy != c.policy.Name {
		probe = 0
	}
	b.policies[c.policy].countInFlight(c.workload, probe)
	b.namespaces[c.namespace.Name].countInFlight(c.workload, r.Probes.Namespace)
}

// evaluate finds out which breakers are open.
func (b *breakers) evaluate() {
	for _, policy := range b.policies {
		policy.evaluate()
	}
	for _, namespace := range b.namespaces {
		namespace.evaluate()
	}
}

// start counts a restart that starts now, and says which breakers it probes.
func (b *breakers) start(c *Candidate) inventory.Probes {
	return inventory.Probes{Policy: b.policies[c.policy].start(c.workload), Namespace: b.namespaces[c.namespace.Name].start(c.workload)}
}
