// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Package guard attacks a real API server, under the RBAC and the admission policies in config/: with a token of
// the operator's account, for what a stolen token, or a defect, could do and must not; and with the rights that
// others have, for what they could do to the ledger.
//
// Each attack is first sent by somebody who may, as a dry-run, and must succeed: what is refused
// afterwards is refused for who sends it, not for a typo. And each refusal must come from the
// part that is there for it: RBAC, an admission policy of ours, or the API's own immutability.
package guard
