// Package restart decides which workloads are restarted now, which are held, and why.
//
// Decide is a pure function of the policies, a snapshot of the cluster and the time. What follows from it is done
// elsewhere. The plan command, policies in mode Report and policies in mode Enforce all run it; they differ only in
// whether somebody acts on the plan.
//
// Restarts that are in flight are judged first (inflight.go, eviction.go): they count against the budgets until
// they have ended. Every other workload goes through the phases of a decision, each a chain of small checks in a
// file of its own (chains.go lists them); the first check that holds gives the verdict. A workload that no check
// holds is restarted when it is its turn (pacing.go).
package restart
