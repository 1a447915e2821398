package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Bounds of breakers.
const (
	// MaxBreakerFailures is how many failed workloads a breaker names.
	MaxBreakerFailures = 10
	// MaxInjectorBreakers is how many injector revisions a policy or a report names.
	MaxInjectorBreakers = 16
)

// BreakerState says whether a breaker stops restarts.
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

// BreakerStatus says how a breaker stands. What has failed is counted from the records on the
// workloads (annotation fullmesh.dev/last-restart), so that no change of state or failed closes a breaker;
// clearedTime, since and probesFailed are read back, and only the operator has the right to write them.
type BreakerStatus struct {
	// state says whether anything is started.
	// +required
	State BreakerState `json:"state,omitempty"`
	// since is when the breaker opened; unset while it is closed.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// retryTime is when one workload is tried alone; unset while the breaker is closed, while that is
	// being done, and when an administrator must ask for it by the annotation
	// fullmesh.dev/retry-requested.
	// +optional
	RetryTime *metav1.Time `json:"retryTime,omitempty"`
	// probe names the workload that is tried alone, for instance "Deployment shop/cart"; unset unless
	// state is Probing. What becomes of another one is no probe.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=640
	Probe string `json:"probe,omitempty"`
	// lastFailureTime is when the newest failure was; unset while the breaker is closed.
	// +optional
	LastFailureTime *metav1.Time `json:"lastFailureTime,omitempty"`
	// probesFailed is how many of those that were tried alone have failed since the breaker
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
	// failed names the newest of them, for instance "Deployment shop/cart"; unset while the breaker is
	// closed.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=640
	Failed []string `json:"failed,omitempty"`
	// clearedTime is when a workload that was tried alone came well: what had failed before no longer
	// counts. Unset where none did.
	// +optional
	ClearedTime *metav1.Time `json:"clearedTime,omitempty"`
}

// InjectorBreaker is the breaker of one injector revision, which opens when restarts brought no sidecar
// to three workloads one after the other.
type InjectorBreaker struct {
	// revision of the injector.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision,omitempty"`
	// breaker says how it stands.
	// +required
	Breaker BreakerStatus `json:"breaker,omitzero"`
}

// ServedRetry is a request to try again that was taken in. The same value is never served twice.
type ServedRetry struct {
	// value of the annotation, or a hash where it is longer than 64 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Value string `json:"value,omitempty"`
	// time is when it was taken in: what had failed until then may be restarted once more. It is the
	// year 1970 where the annotation was there before anything else was, and nothing was asked for.
	// +required
	Time metav1.Time `json:"time,omitzero"`
}
