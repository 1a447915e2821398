package inventory

import (
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Link is what is kept of an object that only stands between Pods and their workload: the
// ReplicaSet of a Deployment, the Job of a CronJob. A cluster keeps ten old ReplicaSets per
// Deployment.
type Link struct {
	mesh.Meta
	owner unique.Handle[mesh.Owner]
}

// LinkTo keeps of an object which other one controls it.
func LinkTo(object metav1.Object) *Link {
	return &Link{Meta: mesh.MetaOf(object), owner: unique.Make(mesh.OwnerOf(object))}
}

// Owner is what controls the object.
func (l *Link) Owner() mesh.Owner { return l.owner.Value() }

// DeepCopyObject implements runtime.Object.
func (l *Link) DeepCopyObject() runtime.Object {
	link := *l
	return &link
}
