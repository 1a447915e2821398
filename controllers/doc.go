// Package controllers is everything of Fullmesh that talks to the API server: it observes the
// cluster into the inventory, runs the decision of package restart over it, acts on what
// was decided, and reports.
//
// One reconciler does it, for one request: the whole inventory. Events only say that there is
// something to look at, and many of them make one pass.
//
//	 observe.go            restart.Decide              act.go, check.go          report.go
//	informers ──► inventory ─────────────► verdicts ──┬──► dry-run check ─┐
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
// Everything that must outlive the operator is in the cluster, in MeshRestarts. Memory holds the inventory, the answers of
// dry-run checks, how evictions went and what was reported last, all of which can be had anew.
package controllers
