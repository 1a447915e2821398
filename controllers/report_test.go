package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// reporting is a reporter whose time only a test moves.
type reporting struct {
	*reporter
	clock  *clock
	events *recorder
}

func newReporting(c client.Client) *reporting {
	clock, events := atNoon(), &recorder{}
	return &reporting{reporter: newReporter(c, clock.Now, announcer{recorder: events}), clock: clock, events: events}
}

// of reports plans of namespaces, and returns how soon to call again.
func (r *reporting) of(t *testing.T, plans ...*restart.NamespacePlan) time.Duration {
	t.Helper()
	again, err := r.Report(t.Context(), &restart.Plan{Namespaces: plans}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// in moves a plan to another namespace.
func in(namespace string, plan *restart.NamespacePlan) *restart.NamespacePlan {
	plan.Name = namespace
	return plan
}

// reportIn is the report of a namespace; nil where there is none.
func reportIn(t *testing.T, c client.Reader, namespace string) *v1alpha1.MeshReport {
	t.Helper()
	report := &v1alpha1.MeshReport{}
	err := c.Get(t.Context(), reportKey(namespace), report)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestReportIsWrittenWhenItChangesAndNotTooOften(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	r := newReporting(w.operator)
	version := ""
	for _, step := range []struct {
		name    string
		wait    time.Duration
		plan    *restart.NamespacePlan
		written bool
		again   time.Duration
	}{
		{"it is new", 0, planned(1, paused, settling), true, 0},
		{"nothing has changed", 0, planned(1, paused, settling), false, 0},
		{"nothing has changed for long", time.Hour, planned(1, paused, settling), false, 0},
		{"a row has changed", 0, planned(1, paused), true, 0},
		{"a row changes again at once", 0, planned(1, downtime), false, 500 * time.Millisecond},
		{"it is still too soon", 400 * time.Millisecond, planned(1, downtime), false, 100 * time.Millisecond},
		{"it is time", 100 * time.Millisecond, planned(1, downtime), true, 0},
		{"only counts have changed", 10 * time.Second, planned(2, downtime), false, 50 * time.Second},
		{"they change back", 10 * time.Second, planned(1, downtime), false, 0},
		{"they change again", 10 * time.Second, planned(3, downtime), false, 30 * time.Second},
		{"a condition changes", time.Second, planned(3), true, 0},
		{"counts change right after", time.Second, planned(4), false, 59 * time.Second},
		{"the minute is over", 59 * time.Second, planned(4), true, 0},
		{"another policy governs", time.Second, governedBy("other", planned(4)), true, 0},
	} {
		r.clock.pass(step.wait)
		again := r.of(t, in(shop, step.plan))
		report := reportIn(t, w.admin, shop)
		if written := report.ResourceVersion != version; written != step.written || again != step.again {
			t.Errorf("%s: written %t (want %t), again in %s (want %s)", step.name, written, step.written, again, step.again)
		}
		version = report.ResourceVersion
		checkReport(t, report.Status)
		checkConditions(t, report.Status.Conditions, report.Generation)
	}
}

func governedBy(policy string, plan *restart.NamespacePlan) *restart.NamespacePlan {
	plan.Policy = &restart.Policy{Name: policy, Mode: v1alpha1.ModeEnforce}
	return plan
}

func TestReportThatSomebodyDeletesComesBack(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	r := newReporting(w.operator)
	r.of(t, in(shop, planned(1, paused)))
	before := reportIn(t, w.admin, shop)
	if err := w.admin.Delete(t.Context(), before.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	r.clock.pass(changesEvery)
	r.of(t, in(shop, planned(1, paused)))
	after := reportIn(t, w.admin, shop)
	if after == nil || after.UID == before.UID {
		t.Fatalf("the report is %+v", after)
	}
	if diff := cmp.Diff(inShort(before.Status.Conditions), inShort(after.Status.Conditions)); diff != "" {
		t.Errorf("conditions (-before +after):\n%s", diff)
	}
}

func TestReportThatSomebodyOverwritesIsPutRight(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	r := newReporting(w.operator)
	r.of(t, in(shop, planned(1, paused)))
	report := reportIn(t, w.admin, shop)
	want := report.Status.DeepCopy()
	report.Status = v1alpha1.MeshReportStatus{Policy: "forged", Conditions: []metav1.Condition{
		{Type: "FullMesh", Status: metav1.ConditionTrue, Reason: "AllMeshed", Message: "All is well.", LastTransitionTime: metav1.NewTime(noon)},
		{Type: "Forged", Status: metav1.ConditionTrue, Reason: "Forged", Message: "All is well.", LastTransitionTime: metav1.NewTime(noon)},
	}}
	if err := w.admin.Status().Update(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	r.clock.pass(changesEvery)
	r.of(t, in(shop, planned(1, paused)))
	got := reportIn(t, w.admin, shop).Status
	for _, status := range []*v1alpha1.MeshReportStatus{want, &got} {
		for i := range status.Conditions {
			status.Conditions[i].LastTransitionTime = metav1.Time{}
		}
		for i := range status.Workloads {
			status.Workloads[i].Since = metav1.Time{}
		}
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}

func TestReportsThatAreNoLongerWorthItAreDeleted(t *testing.T) {
	w := apiServer(t)
	r := newReporting(w.operator)
	ungoverned, leaving, empty, forgotten, stays := w.namespace(t), w.namespace(t), w.namespace(t), w.namespace(t), w.namespace(t)
	var plans []*restart.NamespacePlan
	for _, namespace := range []string{ungoverned, leaving, empty, forgotten, stays} {
		plans = append(plans, in(namespace, planned(1, paused)))
	}
	r.of(t, plans...)
	without := in(ungoverned, planned(1, inProgress))
	without.Policy = nil
	terminating := in(leaving, planned(1, paused))
	terminating.Terminating = true
	r.clock.pass(time.Second)
	r.of(t, without, terminating, in(empty, planned(0)), in(stays, planned(1, paused)))
	for namespace, want := range map[string]bool{ungoverned: false, leaving: false, empty: false, forgotten: false, stays: true} {
		if there := reportIn(t, w.admin, namespace) != nil; there != want {
			t.Errorf("%s has a report: %t, want %t", namespace, there, want)
		}
	}
	// One that is governed again gets a report again.
	r.clock.pass(time.Second)
	r.of(t, in(ungoverned, planned(1, paused)), in(stays, planned(1, paused)))
	if reportIn(t, w.admin, ungoverned) == nil {
		t.Error("a namespace that is governed again has no report")
	}
}

// Somebody's finalizer keeps a report: it is not deleted again with each pass.
func TestReportThatIsBeingDeletedIsLeftAlone(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	report := &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: v1alpha1.ReportName,
		Finalizers: []string{"team.example.com/keep"}}}
	w.create(t, report)
	deletions := 0
	r := newReporting(intercept(t, w, interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			if object.GetNamespace() == shop {
				deletions++
			}
			return c.Delete(ctx, object, options...)
		},
	}))
	for range 3 {
		r.clock.pass(time.Minute)
		r.of(t)
	}
	if deletions != 1 {
		t.Errorf("it was deleted %d times", deletions)
	}
	w.patch(t, report, `{"metadata":{"finalizers":null}}`)
}

// Namespaces come and go by the thousand; nothing is kept of those that are gone.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	policy := builder.Enforcing("production").Build()
	r := newReporting(answering(interceptor.Funcs{}, policy))
	known := func() [3]int { return [3]int{len(r.reports), len(r.policies), len(r.writtenAt)} }
	report := func(policies []policyInForce, plans ...*restart.NamespacePlan) {
		t.Helper()
		r.clock.pass(time.Second)
		if _, err := r.Report(t.Context(), &restart.Plan{Namespaces: plans}, policies, ""); err != nil {
			t.Fatal(err)
		}
	}
	report([]policyInForce{inForce(t, policy)}, in("a", planned(1)), in("b", planned(1)))
	if known() != [3]int{2, 1, 3} {
		t.Errorf("reports, policies and times: %v", known())
	}
	report([]policyInForce{inForce(t, policy)}, in("a", planned(1)))
	if known() != [3]int{1, 1, 2} {
		t.Errorf("without a namespace: %v", known())
	}
	report(nil)
	if known() != [3]int{0, 0, 0} {
		t.Errorf("without all: %v", known())
	}
}

// The informers lag behind. What they have not seen yet is no error, and is not done twice.
func TestReportsUnderALaggingInformer(t *testing.T) {
	w := apiServer(t)
	var seen v1alpha1.MeshReportList
	lagging := intercept(t, w, interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			*list.(*v1alpha1.MeshReportList) = *seen.DeepCopy()
			return nil
		},
	})
	see := func(reports ...*v1alpha1.MeshReport) {
		seen.Items = nil
		for _, report := range reports {
			seen.Items = append(seen.Items, *report)
		}
	}

	t.Run("its own write has not been seen", func(t *testing.T) {
		shop := w.namespace(t)
		r := newReporting(lagging)
		see()
		r.of(t, in(shop, planned(1, paused)))
		see(reportIn(t, w.admin, shop))
		r.clock.pass(time.Second)
		r.of(t, in(shop, planned(1, downtime)))
		r.clock.pass(time.Second)
		if again := r.of(t, in(shop, planned(1, downtime))); again != 0 {
			t.Errorf("what was written is written again in %s", again)
		}
		r.clock.pass(time.Second)
		if again := r.of(t, in(shop, planned(2))); again != 0 {
			t.Errorf("a change upon its own write is put off for %s", again)
		}
		if got := inShort(reportIn(t, w.admin, shop).Status.Conditions); !slices.Contains(got, "FullMesh=True/AllMeshed") {
			t.Errorf("conditions are %v", got)
		}
	})
	t.Run("its creation has not been seen", func(t *testing.T) {
		shop := w.namespace(t)
		see()
		newReporting(lagging).of(t, in(shop, planned(1, paused)))
		// The next leader has as old a inventory.
		r := newReporting(lagging)
		if again := r.of(t, in(shop, planned(1, downtime))); again != writeAgainAfter || len(r.events.take()) > 0 {
			t.Errorf("it is tried again in %s", again)
		}
		see(reportIn(t, w.admin, shop))
		r.clock.pass(writeAgainAfter)
		if again := r.of(t, in(shop, planned(1, downtime))); again != 0 || len(r.events.take()) != 1 {
			t.Errorf("when it was seen, it is tried again in %s", again)
		}
	})
	t.Run("somebody else's write has not been seen", func(t *testing.T) {
		shop := w.namespace(t)
		r := newReporting(lagging)
		see()
		r.of(t, in(shop, planned(1, paused)))
		r.events.take()
		old := reportIn(t, w.admin, shop)
		see(old)
		w.patch(t, old.DeepCopy(), `{"metadata":{"labels":{"team":"a"}}}`)
		r.clock.pass(time.Second)
		if again := r.of(t, in(shop, planned(1, downtime))); again != writeAgainAfter || len(r.events.take()) > 0 {
			t.Errorf("a conflict is tried again in %s", again)
		}
		see(reportIn(t, w.admin, shop))
		r.clock.pass(writeAgainAfter)
		if again := r.of(t, in(shop, planned(1, downtime))); again != 0 || len(r.events.take()) != 1 {
			t.Errorf("when it was seen, it is tried again in %s", again)
		}
		if got := reportIn(t, w.admin, shop).Status.Workloads[0].Name; got != "alone" {
			t.Errorf("the row is %s", got)
		}
	})
	t.Run("a report that was deleted and made again is not the one to delete", func(t *testing.T) {
		shop := w.namespace(t)
		old := &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: v1alpha1.ReportName}}
		w.create(t, old)
		see(old)
		if err := w.admin.Delete(t.Context(), old.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		w.create(t, &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: v1alpha1.ReportName}})
		newReporting(lagging).of(t)
		if reportIn(t, w.admin, shop) == nil {
			t.Error("the new one was deleted")
		}
	})
	t.Run("the namespace is being deleted", func(t *testing.T) {
		shop := w.namespace(t)
		see()
		if err := w.admin.Delete(t.Context(), builder.Namespace(shop).Build(), client.Preconditions{}); err != nil {
			t.Fatal(err)
		}
		newReporting(lagging).of(t, in(shop, planned(1, paused)))
	})
	t.Run("the namespace is gone", func(t *testing.T) {
		see()
		newReporting(lagging).of(t, in("never-was", planned(1, paused)))
	})
	t.Run("the policy is gone", func(t *testing.T) {
		see()
		policy := builder.Enforcing("never-was").Build()
		_, err := newReporting(lagging).Report(t.Context(), &restart.Plan{},
			[]policyInForce{{object: policy, invalid: errors.New("no such operator")}}, "")
		if err != nil {
			t.Error(err)
		}
	})
}

