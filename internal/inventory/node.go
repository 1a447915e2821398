package inventory

import (
	"cmp"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Node is what is kept of a Node.
type Node struct {
	mesh.Meta
	// Cordoned says that nothing new is scheduled to it, as is so while it is drained.
	Cordoned bool
}

// FromNode keeps what is judged of a Node.
func FromNode(node *corev1.Node) *Node {
	return &Node{
		Meta: mesh.MetaOf(node),
		Cordoned: node.Spec.Unschedulable || slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
			return taint.Key == corev1.TaintNodeUnschedulable
		}),
	}
}

// DeepCopyObject implements runtime.Object. A Node is never changed once it is made.
func (n *Node) DeepCopyObject() runtime.Object {
	node := *n
	return &node
}

// Nodes counts the nodes.
type Nodes struct {
	// Known is how many there are; Cordoned of them take nothing new.
	Known, Cordoned int
}

// Unplaced is a Pod for which a node is missing: the scheduler finds none, or its own is cordoned.
type Unplaced struct {
	Pod string
	// Created is when the Pod was, in seconds since 1970.
	Created int64
	// Node that is cordoned; empty where there is none yet.
	Node string
	// Scheduler is what the scheduler says; empty where there is a node.
	Scheduler string
}

func (s *Unplaced) compare(other *Unplaced) int {
	if s.Node == "" && s.Created != other.Created {
		return cmp.Compare(s.Created, other.Created)
	}
	return cmp.Compare(s.Pod, other.Pod)
}

// SetNode takes in a Node. What it costs does not depend on how many Pods there are, unless it is
// cordoned or freed: then every Pod is looked at once, so none has to be kept by its node.
func (i *Inventory) SetNode(node *Node) {
	i.mu.Lock()
	defer i.mu.Unlock()
	name := unique.Make(node.Name)
	former, known := i.nodes[name]
	i.nodes[name] = node
	if known && former.Cordoned {
		i.cordoned--
	}
	if node.Cordoned {
		i.cordoned++
	}
	if node.Cordoned != (known && former.Cordoned) {
		i.recheckNode(name)
	}
}

// DeleteNode forgets a Node.
func (i *Inventory) DeleteNode(node *Node) {
	i.mu.Lock()
	defer i.mu.Unlock()
	name := unique.Make(node.Name)
	former, known := i.nodes[name]
	delete(i.nodes, name)
	if known && former.Cordoned {
		i.cordoned--
		i.recheckNode(name)
	}
}

// recheckNode looks again at the Pods of a node that was cordoned or freed.
func (i *Inventory) recheckNode(node unique.Handle[string]) {
	for _, pod := range i.pods {
		if pod.Node == node {
			g := i.groups[groupOf(pod)]
			g.setUnplaced(pod, i.isUnplaced(pod))
			i.touch(g.workload)
		}
	}
}

// isUnplaced reports whether a node is missing for the Pod.
func (i *Inventory) isUnplaced(pod *mesh.Pod) bool {
	if !pod.Running() {
		return false
	}
	if pod.Unschedulable != nil {
		return true
	}
	node, known := i.nodes[pod.Node]
	return known && node.Cordoned
}

func (g *group) setUnplaced(pod *mesh.Pod, unplaced bool) {
	if !unplaced {
		delete(g.unplaced, pod)
		return
	}
	if g.unplaced == nil {
		g.unplaced = map[*mesh.Pod]struct{}{}
	}
	g.unplaced[pod] = struct{}{}
}

// countUnplaced finds, of those Pods for which a node is missing, the one that has waited for the longest and the
// first by name of those whose node is cordoned.
func (w *Workload) countUnplaced(g *group) {
	for pod := range g.unplaced {
		unplaced, first := &Unplaced{Pod: pod.Name, Created: pod.Created}, &w.OnCordonedNode
		if pod.Unschedulable != nil {
			unplaced.Scheduler, first = *pod.Unschedulable, &w.Unschedulable
		} else {
			unplaced.Node = pod.Node.Value()
		}
		if *first == nil || unplaced.compare(*first) < 0 {
			*first = unplaced
		}
	}
}
