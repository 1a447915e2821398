package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// servedTo is a policy that has taken in a request so long ago.
func servedTo(value string, ago time.Duration) *v1alpha1.MeshPolicy {
	policy := builder.Enforcing("mesh").Unbounded().Build()
	policy.Annotations = map[string]string{v1alpha1.RetryAnnotation: value}
	policy.Status.ObservedGeneration = new(int64(1))
	policy.Status.RetryServed = &v1alpha1.ServedRetry{Value: value, Time: metav1.NewTime(noon.Add(-ago))}
	return policy
}

// servedIn is what the report of every namespace says of a request that it has taken in.
func servedIn(value string, ago time.Duration) func(*restart.Input) {
	return func(in *restart.Input) {
		in.Reported = func(string) *v1alpha1.MeshReportStatus {
			return &v1alpha1.MeshReportStatus{
				Conditions:  []metav1.Condition{{Type: v1alpha1.ConditionReady}},
				RetryServed: &v1alpha1.ServedRetry{Value: value, Time: metav1.NewTime(noon.Add(-ago))},
			}
		}
	}
}

// A request lets what failed, was in vain, was taken back or was done already be tried once more; what
// ended after it, and what it was served to, is not.
func TestRequestIsServedOnce(t *testing.T) {
	const minute = time.Minute
	failed := func(changes ...func(*inventory.Record)) []any { return failedAgo("shop", "cart", 5*minute, changes...) }
	tried := func(result v1alpha1.RestartResult) []any {
		return asking(tried("shop", "cart", result, 5*minute))
	}
	for name, test := range map[string]struct {
		scene  *scene
		reason restart.Reason
	}{
		"nobody asks":                               {newScene(failed()), restart.ReasonRestartFailed},
		"the owner asks, for one that failed":       {newScene(tried(v1alpha1.ResultFailed)), restart.ReasonRestartDue},
		"the owner asks, for one in vain":           {newScene(tried(v1alpha1.ResultIneffective)).checkedSince(), restart.ReasonRestartDue},
		"the owner asks, for one taken back":        {newScene(tried(v1alpha1.ResultReverted)), restart.ReasonRestartDue},
		"the owner asks, for one rolled back":       {newScene(tried(v1alpha1.ResultRolledBack)), restart.ReasonRestartDue},
		"the owner asks by a value that was served": {newScene(asking(failed(func(r *inventory.Record) { r.Retry = "now" }))), restart.ReasonRestartFailed},
		"the owner asks by another value":           {newScene(asking(failed(func(r *inventory.Record) { r.Retry = "before" }))), restart.ReasonRestartDue},
		"on the policy, after it failed":            {newScene(servedTo("now", minute), failed()), restart.ReasonRestartDue},
		"on the policy, before it failed":           {newScene(servedTo("now", 6*minute), failed()), restart.ReasonRestartFailed},
		"on the policy, and it was served":          {newScene(servedTo("now", minute), failed(func(r *inventory.Record) { r.Asked = noon.Add(-minute).Unix() })), restart.ReasonRestartFailed},
		"on the policy, and an earlier one was served": {
			newScene(servedTo("now", minute), failed(func(r *inventory.Record) { r.Asked = noon.Add(-10 * minute).Unix() })), restart.ReasonRestartDue},
		"on the policy, long ago":                {newScene(servedTo("now", noon.Sub(time.Unix(0, 0))), failed()), restart.ReasonRestartFailed},
		"on the namespace, after it failed":      {newScene(failed()).when(servedIn("now", minute)), restart.ReasonRestartDue},
		"on the namespace, before it failed":     {newScene(failed()).when(servedIn("now", 6*minute)), restart.ReasonRestartFailed},
		"and it is not taken in yet":             {newScene(askedPolicy(), failed()), restart.ReasonRestartFailed},
		"for one of which the Pods are all in":   {newScene(asking(withPods(failed(), readyInMeshAt(noon), readyInMeshAt(noon), crashing))), restart.ReasonRestartFailed},
		"though the Pods of the failed one fail": {newScene(asking(withPods(failed(), uninjected, uninjected, crashing))), restart.ReasonRestartDue},
		"though its own rollout goes on":         {newScene(asking(rollingOut(failed()))), restart.ReasonRestartDue},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Reason != test.reason {
				t.Fatalf("verdict %s: %s", verdict.Reason, verdict.Message)
			}
			if test.reason != restart.ReasonRestartDue {
				return
			}
			// When it has been served, and failed as well, it is not served again.
			record := verdict.Record.Ended(v1alpha1.ResultFailed, "It has failed.", noon)
			again := test.scene.with(withRecord(test.scene.objects, record)...)
			again.Now = noon.Add(time.Second)
			if verdict := only(t, again.decide()); verdict.Reason != restart.ReasonRestartFailed {
				t.Errorf("served, it is %s: %s", verdict.Reason, verdict.Message)
			}
		})
	}
}

