package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// How fast reports are written: overall in writes a second, and how often each where something has
// changed that matters and where only counts have.
const (
	reportWrites    = 20
	changesEvery    = 500 * time.Millisecond
	countsEvery     = time.Minute
	writeAgainAfter = 250 * time.Millisecond
)

// reporter writes MeshReports and the status of policies, where they have changed.
type reporter struct {
	client    client.Client // reads from the informers, writes to the API server
	now       func() time.Time
	announcer announcer
	limit     *rate.Limiter

	// What was written last, which the informers may not know of yet, and when.
	reports   map[string]*v1alpha1.MeshReport
	policies  map[string]*v1alpha1.MeshPolicy
	writtenAt map[client.ObjectKey]time.Time
	// failed are those of which the last write was refused or had no answer.
	failed backOff[client.ObjectKey]
}

func newReporter(c client.Client, now func() time.Time, announcer announcer) *reporter {
	return &reporter{
		client:    c,
		now:       now,
		announcer: announcer,
		limit:     rate.NewLimiter(reportWrites, reportWrites),
		reports:   map[string]*v1alpha1.MeshReport{},
		policies:  map[string]*v1alpha1.MeshPolicy{},
		writtenAt: map[client.ObjectKey]time.Time{},
	}
}

// Report writes what the plan says. It returns how soon it wants to be called again for what it put
// off; 0 where it put off nothing.
func (r *reporter) Report(ctx context.Context, plan *restart.Plan, policies []policyInForce, watchStale string) (time.Duration, error) {
	var known v1alpha1.MeshReportList
	if err := r.client.List(ctx, &known); err != nil {
		return 0, fmt.Errorf("listing MeshReports: %w", err)
	}
	existing := map[string]*v1alpha1.MeshReport{}
	for i := range known.Items {
		existing[known.Items[i].Namespace] = &known.Items[i]
	}
	var again time.Duration
	var errs []error
	putOff := func(wait time.Duration, err error) {
		errs = append(errs, err)
		again = shortest(again, wait)
	}
	for i := range policies {
		putOff(r.reportPolicy(ctx, &policies[i], stateOf(plan, &policies[i], watchStale)))
	}
	worth := map[string]bool{}
	for _, namespace := range r.inTurn(plan.Namespaces) {
		worth[namespace.Name] = true
		putOff(r.reportNamespace(ctx, namespace, existing[namespace.Name], watchStale))
	}
	for namespace, report := range existing {
		if !worth[namespace] && report.DeletionTimestamp == nil {
			putOff(r.deleteReport(ctx, report))
		}
	}
	r.forget(worth, policies)
	return again, errors.Join(errs...)
}

// forget drops what is remembered of reports and policies that are no more.
func (r *reporter) forget(worth map[string]bool, policies []policyInForce) {
	maps.DeleteFunc(r.reports, func(namespace string, _ *v1alpha1.MeshReport) bool { return !worth[namespace] })
	maps.DeleteFunc(r.policies, func(name string, _ *v1alpha1.MeshPolicy) bool {
		return !slices.ContainsFunc(policies, func(policy policyInForce) bool { return policy.object.Name == name })
	})
	maps.DeleteFunc(r.writtenAt, func(key client.ObjectKey, _ time.Time) bool {
		return r.reports[key.Namespace] == nil && r.policies[key.Name] == nil
	})
}

// inTurn are the namespaces that are worth a report, those first whose report is the oldest: where
// there is more to write than may be written, all get their turn.
func (r *reporter) inTurn(namespaces []*restart.NamespacePlan) []*restart.NamespacePlan {
	inTurn := slices.DeleteFunc(slices.Clone(namespaces), func(namespace *restart.NamespacePlan) bool { return !namespace.WorthReporting() })
	slices.SortStableFunc(inTurn, func(a, b *restart.NamespacePlan) int {
		return r.writtenAt[reportKey(a.Name)].Compare(r.writtenAt[reportKey(b.Name)])
	})
	return inTurn
}

