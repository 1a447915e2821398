package chaos

import (
	"encoding/json"
	"fmt"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/referee"
)

// workloadKinds are what the operator restarts.
var workloadKinds = []string{"deployments", "statefulsets", "daemonsets", "replicasets"}

// checkAudit says what the operator has sent that it should not have, of all that the API server took: of a
// workload it writes the name of a MeshRestart onto the template, once for each, and nothing else; and it evicts the
// Pods that MeshRestarts name.
func (w *witness) checkAudit(audit []cluster.AuditEvent) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	posted, patched := map[types.NamespacedName]int{}, map[types.NamespacedName]int{}
	for i := range audit {
		event := &audit[i]
		if event.DryRun || event.Code >= 300 {
			continue
		}
		var err error
		switch {
		case slices.Contains([]string{"get", "list", "watch"}, event.Verb):
		case event.Resource == "meshrestarts" && event.Verb == "create":
			posted[types.NamespacedName{Namespace: event.Namespace, Name: event.Name}]++
		case event.Resource == "pods" && event.Subresource == "eviction":
			err = w.checkEviction(event)
		case slices.Contains(workloadKinds, event.Resource) && event.Verb == "patch" && event.Subresource == "":
			var touch referee.Touch
			if touch, err = referee.ReadTouch(event.Object); err == nil {
				patched[types.NamespacedName{Namespace: event.Namespace, Name: touch.Name}]++
			}
		case event.Group != v1alpha1.GroupVersion.Group && !slices.Contains([]string{"leases", "events", "selfsubjectaccessreviews"}, event.Resource):
			err = fmt.Errorf("it was sent %s", event.Object)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", event.Verb, event.URI, err))
		}
	}
	// An API server that is killed may have written what it did not log.
	for name, times := range posted {
		if times > w.created[name] {
			errs = append(errs, fmt.Errorf("MeshRestart %s was created %d times by the audit log, and %d times by the journal", name, times, w.created[name]))
		}
	}
	for name, times := range patched {
		if times > w.touched[name] {
			errs = append(errs, fmt.Errorf("MeshRestart %s was written onto its workload %d times, and restarted it %d times", name, times, w.touched[name]))
		}
	}
	return errs
}

// checkEviction says what is wrong with an eviction by the operator: only Pods may be evicted that ran when the
// restart's cause arose, and none of those that came in their place.
func (w *witness) checkEviction(event *cluster.AuditEvent) error {
	var body policyv1.Eviction
	if err := json.Unmarshal(event.Object, &body); err != nil {
		return fmt.Errorf("reading the eviction: %w", err)
	}
	if body.DeleteOptions == nil || body.DeleteOptions.Preconditions == nil || body.DeleteOptions.Preconditions.UID == nil {
		return fmt.Errorf("it has no precondition on the UID")
	}
	uid := *body.DeleteOptions.Preconditions.UID
	created, r := w.evicted[uid], w.named[uid]
	switch {
	case w.pods.Injected(uid):
		return fmt.Errorf("the Pod has a sidecar")
	case r == nil:
		return fmt.Errorf("no MeshRestart has named the Pod")
	case created > r.Cause.Newest:
		return fmt.Errorf("the Pod was created at second %d, and the restart was made for those of second %d", created, r.Cause.Newest)
	default:
		return nil
	}
}
