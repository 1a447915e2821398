package inventory

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// regroup finds the workload of an owner's Pods again, after what is known of the owner changed.
func (i *Inventory) regroup(namespace string, owner types.UID) {
	g, found := i.groups[groupKey{namespace, owner}]
	if !found {
		return
	}
	if key := i.rootOf(g); key != g.workload.key {
		former := g.workload
		delete(former.groups, g)
		i.touch(former)
		i.attach(g, key)
		i.dropWorkload(former)
	}
	i.touch(g.workload)
}

func (i *Inventory) attach(g *group, key mesh.Key) {
	g.workload = i.workload(key)
	g.workload.groups[g] = struct{}{}
}

// rootOf follows controllers up to the workload: the topmost object of a kind that is read, or the
// first one of a kind that is not. A ReplicaSet or Job that has not been seen yet stands for
// itself until it is.
func (i *Inventory) rootOf(g *group) mesh.Key {
	if !g.owner.Exists() {
		for _, pod := range g.pods {
			return mesh.Key{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
		}
	}
	if link, found := i.links[g.owner.UID]; found && link.Namespace == g.namespace && link.Owner().Exists() {
		return link.Owner().Key(g.namespace)
	}
	if object := i.ownerOf(g); object != nil && StandsBetween(object) {
		return object.Owner.Key(g.namespace)
	}
	return g.owner.Key(g.namespace)
}

// ownerOf is the object of the group's immediate owner; nil where it is not known.
func (i *Inventory) ownerOf(g *group) *Object {
	if object, found := i.objects[g.owner.UID]; found && object.Namespace == g.namespace {
		return object
	}
	return nil
}

// StandsBetween reports whether an object is a ReplicaSet or Job that something else controls.
func StandsBetween(object *Object) bool {
	return object.Owner.Exists() && slices.ContainsFunc(mesh.Kinds, func(kind mesh.Kind) bool { return kind.Makes == object.Kind })
}
