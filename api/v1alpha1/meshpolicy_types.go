package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// MeshPolicy says which namespaces are to be at full mesh, what may be restarted for it, and
// how carefully.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=meshpol,categories=fullmesh
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Full mesh",type=string,JSONPath=`.status.conditions[?(@.type=="FullMesh")].status`
// +kubebuilder:printcolumn:name="Meshed",type=integer,JSONPath=`.status.pods.meshed`
// +kubebuilder:printcolumn:name="Eligible",type=integer,JSONPath=`.status.pods.eligible`
// +kubebuilder:printcolumn:name="In flight",type=integer,JSONPath=`.status.workloads.inFlight`
// +kubebuilder:printcolumn:name="Needs action",type=integer,JSONPath=`.status.workloads.needsAction`
// +kubebuilder:printcolumn:name="Restarts",type=string,JSONPath=`.status.conditions[?(@.type=="RestartsAllowed")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MeshPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what the administrator wants.
	// +required
	Spec MeshPolicySpec `json:"spec,omitzero"`
	// status says how far the cluster is.
	// +optional
	Status MeshPolicyStatus `json:"status,omitzero"`
}

// MeshPolicyList is a list of MeshPolicies.
// +kubebuilder:object:root=true
type MeshPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshPolicy `json:"items"`
}

// Mode says whether a policy restarts anything.
// +kubebuilder:validation:Enum=Report;Enforce
type Mode string

// The modes.
const (
	// ModeReport: watch and say, restart nothing.
	ModeReport Mode = "Report"
	// ModeEnforce: restart what a restart helps.
	ModeEnforce Mode = "Enforce"
)

// Risk is a danger that only the administrator can accept.
// +kubebuilder:validation:Enum=Downtime;StrictMTLS;OwnedByOperator;Unchecked
type Risk string

// The risks.
const (
	// RiskDowntime: a restart that leaves no Pod ready for a moment.
	RiskDowntime Risk = "Downtime"
	// RiskStrictMTLS: a workload that refuses plain traffic once it is in the mesh, while its
	// callers are not.
	RiskStrictMTLS Risk = "StrictMTLS"
	// RiskOwnedByOperator: a workload whose controller is not Kubernetes' own.
	RiskOwnedByOperator Risk = "OwnedByOperator"
	// RiskUnchecked: the dry-run check cannot be had.
	RiskUnchecked Risk = "Unchecked"
)

// Risks are all that there are.
var Risks = []Risk{RiskDowntime, RiskStrictMTLS, RiskOwnedByOperator, RiskUnchecked}

