// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cel tests the schemas and rules in config/crd against a real API server: what is
// refused, that the refusal names the field and the cure, and what is accepted.
package cel