func TestReportThatCannotBeWrittenIsAnErrorAndKeepsNoOther(t *testing.T) {
	tries := 0
	r := newReporting(answering(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			if object.GetNamespace() == "broken" {
				tries++
				return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("meshreports").GroupResource(), "mesh", errors.New("exceeded quota"))
			}
			return c.Create(ctx, object, options...)
		},
	}))
	report := func() (time.Duration, error) {
		return r.Report(t.Context(), &restart.Plan{Namespaces: []*restart.NamespacePlan{in("broken", planned(1, paused)),
			in("shop", planned(1, paused))}}, nil, "")
	}
	again, err := report()
	if err == nil || !strings.Contains(err.Error(), "creating a MeshReport") || again != restart.FirstRetry {
		t.Errorf("again in %s, %v", again, err)
	}
	if sent := r.events.take(); len(sent) != 1 || reportIn(t, r.client, "shop") == nil {
		t.Errorf("the other report was not written; Events: %v", sent)
	}
	// It is left alone for longer and longer, and then that is no error.
	for _, step := range []struct {
		wait  time.Duration
		tried bool
	}{{time.Second, false}, {time.Second, true}, {2 * time.Second, false}, {2 * time.Second, true}} {
		r.clock.pass(step.wait)
		before := tries
		if _, err := report(); (tries > before) != step.tried || (err != nil) != step.tried {
			t.Errorf("after %s: it was tried %d times, %v", r.clock.Now().Sub(noon), tries, err)
		}
	}
}