// A request that is taken in is written down with what was there before; one that was there first of all
// asks for nothing.
func TestRequestIsTakenIn(t *testing.T) {
	served := func(s *scene) *v1alpha1.ServedRetry {
		for _, standing := range s.decide().Policies {
			return standing.RetryServed
		}
		return nil
	}
	ahead := func(r *inventory.Record) { r.Start = noon }
	for name, test := range map[string]struct {
		scene *scene
		value string
		at    time.Time
	}{
		"now":                                    {newScene(askedPolicy(), outside(cart(), 3)), "again", noon},
		"after what failed by a clock ahead":     {newScene(askedPolicy(), failedAgo("shop", "cart", -5*time.Minute, ahead)), "again", noon.Add(5 * time.Minute)},
		"not after what fails in the future":     {newScene(askedPolicy(), failedAgo("shop", "cart", -11*time.Minute, ahead)), "again", noon},
		"not once more":                          {newScene(servedTo("now", time.Hour), outside(cart(), 3)), "now", noon.Add(-time.Hour)},
		"for nothing, where it was there before": {newScene(unseen(askedPolicy()), outside(cart(), 3)), "again", time.Unix(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := served(test.scene); got == nil || got.Value != test.value || !got.Time.Time.Equal(test.at) {
				t.Errorf("taken in: %+v", got)
			}
		})
	}
	long := askedPolicy()
	long.Annotations[v1alpha1.RetryAnnotation] = strings.Repeat("x", 1000)
	if got := served(newScene(long, outside(cart(), 3))); got == nil || len(got.Value) > 64 || !strings.HasPrefix(got.Value, "sha256:") {
		t.Errorf("a long one is written down as %+v", got)
	}
}

// askedPolicy asks for another try, and that is not taken in yet.
func askedPolicy() *v1alpha1.MeshPolicy {
	policy := servedTo("again", 0)
	policy.Status.RetryServed = nil
	return policy
}

func unseen(policy *v1alpha1.MeshPolicy) *v1alpha1.MeshPolicy {
	policy.Status.ObservedGeneration = nil
	return policy
}

// withPods is a workload with other Pods.
func withPods(objects []any, pods ...func(*builder.PodBuilder)) []any {
	return runs(objects[0].(metav1.Object), pods...)
}

// rollingOut is a Deployment whose controller has not replaced every Pod.
func rollingOut(objects []any) []any {
	objects[0].(*appsv1.Deployment).Status.UpdatedReplicas = 1
	return objects
}

// withRecord is the Deployment cart with another record, and the rest as it is.
func withRecord(objects []any, record inventory.Record) []any {
	changed := []any{}
	for _, object := range objects {
		switch object := object.(type) {
		case *appsv1.Deployment:
			object = object.DeepCopy()
			object.Annotations[v1alpha1.LastRestartAnnotation] = record.String()
			object.Spec.Template.Annotations[v1alpha1.RestartCauseAnnotation] = record.Cause
			changed = append(changed, object)
		case *corev1.Pod:
			changed = append(changed, object)
		}
	}
	return changed
}

