// Package differential holds the evaluator of internal/mesh against the real thing: random
// namespaces, Pods and settings of the injector, and for each what the API server and istiod do
// with a Pod that is created in dry-run. They may not disagree once.
//
// Everything random comes from one seed, which a disagreement prints together with the objects:
//
//	go test ./test/differential -args -cases=3000 -seed=7
package differential