func TestListingReportsFails(t *testing.T) {
	r := newReporting(answering(interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("no cache")
		},
	}))
	if _, err := r.Report(t.Context(), &restart.Plan{}, nil, ""); err == nil || !strings.Contains(err.Error(), "listing MeshReports") {
		t.Errorf("the error is %v", err)
	}
}

// More changes than may be written: all reports get their turn, and the policy is not last.
func TestReportsTakeTurns(t *testing.T) {
	const namespaces = 3 * reportWrites
	writes := map[string]int{}
	count := func(ctx context.Context, c client.Client, _ string, object client.Object, _ ...client.SubResourceUpdateOption) error {
		writes[object.GetNamespace()]++ // none for the policy
		return c.Status().Update(ctx, object)
	}
	policy := builder.Enforcing("production").Build()
	r := newReporting(answering(interceptor.Funcs{SubResourceUpdate: count}, policy))
	var waits []time.Duration
	for pass := range 8 {
		plan := &restart.Plan{}
		for i := range namespaces {
			verdict := []restart.Verdict{paused, downtime}[pass%2]
			plan.Namespaces = append(plan.Namespaces, in(fmt.Sprintf("shop-%02d", i), planned(1, verdict)))
		}
		current := &v1alpha1.MeshPolicy{}
		if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(policy), current); err != nil {
			t.Fatal(err)
		}
		mine := inForce(t, current)
		plan.Policies = map[*restart.Policy]*restart.PolicyPlan{mine.policy: {}}
		if pass%2 == 0 {
			plan.Policies[mine.policy] = gated(restart.ReasonStopped)
		}
		again, err := r.Report(t.Context(), plan, []policyInForce{mine}, "")
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, again)
		r.clock.pass(500 * time.Millisecond)
	}
	total := 0
	for i := range namespaces {
		name := fmt.Sprintf("shop-%02d", i)
		total += writes[name]
		if writes[name] == 0 || writes[name] > 3 {
			t.Errorf("%s was written %d times", name, writes[name])
		}
	}
	if writes[""] != 8 {
		t.Errorf("the policy was written %d times in 8 passes", writes[""])
	}
	if most := reportWrites + 7*reportWrites/2; total+writes[""] > most || total < most*3/4 {
		t.Errorf("%d writes in 3.5 seconds, want at most %d", total, most)
	}
	for pass, wait := range waits {
		if wait == 0 || wait > changesEvery {
			t.Errorf("pass %d: what is put off is written in %s", pass, wait)
		}
	}
}

