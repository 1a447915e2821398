package inventory

import (
	"maps"
	"slices"
	"strings"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// groupKey names the Pods of one immediate owner by that owner's UID, or one Pod without an owner by
// its own. The namespace is part of it because owner references can be forged: nobody's Pods count
// for a workload of another namespace.
type groupKey struct {
	namespace string
	uid       types.UID
}

type group struct {
	namespace string
	owner     mesh.Owner // the zero value for a Pod by itself
	pods      map[types.UID]*mesh.Pod
	classes   map[unique.Handle[mesh.Observation]]*class
	// unplaced are those of the Pods for which a node is missing; mostly nil.
	unplaced map[*mesh.Pod]struct{}
	workload *workload
}

// class counts the running Pods of a group that carry the same.
type class struct {
	running, ready, troubled, pending int
	// oldestCreated, newestCreated, newestReady and newestServing (created, of those that are ready) are
	// in seconds since 1970; stale says that a Pod which held one of them has gone and that they must be
	// looked for again.
	oldestCreated, newestCreated, newestReady, newestServing int64
	stale                                                    bool
}

func (i *Inventory) removePod(pod *mesh.Pod) {
	delete(i.pods, pod.UID)
	id := groupOf(pod)
	g := i.groups[id]
	g.remove(pod)
	i.touch(g.workload)
	if len(g.pods) == 0 {
		delete(i.groups, id)
		delete(g.workload.groups, g)
		i.dropWorkload(g.workload)
	}
}

// groupOf is the group of the Pod's owner, or the Pod's own where nothing recreates it: no owner, one
// that makes no Pods, or the Node whose kubelet runs it from a file.
func groupOf(pod *mesh.Pod) groupKey {
	if !pod.Owner.MakesPods() {
		return groupKey{pod.Namespace, pod.UID}
	}
	return groupKey{pod.Namespace, pod.Owner.UID}
}

func (g *group) add(pod *mesh.Pod, unplaced bool) {
	g.pods[pod.UID] = pod
	if unplaced {
		g.setUnplaced(pod, true)
	}
	if !pod.Running() {
		return
	}
	c, found := g.classes[pod.Observed]
	if !found {
		c = &class{}
		g.classes[pod.Observed] = c
	}
	c.count(pod)
}

func (g *group) remove(pod *mesh.Pod) {
	delete(g.pods, pod.UID)
	g.setUnplaced(pod, false)
	if !pod.Running() {
		return
	}
	c := g.classes[pod.Observed]
	c.running--
	if pod.Ready() {
		c.ready--
	}
	if pod.Trouble != nil {
		c.troubled--
	}
	if pod.Pending {
		c.pending--
	}
	if c.running == 0 {
		delete(g.classes, pod.Observed)
	}
	if pod.Created == c.oldestCreated || pod.Created == c.newestCreated || pod.Created == c.newestServing || pod.ReadySince == c.newestReady {
		c.stale = true
	}
}

func (c *class) count(pod *mesh.Pod) {
	c.running++
	if pod.Ready() {
		c.ready++
		c.newestServing = max(c.newestServing, pod.Created)
	}
	if pod.Trouble != nil {
		c.troubled++
	}
	if pod.Pending {
		c.pending++
	}
	if c.oldestCreated == 0 || pod.Created < c.oldestCreated {
		c.oldestCreated = pod.Created
	}
	c.newestCreated = max(c.newestCreated, pod.Created)
	c.newestReady = max(c.newestReady, pod.ReadySince)
}

// refresh looks for the newest Pods of a class again, if one of them has gone.
func (g *group) refresh(observed unique.Handle[mesh.Observation], c *class) {
	if !c.stale {
		return
	}
	fresh := class{}
	for _, pod := range g.pods {
		if pod.Running() && pod.Observed == observed {
			fresh.count(pod)
		}
	}
	*c = fresh
}

// podsByName are the group's Pods in a stable order.
func (g *group) podsByName() []*mesh.Pod {
	return slices.SortedFunc(maps.Values(g.pods), func(a, b *mesh.Pod) int { return strings.Compare(a.Name, b.Name) })
}
