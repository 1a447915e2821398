package rollout

import (
	"time"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// situation is what the checks look at: one workload in its namespace, under the policy that
// governs it.
type situation struct {
	in        *Input
	namespace *inventory.Namespace
	policy    *Policy
	windows   Stretch
	workload  *inventory.Workload

	// decidedNow and methodNow are filled in by decided() and method().
	decidedNow string
	methodNow  *method
	// laterCloses is from when on a window that is open now will be closed for this workload.
	laterCloses time.Time
	// podLimit is how many Pods the policy's budgets let be down at once; -1 where none says so.
	podLimit int
}

// decided is the hash over what decides about this workload now.
func (s *situation) decided() string {
	if s.decidedNow == "" {
		s.decidedNow = decided(s.in.Snapshot, s.namespace, s.workload)
	}
	return s.decidedNow
}

// check answers nil where it has nothing against a restart.
type check struct {
	name string
	ask  func(*situation) *hold
}

// checksOfAll are asked first, also about what is complete: a restart that failed is told of even where its
// Pods have come into the mesh.
var checksOfAll = []check{
	{"NamespaceIsTerminating", namespaceIsTerminating},
	{"RecordIsUnknown", recordIsUnknown},
	{"LastRestartFailed", lastRestartFailed},
}

// checks are asked in this order, and the first that speaks gives the verdict. What somebody must end comes
// before what only waits: a window that opens next week hides no risk that has to be accepted first, and
// mode Report tells what would be left in Enforce. What changes by itself comes last.
var checks = []check{
	{"IsNotSelected", isNotSelected},
	{"IsOptedOut", isOptedOut},
	{"AcceptsWhatIsNoRisk", acceptsWhatIsNoRisk},
	{"FirstAnnotationIsInvalid", firstAnnotationIsInvalid},
	{"FindingIsNotRemediated", findingIsNotRemediated},
	{"IsAJob", isAJob},
	{"NobodyRecreatesIt", nobodyRecreatesIt},
	{"HasNotBeenRead", hasNotBeenRead},
	{"TemplateIsUnknown", templateIsUnknown},
	{"IsScaledToZero", isScaledToZero},
	{"IsPaused", isPaused},
	{"SidecarAndAmbientAreBothAskedFor", sidecarAndAmbientAreBothAskedFor},
	{"NoPodCanBeCreated", noPodCanBeCreated},
	{"EvictionIsDisabled", evictionIsDisabled},
	{"TemplateIsLent", templateIsLent},
	{"AnotherRolloutIsGoingOn", anotherRolloutIsGoingOn},
	{"AnotherRestartIsAskedFor", anotherRestartIsAskedFor},
	{"StatefulSetWaitsForItsPods", statefulSetWaitsForItsPods},
	{"ArgoWaitsForItsPods", argoWaitsForItsPods},
	{"OwnerRolledItBack", ownerRolledItBack},
	{"CauseWasTriedAlready", causeWasTriedAlready},
	{"PolicyCannotBeUsed", policyCannotBeUsed},
	{"WouldCauseDowntime", wouldCauseDowntime},
	{"WouldRefuseItsCallers", unlessItEnds(wouldRefuseItsCallers)},
	{"IsOwnedByOperator", isOwnedByOperator},
	{"InjectedPodsAreFailing", injectedPodsAreFailing},
	{"UpdateIsPending", updateIsPending},
	{"NeverFitsItsDisruptionBudget", unlessItEnds(exceedsDisruptionBudget)},
	{"PolicyOnlyReports", policyOnlyReports},
	{"PictureIsOld", pictureIsOld},
	{"ClusterHasNotBeenRead", clusterHasNotBeenRead},
	{"RedButtonIsPressed", redButtonIsPressed},
	{"GuardIsNotProven", guardIsNotProven},
	{"WindowIsClosed", windowIsClosed},
	{"FirstWorkloadsFailed", firstWorkloadsFailed},
	{"BreakerIsOpen", breakerIsOpen},
	{"InjectorIsNotAtRest", injectorIsNotAtRest},
	{"IsSettling", isSettling},
	{"WaitsForItsCallers", wouldRefuseItsCallers},
	{"DryRunCheckSaysNo", dryRunCheckSaysNo},
	{"CapacityIsMissing", capacityIsMissing},
	{"EvictionWaitsForItsPods", evictionWaitsForItsPods},
	{"ExceedsDisruptionBudget", exceedsDisruptionBudget},
}

// unlessItEnds asks a check about what somebody must end, and not about what ends by itself.
func unlessItEnds(ask func(*situation) *hold) func(*situation) *hold {
	return func(s *situation) *hold {
		if spoken := ask(s); spoken != nil && spoken.needsSomebody() {
			return spoken
		}
		return nil
	}
}

// seconds formats a time for messages.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }
