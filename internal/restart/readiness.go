package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// The other checks of this phase stand with what they are about: canary.go, breaker.go, controlplane.go.

// isSettling holds for a while after the last change of what decides, and in the second in which the newest Pod was
// created: those that follow it must have a later one.
func isSettling(c *Candidate) *hold {
	last, what := c.namespace.Changed, "the namespace's labels"
	if changed := c.pass.Snapshot.ChangedFor(c.workload.Expectation); changed.After(last) {
		last, what = changed, "the injector"
	}
	if object := c.workload.Object; object != nil && object.TemplateChanged.After(last) {
		last, what = object.TemplateChanged, "the template"
	}
	until := last.Add(c.policy.settle)
	if until.After(c.pass.Now) {
		return &hold{reason: ReasonSettling, clearsBy: v1alpha1.ClearedByTime, until: until,
			message: fmt.Sprintf("Waiting until %s, which is %s after the last change of %s.", moment(until), c.policy.settle, what)}
	}
	if until := time.Unix(c.workload.NewestToReplace, 0).Add(LeastSettle); until.After(c.pass.Now) {
		return &hold{reason: ReasonSettling, clearsBy: v1alpha1.ClearedByTime, until: until,
			message: fmt.Sprintf("Waiting until %s, which is %s after its newest Pod was created.", moment(until), LeastSettle)}
	}
	return nil
}

// maxSpecChanges is how often in a row somebody may write a workload first before that is said.
const maxSpecChanges = 3

// specKeepsChanging holds for a while where somebody else has written the workload each time before it could be
// restarted.
func specKeepsChanging(c *Candidate) *hold {
	changes := c.pass.Memory.SpecChanges[c.workload.Object.UID]
	if !changes.Until.After(c.pass.Now) {
		return nil
	}
	h := &hold{reason: ReasonSpecKeepsChanging, clearsBy: v1alpha1.ClearedByTime, until: changes.Until,
		message: fmt.Sprintf("Its spec changed while it was about to be restarted; that is tried again at %s.", moment(changes.Until))}
	if changes.InARow >= maxSpecChanges {
		h.message += fmt.Sprintf(" This has happened %d times in a row: see what keeps writing it "+
			"(kubectl get %s -n %s -o yaml --show-managed-fields).",
			changes.InARow, forKubectl(c.workload.Object), c.workload.Object.Namespace)
	}
	return h
}
