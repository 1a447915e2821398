package restart

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
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
	// InputsHash is over the template, the namespace's labels and the injector.
	InputsHash string
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
	// CheckForbidden: the operator's account may not ask.
	CheckForbidden
	// CheckFailed: there was no answer.
	CheckFailed
	// CheckRefused: admission refused the restart itself.
	CheckRefused
	// CheckNotRecorded: a quota has no room for the MeshRestart.
	CheckNotRecorded
)

// String is the outcome as metrics name it.
func (o CheckOutcome) String() string {
	return [...]string{
		"admitted", "fits_in_turn", "unreachable", "denied_by_injector", "over_quota", "denied_by_pod_security",
		"denied_by_policy", "no_service_account", "denied", "unsupported", "no_root_certificate", "forbidden", "failed", "refused",
		"not_recorded",
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
	finding := mesh.Judge(expected, c.Observed).Finding
	return c.Outcome == CheckAdmitted && (finding == v1alpha1.FindingMeshed || finding == v1alpha1.FindingNotExpected)
}

// RefusesRestart reports whether it is the restart that was refused, and not a new Pod.
func (c *Check) RefusesRestart() bool {
	return c.Outcome == CheckRefused || c.Outcome == CheckNotRecorded
}

// NeedsSomebody reports whether the answer stays as it is until somebody does something.
func (c *Check) NeedsSomebody() bool {
	h, refused := refusals[c.Outcome]
	return refused && h.clearsBy != v1alpha1.ClearedByCluster
}

// inputsFormat is the format of inputs hashes. It changes when what goes into them does.
const inputsFormat = "1"

// inputsHash is a hash over what decides whether a restart would help: the template, the namespace's injection labels
// and the injector.
func inputsHash(snapshot *inventory.Snapshot, namespace *inventory.Namespace, workload *inventory.Workload) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%x\n", workload.Object.TemplateHash)
	for _, label := range []string{mesh.InjectionLabel, mesh.RevisionLabel, mesh.DataplaneModeLabel, "pod-security.kubernetes.io/enforce"} {
		value, set := namespace.Labels[label]
		fmt.Fprintf(hash, "%s %t %s\n", label, set, value)
	}
	revision := workload.Expectation.Revision
	fmt.Fprintf(hash, "%s %s\n", revision, snapshot.Injector.Fingerprint(revision))
	return inputsFormat + "-" + hex.EncodeToString(hash.Sum(nil)[:16])
}

// dryRunSaysNo holds where a dry run shows that a restart would not help.
func dryRunSaysNo(c *Candidate) *hold {
	answer, known := c.answer()
	if !known || c.promises(&answer) {
		return nil
	}
	h := refusal(&answer)
	if answer.Outcome == CheckAdmitted {
		h = c.brokenPromise(&answer)
	}
	h.until, h.checkDue = answer.Retry, !c.pass.Now.Before(answer.Retry)
	return h
}

// promises reports whether the answer lets the restart go ahead: it shows that it would help, a new Pod
// takes the place of an old one, or it cannot be had and the administrator has accepted that.
func (c *Candidate) promises(answer *Check) bool {
	switch answer.Outcome {
	case CheckFitsInTurn:
		return c.method().name != v1alpha1.MethodRolloutRestart || c.workload.Object.Strategy.MaxUnavailable > 0
	case CheckUnsupported:
		return c.policy.accepts(v1alpha1.RiskUnchecked, c.workload)
	default:
		return answer.Promises(c.workload.Expectation)
	}
}

// brokenPromise: the Pod would be created, and not be as it is expected to be.
func (c *Candidate) brokenPromise(answer *Check) *hold {
	expected, observed := &c.workload.Expectation, &answer.Observed
	switch {
	case expected.Inject && observed.Proxy == mesh.ProxyNone && c.pass.Snapshot.Injector.FailurePolicyIgnore(expected.Revision):
		return &hold{reason: ReasonInjectorSilent, clearsBy: v1alpha1.ClearedByCluster,
			message: "The injector is silent: a dry run shows that a new Pod would come up without a sidecar, and the webhook's failurePolicy " +
				"is Ignore. It is asked again; if it lasts, " + mesh.HintInjectorSilent + "."}
	case expected.Inject && observed.Proxy == mesh.ProxyNone:
		return &hold{reason: ReasonWouldNotBeInjected, clearsBy: v1alpha1.ClearedByAdmin,
			message: "A dry run shows that a new Pod would come up without a sidecar, although injection is expected. Look at the injector's " +
				"log and at other webhooks that change Pods."}
	case expected.Inject && observed.Revision != expected.Revision:
		return &hold{reason: ReasonOtherRevision, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("A dry run shows that a new Pod would be injected by revision %q, where revision %q is expected. Find out "+
				"which of the webhooks injects last.", observed.Revision, expected.Revision)}
	default:
		return &hold{reason: ReasonWouldNotHelp, clearsBy: v1alpha1.ClearedByAdmin,
			message: "A dry run shows that a new Pod would be no better: " + mesh.Judge(*expected, *observed).Message}
	}
}

