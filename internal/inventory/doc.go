// Package inventory is what is known of the cluster, from which decisions are made: namespaces, their
// workloads, and for each workload what injection expects of its Pods and how many carry it.
//
// The inventory is kept up to date event by event. A Pod's event changes a few counters and marks
// its workload as changed; judging is put off until the next snapshot, and then costs one
// judgement per distinct observation of the workloads that changed, not one per Pod. A change of
// a namespace's labels or of the injector marks the workloads concerned.
//
// What is looked at (Snapshot) is never changed afterwards.
package inventory
