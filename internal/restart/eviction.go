package restart

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// evictionIsDisabled holds where only evictions would help and the operator makes none.
func evictionIsDisabled(c *Candidate) *hold {
	method := c.method()
	if method.name != v1alpha1.MethodEviction || !c.pass.EvictionDisabled {
		return nil
	}
	because := ""
	if method.why != "" {
		because = " Only evictions would replace its Pods, because " + method.why + "."
	}
	return &hold{reason: ReasonEvictionDisabled, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Fullmesh runs with --eviction=Disabled." + because + " Enable it (the flag, and the verb in config/rbac), or delete the " +
			"Pods that must be replaced one by one; those that follow are " + c.newPodsAre() + "."}
}

// updateIsPending holds where a Pod that is evicted would come back with another template than it
// runs: whoever has put that update off has not asked for it now.
func updateIsPending(c *Candidate) *hold {
	object := c.workload.Object
	if c.method().name != v1alpha1.MethodEviction {
		return nil
	}
	var why string
	switch {
	case object.Is().Method == v1alpha1.MethodEviction:
		if object.TemplateChanged.Unix() <= c.workload.OldestToReplace {
			return nil
		}
		why = "its template was written after the oldest Pods that must be replaced were created, and may have changed"
	case object.Strategy.Type == inventory.StrategyNone:
		if object.Updated >= object.Current {
			return nil
		}
		why = fmt.Sprintf("%d of its %d Pods run the newest template, and its update strategy is OnDelete", object.Updated, object.Current)
	default:
		// Below the partition a Pod comes back as of the former revision, and may run the newer one since
		// the partition was raised.
		if object.Strategy.Partition == 0 || !object.TwoRevisions || object.Updated <= object.Replicas-object.Strategy.Partition {
			return nil
		}
		why = fmt.Sprintf("Pods below partition %d run a newer template than those that follow them would", object.Strategy.Partition)
	}
	return &hold{reason: ReasonUpdatePending, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("A Pod that is evicted would come back with another template than it runs: %s. Delete the Pods yourself when "+
			"that update may go ahead; those that follow are %s.", why, c.newPodsAre())}
}

// evictionWaitsForItsPods holds where a Pod is missing or not ready that stays: no other is taken down with it.
func evictionWaitsForItsPods(c *Candidate) *hold {
	if c.method().name != v1alpha1.MethodEviction || !isUnsettled(c.workload) {
		return nil
	}
	return &hold{reason: ReasonPodsNotReady, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and no further Pod is evicted until those that stay are. If that does not "+
			"happen, delete the Pods that must be replaced one by one; those that follow are %s.",
			c.workload.Pods.Ready, c.workload.Object.Replicas, c.newPodsAre())}
}

// evictedAtOnce is how many Pods may be down because of evictions.
func (c *Candidate) evictedAtOnce() int {
	object, pods := c.workload.Object, c.workload.Pods
	most := 1
	if !object.Is().ByOrdinal && object.Strategy.Type == inventory.StrategyRolling {
		most = min(max(object.Strategy.MaxUnavailable, 1), v1alpha1.MaxEvicting)
	}
	if c.podLimit > 0 {
		most = min(most, c.podLimit)
	}
	if r := c.workload.InFlight; r != nil && r.AtOnce > 0 {
		most = min(most, r.AtOnce)
	}
	if c.policy == nil { // no further one goes
		most = min(most, max(object.Replicas-pods.Ready, 1))
	}
	return min(most, max(pods.ToReplace+object.Replicas-pods.Ready, 1))
}

// evicting gives the verdict on a workload of which Pods are being evicted: that the next ones are, that
// it waits, or how it ended.
func evicting(c *Candidate, r *inventory.Restart, timeout time.Duration) Verdict {
	if verdict, ended := c.evictionsEnded(r); ended {
		return verdict
	}
	broughtIn := isBroughtIn(c.workload, r)
	moving := broughtIn || isUnsettled(c.workload) || c.workload.NewestToReplace > r.Cause.Newest
	deadline := c.evictionDeadline(r, timeout, moving)
	overdue := !c.pass.Now.Before(deadline)
	if moving && overdue {
		if isNoWorse(c.workload, r) {
			return c.finish(r, v1alpha1.ResultSucceeded, fmt.Sprintf("%d of %d Pods are ready, no fewer than before.",
				c.workload.Pods.Ready, c.workload.Object.Replicas))
		}
		return c.fail(r, timeout)
	}
	verdict := c.goesOn(r, fmt.Sprintf("Evicting since %s, %d at once: %s.", moment(r.Start), c.evictedAtOnce(), progress(c.workload, r)))
	verdict.Until = deadline
	var held *hold
	if !broughtIn {
		held = c.evictionsHeld(moving)
	}
	switch {
	case held != nil && !moving && overdue:
		return c.finish(r, v1alpha1.ResultInterrupted, "Not every Pod was evicted: "+held.message)
	case held != nil:
		return c.holdEvictions(verdict, r, held)
	case moving:
		return verdict
	default:
		return c.nextRound(verdict, r, timeout)
	}
}

