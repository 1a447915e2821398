package restart

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Guard says whether the API server holds the operator's account to restarts.
type Guard uint8

// The states.
const (
	GuardUnknown Guard = iota
	GuardMissing
	GuardHolds
)

// Input is everything that a decision depends on.
type Input struct {
	Now      time.Time
	Snapshot *inventory.Snapshot
	Policies []*Policy
	// System are namespaces that are governed only where a label on them says so, beside those of the
	// mesh's control planes.
	System sets.Set[string]
	// Blind says what of the picture is no longer kept up to date; empty where all of it is.
	Blind string
	// Stopped says that the red button is pressed.
	Stopped bool
	Guard   Guard
	// Check looks up the answer of a dry-run check. Where it is nil, no check is asked for and every
	// one is taken to say yes.
	Check func(CheckKey) (Check, bool)

	// Started is when and for which cause a workload was restarted last, as far as this process
	// remembers; the zero value where it was not. It backs up what is written on the workload, which others may take
	// away. May be nil.
	Started func(types.UID) Start
	// TookOver is when this process began to decide. Zero, all restarts are taken to be Fullmesh's own.
	TookOver time.Time
	// Found is the cause of the restart that was in flight when this process began to decide; empty where
	// none was. May be nil.
	Found func(types.UID) string
	// Unwritten says that how the restart of a workload ended could not be written down, though nobody refuses it.
	// May be nil.
	Unwritten func(types.UID) bool
	// Reported is what the MeshReport of a namespace says; nil where there is none. May be nil.
	Reported func(namespace string) *v1alpha1.MeshReportStatus

	// EvictionDisabled says that no Pod is to be evicted.
	EvictionDisabled bool
	// Evictions is what is remembered of the evictions of a workload. May be nil.
	Evictions func(types.UID) Evictions
}

// IsSystem reports whether a namespace is governed only where a label on it says so: one of System,
// or one in which a control plane of the mesh runs.
func (in *Input) IsSystem(namespace string) bool {
	return in.System.Has(namespace) || in.Snapshot.Injector.RunsIn(namespace)
}