func reportKey(namespace string) client.ObjectKey {
	return client.ObjectKey{Namespace: namespace, Name: v1alpha1.ReportName}
}

func (r *reporter) reportNamespace(ctx context.Context, plan *restart.NamespacePlan, known *v1alpha1.MeshReport,
	watchStale string) (time.Duration, error) {
	report := newer(known, r.reports[plan.Name])
	before := v1alpha1.MeshReportStatus{}
	if report != nil {
		before = report.Status
	} else {
		report = &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: plan.Name, Name: v1alpha1.ReportName}}
	}
	status := r.statusOf(plan, before, report.Generation, watchStale)
	if equality.Semantic.DeepEqual(before, status) {
		return 0, nil
	}
	key := reportKey(plan.Name)
	if wait := r.wait(key, sameButCounts(before.Conditions, status.Conditions) && sameRows(before, status)); wait > 0 {
		return wait, nil
	}
	fresh := report.DeepCopy()
	if fresh.ResourceVersion == "" {
		if err := r.client.Create(ctx, fresh); err != nil {
			return r.writeAgain(key, err, "creating a MeshReport")
		}
		status = r.statusOf(plan, before, fresh.Generation, watchStale)
	}
	fresh.Status = status
	if err := r.client.Status().Update(ctx, fresh); err != nil {
		delete(r.reports, plan.Name)
		return r.writeAgain(key, err, "writing a MeshReport")
	}
	r.reports[plan.Name] = fresh
	r.writtenAt[key] = r.now()
	r.failed.succeeded(key)
	r.announceHolds(plan, before)
	return 0, nil
}

// statusOf is what is reported of a namespace: while the cluster cannot be watched, nothing that was seen is
// held to be so.
func (r *reporter) statusOf(plan *restart.NamespacePlan, before v1alpha1.MeshReportStatus, generation int64,
	watchStale string) v1alpha1.MeshReportStatus {
	status := reportStatus(plan, before, generation, r.now())
	if watchStale != "" {
		status.Conditions = nil
		set := conditionSetter(&status.Conditions, before.Conditions, generation, r.now())
		setUnknown(set, watchStale, v1alpha1.ConditionReady, v1alpha1.ConditionFullMesh, v1alpha1.ConditionSettled)
	}
	return status
}

// announceHolds sends an Event for every hold that somebody must end and that was not reported
// before. What was said before of those that a report leaves out is not known.
func (r *reporter) announceHolds(plan *restart.NamespacePlan, before v1alpha1.MeshReportStatus) {
	for i := range plan.Verdicts[:min(len(plan.Verdicts), v1alpha1.MaxReportedWorkloads)] {
		verdict := &plan.Verdicts[i]
		if verdict.NeedsAction() && plan.Policy.Mode == v1alpha1.ModeEnforce &&
			!slices.ContainsFunc(before.Workloads, func(row v1alpha1.ReportedWorkload) bool {
				return row.WorkloadReference == reference(verdict.Workload.Key) && row.Reason == string(verdict.Reason)
			}) {
			r.announcer.Held(verdict)
		}
	}
}

func (r *reporter) deleteReport(ctx context.Context, report *v1alpha1.MeshReport) (time.Duration, error) {
	key := client.ObjectKeyFromObject(report)
	if wait := r.mayWriteIn(key); wait > 0 {
		return wait, nil
	}
	if err := r.client.Delete(ctx, report, client.Preconditions{UID: &report.UID}); err != nil {
		return r.writeAgain(key, err, "deleting a MeshReport")
	}
	return 0, nil
}

