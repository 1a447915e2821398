package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// How long it is believed what was found of the guard.
const (
	guardHoldsFor   = 5 * time.Minute
	guardMissingFor = 10 * time.Second
)

// guardProbe is a change that the guard forbids. It is only ever sent as a dry run.
const guardProbe = `{"metadata":{"labels":{"fullmesh.dev/guard-probe":"forbidden"}}}`

// isGuard reports whether it is the guard that refuses, and no policy of somebody else: the guard
// names the annotation that may be written.
func isGuard(err error) bool {
	return strings.Contains(err.Error(), "ValidatingAdmissionPolicy") && strings.Contains(err.Error(), v1alpha1.LastRestartAnnotation)
}

// guard finds out whether the API server holds the operator's account to restarts, by trying what
// it must refuse.
type guard struct {
	client client.Client
	now    func() time.Time
	// waived says that the administrator does without.
	waived bool

	mu      sync.Mutex
	state   restart.Guard
	triedAt time.Time
	// inconclusive is the workload on which something else came between.
	inconclusive mesh.Key
}

// State is what was found last.
func (g *guard) State() restart.Guard {
	if g.waived {
		return restart.GuardHolds
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
	target := g.target(snapshot)
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
		g.state = restart.GuardMissing
	case isGuard(err):
		g.state = restart.GuardHolds
	default:
		g.state = restart.GuardUnknown
		g.inconclusive = target.Key()
		return now.Add(g.believedFor()), fmt.Errorf("trying whether the admission guard holds, on %s: %w", target.Key(), err)
	}
	return now.Add(g.believedFor()), nil
}

func (g *guard) believedFor() time.Duration {
	if g.state == restart.GuardHolds {
		return guardHoldsFor
	}
	return guardMissingFor
}

// target is a workload of a kind that the guard is about; nil where there is none. It is the one
// after that on which nothing could be told: a webhook that keeps one workload from being written
// must not keep all of them from being restarted.
func (g *guard) target(snapshot *inventory.Snapshot) *inventory.Object {
	targets := targets(snapshot)
	if len(targets) == 0 {
		return nil
	}
	last := slices.IndexFunc(targets, func(object *inventory.Object) bool { return object.Key() == g.inconclusive })
	return targets[(last+1)%len(targets)]
}

func targets(snapshot *inventory.Snapshot) []*inventory.Object {
	var targets []*inventory.Object
	for _, namespace := range snapshot.Namespaces {
		for _, workload := range namespace.Workloads {
			// ReplicaSets may be written only where Pods may be evicted.
			if object := workload.Object; object != nil && !namespace.Terminating && object.Kind != "ReplicaSet" {
				if _, err := emptyWorkload(object); err == nil {
					targets = append(targets, object)
				}
			}
		}
	}
	return targets
}
