package restart

import (
	"fmt"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

func namespaceIsTerminating(c *Candidate) *hold {
	if !c.namespace.Terminating {
		return nil
	}
	return &hold{reason: ReasonNamespaceTerminating, clearsBy: v1alpha1.ClearedByCluster,
		message: "The namespace is being deleted."}
}

// workloadIsTerminating holds what is being deleted: its controller may make no Pod again.
func workloadIsTerminating(c *Candidate) *hold {
	if c.workload.Object == nil || !c.workload.Object.Terminating {
		return nil
	}
	return &hold{reason: ReasonWorkloadTerminating, clearsBy: v1alpha1.ClearedByCluster, message: "The workload is being deleted."}
}

func isNotSelected(c *Candidate) *hold {
	if c.policy.Selects(c.workload) {
		return nil
	}
	return &hold{reason: ReasonNotSelected, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("The workloadSelector of MeshPolicy %s leaves this workload out. Widen the selector, or label the workload's "+
			"template.", c.policy.Name)}
}

func isOptedOut(c *Candidate) *hold {
	value, where := c.namespace.Annotations[v1alpha1.RestartAnnotation], "the namespace"
	if c.workload.Object != nil {
		if own := c.workload.Object.OptOut(); own != "" {
			value, where = own, "the workload or its template"
		}
	} else if own := c.workload.Template.Annotations[v1alpha1.RestartAnnotation]; own != "" {
		value, where = own, "the Pod"
	}
	switch value {
	case "":
		return nil
	case v1alpha1.RestartDisabled:
		return &hold{reason: ReasonOptedOut, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("Annotation %s=%s on %s asks for no restart. Restart it yourself, or remove the annotation.",
				v1alpha1.RestartAnnotation, value, where)}
	default:
		return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("Annotation %s on %s has the value %q, and only %q is known. Set that to be left alone, or remove the "+
				"annotation.", v1alpha1.RestartAnnotation, where, value, v1alpha1.RestartDisabled)}
	}
}

func findingIsNotRemediated(c *Candidate) *hold {
	if c.policy.remediate.Has(c.workload.Finding) {
		return nil
	}
	return &hold{reason: ReasonNotRemediated, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("%s MeshPolicy %s does not act on %s. Add that to its spec.remediate, or restart the workload yourself.",
			c.workload.Message, c.policy.Name, c.workload.Finding)}
}

func isAJob(c *Candidate) *hold {
	if !c.workload.Key.Is().RunsToCompletion {
		return nil
	}
	message := fmt.Sprintf("A Job that has started is not restarted; one created now is %s.", c.newPodsAre())
	if c.workload.Key.Is().Makes != "" {
		message = fmt.Sprintf("Pods of a run that has started stay as they are; the next run is %s.", c.newPodsAre())
	}
	if c.workload.Finding != v1alpha1.FindingLeftover {
		message += " A classic sidecar keeps running after the Job's container exits and can keep the Job from completing."
	}
	return &hold{reason: ReasonJobRunsToCompletion, clearsBy: v1alpha1.ClearedByTime, message: message}
}

func hasNoController(c *Candidate) *hold {
	if c.workload.Key.Group != "" || c.workload.Key.Kind != "Pod" {
		return nil
	}
	return &hold{reason: ReasonNoController, clearsBy: v1alpha1.ClearedByOwner,
		message: "Nothing would recreate this Pod. Delete it and create it again, or let a Deployment run it."}
}

// ownerIsNotRead holds where the Pods are known before their owner is.
func ownerIsNotRead(c *Candidate) *hold {
	if c.workload.Object != nil || !c.workload.Key.Is().IsRead() {
		return nil
	}
	return &hold{reason: ReasonCacheNotSynced, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("%s owns running Pods and has not been seen. If it is gone for good, delete what it has left.", c.workload.Key)}
}

// templateIsUnknown holds where it cannot be told what injection would do to a new Pod.
func templateIsUnknown(c *Candidate) *hold {
	object := c.workload.Object
	if object == nil || object.TemplateUnknown == "" {
		return nil
	}
	return &hold{reason: ReasonTemplateUnknown, clearsBy: v1alpha1.ClearedByOwner,
		message: object.TemplateUnknown + " Correct it; until then nobody can tell what its next Pod would be."}
}

func isScaledToZero(c *Candidate) *hold {
	object := c.workload.Object
	if object == nil || object.Replicas > 0 {
		return nil
	}
	return &hold{reason: ReasonScaledToZero, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("It asks for no Pods; those that still run are going away, and the next ones are %s.", c.newPodsAre())}
}

func isPaused(c *Candidate) *hold {
	object := c.workload.Object
	if object == nil || !object.Paused {
		return nil
	}
	if object.IsRollout() {
		return &hold{reason: ReasonPaused, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("The Rollout is paused, by its owner or at a step of an update. Run: kubectl argo rollouts promote %s -n %s",
				object.Name, object.Namespace)}
	}
	return &hold{reason: ReasonPaused, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("The Deployment is paused and a restart would wait. Run: kubectl rollout resume deployment/%s -n %s",
			c.workload.Key.Name, c.workload.Key.Namespace)}
}

func sidecarAndAmbientConflict(c *Candidate) *hold {
	if !c.workload.Expectation.Inject || !mesh.AsksForAmbient(c.namespace.Labels, c.workload.Template.Labels) {
		return nil
	}
	return &hold{reason: ReasonMeshModeConflict, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Both a sidecar and ambient mode are requested. Remove either the injection label or the label %s.",
			mesh.DataplaneModeLabel)}
}
