package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// Reconciler brings the cluster to full mesh: each pass looks at the whole picture, decides, acts
// and reports.
type Reconciler struct {
	client    client.Client // reads from the informers, writes to the API server
	inventory *inventory.Inventory
	now       func() time.Time
	// namespace is the operator's own, where the red button is.
	namespace string
	// system are the namespaces that are governed only where a label on them says so.
	system sets.Set[string]

	wake      *waker
	checker   *checker
	actor     *actor
	guard     *guard
	sight     *sight
	announcer announcer
	events    lastEvents
	reporter  *reporter
	started   starts
	// tookOver is when the first pass began, and found are the causes of what was in flight then.
	tookOver  time.Time
	found     map[types.UID]string
	evictions pastEvictions
	// evictionDisabled says that no Pod is to be evicted.
	evictionDisabled bool
	// failed are the writes to workloads of which the last one was refused or had no answer.
	failed backOff[attempt]
	// unanswered are the workloads of which it is not known what became of the last write.
	unanswered map[types.UID]unanswered
	// unwritten are those of which the outcome could not be written down, though nobody refused it.
	unwritten map[types.UID]bool
}

// attempt is a write to a workload: the beginning of a restart, or its end.
type attempt struct {
	uid  types.UID
	step restart.Step
}

// unanswered is what was to be written to a workload, and when.
type unanswered struct {
	verdict *restart.Verdict
	policy  *v1alpha1.MeshPolicy // nil where none governs
	at      time.Time
}

// answeredByThen is when the informers have told what became of a write, or it is known that they do not.
const answeredByThen = 3 * blindAfter

// readingAtMost bounds a look at what became of a write.
const readingAtMost = 5 * time.Second

// actingAtMost is for how long one decision is acted upon. What is left is decided again, from what
// was seen until then: a policy that was edited, a workload that was opted out.
const actingAtMost = time.Second

// policyInForce is a MeshPolicy with what became of it.
type policyInForce struct {
	object  *v1alpha1.MeshPolicy
	policy  *restart.Policy // nil where it cannot be told what it governs
	invalid error
}

// globalState is what holds for every policy.
type globalState struct {
	stopped bool
	guard   restart.Guard
	// blind says what of the picture is no longer kept up to date; empty where all of it is.
	blind string
	// unread are the kinds of which not all has been read yet, and why.
	unread map[string]string
}

// Reconcile makes one pass.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	begun := r.now()
	defer func() { r.wake.passed(r.now().Sub(begun)) }()
	if r.tookOver.IsZero() {
		r.tookOver = begun
	}
	readErr := r.readUnanswered(ctx)
	snapshot := r.inventory.Snapshot()
	if r.found == nil {
		r.found = snapshot.InFlight()
	}
	r.checker.Forget(snapshot)
	policies, err := r.readPolicies(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	reported, err := r.reporter.Reported(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	guardAgain, guardErr := r.guard.Try(ctx, snapshot)
	if guardErr != nil {
		log.FromContext(ctx).Error(guardErr, "The admission guard could not be tried, and nothing is restarted until it has been")
	}
	global := globalState{guard: r.guard.State(), unread: snapshot.Unread}
	if global.stopped, err = r.stopped(ctx); err != nil {
		return ctrl.Result{}, err
	}
	blind, sightAgain := r.sight.Blind()
	global.blind = blind
	now := r.now()
	plan := restart.Decide(restart.Input{
		Now:       now,
		Snapshot:  snapshot,
		Policies:  usable(policies),
		System:    r.system,
		Blind:     global.blind,
		Stopped:   global.stopped,
		Guard:     global.guard,
		Check:     r.checker.Answer,
		Started:   r.started.last,
		TookOver:  r.tookOver,
		Found:     func(uid types.UID) string { return r.found[uid] },
		Unwritten: func(uid types.UID) bool { return r.unwritten[uid] },
		Reported:  reported,

		EvictionDisabled: r.evictionDisabled,
		Evictions:        r.evictions.of,
	})
	newestPlan.plan.Store(plan)
	actAgain, actErr := r.act(ctx, plan, policies, readErr == nil)
	reportAgain, reportErr := r.reporter.Report(ctx, plan, policies, global)
	// An error is retried later and later. What time brings must not wait for that, so that it is not
	// asked for by the result.
	r.wake.In(nextPass(actAgain, reportAgain, until(plan.NextLook, now), until(guardAgain, now), until(sightAgain, now)))
	return ctrl.Result{}, errors.Join(readErr, actErr, reportErr)
}

// nextPass is in how long something may have to be done without an event: the shortest of times that
// are 0 for never.
func nextPass(waits ...time.Duration) time.Duration {
	var next time.Duration
	for _, wait := range waits {
		if wait > 0 && (next == 0 || wait < next) {
			next = wait
		}
	}
	return next
}

// until is how long it is from now to a time; 0 where there is no such time.
func until(at, now time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return max(at.Sub(now), time.Nanosecond)
}

func (r *Reconciler) readPolicies(ctx context.Context) ([]policyInForce, error) {
	var list v1alpha1.MeshPolicyList
	if err := r.client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing MeshPolicies: %w", err)
	}
	policies := make([]policyInForce, 0, len(list.Items))
	for i := range list.Items {
		// What this process has written about a policy counts at once.
		object := newer(&list.Items[i], r.reporter.policies[list.Items[i].Name])
		policy, err := restart.NewPolicy(object)
		policies = append(policies, policyInForce{object: object, policy: policy, invalid: err})
	}
	return policies, nil
}

