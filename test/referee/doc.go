// Package referee holds Fullmesh to what it promises about restarts, whoever plays: the simulation, or a real
// cluster. It is shown MeshRestarts, what workloads name and what was sent to the API server, as plain values, and
// shares no code with the decision.
package referee
