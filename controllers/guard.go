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

// How long the result of a probe of the guard is trusted.
const (
	guardHoldsFor   = 5 * time.Minute
	guardMissingFor = 10 * time.Second
)

// What the guard forbids, and is only ever sent as a dry run: a label on a workload, and a MeshRestart of a name that
// nobody may create.
const (
	workloadProbe = `{"metadata":{"labels":{"fullmesh.dev/guard-probe":"forbidden"}}}`
	ledgerProbe   = "guard-probe"
)

// What the guard says when it refuses them (config/guard), and when the guard of the ledger is that of another account.
const (
	workloadRefusal = "in a workload's metadata nothing may change"
	ledgerRefusal   = "the name guard-probe is refused to everybody"
	foreignRefusal  = "MeshRestarts are created by the operator alone"
)

// guard finds out whether the API server holds the operator's account to restarts, and everybody else to reading
// MeshRestarts, by trying what it must refuse.
type guard struct {
	client client.Client
	now    func() time.Time
	// namespace is the operator's own, in which the ledger's guard is tried.
	namespace string
	// waived says that the administrator does without the guard of workloads. That of the ledger is never waived.
	waived bool

	mu      sync.Mutex
	state   restart.Guard
	triedAt time.Time
	// inconclusive is the workload on which something else came between.
	inconclusive mesh.Key
}

// State is what was found last.
func (g *guard) State() restart.Guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

// Try tries again where what was found is too old, on a workload of the snapshot. It returns when it
// is worth trying again.
func (g *guard) Try(ctx context.Context, snapshot *inventory.Snapshot) (time.Time, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if again := g.triedAt.Add(g.trustedFor()); !g.triedAt.IsZero() && now.Before(again) {
		return again, nil
	}
	target := g.target(snapshot)
	if target == nil && !g.waived {
		return time.Time{}, nil // there is nothing to restart either
	}
	g.triedAt = now
	var err error
	g.state, err = g.tryLedger(ctx)
	if g.state == restart.GuardHolds && !g.waived {
		g.state, err = g.tryWorkload(ctx, target)
	}
	return now.Add(g.trustedFor()), err
}

func (g *guard) tryLedger(ctx context.Context) (restart.Guard, error) {
	probe := (&inventory.Restart{
		Namespace: g.namespace, Name: ledgerProbe, Workload: mesh.Key{Group: "apps", Kind: "Deployment", Namespace: g.namespace,
			Name: ledgerProbe},
		WorkloadUID: ledgerProbe, Policy: ledgerProbe, Cause: inventory.Cause{Finding: v1alpha1.FindingMissing, Newest: 1},
		Method: v1alpha1.MethodEviction, InputsHash: ledgerProbe, Attempt: 1,
	}).MeshRestart()
	return foundOf(g.client.Create(ctx, probe, client.DryRunAll), ledgerRefusal, "creating a MeshRestart that nobody may create")
}

func (g *guard) tryWorkload(ctx context.Context, target *inventory.Object) (restart.Guard, error) {
	object, err := emptyWorkload(target.Group, target.Kind, target.Namespace, target.Name)
	if err != nil {
		return restart.GuardUnknown, err
	}
	err = g.client.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(workloadProbe)), client.DryRunAll)
	found, err := foundOf(err, workloadRefusal, "labelling "+target.Key().String())
	if found == restart.GuardUnknown {
		g.inconclusive = target.Key()
	}
	return found, err
}

// foundOf is what the answer to a forbidden request says of the guard.
func foundOf(err error, refusal, doing string) (restart.Guard, error) {
	switch {
	case err == nil, strings.Contains(err.Error(), foreignRefusal):
		return restart.GuardMissing, nil
	case strings.Contains(err.Error(), "ValidatingAdmissionPolicy") && strings.Contains(err.Error(), refusal):
		return restart.GuardHolds, nil
	default:
		return restart.GuardUnknown, fmt.Errorf("trying whether the admission guard is in force by %s: %w", doing, err)
	}
}

func (g *guard) trustedFor() time.Duration {
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

// writtenByTouch are the methods by which a workload itself is written.
var writtenByTouch = map[v1alpha1.RestartMethod]bool{v1alpha1.MethodRolloutRestart: true, v1alpha1.MethodRestartAt: true}

func targets(snapshot *inventory.Snapshot) []*inventory.Object {
	var targets []*inventory.Object
	for _, namespace := range snapshot.Namespaces {
		for _, workload := range namespace.Workloads {
			if object := workload.Object; object != nil && !namespace.Terminating && writtenByTouch[object.Is().Method] {
				targets = append(targets, object)
			}
		}
	}
	return targets
}
