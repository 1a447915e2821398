package mesh

import (
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Meta is what is kept of an object's metadata. Embedded in a type with a DeepCopyObject method
// it makes that type one that an informer can hold in place of the API's own, at a fraction of
// its size. Setters of what is not kept do nothing.
type Meta struct {
	Namespace, Name string
	UID             types.UID
	ResourceVersion string
}

// MetaOf keeps what Meta holds of an object.
func MetaOf(object metav1.Object) Meta {
	return Meta{
		Namespace:       unique.Make(object.GetNamespace()).Value(),
		Name:            object.GetName(),
		UID:             object.GetUID(),
		ResourceVersion: object.GetResourceVersion(),
	}
}

var _ metav1.Object = &Meta{}

// GetObjectKind implements runtime.Object.
func (m *Meta) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// The rest implements metav1.Object.

func (m *Meta) GetNamespace() string                          { return m.Namespace }
func (m *Meta) SetNamespace(namespace string)                 { m.Namespace = namespace }
func (m *Meta) GetName() string                               { return m.Name }
func (m *Meta) SetName(name string)                           { m.Name = name }
func (m *Meta) GetUID() types.UID                             { return m.UID }
func (m *Meta) SetUID(uid types.UID)                          { m.UID = uid }
func (m *Meta) GetResourceVersion() string                    { return m.ResourceVersion }
func (m *Meta) SetResourceVersion(version string)             { m.ResourceVersion = version }
func (m *Meta) GetGenerateName() string                       { return "" }
func (m *Meta) SetGenerateName(string)                        {}
func (m *Meta) GetGeneration() int64                          { return 0 }
func (m *Meta) SetGeneration(int64)                           {}
func (m *Meta) GetSelfLink() string                           { return "" }
func (m *Meta) SetSelfLink(string)                            {}
func (m *Meta) GetCreationTimestamp() metav1.Time             { return metav1.Time{} }
func (m *Meta) SetCreationTimestamp(metav1.Time)              {}
func (m *Meta) GetDeletionTimestamp() *metav1.Time            { return nil }
func (m *Meta) SetDeletionTimestamp(*metav1.Time)             {}
func (m *Meta) GetDeletionGracePeriodSeconds() *int64         { return nil }
func (m *Meta) SetDeletionGracePeriodSeconds(*int64)          {}
func (m *Meta) GetLabels() map[string]string                  { return nil }
func (m *Meta) SetLabels(map[string]string)                   {}
func (m *Meta) GetAnnotations() map[string]string             { return nil }
func (m *Meta) SetAnnotations(map[string]string)              {}
func (m *Meta) GetFinalizers() []string                       { return nil }
func (m *Meta) SetFinalizers([]string)                        {}
func (m *Meta) GetOwnerReferences() []metav1.OwnerReference   { return nil }
func (m *Meta) SetOwnerReferences([]metav1.OwnerReference)    {}
func (m *Meta) GetManagedFields() []metav1.ManagedFieldsEntry { return nil }
func (m *Meta) SetManagedFields([]metav1.ManagedFieldsEntry)  {}