// MeshPolicySpec is what the administrator wants.
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'Enforce' || has(self.namespaceSelector)",message="mode Enforce needs a namespaceSelector; use namespaceSelector: {} to govern every namespace",fieldPath=".namespaceSelector",reason=FieldValueRequired
type MeshPolicySpec struct {
	// mode says whether anything is restarted: Report watches and says, Enforce restarts.
	// When unset: Report.
	// +optional
	Mode Mode `json:"mode,omitempty"`

	// priority decides between policies that select the same namespace: the highest wins, then
	// the first by name. When unset: 0.
	// +optional
	// +kubebuilder:validation:Minimum=-1000000
	// +kubebuilder:validation:Maximum=1000000
	Priority *int32 `json:"priority,omitempty"`

	// namespaceSelector selects namespaces by their labels; {} selects every one. System and
	// control-plane namespaces are reached only where they carry the label
	// fullmesh.dev/include=true. When unset: every namespace in mode Report; required in mode
	// Enforce.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// workloadSelector selects workloads by the labels of their Pod template. What it leaves
	// out is governed by nobody. When unset: every workload.
	// +optional
	WorkloadSelector *LabelSelector `json:"workloadSelector,omitempty"`

	// remediate lists the findings that are acted on. When unset: Missing.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	Remediate []Remediation `json:"remediate,omitempty"`

	// accept lists the risks that the administrator accepts. When unset: none; what carries a
	// risk is held, and the hold names the word that would accept it.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4
	Accept []Risk `json:"accept,omitempty"`

	// settleSeconds is the quiet time after the last change of a namespace's labels, of a
	// template or of the injector before anything is restarted. When unset: 30. Never below
	// 2: API servers match webhooks from their own, slightly older view of namespaces.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=86400
	SettleSeconds *int32 `json:"settleSeconds,omitempty"`

	// budgets bound what restarts at once. All apply and the tightest wins. When unset: five
	// workloads and 100 Pods in the policy, 5% of the workloads in each namespace.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Budgets []Budget `json:"budgets,omitempty"`

	// soakSeconds is how long the first workload of a namespace must be well before the others
	// start. When unset: 0, the others start as soon as the first is in the mesh.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	SoakSeconds *int32 `json:"soakSeconds,omitempty"`

	// windows say when restarts may start; what has begun may finish. Where some allow, nothing
	// starts outside of them, and nothing ever starts in one that denies. When unset: restarts may
	// start at any time.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Windows []Window `json:"windows,omitempty"`

	// failure says when a restart has failed and what follows. When unset: no progress for 600
	// seconds is a failure, and three failed workloads stop the policy for an hour.
	// +optional
	Failure *FailurePolicy `json:"failure,omitempty"`
}

// Remediation is a finding that can be acted on.
// +kubebuilder:validation:Enum=Missing;Stale;Leftover
type Remediation string

// LabelSelector selects objects by their labels, like the selector of the same name in
// Kubernetes. What Kubernetes would only find wrong when it evaluates the selector is refused
// here when it is written.
type LabelSelector struct {
	// matchLabels maps labels to the value they must have. When unset: no such requirement.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, key.indexOf('/') <= 253 && key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="each key of matchLabels must be a label key: an optional DNS prefix and a slash, then at most 63 letters, digits, dots, dashes and underscores"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions are requirements that must all hold. When unset: none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",message="a label value has letters, digits, dots, dashes and underscores, and begins and ends with a letter or digit"
type LabelValue string

// LabelSelectorRequirement is one requirement of a LabelSelector.
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",message="values: In and NotIn need at least one value, Exists and DoesNotExist take none"
type LabelSelectorRequirement struct {
	// key is the label that is looked at.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.indexOf('/') <= 253 && self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",message="key must be a label key: an optional DNS prefix and a slash, then at most 63 letters, digits, dots, dashes and underscores"
	Key string `json:"key,omitempty"`

	// operator relates the label to the values.
	// +required
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator metav1.LabelSelectorOperator `json:"operator,omitempty"`

	// values are what In and NotIn compare with. When unset: none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Values []LabelValue `json:"values,omitempty"`
}

// BudgetScope says what a budget is counted over.
// +kubebuilder:validation:Enum=Policy;Namespace
type BudgetScope string

// The scopes.
const (
	// BudgetScopePolicy: over everything that the policy governs.
	BudgetScopePolicy BudgetScope = "Policy"
	// BudgetScopeNamespace: over each namespace by itself.
	BudgetScopeNamespace BudgetScope = "Namespace"
)

// Budget bounds what restarts at once.
// +kubebuilder:validation:XValidation:rule="has(self.workloads) || has(self.pods)",message="a budget needs workloads or pods, or both"
type Budget struct {
	// scope says what the budget is counted over.
	// +required
	Scope BudgetScope `json:"scope,omitempty"`

	// workloads is how many workloads may be restarting at once: a number, or a percentage of
	// the governed workloads of which injection expects Pods or has left sidecars over, rounded
	// up. 0 allows nothing. When unset: not bounded by this budget.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 100000 : self.matches('^([0-9]|[1-9][0-9]|100)%$')",message="workloads must be a number from 0 to 100000 without quotes, or a percentage from 0% to 100%"
	Workloads *intstr.IntOrString `json:"workloads,omitempty"`

	// pods is how many Pods may be unavailable or on top of what is asked for at once, because
	// of restarts: a number, or a percentage of the Pods of those workloads, rounded up. A workload
	// that takes more by itself is held. 0 allows nothing. When unset: not bounded by this budget.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 100000 : self.matches('^([0-9]|[1-9][0-9]|100)%$')",message="pods must be a number from 0 to 100000 without quotes, or a percentage from 0% to 100%"
	Pods *intstr.IntOrString `json:"pods,omitempty"`
}

// WindowAction says whether restarts may start in a window.
// +kubebuilder:validation:Enum=Allow;Deny
type WindowAction string

// The actions.
const (
	// WindowAllow: restarts may start inside of the window, and not outside of such ones.
	WindowAllow WindowAction = "Allow"
	// WindowDeny: no restart may start inside of the window.
	WindowDeny WindowAction = "Deny"
)

// Window is a time in which restarts may start (Allow) or may not (Deny).
type Window struct {
	// action says whether restarts may start in the window: Allow or Deny. Deny beats Allow.
	// +required
	Action WindowAction `json:"action,omitempty"`

	// schedule is when the window begins, in cron's five fields: minute, hour, day of month,
	// month, day of week. A time that the clock skips when daylight saving begins is left out that
	// day; one that it shows twice when daylight saving ends begins the window twice.
	// +required
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Za-z*,/?-]+( +[0-9A-Za-z*,/?-]+){4}$')",message="schedule must be cron's five fields: minute, hour, day of month, month, day of week; for instance 0 22 * * 1-5"
	Schedule string `json:"schedule,omitempty"`

	// durationMinutes is how long the window lasts, in minutes.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10080
	DurationMinutes int32 `json:"durationMinutes,omitempty"`

	// timeZone is the name of the zone of the schedule in the IANA database. When unset: UTC.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self != 'Local' && self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')",message="timeZone must be the name of a zone in the IANA database, for instance Europe/Berlin"
	TimeZone string `json:"timeZone,omitempty"`
}