func inForce(t *testing.T, object *v1alpha1.MeshPolicy) policyInForce {
	t.Helper()
	policy, err := restart.NewPolicy(object)
	return policyInForce{object: object, policy: policy, invalid: err}
}

func TestHoldsAreAnnouncedOnce(t *testing.T) {
	r := newReporting(answering(interceptor.Funcs{}))
	var many []restart.Verdict
	for i := range 70 {
		many = append(many, held(fmt.Sprintf("app-%02d", i), restart.ReasonPaused, v1alpha1.ClearedByOwner))
	}
	reportOnly := func(plan *restart.NamespacePlan) *restart.NamespacePlan {
		plan.Policy = &restart.Policy{Name: "production", Mode: v1alpha1.ModeReport}
		return plan
	}
	ownerless := held("ownerless", restart.ReasonNoController, v1alpha1.ClearedByOwner)
	ownerless.Workload.Object = nil
	for _, step := range []struct {
		name string
		plan *restart.NamespacePlan
		want []string
	}{
		{"somebody must act", planned(1, paused), []string{"Warning Paused on Deployment paused: Because."}},
		{"still", planned(1, paused), nil},
		{"it still is, and more Pods are in", planned(2, paused), nil},
		{"what waits, goes on or has no object is not announced", planned(1, paused, settling, usedUp, inProgress, due, ownerless), nil},
		{"another reason", planned(1, held("paused", restart.ReasonOptedOut, v1alpha1.ClearedByOwner)),
			[]string{"Warning OptedOut on Deployment paused: Because."}},
		{"the rest does not change", planned(2, held("paused", restart.ReasonOptedOut, v1alpha1.ClearedByOwner), downtime),
			[]string{"Warning WouldCauseDowntime on Deployment alone: Because."}},
		{"a policy that only reports sends none", reportOnly(planned(1, paused)), nil},
		{"all is well", planned(2), nil},
		{"it begins again", planned(1, paused), []string{"Warning Paused on Deployment paused: Because."}},
	} {
		r.clock.pass(2 * time.Minute)
		r.of(t, step.plan)
		if diff := cmp.Diff(step.want, r.events.take()); diff != "" {
			t.Errorf("%s: Events (-want +got):\n%s", step.name, diff)
		}
	}
	r.clock.pass(2 * time.Minute)
	r.of(t, planned(1, many...))
	if sent := r.events.take(); len(sent) != v1alpha1.MaxReportedWorkloads {
		t.Errorf("%d Events about 70 holds", len(sent))
	}
	r.clock.pass(2 * time.Minute)
	r.of(t, planned(2, many...))
	if sent := r.events.take(); len(sent) > 0 {
		t.Errorf("%d Events again", len(sent))
	}
}

