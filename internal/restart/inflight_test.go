package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// restarting is the Deployment cart in the middle of a restart.
func restarting(changes ...tweak) *builder.Workload[*appsv1.Deployment] {
	return restarted(cart(), changes...).With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })
}

// rolledOut is the restarting Deployment when its controller has replaced every Pod.
func rolledOut(changes ...tweak) *builder.Workload[*appsv1.Deployment] {
	return restarting(changes...).RolledOut()
}

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
		"that has succeeded, as far as is known":     runs(rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon), readyInMeshAt(noon)),
		"that makes no progress, as far as is known": runs(restarting(since(yesterday)).Build(), uninjected, uninjected, uninjected),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(objects).when(func(in *restart.Input) { in.WatchStale = "pods cannot be watched" })
			got := only(t, s.decide())
			if got.Action != v1alpha1.ActionInFlight || got.Reason != restart.ReasonWatchStale || got.Step != restart.StepNone {
				t.Errorf("%s %s, step %d: %s", got.Action, got.Reason, got.Step, got.Message)
			}
		})
	}
}

// What a later version has begun counts, and ends when that one says so.
func TestARestartByAnUnknownMethodIsLeftAlone(t *testing.T) {
	later := func(r *inventory.Restart) { r.Method, r.Start = "Later", noon.Add(-48*time.Hour) }
	for name, objects := range map[string][]any{
		"everything is outside after two days": outside(restarted(cart(), later), 3),
		"everything is in the mesh":            runs(restarted(cart(), later).Build(), injected, injected, injected),
		"the workload is being deleted":        outside(restarted(cart(), later).With(terminating), 3),
	} {
		t.Run(name, func(t *testing.T) {
			policy := builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil)
			given := verdicts(newScene(policy, objects, outside(deployment("shop", "pay"), 3)).decide())
			if got := given["Deployment shop/cart"]; got.Action != v1alpha1.ActionInFlight || got.Step != restart.StepNone || resultOf(got) != "" ||
				!strings.Contains(got.Message, `by the method "Later", which this version of Fullmesh does not know`) {
				t.Errorf("%s, step %d, result %q: %s", got.Action, got.Step, resultOf(got), got.Message)
			}
			if got := given["Deployment shop/pay"]; got.Reason != restart.ReasonBudgetExhausted {
				t.Errorf("the other one: %s: %s", got.Reason, got.Message)
			}
		})
	}
}