// evictionsEnded gives the verdict on evictions that have ended, whatever time it is; false where they go on.
func (c *Candidate) evictionsEnded(r *inventory.Restart) (Verdict, bool) {
	broughtIn := isBroughtIn(c.workload, r)
	switch {
	case broughtIn && isWhole(c.workload):
		return c.finishBroughtIn(r), true
	case broughtIn:
		return Verdict{}, false
	case cameUpAsBefore(c.workload, r):
		return c.finishIneffective(r), true
	case c.policy == nil && !isUnsettled(c.workload) && !c.roundIsOpen(r):
		return c.finish(r, v1alpha1.ResultInterrupted, "Not every Pod was evicted: no MeshPolicy governs the namespace any more."), true
	default:
		return Verdict{}, false
	}
}

// evictionDeadline is when evictions have taken too long: since something moved last, or while Pods move over and over,
// in all.
func (c *Candidate) evictionDeadline(r *inventory.Restart, timeout time.Duration, moving bool) time.Time {
	patience := timeout + c.workload.Object.Patience()
	deadline := c.lastMoved(r).Add(patience + time.Second) // times are written down by the second
	if bound := c.longestEviction(r, patience); moving && bound.Before(deadline) {
		return bound
	}
	return deadline
}

// holdEvictions completes the verdict on a workload of which no further Pod is evicted for now. Those that were named
// and are not on their way are taken off.
func (c *Candidate) holdEvictions(verdict Verdict, r *inventory.Restart, held *hold) Verdict {
	verdict.Reason = ReasonEvictionHeld
	verdict.Message += " No further Pod is evicted: " + held.message
	switch {
	case len(c.namedAndUp(r)) > 0:
		verdict.Step, verdict.Restart = StepEvict, evictingPods(r, nil)
	case held.checkDue:
		verdict.Step, verdict.CheckKey = StepCheck, c.checkKey()
	}
	if !held.until.IsZero() && held.until.Before(verdict.Until) {
		verdict.Until = held.until
	}
	return verdict
}

// evictingPods is the restart with the Pods of a round.
func evictingPods(r *inventory.Restart, pods []*mesh.Pod) *inventory.Restart {
	round := *r
	round.Evicting = nil
	for _, pod := range pods {
		round.Evicting = append(round.Evicting, pod.UID)
	}
	return &round
}

// namedAndUp are the Pods of the current round that run, as far as is known: they may be down all the same.
func (c *Candidate) namedAndUp(r *inventory.Restart) []*mesh.Pod {
	return slices.DeleteFunc(slices.Clone(c.workload.Evictable), func(pod *mesh.Pod) bool { return !slices.Contains(r.Evicting, pod.UID) })
}

// roundIsOpen reports whether a Pod of the current round may be about to go.
func (c *Candidate) roundIsOpen(r *inventory.Restart) bool {
	return len(c.namedAndUp(r)) > 0 && c.pass.Now.Before(c.memory().Last.Add(graceAfterChange))
}

// longestEviction is when evictions that move have taken longer than they may: each Pod may have waited before it
// went for as long as after, and the last may have gone a moment ago.
func (c *Candidate) longestEviction(r *inventory.Restart, patience time.Duration) time.Time {
	return later(c.longest(r, 2*patience), c.memory().Last.Add(patience))
}

// cameUpAsBefore reports whether a Pod that came in the place of another is as that one was. One whose
// traffic is not captured yet is repaired by Istio's CNI agent, or never becomes ready.
func cameUpAsBefore(workload *inventory.Workload, r *inventory.Restart) bool {
	if r.Cause.Finding == v1alpha1.FindingMissing {
		return workload.NewestUninjected > r.Cause.Newest
	}
	return workload.NewestToReplace > r.Cause.Newest
}

// evictionsHeld is what holds any further eviction.
func (c *Candidate) evictionsHeld(moving bool) *hold {
	if c.policy == nil {
		return &hold{reason: ReasonNotSelected, clearsBy: v1alpha1.ClearedByAdmin, message: "No MeshPolicy governs the namespace any more."}
	}
	if h := toKeepEvicting.run(c); h != nil || moving {
		return h
	}
	return toStartARound.run(c)
}