// FailurePolicy says when a restart has failed and what follows.
type FailurePolicy struct {
	// progressTimeoutSeconds is for how long no further Pod may have become ready in the mesh
	// before a restart has failed, on top of the template's grace period, startup probe and
	// the workload's minReadySeconds. When unset: 600.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	ProgressTimeoutSeconds *int32 `json:"progressTimeoutSeconds,omitempty"`

	// stopAfter is how many distinct workloads must have failed for the policy to start nothing more:
	// its breaker opens. A namespace stops alone after two, and no more of one namespace count. When
	// unset: 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	StopAfter *int32 `json:"stopAfter,omitempty"`

	// coolDownSeconds is how long an open breaker waits after the newest failure before one workload
	// is tried alone. When that goes well the breaker closes; when it fails the wait is doubled, and
	// after three of them somebody must ask by the annotation fullmesh.dev/retry-requested. When
	// unset: 3600.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=604800
	CoolDownSeconds *int32 `json:"coolDownSeconds,omitempty"`
}

// MeshPolicyStatus says how far the namespaces of a policy are.
type MeshPolicyStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, FullMesh and RestartsAllowed, and Reconciling and Stalled while
	// they are true.
	//
	// Ready is True (Observed) when this status is about the current spec, False (InvalidSpec, and
	// Stalled with it) when that cannot be used, Unknown (WatchStale) while the cluster cannot be
	// watched.
	//
	// FullMesh is True (AllMeshed) when every eligible Pod is in the mesh, False
	// (InProgress, WorkloadsHeld, NoneExpected) when not, Unknown (WatchStale, InvalidSpec) while
	// that cannot be told.
	//
	// RestartsAllowed is True (Enforcing) when workloads may be restarted, False (ReportMode,
	// Stopped, GuardMissing, CacheNotSynced, WindowClosed, BreakerOpen, InvalidSpec) when not, Unknown
	// (GuardUnknown, WatchStale) while that cannot be told.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// namespaces counts the namespaces that follow this policy.
	// +optional
	Namespaces *NamespaceCounts `json:"namespaces,omitempty"`

	// workloads counts the workloads in them.
	// +optional
	Workloads *WorkloadCounts `json:"workloads,omitempty"`

	// pods counts the Pods in them.
	// +optional
	Pods *PodCounts `json:"pods,omitempty"`

	// breaker stops all restarts under this policy when too many have failed (failure.stopAfter).
	// When unset: it is closed.
	// +optional
	Breaker *BreakerStatus `json:"breaker,omitempty"`
}

