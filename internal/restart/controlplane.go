package restart

import (
	"fmt"
	"strings"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// injectorIsDegraded holds where the control plane that would inject the workload's new Pods is
// being rolled out or is not there in full: some Pods would be made by the former one, or by none. One
// revision's control plane holds nobody of another's.
func injectorIsDegraded(c *Candidate) *hold {
	if !c.workload.Expectation.Inject {
		return nil
	}
	revision := c.workload.Expectation.Revision
	planes, running := c.pass.Snapshot.ControlPlanes[revision], false
	for _, plane := range planes {
		running = running || plane.Object.Replicas > 0
		if h := isDegraded(plane); h != nil {
			return h
		}
	}
	if running || len(planes) == 0 {
		return nil
	}
	object := planes[0].Object
	answer := &hold{reason: ReasonInjectorRollingOut, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("Nothing runs the injector of revision %s: %s is scaled to zero, so no new Pod would get a sidecar.", revision,
			object.Key())}
	if !object.Is().OnEveryNode {
		answer.message += fmt.Sprintf(" Run: kubectl scale %s -n %s --replicas=2", forKubectl(object), object.Namespace)
	}
	return answer
}

// isDegraded is the hold of those that one of an injector's workloads would inject; nil where
// it is well.
func isDegraded(plane *inventory.Workload) *hold {
	object := plane.Object
	rolling := object.RollingOut()
	if !rolling && object.Available >= object.Replicas {
		return nil
	}
	answer := &hold{reason: ReasonInjectorRollingOut, clearsBy: v1alpha1.ClearedByCluster}
	if rolling {
		answer.message = fmt.Sprintf("The injector is being rolled out: of %s, %d of %d Pods are updated and %d available. Waiting until "+
			"all are and the former are gone.", object.Key(), object.Updated, object.Replicas, object.Available)
	} else {
		answer.message = fmt.Sprintf("The injector is not there in full: of %s, %d of %d Pods are available. Waiting until all are.",
			object.Key(), object.Available, object.Replicas)
	}
	failing := plane.AnyFailing()
	switch {
	case object.Paused && rolling:
		answer.clearsBy = v1alpha1.ClearedByAdmin
		answer.message += fmt.Sprintf(" It is paused. Run: kubectl rollout resume %s -n %s", forKubectl(object), object.Namespace)
	case object.Stuck:
		answer.clearsBy = v1alpha1.ClearedByAdmin
		answer.message += fmt.Sprintf(" It has exceeded its progress deadline. See: kubectl describe %s -n %s", forKubectl(object),
			object.Namespace)
	case failing != nil:
		answer.message += fmt.Sprintf(" Not ready: %s. See: kubectl logs %s -n %s", describe(failing), failing.Name, object.Namespace)
	}
	return answer
}

// forKubectl names a workload as kubectl takes it.
func forKubectl(object *inventory.Object) string {
	return strings.ToLower(object.Kind) + "/" + object.Name
}
