package inventory_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/test/builder"
)

// Who wrote an object last is told by the API server's record of writers, but for Fullmesh and the
// controllers of Kubernetes.
func TestLastWriterIsReadFromTheWriters(t *testing.T) {
	const template, labels = `{"f:spec":{"f:template":{}}}`, `{"f:metadata":{"f:labels":{}}}`
	by := func(manager string, minutes int, fields, subresource string) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(noon.Add(time.Duration(minutes) * time.Minute))
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Time: &at, FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}, Subresource: subresource}
	}
	for name, test := range map[string]struct {
		entries        []metav1.ManagedFieldsEntry
		last, template string
	}{
		"nobody":                        {nil, "", ""},
		"the newest":                    {[]metav1.ManagedFieldsEntry{by("helm", 2, template, ""), by("kubectl-edit", 1, template, "")}, "helm", "helm"},
		"of the template, who wrote it": {[]metav1.ManagedFieldsEntry{by("helm", 1, template, ""), by("labeller", 2, labels, "")}, "labeller", "helm"},
		"nobody who wrote before us":    {[]metav1.ManagedFieldsEntry{by("helm", 1, template, ""), by("fullmesh", 2, template, "")}, "", "helm"},
		"somebody who wrote after us":   {[]metav1.ManagedFieldsEntry{by("fullmesh", 1, template, ""), by("helm", 2, template, "")}, "helm", "helm"},
		"nobody who wrote the status":   {[]metav1.ManagedFieldsEntry{by("exporter", 1, template, "status")}, "", ""},
		"not the kind's own controller": {[]metav1.ManagedFieldsEntry{by("kube-controller-manager", 1, template, "")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			object := inventory.FromDeployment(builder.Deployment("shop", "cart").With(func(d *appsv1.Deployment) { d.ManagedFields = test.entries }).Build())
			if object.LastWriter.Manager != test.last || object.TemplateWriter.Manager != test.template {
				t.Errorf("last %q, of the template %q", object.LastWriter.Manager, object.TemplateWriter.Manager)
			}
		})
	}
}

func TestRollbackIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		writer inventory.Writer
		want   bool
	}{
		"kubectl rollout undo":        {inventory.Writer{Manager: "kubectl"}, true},
		"kubectl apply --server-side": {inventory.Writer{Manager: "kubectl", Applied: true}, false},
		"kubectl edit":                {inventory.Writer{Manager: "kubectl-edit"}, false},
		"GitOps":                      {inventory.Writer{Manager: "argocd-controller", Applied: true}, false},
	} {
		if got := test.writer.IsRollback(); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
