// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cluster

import "syscall"

// sysProcAttr keeps signals that a terminal sends to this process away from a
// child. Only Linux can tie a child's life to its parent's: elsewhere the
// processes of a test that is killed have to be ended by hand.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
