package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// began is when the restarts of these tests were begun.
var began = noon.Add(-5 * time.Minute)

// restarting is the Deployment cart in the middle of a restart.
func restarting() *builder.Workload[*appsv1.Deployment] {
	record := inventory.NewRecord(cartCause(), "RolloutRestart", decidedNow(), began)
	return cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Annotated(v1alpha1.LastRestartAnnotation, record.String()).
		With(func(d *appsv1.Deployment) {
			d.Generation, d.Status.ObservedGeneration = 2, 2
			d.Status.UpdatedReplicas = 1
		})
}

// rolledOut is the restarting Deployment when its controller has replaced every Pod.
func rolledOut() *builder.Workload[*appsv1.Deployment] { return restarting().RolledOut() }

func readyInMeshAt(at time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(began).Injected("default").Ready(at) }
}

// notReadySince is a Pod in the mesh that runs and is not ready.
func notReadySince(created time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(created).Injected("default") }
}

// refusing has a Deployment say why its controller can create no Pod.
func refusing(why string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Status.Conditions = append(d.Status.Conditions, appsv1.DeploymentCondition{
			Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: why,
		})
	}
}

func uninjectedAt(at time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(at).Ready(at) }
}

func TestARestartDoesNotEndUnseen(t *testing.T) {
	for name, objects := range map[string][]any{
		"that has succeeded, as far as is known": runs(rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon), readyInMeshAt(noon)),
		"that makes no progress, as far as is known": runs(restarting().Annotated(v1alpha1.LastRestartAnnotation,
			inventory.NewRecord(cartCause(), "RolloutRestart", decidedNow(), yesterday).String()).Build(), uninjected, uninjected, uninjected),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(objects).when(func(in *restart.Input) { in.Blind = "pods cannot be watched" })
			got := only(t, s.decide())
			if got.Action != v1alpha1.ActionInFlight || got.Reason != restart.ReasonNotObserved || got.Step != restart.StepNone {
				t.Errorf("%s %s, step %d: %s", got.Action, got.Reason, got.Step, got.Message)
			}
		})
	}
}

