package mesh

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Service is what is kept of a Service: which Pods are behind it.
type Service struct {
	Meta
	selector map[string]string
}

// CutDownService keeps of a Service what is judged.
func CutDownService(service *corev1.Service) *Service {
	return &Service{Meta: MetaOf(service), selector: service.Spec.Selector}
}

// DeepCopyObject implements runtime.Object. A Service is never changed once it is made.
func (s *Service) DeepCopyObject() runtime.Object {
	cut := *s
	return &cut
}

// selects reports whether Pods with the labels are behind the Service. Behind one without a selector is
// what somebody wrote into its Endpoints, in this cluster or elsewhere.
func (s *Service) selects(podLabels map[string]string) bool {
	return len(s.selector) > 0 && labels.SelectorFromSet(s.selector).Matches(labels.Set(podLabels))
}

// Services names those at which the API server calls the revision's injector, in order. There are none
// where it is called by URL: nothing is known then of what is behind.
func (i *Injector) Services(revision string) []types.NamespacedName {
	revision = cmp.Or(revision, DefaultRevision)
	var services []types.NamespacedName
	for _, hook := range i.hooks {
		if hook.revision == revision && hook.covers && !hook.deactivated && hook.service.Name != "" {
			services = append(services, hook.service)
		}
	}
	slices.SortFunc(services, func(a, b types.NamespacedName) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(services)
}

// IsControlPlane reports whether a workload whose template has the labels, in the namespace of a
// Service behind which the revision's injector is, runs that injector. Where the Service may not be
// read it is nil, and the labels of Istio's charts decide.
func IsControlPlane(revision string, service *Service, podLabels map[string]string) bool {
	if service != nil {
		return service.selects(podLabels)
	}
	return podLabels[controlPlaneLabel] == controlPlaneApp && cmp.Or(podLabels[RevisionLabel], DefaultRevision) == cmp.Or(revision,
		DefaultRevision)
}
