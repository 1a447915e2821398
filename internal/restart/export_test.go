package restart

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Chain is a phase, or what is asked at another moment, with the names of its checks in their order.
type Chain struct {
	Name   string
	Checks []string
}

// Phases are those of a decision, in their order.
func Phases() []Chain {
	var chains []Chain
	for _, phase := range phases {
		if phase.name == gatePhase {
			chains = append(chains, Chain{gatePhase, gateNames(gateChecks)})
			continue
		}
		chains = append(chains, Chain{phase.name, phase.names()})
	}
	return chains
}

// OtherChains are those that are asked at other moments than a decision.
func OtherChains() []Chain {
	chains := []Chain{{"of the gate, to keep evicting", gateNames(stopsEvictions)}}
	for _, phase := range []phase{whenComplete, toKeepEvicting, toStartARound, byHand} {
		chains = append(chains, Chain{phase.name, phase.names()})
	}
	return chains
}

func gateNames(checks []gateCheck) []string {
	var names []string
	for _, check := range checks {
		names = append(names, check.name)
	}
	return names
}

// WindowsAt is the stretch of a policy's windows in which a moment lies.
func WindowsAt(policy *Policy, now time.Time) Stretch { return policy.windows.stretchAt(now) }

// CheckKeys names the dry-run check of every workload of a snapshot.
func CheckKeys(snapshot *inventory.Snapshot) map[types.UID]CheckKey {
	keys := map[types.UID]CheckKey{}
	for _, namespace := range snapshot.Namespaces {
		for _, workload := range namespace.Workloads {
			if workload.Object != nil {
				keys[workload.Object.UID] = CheckKey{workload.Object.UID, inputsHash(snapshot, namespace, workload)}
			}
		}
	}
	return keys
}