func TestRestartInFlight(t *testing.T) {
	three := func(how func(*builder.PodBuilder)) []func(*builder.PodBuilder) {
		return []func(*builder.PodBuilder){how, how, how}
	}
	longAgo := func(record inventory.Record) inventory.Record {
		record.Start = noon.Add(-11 * time.Minute)
		return record
	}
	begunBefore := func(b *builder.Workload[*appsv1.Deployment], change func(inventory.Record) inventory.Record) *builder.Workload[*appsv1.Deployment] {
		return b.Annotated(v1alpha1.LastRestartAnnotation, change(inventory.NewRecord(cartCause(), "RolloutRestart", decidedNow(), began)).String())
	}
	for name, test := range map[string]struct {
		scene *scene
		// result is empty where the restart goes on.
		result  v1alpha1.RestartResult
		message string
		// excused: what decided is not held against the workload.
		excused bool
	}{
		"goes on while Pods are replaced": {
			newScene(runs(restarting().Build(), readyInMeshAt(noon), uninjected, uninjected)), "", "1 of 3 Pods are ready in the mesh", false},
		"goes on while a Pod is not known yet": {
			newScene(runs(rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon))), "", "2 of 3", false},
		"goes on while a Pod is not ready": {
			newScene(runs(rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon), func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") })), "", "2 of 3", false},
		"goes on while Pods of before are known though its controller is done": {
			newScene(runs(rolledOut().Build(), three(uninjected)...)), "", "0 of 3", false},
		"has succeeded when every Pod is ready in the mesh": {
			newScene(runs(rolledOut().Build(), three(readyInMeshAt(noon))...)), v1alpha1.ResultSucceeded, "", false},
		"has succeeded with a sidecar of another revision than is expected since": {
			newScene(runs(rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon), func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("canary").Ready(noon) })),
			v1alpha1.ResultSucceeded, "", false},
		"was ineffective when it took away a sidecar of another revision and brought none": {
			newScene(runs(restartedFor(v1alpha1.FindingStale).Build(), three(uninjectedAt(noon))...)), v1alpha1.ResultIneffective, "still Missing", false},
		"was taken back when it begins in the future": {
			newScene(runs(begunBefore(restarting(), func(record inventory.Record) inventory.Record {
				record.Start = noon.Add(24 * time.Hour)
				return record
			}).Build(), three(uninjected)...)), v1alpha1.ResultReverted, "in the future", false},
		"was ineffective when the new Pods have no sidecar": {
			newScene(runs(rolledOut().Build(), three(uninjectedAt(noon))...)), v1alpha1.ResultIneffective, "The Pods were replaced and are still Missing.", false},
		"was ineffective though one of them has": {
			newScene(runs(rolledOut().Build(), readyInMeshAt(noon), uninjectedAt(noon), readyInMeshAt(noon))), v1alpha1.ResultIneffective, "The Pods were replaced and are still Missing.", false},
		"is excused where the label had changed just before": {
			newScene(labelledAt(began.Add(-10*time.Second)), runs(rolledOut().Build(), three(uninjectedAt(began.Add(10*time.Second)))...)),
			v1alpha1.ResultIneffective, "so soon after a change", true},
		"is excused where the injector had changed just before": {
			newScene(runs(rolledOut().Build(), three(uninjectedAt(began.Add(10*time.Second)))...)).injectorChangedAt(began.Add(-10 * time.Second)),
			v1alpha1.ResultIneffective, "so soon after a change", true},
		"is not excused half a minute after the change": {
			newScene(labelledAt(began.Add(-20*time.Second)), runs(rolledOut().Build(), three(uninjectedAt(began.Add(10*time.Second)))...)),
			v1alpha1.ResultIneffective, "The Pods were replaced and are still Missing.", false},
		"is excused where webhooks let Pods pass": {
			newScene(runs(rolledOut().Build(), three(uninjectedAt(noon))...)).lettingPass(), v1alpha1.ResultIneffective, "failurePolicy is Ignore", true},
		"is not excused for ever": {
			newScene(runs(begunBefore(rolledOut(), func(record inventory.Record) inventory.Record {
				record.Excused = 3
				return record
			}).Build(), three(uninjectedAt(noon))...)).lettingPass(), v1alpha1.ResultIneffective, "The Pods were replaced and are still Missing.", false},
		"was taken back when the template has no cause any more": {
			newScene(runs(restarting().With(func(d *appsv1.Deployment) { d.Spec.Template.Annotations = nil }).Build(), three(uninjected)...)),
			v1alpha1.ResultReverted, "fullmesh.dev/restart-cause", false},
		"was taken back when the template has another": {
			newScene(runs(restarting().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, "another").Build(), three(uninjected)...)),
			v1alpha1.ResultReverted, "by whom is not known", false},
		"has failed when nothing became ready for too long": {
			newScene(runs(begunBefore(restarting(), longAgo).Build(), uninjected, uninjected, uninjected, crashing)),
			v1alpha1.ResultFailed, "for 10m30s (0 of 3 Pods are ready in the mesh); Pod cart-3, container app: CrashLoopBackOff, last exit code 1, 3 restarts", false},
		"has failed, and says what the scheduler says": {
			newScene(runs(begunBefore(restarting(), longAgo).Build(), uninjected, uninjected, uninjected, func(b *builder.PodBuilder) {
				b.CreatedAt(began).Injected("default").Unschedulable("0/3 nodes are available: 3 Insufficient cpu. preemption: none.")
			})),
			v1alpha1.ResultFailed, "(0 of 3 Pods are ready in the mesh); the scheduler finds no node for Pod cart-3: 0/3 nodes are available: 3 Insufficient cpu.", false},
		"has failed, and names the Pod that is never ready": {
			newScene(runs(begunBefore(restarting(), longAgo).Build(), uninjected, uninjected, notReadySince(yesterday), notReadySince(began))),
			v1alpha1.ResultFailed, "(0 of 3 Pods are ready in the mesh); Pod cart-3 is not ready.", false},
		"has failed, and says why no Pod is created": {
			newScene(runs(begunBefore(restarting(), longAgo).With(refusing("pods \"cart-1-x\" is forbidden:\n  exceeded quota: pods\n")).Build(), three(uninjected)...)),
			v1alpha1.ResultFailed, `(0 of 3 Pods are ready in the mesh); no further Pod is created: pods "cart-1-x" is forbidden: exceeded quota: pods.`, false},
		"that takes sidecars away has failed, and names the Pod without one that crashes": {
			newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), builder.Enforcing("mesh").ProgressTimeout(60),
				runs(restartedFor(v1alpha1.FindingLeftover).With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }).Build(), notReadySince(yesterday), notReadySince(yesterday), broken)),
			v1alpha1.ResultFailed, "Pod cart-2, container app: CrashLoopBackOff", false},
		"goes on where a Pod became ready meanwhile": {
			newScene(runs(begunBefore(restarting(), longAgo).Build(), readyInMeshAt(noon.Add(-5*time.Minute)), uninjected, uninjected)), "", "1 of 3", false},
		"goes on where its Pods take longer by their own account": {
			newScene(runs(begunBefore(restarting(), longAgo).With(func(d *appsv1.Deployment) { d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(120)) }).Build(), uninjected)), "", "0 of 3", false},
		"has failed sooner where the policy says so": {
			newScene(builder.Enforcing("mesh").ProgressTimeout(60), runs(restarting().Build(), uninjected)), v1alpha1.ResultFailed, "for 1m30s", false},
		"has succeeded with what there is when it was scaled to zero": {
			newScene(restarting().Replicas(0).RolledOut().Build()), v1alpha1.ResultSucceeded, "scaled to zero", false},
		"has succeeded with what there is when no sidecar is expected any more": {
			newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), runs(rolledOut().Build(), three(uninjectedAt(noon))...)),
			v1alpha1.ResultSucceeded, "No sidecar is expected any more", false},
		"goes on when the workload has opted out since": {
			newScene(runs(restarting().Annotated(v1alpha1.RestartAnnotation, "disabled").Build(), uninjected)), "", "Restarting since", false},
		"goes on when the policy only reports": {
			newScene(builder.Reporting("mesh"), runs(restarting().Build(), uninjected)), "", "Restarting since", false},
		"goes on when everything is stopped": {
			newScene(runs(restarting().Build(), uninjected)).when(func(in *restart.Input) { in.Stopped = true }), "", "Restarting since", false},
		"goes on when nobody governs the namespace any more": {
			newScene(builder.Enforcing("mesh").Over("team", "other"), runs(restarting().Build(), uninjected)), "", "Restarting since", false},
		"is ended when nobody governs the namespace any more": {
			newScene(builder.Enforcing("mesh").Over("team", "other"), runs(rolledOut().Build(), three(readyInMeshAt(noon))...)), v1alpha1.ResultSucceeded, "", false},
		"that was given up has succeeded late": {
			newScene(runs(begunBefore(rolledOut(), ended(v1alpha1.ResultFailed)).Build(), three(readyInMeshAt(noon))...)), v1alpha1.ResultSucceeded, "Late: it had been given up.", false},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Action != v1alpha1.ActionInFlight || verdict.Record.Result != test.result {
				t.Fatalf("verdict %s %s with result %q, want %q: %s", verdict.Action, verdict.Reason, verdict.Record.Result, test.result, verdict.Message)
			}
			if test.result == "" {
				if verdict.Step != restart.StepNone || !strings.Contains(verdict.Message, test.message) {
					t.Errorf("step %d: %q does not say %q", verdict.Step, verdict.Message, test.message)
				}
				if !verdict.Until.After(noon) {
					t.Errorf("it is not looked at again: %s", verdict.Until)
				}
				return
			}
			record := verdict.Record
			if verdict.Step != restart.StepFinish || record.End == nil || !record.End.Equal(noon) || !strings.Contains(record.Message, test.message) {
				t.Errorf("step %d, ended at %v: %q does not say %q", verdict.Step, record.End, record.Message, test.message)
			}
			if test.excused != (record.Decided == "") || test.excused != (record.Excused == 1) {
				t.Errorf("excused %d times, held against what decided: %q", record.Excused, record.Decided)
			}
		})
	}
}

