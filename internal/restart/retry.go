package restart

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// longestRequest is how much of a request's value is kept, in bytes.
const longestRequest = 64

// requested is the request to try again that annotations hold; empty where they hold none. A hash stands for a value
// that is too long to be written down.
func requested(annotations map[string]string) string {
	value := strings.TrimSpace(annotations[v1alpha1.RetryAnnotation])
	if len(value) <= longestRequest && strings.ToValidUTF8(value, "") == value {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:12])
}

// requests are those that stand now.
func (c *Candidate) requests() v1alpha1.RetryRequests {
	requests := v1alpha1.RetryRequests{Namespace: requested(c.namespace.Annotations)}
	if c.workload.Object != nil {
		requests.Workload = requested(c.workload.Object.Annotations)
	}
	if c.policy != nil {
		requests.Policy = c.policy.retryRequested
	}
	return requests
}

// retryIsRequested reports whether a request stands that the last restart of the workload did not serve yet. One that
// was interrupted serves nothing, and a request on a policy is about what was restarted under it.
func (c *Candidate) retryIsRequested() bool {
	last := c.workload.Outcome
	if last == nil {
		return false
	}
	isNew := func(value, served string) bool { return value != "" && value != served }
	now, then := c.requests(), last.Requests
	return isNew(now.Workload, then.Workload) || isNew(now.Namespace, then.Namespace) ||
		c.policy != nil && c.policy.Name == last.Policy && isNew(now.Policy, then.Policy)
}

// ownRolloutIsRepeated reports whether the rollout that is in progress is of a restart that failed and is made once
// more.
func (c *Candidate) ownRolloutIsRepeated() bool {
	last, object := c.workload.Outcome, c.workload.Object
	return last.Failed() && last.Method == v1alpha1.MethodRolloutRestart && last.HasTouched(object) && !c.stillHolds(last) &&
		object.ObservedGeneration >= object.Generation
}

// retryCure is what to type for another try.
func retryCure(workload *inventory.Workload) string {
	return RetryCommand(strings.ToLower(workload.Key.Kind), workload.Key.Name, workload.Key.Namespace)
}

// RetryCommand is what to type to ask for another try; namespace is empty for what is in none.
func RetryCommand(kind, name, namespace string) string {
	if namespace != "" {
		namespace = " -n " + namespace
	}
	return fmt.Sprintf(`kubectl annotate %s/%s%s %s="$(date)" --overwrite`, kind, name, namespace, v1alpha1.RetryAnnotation)
}
