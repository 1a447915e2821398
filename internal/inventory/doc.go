// Package inventory is the picture of the cluster that decisions are made from: namespaces, their
// workloads, and for each workload what injection expects of its Pods and how many carry it.
//
// The picture is kept up to date event by event. A Pod's event changes a few counters and marks
// its workload as changed; judging is put off until the picture is looked at, and then costs one
// judgement per distinct observation of the workloads that changed, not one per Pod. A change of
// a namespace's labels or of the injector marks the workloads concerned.
//
// What is looked at (Snapshot) is never changed afterwards.
package inventory
