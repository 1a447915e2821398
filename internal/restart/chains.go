package restart

import (
	"slices"
	"time"
)

// check answers nil where it has nothing against a restart. It reads and never writes.
type check struct {
	name string
	run  func(*Candidate) *hold
}

// phase is a chain of checks that all ask the same kind of question. The first that holds gives the verdict.
type phase struct {
	name   string
	checks []check
}

// The phases of a decision. What somebody must end comes before what only waits: a window that opens next week hides
// no risk that must be accepted first, and mode Report says what would be left in Enforce, but for what only a
// dry run shows: none is made for what would not be restarted anyway. What changes by itself comes last.
var (
	// eligibility: is it ours to touch?
	eligibility = phase{"eligibility", []check{
		{"NamespaceIsTerminating", namespaceIsTerminating},
		{"WorkloadIsTerminating", workloadIsTerminating},
		{"IsNotSelected", isNotSelected},
		{"IsOptedOut", isOptedOut},
		{"AcceptAnnotationIsInvalid", acceptAnnotationIsInvalid},
		{"CanaryAnnotationIsInvalid", canaryAnnotationIsInvalid},
		{"FindingIsNotRemediated", findingIsNotRemediated},
		{"IsAJob", isAJob},
		{"HasNoController", hasNoController},
		{"OwnerIsNotRead", ownerIsNotRead},
		{"TemplateIsUnknown", templateIsUnknown},
		{"IsScaledToZero", isScaledToZero},
		{"IsPaused", isPaused},
		{"SidecarAndAmbientConflict", sidecarAndAmbientConflict},
		{"EvictionIsDisabled", evictionIsDisabled},
		{"TemplateIsShared", templateIsShared},
	}}
	// history: was it tried?
	history = phase{"history", []check{
		{"LastRestartFailed", lastRestartFailed},
		{"RestartWasIneffective", restartWasIneffective},
		{"RestartWasReverted", restartWasReverted},
		{"WasAlreadyRestarted", wasAlreadyRestarted},
	}}
	// safety: would it do harm? What a person must end holds before what only waits, and what only waits yields to
	// the gate.
	safety = phase{"safety", []check{
		{"AnotherRolloutIsInProgress", anotherRolloutIsInProgress},
		{"AnotherRestartIsRequested", anotherRestartIsRequested},
		{"StatefulSetWaitsForItsPods", statefulSetWaitsForItsPods},
		{"ArgoWaitsForItsPods", argoWaitsForItsPods},
		{"WouldCauseDowntime", wouldCauseDowntime},
		{"WouldRefuseItsCallers", wouldRefuseItsCallers},
		{"IsOwnedByOperator", isOwnedByOperator},
		{"InjectedPodsAreFailing", injectedPodsAreFailing},
		{"CapacityIsMissing", capacityIsMissing},
		{"UpdateIsPending", updateIsPending},
		{"ExceedsDisruptionBudget", exceedsDisruptionBudget},
		{"NeverFitsABudget", neverFitsABudget},
	}}
	// readiness: is now the time?
	readiness = phase{"readiness", []check{
		{"CanaryHasFailed", canaryHasFailed},
		{"NamespaceBreakerIsOpen", namespaceBreakerIsOpen},
		{"InjectorIsDegraded", injectorIsDegraded},
		{"IsSettling", isSettling},
		{"SpecKeepsChanging", specKeepsChanging},
		{"EvictionWaitsForItsPods", evictionWaitsForItsPods},
	}}
	// evidence: would it help?
	evidence = phase{"evidence", []check{
		{"DryRunSaysNo", dryRunSaysNo},
	}}
	// pacing: whose turn is it? These are asked last of all, of one workload after the other: their answers depend on
	// what else is restarted.
	pacing = phase{"pacing", []check{
		{"IsNotTheProbe", isNotTheProbe},
		{"SharesDisruptionBudget", sharesDisruptionBudget},
		{"CanaryIsInProgress", canaryIsInProgress},
		{"LeavesNoRoom", leavesNoRoom},
	}}
)

