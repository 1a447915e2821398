package inventory

import (
	"bytes"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// Writer is who wrote an object, as the API server's record of writers (managedFields) tells.
type Writer struct {
	Manager string
	Time    time.Time
	// Applied says that it was by server-side apply.
	Applied bool
}

// IsRollback reports whether the writer is kubectl rollout undo: it is the only command of kubectl that
// patches a workload under kubectl's plain name and not by apply
// (k8s.io/kubectl/pkg/polymorphichelpers, rollback.go, sets no field manager).
func (w Writer) IsRollback() bool { return w.Manager == "kubectl" && !w.Applied }

// lastWriter is the newest writer that owns a field (of any where the field is empty), other than
// Fullmesh and the controllers of Kubernetes. Where Fullmesh itself wrote later, it is none.
func lastWriter(object metav1.Object, field string) Writer {
	var newest Writer
	var own time.Time
	for _, entry := range object.GetManagedFields() {
		switch {
		case entry.Subresource != "" || entry.Time == nil || entry.Manager == "kube-controller-manager":
		case entry.Manager == v1alpha1.FieldManager:
			if entry.Time.After(own) {
				own = entry.Time.Time
			}
		case field != "" && (entry.FieldsV1 == nil || !bytes.Contains(entry.FieldsV1.GetRawBytes(), []byte(`"`+field+`"`))):
		case !entry.Time.Time.Before(newest.Time):
			newest = Writer{
				Manager: unique.Make(entry.Manager).Value(), Time: entry.Time.Time,
				Applied: entry.Operation == metav1.ManagedFieldsOperationApply,
			}
		}
	}
	if field == "" && own.After(newest.Time) {
		return Writer{}
	}
	return newest
}
