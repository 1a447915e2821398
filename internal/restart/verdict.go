package restart

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

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

// Reasons of holds, in the order in which they are looked for.
const (
	ReasonNamespaceTerminating    Reason = "NamespaceTerminating"
	ReasonUnknownRecord           Reason = "UnknownRecord"
	ReasonRestartFailed           Reason = "RestartFailed"
	ReasonNotSelected             Reason = "NotSelected"
	ReasonOptedOut                Reason = "OptedOut"
	ReasonInvalidAnnotation       Reason = "InvalidAnnotation"
	ReasonNotRemediated           Reason = "NotRemediated"
	ReasonNextRunIsInjected       Reason = "NextRunIsInjected"
	ReasonNobodyRecreatesPod      Reason = "NobodyRecreatesPod"
	ReasonNotReadYet              Reason = "NotReadYet"
	ReasonTemplateUnknown         Reason = "TemplateUnknown"
	ReasonScaledToZero            Reason = "ScaledToZero"
	ReasonPaused                  Reason = "Paused"
	ReasonMeshModeConflict        Reason = "MeshModeConflict"
	ReasonEvictionDisabled        Reason = "EvictionDisabled"
	ReasonTemplateLent            Reason = "TemplateLent"
	ReasonRolloutInProgress       Reason = "RolloutInProgress"
	ReasonRolloutStuck            Reason = "RolloutStuck"
	ReasonRolledBack              Reason = "RolledBack"
	ReasonRestartIneffective      Reason = "RestartIneffective"
	ReasonRestartReverted         Reason = "RestartReverted"
	ReasonAlreadyRestarted        Reason = "AlreadyRestarted"
	ReasonInvalidMeshPolicy       Reason = "InvalidMeshPolicy"
	ReasonWouldCauseDowntime      Reason = "WouldCauseDowntime"
	ReasonStrictMTLS              Reason = "StrictMTLS"
	ReasonOwnedByOperator         Reason = "OwnedByOperator"
	ReasonInjectedPodsFailing     Reason = "InjectedPodsFailing"
	ReasonUpdatePending           Reason = "UpdatePending"
	ReasonExceedsDisruptionBudget Reason = "ExceedsDisruptionBudget"
	ReasonExceedsBudget           Reason = "ExceedsBudget"
	ReasonReportMode              Reason = "ReportMode"
	ReasonNotObserved             Reason = "NotObserved"
	ReasonStopped                 Reason = "Stopped"
	ReasonGuardMissing            Reason = "GuardMissing"
	ReasonGuardUnknown            Reason = "GuardUnknown"
	ReasonWindowClosed            Reason = "WindowClosed"
	ReasonFirstWorkloadsFailed    Reason = "FirstWorkloadsFailed"
	ReasonBreakerOpen             Reason = "BreakerOpen"
	ReasonNamespaceBreakerOpen    Reason = "NamespaceBreakerOpen"
	ReasonInjectorBreakerOpen     Reason = "InjectorBreakerOpen"
	ReasonInjectorRollingOut      Reason = "InjectorRollingOut"
	ReasonSettling                Reason = "Settling"
	ReasonInjectorSilent          Reason = "InjectorSilent"
	ReasonInjectorUnreachable     Reason = "InjectorUnreachable"
	ReasonWouldNotBeInjected      Reason = "WouldNotBeInjected"
	ReasonOtherRevision           Reason = "OtherRevision"
	ReasonWouldNotHelp            Reason = "WouldNotHelp"
	ReasonInjectorDenied          Reason = "InjectorDenied"
	ReasonQuotaExceeded           Reason = "QuotaExceeded"
	ReasonPodSecurityDenied       Reason = "PodSecurityDenied"
	ReasonDeniedByPolicy          Reason = "DeniedByPolicy"
	ReasonServiceAccountMissing   Reason = "ServiceAccountMissing"
	ReasonCreationDenied          Reason = "CreationDenied"
	ReasonUnchecked               Reason = "Unchecked"
	ReasonRootCertificateMissing  Reason = "RootCertificateMissing"
	ReasonCheckFailed             Reason = "CheckFailed"
	ReasonRefusedByAdmission      Reason = "RefusedByAdmission"
	ReasonWaitingForCapacity      Reason = "WaitingForCapacity"
	ReasonPodsNotReady            Reason = "PodsNotReady"
	ReasonSharesDisruptionBudget  Reason = "SharesDisruptionBudget"
	ReasonSoaking                 Reason = "Soaking"
	ReasonFirstWorkloadPending    Reason = "FirstWorkloadPending"
	ReasonBudgetUsedUp            Reason = "BudgetUsedUp"
)

// Step is what is to be done about a workload, now.
type Step uint8

// The steps.
const (
	// StepNone: nothing.
	StepNone Step = iota
	// StepCheck: ask the API server, with a dry run, what a new Pod would become.
	StepCheck
	// StepRestart: restart it.
	StepRestart
	// StepEvict: evict some of its Pods.
	StepEvict
	// StepFinish: write down how its restart ended.
	StepFinish
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
	// Record is what a restart or its end is written down as.
	Record inventory.Record
	// EventsOf is the Pod or workload whose last Event tells more of why a restart has failed; empty where
	// none does.
	EventsOf types.UID
	// RestartAt is the time to be set as spec.restartAt, where that is the method.
	RestartAt time.Time
	// Evict are the Pods that are to be evicted now.
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

// come is what Pods of the workload are that come now.
func (s *situation) come() string {
	if s.workload.Finding == v1alpha1.FindingLeftover {
		return "without a sidecar"
	}
	return "injected"
}

// needsSomebody reports whether the hold stays until its owner or an administrator does something.
func (h *hold) needsSomebody() bool {
	return h.clearsBy == v1alpha1.ClearedByOwner || h.clearsBy == v1alpha1.ClearedByAdmin
}

// held is the verdict on a workload of which a check has spoken.
func (s *situation) held(h *hold) Verdict {
	verdict := Verdict{
		Workload: s.workload,
		Action:   v1alpha1.ActionHold,
		Reason:   h.reason,
		Message:  h.message,
		ClearsBy: h.clearsBy,
		Method:   s.method().name,
		Until:    h.until,
	}
	if h.checkDue {
		verdict.Step = StepCheck
		verdict.CheckKey = s.checkKey()
	}
	return verdict
}