// What is asked at other moments.
var (
	// whenComplete: of a workload that is as it should be. A restart that failed is named even where its Pods have
	// come into the mesh.
	whenComplete = phase{"when complete", []check{
		{"NamespaceIsTerminating", namespaceIsTerminating},
		{"LastRestartFailed", lastRestartFailed},
	}}
	// toKeepEvicting: before every further eviction, while others are under way: what somebody has said since, and
	// whether injection still works.
	toKeepEvicting = phase{"to keep evicting", []check{
		{"NamespaceIsTerminating", namespaceIsTerminating},
		{"IsNotSelected", isNotSelected},
		{"IsOptedOut", isOptedOut},
		{"FindingIsNotRemediated", findingIsNotRemediated},
		{"IsScaledToZero", isScaledToZero},
		{"IsPaused", isPaused},
		{"SidecarAndAmbientConflict", sidecarAndAmbientConflict},
		{"EvictionIsDisabled", evictionIsDisabled},
		{"IsOwnedByOperator", isOwnedByOperator},
		{"InjectedPodsAreFailing", injectedPodsAreFailing},
		{"EvictionsAreStopped", evictionsAreStopped},
		{"InjectorIsDegraded", injectorIsDegraded},
		{"IsSettling", isSettling},
		{"DryRunSaysNo", dryRunSaysNo},
	}}
	// toStartARound: before a round of evictions, when all that was evicted is back. What these look at moves while
	// it is not.
	toStartARound = phase{"to start a round of evictions", []check{
		{"AnotherRolloutIsInProgress", anotherRolloutIsInProgress},
		{"WouldCauseDowntime", wouldCauseDowntime},
		{"WouldRefuseItsCallers", wouldRefuseItsCallers},
		{"CapacityIsMissing", capacityIsMissing},
		{"UpdateIsPending", updateIsPending},
		{"ExceedsDisruptionBudget", exceedsDisruptionBudget},
		{"NeverFitsABudget", neverFitsABudget},
	}}
	// byHand: of a person who may restart the workload: what would do harm or no good whoever does it.
	byHand = phase{"by hand", []check{
		{"WouldCauseDowntime", wouldCauseDowntime},
		{"WouldRefuseItsCallers", wouldRefuseItsCallers},
		{"IsOwnedByOperator", isOwnedByOperator},
		{"InjectedPodsAreFailing", injectedPodsAreFailing},
		{"UpdateIsPending", updateIsPending},
		{"ExceedsDisruptionBudget", exceedsDisruptionBudget},
	}}
)

// phases are those of a decision, in their order. The gate is asked once per policy.
var phases = []phase{eligibility, history, safety, {name: gatePhase}, readiness, evidence, pacing}

// run asks the checks in their order. The first that holds gives the answer; nil where none does.
func (p phase) run(c *Candidate) *hold {
	for i := range p.checks {
		if h := p.ask(c, &p.checks[i]); h != nil {
			return h
		}
	}
	return nil
}

// runAll asks every check, and gives what a person must end before what only waits. It may change as soon as any of
// those that were asked does.
func (p phase) runAll(c *Candidate) *hold {
	var waits *hold
	var until time.Time
	for i := range p.checks {
		h := p.ask(c, &p.checks[i])
		if h == nil {
			continue
		}
		until = earlier(until, h.until)
		if h.needsSomebody() {
			h.until = until
			return h
		}
		if waits == nil {
			waits = h
		}
	}
	if waits != nil {
		waits.until = until
	}
	return waits
}

func (p phase) ask(c *Candidate, check *check) *hold {
	h := check.run(c)
	if r := c.pass.recorder; r != nil && r.workload == c.workload {
		r.record(c, p.name, check.name, h != nil)
	}
	return h
}

// holdBeforePacing is what holds the workload whatever else is restarted; nil where nothing does.
func (c *Candidate) holdBeforePacing() *hold {
	if h := eligibility.run(c); h != nil {
		return h
	}
	if h := history.run(c); h != nil {
		return h
	}
	unsafe, gate := safety.runAll(c), c.pass.gates[c.policy]
	if unsafe != nil && (gate == nil || unsafe.needsSomebody()) {
		return unsafe
	}
	c.pass.recordGate(c)
	if gate != nil {
		h := gate.about(c.workload)
		if unsafe != nil {
			h.until = earlier(h.until, unsafe.until)
		}
		return h
	}
	if h := readiness.run(c); h != nil {
		return h
	}
	return evidence.run(c)
}

// names lists the checks of a phase.
func (p phase) names() []string {
	var names []string
	for _, check := range p.checks {
		names = append(names, check.name)
	}
	return slices.Clip(names)
}