// refusals are what holds a workload whose new Pod would not be created, by why. What the API
// server said follows the sentence.
var refusals = map[CheckOutcome]hold{
	CheckUnreachable: {reason: ReasonInjectorUnreachable, clearsBy: v1alpha1.ClearedByCluster,
		message: "The injector cannot be reached: no new Pod could be created. It is asked again; if it lasts, " +
			mesh.HintInjectorUnreachable + "."},
	CheckDeniedByInjector: {reason: ReasonInjectorDenied, clearsBy: v1alpha1.ClearedByOwner,
		message: "The injector refuses a Pod of this template. " + mesh.HintInjectorDenied},
	CheckOverQuota: {reason: ReasonQuotaExceeded, clearsBy: v1alpha1.ClearedByOwner,
		message: "A quota has no room for a Pod with its sidecar. Raise the quota. Where it says \"must specify\", set that for the " +
			"container: for the sidecar " + mesh.HintSidecarResources + ", or by a LimitRange."},
	CheckFitsInTurn: {reason: ReasonQuotaExceeded, clearsBy: v1alpha1.ClearedByOwner,
		message: "A quota has room for a new Pod only in the place of an old one, and the rollout adds one first. Raise the quota, or let " +
			"the rollout take one down first (maxUnavailable: 1)."},
	CheckDeniedByPodSecurity: {reason: ReasonPodSecurityDenied, clearsBy: v1alpha1.ClearedByAdmin,
		message: "The namespace's PodSecurity profile refuses the sidecar's init container. " + mesh.HintPodSecurity + ", or enforce a " +
			"wider profile."},
	CheckDeniedByPolicy: {reason: ReasonDeniedByPolicy, clearsBy: v1alpha1.ClearedByAdmin,
		message: "An admission policy or webhook refuses a new Pod. It was asked under Fullmesh's account, and may answer the workload's " +
			"controller otherwise. Correct the template or that policy, or exempt Fullmesh's dry runs from it."},
	CheckNoServiceAccount: {reason: ReasonServiceAccountMissing, clearsBy: v1alpha1.ClearedByOwner,
		message: "The Pod's ServiceAccount does not exist. Create it, or name another in the template."},
	CheckDenied: {reason: ReasonCreationDenied, clearsBy: v1alpha1.ClearedByOwner,
		message: "A dry run shows that a new Pod would be refused."},
	CheckUnsupported: {reason: ReasonUnchecked, clearsBy: v1alpha1.ClearedByAdmin,
		message: "A webhook takes no part in dry runs, so nothing can show that a restart would help. Declare sideEffects: None on it, or " +
			"accept the risk with accept: [Unchecked] in the MeshPolicy, or for this workload alone with the annotation " +
			v1alpha1.AcceptAnnotation + "=Unchecked."},
	CheckNoRootCertificate: {reason: ReasonRootCertificateMissing, clearsBy: v1alpha1.ClearedByAdmin,
		message: "The namespace lacks the ConfigMap with the mesh's root certificate: an injected Pod would never start. " +
			mesh.HintRootCertificate},
	CheckRefused: {reason: ReasonRefusedByAdmission, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Admission refuses the restart. Correct the policy or webhook that it names; where that is Fullmesh's own guard, another " +
			"webhook changes the workload in the same request and must leave Fullmesh's account alone."},
	CheckNotRecorded: {reason: ReasonQuotaExceeded, clearsBy: v1alpha1.ClearedByOwner,
		message: "A quota has no room for the MeshRestart that is written before anything is restarted. Raise " +
			"count/meshrestarts.fullmesh.dev in the ResourceQuota that is named here, or remove it there."},
	CheckForbidden: {reason: ReasonCheckFailed, clearsBy: v1alpha1.ClearedByAdmin,
		message: "The operator's account may not make the dry run of a new Pod. Apply config/rbac of this version."},
	CheckFailed: {reason: ReasonCheckFailed, clearsBy: v1alpha1.ClearedByCluster,
		message: "The dry run of a new Pod had no answer; it is tried again."},
}

func refusal(answer *Check) *hold {
	h := refusals[answer.Outcome]
	h.message = strings.TrimSpace(h.message + " " + answer.Message)
	return &h
}

// answer is the dry-run check that is good for this workload now. One that said yes is good for a
// while, and never against newer evidence: a Pod that came up uninjected although it was expected.
// One that said no stands until there is another.
func (c *Candidate) answer() (Check, bool) {
	answer, known := c.pass.Answers[c.checkKey()]
	if known && c.promises(&answer) {
		known = c.pass.Now.Sub(answer.Received) < checkLasts && answer.At.Unix() > c.pass.missed.newest(c)
	}
	return answer, known
}

func (c *Candidate) checkKey() CheckKey {
	return CheckKey{UID: c.workload.Object.UID, InputsHash: c.inputsHash()}
}