func usable(policies []policyInForce) []*restart.Policy {
	var usable []*restart.Policy
	for i := range policies {
		if policies[i].policy != nil && policies[i].object.DeletionTimestamp == nil {
			usable = append(usable, policies[i].policy)
		}
	}
	return usable
}

// stopped reports whether the red button is pressed.
func (r *Reconciler) stopped(ctx context.Context) (bool, error) {
	err := r.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: v1alpha1.StopConfigMap}, &corev1.ConfigMap{})
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	default:
		return false, fmt.Errorf("looking for ConfigMap %s/%s: %w", r.namespace, v1alpha1.StopConfigMap, err)
	}
}

// act does what was decided. It returns how soon it wants to be called again, because the picture
// has moved by it or for what it put off; 0 where neither is so.
//
// Nothing starts while it is not known what has started, nor when the decision took something for ended that could
// not be written down.
func (r *Reconciler) act(ctx context.Context, plan *restart.Plan, policies []policyInForce, known bool) (time.Duration, error) {
	begun := r.now()
	var again time.Duration
	var errs []error
	r.forgetWritten(plan)
	for namespace, verdict := range plan.Steps() {
		if r.now().Sub(begun) > actingAtMost {
			return gather, errors.Join(errs...)
		}
		if verdict.Step == restart.StepRestart && !known {
			again = nextPass(again, firstRetry)
			continue
		}
		uid := verdict.Workload.Object.UID
		wasUnwritten := r.unwritten[uid]
		wait, err := r.actOn(ctx, verdict, objectOf(namespace.Policy, policies))
		known = known && (wasUnwritten || !r.unwritten[uid])
		again = nextPass(again, wait)
		errs = append(errs, err)
	}
	return again, errors.Join(errs...)
}

// forgetWritten keeps in mind of what could not be written down only what is still to be.
func (r *Reconciler) forgetWritten(plan *restart.Plan) {
	unwritten := map[types.UID]bool{}
	for _, verdict := range plan.Steps() {
		if uid := verdict.Workload.Object.UID; verdict.Step == restart.StepFinish && r.unwritten[uid] {
			unwritten[uid] = true
		}
	}
	r.unwritten = unwritten
}

func (r *Reconciler) actOn(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) (time.Duration, error) {
	switch verdict.Step {
	case restart.StepCheck:
		r.checker.Ask(ctx, verdict.CheckKey, verdict.Workload)
		return 0, nil
	case restart.StepRestart:
		return r.write(ctx, verdict, policy, r.restart)
	case restart.StepEvict:
		return r.evict(ctx, verdict, policy)
	case restart.StepFinish:
		return r.write(ctx, verdict, policy, r.finish)
	default:
		return 0, nil
	}
}

// write changes a workload, unless that has just failed.
func (r *Reconciler) write(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy,
	change func(context.Context, *restart.Verdict, *v1alpha1.MeshPolicy) (written, error),
) (time.Duration, error) {
	uid := verdict.Workload.Object.UID
	attempt := attempt{uid, verdict.Step}
	if wait := r.failed.wait(attempt, r.now()); wait > 0 {
		return wait, nil
	}
	became, err := change(ctx, verdict, policy)
	if verdict.Step == restart.StepFinish {
		r.unwritten[uid] = became == writtenStale
	}
	switch {
	case became == writtenRefused || err != nil:
		if became == writtenStale {
			r.findOut(verdict, policy)
		}
		r.failed.failed(attempt, r.now(), lastRetry)
		return gather, err
	case became == writtenDone:
		r.failed.succeeded(attempt)
		return gather, nil
	default:
		return 0, nil
	}
}

