// Package availability counts the ready Pods of a cluster in every state that it goes through, however
// short. It is told of every write to etcd, which no probing comes near to.
package availability

import (
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// Pods are the Pods of a cluster as the writes so far left them. The zero value knows none.
type Pods struct {
	mu       sync.Mutex
	now      map[types.NamespacedName]pod
	injected map[types.UID]bool
}

type pod struct {
	labels labels.Set
	ready  bool
}

// See takes in a write; those of other objects than Pods change nothing.
func (p *Pods) See(write *cluster.Write) error {
	if write.Resource != "pods" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now, p.injected = map[types.NamespacedName]pod{}, map[types.UID]bool{}
	}
	key := types.NamespacedName{Namespace: write.Namespace, Name: write.Name}
	if write.Deleted() {
		delete(p.now, key)
		return nil
	}
	var written corev1.Pod
	if err := write.Into(&written); err != nil {
		return fmt.Errorf("reading Pod %s of revision %d: %w", key, write.Revision, err)
	}
	p.now[key] = pod{labels: written.Labels, ready: written.DeletionTimestamp == nil && isReady(&written)}
	p.injected[written.UID] = mesh.Observe(&written).Proxy != mesh.ProxyNone
	return nil
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// Count counts the Pods of a namespace with labels, and those of them that are ready and not going.
func (p *Pods) Count(namespace string, with labels.Selector) (ready, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, pod := range p.now {
		if key.Namespace != namespace || !with.Matches(pod.labels) {
			continue
		}
		all++
		if pod.ready {
			ready++
		}
	}
	return ready, all
}

// Injected reports whether a Pod, which may be gone, has or had a sidecar.
func (p *Pods) Injected(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.injected[uid]
}
