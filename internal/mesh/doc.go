// Package mesh holds the facts of sidecar injection: what admission would do to a new Pod of a
// template (Expectation), what a running Pod carries (Observation), and what follows when the
// one is held against the other (Finding).
//
// Everything here is a pure function of objects that were read elsewhere.
package mesh
