package inventory

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Group and kind of Argo's Rollouts.
const (
	ArgoGroup   = "argoproj.io"
	ArgoRollout = "Rollout"
)

// argoPause is how many seconds Argo's controller waits before it looks again whether it may evict the
// next Pods of a restart (github.com/argoproj/argo-rollouts/rollout/restart.go, restartPodCheckTime).
const argoPause = 30

// IsRollout reports whether the object is an Argo Rollout.
func (o *Object) IsRollout() bool { return o.Is().Method == v1alpha1.MethodRestartAt }

// argoRollout is what is read of an Argo Rollout
// (github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1).
type argoRollout struct {
	Spec struct {
		Replicas        *int32                  `json:"replicas"`
		Template        *corev1.PodTemplateSpec `json:"template"`
		WorkloadRef     *argoWorkloadRef        `json:"workloadRef"`
		MinReadySeconds int32                   `json:"minReadySeconds"`
		Paused          bool                    `json:"paused"`
		RestartAt       *metav1.Time            `json:"restartAt"`
		Strategy        struct {
			BlueGreen *argoStrategy `json:"blueGreen"`
			Canary    *argoStrategy `json:"canary"`
		} `json:"strategy"`
	} `json:"spec"`
	Status struct {
		Abort             bool         `json:"abort"`
		PauseConditions   []struct{}   `json:"pauseConditions"`
		CurrentPodHash    string       `json:"currentPodHash"`
		StableRS          string       `json:"stableRS"`
		Replicas          int          `json:"replicas"`
		UpdatedReplicas   int          `json:"updatedReplicas"`
		AvailableReplicas int          `json:"availableReplicas"`
		RestartedAt       *metav1.Time `json:"restartedAt"`
		Phase             string       `json:"phase"`
		// ObservedGeneration is a number in a string, and before Argo Rollouts 1.0 a hash.
		ObservedGeneration         string `json:"observedGeneration"`
		WorkloadObservedGeneration string `json:"workloadObservedGeneration"`
		Conditions                 []struct {
			Type    string                 `json:"type"`
			Status  corev1.ConditionStatus `json:"status"`
			Message string                 `json:"message"`
		} `json:"conditions"`
	} `json:"status"`
}

type argoWorkloadRef struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

type argoStrategy struct {
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable"`
	MaxSurge       *intstr.IntOrString `json:"maxSurge"`
}

// FromRollout keeps what is judged of an Argo Rollout. One that cannot be read is kept as such.
func FromRollout(object *unstructured.Unstructured) *Object {
	var read argoRollout
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &read)
	if err != nil {
		read = argoRollout{}
	}
	template := read.Spec.Template
	if template == nil {
		template = &corev1.PodTemplateSpec{}
	}
	kept := newObject(ArgoRollout, object, template)
	kept.Replicas = replicas(read.Spec.Replicas)
	kept.MinReadySeconds = read.Spec.MinReadySeconds
	kept.Strategy = argoRestart(&read, kept.Replicas)
	kept.RestartAt, kept.RestartedAt = secondOf(read.Spec.RestartAt), secondOf(read.Status.RestartedAt)
	status := &read.Status
	kept.ObservedGeneration = number(status.ObservedGeneration)
	kept.Current, kept.Updated, kept.Available = status.Replicas, status.UpdatedReplicas, status.AvailableReplicas
	kept.Paused = read.Spec.Paused || len(status.PauseConditions) > 0
	kept.Updating = status.CurrentPodHash != status.StableRS
	kept.Stuck = status.Abort || status.Phase == "Degraded"
	for _, condition := range status.Conditions {
		if condition.Type == string(appsv1.DeploymentReplicaFailure) && condition.Status == corev1.ConditionTrue {
			kept.ReplicaFailure = condition.Message
		}
	}
	switch ref := read.Spec.WorkloadRef; {
	case err != nil:
		kept.TemplateUnknown = fmt.Sprintf("The Rollout cannot be read: %v.", err)
	case ref != nil:
		kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
		kept.TemplateOf = mesh.Key{Group: kind.Group, Kind: kind.Kind, Namespace: kept.Namespace, Name: ref.Name}
		kept.TemplateSeen = number(status.WorkloadObservedGeneration)
		kept.TemplateUnknown = fmt.Sprintf("It takes its template from %s, which is not there, or of a kind that is not read.", kept.TemplateOf)
	case read.Spec.Template == nil:
		kept.TemplateUnknown = "The Rollout has neither a template nor a workloadRef."
	}
	return kept
}

// argoRestart is how Argo's controller replaces Pods when a restart is asked for: it evicts as many
// at once as its strategy allows to be unavailable and at least one, and adds none on top
// (github.com/argoproj/argo-rollouts/rollout/restart.go and utils/replicaset, MaxUnavailable).
func argoRestart(read *argoRollout, replicas int) Strategy {
	quarter := intstr.FromString("25%")
	surge, unavailable := &quarter, &quarter
	for _, strategy := range []*argoStrategy{read.Spec.Strategy.BlueGreen, read.Spec.Strategy.Canary} {
		if strategy != nil && strategy.MaxUnavailable != nil {
			unavailable = argoPercent(strategy.MaxUnavailable)
			break
		}
	}
	canary := read.Spec.Strategy.Canary
	if canary != nil && canary.MaxSurge != nil {
		surge = argoPercent(canary.MaxSurge)
	}
	atOnce := scaled(unavailable, replicas, false)
	if canary != nil && atOnce == 0 && scaled(surge, replicas, true) == 0 {
		atOnce = 1
	}
	return Strategy{Type: StrategyRolling, MaxUnavailable: max(1, min(atOnce, replicas))}
}

// argoPercent reads a number in a string as a percentage, as Argo's controller does.
func argoPercent(value *intstr.IntOrString) *intstr.IntOrString {
	if value.Type == intstr.String && !strings.HasSuffix(value.StrVal, "%") {
		percent := intstr.FromString(value.StrVal + "%")
		return &percent
	}
	return value
}

// hasTemplateRef reports whether the object takes its template from another, which is never one that does so
// itself.
func (o *Object) hasTemplateRef() bool { return o.TemplateOf.Group == "apps" }

// withTemplateFrom is the object with the template of another that it takes it from; itself where the
// other is not known.
func (o *Object) withTemplateFrom(other *Object) *Object {
	if other == nil {
		return o
	}
	resolved := *o
	resolved.Template, resolved.TemplateHash, resolved.TemplateUnknown = other.Template, other.TemplateHash, ""
	if other.TemplateChanged.After(o.TemplateChanged) {
		resolved.TemplateChanged = other.TemplateChanged
	}
	resolved.TemplateGeneration = other.Generation
	return &resolved
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func secondOf(at *metav1.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.Time
}
