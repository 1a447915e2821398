package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// Reconciler brings the cluster to full mesh: each pass looks at the whole inventory, decides, acts
// and reports.
type Reconciler struct {
	client    client.Client // reads from the informers, writes to the API server
	inventory *inventory.Inventory
	now       func() time.Time
	// system are the namespaces that are governed only where a label on them says so.
	system sets.Set[string]
	// evictionDisabled says that no Pod may be evicted.
	evictionDisabled bool

	debouncer   *debouncer
	checker     *checker
	actor       *actor
	guard       *guard
	watchHealth *watchHealth
	reporter    *reporter
	// ledgerRead says that every MeshRestart has been read from the API server since this process leads.
	ledgerRead bool
}

// policyInForce is a MeshPolicy with what became of it.
type policyInForce struct {
	object  *v1alpha1.MeshPolicy
	policy  *restart.Policy // nil where it cannot be told what it governs
	invalid error
}

// observation is what one pass decides on.
type observation struct {
	input    restart.Input
	policies []policyInForce
	// guardDue and healthDue are when the guard is worth trying again and a broken watch comes to count; zero where
	// they are not.
	guardDue, healthDue time.Time
}

// Reconcile makes one pass.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	begun := r.now()
	defer func() { r.debouncer.passTook(r.now().Sub(begun)) }()
	seen, err := r.observe(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	plan := restart.Decide(seen.input)
	newestPlan.plan.Store(plan)
	actAgain := r.act(ctx, plan, seen.policies)
	reportAgain, err := r.reporter.Report(ctx, plan, seen.policies, seen.input.WatchStale)
	// An error is retried with back-off. What time brings must not wait for that, so the result does not ask for it.
	now := seen.input.Now
	r.debouncer.In(shortest(actAgain, reportAgain, until(plan.NextChange, now), until(seen.guardDue, now), until(seen.healthDue, now)))
	return ctrl.Result{}, err
}

// observe gathers everything that the decision depends on.
func (r *Reconciler) observe(ctx context.Context) (*observation, error) {
	if err := r.readLedger(ctx); err != nil {
		return nil, err
	}
	policies, err := r.readPolicies(ctx)
	if err != nil {
		return nil, err
	}
	stopped, err := r.actor.stopped(ctx)
	if err != nil {
		return nil, err
	}
	snapshot := r.inventory.Snapshot()
	seen := &observation{policies: policies}
	var guardErr error
	if seen.guardDue, guardErr = r.guard.Try(ctx, snapshot); guardErr != nil {
		log.FromContext(ctx).Error(guardErr, "The admission guard could not be tried, and nothing is restarted until it has been")
	}
	stale, healthDue := r.watchHealth.Stale()
	seen.healthDue = healthDue
	seen.input = restart.Input{
		Now:              r.now(),
		Snapshot:         snapshot,
		Policies:         usable(policies),
		System:           r.system,
		WatchStale:       stale,
		Stopped:          stopped,
		Guard:            r.guard.State(),
		Answers:          r.checker.Answers(snapshot),
		Memory:           r.actor.recorder.Memory(),
		EvictionDisabled: r.evictionDisabled,
	}
	return seen, nil
}

// readLedger reads every MeshRestart from the API server once this process leads: the informer may be behind what
// another one has written.
func (r *Reconciler) readLedger(ctx context.Context) error {
	if r.ledgerRead {
		return nil
	}
	var ledger v1alpha1.MeshRestartList
	if err := r.actor.reader.List(ctx, &ledger); err != nil {
		return fmt.Errorf("listing MeshRestarts: %w", err)
	}
	for i := range ledger.Items {
		r.inventory.SetRestart(inventory.FromMeshRestart(&ledger.Items[i]))
	}
	r.ledgerRead = true
	return nil
}

// shortest is in how long something may have to be done without an event: the shortest of times that
// are 0 for never.
func shortest(waits ...time.Duration) time.Duration {
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
		policy, err := restart.NewPolicy(&list.Items[i])
		policies = append(policies, policyInForce{object: &list.Items[i], policy: policy, invalid: err})
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

// act hands out what was decided, and returns in how long it must be called again for what is put off; 0 where
// nothing is. It waits for no answer: workers act side by side, one step of a workload at a time.
func (r *Reconciler) act(ctx context.Context, plan *restart.Plan, policies []policyInForce) time.Duration {
	var again time.Duration
	for namespace, verdict := range plan.Steps() {
		if verdict.Step == restart.StepCheck {
			r.checker.Ask(ctx, verdict.CheckKey, verdict.Workload)
			continue
		}
		again = shortest(again, r.actor.Do(ctx, verdict, objectOf(namespace.Policy, policies)))
	}
	for _, namespace := range plan.Namespaces {
		for _, known := range namespace.Restarts {
			if known.Pending() {
				again = shortest(again, r.actor.Resolve(ctx, known))
			}
		}
		for _, unfinished := range namespace.Recheck {
			again = shortest(again, r.actor.Recheck(ctx, unfinished))
		}
		for _, surplus := range namespace.Surplus {
			again = shortest(again, r.actor.Prune(ctx, surplus))
		}
	}
	return again
}

func objectOf(policy *restart.Policy, policies []policyInForce) *v1alpha1.MeshPolicy {
	for i := range policies {
		if policy != nil && policies[i].policy == policy {
			return policies[i].object
		}
	}
	return nil
}
