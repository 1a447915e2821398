package restart

import (
	"fmt"
	"maps"
	"slices"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// gatePhase is the phase that asks whether a policy may start anything. It is evaluated once per policy, and its
// answer is the one of every workload and of the policy's condition RestartsAllowed.
const gatePhase = "gate"

// gateCheck answers nil where it has nothing against a policy's starting restarts.
type gateCheck struct {
	name string
	run  func(*pass, *Policy) *hold
}

// gateChecks stop everything under a policy. The first of them stop evictions under way as well: what was begun in a
// window may be ended after it.
var (
	stopsEvictions = []gateCheck{
		{"PolicyIsInvalid", policyIsInvalid},
		{"ModeIsReport", modeIsReport},
		{"CacheIsNotSynced", cacheIsNotSynced},
		{"EverythingIsStopped", everythingIsStopped},
		{"GuardIsNotInForce", guardIsNotInForce},
	}
	stopsStarts = []gateCheck{
		{"WatchIsStale", watchIsStale},
		{"WindowIsClosed", windowIsClosed},
		{"PolicyBreakerIsOpen", policyBreakerIsOpen},
	}
	gateChecks = slices.Concat(stopsEvictions, stopsStarts)
)

// Gate is why a policy may start nothing.
type Gate struct {
	Reason   Reason
	Message  string
	ClearsBy v1alpha1.ClearedBy

	check string
	hold  *hold
}

// gate is what stops the policy; nil where nothing does.
func (p *pass) gate(policy *Policy) *Gate {
	for _, check := range gateChecks {
		if h := check.run(p, policy); h != nil {
			return &Gate{Reason: h.reason, Message: h.message, ClearsBy: h.clearsBy, check: check.name, hold: h}
		}
	}
	return nil
}

// about is the hold of a workload that is not restarted because of the gate.
func (g *Gate) about(workload *inventory.Workload) *hold {
	h := *g.hold
	if h.reason == ReasonReportMode {
		h.message = workload.Message + " " + h.message
	}
	return &h
}

// evictionsAreStopped holds what is evicted already where its policy may not do that any more.
func evictionsAreStopped(c *Candidate) *hold {
	for _, check := range stopsEvictions {
		if h := check.run(c.pass, c.policy); h != nil {
			return h
		}
	}
	return nil
}

func policyIsInvalid(_ *pass, policy *Policy) *hold {
	if policy.invalid == nil {
		return nil
	}
	return &hold{reason: ReasonInvalidMeshPolicy, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("Nothing is restarted under MeshPolicy %s until it is corrected: %v.", policy.Name, policy.invalid)}
}

func modeIsReport(_ *pass, policy *Policy) *hold {
	if policy.Mode == v1alpha1.ModeEnforce {
		return nil
	}
	return &hold{reason: ReasonReportMode, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("MeshPolicy %s is in mode Report and restarts nothing. Set mode: Enforce.", policy.Name)}
}

func watchIsStale(p *pass, _ *Policy) *hold {
	if p.WatchStale == "" {
		return nil
	}
	return &hold{reason: ReasonWatchStale, clearsBy: v1alpha1.ClearedByCluster, message: WatchStaleMessage(p.WatchStale)}
}

func everythingIsStopped(p *pass, _ *Policy) *hold {
	if !p.Stopped {
		return nil
	}
	return &hold{reason: ReasonStopped, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Everything is stopped: nothing starts, and no further Pod is evicted. Run: fullmesh stop --clear (with -n where the " +
			"operator is not in fullmesh-system)"}
}

func guardIsNotInForce(p *pass, _ *Policy) *hold {
	switch p.Guard {
	case GuardHolds:
		return nil
	case GuardMissing:
		return &hold{reason: ReasonGuardMissing, clearsBy: v1alpha1.ClearedByAdmin,
			message: "The admission guard is not in force. Apply config/guard, whose policies must name the ServiceAccount of this operator, " +
				"or start the operator with --allow-unguarded, which waives the guard of workloads and not that of MeshRestarts."}
	default:
		return &hold{reason: ReasonGuardUnknown, clearsBy: v1alpha1.ClearedByCluster,
			message: "Nothing shows yet that the admission guard is in force; it is tried again. If it lasts, something else refuses the " +
				"operator's writes: its log says what."}
	}
}

// cacheIsNotSynced holds while something may be in flight, or ask for care, of which nothing is known yet.
func cacheIsNotSynced(p *pass, _ *Policy) *hold {
	kinds := slices.Sorted(maps.Keys(p.Snapshot.Unread))
	for _, kind := range kinds {
		if why := p.Snapshot.Unread[kind]; why != "" {
			return &hold{reason: ReasonCacheNotSynced, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("Nothing is restarted before every %s has been read, and reading them fails (%s). Apply config/rbac of this "+
					"version.", kind, why)}
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	return &hold{reason: ReasonCacheNotSynced, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Nothing is restarted before every %s has been read, which is in progress.", kinds[0])}
}

func windowIsClosed(p *pass, policy *Policy) *hold {
	stretch := p.windows[policy]
	switch {
	case stretch.Open:
		return nil
	case stretch.Never:
		return &hold{reason: ReasonWindowClosed, clearsBy: v1alpha1.ClearedByAdmin, until: stretch.Opens,
			message: fmt.Sprintf("The windows of MeshPolicy %s are closed, and do not open before %s, as far as was searched. Correct spec.windows.",
				policy.Name, moment(stretch.Opens))}
	default:
		return &hold{reason: ReasonWindowClosed, clearsBy: v1alpha1.ClearedByTime, until: stretch.Opens,
			message: fmt.Sprintf("The windows of MeshPolicy %s are closed. They open at %s; change spec.windows to restart earlier.",
				policy.Name, moment(stretch.Opens))}
	}
}

func policyBreakerIsOpen(p *pass, policy *Policy) *hold {
	return p.breakers.policies[policy].holds(p.Now)
}

// WatchStaleMessage says that the cluster cannot be watched, and what helps.
func WatchStaleMessage(stale string) string {
	return fmt.Sprintf("The watch is broken, so this may be out of date: %s. If it lasts, check that the API server is reachable and "+
		"that config/rbac is applied.", stale)
}
