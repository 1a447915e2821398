package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// checkLasts is how long a dry-run check that said yes is good when nothing that decides changes.
const checkLasts = 10 * time.Minute

// CheckKey names a dry-run check: of one workload, under everything that decides its answer.
type CheckKey struct {
	UID types.UID
	// Decided is a hash over the template, the namespace's labels and the injector.
	Decided string
}

// CheckOutcome is what a dry-run check answered.
type CheckOutcome uint8

// The outcomes.
const (
	// CheckAdmitted: the Pod would be created, carrying what was observed.
	CheckAdmitted CheckOutcome = iota
	// CheckFitsInTurn: a quota has no room for one more Pod, and has for this one when it takes the
	// place of an old one. What it would carry was not shown.
	CheckFitsInTurn
	// CheckUnreachable: the injector could not be asked, and no Pod can be created.
	CheckUnreachable
	// CheckDeniedByInjector: the injector refuses the Pod.
	CheckDeniedByInjector
	// CheckOverQuota: a quota has no room for the Pod.
	CheckOverQuota
	// CheckDeniedByPodSecurity: the namespace's PodSecurity profile refuses the Pod.
	CheckDeniedByPodSecurity
	// CheckDeniedByPolicy: an admission policy, or a webhook that is not Istio's, refuses the Pod.
	CheckDeniedByPolicy
	// CheckNoServiceAccount: the Pod's ServiceAccount does not exist.
	CheckNoServiceAccount
	// CheckDenied: the Pod is refused for another reason.
	CheckDenied
	// CheckUnsupported: a webhook that is not Istio's takes no part in dry runs.
	CheckUnsupported
	// CheckNoRootCertificate: the namespace lacks the ConfigMap that an injected Pod mounts.
	CheckNoRootCertificate
	// CheckFailed: there was no answer.
	CheckFailed
	// CheckRefused: admission refused the restart itself.
	CheckRefused
)

// String is the outcome as metrics name it.
func (o CheckOutcome) String() string {
	return [...]string{
		"admitted", "fits_in_turn", "unreachable", "denied_by_injector", "over_quota", "denied_by_pod_security",
		"denied_by_policy", "no_service_account", "denied", "unsupported", "no_root_certificate", "failed", "refused",
	}[o]
}

// Check is the answer of a dry-run check.
type Check struct {
	Outcome CheckOutcome
	// Observed is what the Pod would carry.
	Observed mesh.Observation
	// Message is what the API server said, where it did not admit the Pod.
	Message string
	// At is when the API server answered, by its own clock where it told, and Received when the answer
	// came, by ours.
	At, Received time.Time
	// Retry is when it is worth asking again, where the answer was not yes.
	Retry time.Time
}

// Promises reports whether, by this answer, a new Pod would be as injection is expected to make it.
func (c *Check) Promises(expected mesh.Expectation) bool {
	switch c.Outcome {
	case CheckFitsInTurn:
		return true
	case CheckAdmitted:
		finding := mesh.Judge(expected, c.Observed).Finding
		return finding == v1alpha1.FindingMeshed || finding == v1alpha1.FindingNotExpected
	default:
		return false
	}
}

// NeedsSomebody reports whether the answer stays as it is until somebody does something.
func (c *Check) NeedsSomebody() bool {
	spoken, refused := refusals[c.Outcome]
	return refused && spoken.clearsBy != v1alpha1.ClearedByCluster
}

// decided is a hash over what decides whether a restart would help.
func decided(snapshot *inventory.Snapshot, namespace *inventory.Namespace, workload *inventory.Workload) string {
	hash := sha256.New()
	fmt.Fprintln(hash, workload.Object.TemplateHash)
	for _, label := range []string{"istio-injection", "istio.io/rev", "istio.io/dataplane-mode", "pod-security.kubernetes.io/enforce"} {
		value, set := namespace.Labels[label]
		fmt.Fprintf(hash, "%s %t %s\n", label, set, value)
	}
	revision := workload.Expectation.Revision
	fmt.Fprintf(hash, "%s %s\n", revision, snapshot.Injector.Fingerprint(revision))
	return hex.EncodeToString(hash.Sum(nil)[:10])
}
