// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestAPartWhosePortIsTakenMovesToAnother(t *testing.T) {
	const taken = 1
	p := scriptPart(t, `if [ "$1" = 1 ]; then echo "listen tcp: bind: address already in use"; exit 1; fi; echo up; exec sleep 1000`)
	p.ports = []int{taken}
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(p.ports, taken) {
		t.Errorf("it is still on port %d", taken)
	}
}

func TestAPartThatIsNotReadyInTimeShowsItsLog(t *testing.T) {
	p := scriptPart(t, `echo waiting for a sign; exec sleep 1000`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.ready = func(context.Context) error {
		if strings.Contains(readFrom(p.log, 0), "sign") {
			cancel()
		}
		return errors.New("no answer")
	}
	err := p.start(ctx)
	if err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{"starting script", "no answer", "waiting for a sign"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not tell %q:\n%v", want, err)
		}
	}
	if !p.proc.ended() {
		t.Error("its process still runs")
	}
}

func TestASupervisedPartIsStartedAgain(t *testing.T) {
	p := scriptPart(t, `echo up; exec sleep 1000`)
	p.supervised = true
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	current := func() *process {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.proc
	}
	first := current()
	first.kill() // not stop, which would be on purpose
	for current() == first {
		sleep(t.Context(), pollInterval)
	}
	if err := p.failure(); err != nil {
		t.Errorf("that it ended counts as a failure: %v", err)
	}
	if current().ended() {
		t.Error("it does not run")
	}
	p.stop()
	last := current()
	sleep(t.Context(), 3*pollInterval)
	if !last.ended() || current() != last {
		t.Error("it runs after it was stopped")
	}
}

// scriptPart is a part that runs a shell script with its ports as arguments,
// and is ready when the script has printed "up".
func scriptPart(t *testing.T, script string) *part {
	dir := t.TempDir()
	program := filepath.Join(dir, "script")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := &part{
		name:    "script",
		program: program,
		dir:     dir,
		log:     filepath.Join(dir, "log"),
		args: func(ports []int) []string {
			var args []string
			for _, port := range ports {
				args = append(args, strconv.Itoa(port))
			}
			return args
		},
	}
	p.ready = func(context.Context) error {
		if !strings.Contains(readFrom(p.log, 0), "up\n") {
			return errors.New("it is not up")
		}
		return nil
	}
	t.Cleanup(p.stop)
	return p
}
