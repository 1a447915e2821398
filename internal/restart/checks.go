package restart

import (
	"iter"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// situation is what the checks look at: one workload in its namespace, under the policy that
// governs it.
type situation struct {
	pass      *pass
	namespace *inventory.Namespace
	policy    *Policy
	windows   Stretch
	workload  *inventory.Workload

	// decidedNow and methodNow are filled in by decided() and method().
	decidedNow string
	methodNow  *method
	// begunUnder is the policy whose budgets the workload's restart counts against beside those of policy: it
	// has begun it, and governed the namespace then. Nil where policy itself has, or nobody knows.
	begunUnder *Policy
	// place is how the workload is being restarted that takes a place in the budgets; empty where it takes none.
	place v1alpha1.RestartMethod
	// untold says that the workload does not tell of that restart any more.
	untold bool
	// look is when time alone may change what a check was silent about; zero where it may not.
	look time.Time
	// podLimit is how many Pods the policy's budgets let be down at once; -1 where none says so.
	podLimit int
}

// decided is the hash over what decides about this workload now.
func (s *situation) decided() string {
	if s.decidedNow == "" {
		s.decidedNow = decided(s.pass.Snapshot, s.namespace, s.workload)
	}
	return s.decidedNow
}

// check answers nil where it has nothing against a restart.
type check struct {
	name string
	ask  func(*situation) *hold
	occasions
}

// occasions are when a check is asked beside before a restart, and of whom it is not.
type occasions uint8

const (
	// whenComplete: about what is complete as well. A restart that failed is told of even where its Pods have
	// come into the mesh.
	whenComplete occasions = 1 << iota
	// beforeEviction: before every further eviction, whatever is on its way: what somebody has said since, and
	// whether injection still works.
	beforeEviction
	// betweenRounds: when all that was evicted is back. What they look at moves while it is not.
	betweenRounds
	// asRisk: for a person who may restart the workload instead.
	asRisk
	// notOfCallers: not about those whom another workload would refuse in the mesh. Any other hold that somebody
	// must end keeps them out, and that workload waits for nothing; this one keeps all of them where they are.
	notOfCallers
	// ofRevision: the same of callers that the same revision injects.
	ofRevision
)

// checks are asked in this order, and the first that speaks gives the verdict. What somebody must end comes
// before what only waits: a window that opens next week hides no risk that has to be accepted first, and
// mode Report tells what would be left in Enforce, but for what only a dry run shows: none is made for what would
// not be restarted anyway. What changes by itself comes last.
//
// It is a function because one of them asks others about other workloads.
func checks() []check {
	return []check{
		{"NamespaceIsTerminating", namespaceIsTerminating, whenComplete | beforeEviction},
		{"RecordIsUnknown", recordIsUnknown, whenComplete},
		{"LastRestartFailed", lastRestartFailed, whenComplete},
		{"IsNotSelected", isNotSelected, beforeEviction},
		{"IsOptedOut", isOptedOut, beforeEviction},
		{"AcceptsWhatIsNoRisk", acceptsWhatIsNoRisk, 0},
		{"FirstAnnotationIsInvalid", firstAnnotationIsInvalid, 0},
		{"FindingIsNotRemediated", findingIsNotRemediated, beforeEviction},
		{"IsAJob", isAJob, 0},
		{"NobodyRecreatesIt", nobodyRecreatesIt, 0},
		{"HasNotBeenRead", hasNotBeenRead, 0},
		{"TemplateIsUnknown", templateIsUnknown, 0},
		{"IsScaledToZero", isScaledToZero, beforeEviction},
		{"IsPaused", isPaused, beforeEviction},
		{"SidecarAndAmbientAreBothAskedFor", sidecarAndAmbientAreBothAskedFor, beforeEviction},
		{"EvictionIsDisabled", evictionIsDisabled, beforeEviction},
		{"TemplateIsLent", templateIsLent, 0},
		{"AnotherRolloutIsGoingOn", anotherRolloutIsGoingOn, betweenRounds},
		{"AnotherRestartIsAskedFor", anotherRestartIsAskedFor, 0},
		{"StatefulSetWaitsForItsPods", statefulSetWaitsForItsPods, 0},
		{"ArgoWaitsForItsPods", argoWaitsForItsPods, 0},
		{"OwnerRolledItBack", ownerRolledItBack, 0},
		{"CauseWasTriedAlready", causeWasTriedAlready, 0},
		{"PolicyCannotBeUsed", policyCannotBeUsed, beforeEviction},
		{"WouldCauseDowntime", wouldCauseDowntime, betweenRounds | asRisk},
		{"WouldRefuseItsCallers", unlessItEnds(wouldRefuseItsCallers), 0},
		{"IsOwnedByOperator", isOwnedByOperator, beforeEviction | asRisk},
		{"InjectedPodsAreFailing", injectedPodsAreFailing, beforeEviction | asRisk},
		{"IsUnschedulable", unlessItEnds(capacityIsMissing), 0},
		{"UpdateIsPending", updateIsPending, betweenRounds | asRisk},
		{"NeverFitsItsDisruptionBudget", unlessItEnds(exceedsDisruptionBudget), 0},
		{"NeverFitsABudget", neverFitsABudget, betweenRounds},
		{"PolicyOnlyReports", policyOnlyReports, beforeEviction | notOfCallers},
		{"PictureIsOld", pictureIsOld, 0},
		{"ClusterHasNotBeenRead", clusterHasNotBeenRead, beforeEviction | notOfCallers},
		{"RedButtonIsPressed", redButtonIsPressed, beforeEviction | notOfCallers},
		{"GuardIsNotProven", guardIsNotProven, beforeEviction | notOfCallers},
		{"WindowIsClosed", windowIsClosed, notOfCallers},
		{"FirstWorkloadsFailed", firstWorkloadsFailed, 0},
		{"BreakerIsOpen", breakerIsOpen, 0},
		{"InjectorIsNotAtRest", injectorIsNotAtRest, beforeEviction | ofRevision},
		{"IsSettling", isSettling, beforeEviction},
		{"WaitsForItsCallers", wouldRefuseItsCallers, betweenRounds | asRisk},
		{"DryRunCheckSaysNo", dryRunCheckSaysNo, beforeEviction},
		{"CapacityIsMissing", capacityIsMissing, betweenRounds},
		{"EvictionWaitsForItsPods", evictionWaitsForItsPods, 0},
		{"ExceedsDisruptionBudget", exceedsDisruptionBudget, betweenRounds | asRisk},
	}
}

// checksBesideOthers are asked last of all, about one workload after the other: their answers depend on what
// else is restarted.
var checksBesideOthers = []check{
	{"IsNotTheProbe", isNotTheProbe, 0},
	{"SharesDisruptionBudget", sharesDisruptionBudget, 0},
	{"FirstWorkloadIsNotWell", firstWorkloadIsNotWell, 0},
	{"LeavesNoRoom", leavesNoRoom, 0},
}

// checksAlso are those that are asked on one of the occasions as well, in their order.
func (p *pass) checksAlso(at occasions) iter.Seq[check] {
	return func(yield func(check) bool) {
		for _, check := range p.checks {
			if check.occasions&at != 0 && !yield(check) {
				return
			}
		}
	}
}

// firstOf is what the first of several checks says that speaks; nil where none does.
func firstOf(checks iter.Seq[check], s *situation) *hold {
	for check := range checks {
		if spoken := check.put(s); spoken != nil {
			return spoken
		}
	}
	return nil
}

// unlessItEnds asks a check about what somebody must end, and not about what ends by itself.
func unlessItEnds(ask func(*situation) *hold) func(*situation) *hold {
	return func(s *situation) *hold {
		spoken := ask(s)
		if spoken != nil && !spoken.needsSomebody() {
			s.look = earlier(s.look, spoken.until)
			return nil
		}
		return spoken
	}
}

// seconds formats a time for messages.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }
