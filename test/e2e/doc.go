// Package e2e tests the promises of the README on a real cluster with real Istio: the operator runs
// as its own ServiceAccount, under the RBAC and the guard from config/, so a missing permission
// fails a test. Only the kubelets are simulated.
package e2e
