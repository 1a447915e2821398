package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Bounds of a MeshRestart.
const (
	// MaxRestartName is how long the name of a MeshRestart may be, in bytes: it is also written on the
	// template of the workload.
	MaxRestartName = 63
	// MaxEvicting is how many Pods one round of evictions may name.
	MaxEvicting = 64
)

// MeshRestart records one restart of one workload. It is written before the workload is touched, by the
// operator only, and says what is intended and why; its end is written into status. All MeshRestarts together
// are what Fullmesh knows of the restarts it has made.
//
// A MeshRestart goes with its workload, but for one that tries a policy's circuit breaker, which is about other
// namespaces as well. Whoever deletes those of a workload that still runs allows another
// restart for each cause; config/guard leaves that to the operator and to whoever may delete MeshRestarts in
// all namespaces.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=mrestart,categories=fullmesh
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.workload.kind`
// +kubebuilder:printcolumn:name="Workload",type=string,JSONPath=`.spec.workload.name`
// +kubebuilder:printcolumn:name="Finding",type=string,JSONPath=`.spec.cause.finding`
// +kubebuilder:printcolumn:name="Method",type=string,JSONPath=`.spec.method`
// +kubebuilder:printcolumn:name="Result",type=string,JSONPath=`.status.conditions[?(@.type=="Finished")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Finished")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name of a MeshRestart has at most 63 characters; the operator writes them"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.conditions) || oldSelf.status.conditions.all(o, o.type != 'Finished' || has(self.status) && has(self.status.conditions) && self.status.conditions.exists(n, n.type == 'Finished' && (n.reason == o.reason || o.reason == 'Failed' && n.reason == 'Succeeded')))",message="a result never changes, but for Failed, which may become Succeeded"
type MeshRestart struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is restarted and why. It never changes.
	// +required
	Spec MeshRestartSpec `json:"spec,omitzero"`
	// status says how the restart ended.
	// +optional
	Status MeshRestartStatus `json:"status,omitzero"`
}

// MeshRestartList is a list of MeshRestarts.
// +kubebuilder:object:root=true
type MeshRestartList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshRestart `json:"items"`
}

// MeshRestartSpec is what was intended and why, as it stood when the restart was decided on.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="what a MeshRestart says of a restart never changes"
// +kubebuilder:validation:XValidation:rule="has(self.restartAt) == (self.method == 'RestartAt')",message="restartAt belongs to the method RestartAt, and to no other"
type MeshRestartSpec struct {
	// workload is what is restarted.
	// +required
	Workload RestartedWorkload `json:"workload,omitzero"`

	// policy is the name of the MeshPolicy under which the restart was made. It counts against that policy's
	// budgets until it ends, and against those of the policy that governs the namespace then.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Policy string `json:"policy,omitempty"`

	// cause is why the workload needed a restart.
	// +required
	Cause RestartCause `json:"cause,omitzero"`

	// method is how it is restarted.
	// +required
	Method RestartMethod `json:"method,omitempty"`

	// restartAt is the time that is set as spec.restartAt of an Argo Rollout; unset for other methods.
	// +optional
	RestartAt *metav1.Time `json:"restartAt,omitempty"`

	// inputsHash is a hash over what decided that a restart would help: the template, the namespace's injection
	// labels, the injector. A restart that failed is tried anew when it changes. It begins with its format.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	InputsHash string `json:"inputsHash,omitempty"`

	// replicas is how many Pods the workload asked for.
	// +required
	// +kubebuilder:validation:Minimum=0
	Replicas *int32 `json:"replicas,omitempty"`

	// readyReplicas is how many of its Pods were ready: what was not ready before is not held against the
	// restart.
	// +required
	// +kubebuilder:validation:Minimum=0
	ReadyReplicas *int32 `json:"readyReplicas,omitempty"`

	// podsAtOnce is how many Pods the restart takes down or adds at once, as the strategy said when it was decided
	// on. It counts against budgets for no more than that, whatever becomes of the strategy and of the number of
	// Pods meanwhile. When unset: what the strategy says now.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PodsAtOnce *int32 `json:"podsAtOnce,omitempty"`

	// attempt is one more than the highest among the workload's MeshRestarts that existed.
	// +required
	// +kubebuilder:validation:Minimum=1
	Attempt int32 `json:"attempt,omitempty"`

	// excused counts how many restarts before this one were without effect, one after the other, for a reason
	// that is not held against the workload. When unset: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Excused *int32 `json:"excused,omitempty"`

	// probes are the circuit breakers that this restart tries; when unset: none.
	// +optional
	// +listType=map
	// +listMapKey=scope
	// +kubebuilder:validation:MaxItems=2
	Probes []BreakerProbe `json:"probes,omitempty"`

	// requests are the requests to try again that stood when the restart was decided on. A value that differs
	// from these later is a new request.
	// +optional
	Requests *RetryRequests `json:"requests,omitempty"`
}