// A restart that has failed and whose Pods are in the mesh is named until they are ready.
func TestFailedRestartIsNamedThoughItsPodsAreInTheMesh(t *testing.T) {
	failed := rolledOut().Annotated(v1alpha1.LastRestartAnnotation,
		ended(v1alpha1.ResultFailed)(inventory.NewRecord(cartCause(), "RolloutRestart", decidedNow(), began)).String())
	verdict := only(t, newScene(runs(failed.Build(), crashing, crashing, crashing)).decide())
	if verdict.Reason != restart.ReasonRestartFailed {
		t.Errorf("verdict %s: %s", verdict.Reason, verdict.Message)
	}
}

// Pods that came up without a sidecar although one was expected are newer evidence than a dry run
// before them: it is asked again before anything starts.
func TestSilentInjectorMakesChecksBeAskedAgain(t *testing.T) {
	silent := func(created time.Time) []any {
		return runs(deployment("shop", "silent").Build(), uninjectedAt(created))
	}
	silentElsewhere := func(created time.Time) []any {
		return runs(deployment("hostile", "silent").Build(), uninjectedAt(created))
	}
	restartedElsewhere := func(at time.Time) func(*restart.Input) {
		return func(in *restart.Input) {
			in.Started = startOf("deployment-hostile-silent", restart.Start{Cause: "any", At: at})
		}
	}
	checkedAt := func(at time.Time) restart.Check {
		return restart.Check{Observed: sidecar("default"), At: at, Received: at}
	}
	for name, test := range map[string]struct {
		scene *scene
		want  restart.Step
	}{
		"a check after the last such Pod is good":                 {newScene(outside(cart(), 3), silent(noon.Add(-2*time.Minute))).answer(checkedAt(noon.Add(-time.Minute))), restart.StepRestart},
		"a check before it is not":                                {newScene(outside(cart(), 3), silent(noon.Add(-time.Minute))).answer(checkedAt(noon.Add(-2 * time.Minute))), restart.StepCheck},
		"a check in the same second is not":                       {newScene(outside(cart(), 3), silent(noon.Add(-time.Minute))).answer(checkedAt(noon.Add(-time.Minute))), restart.StepCheck},
		"a Pod made just after a change says nothing":             {newScene(labelledAt(noon.Add(-80*time.Second)), outside(cart(), 3), silent(noon.Add(-time.Minute))).answer(checkedAt(noon.Add(-2 * time.Minute))), restart.StepRestart},
		"a Pod made before its template was changed says nothing": {newScene(outside(cart(), 3), runs(deployment("shop", "silent").CreatedAt(noon.Add(-30*time.Second)).Build(), uninjectedAt(noon.Add(-time.Minute)))).answer(checkedAt(noon.Add(-2 * time.Minute))), restart.StepRestart},
		"Pods in another namespace say nothing":                   {newScene(outside(cart(), 3), meshed("hostile"), silentElsewhere(noon.Add(-time.Second))).answer(checkedAt(noon.Add(-time.Minute))), restart.StepRestart},
		"Pods in another namespace that Fullmesh restarted do": {newScene(outside(cart(), 3), meshed("hostile"), silentElsewhere(noon.Add(-time.Second))).
			when(restartedElsewhere(noon.Add(-50 * time.Second))).answer(checkedAt(noon.Add(-30 * time.Second))), restart.StepCheck},
		"Pods that are made there long after that say nothing": {newScene(outside(cart(), 3), meshed("hostile"), silentElsewhere(noon.Add(-time.Second))).
			when(restartedElsewhere(noon.Add(-3 * time.Minute))).answer(checkedAt(noon.Add(-30 * time.Second))), restart.StepRestart},
		"Pods that were there before that say nothing": {newScene(outside(cart(), 3), meshed("hostile"), silentElsewhere(noon.Add(-2*time.Minute))).
			when(restartedElsewhere(noon.Add(-time.Minute))).answer(checkedAt(noon.Add(-3 * time.Minute))), restart.StepRestart},
		"a check that is old is asked again": {newScene(outside(cart(), 3)).answer(checkedAt(noon.Add(-10 * time.Minute))), restart.StepCheck},
		"a check that is not old is not":     {newScene(outside(cart(), 3)).answer(checkedAt(noon.Add(-10*time.Minute + time.Second))), restart.StepRestart},
		"a check that was never asked is":    {newScene(outside(cart(), 3)).unasked(), restart.StepCheck},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := verdicts(test.scene.decide())["Deployment shop/cart"]
			if verdict.Action != v1alpha1.ActionRestart || verdict.Step != test.want {
				t.Errorf("%s with step %d, want step %d: %s", verdict.Action, verdict.Step, test.want, verdict.Message)
			}
			if verdict.CheckKey.UID != "deployment-shop-cart" || verdict.CheckKey.Decided != verdict.Record.Decided {
				t.Errorf("it rests on the check %v", verdict.CheckKey)
			}
		})
	}
}

