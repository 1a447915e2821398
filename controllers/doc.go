// Package controllers is everything of Fullmesh that talks to the API server: it observes the
// cluster into the inventory's picture, runs the decision of package rollout over it, acts on what
// was decided, and reports.
//
// One reconciler does it, for one request: the whole picture. Events only say that there is
// something to look at, and many of them make one pass.
//
//	 observe.go            restart.Decide              act.go, check.go          report.go
//	informers ──► picture ───────────────► verdicts ──┬──► dry-run check ─┐
//	    ▲                                             ├──► restart        ├──► policy status,
//	    │                                             └──► outcome        │    MeshReports, Events,
//	    └──────────── what the API server answers ◄───────────────────────┘    metrics
//
// A workload's life:
//
//	complete ──label, injector, lost sidecar──► open ──┬─► held: by time, cluster, owner or admin
//	   ▲                                        ▲  ▲   │       │
//	   │                                        │  └───┼───────┘ the reason has gone
//	   │                                        │      ▼
//	   │                                        │    checked by dry run ──► restarted (in flight)
//	   └────────── succeeded ◄──────────────────┼──────────────────────────────┤
//	                                            └── failed, ineffective, reverted: held until what
//	                                                decides has changed
//
// Everything that must outlive the operator is in the cluster: on the workloads themselves the cause, in
// the template, and the record of the last restart beside it; in the status of policies and reports how
// breakers stand, which requests were served, and the recent restarts. Memory holds the picture, the
// answers of dry-run checks and what was reported last, all of which can be had anew.
package controllers
