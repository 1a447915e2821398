// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Package guard attacks a real API server with a token of the operator's account, under the RBAC
// and the admission policies in config/: what a stolen token, or a defect, could do and must not.
//
// Each attack is first sent by an administrator, as a dry-run, and must succeed: what is refused
// afterwards is refused for who sends it, not for a typo. And each refusal must come from the
// part that is there for it: RBAC, an admission policy of ours, or the API's own immutability.
package guard