// RestartedWorkload names a workload in the MeshRestart's own namespace, as it was decided on.
type RestartedWorkload struct {
	WorkloadReference `json:",inline"`

	// uid is the object's UID: another object of the same name is another workload.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	UID string `json:"uid,omitempty"`

	// generation is the object's generation. The workload is touched only while it has it, and touching it moves
	// it: one MeshRestart touches its workload at most once.
	// +required
	// +kubebuilder:validation:Minimum=0
	Generation *int64 `json:"generation,omitempty"`
}

// RestartCause is why a workload needs a restart. There is at most one restart per cause.
type RestartCause struct {
	// finding is what is wrong with the workload's Pods.
	// +required
	// +kubebuilder:validation:XValidation:rule="self in ['Missing', 'Stale', 'Leftover']",message="a restart helps against Missing, Stale and Leftover only"
	Finding Finding `json:"finding,omitempty"`

	// revision is the injector revision that a new Pod gets; unset where it gets no sidecar.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision,omitempty"`

	// newestPodTime is when the newest Pod was created that must be replaced.
	// +required
	NewestPodTime metav1.Time `json:"newestPodTime,omitzero"`
}

// BreakerScope says what a circuit breaker stops.
// +kubebuilder:validation:Enum=Policy;Namespace
type BreakerScope string

// The scopes.
const (
	// BreakerScopePolicy: everything under one policy.
	BreakerScopePolicy BreakerScope = "Policy"
	// BreakerScopeNamespace: one namespace alone.
	BreakerScopeNamespace BreakerScope = "Namespace"
)

// BreakerProbe says that a restart is made alone, to see whether a circuit breaker may be closed.
type BreakerProbe struct {
	// scope is which of the breakers.
	// +required
	Scope BreakerScope `json:"scope,omitempty"`
	// number says which probe it is since that breaker opened, from 1.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Number int32 `json:"number,omitempty"`
}

// RetryRequests are values of the annotation fullmesh.dev/retry-requested. Where a value is longer than 64
// bytes, a hash stands for it.
// +kubebuilder:validation:MinProperties=1
type RetryRequests struct {
	// workload is the value on the workload; unset where it had none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Workload string `json:"workload,omitempty"`
	// namespace is the value on its Namespace; unset where it had none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Namespace string `json:"namespace,omitempty"`
	// policy is the value on the MeshPolicy; unset where it had none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Policy string `json:"policy,omitempty"`
}

// RestartExcuse is why it is not held against a workload that its restart was without effect.
// +kubebuilder:validation:Enum=ChangedJustBefore;InjectorSilent
type RestartExcuse string

// The excuses.
const (
	ExcuseChangedJustBefore RestartExcuse = "ChangedJustBefore"
	ExcuseInjectorSilent    RestartExcuse = "InjectorSilent"
)

// ConditionFinished is the type of the condition that ends a MeshRestart.
const ConditionFinished = "Finished"

// MeshRestartStatus says how a restart ended.
// +kubebuilder:validation:XValidation:rule="has(self.endTime) == (has(self.conditions) && self.conditions.exists(c, c.type == 'Finished'))",message="endTime is set when the restart has ended, and only then"
type MeshRestartStatus struct {
	// conditions has Finished when the restart has ended. It is always True, and its reason is the result:
	// Succeeded, Failed, Ineffective, Reverted or Interrupted. Its message says what happened.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(c, c.type != 'Finished' || c.status == 'True' && c.reason in ['Succeeded', 'Failed', 'Ineffective', 'Reverted', 'Interrupted'])",message="Finished is True, and its reason is Succeeded, Failed, Ineffective, Reverted or Interrupted"
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// endTime is when the restart ended; unset while it is in flight. It is written with Finished.
	// +optional
	EndTime *metav1.Time `json:"endTime,omitempty"`

	// excuse is why it is not held against the workload that the restart was Ineffective: ChangedJustBefore (the
	// Pods were created so soon after a change of labels or webhooks that they were made by the former ones) or
	// InjectorSilent (the injector did not answer, and the webhook's failurePolicy is Ignore). Unset where
	// nothing excuses it.
	// +optional
	Excuse RestartExcuse `json:"excuse,omitempty"`

	// evicting are the UIDs of the Pods of the current round of evictions: each of them may be down, whether or
	// not that has been seen.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Evicting []string `json:"evicting,omitempty"`
}
