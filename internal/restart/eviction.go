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

// Evictions is what is remembered of the evictions of one workload. It is a cache only: what counts is
// which Pods run.
type Evictions struct {
	// Last is when the API server accepted one last.
	Last time.Time
	// Refused is why it refused the newest one, since RefusedSince, and Until when to leave it alone.
	Refused             string
	RefusedSince, Until time.Time
}

func evictionIsDisabled(s *situation) *hold {
	method := s.method()
	if method.name != v1alpha1.MethodEviction || !s.pass.EvictionDisabled {
		return nil
	}
	because := ""
	if method.why != "" {
		because = " Only evictions would replace its Pods, because " + method.why + "."
	}
	return &hold{reason: ReasonEvictionDisabled, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Fullmesh runs with --eviction=Disabled." + because + " Enable it (the flag, and the verb in config/rbac), or delete the Pods that are to be replaced one by one; those that follow are " + s.come() + "."}
}

// updateIsPending speaks where a Pod that is evicted would come back with another template than it
// runs: whoever has put that update off has not asked for it now.
func updateIsPending(s *situation) *hold {
	object := s.workload.Object
	if s.method().name != v1alpha1.MethodEviction {
		return nil
	}
	var why string
	switch {
	case object.Kind == "ReplicaSet":
		if object.TemplateChanged.Unix() <= s.workload.OldestToReplace {
			return nil
		}
		why = "its template was written after Pods were created that are to be replaced, and may have changed"
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
		message: fmt.Sprintf("A Pod that is evicted would come back with another template than it runs: %s. Delete the Pods yourself when that update may go ahead; those that follow are %s.", why, s.come())}
}

// evictionWaitsForItsPods speaks where a Pod is missing or not ready that is not to be replaced: no other
// is taken down beside it.
func evictionWaitsForItsPods(s *situation) *hold {
	if s.method().name != v1alpha1.MethodEviction || !isMoving(s.workload) {
		return nil
	}
	return &hold{reason: ReasonPodsNotReady, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and no further Pod is evicted until those that stay are. Where that does not come about, delete the Pods that are to be replaced one by one; those that follow are %s.", s.workload.Pods.Ready, s.workload.Object.Replicas, s.come())}
}

// evictedAtOnce is how many Pods may be down because of evictions.
func (s *situation) evictedAtOnce() int {
	object, pods := s.workload.Object, s.workload.Pods
	most := 1
	if object.Kind != "StatefulSet" && object.Strategy.Type == inventory.StrategyRolling {
		most = max(object.Strategy.MaxUnavailable, 1)
	}
	if s.podLimit > 0 {
		most = min(most, s.podLimit)
	}
	if s.policy == nil { // no further one goes
		most = min(most, max(object.Replicas-pods.Ready, 1))
	}
	return min(most, max(pods.ToReplace+object.Replicas-pods.Ready, 1))
}

// evicting gives the verdict on a workload of which Pods are being evicted: that the next ones are, that
// it waits, or how it ended.
func evicting(s *situation, timeout time.Duration) Verdict {
	workload := s.workload
	cause, _ := inventory.ParseCause(workload.Record.Cause)
	broughtIn := isBroughtIn(workload)
	succeeded := v1alpha1.ResultSucceeded
	if isNotExpectedAnyMore(workload) {
		succeeded = v1alpha1.ResultInterrupted // what is left is evicted once it is expected again
	}
	switch {
	case broughtIn && isWhole(workload):
		return s.finish(succeeded, reservation(workload))
	case !broughtIn && cameUpAsBefore(workload, &cause):
		return s.finishIneffective()
	case !broughtIn && s.policy == nil && !isMoving(workload) && !s.pass.Now.Before(s.restsAt()):
		return s.finish(v1alpha1.ResultInterrupted, "Not every Pod was evicted: no MeshPolicy governs the namespace any more.")
	}
	// Times are written down by the second.
	deadline := s.lastMoved().Add(timeout + workload.Object.Patience() + time.Second)
	overdue := !s.pass.Now.Before(deadline)
	moving := broughtIn || isMoving(workload) || workload.NewestToReplace > cause.Newest
	if bound := s.longestEviction(timeout + workload.Object.Patience()); moving && bound.Before(deadline) {
		deadline, overdue = bound, !s.pass.Now.Before(bound)
	}
	switch {
	case moving && overdue && isNoWorse(workload):
		return s.finish(succeeded, fmt.Sprintf("%d of %d Pods are ready, no fewer than before.", workload.Pods.Ready, workload.Object.Replicas))
	case moving && overdue:
		return s.fail(timeout)
	}
	verdict := Verdict{
		Workload: workload,
		Action:   v1alpha1.ActionInFlight,
		Reason:   ReasonRestartInProgress,
		Method:   v1alpha1.MethodEviction,
		Message:  fmt.Sprintf("Evicting since %s, %d at once: %s.", workload.Record.Start.Format(time.RFC3339), s.evictedAtOnce(), progress(workload)),
		Until:    deadline,
	}
	var held *hold
	if !broughtIn {
		held = s.evictionsHeld(moving)
	}
	switch {
	case held != nil && !moving && overdue && (held.needsSomebody() || !s.pass.Now.Before(s.pass.TookOver.Add(timeout))):
		return s.finish(v1alpha1.ResultInterrupted, "Not every Pod was evicted: "+held.message)
	case held != nil:
		verdict.Reason = ReasonEvictionHeld
		if overdue { // it is interrupted when this process has led for long enough
			verdict.Until = s.pass.TookOver.Add(timeout)
		}
		verdict.Message += " No further Pod is evicted: " + held.message
		if held.checkDue {
			verdict.Step, verdict.CheckKey = StepCheck, s.checkKey()
		}
		if !held.until.IsZero() && held.until.Before(verdict.Until) {
			verdict.Until = held.until
		}
		return verdict
	case moving:
		return verdict
	default:
		return s.nextRound(verdict, timeout)
	}
}

// restsAt is when it is known of every eviction that was accepted what has become of its Pod.
func (s *situation) restsAt() time.Time {
	last := s.evictions().Last
	if s.pass.TookOver.After(last) {
		last = s.pass.TookOver // the replica that led before may have evicted one just then
	}
	return last.Add(graceAfterChange)
}

// longestEviction is when evictions that move have taken longer than they may: each Pod may have waited before it
// went for as long as after, and the last may have gone a moment ago.
func (s *situation) longestEviction(patience time.Duration) time.Time {
	bound, last := s.longest(2*patience), s.evictions().Last.Add(patience)
	if last.After(bound) {
		return last
	}
	return bound
}

// cameUpAsBefore reports whether a Pod that came in the place of another is as that one was. One whose
// traffic is not captured yet is repaired by Istio's CNI agent, or never becomes ready.
func cameUpAsBefore(workload *inventory.Workload, cause *inventory.Cause) bool {
	if cause.Finding == v1alpha1.FindingMissing {
		return workload.NewestUninjected > cause.Newest
	}
	return workload.NewestToReplace > cause.Newest
}

// evictionsHeld is what speaks against any further eviction.
func (s *situation) evictionsHeld(moving bool) *hold {
	if s.policy == nil {
		return &hold{reason: ReasonNotSelected, clearsBy: v1alpha1.ClearedByAdmin, until: s.restsAt(),
			message: "No MeshPolicy governs the namespace any more."}
	}
	occasions := beforeEviction
	if !moving {
		occasions |= betweenRounds
	}
	for check := range s.pass.checksAlso(occasions) {
		if spoken := check.ask(s); spoken != nil {
			return spoken
		}
	}
	return nil
}

// nextRound completes the verdict on a workload of which everything that was evicted is back.
func (s *situation) nextRound(verdict Verdict, timeout time.Duration) Verdict {
	past := s.evictions()
	served := time.Unix(newestReady(s.workload), 0).Add(time.Duration(s.workload.Object.MinReadySeconds) * time.Second)
	_, checked := s.answer()
	givenUp := past.RefusedSince.Add(timeout)
	switch {
	case past.Refused != "" && !s.pass.Now.Before(givenUp):
		return s.finish(v1alpha1.ResultFailed, fmt.Sprintf("No eviction has succeeded for %s: %s", seconds(timeout), past.Refused))
	case past.Until.After(s.pass.Now):
		verdict.Until = earlier(past.Until, givenUp)
		verdict.Message += fmt.Sprintf(" The next eviction did not succeed and is tried again: %s", past.Refused)
	case served.After(s.pass.Now):
		verdict.Until = served
	case !checked && s.pass.Check != nil:
		verdict.Step, verdict.CheckKey = StepCheck, s.checkKey()
	default:
		verdict.Step, verdict.Evict, verdict.CheckKey = StepEvict, s.nextToEvict(), s.checkKey()
	}
	return verdict
}

// evictions are those of the restart that is in flight: what was refused before it began is not counted.
func (s *situation) evictions() Evictions {
	if s.pass.Evictions == nil {
		return Evictions{}
	}
	past, start := s.pass.Evictions(s.workload.Object.UID), s.workload.Record.Start
	switch {
	case past.Until.Before(start):
		return Evictions{Last: past.Last}
	case past.RefusedSince.Before(start):
		past.RefusedSince = start
	}
	return past
}

// nextToEvict are the Pods to be evicted now. Those that are not ready come first: they serve nothing,
// and may heal. Of the others it is as many as every disruption budget allows, and one stays unless
// downtime is accepted.
func (s *situation) nextToEvict() []*mesh.Pod {
	cause, _ := inventory.ParseCause(s.workload.Record.Cause)
	left := slices.DeleteFunc(slices.Clone(s.workload.Evictable), func(pod *mesh.Pod) bool { return pod.Created > cause.Newest })
	slices.SortStableFunc(left, func(a, b *mesh.Pod) int {
		if a.Ready() != b.Ready() {
			return cmp.Compare(min(a.ReadySince, 1), min(b.ReadySince, 1))
		}
		if s.workload.Object.Ordered && !a.Ready() {
			return cmp.Compare(ordinal(a), ordinal(b)) // they are made again in this order
		}
		return 0
	})
	ready := s.workload.Pods.Ready
	if !s.policy.accepts(v1alpha1.RiskDowntime, s.workload) {
		ready--
	}
	for _, budget := range s.disruptionBudgets() {
		ready = min(ready, budget.Allowed)
	}
	var next []*mesh.Pod
	for _, pod := range left {
		if len(next) == s.evictedAtOnce() {
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

// isMoving reports whether a Pod is missing or not ready that nobody is about to evict.
func isMoving(workload *inventory.Workload) bool { return !onlyOutsideIsDown(workload) }

// onlyOutsideIsDown reports whether every Pod is ready but for those that are to be replaced.
func onlyOutsideIsDown(workload *inventory.Workload) bool {
	pods := workload.Pods
	return pods.Ready+pods.ToReplace-pods.ToReplaceReady >= workload.Object.Replicas
}

// lastMoved is when the newest Pod was evicted, came or became ready in the mesh, or when the first
// eviction was due.
func (s *situation) lastMoved() time.Time {
	last := lastProgress(s.workload)
	for _, at := range []time.Time{s.evictions().Last, time.Unix(s.workload.NewestMeshed, 0)} {
		if at.After(last) {
			last = at
		}
	}
	return last
}
