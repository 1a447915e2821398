package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BreakerState says whether a circuit breaker stops restarts.
// +kubebuilder:validation:Enum=Closed;Open;Probing
type BreakerState string

// The states.
const (
	// BreakerClosed: restarts go on.
	BreakerClosed BreakerState = "Closed"
	// BreakerOpen: nothing more is started.
	BreakerOpen BreakerState = "Open"
	// BreakerProbing: one workload is restarted alone, to see whether it goes well.
	BreakerProbing BreakerState = "Probing"
)

// BreakerStatus shows a circuit breaker. It is counted from the MeshRestarts, and nothing is decided from what
// stands here.
type BreakerStatus struct {
	// state says whether anything is started.
	// +required
	State BreakerState `json:"state,omitempty"`
	// since is when the breaker opened; unset while it is closed.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// retryTime is when one workload is restarted alone; unset while the breaker is closed, while that is
	// being done, and when an administrator must ask for it by the annotation
	// fullmesh.dev/retry-requested.
	// +optional
	RetryTime *metav1.Time `json:"retryTime,omitempty"`
	// probesFailed is how many of those that were restarted alone have failed since the breaker
	// opened; unset while it is closed. After three an administrator must ask.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	ProbesFailed *int32 `json:"probesFailed,omitempty"`
	// failedWorkloads is how many failed workloads count: of one namespace at most two, except in the
	// namespace's own breaker. Unset while the breaker is closed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	FailedWorkloads *int32 `json:"failedWorkloads,omitempty"`
}
