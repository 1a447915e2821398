// Package rollout decides which workloads are restarted now, which are held, and why.
//
// Decide is a pure function of the policies, the picture of the cluster and the time. What follows
// from it is done elsewhere. The plan command, policies in mode Report and policies in mode Enforce
// all run it; they differ only in whether somebody acts on the plan.
//
// Every workload goes through one ordered list of small checks (checks.go), each a sentence in the
// negative. The first that speaks gives the verdict; a workload on which none speaks is restarted
// when the budgets leave room for it (budget.go).
package restart
