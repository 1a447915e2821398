package builder

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// Definition is a CustomResourceDefinition whose schema says nothing, of a kind with a status.
func Definition(group, version, kind, resource string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"spec": map[string]any{
			"group": group,
			"scope": "Namespaced",
			"names": map[string]any{"kind": kind, "plural": resource},
			"versions": []any{map[string]any{
				"name":         version,
				"served":       true,
				"storage":      true,
				"subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
				}},
			}},
		},
	}}
	object.SetName(resource + "." + group)
	return object
}