// A no is asked again when its time has come, and stands until then and until there is another. What is
// asked now is decided again when it is answered, and not because a time has passed.
func TestNoIsAskedAgainInTime(t *testing.T) {
	no := func(retry time.Time) *scene {
		return newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckUnreachable, At: yesterday, Received: yesterday, Retry: retry})
	}
	for name, test := range map[string]struct {
		retry, look time.Time
		want        restart.Step
	}{
		"before its time": {noon.Add(time.Second), noon.Add(time.Second), restart.StepNone},
		"in its time":     {noon, time.Time{}, restart.StepCheck},
	} {
		t.Run(name, func(t *testing.T) {
			plan := no(test.retry).decide()
			verdict := only(t, plan)
			if verdict.Action != v1alpha1.ActionHold || verdict.Step != test.want || !plan.NextLook.Equal(test.look) {
				t.Errorf("%s with step %d, looked at again at %s", verdict.Action, verdict.Step, plan.NextLook)
			}
			if test.want == restart.StepCheck && verdict.CheckKey.UID != "deployment-shop-cart" {
				t.Errorf("it asks for the check %v", verdict.CheckKey)
			}
		})
	}
}

// What is asked by a dry run depends on all that decides about injection, and on nothing else.
func TestCheckIsOfWhatDecides(t *testing.T) {
	key := func(objects ...any) restart.CheckKey { return keyOf(newScene(objects...)) }
	first := key(outside(cart(), 3))
	for name, same := range map[string]restart.CheckKey{
		"another number of Pods":                        key(outside(cart().Replicas(5).RolledOut(), 3)),
		"what Fullmesh itself writes into the template": key(outside(cart().TemplateAnnotated("fullmesh.dev/restart-cause", "an older one"), 3)),
		"annotations of the object":                     key(outside(cart().Annotated("a", "b"), 3)),
		"other labels of the namespace":                 key(builder.Namespace("shop").Labelled("istio-injection", "enabled", "team", "a").CreatedAt(yesterday).Build(), outside(cart(), 3)),
	} {
		if same != first {
			t.Errorf("%s: another check", name)
		}
	}
	for name, other := range map[string]restart.CheckKey{
		"another workload":           key(outside(cart().UID("another"), 3)),
		"another template":           key(outside(cart().With(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "app:2" }), 3)),
		"kubectl rollout restart":    key(outside(cart().TemplateAnnotated("kubectl.kubernetes.io/restartedAt", "now"), 3)),
		"another label of injection": key(meshedByRevision(), outside(cart(), 3)),
		"another injector":           keyOf(newScene(outside(cart(), 3)).lettingPass()),
	} {
		if other == first {
			t.Errorf("%s: the same check", name)
		}
	}
}