// A restart that failed keeps its place for a while, and waits not for itself when it is asked for again.
func TestNobodyWaitsForItself(t *testing.T) {
	record := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-15*time.Minute))
	record.Replicas, record.Ready = 3, 3
	record = record.Ended(v1alpha1.ResultFailed, "It has failed.", noon.Add(-time.Minute))
	failed := cart().Annotated(v1alpha1.LastRestartAnnotation, record.String(), v1alpha1.RetryAnnotation, "please").
		TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).
		With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Status.Replicas = 1, 4 })
	pods := []func(*builder.PodBuilder){uninjected, uninjected, uninjected, notReadySince(noon.Add(-14 * time.Minute))}
	for name, extra := range map[string]any{
		"under a disruption budget": builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(),
		"under a policy's budget":   builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil),
	} {
		t.Run(name, func(t *testing.T) {
			given := verdicts(newScene(runs(failed.Build(), pods...), extra, outside(deployment("shop", "pay"), 3)).decide())
			if got := given["Deployment shop/cart"]; got.Action != v1alpha1.ActionRestart {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
}

// What failed is tried again whenever something that decides has changed, though it is as it was before.
func TestEachChangeOfTheInjectorIsAnotherTry(t *testing.T) {
	record := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-6*time.Hour))
	var reported []v1alpha1.RecentRestart
	for n := range 5 {
		at := time.Duration(5-n) * time.Hour
		record = record.Ended(v1alpha1.ResultFailed, "It has failed.", noon.Add(-at))
		reported = append(reported, v1alpha1.RecentRestart{
			WorkloadReference: cartReference, Cause: record.Cause,
			StartTime: metav1.NewTime(record.Start), EndTime: new(metav1.NewTime(*record.End)), Result: record.Result,
		})
		restarted := outside(cart().Annotated(v1alpha1.LastRestartAnnotation, record.String()).TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause), 3)
		same, changed := newScene(restarted).when(remembersRows(reported...)), newScene(restarted).when(remembersRows(reported...))
		if n%2 == 0 {
			changed.lettingPass()
		} else {
			same.lettingPass()
		}
		if got := only(t, same.decide()); got.Reason != restart.ReasonRestartFailed {
			t.Errorf("after failure %d, as it was: %s: %s", n+1, got.Reason, got.Message)
		}
		got := only(t, changed.decide())
		if got.Action != v1alpha1.ActionRestart {
			t.Fatalf("after failure %d and a change: %s: %s", n+1, got.Reason, got.Message)
		}
		record = got.Record
		record.Start = noon.Add(-at + time.Minute)
	}
}

// It is not tried once more because what is written down about that is taken away.
func TestWhatWasMendedIsNotForgottenWithTheRecord(t *testing.T) {
	failed := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-5*time.Hour)).Ended(v1alpha1.ResultFailed, "It has failed.", noon.Add(-4*time.Hour))
	again := only(t, newScene(outside(cart().Annotated(v1alpha1.LastRestartAnnotation, failed.String()), 3)).lettingPass().decide()).Record
	inMind := func(in *restart.Input) {
		in.Started = func(types.UID) restart.Start { return restart.Start{Cause: again.Cause} }
	}
	for name, s := range map[string]*scene{
		"on the template":        newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, again.Cause), 3)),
		"in this process's mind": newScene(outside(cart(), 3)).when(inMind),
		"in the report": newScene(outside(cart(), 3)).when(remembersRows(v1alpha1.RecentRestart{
			WorkloadReference: cartReference, Cause: again.Cause, StartTime: metav1.NewTime(again.Start), Result: v1alpha1.ResultFailed,
		})),
	} {
		t.Run(name, func(t *testing.T) {
			if got := only(t, s.lettingPass().decide()); got.Action == v1alpha1.ActionRestart {
				t.Errorf("restarted for %s after %s", got.Record.Cause, again.Cause)
			}
		})
	}
}
