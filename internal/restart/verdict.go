package restart

import (
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Reason is why a verdict is what it is, as one word that does not change its meaning.
type Reason string

// Reasons of what is done.
const (
	ReasonRestartDue        Reason = "RestartDue"
	ReasonRestartInProgress Reason = "RestartInProgress"
	ReasonRestartEnded      Reason = "RestartEnded"
	ReasonEvictionHeld      Reason = "EvictionHeld"
)

// Reasons of holds, by the phase in which they are found.
const (
	// eligibility
	ReasonNamespaceTerminating      Reason = "NamespaceTerminating"
	ReasonWorkloadTerminating       Reason = "WorkloadTerminating"
	ReasonNotSelected               Reason = "NotSelected"
	ReasonOptedOut                  Reason = "OptedOut"
	ReasonInvalidAnnotation         Reason = "InvalidAnnotation"
	ReasonNotRemediated             Reason = "NotRemediated"
	ReasonJobRunsToCompletion       Reason = "JobRunsToCompletion"
	ReasonNoController              Reason = "NoController"
	ReasonCacheNotSynced            Reason = "CacheNotSynced"
	ReasonTemplateUnknown           Reason = "TemplateUnknown"
	ReasonScaledToZero              Reason = "ScaledToZero"
	ReasonPaused                    Reason = "Paused"
	ReasonMeshModeConflict          Reason = "MeshModeConflict"
	ReasonEvictionDisabled          Reason = "EvictionDisabled"
	ReasonTemplateSharedWithRollout Reason = "TemplateSharedWithRollout"
	// history
	ReasonRestartFailed      Reason = "RestartFailed"
	ReasonRestartIneffective Reason = "RestartIneffective"
	ReasonRestartReverted    Reason = "RestartReverted"
	ReasonAlreadyRestarted   Reason = "AlreadyRestarted"
	// safety
	ReasonRolloutStuck            Reason = "RolloutStuck"
	ReasonWouldCauseDowntime      Reason = "WouldCauseDowntime"
	ReasonStrictMTLS              Reason = "StrictMTLS"
	ReasonOwnedByOperator         Reason = "OwnedByOperator"
	ReasonInjectedPodsFailing     Reason = "InjectedPodsFailing"
	ReasonWaitingForCapacity      Reason = "WaitingForCapacity"
	ReasonUpdatePending           Reason = "UpdatePending"
	ReasonExceedsDisruptionBudget Reason = "ExceedsDisruptionBudget"
	ReasonExceedsBudget           Reason = "ExceedsBudget"
	// gate
	ReasonInvalidMeshPolicy Reason = "InvalidMeshPolicy"
	ReasonReportMode        Reason = "ReportMode"
	ReasonWatchStale        Reason = "WatchStale"
	ReasonStopped           Reason = "Stopped"
	ReasonGuardMissing      Reason = "GuardMissing"
	ReasonGuardUnknown      Reason = "GuardUnknown"
	ReasonWindowClosed      Reason = "WindowClosed"
	ReasonBreakerOpen       Reason = "BreakerOpen"
	// readiness
	ReasonRolloutInProgress    Reason = "RolloutInProgress"
	ReasonCanaryFailed         Reason = "CanaryFailed"
	ReasonNamespaceBreakerOpen Reason = "NamespaceBreakerOpen"
	ReasonInjectorRollingOut   Reason = "InjectorRollingOut"
	ReasonSettling             Reason = "Settling"
	ReasonSpecKeepsChanging    Reason = "SpecKeepsChanging"
	ReasonPodsNotReady         Reason = "PodsNotReady"
	// evidence
	ReasonInjectorSilent         Reason = "InjectorSilent"
	ReasonInjectorUnreachable    Reason = "InjectorUnreachable"
	ReasonWouldNotBeInjected     Reason = "WouldNotBeInjected"
	ReasonOtherRevision          Reason = "OtherRevision"
	ReasonWouldNotHelp           Reason = "WouldNotHelp"
	ReasonInjectorDenied         Reason = "InjectorDenied"
	ReasonQuotaExceeded          Reason = "QuotaExceeded"
	ReasonPodSecurityDenied      Reason = "PodSecurityDenied"
	ReasonDeniedByPolicy         Reason = "DeniedByPolicy"
	ReasonServiceAccountMissing  Reason = "ServiceAccountMissing"
	ReasonCreationDenied         Reason = "CreationDenied"
	ReasonUnchecked              Reason = "Unchecked"
	ReasonRootCertificateMissing Reason = "RootCertificateMissing"
	ReasonCheckFailed            Reason = "CheckFailed"
	ReasonRefusedByAdmission     Reason = "RefusedByAdmission"
	// pacing
	ReasonSharesDisruptionBudget Reason = "SharesDisruptionBudget"
	ReasonSoaking                Reason = "Soaking"
	ReasonCanaryInProgress       Reason = "CanaryInProgress"
	ReasonBudgetExhausted        Reason = "BudgetExhausted"
)

// Step is what must be done about a workload, now.
type Step uint8

// The steps.
const (
	// StepNone: nothing.
	StepNone Step = iota
	// StepCheck: ask the API server, with a dry run, what a new Pod would become.
	StepCheck
	// StepRestart: create the MeshRestart and touch the workload.
	StepRestart
	// StepEvict: write the Pods of the next round into the MeshRestart and evict them. Where none is named, those of
	// the round before are taken off.
	StepEvict
	// StepFinish: write into the MeshRestart how the restart ended.
	StepFinish
	// StepRecheck: read from the API server what became of the restart.
	StepRecheck
)

// Verdict is what is decided about one workload.
type Verdict struct {
	Workload *inventory.Workload
	Action   v1alpha1.Action
	Reason   Reason
	// Message is the reason as a sentence; of a hold it names the cure.
	Message string
	// ClearsBy says who ends a hold.
	ClearsBy v1alpha1.ClearedBy
	// Method is how the workload is restarted, or would be once a hold has ended; empty where it
	// cannot be.
	Method v1alpha1.RestartMethod

	Step Step
	// Restart is what the MeshRestart will say after the step; nil where there is none.
	Restart *inventory.Restart
	// Evict are the Pods that are evicted now.
	Evict []*mesh.Pod
	// CheckKey names the dry-run check that this verdict rests on or asks for.
	CheckKey CheckKey
	// Until is when time alone may change the verdict; zero where it may not.
	Until time.Time
}

// Waits reports whether the verdict is a hold that ends without anybody doing anything.
func (v *Verdict) Waits() bool {
	return v.Action == v1alpha1.ActionHold && (v.ClearsBy == v1alpha1.ClearedByTime || v.ClearsBy == v1alpha1.ClearedByCluster)
}

// NeedsAction reports whether the verdict is a hold that somebody must end.
func (v *Verdict) NeedsAction() bool {
	return v.Action == v1alpha1.ActionHold && !v.Waits()
}

// hold is a verdict without its workload: what a check answers.
type hold struct {
	reason   Reason
	clearsBy v1alpha1.ClearedBy
	message  string
	until    time.Time
	// checkDue says that a new dry-run check may end the hold and that it is time to ask.
	checkDue bool
}

// needsSomebody reports whether the hold stays until its owner or an administrator does something.
func (h *hold) needsSomebody() bool {
	return h.clearsBy == v1alpha1.ClearedByOwner || h.clearsBy == v1alpha1.ClearedByAdmin
}
