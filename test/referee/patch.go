package referee

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// Touch is what the operator's patch of a workload says.
type Touch struct {
	// Workload and Generation are what it tests.
	Workload   types.UID
	Generation int64
	// Name is of the MeshRestart that the template comes to name, or else RestartAt is set.
	Name      string
	RestartAt time.Time
}

var (
	annotationsPath = "/spec/template/metadata/annotations"
	restartedByPath = annotationsPath + "/" + strings.ReplaceAll(v1alpha1.RestartedByAnnotation, "/", "~1")
)

// ReadTouch reads a JSON patch of a workload. It is an error where that does not test the UID and the generation, or
// does anything else than a restart.
func ReadTouch(patch []byte) (Touch, error) {
	var touch Touch
	var operations []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(patch, &operations); err != nil {
		return touch, fmt.Errorf("reading the patch %s: %w", patch, err)
	}
	for _, operation := range operations {
		var into any
		switch operation.Op + " " + operation.Path {
		case "test /metadata/uid":
			into = &touch.Workload
		case "test /metadata/generation":
			into = &touch.Generation
		case "add " + restartedByPath:
			into = &touch.Name
		case "add /spec/restartAt":
			into = &touch.RestartAt
		case "add " + annotationsPath:
			if string(operation.Value) == "{}" {
				continue
			}
		}
		if into == nil {
			return touch, fmt.Errorf("the patch does more than restart: %s %s %s", operation.Op, operation.Path, operation.Value)
		}
		if err := json.Unmarshal(operation.Value, into); err != nil {
			return touch, fmt.Errorf("reading %s of the patch: %w", operation.Path, err)
		}
	}
	switch {
	case touch.Workload == "" || touch.Generation == 0:
		return touch, fmt.Errorf("the patch does not test UID and generation: %s", patch)
	case (touch.Name == "") == touch.RestartAt.IsZero():
		return touch, fmt.Errorf("the patch does not restart in one way: %s", patch)
	default:
		return touch, nil
	}
}
