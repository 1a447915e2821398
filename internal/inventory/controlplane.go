package inventory

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// SetService takes in a Service.
func (i *Inventory) SetService(service *mesh.Service) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.services[types.NamespacedName{Namespace: service.Namespace, Name: service.Name}] = service
}

// DeleteService forgets a Service.
func (i *Inventory) DeleteService(service *mesh.Service) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.services, types.NamespacedName{Namespace: service.Namespace, Name: service.Name})
}

// controlPlanes finds the workloads that run the injectors, once they are judged.
func (i *Inventory) controlPlanes() map[string][]*Workload {
	planes := map[string][]*Workload{}
	for _, revision := range i.injector.Revisions() {
		for _, name := range i.injector.Services(revision) {
			n, found := i.namespaces[name.Namespace]
			if !found || !n.known {
				continue
			}
			service := i.services[name]
			for _, w := range n.workloads {
				if w.object != nil && w.object.Restartable() && mesh.IsControlPlane(revision, service, w.object.Template.Labels) &&
					!slices.Contains(planes[revision], w.judged) {
					planes[revision] = append(planes[revision], w.judged)
				}
			}
		}
	}
	return planes
}
