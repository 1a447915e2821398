package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/rollout"
)

// How long it is believed what was found of the guard.
const (
	guardHoldsFor   = 5 * time.Minute
	guardMissingFor = 10 * time.Second
)

// guardProbe is a change that the guard forbids. It is only ever sent as a dry run.
const guardProbe = `{"metadata":{"labels":{"fullmesh.dev/guard-probe":"forbidden"}}}`

// guard finds out whether the API server holds the operator's account to restarts, by trying what
// it must refuse.
type guard struct {
	client client.Client
	now    func() time.Time
	// waived says that the administrator does without.
	waived bool

	mu      sync.Mutex
	state   rollout.Guard
	triedAt time.Time
}

// State is what was found last.
func (g *guard) State() rollout.Guard {
	if g.waived {
		return rollout.GuardHolds
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// Try tries again where what was found is too old, on a workload of the picture. It returns when it
// is worth trying again.
func (g *guard) Try(ctx context.Context, snapshot *inventory.Snapshot) (time.Time, error) {
	if g.waived {
		return time.Time{}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if again := g.triedAt.Add(g.believedFor()); !g.triedAt.IsZero() && now.Before(again) {
		return again, nil
	}
	target := anyWorkload(snapshot)
	if target == nil {
		return time.Time{}, nil
	}
	object, err := emptyWorkload(target)
	if err != nil {
		return time.Time{}, err
	}
	err = g.client.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(guardProbe)), client.DryRunAll)
	g.triedAt = now
	switch {
	case err == nil:
		g.state = rollout.GuardMissing
	case strings.Contains(err.Error(), "ValidatingAdmissionPolicy"):
		g.state = rollout.GuardHolds
	default:
		g.state = rollout.GuardUnknown
		return now.Add(g.believedFor()), fmt.Errorf("trying whether the admission guard holds, on %s: %w", target.Key(), err)
	}
	return now.Add(g.believedFor()), nil
}

func (g *guard) believedFor() time.Duration {
	if g.state == rollout.GuardHolds {
		return guardHoldsFor
	}
	return guardMissingFor
}

// anyWorkload is a workload of a kind that the guard is about; nil where there is none.
func anyWorkload(snapshot *inventory.Snapshot) *inventory.Object {
	for _, namespace := range snapshot.Namespaces {
		for _, workload := range namespace.Workloads {
			if object := workload.Object; object != nil && !namespace.Terminating {
				if _, err := emptyWorkload(object); err == nil {
					return object
				}
			}
		}
	}
	return nil
}
