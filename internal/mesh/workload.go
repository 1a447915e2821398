package mesh

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Key names a workload: the top-level object that recreates a Pod.
type Key struct {
	Group, Kind, Namespace, Name string
}

// String is the key as people write it: Deployment shop/cart, Rollout.argoproj.io shop/cart.
func (k Key) String() string {
	kind := k.Kind
	if k.Group != "" && k.Group != "apps" && k.Group != "batch" {
		kind += "." + k.Group
	}
	return kind + " " + k.Namespace + "/" + k.Name
}

// Is says what is known of the workload's kind.
func (k Key) Is() *Kind { return KindOf(k.Group, k.Kind) }

// Owner is the object that controls another: the one owner reference with controller=true.
// The zero value means that nothing does.
type Owner struct {
	Group, Kind, Name string
	UID               types.UID
}

// OwnerOf returns the controller of an object, or the zero Owner.
func OwnerOf(object metav1.Object) Owner {
	ref := metav1.GetControllerOfNoCopy(object)
	if ref == nil {
		return Owner{}
	}
	group, _, found := strings.Cut(ref.APIVersion, "/")
	if !found {
		group = ""
	}
	return Owner{Group: group, Kind: ref.Kind, Name: ref.Name, UID: ref.UID}
}

// Exists reports whether there is an owner at all.
func (o Owner) Exists() bool { return o.UID != "" }

// MakesPods reports whether the owner may have made a Pod that names it. A Deployment or Rollout makes
// ReplicaSets and a CronJob makes Jobs: a Pod that names one of them was made by somebody else. A Node
// only runs Pods.
func (o Owner) MakesPods() bool {
	switch {
	case !o.Exists(), o.Group == "" && o.Kind == "Node", o.Is().Makes != "":
		return false
	default:
		return true
	}
}

// Is says what is known of the owner's kind.
func (o Owner) Is() *Kind { return KindOf(o.Group, o.Kind) }

// Key is the owner's key in the namespace of what it owns.
func (o Owner) Key(namespace string) Key {
	return Key{Group: o.Group, Kind: o.Kind, Namespace: namespace, Name: o.Name}
}
