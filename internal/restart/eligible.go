package restart

import (
	"fmt"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

func namespaceIsTerminating(s *situation) *hold {
	if !s.namespace.Terminating {
		return nil
	}
	return &hold{reason: ReasonNamespaceTerminating, clearsBy: v1alpha1.ClearedByCluster,
		message: "The namespace is being deleted."}
}

func isNotSelected(s *situation) *hold {
	if s.policy.Selects(s.workload) {
		return nil
	}
	return &hold{reason: ReasonNotSelected, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("The workloadSelector of MeshPolicy %s leaves this workload out. Widen the selector, or label the workload's template.", s.policy.Name)}
}

func isOptedOut(s *situation) *hold {
	value, where := s.namespace.Annotations[v1alpha1.RestartAnnotation], "the namespace"
	if s.workload.Object != nil {
		if own := s.workload.Object.OptOut(); own != "" {
			value, where = own, "the workload or its template"
		}
	} else if own := s.workload.Template.Annotations[v1alpha1.RestartAnnotation]; own != "" {
		value, where = own, "the Pod"
	}
	switch value {
	case "":
		return nil
	case v1alpha1.RestartDisabled:
		return &hold{reason: ReasonOptedOut, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("Annotation %s=%s on %s asks for no restart. Restart it yourself, or remove the annotation.", v1alpha1.RestartAnnotation, value, where)}
	default:
		return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("Annotation %s on %s has the value %q, and only %q is known. Set that to be left alone, or remove the annotation.", v1alpha1.RestartAnnotation, where, value, v1alpha1.RestartDisabled)}
	}
}

func findingIsNotRemediated(s *situation) *hold {
	if s.policy.remediate.Has(s.workload.Finding) {
		return nil
	}
	return &hold{reason: ReasonNotRemediated, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("%s MeshPolicy %s does not act on %s. Add that to its spec.remediate, or restart the workload yourself.", s.workload.Message, s.policy.Name, s.workload.Finding)}
}

func isAJob(s *situation) *hold {
	if s.workload.Key.Group != "batch" {
		return nil
	}
	message := fmt.Sprintf("A Job that has begun is not restarted; one created now is %s.", s.come())
	if s.workload.Key.Kind == "CronJob" {
		message = fmt.Sprintf("Pods of a run that has begun stay as they are; the next run is %s.", s.come())
	}
	if s.workload.Finding != v1alpha1.FindingLeftover {
		message += " A sidecar that is no native one goes on running beside it, and may keep it from completing."
	}
	return &hold{reason: ReasonNextRunIsInjected, clearsBy: v1alpha1.ClearedByTime, message: message}
}

func nobodyRecreatesIt(s *situation) *hold {
	if s.workload.Key.Group != "" || s.workload.Key.Kind != "Pod" {
		return nil
	}
	return &hold{reason: ReasonNobodyRecreatesPod, clearsBy: v1alpha1.ClearedByOwner,
		message: "Nothing would recreate this Pod. Delete it and create it again, or let a Deployment run it."}
}

// hasNotBeenRead speaks where the Pods are known before their owner is.
func hasNotBeenRead(s *situation) *hold {
	read := s.workload.Key.Group == "apps" || s.workload.Key.Group == inventory.ArgoGroup && s.workload.Key.Kind == inventory.ArgoRollout
	if s.workload.Object != nil || !read {
		return nil
	}
	return &hold{reason: ReasonNotReadYet, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("%s is named as the owner of running Pods and has not been seen. Where it is gone for good, delete what it has left.", s.workload.Key)}
}

// templateIsUnknown speaks where it cannot be told what injection would do to a new Pod.
func templateIsUnknown(s *situation) *hold {
	object := s.workload.Object
	if object == nil || object.TemplateUnknown == "" {
		return nil
	}
	return &hold{reason: ReasonTemplateUnknown, clearsBy: v1alpha1.ClearedByOwner,
		message: object.TemplateUnknown + " Correct it; until then nobody can tell what its next Pod would be."}
}

func isScaledToZero(s *situation) *hold {
	object := s.workload.Object
	if object == nil || object.Replicas > 0 {
		return nil
	}
	return &hold{reason: ReasonScaledToZero, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("It asks for no Pods; those that still run are going away, and the next ones are %s.", s.come())}
}

func isPaused(s *situation) *hold {
	object := s.workload.Object
	if object == nil || !object.Paused {
		return nil
	}
	if object.IsRollout() {
		return &hold{reason: ReasonPaused, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("The Rollout is paused, by its owner or at a step of an update. Run: kubectl argo rollouts promote %s -n %s", object.Name, object.Namespace)}
	}
	return &hold{reason: ReasonPaused, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("The Deployment is paused, so that a restart would wait. Run: kubectl rollout resume deployment/%s -n %s", s.workload.Key.Name, s.workload.Key.Namespace)}
}

func sidecarAndAmbientAreBothAskedFor(s *situation) *hold {
	if !s.workload.Expectation.Inject || !mesh.AsksForAmbient(s.namespace.Labels, s.workload.Template.Labels) {
		return nil
	}
	return &hold{reason: ReasonMeshModeConflict, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Both a sidecar and ambient mode are asked for. Take away either the injection label or the label %s.", mesh.DataplaneModeLabel)}
}
