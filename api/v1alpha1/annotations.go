package v1alpha1

// Annotations that owners set.
const (
	// RestartAnnotation, on a Namespace, a workload or its template, with the value
	// "disabled": reported as ever, never restarted. No other value is known.
	RestartAnnotation = "fullmesh.dev/restart"
	// RestartDisabled is the only value of RestartAnnotation.
	RestartDisabled = "disabled"

	// AcceptAnnotation, on a workload, accepts the risks it lists (comma separated, see Risk)
	// for that workload alone.
	AcceptAnnotation = "fullmesh.dev/accept"

	// RetryAnnotation, on a workload, a Namespace or a MeshPolicy, asks for another try: whatever has
	// failed there, was without effect or was taken back may be restarted once more, and its circuit breaker
	// closes. Each new value asks once.
	RetryAnnotation = "fullmesh.dev/retry-requested"

	// CanaryAnnotation, on a workload, with the value "true": where nothing shows yet that injection works in its
	// namespace, this workload is restarted alone before the others. No other value is known.
	CanaryAnnotation = "fullmesh.dev/canary"
)

// FieldManager is the operator's field manager. It must not begin with "kubectl": Flux takes what
// such managers wrote for its own and removes it
// (https://github.com/fluxcd/kustomize-controller/pull/527).
const FieldManager = "fullmesh"

// IncludeLabel, on a system or control-plane namespace, with the value "true", lets a
// MeshPolicy's selector reach it. Without the label such a namespace is governed by nobody.
const IncludeLabel = "fullmesh.dev/include"

// Annotations that the operator writes.
const (
	// RestartedByAnnotation, on a template, holds the name of the MeshRestart that restarted the workload last.
	// Setting it is what restarts the workload, and all that is ever written to one; of an Argo Rollout,
	// spec.restartAt is set in its place.
	RestartedByAnnotation = "fullmesh.dev/restarted-by"
)

// StopConfigMap is the name of the red button: while a ConfigMap of this name exists in the
// operator's namespace, nothing is started.
const StopConfigMap = "fullmesh-stop"

// ReportName is the name of the one MeshReport of a namespace.
const ReportName = "mesh"

// Finding is what a workload's expectation is, held against what its Pods carry.
// +kubebuilder:validation:Enum=Meshed;Missing;Stale;Leftover;NotExpected
type Finding string

// The findings.
const (
	// FindingMeshed: every Pod that injection expects carries the sidecar that it gives now.
	FindingMeshed Finding = "Meshed"
	// FindingMissing: the sidecar is missing, or the traffic capture that makes it useful.
	FindingMissing Finding = "Missing"
	// FindingStale: another revision or proxy image than injection gives now.
	FindingStale Finding = "Stale"
	// FindingLeftover: a sidecar, though none is expected.
	FindingLeftover Finding = "Leftover"
	// FindingNotExpected: no sidecar is expected and none is there.
	FindingNotExpected Finding = "NotExpected"
)

// Action is what Fullmesh does about a workload now.
// +kubebuilder:validation:Enum=None;Restart;InFlight;Hold
type Action string

// The actions.
const (
	// ActionNone: there is nothing to do.
	ActionNone Action = "None"
	// ActionRestart: the workload is restarted now.
	ActionRestart Action = "Restart"
	// ActionInFlight: a restart was started and has not ended.
	ActionInFlight Action = "InFlight"
	// ActionHold: the workload needs a restart and does not get one now; the reason says why.
	ActionHold Action = "Hold"
)

// ClearedBy says who or what ends a hold.
// +kubebuilder:validation:Enum=Time;Cluster;Owner;Admin
type ClearedBy string

// Who ends a hold.
const (
	// ClearedByTime: waiting is enough.
	ClearedByTime ClearedBy = "Time"
	// ClearedByCluster: the cluster heals it by itself.
	ClearedByCluster ClearedBy = "Cluster"
	// ClearedByOwner: the workload's owner must do something.
	ClearedByOwner ClearedBy = "Owner"
	// ClearedByAdmin: the administrator of the mesh or of the policy must do something.
	ClearedByAdmin ClearedBy = "Admin"
)