func (r *reporter) reportPolicy(ctx context.Context, policy *policyInForce, state policyState) (time.Duration, error) {
	object := newer(policy.object, r.policies[policy.object.Name])
	status := policyStatus(&state, object, r.now())
	if equality.Semantic.DeepEqual(object.Status, status) {
		return 0, nil
	}
	key := client.ObjectKeyFromObject(object)
	countsOnly := sameButCounts(object.Status.Conditions, status.Conditions) &&
		equality.Semantic.DeepEqual(object.Status.Breaker, status.Breaker) &&
		equality.Semantic.DeepEqual(object.Status.Workloads, status.Workloads)
	if wait := r.wait(key, countsOnly); wait > 0 {
		return wait, nil
	}
	fresh := object.DeepCopy()
	fresh.Status = status
	if err := r.client.Status().Update(ctx, fresh); err != nil {
		delete(r.policies, object.Name)
		return r.writeAgain(key, err, "writing the status of a MeshPolicy")
	}
	r.policies[object.Name] = fresh
	r.writtenAt[key] = r.now()
	r.failed.succeeded(key)
	r.announcer.Breaker(fresh, object.Status.Breaker, state.plan)
	return 0, nil
}

// writeAgain is how soon to write again after an error.
func (r *reporter) writeAgain(key client.ObjectKey, err error, doing string) (time.Duration, error) {
	if err = ignoreStale(err, doing); err == nil {
		return writeAgainAfter, nil
	}
	return r.failed.failed(key, r.now(), restart.LastRetry).Sub(r.now()), err
}

// wait is how long a write has to be put off.
func (r *reporter) wait(key client.ObjectKey, countsOnly bool) time.Duration {
	every := changesEvery
	if countsOnly {
		every = countsEvery
	}
	if due := r.writtenAt[key].Add(every).Sub(r.now()); due > 0 {
		return due
	}
	return r.mayWriteIn(key)
}

// mayWriteIn is how long a write has to be put off whatever it says.
func (r *reporter) mayWriteIn(key client.ObjectKey) time.Duration {
	if wait := r.failed.wait(key, r.now()); wait > 0 {
		return wait
	}
	if !r.limit.AllowN(r.now(), 1) {
		return writeAgainAfter
	}
	return 0
}

// newer is what was written, unless the informer knows something newer; nil where neither is.
func newer[T interface {
	comparable
	client.Object
}](known, written T) T {
	var none T
	switch {
	case written == none:
		return known
	case known == none:
		return known
	case known.GetUID() == written.GetUID() && inventory.Newer(written.GetResourceVersion(), known.GetResourceVersion()):
		return written
	default:
		return known
	}
}

// sameButCounts reports whether conditions differ in no more than sentences.
func sameButCounts(before, after []metav1.Condition) bool {
	return len(before) == len(after) && !slices.ContainsFunc(after, func(condition metav1.Condition) bool {
		old := meta.FindStatusCondition(before, condition.Type)
		return old == nil || old.Status != condition.Status || old.Reason != condition.Reason ||
			old.ObservedGeneration != condition.ObservedGeneration
	})
}

// sameRows reports whether a report lists the same workloads for the same reasons, and the same
// restarts.
func sameRows(before, after v1alpha1.MeshReportStatus) bool {
	return before.Policy == after.Policy &&
		equality.Semantic.DeepEqual(before.Breaker, after.Breaker) &&
		slices.EqualFunc(before.Workloads, after.Workloads, func(a, b v1alpha1.ReportedWorkload) bool {
			return a.WorkloadReference == b.WorkloadReference && a.Action == b.Action && a.Reason == b.Reason && a.Finding == b.Finding
		})
}

// ignoreStale leaves out errors that say that the object has moved on or gone: the informers bring
// what is true.
func ignoreStale(err error, doing string) error {
	switch {
	case err == nil, apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// stateOf sums up what a policy's status says.
func stateOf(plan *restart.Plan, policy *policyInForce, watchStale string) policyState {
	state := policyState{invalid: policy.invalid, watchStale: watchStale}
	if policy.policy == nil {
		return state
	}
	state.plan = plan.Policies[policy.policy]
	for _, namespace := range plan.Namespaces {
		if namespace.Policy == nil || namespace.Policy.Name != policy.object.Name {
			continue
		}
		sum := namespace.Summarise()
		state.sum.Add(sum)
		state.matched++
		if sum.FullMesh() || sum.Eligible == 0 {
			state.complete++
		}
		if state.worst == "" {
			state.worst = worst(namespace.Verdicts)
		}
	}
	return state
}