func TestStatusOfAPolicyIsWrittenWhenItChanges(t *testing.T) {
	w := apiServer(t)
	policy := builder.Enforcing("reported").Over("team", "none").Build()
	w.create(t, policy)
	r := newReporting(w.operator)
	report := func(t *testing.T, gate restart.Reason, meshed int) time.Duration {
		t.Helper()
		current := inForce(t, get(t, w, policy).DeepCopy())
		plan := &restart.Plan{Policies: map[*restart.Policy]*restart.PolicyPlan{current.policy: gated(gate)}}
		if meshed > 0 {
			plan.Namespaces = append(plan.Namespaces, in("never-was", planned(meshed)))
			plan.Namespaces[0].Policy = &restart.Policy{Name: policy.Name}
			plan.Namespaces[0].Terminating = true
		}
		again, err := r.Report(t.Context(), plan, []policyInForce{current}, "")
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	version := policy.ResourceVersion
	for _, step := range []struct {
		name    string
		wait    time.Duration
		gate    restart.Reason
		meshed  int
		edit    string
		written bool
		again   time.Duration
	}{
		{name: "it is new", written: true},
		{name: "nothing has changed", wait: time.Hour},
		{name: "the red button is pressed", gate: restart.ReasonStopped, written: true},
		{name: "and let go at once", again: changesEvery},
		{name: "half a second later", wait: changesEvery, written: true},
		{name: "a Pod is in", wait: time.Second, meshed: 1, written: true},
		{name: "another Pod is in", wait: time.Second, meshed: 2, again: 59 * time.Second},
		{name: "the spec has changed", wait: time.Second, meshed: 2, edit: `{"spec":{"settleSeconds":5}}`, written: true},
	} {
		if step.edit != "" {
			w.patch(t, policy, step.edit)
			version = policy.ResourceVersion
		}
		r.clock.pass(step.wait)
		again := report(t, step.gate, step.meshed)
		got := get(t, w, policy)
		if written := got.ResourceVersion != version; written != step.written || again != step.again {
			t.Errorf("%s: written %t (want %t), again in %s (want %s)", step.name, written, step.written, again, step.again)
		}
		if step.written && *got.Status.ObservedGeneration != got.Generation {
			t.Errorf("%s: generation %d is observed of %d", step.name, *got.Status.ObservedGeneration, got.Generation)
		}
		version = got.ResourceVersion
	}
}

func TestStateOfAPolicySumsUpItsNamespaces(t *testing.T) {
	object := builder.Enforcing("production").Build()
	mine := inForce(t, object)
	others := &restart.Policy{Name: "other"}
	governed := func(policy *restart.Policy, plan *restart.NamespacePlan) *restart.NamespacePlan {
		plan.Policy = policy
		return plan
	}
	plan := &restart.Plan{Namespaces: []*restart.NamespacePlan{
		governed(mine.policy, planned(2)),
		governed(mine.policy, planned(0)),
		governed(mine.policy, planned(3, downtime, settling)),
		governed(mine.policy, planned(1, paused, inProgress)),
		governed(others, planned(7, paused)),
		governed(nil, planned(9, inProgress)),
	}}
	own := gated(restart.ReasonStopped)
	plan.Policies = map[*restart.Policy]*restart.PolicyPlan{mine.policy: own, others: gated(restart.ReasonWindowClosed)}
	got := stateOf(plan, &mine, "pods cannot be watched")
	if got.plan != own || got.watchStale != "pods cannot be watched" {
		t.Errorf("the state has the plan %+v of the policy, and the watch %q", got.plan, got.watchStale)
	}
	want := policyState{
		matched: 4, complete: 2, worst: "Deployment shop/alone (WouldCauseDowntime)",
		sum: restart.Summary{Complete: 3, InFlight: 1, Waiting: 1, NeedsAction: 2, Eligible: 10, Meshed: 6},
	}
	got.sum.NotExpected, got.plan, got.watchStale = nil, nil, ""
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(policyState{})); diff != "" {
		t.Errorf("the state (-want +got):\n%s", diff)
	}
	invalid := policyInForce{object: object, invalid: errors.New("no such operator")}
	if got := stateOf(plan, &invalid, ""); got.invalid == nil || got.matched != 0 {
		t.Errorf("the state of an invalid policy is %+v", got)
	}
}

func TestNewerIsWhatWasWrittenUnlessTheInformerKnowsBetter(t *testing.T) {
	report := func(uid, version string) *v1alpha1.MeshReport {
		return &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}
	}
	for _, test := range []struct {
		name           string
		known, written *v1alpha1.MeshReport
		want           string
	}{
		{"nothing is known", nil, nil, ""},
		{"nothing was written", report("a", "5"), nil, "a/5"},
		{"the informer lags behind", report("a", "9"), report("a", "10"), "a/10"},
		{"both know the same", report("a", "10"), report("a", "10"), "a/10"},
		{"somebody has written since", report("a", "11"), report("a", "10"), "a/11"},
		{"it was deleted", nil, report("a", "10"), ""},
		{"it was deleted and made again", report("b", "9"), report("a", "10"), "b/9"},
	} {
		got := ""
		if report := newer(test.known, test.written); report != nil {
			got = string(report.UID) + "/" + report.ResourceVersion
		}
		if got != test.want {
			t.Errorf("%s: it is %q, want %q", test.name, got, test.want)
		}
	}
}