func TestRestartInFlight(t *testing.T) {
	three := func(how func(*builder.PodBuilder)) []func(*builder.PodBuilder) {
		return []func(*builder.PodBuilder){how, how, how}
	}
	longAgo := since(noon.Add(-11 * time.Minute))
	for name, test := range map[string]struct {
		scene *scene
		// result is empty where the restart goes on.
		result  v1alpha1.RestartResult
		message string
		// excuse is why a restart without effect is not held against its workload.
		excuse v1alpha1.RestartExcuse
	}{
		"goes on while Pods are replaced": {
			scene:   newScene(runs(restarting().Build(), readyInMeshAt(noon), uninjected, uninjected)),
			message: "1 of 3 Pods are ready in the mesh",
		},
		"goes on while a Pod is not known yet": {
			scene:   newScene(runs(rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon))),
			message: "2 of 3",
		},
		"goes on while a Pod is not ready": {
			scene: newScene(
				runs(
					rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon), func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") },
				),
			),
			message: "2 of 3",
		},
		"goes on while Pods of before are known though its controller is done": {
			scene:   newScene(runs(rolledOut().Build(), three(uninjected)...)),
			message: "0 of 3",
		},
		"has succeeded when every Pod is ready in the mesh": {
			scene:  newScene(runs(rolledOut().Build(), three(readyInMeshAt(noon))...)),
			result: v1alpha1.ResultSucceeded,
		},
		"has succeeded with a sidecar of another revision than is expected since": {
			scene: newScene(
				runs(
					rolledOut().Build(), readyInMeshAt(noon), readyInMeshAt(noon),
					func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("canary").Ready(noon) },
				),
			),
			result: v1alpha1.ResultSucceeded,
		},
		"was ineffective when it took away a sidecar of another revision and brought none": {
			scene:  newScene(runs(rolledOut(forFinding(v1alpha1.FindingStale)).Build(), three(uninjectedAt(noon))...)),
			result: v1alpha1.ResultIneffective, message: "still Missing",
		},
		"was ineffective when the new Pods have no sidecar": {
			scene:  newScene(runs(rolledOut().Build(), three(uninjectedAt(noon))...)),
			result: v1alpha1.ResultIneffective, message: "The Pods were replaced and are still Missing.",
		},
		"was ineffective though one of them has": {
			scene:  newScene(runs(rolledOut().Build(), readyInMeshAt(noon), uninjectedAt(noon), readyInMeshAt(noon))),
			result: v1alpha1.ResultIneffective, message: "The Pods were replaced and are still Missing.",
		},
		"is excused where the label had changed just before": {
			scene:  newScene(labelledAt(began.Add(-10*time.Second)), runs(rolledOut().Build(), three(uninjectedAt(began.Add(10*time.Second)))...)),
			result: v1alpha1.ResultIneffective, message: "so soon after a change", excuse: v1alpha1.ExcuseChangedJustBefore,
		},
		"is excused where the injector had changed just before": {
			scene: newScene(
				runs(rolledOut().Build(), three(uninjectedAt(began.Add(10*time.Second)))...),
			).injectorChangedAt(began.Add(-10 * time.Second)),
			result: v1alpha1.ResultIneffective, message: "so soon after a change", excuse: v1alpha1.ExcuseChangedJustBefore,
		},
		"is not excused half a minute after the change": {
			scene:  newScene(labelledAt(began.Add(-20*time.Second)), runs(rolledOut().Build(), three(uninjectedAt(began.Add(10*time.Second)))...)),
			result: v1alpha1.ResultIneffective, message: "The Pods were replaced and are still Missing.",
		},
		"is excused where webhooks let Pods pass": {
			scene:  newScene(runs(rolledOut().Build(), three(uninjectedAt(noon))...)).lettingPass(),
			result: v1alpha1.ResultIneffective, message: "failurePolicy is Ignore", excuse: v1alpha1.ExcuseInjectorSilent,
		},
		"is not excused forever": {
			scene:  newScene(runs(rolledOut(func(r *inventory.Restart) { r.Excused = 3 }).Build(), three(uninjectedAt(noon))...)).lettingPass(),
			result: v1alpha1.ResultIneffective, message: "The Pods were replaced and are still Missing.",
		},
		"was taken back when the template does not name it any more": {
			scene:  newScene(runs(takenBack().Build(), three(uninjected)...)),
			result: v1alpha1.ResultReverted, message: "The annotation fullmesh.dev/restarted-by was taken off the template, or never landed there.",
		},
		"was taken back when the template names another": {
			scene:  newScene(runs(takenBack().TemplateAnnotated(v1alpha1.RestartedByAnnotation, "another").Build(), three(uninjected)...)),
			result: v1alpha1.ResultReverted, message: "Have whatever manages the workload keep fullmesh.dev/ annotations.",
		},
		"was interrupted when the workload is being deleted": {
			scene:  newScene(runs(restarting().With(terminating).Build(), three(uninjected)...)),
			result: v1alpha1.ResultInterrupted, message: "The workload is being deleted.",
		},
		"has failed when nothing became ready for too long": {
			scene:   newScene(runs(restarting(longAgo).Build(), uninjected, uninjected, uninjected, crashing)),
			result:  v1alpha1.ResultFailed,
			message: "for 10m30s (0 of 3 Pods are ready in the mesh); Pod cart-3, container app: CrashLoopBackOff, last exit code 1, 3 restarts",
		},
		"has failed, and says what the scheduler says": {
			scene: newScene(runs(restarting(longAgo).Build(), uninjected, uninjected, uninjected, func(b *builder.PodBuilder) {
				b.CreatedAt(began).Injected("default").Unschedulable("0/3 nodes are available: 3 Insufficient cpu. preemption: none.")
			})),
			result:  v1alpha1.ResultFailed,
			message: "(0 of 3 Pods are ready in the mesh); the scheduler finds no node for Pod cart-3: 0/3 nodes are available: 3 Insufficient cpu.",
		},
		"has failed, and names the Pod that is never ready": {
			scene:  newScene(runs(restarting(longAgo).Build(), uninjected, uninjected, notReadySince(yesterday), notReadySince(began))),
			result: v1alpha1.ResultFailed, message: "(0 of 3 Pods are ready in the mesh); Pod cart-3 is not ready.",
		},
		"has failed, and says why no Pod is created": {
			scene: newScene(
				runs(restarting(longAgo).With(refusing("pods \"cart-1-x\" is forbidden:\n  exceeded quota: pods\n")).Build(), three(uninjected)...),
			),
			result:  v1alpha1.ResultFailed,
			message: `(0 of 3 Pods are ready in the mesh); no further Pod is created: pods "cart-1-x" is forbidden: exceeded quota: pods.`,
		},
		"that takes sidecars away has failed, and names the Pod without one that crashes": {
			scene: newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), builder.Enforcing("mesh").ProgressTimeout(60),
				runs(restarting(forFinding(v1alpha1.FindingLeftover)).Build(), notReadySince(yesterday), notReadySince(yesterday), broken)),
			result: v1alpha1.ResultFailed, message: "Pod cart-2, container app: CrashLoopBackOff",
		},
		"goes on where a Pod became ready meanwhile": {
			scene:   newScene(runs(restarting(longAgo).Build(), readyInMeshAt(noon.Add(-5*time.Minute)), uninjected, uninjected)),
			message: "1 of 3",
		},
		"goes on where its Pods take longer by their own account": {
			scene: newScene(
				runs(
					restarting(longAgo).With(func(d *appsv1.Deployment) { d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(120)) }).Build(),
					uninjected,
				),
			),
			message: "0 of 3",
		},
		"has failed sooner where the policy says so": {
			scene:  newScene(builder.Enforcing("mesh").ProgressTimeout(60), runs(restarting().Build(), uninjected)),
			result: v1alpha1.ResultFailed, message: "for 1m30s",
		},
		"was interrupted when it was scaled to zero": {
			scene:  newScene(restarting().Replicas(0).RolledOut().Build()),
			result: v1alpha1.ResultInterrupted, message: "It was scaled to zero meanwhile; its next Pods come as they should be.",
		},
		"was interrupted when no sidecar is expected any more": {
			scene:  newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), runs(rolledOut().Build(), three(uninjectedAt(noon))...)),
			result: v1alpha1.ResultInterrupted, message: "No sidecar is expected any more. ",
		},
		"goes on when the workload has opted out since": {
			scene:   newScene(runs(restarting().Annotated(v1alpha1.RestartAnnotation, "disabled").Build(), uninjected)),
			message: "Restarting since",
		},
		"goes on when the policy only reports": {
			scene:   newScene(builder.Reporting("mesh"), runs(restarting().Build(), uninjected)),
			message: "Restarting since",
		},
		"goes on when everything is stopped": {
			scene:   newScene(runs(restarting().Build(), uninjected)).when(func(in *restart.Input) { in.Stopped = true }),
			message: "Restarting since",
		},
		"goes on when nobody governs the namespace any more": {
			scene:   newScene(builder.Enforcing("mesh").Over("team", "other"), runs(restarting().Build(), uninjected)),
			message: "Restarting since",
		},
		"is ended when nobody governs the namespace any more": {
			scene:  newScene(builder.Enforcing("mesh").Over("team", "other"), runs(rolledOut().Build(), three(readyInMeshAt(noon))...)),
			result: v1alpha1.ResultSucceeded,
		},
		"that was given up has succeeded late": {
			scene:  newScene(runs(rolledOut(ended(v1alpha1.ResultFailed)).Build(), three(readyInMeshAt(noon))...)),
			result: v1alpha1.ResultSucceeded, message: "Late: it had been given up.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Action != v1alpha1.ActionInFlight || verdict.Restart.Result != test.result {
				t.Fatalf(
					"verdict %s %s with result %q, want %q: %s", verdict.Action, verdict.Reason, verdict.Restart.Result, test.result, verdict.Message,
				)
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
			r := verdict.Restart
			if verdict.Step != restart.StepFinish || verdict.Reason != restart.ReasonRestartEnded || !r.End.Equal(noon) || !strings.Contains(
				r.Message, test.message,
			) {
				t.Errorf("%s, step %d, ended at %v: %q does not say %q", verdict.Reason, verdict.Step, r.End, r.Message, test.message)
			}
			if r.Excuse != test.excuse {
				t.Errorf("excused for %q, want %q", r.Excuse, test.excuse)
			}
		})
	}
}

