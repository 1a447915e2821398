package restart

import (
	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Candidate is one workload as the checks look at it: in its namespace, under the policy that governs it.
type Candidate struct {
	pass      *pass
	namespace *inventory.Namespace
	policy    *Policy // nil where none governs the namespace any more
	workload  *inventory.Workload
	// podLimit is how many Pods the policy's budgets let be down at once; -1 where none says so.
	podLimit int
	// reserved is the failed restart that still takes up what the budgets allow; nil where there is none.
	reserved *inventory.Restart

	// inputsHashNow and methodNow are filled in by inputsHash and method.
	inputsHashNow string
	methodNow     *method
}

// inputsHash is the hash over what decides now that a restart would help.
func (c *Candidate) inputsHash() string {
	if c.inputsHashNow == "" {
		c.inputsHashNow = inputsHash(c.pass.Snapshot, c.namespace, c.workload)
	}
	return c.inputsHashNow
}

// newPodsAre is what new Pods of the workload are.
func (c *Candidate) newPodsAre() string {
	if c.workload.Finding == v1alpha1.FindingLeftover {
		return "without a sidecar"
	}
	return "injected"
}

// held is the verdict on a workload that a check holds.
func (c *Candidate) held(h *hold) Verdict {
	verdict := Verdict{
		Workload: c.workload,
		Action:   v1alpha1.ActionHold,
		Reason:   h.reason,
		Message:  h.message,
		ClearsBy: h.clearsBy,
		Method:   c.method().name,
		Until:    h.until,
	}
	if h.checkDue {
		verdict.Step = StepCheck
		verdict.CheckKey = c.checkKey()
	}
	return verdict
}
