package controllers

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Kinds are those whose objects Read takes in.
func Kinds() []client.Object {
	kinds := append(observed(), &corev1.ConfigMap{}, &corev1.Service{})
	for i := range optionalKinds {
		kinds = append(kinds, optionalKinds[i].object())
	}
	for _, gvk := range alsoDumped {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(gvk)
		kinds = append(kinds, object)
	}
	return kinds
}

// Read takes a cluster's objects, which somebody has read before, into the inventory. It is what
// ReadOnce does with those that it lists, so of ConfigMaps only those of the control plane's
// namespace belong among them. Objects of other kinds change nothing.
func (o *Observer) Read(objects []client.Object) error {
	injectorRead := o.deferInjector()
	defer injectorRead()
	for _, object := range objects {
		cut, err := cutDown(object)
		if err != nil {
			return err
		}
		o.take(cut)
	}
	return nil
}