// nextRound completes the verdict on a workload of which everything that was evicted is back.
func (c *Candidate) nextRound(verdict Verdict, r *inventory.Restart, timeout time.Duration) Verdict {
	past := c.evictionsSince(r)
	served := time.Unix(newestReady(c.workload, r), 0).Add(min(time.Duration(c.workload.Object.MinReadySeconds)*time.Second,
		c.workload.Object.Patience())) // which is bounded
	_, checked := c.answer()
	givenUp := past.RefusedSince.Add(timeout)
	switch {
	case past.Refused != "" && !c.pass.Now.Before(givenUp):
		return c.finish(r, v1alpha1.ResultFailed, fmt.Sprintf("No eviction has succeeded for %s: %s", seconds(timeout), past.Refused))
	case past.Until.After(c.pass.Now):
		verdict.Until = earlier(past.Until, givenUp)
		verdict.Message += fmt.Sprintf(" The next eviction did not succeed and is tried again: %s", past.Refused)
	case served.After(c.pass.Now):
		verdict.Until = served
	case !checked && c.pass.Answers != nil:
		verdict.Step, verdict.CheckKey = StepCheck, c.checkKey()
	default:
		verdict.Evict = c.nextToEvict(r)
		verdict.Step, verdict.Restart, verdict.CheckKey = StepEvict, evictingPods(r, verdict.Evict), c.checkKey()
	}
	return verdict
}

// memory is what is remembered of the workload's evictions.
func (c *Candidate) memory() Evictions { return c.pass.Memory.Evictions[c.workload.Object.UID] }

// evictionsSince are those of the restart that is in flight: what was refused before it began is not counted.
func (c *Candidate) evictionsSince(r *inventory.Restart) Evictions {
	past := c.memory()
	switch {
	case past.Until.Before(r.Start):
		return Evictions{Last: past.Last}
	case past.RefusedSince.Before(r.Start):
		past.RefusedSince = r.Start
	}
	return past
}

// nextToEvict are the Pods that are evicted now. Those of a round that was not brought to its end count as down, and
// come first; then those that are not ready: they serve nothing, and may heal. Of the others it is as many as every
// disruption budget allows, and one stays unless downtime is accepted.
func (c *Candidate) nextToEvict(r *inventory.Restart) []*mesh.Pod {
	named := c.namedAndUp(r)
	left := slices.DeleteFunc(slices.Clone(c.workload.Evictable), func(pod *mesh.Pod) bool {
		return pod.Created > r.Cause.Newest || slices.Contains(named, pod)
	})
	slices.SortStableFunc(left, func(a, b *mesh.Pod) int {
		if a.Ready() != b.Ready() {
			return cmp.Compare(min(a.ReadySince, 1), min(b.ReadySince, 1))
		}
		if c.workload.Object.Ordered && !a.Ready() {
			return cmp.Compare(ordinal(a), ordinal(b)) // they are made again in this order
		}
		return 0
	})
	ready := c.workload.Pods.Ready
	if !c.policy.accepts(v1alpha1.RiskDowntime, c.workload) {
		ready--
	}
	for _, budget := range c.disruptionBudgets() {
		ready = min(ready, budget.Allowed)
	}
	var next []*mesh.Pod
	for _, pod := range slices.Concat(named, left) {
		if len(next) == c.evictedAtOnce() {
			break
		}
		if pod.Ready() {
			if ready <= 0 {
				break
			}
			ready--
		}
		next = append(next, pod)
	}
	return next
}

// ordinal is that of a StatefulSet's Pod.
func ordinal(pod *mesh.Pod) int {
	n, err := strconv.Atoi(pod.Name[strings.LastIndex(pod.Name, "-")+1:])
	if err != nil {
		return 0
	}
	return n
}

// isWhole reports whether there are as many Pods as are asked for, and all of them are ready.
func isWhole(workload *inventory.Workload) bool {
	return workload.Pods.Running >= workload.Object.Replicas && workload.Pods.Ready == workload.Pods.Running
}

// isUnsettled reports whether a Pod is missing or not ready that nobody is about to evict.
func isUnsettled(workload *inventory.Workload) bool { return !onlyOutsideIsDown(workload) }

// onlyOutsideIsDown reports whether every Pod is ready but for those that must be replaced.
func onlyOutsideIsDown(workload *inventory.Workload) bool {
	pods := workload.Pods
	return pods.Ready+pods.ToReplace-pods.ToReplaceReady >= workload.Object.Replicas
}

// lastMoved is when the newest Pod was evicted, came or became ready in the mesh, or when the first
// eviction was due.
func (c *Candidate) lastMoved(r *inventory.Restart) time.Time {
	return later(later(lastProgress(c.workload, r), c.memory().Last), time.Unix(c.workload.NewestMeshed, 0))
}
