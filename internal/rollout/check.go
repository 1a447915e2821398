package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// checkLasts is how long a dry-run check that said yes is good when nothing that decides changes.
const checkLasts = 10 * time.Minute

// CheckKey names a dry-run check: of one workload, under everything that decides its answer.
type CheckKey struct {
	UID types.UID
	// Decided is a hash over the template, the namespace's injection labels and the injector.
	Decided string
}

// CheckOutcome is what a dry-run check answered.
type CheckOutcome uint8

// The outcomes.
const (
	// CheckInjected: the Pod would get the sidecar.
	CheckInjected CheckOutcome = iota
	// CheckNotInjected: the Pod would be created without it.
	CheckNotInjected
	// CheckUnreachable: the injector could not be asked, and no Pod can be created.
	CheckUnreachable
	// CheckDenied: somebody refuses the Pod.
	CheckDenied
	// CheckFailed: there was no answer.
	CheckFailed
	// CheckRefused: the Pod would be injected, but admission refused the restart itself.
	CheckRefused
)

// String is the outcome as metrics and messages name it.
func (o CheckOutcome) String() string {
	return [...]string{"injected", "not_injected", "unreachable", "denied", "failed", "refused"}[o]
}

// Check is the answer of a dry-run check.
type Check struct {
	Outcome CheckOutcome
	// Revision that would inject.
	Revision string
	// Message is what the API server said.
	Message string
	// At is when the API server answered, by its own clock where it told.
	At time.Time
	// Retry is when it is worth asking again, where the answer was not yes.
	Retry time.Time
}

// decided is a hash over what decides whether a restart would help. What Fullmesh writes itself
// into the template does not count.
func decided(snapshot *inventory.Snapshot, namespace *inventory.Namespace, workload *inventory.Workload) string {
	template := *workload.Object.Template
	template.Annotations = maps.Clone(template.Annotations)
	maps.DeleteFunc(template.Annotations, func(key, _ string) bool { return strings.HasPrefix(key, "fullmesh.dev/") })
	hash := sha256.New()
	if err := json.NewEncoder(hash).Encode(&template); err != nil {
		panic(fmt.Sprintf("a Pod template that was read cannot be written: %v", err))
	}
	for _, label := range []string{"istio-injection", "istio.io/rev", "istio.io/dataplane-mode"} {
		value, set := namespace.Labels[label]
		fmt.Fprintf(hash, "%s %t %s\n", label, set, value)
	}
	revision := workload.Expectation.Revision
	fmt.Fprintf(hash, "%s %s\n", revision, snapshot.Injector.Fingerprint(revision))
	return hex.EncodeToString(hash.Sum(nil)[:10])
}
