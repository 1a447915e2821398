// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows a partially injected namespace being healed: a shop that ran before its
// namespace was labelled, what fullmesh plan says of it, and how the operator brings it to full
// mesh, under its own ServiceAccount with the RBAC and the guard of config/.
//
// It runs on a cluster of its own (package test/cluster), or, with CLUSTER=current, on that of the
// current kubeconfig, where it removes everything that it made. It ends by itself, with exit status
// 0 when full mesh was reached.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// cleanUpTimeout bounds how long removing everything may take.
const cleanUpTimeout = 3 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Who interrupts the cleaning up, too, means it.
	context.AfterFunc(ctx, stop)
	if err := run(ctx, newVoice(os.Stdout), os.Getenv("CLUSTER")); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

var errInterrupted = errors.New("interrupted")

func run(ctx context.Context, say *voice, where string) (err error) {
	begin := time.Now()
	d := &demo{say: say}
	defer func() {
		if ctx.Err() != nil {
			say.text("Interrupted: cleaning up.")
			err = errInterrupted // whatever failed by it
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		err = errors.Join(err, d.cleanUp(ctx))
		if err == nil {
			say.text("The demo took %s and has left nothing behind.", time.Since(begin).Round(time.Second))
		}
	}()
	switch where {
	case "", "embedded":
		err = d.startCluster(ctx)
	case "current":
		err = d.useCurrentCluster()
	default:
		return fmt.Errorf("CLUSTER is %q; it can be embedded (the default) or current", where)
	}
	if err != nil {
		return err
	}
	return d.show(ctx)
}

// show tells the story.
func (d *demo) show(ctx context.Context) error {
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"A shop runs, and no mesh knows of it", d.openShop},
		{"The label lands, and the namespace is partially injected", d.labelShop},
		{"What would be restarted, and why: fullmesh plan", d.plan},
		{"Fullmesh is installed: least rights, and a guard that holds it to them", d.install},
		{"A MeshPolicy says what is wanted", d.applyPolicy},
		{"The shop is brought into the mesh", d.followUntilHeld},
		{"What is held is held for a reason, and has a cure", d.acceptDowntime},
		{"Full mesh", d.sumUp},
	} {
		d.say.chapter(chapter.title)
		if err := chapter.tell(ctx); err != nil && ctx.Err() != nil {
			return err
		} else if err != nil {
			return errors.Join(err, d.evidence(context.WithoutCancel(ctx)))
		}
	}
	return nil
}
