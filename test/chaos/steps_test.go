package chaos

import (
	"iter"
	"math/rand/v2"
	"time"
)

// step is something that happens, with all that is random about it.
type step struct {
	// happening names one of happenings.
	happening string
	// which and how are read by the happening as it likes.
	which, how int
	// pause is how long nothing follows.
	pause time.Duration
}

// happenings are what may happen, and how often in relation to each other.
var happenings = []struct {
	name   string
	weight int
	happen func(*world, step) (string, error)
}{
	{"the operator is killed", 2, (*world).killOperator},
	{"the leader is killed", 3, (*world).killLeader},
	{"istiod stops or starts", 6, (*world).toggleIstiod},
	{"the failurePolicy changes", 2, (*world).toggleFailurePolicy},
	{"the API server is restarted", 2, (*world).restartAPIServer},
	{"the network changes", 10, (*world).changeNetwork},
	{"a policy is edited", 6, (*world).editPolicy},
	{"a policy is deleted and made again", 3, (*world).replacePolicy},
	{"everything is stopped or goes on", 2, (*world).toggleRedButton},
	{"a user rolls out", 10, (*world).rollOut},
	{"a user scales", 10, (*world).scale},
	{"a user pauses or resumes", 3, (*world).togglePause},
	{"a user opts a workload out or in", 8, (*world).toggleOptOut},
	{"a user asks for no sidecar or for one", 6, (*world).toggleSidecar},
	{"a user evicts a Pod", 5, (*world).evict},
	{"a user makes a workload again", 3, (*world).remake},
	{"a user copies annotations", 3, (*world).copyAnnotations},
	{"a namespace is relabelled", 6, (*world).relabel},
	{"a node is cordoned or uncordoned", 5, (*world).toggleNode},
}

// steps are what happens, without end. A seed gives the same ones every time, whatever comes of
// them.
func steps(seed uint64) iter.Seq[step] {
	total := 0
	for _, happening := range happenings {
		total += happening.weight
	}
	return func(yield func(step) bool) {
		random := rand.New(rand.NewPCG(seed, 0))
		for {
			next := step{which: random.IntN(1 << 20), how: random.IntN(1 << 20), pause: time.Duration(100+random.IntN(500)) * time.Millisecond}
			at := random.IntN(total)
			for _, happening := range happenings {
				if at -= happening.weight; at < 0 {
					next.happening = happening.name
					break
				}
			}
			if !yield(next) {
				return
			}
		}
	}
}