func keyOf(s *scene) restart.CheckKey {
	for _, verdict := range verdicts(s.unasked().decide()) {
		return verdict.CheckKey
	}
	return restart.CheckKey{}
}

// restartedFor is a Deployment whose restart for a finding has rolled out.
func restartedFor(finding v1alpha1.Finding) *builder.Workload[*appsv1.Deployment] {
	cause := cartCause()
	cause.Finding = finding
	return rolledOut().
		Annotated(v1alpha1.LastRestartAnnotation, inventory.NewRecord(cause, v1alpha1.MethodRolloutRestart, decidedNow(), began).String()).
		TemplateAnnotated(v1alpha1.RestartCauseAnnotation, cause.String())
}

// What this process has restarted it does not restart again for the same cause, whoever takes away
// what was written down about it.
func TestRestartWhoseRecordWasTakenAwayIsNotRepeated(t *testing.T) {
	s := newScene(outside(cart(), 3)).when(func(in *restart.Input) {
		in.Started = func(types.UID) restart.Start { return restart.Start{Cause: cartCause().String()} }
	})
	verdict := only(t, s.decide())
	if verdict.Action != v1alpha1.ActionHold || verdict.Reason != restart.ReasonRestartReverted || verdict.ClearsBy != v1alpha1.ClearedByOwner {
		t.Errorf("verdict %s %s, cleared by %s: %s", verdict.Action, verdict.Reason, verdict.ClearsBy, verdict.Message)
	}
}

