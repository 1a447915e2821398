package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// maxCanaries is how many different canaries may fail before a namespace needs somebody.
const maxCanaries = 2

// canary is how far it is proven that injection by one revision works in one namespace. It is evaluated from
// the Pods and the ledger, in every pass anew.
type canary struct {
	// proven: a Pod that was injected since the injector's last change is ready, and the canary,
	// where there was one, has been well for long enough.
	proven bool
	// workload is the one that goes alone before the others, and soakUntil how long those wait although
	// it is well; nil and zero where there is none.
	workload  *inventory.Workload
	soakUntil time.Time
	// failed are those that went first and are not well.
	failed []*inventory.Workload
}

// canaries are those of one pass.
type canaries map[injection]*canary

// canary is the one that a workload waits for; nil where a restart of it injects nothing.
func (c *Candidate) canary() *canary {
	if !c.workload.Expectation.Inject {
		return nil
	}
	key := injection{c.namespace.Name, c.workload.Expectation.Revision}
	known, found := c.pass.canaries[key]
	if !found {
		known = c.evaluateCanary(key.revision)
		c.pass.canaries[key] = known
	}
	return known
}

func (c *Candidate) evaluateCanary(revision string) *canary {
	evaluated := &canary{proven: c.namespace.Shown.Has(revision)}
	for _, workload := range c.namespace.Tried {
		if evaluated.proven {
			return evaluated
		}
		if workload.Newest().Cause.Revision == revision {
			evaluated.observe(&Candidate{pass: c.pass, namespace: c.namespace, policy: c.policy, workload: workload})
		}
	}
	if evaluated.proven {
		return evaluated
	}
	for _, workload := range c.namespace.Open {
		// One that began before the injector's last change goes alone as well.
		if workload.InFlight != nil && workload.Expectation.Revision == revision {
			evaluated.workload = workload
		}
	}
	return evaluated
}

// observe takes into account what became of a workload that was restarted since the injector's last change. One that
// was scaled to zero, or whose restart was taken back, proves nothing, and neither does one that is not
// ready for a reason of its own when it has soaked: another goes first.
func (t *canary) observe(c *Candidate) {
	workload, last := c.workload, c.workload.Last
	if workload.InFlight != nil {
		return
	}
	switch {
	case c.failedAsCanary(last):
		t.failed = append(t.failed, workload)
	case last.Result != v1alpha1.ResultSucceeded || workload.Pods.Running == 0:
	default:
		// Pods of an autoscaler may come up all the time.
		since := max(last.End.Unix(), min(workload.NewestReady, last.End.Add(c.policy.soak).Unix()))
		soaked := time.Unix(since, 0).UTC().Add(c.policy.soak)
		switch {
		case isWell(c) && !soaked.After(c.pass.Now):
			t.proven = true
		case soaked.After(c.pass.Now) && (t.workload == nil || soaked.Before(t.soakUntil)):
			t.workload, t.soakUntil = workload, soaked
		}
	}
}

// failedAsCanary reports whether a restart shows that something is wrong: it failed, or brought no sidecar
// and nothing excuses that, or its Pods do not stay well; nothing that decides has changed since, and
// nobody has asked for another try.
func (c *Candidate) failedAsCanary(last *inventory.Restart) bool {
	if last.Result == v1alpha1.ResultSucceeded {
		return c.workload.Failing != nil && !c.retryIsRequested()
	}
	return hasFailed(c.workload) && c.stillHolds(c.workload.Outcome)
}

// isWell reports whether every Pod is ready, and one was injected since the injector's last change.
func isWell(c *Candidate) bool {
	pods := c.workload.Pods
	return pods.Ready >= pods.Running && time.Unix(c.workload.NewestInjected, 0).After(c.pass.Snapshot.ChangedFor(c.workload.Expectation))
}

// start makes the workload the canary, where one is needed.
func (t *canary) start(workload *inventory.Workload) {
	if t != nil && !t.proven && t.workload == nil {
		t.workload = workload
	}
}

// isNeeded reports whether nothing proves yet that injection works.
func (t *canary) isNeeded() bool { return t != nil && !t.proven }

// canaryAnnotationIsInvalid holds where the owner's word cannot be understood.
func canaryAnnotationIsInvalid(c *Candidate) *hold {
	if c.workload.Object == nil {
		return nil
	}
	value := c.workload.Object.Annotations[v1alpha1.CanaryAnnotation]
	if value == "" || value == "true" {
		return nil
	}
	return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Annotation %s has the value %q, and only \"true\" is known. Set that to have the workload restarted before "+
			"the others, or remove the annotation.", v1alpha1.CanaryAnnotation, value)}
}

// canaryHasFailed holds where the canaries have failed: the others would go the same way.
func canaryHasFailed(c *Candidate) *hold {
	t := c.canary()
	if !t.isNeeded() || len(t.failed) < maxCanaries {
		return nil
	}
	var names []string
	for _, workload := range t.failed {
		names = append(names, workload.Key.String())
	}
	h := &hold{reason: ReasonCanaryFailed, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("%d canaries of this namespace are not well in the mesh (%s). Nothing else is restarted here before one is: "+
			"see their messages and fix one, or ask for another try: %s",
			len(names), firstNames(names), RetryCommand("namespace", c.namespace.Name, ""))}
	if breaker := c.pass.breakers.namespaces[c.namespace.Name]; breaker.open {
		stopped := breaker.holds(c.pass.Now)
		if stopped == nil {
			return nil // one is restarted as a probe
		}
		h.until = stopped.until
	}
	return h
}

// canaryIsInProgress holds where one workload goes alone to show that injection works here.
func canaryIsInProgress(c *Candidate) *hold {
	t := c.canary()
	switch {
	case !t.isNeeded() || t.workload == nil:
		return nil
	case !t.soakUntil.IsZero() && t.workload.InFlight == nil:
		return &hold{reason: ReasonSoaking, clearsBy: v1alpha1.ClearedByTime, until: t.soakUntil,
			message: fmt.Sprintf("%s is this namespace's canary and in the mesh; the rest start at %s, when it has been well for %s.",
				t.workload.Key, moment(t.soakUntil), c.policy.soak)}
	default:
		return &hold{reason: ReasonCanaryInProgress, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("%s is being restarted as this namespace's canary; the rest start once its Pods are ready in the mesh.",
				t.workload.Key)}
	}
}

// rankAsCanary says which workload goes first: the one that its owner names, then a Deployment that is healthy
// and of more than one Pod. StatefulSets are the last.
func rankAsCanary(workload *inventory.Workload) int {
	object := workload.Object
	switch {
	case object.Annotations[v1alpha1.CanaryAnnotation] == "true":
		return 0
	case object.Is().ByShare && object.Replicas > 1 && workload.Pods.Ready >= object.Replicas:
		return 1
	case object.Is().ByOrdinal:
		return 3
	default:
		return 2
	}
}
