// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Program is a program that was started beside a cluster. It dies with the
// process that started it, as the cluster does.
type Program struct {
	process *process
}

// StartProgram starts a command. Output, arguments and environment are the
// command's own.
func StartProgram(cmd *exec.Cmd) (*Program, error) {
	process, err := startProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(cmd.Path), err)
	}
	return &Program{process: process}, nil
}

// Kill ends the program with SIGKILL and waits until it is gone.
func (p *Program) Kill() { p.process.kill() }

// Stop asks the program to end with SIGTERM and waits until it is gone. The
// error is how it ended.
func (p *Program) Stop() error {
	// An error means that it has ended already.
	_ = p.process.cmd.Process.Signal(syscall.SIGTERM)
	<-p.process.done
	return p.process.err
}

// Done is closed when the program has ended.
func (p *Program) Done() <-chan struct{} { return p.process.done }
