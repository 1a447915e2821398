package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/rollout"
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
	announcer announcer
	reporter  *reporter
}

// policyInForce is a MeshPolicy with what became of it.
type policyInForce struct {
	object  *v1alpha1.MeshPolicy
	policy  *rollout.Policy // nil where it cannot be used
	invalid error
}

// globalState is what holds for every policy.
type globalState struct {
	stopped bool
	guard   rollout.Guard
}

// Reconcile makes one pass.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	begun := r.now()
	defer func() { r.wake.passed(r.now().Sub(begun)) }()
	snapshot := r.inventory.Snapshot()
	policies, err := r.readPolicies(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	guardAgain, guardErr := r.guard.Try(ctx, snapshot)
	if guardErr != nil {
		log.FromContext(ctx).Error(guardErr, "The admission guard could not be tried, and nothing is restarted until it has been")
	}
	global := globalState{guard: r.guard.State()}
	if global.stopped, err = r.stopped(ctx); err != nil {
		return ctrl.Result{}, err
	}
	now := r.now()
	plan := rollout.Decide(rollout.Input{
		Now:      now,
		Snapshot: snapshot,
		Policies: usable(policies),
		System:   r.system,
		Stopped:  global.stopped,
		Guard:    global.guard,
		Check:    r.checker.Answer,
	})
	newestPlan.plan.Store(plan)
	moved, actErr := r.act(ctx, plan, policies)
	reportAgain, reportErr := r.reporter.Report(ctx, plan, policies, global)
	if err := errors.Join(actErr, reportErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: r.nextPass(now, plan.NextLook, guardAgain, reportAgain, moved)}, nil
}

// nextPass is in how long something may have to be done without an event; 0 for never.
func (r *Reconciler) nextPass(now, look, guard time.Time, report time.Duration, moved bool) time.Duration {
	next := report
	for _, at := range []time.Time{look, guard} {
		if at.IsZero() {
			continue
		}
		if wait := max(at.Sub(now), gather); next == 0 || wait < next {
			next = wait
		}
	}
	if moved {
		return gather
	}
	return next
}

func (r *Reconciler) readPolicies(ctx context.Context) ([]policyInForce, error) {
	var list v1alpha1.MeshPolicyList
	if err := r.client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing MeshPolicies: %w", err)
	}
	policies := make([]policyInForce, 0, len(list.Items))
	for i := range list.Items {
		object := &list.Items[i]
		policy, err := rollout.NewPolicy(object)
		policies = append(policies, policyInForce{object: object, policy: policy, invalid: err})
	}
	return policies, nil
}

func usable(policies []policyInForce) []*rollout.Policy {
	var usable []*rollout.Policy
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

// act does what was decided. It reports whether the picture may have moved by it.
func (r *Reconciler) act(ctx context.Context, plan *rollout.Plan, policies []policyInForce) (bool, error) {
	moved := false
	var errs []error
	for _, namespace := range plan.Namespaces {
		for i := range namespace.Verdicts {
			verdict := &namespace.Verdicts[i]
			acted, err := r.actOn(ctx, verdict, objectOf(namespace.Policy, policies))
			errs = append(errs, err)
			moved = moved || acted
		}
	}
	return moved, errors.Join(errs...)
}

func (r *Reconciler) actOn(ctx context.Context, verdict *rollout.Verdict, policy *v1alpha1.MeshPolicy) (bool, error) {
	switch verdict.Step {
	case rollout.StepCheck:
		r.checker.Ask(ctx, verdict.CheckKey, verdict.Workload)
		return false, nil
	case rollout.StepRestart:
		return r.restart(ctx, verdict, policy)
	case rollout.StepFinish:
		return r.finish(ctx, verdict, policy)
	default:
		return false, nil
	}
}

func (r *Reconciler) restart(ctx context.Context, verdict *rollout.Verdict, policy *v1alpha1.MeshPolicy) (bool, error) {
	if stopped, err := r.stopped(ctx); err != nil || stopped {
		return false, err
	}
	became, err := r.actor.restart(ctx, verdict)
	object := verdict.Workload.Object
	switch {
	case became == writtenRefused:
		log.FromContext(ctx).Info("Admission refused a restart", "kind", object.Kind, "workload", klog.KObj(object), "reason", err.Error())
		r.checker.Remember(verdict.CheckKey, rollout.Check{Outcome: rollout.CheckRefused, Message: err.Error()}, false)
		r.announcer.Refused(verdict, policy, err)
		return true, nil
	case err != nil || became == writtenStale:
		return false, err
	}
	log.FromContext(ctx).Info("Restarted "+object.Kind, "workload", klog.KObj(object), "cause", verdict.Record.Cause)
	restartsStarted.WithLabelValues(string(verdict.Workload.Finding)).Inc()
	r.announcer.Started(verdict, policy)
	return true, nil
}

func (r *Reconciler) finish(ctx context.Context, verdict *rollout.Verdict, policy *v1alpha1.MeshPolicy) (bool, error) {
	became, err := r.actor.finish(ctx, verdict)
	if err != nil || became != writtenDone {
		return false, err
	}
	object, record := verdict.Workload.Object, verdict.Record
	log.FromContext(ctx).Info("Restart of "+object.Kind+" ended", "workload", klog.KObj(object), "result", record.Result, "message", record.Message)
	restartsEnded.WithLabelValues(string(record.Result)).Inc()
	r.announcer.Ended(verdict, policy)
	return true, nil
}

func objectOf(policy *rollout.Policy, policies []policyInForce) *v1alpha1.MeshPolicy {
	for i := range policies {
		if policy != nil && policies[i].policy == policy {
			return policies[i].object
		}
	}
	return nil
}