// takenBack is the restarting Deployment when somebody has taken the restart off its template.
func takenBack() *builder.Workload[*appsv1.Deployment] {
	return restarting().With(func(d *appsv1.Deployment) { d.Spec.Template.Annotations = nil }).Changed()
}

func terminating(d *appsv1.Deployment) { d.DeletionTimestamp = new(metav1.NewTime(noon)) }

// A restart that has failed and whose Pods are in the mesh is named until they are ready.
func TestFailedRestartIsNamedThoughItsPodsAreInTheMesh(t *testing.T) {
	verdict := only(t, newScene(runs(rolledOut(ended(v1alpha1.ResultFailed)).Build(), crashing, crashing, crashing)).decide())
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
	// restartedElsewhere came up without a sidecar although Fullmesh had restarted it.
	restartedElsewhere := func(created, start time.Time) []any {
		return runs(restarted(deployment("hostile", "silent"), since(start)).Build(), uninjectedAt(created))
	}
	checkedAt := func(at time.Time) restart.Check {
		return restart.Check{Observed: sidecar("default"), At: at, Received: at}
	}
	for name, test := range map[string]struct {
		scene *scene
		want  restart.Step
	}{
		"a check after the last such Pod is good": {
			scene: newScene(
				outside(cart(), 3), silent(noon.Add(-2*time.Minute)),
			).answer(checkedAt(noon.Add(-time.Minute))), want: restart.StepRestart,
		},
		"a check before it is not": {
			scene: newScene(
				outside(cart(), 3), silent(noon.Add(-time.Minute)),
			).answer(checkedAt(noon.Add(-2 * time.Minute))), want: restart.StepCheck,
		},
		"a check in the same second is not": {
			scene: newScene(outside(cart(), 3), silent(noon.Add(-time.Minute))).answer(checkedAt(noon.Add(-time.Minute))), want: restart.StepCheck,
		},
		"a Pod made just after a change says nothing": {
			scene: newScene(
				labelledAt(noon.Add(-80*time.Second)), outside(cart(), 3), silent(noon.Add(-time.Minute)),
			).answer(checkedAt(noon.Add(-2 * time.Minute))), want: restart.StepRestart,
		},
		"a Pod made before its template was changed says nothing": {
			scene: newScene(
				outside(cart(), 3),
				runs(deployment("shop", "silent").CreatedAt(noon.Add(-30*time.Second)).Build(), uninjectedAt(noon.Add(-time.Minute))),
			).answer(checkedAt(noon.Add(-2 * time.Minute))), want: restart.StepRestart,
		},
		"Pods in another namespace say nothing": {
			scene: newScene(
				outside(cart(), 3), meshed("hostile"), silentElsewhere(noon.Add(-time.Second)),
			).answer(checkedAt(noon.Add(-time.Minute))), want: restart.StepRestart,
		},
		"Pods in another namespace that Fullmesh restarted do": {
			scene: newScene(
				outside(cart(), 3), meshed("hostile"), restartedElsewhere(noon.Add(-time.Second), noon.Add(-50*time.Second)),
			).answer(checkedAt(noon.Add(-30 * time.Second))), want: restart.StepCheck,
		},
		"Pods that are made there long after that say nothing": {
			scene: newScene(
				outside(cart(), 3), meshed("hostile"), restartedElsewhere(noon.Add(-time.Second), noon.Add(-3*time.Minute)),
			).answer(checkedAt(noon.Add(-30 * time.Second))), want: restart.StepRestart,
		},
		"Pods that were there before that say nothing": {
			scene: newScene(
				outside(cart(), 3), meshed("hostile"), restartedElsewhere(noon.Add(-2*time.Minute), noon.Add(-time.Minute)),
			).answer(checkedAt(noon.Add(-3 * time.Minute))), want: restart.StepRestart,
		},
		"a check that is old is asked again": {
			scene: newScene(outside(cart(), 3)).answer(checkedAt(noon.Add(-10 * time.Minute))), want: restart.StepCheck,
		},
		"a check that is not old is not": {
			scene: newScene(outside(cart(), 3)).answer(checkedAt(noon.Add(-10*time.Minute + time.Second))), want: restart.StepRestart,
		},
		"a check that was never asked is": {
			scene: newScene(outside(cart(), 3)).unasked(), want: restart.StepCheck,
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := verdicts(test.scene.decide())["Deployment shop/cart"]
			if verdict.Action != v1alpha1.ActionRestart || verdict.Step != test.want {
				t.Errorf("%s with step %d, want step %d: %s", verdict.Action, verdict.Step, test.want, verdict.Message)
			}
			if verdict.CheckKey.UID != "deployment-shop-cart" || verdict.CheckKey.InputsHash != verdict.Restart.InputsHash {
				t.Errorf("it rests on the check %v", verdict.CheckKey)
			}
		})
	}
}

