package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// PodDetail is a Pod with what is judged of it.
type PodDetail struct {
	*mesh.Pod
	Expectation mesh.Expectation
	Judgement   mesh.Judgement
}

// PodDetails says of every Pod of a workload what it carries, by name; those that have finished or are
// on their way out are among them. It is worked out when it is asked for.
func (i *Inventory) PodDetails(key mesh.Key) []PodDetail {
	i.mu.Lock()
	defer i.mu.Unlock()
	w, found := i.workloads[key]
	if !found {
		return nil
	}
	n := i.namespaces[key.Namespace]
	var carried []PodDetail
	for g := range w.groups {
		expectation := i.expectationOf(w, g, n)
		for _, pod := range g.pods {
			carried = append(carried, PodDetail{pod, expectation, mesh.Judge(expectation, pod.Observed.Value())})
		}
	}
	slices.SortFunc(carried, func(a, b PodDetail) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.UID), string(b.UID)))
	})
	return carried
}

// WorkloadOf is the workload of the Pod of a name, and false where there is no such Pod.
func (i *Inventory) WorkloadOf(namespace, pod string) (mesh.Key, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, known := range i.pods {
		if known.Namespace == namespace && known.Name == pod {
			return i.groups[groupOf(known)].workload.key, true
		}
	}
	return mesh.Key{}, false
}

// PodNames are the names of the Pods of a namespace, sorted.
func (i *Inventory) PodNames(namespace string) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	names := map[string]struct{}{}
	for _, pod := range i.pods {
		if pod.Namespace == namespace {
			names[pod.Name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// expectationOf is the expectation by which the Pods of one of the workload's groups are judged.
func (i *Inventory) expectationOf(w *workload, g *group, n *namespace) mesh.Expectation {
	if w.object != nil {
		return w.expect(i.injector, n)
	}
	_, expectation := i.expectWithoutObject(g, n)
	return expectation
}