// The last Event is that of the Pod which fails, or of the workload where there is none, and is not asked
// for where it has been told.
func TestWhoseEventsTellWhyARestartHasFailed(t *testing.T) {
	going := func(b *builder.PodBuilder) { notReadySince(began)(b); b.Terminating(noon) }
	for name, test := range map[string]struct {
		workload *builder.Workload[*appsv1.Deployment]
		pods     []func(*builder.PodBuilder)
		want     types.UID
	}{
		"of a Pod that crashes":           {restarting(), []func(*builder.PodBuilder){uninjected, notReadySince(began), crashing}, "pod-shop-cart-2"},
		"of a Pod that is not ready":      {restarting(), []func(*builder.PodBuilder){uninjected, notReadySince(began), notReadySince(began)}, "pod-shop-cart-1"},
		"of the workload without such":    {restarting(), []func(*builder.PodBuilder){uninjected, going, notReadySince(yesterday)}, "deployment-shop-cart"},
		"of nobody where none is created": {restarting().With(refusing("exceeded quota")), []func(*builder.PodBuilder){uninjected, notReadySince(began)}, ""},
		"of nobody where none has a node": {restarting(), []func(*builder.PodBuilder){uninjected, unschedulable("no room")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, newScene(builder.Enforcing("mesh").ProgressTimeout(60), runs(test.workload.Build(), test.pods...)).decide())
			if verdict.Record.Result != v1alpha1.ResultFailed || verdict.EventsOf != test.want {
				t.Errorf("ended as %q, Events of %q, want %q", verdict.Record.Result, verdict.EventsOf, test.want)
			}
		})
	}
}

// An answer that arrives while it is decided belongs to the next pass: read twice, a no that was missing the
// first time would be taken for yes the second.
func TestADryRunAnswerThatArrivesDuringAPassStartsNothingInIt(t *testing.T) {
	for name, test := range map[string]struct {
		objects []any
		harms   restart.Step
	}{
		"a restart":            {objects: outside(cart(), 3), harms: restart.StepRestart},
		"a round of evictions": {objects: outside(evicting(db().OnDelete()), 3), harms: restart.StepEvict},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(test.objects...)
			looked := 0
			s.Check = func(restart.CheckKey) (restart.Check, bool) {
				looked++
				return restart.Check{At: noon, Received: noon}, looked > 1 // admitted, without a sidecar
			}
			verdict := only(t, s.decide())
			if verdict.Step == test.harms {
				t.Errorf("step %d although the dry run has said no: %s", verdict.Step, verdict.Message)
			}
			if verdict.Step != restart.StepCheck {
				t.Errorf("step %d, want that the dry run is asked for", verdict.Step)
			}
		})
	}
}