// A no is asked again when its time has come, and stands until then and until there is another. What is
// asked now is decided again when it is answered, and not because a time has passed.
func TestNoIsAskedAgainInTime(t *testing.T) {
	no := func(retry time.Time) *scene {
		return newScene(outside(cart(), 3)).answer(
			restart.Check{Outcome: restart.CheckUnreachable, At: yesterday, Received: yesterday, Retry: retry},
		)
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
			if verdict.Action != v1alpha1.ActionHold || verdict.Step != test.want || !plan.NextChange.Equal(test.look) {
				t.Errorf("%s with step %d, looked at again at %s", verdict.Action, verdict.Step, plan.NextChange)
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
		"another number of Pods": key(outside(cart().Replicas(5).RolledOut(), 3)),
		"what Fullmesh itself writes into the template": key(
			outside(cart().TemplateAnnotated(v1alpha1.RestartedByAnnotation, "a-former-one"), 3),
		),
		"annotations of the object": key(outside(cart().Annotated("a", "b"), 3)),
		"other labels of the namespace": key(
			builder.Namespace("shop").Labelled("istio-injection", "enabled", "team", "a").CreatedAt(yesterday).Build(), outside(cart(), 3),
		),
	} {
		if same != first {
			t.Errorf("%s: another check", name)
		}
	}
	for name, other := range map[string]restart.CheckKey{
		"another workload":           key(outside(cart().UID("another"), 3)),
		"another template":           key(outside(cart().With(otherVersion), 3)),
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

func otherVersion(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "app:2" }