// NamespaceCounts counts namespaces.
type NamespaceCounts struct {
	// matched is how many namespaces follow the policy.
	// +required
	// +kubebuilder:validation:Minimum=0
	Matched *int32 `json:"matched,omitempty"`
	// complete is how many of them have every eligible Pod in the mesh.
	// +required
	// +kubebuilder:validation:Minimum=0
	Complete *int32 `json:"complete,omitempty"`
}

// WorkloadCounts counts workloads by what is done about them.
type WorkloadCounts struct {
	// complete is how many need nothing.
	// +required
	// +kubebuilder:validation:Minimum=0
	Complete *int32 `json:"complete,omitempty"`
	// inFlight is how many are being restarted.
	// +required
	// +kubebuilder:validation:Minimum=0
	InFlight *int32 `json:"inFlight,omitempty"`
	// willRestart is how many are restarted next.
	// +required
	// +kubebuilder:validation:Minimum=0
	WillRestart *int32 `json:"willRestart,omitempty"`
	// waiting is how many are held by something that ends by itself.
	// +required
	// +kubebuilder:validation:Minimum=0
	Waiting *int32 `json:"waiting,omitempty"`
	// needsAction is how many are held until somebody does something.
	// +required
	// +kubebuilder:validation:Minimum=0
	NeedsAction *int32 `json:"needsAction,omitempty"`
}

// PodCounts counts running Pods.
type PodCounts struct {
	// eligible is how many Pods injection expects in the mesh, without those of Jobs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Eligible *int32 `json:"eligible,omitempty"`
	// meshed is how many of the eligible Pods are in the mesh, of whatever revision: a stale sidecar counts.
	// +required
	// +kubebuilder:validation:Minimum=0
	Meshed *int32 `json:"meshed,omitempty"`
	// notExpected is how many Pods injection does not expect in the mesh.
	// +required
	// +kubebuilder:validation:Minimum=0
	NotExpected *int32 `json:"notExpected,omitempty"`
}

// Condition types.
const (
	ConditionReady           = "Ready"
	ConditionReconciling     = "Reconciling"
	ConditionStalled         = "Stalled"
	ConditionFullMesh        = "FullMesh"
	ConditionRestartsAllowed = "RestartsAllowed"
	ConditionSettled         = "Settled"
)

// Condition reasons.
const (
	ReasonObserved       = "Observed"
	ReasonWatchStale     = "WatchStale"
	ReasonAllMeshed      = "AllMeshed"
	ReasonInProgress     = "InProgress"
	ReasonWorkloadsHeld  = "WorkloadsHeld"
	ReasonNoneExpected   = "NoneExpected"
	ReasonEnforcing      = "Enforcing"
	ReasonReportMode     = "ReportMode"
	ReasonStopped        = "Stopped"
	ReasonGuardMissing   = "GuardMissing"
	ReasonBreakerOpen    = "BreakerOpen"
	ReasonGuardUnknown   = "GuardUnknown"
	ReasonCacheNotSynced = "CacheNotSynced"
	ReasonWindowClosed   = "WindowClosed"
	ReasonNothingLeft    = "NothingLeft"
	ReasonInvalidSpec    = "InvalidSpec"
)