// findOut has the next pass find out what became of a write.
func (r *Reconciler) findOut(verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) {
	if r.unanswered == nil {
		r.unanswered = map[types.UID]unanswered{}
	}
	r.unanswered[verdict.Workload.Object.UID] = unanswered{verdict, policy, r.now()}
}

// readUnanswered finds out what became of the writes that had no answer. An error says that it is not known.
func (r *Reconciler) readUnanswered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readingAtMost)
	defer cancel()
	for uid, write := range r.unanswered {
		if r.now().Sub(write.at) < answeredByThen {
			record, err := r.actor.read(ctx, write.verdict.Workload.Object)
			if err != nil {
				return err
			}
			switch meant := &write.verdict.Record; {
			case meant.InFlight() && record == meant.String():
				r.hasStarted(ctx, write.verdict, write.policy)
			case !meant.InFlight() && record != write.verdict.Workload.Record.String():
				r.started.ended(uid, meant.Cause)
			}
		}
		delete(r.unanswered, uid)
	}
	return nil
}

func (r *Reconciler) restart(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) (written, error) {
	if stopped, err := r.stopped(ctx); err != nil || stopped {
		return writtenStale, err
	}
	became, err := r.actor.restart(ctx, verdict)
	object := verdict.Workload.Object
	switch {
	case became == writtenRefused:
		log.FromContext(ctx).Info("Admission refused a restart", "kind", object.Kind, "workload", klog.KObj(object), "reason", err.Error())
		r.checker.Remember(verdict.CheckKey, restart.Check{Outcome: restart.CheckRefused, Message: err.Error()}, false)
		r.announcer.Refused(verdict, policy, err)
		return writtenRefused, nil
	case err != nil || became == writtenStale:
		return became, err
	}
	r.hasStarted(ctx, verdict, policy)
	return writtenDone, nil
}

// hasStarted remembers and tells that a restart was written down.
func (r *Reconciler) hasStarted(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) {
	object := verdict.Workload.Object
	log.FromContext(ctx).Info("Restarted "+object.Kind, "workload", klog.KObj(object), "method", verdict.Record.Method, "cause", verdict.Record.Cause)
	r.started.remember(object.UID, verdict.Record, policy.Name, r.now())
	restartsStarted.WithLabelValues(string(verdict.Workload.Finding)).Inc()
	r.announcer.Started(verdict, policy)
}

func (r *Reconciler) finish(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) (written, error) {
	verdict = r.events.Tell(ctx, verdict)
	became, err := r.actor.finish(ctx, verdict)
	if err != nil || became != writtenDone {
		return became, err
	}
	object, record := verdict.Workload.Object, verdict.Record
	log.FromContext(ctx).Info("Restart of "+object.Kind+" ended", "workload", klog.KObj(object), "result", record.Result, "message", record.Message)
	r.started.ended(object.UID, record.Cause)
	restartsEnded.WithLabelValues(string(record.Result)).Inc()
	r.announcer.Ended(verdict, policy)
	return writtenDone, nil
}

func objectOf(policy *restart.Policy, policies []policyInForce) *v1alpha1.MeshPolicy {
	for i := range policies {
		if policy != nil && policies[i].policy == policy {
			return policies[i].object
		}
	}
	return nil
}

// startsAreKept is how long it is remembered here what was restarted.
const startsAreKept = 24 * time.Hour

// starts remembers when and for which cause each workload was restarted last. It is a second line only: what
// counts is written on the workload. Its zero value is ready for use.
type starts struct {
	known map[types.UID]restart.Start
}

func (s *starts) remember(uid types.UID, record inventory.Record, policy string, now time.Time) {
	if s.known == nil {
		s.known = map[types.UID]restart.Start{}
	}
	maps.DeleteFunc(s.known, func(_ types.UID, old restart.Start) bool { return now.Sub(old.At) > startsAreKept })
	s.known[uid] = restart.Start{Cause: record.Cause, At: record.Start, Replicas: record.Replicas, Policy: policy}
}

// ended remembers that it was written down how a restart ended.
func (s *starts) ended(uid types.UID, cause string) {
	if start, begun := s.known[uid]; begun && start.Cause == cause {
		start.Ended = true
		s.known[uid] = start
	}
}

func (s *starts) last(uid types.UID) restart.Start { return s.known[uid] }
