package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MaxReportedWorkloads is how many workloads a report lists.
const MaxReportedWorkloads = 64

// MeshReport says how far one namespace is, what is being done about it, and why the rest is
// left. The operator writes one, named "mesh", into every governed namespace in which injection
// is expected or a sidecar is found, and deletes it when that ends.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=meshrep,categories=fullmesh
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.status.policy`
// +kubebuilder:printcolumn:name="Full mesh",type=string,JSONPath=`.status.conditions[?(@.type=="FullMesh")].status`
// +kubebuilder:printcolumn:name="Meshed",type=integer,JSONPath=`.status.pods.meshed`
// +kubebuilder:printcolumn:name="Eligible",type=integer,JSONPath=`.status.pods.eligible`
// +kubebuilder:printcolumn:name="Settled",type=string,JSONPath=`.status.conditions[?(@.type=="Settled")].status`
// +kubebuilder:printcolumn:name="Why",type=string,JSONPath=`.status.conditions[?(@.type=="FullMesh")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'mesh'",message="a MeshReport is named mesh; there is one per namespace and the operator writes it"
type MeshReport struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status says how far the namespace is.
	// +optional
	Status MeshReportStatus `json:"status,omitzero"`
}

// MeshReportList is a list of MeshReports.
// +kubebuilder:object:root=true
type MeshReportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshReport `json:"items"`
}

// MeshReportStatus says how far one namespace is.
type MeshReportStatus struct {
	// policy is the name of the MeshPolicy that the namespace follows.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Policy string `json:"policy,omitempty"`

	// pods counts the namespace's running Pods.
	// +optional
	Pods *ReportedPods `json:"pods,omitempty"`

	// conditions are Ready, FullMesh and Settled, and Reconciling and Stalled while they are
	// true.
	//
	// Ready is True (Observed) when this status is about what was seen last. All are Unknown (WatchStale)
	// while the cluster cannot be watched.
	//
	// FullMesh is True (AllMeshed) when every eligible Pod is in the mesh, and False
	// (InProgress, WorkloadsHeld, NoneExpected) when not; NoneExpected means that no Pod is
	// eligible.
	//
	// Settled is True (NothingLeft) when nothing is left that Fullmesh will do by itself, and
	// False (InProgress) when something is.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// workloads are those that are not complete, the worst first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Workloads []ReportedWorkload `json:"workloads,omitempty"`

	// omittedWorkloads is how many more are not complete than are listed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	OmittedWorkloads *int32 `json:"omittedWorkloads,omitempty"`

	// breaker stops restarts in the namespace alone when those of two workloads have failed. When
	// unset: it is closed.
	// +optional
	Breaker *BreakerStatus `json:"breaker,omitempty"`
}

// ReportedPods counts a namespace's running Pods.
type ReportedPods struct {
	// eligible is how many Pods injection expects in the mesh, without those of Jobs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Eligible *int32 `json:"eligible,omitempty"`
	// meshed is how many of the eligible Pods are in the mesh, of whatever revision: a stale sidecar counts.
	// +required
	// +kubebuilder:validation:Minimum=0
	Meshed *int32 `json:"meshed,omitempty"`
	// notExpected counts the Pods that injection does not expect in the mesh, by reason.
	// +optional
	// +listType=map
	// +listMapKey=reason
	// +kubebuilder:validation:MaxItems=32
	NotExpected []NotExpectedPods `json:"notExpected,omitempty"`
}

// NotExpectedPods counts Pods that injection does not expect in the mesh for one reason.
type NotExpectedPods struct {
	// reason is why, for instance PodLabelOptOut or HostNetwork.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// pods is how many.
	// +required
	// +kubebuilder:validation:Minimum=1
	Pods int32 `json:"pods,omitempty"`
}

// WorkloadReference names a workload in the report's own namespace.
type WorkloadReference struct {
	// group is the API group; when unset, the core group.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// kind is the kind, for instance Deployment.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`
	// name is the object's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// RestartMethod is how a workload is restarted.
// +kubebuilder:validation:Enum=RolloutRestart;Eviction;RestartAt
type RestartMethod string

// The methods.
const (
	// MethodRolloutRestart: a change of the template, which the kind's own controller rolls out.
	MethodRolloutRestart RestartMethod = "RolloutRestart"
	// MethodEviction: the Pods that must be replaced are evicted, a few at a time, and nothing else.
	MethodEviction RestartMethod = "Eviction"
	// MethodRestartAt: spec.restartAt of an Argo Rollout, whose controller then evicts.
	MethodRestartAt RestartMethod = "RestartAt"
)

// ReportedWorkload is one workload that is not complete.
type ReportedWorkload struct {
	WorkloadReference `json:",inline"`

	// pods is how many Pods it runs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Pods *int32 `json:"pods,omitempty"`
	// meshed is how many of them are in the mesh.
	// +required
	// +kubebuilder:validation:Minimum=0
	Meshed *int32 `json:"meshed,omitempty"`
	// finding is what is wrong.
	// +required
	Finding Finding `json:"finding,omitempty"`
	// action is what is done about it.
	// +required
	Action Action `json:"action,omitempty"`
	// method is how it is restarted, or would be once a hold has ended; unset where it cannot be.
	// +optional
	Method RestartMethod `json:"method,omitempty"`
	// reason is why, as one word.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// clearsBy says who or what ends a hold; unset when the action is not Hold.
	// +optional
	ClearsBy ClearedBy `json:"clearsBy,omitempty"`
	// since is when action and reason became what they are.
	// +required
	Since metav1.Time `json:"since,omitzero"`
	// message is why, as a sentence with the cure.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// RestartResult is how a restart ended.
type RestartResult string

// The results.
const (
	// ResultSucceeded: every Pod is in the mesh and ready.
	ResultSucceeded RestartResult = "Succeeded"
	// ResultFailed: no further Pod became ready in the mesh in time, or the owner rolled the restart back
	// (kubectl rollout undo).
	ResultFailed RestartResult = "Failed"
	// ResultIneffective: the Pods were replaced and came up without the sidecar.
	ResultIneffective RestartResult = "Ineffective"
	// ResultReverted: somebody took the restart back before it had ended.
	ResultReverted RestartResult = "Reverted"
	// ResultInterrupted: it was not brought to its end. Somebody kept the last Pods from being evicted, a rollout of
	// the workload's owner overtook it, the workload was scaled to zero or deleted, or no sidecar is expected any
	// more.
	ResultInterrupted RestartResult = "Interrupted"
)
