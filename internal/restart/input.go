package restart

import (
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Guard says whether the API server holds the operator's account to restarts, and others to reading MeshRestarts.
type Guard uint8

// The states.
const (
	GuardUnknown Guard = iota
	GuardMissing
	GuardHolds
)

// Input is everything that a decision depends on. All of it is values: what arrives while it is decided belongs to
// the next decision.
type Input struct {
	Now      time.Time
	Snapshot *inventory.Snapshot
	Policies []*Policy
	// System are namespaces that are governed only where a label on them says so, in addition to those of the
	// mesh's control planes.
	System sets.Set[string]
	// WatchStale says which watch is broken; empty where the snapshot is kept up to date.
	WatchStale string
	// Stopped says that the red button is pressed.
	Stopped bool
	Guard   Guard
	// Answers are those of dry-run checks. Where it is nil, none is asked for and each is taken to be yes.
	Answers map[CheckKey]Check
	// Memory is what earlier passes learned about workloads.
	Memory Memory
	// EvictionDisabled says that no Pod may be evicted.
	EvictionDisabled bool
}

// IsSystem reports whether a namespace is governed only where a label on it says so: one of System,
// or one in which a control plane of the mesh runs.
func (in *Input) IsSystem(namespace string) bool {
	return in.System.Has(namespace) || in.Snapshot.Injector.RunsIn(namespace)
}
