package referee

import (
	"fmt"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Usage is what restarts take up at once.
type Usage struct{ Workloads, Pods int }

// InUse is what the MeshRestarts take up that have not ended: as soon as they exist, whether or not they have touched
// their workload. takes is how many Pods one takes, and whether it counts.
func (l *Ledger) InUse(takes func(*inventory.Restart) (pods int, counts bool)) Usage {
	var used Usage
	for _, r := range l.now {
		if pods, counts := takes(r); r.InFlight() && counts {
			used.Workloads++
			used.Pods += pods
		}
	}
	return used
}

// Budget is how much may be taken up at once.
type Budget struct {
	// Scope is for messages.
	Scope string
	Usage
}

// Allows is an error where more is taken up than the budget has.
func (b Budget) Allows(used Usage) error {
	if used.Workloads > b.Workloads || used.Pods > b.Pods {
		return fmt.Errorf("%d workloads with %d Pods are in flight, and the budget of scope %s allows %d with %d", used.Workloads, used.Pods, b.Scope, b.Workloads, b.Pods)
	}
	return nil
}
