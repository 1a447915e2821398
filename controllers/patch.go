package controllers

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// touchPatch is all that is ever written to a workload: the name of the MeshRestart on its template, or spec.restartAt.
// It tests that the object is the one that was decided on, and its spec as it was then.
func touchPatch(r *inventory.Restart, object *inventory.Object) ([]byte, error) {
	patch := []operation{
		{"test", "/metadata/uid", r.WorkloadUID},
		{"test", "/metadata/generation", r.Generation},
	}
	switch r.Method {
	case v1alpha1.MethodRolloutRestart:
		if len(object.Template.Annotations) == 0 {
			patch = append(patch, operation{"add", "/spec/template/metadata/annotations", map[string]string{}})
		}
		patch = append(patch, operation{"add", "/spec/template/metadata/annotations/" + pointer(v1alpha1.RestartedByAnnotation), r.Name})
	case v1alpha1.MethodRestartAt:
		patch = append(patch, operation{"add", "/spec/restartAt", r.RestartAt.UTC().Format(time.RFC3339)})
	default:
		return nil, fmt.Errorf("restarting %s: this version does not know the method %s", r.Workload, r.Method)
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("marshalling a patch: %w", err)
	}
	return data, nil
}

// statusPatch sets the whole status of a MeshRestart, and tests its resource version.
func statusPatch(r *inventory.Restart) ([]byte, error) {
	status := r.Status()
	for i := range status.Conditions { // what an API server or a webhook answered has no bound
		status.Conditions[i].Message = shorten(status.Conditions[i].Message, longestMessage)
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": r.ResourceVersion},
		"status": map[string]any{"conditions": status.Conditions, "endTime": status.EndTime, "excuse": orNull(status.Excuse),
			"evicting": status.Evicting},
	})
	if err != nil {
		return nil, fmt.Errorf("marshalling a status: %w", err)
	}
	return data, nil
}

// orNull is null, which a merge patch takes for removal, in the place of nothing.
func orNull(excuse v1alpha1.RestartExcuse) any {
	if excuse == "" {
		return nil
	}
	return excuse
}

// equalSpecs compares what two MeshRestarts say was intended.
func equalSpecs(a, b *v1alpha1.MeshRestartSpec) bool { return equality.Semantic.DeepEqual(a, b) }

// pointer escapes a key for a JSON pointer (RFC 6901).
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
