package restart_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

const (
	byTime    = v1alpha1.ClearedByTime
	byCluster = v1alpha1.ClearedByCluster
	byOwner   = v1alpha1.ClearedByOwner
	byAdmin   = v1alpha1.ClearedByAdmin
)

// Where every workload waits for the others, that is said: nobody must think that it ends by itself. Where
// all are on their way into the mesh, that is said, too: nobody must think that it waits for them.
func TestWhoWaitsForWhomUnderStrictMutualTLS(t *testing.T) {
	const allWait = "All of them belong to workloads that are held for the same reason"
	const nothingComes = "Nothing is about to bring the others in"
	const allCome = "All of them are on their way into the mesh, and it follows them by itself. To have it restarted before, accept it with"
	const notByItself = "does not end by itself"
	web := func() *builder.Workload[*appsv1.Deployment] { return deployment("shop", "web") }
	onItsWay := func(b *builder.Workload[*appsv1.Deployment]) *builder.Workload[*appsv1.Deployment] {
		return restarted(b, since(noon))
	}
	workloadIsStrict := mutualTLSOf("shop", "cart", "STRICT")
	for name, test := range map[string]struct {
		scene        *scene
		says, not    string
		clearsBy     v1alpha1.ClearedBy
		otherIsStuck bool
	}{
		"each waits for the other": {newScene(strictIn("shop"), outside(cart(), 3), outside(web(), 3)), allWait, nothingComes, byAdmin, true},
		"the other goes first":     {newScene(workloadIsStrict, outside(cart(), 3), outside(web(), 3)), allCome, notByItself, byCluster, false},
		"the other goes first, by its owner's word": {
			scene: newScene(strictIn("shop"), outside(cart(), 3), outside(web().Annotated(v1alpha1.AcceptAnnotation, "StrictMTLS"), 3)),
			says:  allCome, not: notByItself, clearsBy: byCluster,
		},
		"the other is on its way already": {
			newScene(workloadIsStrict, outside(cart(), 3), outside(onItsWay(web()), 3)), allCome, notByItself, byCluster, false,
		},
		"the other has opted out": {
			newScene(workloadIsStrict, outside(cart(), 3), outside(web().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled), 3)),
			nothingComes,
			allCome,
			byAdmin,
			false,
		},
		"the other would lose its only Pod": {
			newScene(workloadIsStrict, outside(cart(), 3), outside(web().Recreate(), 3)), nothingComes, allCome, byAdmin, false,
		},
		"the other is never brought in": {
			newScene(strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected)), nothingComes, allWait, byAdmin, false,
		},
		"one other comes, one is never brought in": {
			newScene(workloadIsStrict, outside(cart(), 3), outside(web(), 3), runs(plain("old").Build(), uninjected)),
			"there are some in its namespace.",
			allCome,
			byAdmin,
			false,
		},
		"one other waits, one is never brought in": {
			newScene(strictIn("shop"), outside(cart(), 3), outside(web(), 3), runs(plain("old").Build(), uninjected)),
			nothingComes,
			allWait,
			byAdmin,
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			given := verdicts(test.scene.decide())
			cart := given["Deployment shop/cart"]
			if cart.Reason != restart.ReasonStrictMTLS || cart.ClearsBy != test.clearsBy || !strings.Contains(
				cart.Message, test.says,
			) || strings.Contains(cart.Message, test.not) {
				t.Errorf("verdict %s, cleared by %s: %s", cart.Reason, cart.ClearsBy, cart.Message)
			}
			if other, there := given["Deployment shop/web"]; there && (other.Reason == restart.ReasonStrictMTLS) != test.otherIsStuck {
				t.Errorf("the other's verdict is %s: %s", other.Reason, other.Message)
			}
		})
	}
}

// What keeps everybody where they are is no reason to accept a risk: when it ends, the others come.
func TestCallersAreNotKeptOutByWhatHoldsEverybody(t *testing.T) {
	cartIsStrict := mutualTLSOf("shop", "cart", "STRICT")
	objects := []any{cartIsStrict, outside(cart(), 3), outside(deployment("shop", "web"), 3)}
	istiodIsScaledToZero := controlPlane("default", func(d *appsv1.Deployment) {
		d.Spec.Replicas, d.Status = new(int32(0)), appsv1.DeploymentStatus{ObservedGeneration: d.Generation}
	})
	for name, test := range map[string]struct {
		scene *scene
		want  restart.Reason
	}{
		"the policy reports": {scene: newScene(builder.Reporting("mesh"), objects), want: restart.ReasonReportMode},
		"the red button":     {scene: newScene(objects).when(func(in *restart.Input) { in.Stopped = true }), want: restart.ReasonStopped},
		"no guard": {
			scene: newScene(objects).when(func(in *restart.Input) { in.Guard = restart.GuardMissing }),
			want:  restart.ReasonGuardMissing,
		},
		"a kind that is not read": {scene: newScene(objects).notRead("Rollout", "forbidden"), want: restart.ReasonCacheNotSynced},
		"a window that is closed": {
			scene: newScene(builder.Enforcing("mesh").Unbounded().Window(allow, "0 0 30 2 *", 60, ""), objects),
			want:  restart.ReasonWindowClosed,
		},
		"no injector": {scene: newScene(objects, istiodIsScaledToZero), want: restart.ReasonStrictMTLS},
	} {
		got := verdicts(test.scene.decide())["Deployment shop/cart"]
		if got.Reason != test.want || got.Reason == restart.ReasonStrictMTLS && got.ClearsBy != byCluster {
			t.Errorf("%s: the reason is %s, want %s: %s", name, got.Reason, test.want, got.Message)
		}
	}
}

// One revision's injector at a standstill holds nobody who waits for another's, and brings nobody in either.
func TestCallersOfAnInjectorAtAStandstillAreKeptOut(t *testing.T) {
	cartIsStrict := mutualTLSOf("shop", "cart", "STRICT")
	s := newScene(cartIsStrict, outside(cart(), 3), builder.Namespace("far").Labelled(
		"istio.io/rev", "green",
	).CreatedAt(yesterday).Build(), outside(
		deployment("far", "web"), 3,
	),
		builder.Namespace(istioNamespace).CreatedAt(yesterday).Build(), istiod("default").Build(),
		istiod("green").With(func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Status = new(int32(0)), appsv1.DeploymentStatus{ObservedGeneration: d.Generation}
		}).Build()).unasked()
	s.webhooks = append(s.webhooks, builder.RevisionWebhooks("green"))
	if got := verdicts(s.decide())["Deployment shop/cart"]; got.Reason != restart.ReasonStrictMTLS || got.ClearsBy != byAdmin {
		t.Errorf("%s, cleared by %s: %s", got.Reason, got.ClearsBy, got.Message)
	}
}

// Who has to do something about a Pod that finds no node is told in time, whatever holds its workload until then.
func TestWhatIsUnschedulableIsLookedAtAgain(t *testing.T) {
	for name, scene := range map[string]*scene{
		"by itself":      newScene(runs(cart().Build(), uninjected, unschedulable("no room"))),
		"in mode Report": newScene(builder.Reporting("mesh"), runs(cart().Build(), uninjected, unschedulable("no room"))),
		"behind red button": newScene(
			runs(cart().Build(), uninjected, unschedulable("no room")),
		).when(func(in *restart.Input) { in.Stopped = true }),
	} {
		if got := scene.decide().NextChange; !got.Equal(noon.Add(5 * time.Minute)) {
			t.Errorf("%s: it is looked at again at %s", name, got)
		}
	}
}

// strictIn has every workload of a namespace take mutual TLS only.
func strictIn(namespace string) *unstructured.Unstructured {
	return builder.PeerAuthentication(namespace, "default", "STRICT")
}

// mutualTLSOf sets the mode of mutual TLS for the Pods of one app.
func mutualTLSOf(namespace, app, mode string) *unstructured.Unstructured {
	policy := builder.PeerAuthentication(namespace, app, mode)
	policy.Object["spec"].(map[string]any)["selector"] = map[string]any{"matchLabels": map[string]any{"app": app}}
	return policy
}

// plain is a Deployment that stays out of the mesh.
func plain(name string) *builder.Workload[*appsv1.Deployment] {
	return deployment("shop", name).Labelled("sidecar.istio.io/inject", "false")
}

// A restart is due where no check holds.
func TestRestartIsDue(t *testing.T) {
	verdict := only(t, newScene(outside(cart(), 3)).decide())
	if verdict.Action != v1alpha1.ActionRestart || verdict.Reason != restart.ReasonRestartDue || verdict.Step != restart.StepRestart ||
		verdict.ClearsBy != "" {
		t.Errorf("verdict %s %s, step %d, cleared by %q", verdict.Action, verdict.Reason, verdict.Step, verdict.ClearsBy)
	}
	want := inventory.FromMeshRestart(restartOf(cart().Build(), since(noon), takingAtOnce(1)))
	want.UID, want.ResourceVersion = "", ""
	if diff := cmp.Diff(want, verdict.Restart); diff != "" {
		t.Errorf("its MeshRestart (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(want.InputsHash, "1-") || !verdict.Restart.Pending() {
		t.Errorf("inputs hash %q, pending %t", want.InputsHash, verdict.Restart.Pending())
	}
}

func TestNothingIsSaidOfWhatIsComplete(t *testing.T) {
	for name, scene := range map[string]*scene{
		"every Pod is in the mesh":    newScene(runs(cart().Build(), injected, injected)),
		"no sidecar is expected":      newScene(outside(cart().Labelled("sidecar.istio.io/inject", "false"), 3)),
		"nothing runs":                newScene(cart().Build()),
		"the namespace asks for none": newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), outside(cart(), 3)),
		"it was restarted before":     newScene(runs(restarted(cart(), ended(v1alpha1.ResultSucceeded)).Build(), injected, injected, injected)),
	} {
		t.Run(name, func(t *testing.T) {
			if given := verdicts(scene.decide()); len(given) != 0 {
				t.Errorf("verdicts %v", given)
			}
		})
	}
}

// checkCases are those of the phases eligibility to evidence, but for what was tried before.
func checkCases() map[string]cases {
	return map[string]cases{
		"NamespaceIsTerminating": {
			holds: map[string]holding{
				"one in which all is in the mesh and a restart has failed": {scene: newScene(
					builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(yesterday).Terminating(noon).Build(),
					runs(restarted(cart(), ended(v1alpha1.ResultFailed)).Build(), crashing, crashing, crashing),
				),
					reason: restart.ReasonNamespaceTerminating, clearsBy: byCluster, message: "is being deleted"},
				"a namespace that is being deleted": {scene: newScene(
					builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(yesterday).Terminating(noon).Build(), outside(cart(), 3),
				),
					reason: restart.ReasonNamespaceTerminating, clearsBy: byCluster, message: "is being deleted"},
			},
			passes: map[string]*scene{"a namespace that is not": newScene(outside(cart(), 3))},
		},
		"WorkloadIsTerminating": {
			holds: map[string]holding{
				"a workload that is being deleted": {
					scene:    newScene(outside(cart().With(terminating), 3)),
					reason:   restart.ReasonWorkloadTerminating,
					clearsBy: byCluster,
					message:  "The workload is being deleted.",
				},
				"one whose restart failed before": {
					scene:    newScene(outside(restarted(cart(), ended(v1alpha1.ResultFailed)).With(terminating), 3)),
					reason:   restart.ReasonWorkloadTerminating,
					clearsBy: byCluster,
				},
			},
			passes: map[string]*scene{"a workload that is not": newScene(outside(cart(), 3))},
		},
		"CanaryAnnotationIsInvalid": {
			holds: map[string]holding{
				"a word that is not known": {scene: newScene(
					outside(cart().Annotated(v1alpha1.CanaryAnnotation, "yes"), 3),
				), reason: restart.ReasonInvalidAnnotation, clearsBy: byOwner,
					message: `has the value "yes", and only "true" is known. ` +
						"Set that to have the workload restarted before the others, or remove the annotation.",
				},
			},
			passes: map[string]*scene{"the word that is": newScene(outside(cart().Annotated(v1alpha1.CanaryAnnotation, "true"), 3))},
		},
		"NeverFitsABudget": {
			holds: map[string]holding{
				"a budget of no workloads": {scene: newScene(
					builder.Enforcing("mesh").Budget(perNamespace, 0, nil), outside(cart(), 3),
				), reason: restart.ReasonExceedsBudget, clearsBy: byAdmin,
					message: "A budget of MeshPolicy mesh (scope Namespace, workloads: 0) allows no restart at all. Raise it."},
				"a budget of fewer Pods than it takes": {scene: newScene(
					builder.Enforcing("mesh").Budget(perPolicy, nil, 1), outside(cart().Surge(2), 3),
				), reason: restart.ReasonExceedsBudget, clearsBy: byAdmin,
					message: "Its strategy takes 2 Pods at once, and a budget of MeshPolicy mesh (scope Policy, pods: 1) never allows more than 1."},
				"that nothing may start now anyway": {
					scene:    newScene(builder.Reporting("mesh").Budget(perNamespace, 0, nil), outside(cart(), 3)),
					reason:   restart.ReasonExceedsBudget,
					clearsBy: byAdmin,
				},
			},
			passes: map[string]*scene{"a budget of as many": newScene(builder.Enforcing("mesh").Budget(perPolicy, 1, 1), outside(cart(), 3))},
		},
		"PolicyIsInvalid": {
			holds: map[string]holding{
				"a window that cannot be read": {scene: newScene(
					unusable(), outside(cart(), 3),
				), reason: restart.ReasonInvalidMeshPolicy, clearsBy: byAdmin,
					message: "Nothing is restarted under MeshPolicy frozen until it is corrected: reading spec.windows[0].schedule:"},
			},
			passes: map[string]*scene{"no window": newScene(outside(cart(), 3))},
		},
		"WindowIsClosed": {
			holds: map[string]holding{
				"a window that opens later": {scene: newScene(
					builder.Enforcing("mesh").Unbounded().Window(allow, "0 22 * * *", 60, ""), outside(cart(), 3),
				), reason: restart.ReasonWindowClosed, clearsBy: byTime,
					message: "The windows of MeshPolicy mesh are closed. They open at 2026-11-23T22:00:00Z; change spec.windows to restart earlier."},
				"a window that never opens": {scene: newScene(
					builder.Enforcing("mesh").Unbounded().Window(allow, "0 0 30 2 *", 60, ""), outside(cart(), 3),
				), reason: restart.ReasonWindowClosed, clearsBy: byAdmin,
					message: "Correct spec.windows."},
			},
			passes: map[string]*scene{
				"a window that is open": newScene(builder.Enforcing("mesh").Unbounded().Window(allow, "0 12 * * *", 60, ""), outside(cart(), 3)),
			},
		},
		"SpecKeepsChanging": {
			holds: map[string]holding{
				"somebody wrote first": {scene: newScene(outside(cart(), 3)).when(
					specChanged(1, noon.Add(2*time.Second)),
				), reason: restart.ReasonSpecKeepsChanging, clearsBy: byTime,
					message: "Its spec changed while it was about to be restarted; that is tried again at 2026-11-23T12:00:02Z."},
				"somebody did three times in a row": {scene: newScene(outside(cart(), 3)).when(
					specChanged(3, noon.Add(8*time.Second)),
				), reason: restart.ReasonSpecKeepsChanging, clearsBy: byTime,
					message: "This has happened 3 times in a row: see what keeps writing it (kubectl get deployment/cart -n shop -o yaml --show-managed-fields)."},
			},
			passes: map[string]*scene{
				"when it is time to try again": newScene(outside(cart(), 3)).when(specChanged(3, noon)),
				"somebody wrote another one":   newScene(outside(cart().UID("another"), 3)).when(specChanged(3, noon.Add(time.Second))),
			},
		},
		"IsNotSelected": {
			holds: map[string]holding{
				"a workload that the selector leaves out": {scene: newScene(
					builder.Enforcing("mesh").Unbounded().Selecting("tier", "web"), outside(cart(), 3),
				),
					reason: restart.ReasonNotSelected, clearsBy: byAdmin, message: "Widen the selector"},
			},
			passes: map[string]*scene{
				"a workload that the selector selects": newScene(
					builder.Enforcing("mesh").Unbounded().Selecting("tier", "web"), outside(cart().Labelled("tier", "web"), 3),
				),
			},
		},
		"IsOptedOut": {
			holds: map[string]holding{
				"a namespace that opted out": {scene: newScene(
					builder.Namespace("shop").Labelled("istio-injection", "enabled").Annotated(
						v1alpha1.RestartAnnotation, "disabled",
					).CreatedAt(yesterday).Build(),
					outside(cart(), 3),
				),
					reason:   restart.ReasonOptedOut,
					clearsBy: byOwner,
					message:  "on the namespace asks for no restart. Restart it yourself, or remove the annotation",
				},
				"a workload that opted out": {scene: newScene(outside(cart().Annotated(v1alpha1.RestartAnnotation, "disabled"), 3)),
					reason: restart.ReasonOptedOut, clearsBy: byOwner, message: "remove the annotation"},
				"a template that opted out": {scene: newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartAnnotation, "disabled"), 3)),
					reason: restart.ReasonOptedOut, clearsBy: byOwner, message: "remove the annotation"},
				"a word that nobody knows": {scene: newScene(outside(cart().Annotated(v1alpha1.RestartAnnotation, "never"), 3)),
					reason: restart.ReasonInvalidAnnotation, clearsBy: byOwner, message: `only "disabled" is known`},
				"a Pod by itself that opted out": {scene: newScene(
					builder.Pod("shop", "alone").CreatedAt(yesterday).Annotated(v1alpha1.RestartAnnotation, "disabled").Build(),
				),
					reason: restart.ReasonOptedOut, clearsBy: byOwner, message: "on the Pod"},
			},
			passes: map[string]*scene{"another annotation": newScene(outside(cart().Annotated("restart", "disabled"), 3))},
		},
		"AcceptAnnotationIsInvalid": {
			holds: map[string]holding{
				"a risk in lower case": {scene: newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, "downtime"), 3)),
					reason:   restart.ReasonInvalidAnnotation,
					clearsBy: byOwner,
					message: `names "downtime", and no such risk is known. ` +
						"Use one or more of these, separated by commas: Downtime, StrictMTLS, OwnedByOperator, Unchecked.",
				},
				"a risk beside one that is known": {scene: newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime, Everything"), 3)),
					reason: restart.ReasonInvalidAnnotation, clearsBy: byOwner, message: `names "Everything"`},
				"risks that are not set apart by commas": {scene: newScene(
					outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime Unchecked"), 3),
				),
					reason: restart.ReasonInvalidAnnotation, clearsBy: byOwner, message: `names "Downtime Unchecked"`},
			},
			passes: map[string]*scene{
				"every risk that there is": newScene(
					outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime,StrictMTLS, OwnedByOperator ,Unchecked,"), 3),
				),
				"none": newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, ""), 3)),
			},
		},
		"FindingIsNotRemediated": {
			holds: map[string]holding{
				"a sidecar of another revision": {scene: newScene(
					runs(cart().Build(), func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("canary").Ready(yesterday) }),
				),
					reason: restart.ReasonNotRemediated, clearsBy: byAdmin, message: "Add that to its spec.remediate, or restart the workload yourself"},
				"a sidecar that is not expected": {scene: newScene(
					builder.Namespace("shop").CreatedAt(yesterday).Build(), runs(cart().Build(), injected),
				),
					reason: restart.ReasonNotRemediated, clearsBy: byAdmin, message: "does not act on Leftover"},
			},
			passes: map[string]*scene{
				"a sidecar that is missing beside them": newScene(
					runs(cart().Build(), uninjected, func(b *builder.PodBuilder) { b.Injected("canary").Ready(yesterday) }),
				),
			},
		},
		"IsAJob": {
			holds: map[string]holding{
				"a Job that runs": {scene: newScene(outside(builder.Job("shop", "import"), 1)),
					reason: restart.ReasonJobRunsToCompletion, clearsBy: byTime, message: "one created now is injected"},
				"a CronJob whose run has begun": {scene: newScene(aRunOf(builder.CronJob("shop", "nightly").Build())),
					reason:   restart.ReasonJobRunsToCompletion,
					clearsBy: byTime,
					message: "the next run is injected. A classic sidecar keeps running after the Job's container exits and can keep the Job from " +
						"completing.",
				},
			},
			passes: map[string]*scene{"a Deployment": newScene(outside(cart(), 3))},
		},
		"HasNoController": {
			holds: map[string]holding{
				"a Pod by itself": {scene: newScene(builder.Pod("shop", "alone").CreatedAt(yesterday).Ready(yesterday).Build()),
					reason: restart.ReasonNoController, clearsBy: byOwner, message: "Delete it and create it again"},
			},
			passes: map[string]*scene{"a Pod of a Deployment": newScene(outside(cart(), 1))},
		},
		"OwnerIsNotRead": {
			holds: map[string]holding{
				"Pods whose ReplicaSet is not known": {scene: newScene(outside(cart(), 1)[2]),
					reason: restart.ReasonCacheNotSynced, clearsBy: byCluster, message: "has not been seen"},
				"Pods whose Deployment is not known": {scene: newScene(outside(cart(), 1)[1:]),
					reason: restart.ReasonCacheNotSynced, clearsBy: byCluster, message: "has not been seen"},
				"Pods whose Rollout is not known": {scene: newScene(runs(canary().Build(), uninjected)[1:]),
					reason:   restart.ReasonCacheNotSynced,
					clearsBy: byCluster,
					message:  "Rollout.argoproj.io shop/canary owns running Pods and has not been seen",
				},
			},
			passes: map[string]*scene{"Pods whose owners are known": newScene(outside(cart(), 1))},
		},
		"TemplateIsUnknown": {
			holds: map[string]holding{
				"a Rollout whose Deployment is not there": {scene: newScene(
					runs(canary().TemplateOf("apps/v1", "Deployment", "canary").Build(), uninjected),
				),
					reason: restart.ReasonTemplateUnknown, clearsBy: byOwner, message: "from Deployment shop/canary, which is not there"},
				"a Rollout that cannot be read": {scene: newScene(runs(canary().Set("three", "spec", "replicas").Build(), uninjected)),
					reason: restart.ReasonTemplateUnknown, clearsBy: byOwner, message: "cannot be read"},
			},
			passes: map[string]*scene{
				"a Rollout of its own template": newScene(rolloutOutside(canary(), 3)),
				"a Rollout that takes its template from a Deployment": newScene(builder.Deployment("shop", "lender").Replicas(0).RolledOut().Build(),
					rolloutOutside(canary().TemplateOf("apps/v1", "Deployment", "lender"), 3)),
			},
		},
		"TemplateIsShared": {
			holds: map[string]holding{
				"a Deployment from which a Rollout takes its template": {scene: newScene(
					canary().Replicas(0).RolledOut().TemplateOf("apps/v1", "Deployment", "cart").Build(), outside(cart(), 3),
				),
					reason: restart.ReasonTemplateSharedWithRollout, clearsBy: byOwner, message: "would start an update of the other"},
			},
			passes: map[string]*scene{
				"a Rollout that takes it from another Deployment": newScene(
					canary().Replicas(0).RolledOut().TemplateOf("apps/v1", "Deployment", "other").Build(), outside(cart(), 3),
				),
			},
		},
		"AnotherRestartIsRequested": {
			holds: map[string]holding{
				"its owner has asked for one later": {scene: newScene(rolloutOutside(canary().RestartAt(noon.Add(time.Hour)), 3)),
					reason: restart.ReasonRolloutInProgress, clearsBy: byTime, message: "asked for a restart at 2026-11-23T13:00:00Z (spec.restartAt)"},
				"one that its owner asked for is going on": {scene: newScene(rolloutOutside(canary().RestartAt(noon.Add(-time.Minute)), 3)),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "A restart that Fullmesh did not ask for is going on"},
			},
			passes: map[string]*scene{
				"none was ever asked for": newScene(rolloutOutside(canary(), 3)),
				"the last one has ended": newScene(
					rolloutOutside(canary().RestartAt(yesterday.Add(-time.Hour)).RestartedAt(yesterday.Add(-time.Hour)), 3),
				),
			},
		},
		"ArgoWaitsForItsPods": {
			holds: map[string]holding{
				"a Pod that is not ready": {scene: newScene(runs(canary().Build(), uninjected, uninjected, starting)),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "Only 2 of 3 Pods are ready"},
				"a Pod that cannot become ready": {scene: newScene(runs(canary().Build(), uninjected, uninjected, broken)),
					reason: restart.ReasonRolloutStuck, clearsBy: byOwner, message: "Fix or delete that Pod"},
				"one beside as many as are asked for": {scene: newScene(runs(canary().Build(), uninjected, uninjected, uninjected, broken)),
					reason: restart.ReasonRolloutStuck, clearsBy: byOwner, message: "Fix or delete that Pod"},
			},
			passes: map[string]*scene{
				"all are ready":              newScene(rolloutOutside(canary(), 3)),
				"more than that may be down": newScene(runs(canary().Unavailable(2).Build(), uninjected, uninjected, starting)),
				"a Deployment":               newScene(runs(cart().Build(), uninjected, uninjected, starting)),
			},
		},
		"CacheIsNotSynced": {
			holds: map[string]holding{
				"a kind that is being read": {scene: newScene(outside(cart(), 3)).notRead("Rollout.argoproj.io", ""),
					reason: restart.ReasonCacheNotSynced, clearsBy: byCluster, message: "before every Rollout.argoproj.io has been read"},
				"a kind that may not be read": {scene: newScene(outside(cart(), 3)).notRead("Rollout.argoproj.io", "listing it: forbidden"),
					reason: restart.ReasonCacheNotSynced, clearsBy: byAdmin, message: "(listing it: forbidden). Apply config/rbac"},
			},
			passes: map[string]*scene{"every kind has been read": newScene(outside(cart(), 3))},
		},
		"IsScaledToZero": {
			holds: map[string]holding{
				"a Deployment of no Pods": {scene: newScene(outside(cart().Replicas(0).RolledOut(), 1)),
					reason: restart.ReasonScaledToZero, clearsBy: byCluster, message: "the next ones are injected"},
			},
			passes: map[string]*scene{"a Deployment of one": newScene(outside(cart().Replicas(1).RolledOut(), 1))},
		},
		"IsPaused": {
			holds: map[string]holding{
				"a Deployment that is paused": {scene: newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Spec.Paused = true }), 3)),
					reason: restart.ReasonPaused, clearsBy: byOwner, message: "kubectl rollout resume deployment/cart -n shop"},
			},
			passes: map[string]*scene{"a Deployment that is not": newScene(outside(cart(), 3))},
		},
		"SidecarAndAmbientConflict": {
			holds: map[string]holding{
				"both asked for by the namespace": {
					scene:    newScene(both(), outside(cart(), 3)),
					reason:   restart.ReasonMeshModeConflict,
					clearsBy: byOwner,
					message:  "Remove either the injection label or the label istio.io/dataplane-mode.",
				},
				"ambient asked for by the template": {scene: newScene(outside(cart().Labelled("istio.io/dataplane-mode", "ambient"), 3)),
					reason: restart.ReasonMeshModeConflict, clearsBy: byOwner, message: "istio.io/dataplane-mode"},
			},
			passes: map[string]*scene{
				"the template asks for neither": newScene(both(), outside(cart().Labelled("istio.io/dataplane-mode", "none"), 3)),
			},
		},
		"EvictionIsDisabled": {
			holds: map[string]holding{
				"a StatefulSet that is updated on deletion": {scene: newScene(
					outside(db().OnDelete(), 3),
				).when(evictionDisabled), reason: restart.ReasonEvictionDisabled, clearsBy: byAdmin,
					message: "because its update strategy is OnDelete. Enable it"},
				"a StatefulSet with a partition": {
					scene:    newScene(outside(db().Partition(2), 3)).when(evictionDisabled),
					reason:   restart.ReasonEvictionDisabled,
					clearsBy: byAdmin,
					message:  "stops at partition 2",
				},
				"a DaemonSet that is updated on deletion": {scene: newScene(
					outside(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3), 3),
				).when(evictionDisabled),
					reason: restart.ReasonEvictionDisabled, clearsBy: byAdmin, message: "OnDelete"},
				"a ReplicaSet by itself": {scene: newScene(
					outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut(), 3),
				).when(evictionDisabled),
					reason: restart.ReasonEvictionDisabled, clearsBy: byAdmin, message: "does not roll out its template"},
				"what something else controls": {
					scene:    newScene(outside(cart().OwnedBy(db().Build()), 3)).when(evictionDisabled),
					reason:   restart.ReasonEvictionDisabled,
					clearsBy: byAdmin,
					message:  "would undo a change",
				},
			},
			passes: map[string]*scene{
				"a StatefulSet whose update rolls": newScene(outside(db(), 3)).when(evictionDisabled),
				"few of its Pods are out":          newScene(fewOut(cart().Replicas(4).Unavailable(1).RolledOut())).when(evictionDisabled),
				"it is updated on deletion":        newScene(outside(db().OnDelete().CreatedAt(yesterday.Add(-time.Hour)), 3)),
			},
		},
		"AnotherRolloutIsInProgress": {
			holds: map[string]holding{
				"a rollout that goes on": {scene: newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }), 3)),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "1 of 3 Pods updated"},
				"a change that its controller has not seen": {scene: newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Generation++ }), 3)),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "its new Pods are injected"},
				"a rollout that is stuck": {scene: newScene(outside(cart().With(func(d *appsv1.Deployment) {
					d.Status.UpdatedReplicas = 1
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}}
				}), 3)), reason: restart.ReasonRolloutStuck, clearsBy: byOwner, message: "Fix or undo"},
				"one of a StatefulSet that a Pod holds up": {scene: newScene(
					runs(updating(db()).Build(), uninjected, uninjected, broken),
				), reason: restart.ReasonRolloutStuck, clearsBy: byOwner,
					message: "makes no progress: Pod db-2, container app: CrashLoopBackOff, last exit code 1"},
				"one of a StatefulSet that nothing is seen to hold up": {scene: newScene(
					runs(updating(db()).Build(), uninjected, uninjected, uninjected),
				), reason: restart.ReasonRolloutStuck, clearsBy: byOwner,
					message: "no further Pod was made or became ready for 10m30s (1 of 3 Pods updated). Fix or undo"},
				"one of a StatefulSet that has begun a moment ago": {scene: newScene(
					runs(writtenAt(updating(db()), noon.Add(-10*time.Minute)).Build(), uninjected, uninjected, uninjected),
				),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "1 of 3 Pods updated"},
				"one of a StatefulSet that has made a Pod": {scene: newScene(
					runs(
						updating(db()).Build(), uninjected, uninjected,
						func(b *builder.PodBuilder) { b.CreatedAt(noon.Add(-10 * time.Minute)).Injected("default") },
					),
				),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "1 of 3 Pods updated"},
				"one of a StatefulSet that has made a Pod without a sidecar": {scene: newScene(
					runs(updating(db()).Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(noon.Add(-10 * time.Minute)) }),
				),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "1 of 3 Pods updated"},
				"one of a StatefulSet that goes on": {scene: newScene(
					runs(updating(db()).Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-10*time.Minute))),
				),
					reason: restart.ReasonRolloutInProgress, clearsBy: byCluster, message: "1 of 3 Pods updated"},
			},
			passes: map[string]*scene{
				"Pods of a workload that is rolled out are not available": newScene(
					outside(cart().With(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 }), 3),
				),
			},
		},
		"StatefulSetWaitsForItsPods": {
			holds: map[string]holding{
				"a Pod is not ready": {scene: newScene(
					runs(db().Build(), uninjected, uninjected, starting),
				), reason: restart.ReasonRolloutInProgress, clearsBy: byCluster,
					message: "Only 2 of 3 Pods are ready"},
				"a Pod cannot become ready, and nothing may be evicted": {scene: newScene(
					runs(db().Build(), uninjected, uninjected, broken),
				).when(evictionDisabled), reason: restart.ReasonRolloutStuck, clearsBy: byOwner,
					message: "Fix or delete that Pod"},
			},
			passes: map[string]*scene{
				"every Pod is ready":                        newScene(outside(db(), 3)),
				"a Pod cannot become ready, and is evicted": newScene(runs(db().Build(), uninjected, uninjected, broken)),
				"it does not wait for its Pods":             newScene(runs(db().With(inParallel).Build(), uninjected, uninjected, starting)),
				"a Deployment":                              newScene(runs(cart().Build(), uninjected, uninjected, starting)),
			},
		},
		"ModeIsReport": {
			holds: map[string]holding{
				"a policy that reports": {
					scene:    newScene(builder.Reporting("mesh").Unbounded(), outside(cart(), 3)),
					reason:   restart.ReasonReportMode,
					clearsBy: byAdmin,
					message:  "Set mode: Enforce",
				},
				"a policy that does not say": {scene: newScene(&v1alpha1.MeshPolicy{ObjectMeta: metav1.ObjectMeta{Name: "mesh"}}, outside(cart(), 3)),
					reason: restart.ReasonReportMode, clearsBy: byAdmin, message: "Set mode: Enforce"},
			},
			passes: map[string]*scene{"a policy that enforces": newScene(outside(cart(), 3))},
		},
		"WatchIsStale": {
			holds: map[string]holding{
				"a watch is broken": {scene: newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.WatchStale = "pods cannot be watched" }),
					reason: restart.ReasonWatchStale, clearsBy: byCluster, message: "pods cannot be watched"},
			},
			passes: map[string]*scene{"all watches are had": newScene(outside(cart(), 3))},
		},
		"EverythingIsStopped": {
			holds: map[string]holding{
				"it is pressed": {
					scene:    newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Stopped = true }),
					reason:   restart.ReasonStopped,
					clearsBy: byAdmin,
					message:  "fullmesh stop --clear",
				},
			},
			passes: map[string]*scene{"it is not": newScene(outside(cart(), 3))},
		},
		"GuardIsNotInForce": {
			holds: map[string]holding{
				"it is missing": {scene: newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Guard = restart.GuardMissing }),
					reason: restart.ReasonGuardMissing, clearsBy: byAdmin, message: "Apply config/guard"},
				"nobody knows yet": {scene: newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Guard = restart.GuardUnknown }),
					reason: restart.ReasonGuardUnknown, clearsBy: byCluster, message: "tried again"},
			},
			passes: map[string]*scene{"it holds": newScene(outside(cart(), 3))},
		},
		"InjectorIsDegraded": {
			holds: map[string]holding{
				"istiod is being rolled out": {scene: newScene(
					outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }),
				),
					reason:   restart.ReasonInjectorRollingOut,
					clearsBy: byCluster,
					message:  "is being rolled out: of Deployment istio-system/istiod, 1 of 2 Pods are updated and 2 available",
				},
				"its controller has not seen the change yet": {scene: newScene(
					outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Generation++ }),
				),
					reason: restart.ReasonInjectorRollingOut, clearsBy: byCluster, message: "is being rolled out"},
				"an old Pod of it is still there": {scene: newScene(
					outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.Replicas = 3 }),
				),
					reason: restart.ReasonInjectorRollingOut, clearsBy: byCluster, message: "is being rolled out"},
				"one of its Pods is not available": {scene: newScene(
					outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 1 }),
				),
					reason:   restart.ReasonInjectorRollingOut,
					clearsBy: byCluster,
					message:  "not there in full: of Deployment istio-system/istiod, 1 of 2 Pods are available",
				},
				"its Pods crash": {scene: newScene(
					outside(cart(), 3), builder.Namespace(istioNamespace).Build(),
					runs(istiod("default").With(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 }).Build(), broken),
				),
					reason: restart.ReasonInjectorRollingOut, clearsBy: byCluster, message: "kubectl logs istiod-0 -n istio-system"},
				"its rollout is stuck": {scene: newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) {
					d.Status.UpdatedReplicas = 1
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}}
				})), reason: restart.ReasonInjectorRollingOut, clearsBy: byAdmin, message: "kubectl describe deployment/istiod -n istio-system"},
				"it is paused in the middle": {scene: newScene(
					outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Spec.Paused = 1, true }),
				),
					reason: restart.ReasonInjectorRollingOut, clearsBy: byAdmin, message: "kubectl rollout resume deployment/istiod -n istio-system"},
				"it is scaled to zero": {scene: newScene(
					outside(cart(), 3), builder.Namespace(istioNamespace).Build(), istiod("default").Replicas(0).RolledOut().Build(),
				),
					reason: restart.ReasonInjectorRollingOut, clearsBy: byAdmin, message: "kubectl scale deployment/istiod -n istio-system --replicas=2"},
				"its Service selects by other labels": {scene: newScene(outside(cart(), 3), istiodService(
					map[string]string{"team": "mesh"},
				), builder.Namespace(istioNamespace).Build(),
					builder.Deployment(istioNamespace, "pilot").Labelled("team", "mesh").RolledOut().Replicas(2).Build()),
					reason: restart.ReasonInjectorRollingOut, clearsBy: byCluster, message: "Deployment istio-system/pilot"},
			},
			passes: map[string]*scene{
				"istiod is at rest":      newScene(outside(cart(), 3), controlPlane("default", func(*appsv1.Deployment) {})),
				"nothing is known of it": newScene(outside(cart(), 3)),
				"that of another revision rolls out": newScene(
					outside(cart(), 3), controlPlane("canary", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }),
				),
				"one that is behind no Service": newScene(
					outside(cart(), 3), istiodService(map[string]string{"team": "mesh"}),
					controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }),
				),
				"its Service has no selector": newScene(
					outside(cart(), 3), istiodService(nil), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }),
				),
				"one of two is scaled to zero": newScene(outside(cart(), 3), controlPlane("default", func(*appsv1.Deployment) {}),
					builder.Deployment(istioNamespace, "istiod-old").Labelled("app", "istiod", "istio.io/rev", "default").Replicas(0).RolledOut().Build()),
			},
		},
		"IsSettling": {
			holds: map[string]holding{
				"a label changed just now": {scene: newScene(labelledAt(noon.Add(-29*time.Second)), outside(cart(), 3)),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "30s after the last change of the namespace's labels"},
				"the template changed just now": {scene: newScene(outside(cart().CreatedAt(noon.Add(-29*time.Second)), 3)),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "30s after the last change of the template"},
				"the injector changed just now": {scene: newScene(outside(cart(), 3)).injectorChangedAt(noon.Add(-29 * time.Second)),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "30s after the last change of the injector"},
				"the policy asks for longer": {scene: newScene(
					builder.Enforcing("mesh").Unbounded().Settling(60), labelledAt(noon.Add(-59*time.Second)), outside(cart(), 3),
				),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "1m0s"},
				"the policy asks for less than can be": {scene: newScene(
					builder.Enforcing("mesh").Unbounded().Settling(0), labelledAt(noon.Add(-time.Second)), outside(cart(), 3),
				),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "2s"},
				"its newest Pod without a sidecar has just come": {scene: newScene(
					runs(cart().Build(), uninjected, uninjected, uninjectedAt(noon.Add(-time.Second))),
				),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "2s after its newest Pod was created"},
				"a clock is ahead of ours": {scene: newScene(outside(cart().CreatedAt(noon.Add(time.Second)), 3)),
					reason: restart.ReasonSettling, clearsBy: byTime, message: "30s"},
			},
			passes: map[string]*scene{
				"its newest Pod came in a former second": newScene(
					runs(cart().Build(), uninjected, uninjected, uninjectedAt(noon.Add(-2*time.Second))),
				),
				"everything changed long enough ago": newScene(
					labelledAt(noon.Add(-30*time.Second)), outside(cart().CreatedAt(noon.Add(-30*time.Second)), 3),
				).injectorChangedAt(noon.Add(-30 * time.Second)),
				"the policy asks for less": newScene(
					builder.Enforcing("mesh").Unbounded().Settling(5), labelledAt(noon.Add(-5*time.Second)), outside(cart(), 3),
				),
			},
		},
		"WouldCauseDowntime": {
			holds: map[string]holding{
				"a Deployment that is recreated": {
					scene:    newScene(outside(cart().Recreate(), 3)),
					reason:   restart.ReasonWouldCauseDowntime,
					clearsBy: byAdmin,
					message:  "Recreate. Accept it with accept: [Downtime]",
				},
				"one Pod without surge": {
					scene:    newScene(outside(cart().Replicas(1).Surge(0).Unavailable(1).RolledOut(), 1)),
					reason:   restart.ReasonWouldCauseDowntime,
					clearsBy: byAdmin,
					message:  "fullmesh.dev/accept=Downtime",
				},
				"all may be unavailable": {
					scene:    newScene(outside(cart().Unavailable("100%"), 3)),
					reason:   restart.ReasonWouldCauseDowntime,
					clearsBy: byAdmin,
					message:  "every Pod at once. Accept it",
				},
				"a StatefulSet of one": {
					scene:    newScene(outside(db().Replicas(1).RolledOut(), 1)),
					reason:   restart.ReasonWouldCauseDowntime,
					clearsBy: byAdmin,
					message:  "its only Pod goes before the new one comes. Accept it",
				},
				"a StatefulSet of which one is ready": {scene: newScene(
					runs(db().With(inParallel).Build(), uninjected, starting, starting),
				), reason: restart.ReasonWouldCauseDowntime, clearsBy: byAdmin,
					message: "only 1 of its 3 Pods are ready"},
				"the only one that is ready would be evicted": {scene: newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(),
					outside(cart().Recreate().Replicas(1).RolledOut().OwnedBy(db().Build()).Annotated(v1alpha1.AcceptAnnotation, "OwnedByOperator"), 1),
				),
					reason:   restart.ReasonWouldCauseDowntime,
					clearsBy: byAdmin,
					message:  "its only Pod that is ready goes before the new one comes. Accept it",
				},
				"another risk is accepted": {
					scene:    newScene(outside(cart().Recreate().Annotated(v1alpha1.AcceptAnnotation, "StrictMTLS"), 3)),
					reason:   restart.ReasonWouldCauseDowntime,
					clearsBy: byAdmin,
					message:  "Accept it",
				},
			},
			passes: map[string]*scene{
				"the administrator accepts it": newScene(
					builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime), outside(cart().Recreate(), 3),
				),
				"the owner accepts it": newScene(outside(cart().Recreate().Annotated(v1alpha1.AcceptAnnotation, "StrictMTLS, Downtime"), 3)),
				"one that is not ready is evicted first": newScene(
					runs(db().With(inParallel).OnDelete().Replicas(2).RolledOut().Build(), uninjected, starting),
				),
				"nothing is ready":                        newScene(runs(cart().Recreate().Build(), starting, starting, starting)),
				"one Pod with surge":                      newScene(outside(cart().Replicas(1).RolledOut(), 1)),
				"a StatefulSet of two":                    newScene(outside(db().Replicas(2).RolledOut(), 2)),
				"a Deployment of which one is ready":      newScene(runs(cart().Surge(0).Unavailable(1).Build(), uninjected, starting, starting)),
				"a StatefulSet of which enough are ready": newScene(runs(db().With(inParallel).Build(), uninjected, uninjected, starting)),
			},
		},
		"WouldRefuseItsCallers": {
			holds: map[string]holding{
				"others in its namespace are outside": {scene: newScene(
					strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected, uninjected),
				),
					reason:   restart.ReasonStrictMTLS,
					clearsBy: byAdmin,
					message: "PeerAuthentication shop/default makes it take mutual TLS only: once it is in the mesh it refuses Pods that are outside " +
						"of it, and there are some in its namespace. Nothing is about to bring the others in, so this does not end by itself. Accept it " +
						"with accept: [StrictMTLS] in MeshPolicy mesh, or for this workload alone with the annotation fullmesh.dev/accept=StrictMTLS; or " +
						"set the mode PERMISSIVE until",
				},
				"others of the policy are outside": {scene: newScene(
					strictIn(istioNamespace), outside(cart(), 3), builder.Namespace("bank").Build(), runs(deployment("bank", "pay").Build(), uninjected),
				),
					reason:   restart.ReasonStrictMTLS,
					clearsBy: byAdmin,
					message: "PeerAuthentication istio-system/default makes it take mutual TLS only: once it is in the mesh it refuses Pods that are " +
						"outside of it, and there are some in other namespaces that MeshPolicy mesh governs.",
				},
				"others near and far are outside": {scene: newScene(
					strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected), builder.Namespace("bank").Build(),
					runs(deployment("bank", "pay").Build(), uninjected),
				),
					reason:   restart.ReasonStrictMTLS,
					clearsBy: byAdmin,
					message:  "there are some in its namespace and in others that MeshPolicy mesh governs.",
				},
				"the policy accepts another risk": {scene: newScene(
					builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime), strictIn("shop"), outside(cart(), 3),
					runs(plain("old").Build(), uninjected),
				),
					reason: restart.ReasonStrictMTLS, clearsBy: byAdmin, message: "accept: [StrictMTLS]"},
			},
			passes: map[string]*scene{
				"nobody else is outside": newScene(strictIn("shop"), outside(cart(), 3)),
				"everybody else is in":   newScene(strictIn("shop"), outside(cart(), 3), runs(deployment("shop", "web").Build(), injected)),
				"plain traffic is taken": newScene(
					builder.PeerAuthentication("shop", "default", "PERMISSIVE"), outside(cart(), 3), runs(plain("old").Build(), uninjected),
				),
				"another namespace is strict": newScene(strictIn("bank"), outside(cart(), 3), runs(plain("old").Build(), uninjected)),
				"a Pod of it is in the mesh already": newScene(
					strictIn("shop"), runs(cart().Build(), uninjected, uninjected, injected), runs(plain("old").Build(), uninjected),
				),
				"none of its Pods answers anybody": newScene(
					strictIn("shop"), runs(cart().Build(), broken, broken, broken), runs(plain("old").Build(), uninjected),
				),
				"the administrator accepts it": newScene(
					builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskStrictMTLS), strictIn("shop"), outside(cart(), 3),
					runs(plain("old").Build(), uninjected),
				),
				"the owner accepts it": newScene(
					strictIn("shop"), outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime, StrictMTLS"), 3),
					runs(plain("old").Build(), uninjected),
				),
				"who is outside is in no namespace of the policy": newScene(
					strictIn("shop"), outside(cart(), 3), builder.Namespace("kube-system").Build(),
					runs(deployment("kube-system", "dns").Build(), uninjected),
				),
			},
		},
		"IsOwnedByOperator": {
			holds: map[string]holding{
				"a StatefulSet that a database operator made": {scene: newScene(outside(db().With(func(s *appsv1.StatefulSet) {
					s.OwnerReferences = []metav1.OwnerReference{builder.ControlledByOther("acid.zalan.do/v1", "postgresql", "main", "pg")}
				}), 3)), reason: restart.ReasonOwnedByOperator, clearsBy: byAdmin, message: "postgresql.acid.zalan.do shop/main " +
					"controls it and would undo a change of the template. Restart it by the means of that controller. " +
					"Or have its Pods evicted one by one: accept that with accept: [OwnedByOperator]"},
				"Pods of a kind that is not known": {scene: newScene(
					builder.Pod("shop", "a").OwnedByOther(
						builder.ControlledByOther("apps.kruise.io/v1alpha1", "CloneSet", "cart", "cs"),
					).CreatedAt(yesterday).Ready(yesterday).Build(),
				),
					reason: restart.ReasonOwnedByOperator, clearsBy: byOwner, message: "CloneSet.apps.kruise.io shop/cart"},
				"Pods of a ReplicationController": {scene: newScene(
					builder.Pod("shop", "a").OwnedByOther(
						builder.ControlledByOther("v1", "ReplicationController", "cart", "rc"),
					).CreatedAt(yesterday).Ready(yesterday).Build(),
				),
					reason: restart.ReasonOwnedByOperator, clearsBy: byOwner, message: "Restart it by the means of that controller"},
			},
			passes: map[string]*scene{
				"a StatefulSet that nobody controls": newScene(outside(db(), 3)),
				"the administrator accepts it": newScene(
					builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskOwnedByOperator), outside(cart().OwnedBy(db().Build()), 3),
				),
				"the owner accepts it": newScene(outside(cart().OwnedBy(db().Build()).Annotated(v1alpha1.AcceptAnnotation, "OwnedByOperator"), 3)),
			},
		},
		"DryRunSaysNo": {
			holds: map[string]holding{
				"it would be of another revision": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Observed: sidecar("canary"), At: noon, Received: noon},
				),
					reason: restart.ReasonOtherRevision, clearsBy: byAdmin, message: "Find out which of the webhooks"},
				"it would have no sidecar": {scene: newScene(outside(cart(), 3)).answer(restart.Check{}),
					reason: restart.ReasonWouldNotBeInjected, clearsBy: byAdmin, message: "Look at the injector's log"},
				"it would have no sidecar, and webhooks let Pods pass": {scene: newScene(outside(cart(), 3)).answer(restart.Check{}).lettingPass(),
					reason: restart.ReasonInjectorSilent, clearsBy: byCluster, message: "asked again"},
				"it fits in the place of an old Pod, and the rollout adds one first": {scene: newScene(
					outside(cart().Surge(1).Unavailable(0), 3),
				).answer(
					restart.Check{Outcome: restart.CheckFitsInTurn, At: noon, Received: noon, Message: "exceeded quota"},
				),
					reason: restart.ReasonQuotaExceeded, clearsBy: byOwner, message: "maxUnavailable: 1"},
				"the injector cannot be reached": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckUnreachable, Message: "refused"},
				),
					reason: restart.ReasonInjectorUnreachable, clearsBy: byCluster, message: "caBundle. refused"},
				"somebody refuses the Pod": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckDenied, Message: "exceeded quota"},
				),
					reason: restart.ReasonCreationDenied, clearsBy: byOwner, message: "exceeded quota"},
				"the injector refuses the Pod": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckDeniedByInjector, Message: "no template"},
				),
					reason: restart.ReasonInjectorDenied, clearsBy: byOwner, message: "annotations. no template"},
				"a quota is used up": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckOverQuota}),
					reason: restart.ReasonQuotaExceeded, clearsBy: byOwner, message: "Raise the quota"},
				"PodSecurity refuses the Pod": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDeniedByPodSecurity}),
					reason: restart.ReasonPodSecurityDenied, clearsBy: byAdmin, message: "CNI plugin"},
				"a policy engine refuses the Pod": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDeniedByPolicy}),
					reason: restart.ReasonDeniedByPolicy, clearsBy: byAdmin, message: "under Fullmesh's account"},
				"the ServiceAccount is missing": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckNoServiceAccount}),
					reason: restart.ReasonServiceAccountMissing, clearsBy: byOwner, message: "Create it"},
				"a webhook takes no part in dry runs": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckUnsupported}),
					reason: restart.ReasonUnchecked, clearsBy: byAdmin, message: "accept: [Unchecked]"},
				"the root certificate is missing": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckNoRootCertificate}),
					reason: restart.ReasonRootCertificateMissing, clearsBy: byAdmin, message: "discoverySelectors"},
				"its sidecar would not capture traffic": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Observed: mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureBroken, Revision: mesh.DefaultRevision}},
				),
					reason: restart.ReasonWouldNotHelp, clearsBy: byAdmin, message: "no better"},
				"the operator may not ask": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckForbidden, Message: "cannot create"},
				),
					reason: restart.ReasonCheckFailed, clearsBy: byAdmin, message: "config/rbac"},
				"there was no answer": {scene: newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckFailed, Message: "timeout"}),
					reason: restart.ReasonCheckFailed, clearsBy: byCluster, message: "tried again. timeout"},
				"the restart was refused": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckRefused, Message: "the guard"},
				),
					reason: restart.ReasonRefusedByAdmission, clearsBy: byAdmin, message: "the guard"},
				"a quota has no room for the MeshRestart": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckNotRecorded, Message: "exceeded quota: team"},
				),
					reason: restart.ReasonQuotaExceeded, clearsBy: byOwner, message: "count/meshrestarts.fullmesh.dev"},
				"an old no stands": {scene: newScene(outside(cart(), 3)).answer(
					restart.Check{Outcome: restart.CheckDenied, Message: "no", At: yesterday, Received: yesterday, Retry: noon.Add(time.Hour)},
				),
					reason: restart.ReasonCreationDenied, clearsBy: byOwner, message: "no"},
			},
			passes: map[string]*scene{
				"it would have the sidecar": newScene(outside(cart(), 3)),
				"it fits in the place of an old Pod": newScene(outside(cart().Unavailable(1), 3)).answer(
					restart.Check{Outcome: restart.CheckFitsInTurn, At: noon, Received: noon},
				),
				"it fits in the place of one that is evicted": newScene(outside(db().OnDelete(), 3)).answer(
					restart.Check{Outcome: restart.CheckFitsInTurn, At: noon, Received: noon},
				),
				"the missing check is accepted": newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskUnchecked), outside(cart(), 3)).
					answer(restart.Check{Outcome: restart.CheckUnsupported, At: noon, Received: noon}),
				"nobody is to be asked": newScene(outside(cart(), 3)).assuming(),
				"it has not been asked": newScene(outside(cart(), 3)).unasked(),
			},
		},
		"InjectedPodsAreFailing": {
			holds: map[string]holding{
				"a Pod in the mesh crashes": {scene: newScene(runs(cart().Build(), uninjected, uninjected, crashing)),
					reason:   restart.ReasonInjectedPodsFailing,
					clearsBy: byOwner,
					message: "Pod cart-2, container app: CrashLoopBackOff, last exit code 1, 3 restarts (where it needs the network at once, set " +
						"holdApplicationUntilProxyStarts: true). Fix that",
				},
			},
			passes: map[string]*scene{
				"a Pod outside the mesh crashes": newScene(
					runs(cart().Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Crashing("app", 1) }),
				),
				"stale Pods crash, and are to be replaced": newScene(
					builder.Enforcing("mesh").Unbounded().Remediating("Missing", "Stale"),
					runs(
						cart().Build(), staleOf("gone"), staleOf("gone"),
						func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("gone").Crashing("istio-proxy", 255) },
					),
				),
				"a Pod in the mesh is starting": newScene(
					runs(cart().Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") }),
				),
			},
		},
		"CapacityIsMissing": {
			holds: map[string]holding{
				"a Pod has waited for as long as a restart may take": {scene: newScene(
					runs(cart().Build(), uninjected, unschedulableSince(noon.Add(-10*time.Minute), "no room")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byOwner, message: "for longer than 10m0s. Correct what the template asks for"},
				"one that has waited for long, whatever the others are called": {scene: newScene(
					runs(cart().Build(), uninjected, unschedulable("little room"), unschedulableSince(yesterday, "no room")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byOwner, message: "Pod cart-2 (no room)"},
				"that is told before what only waits": {scene: newScene(
					builder.Reporting("mesh"), runs(cart().Build(), uninjected, unschedulableSince(yesterday, "no room")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byOwner, message: "no room"},
				"a Pod cannot be scheduled": {scene: newScene(
					runs(cart().Build(), uninjected, unschedulable("0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available.")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "Pod cart-1 (0/3 nodes are available: 3 Insufficient cpu)"},
				"the scheduler does not say why": {scene: newScene(runs(cart().Build(), uninjected, unschedulable(""))),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "Pod cart-1 (it does not say why)"},
				"the scheduler says very much": {scene: newScene(runs(cart().Build(), uninjected, unschedulable(strings.Repeat("ä", 300)))),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "(" + strings.Repeat("ä", 200) + "…)"},
				"it is waited for as long as a restart may take": {scene: newScene(
					runs(cart().Build(), uninjected, unschedulableSince(noon.Add(-10*time.Minute+time.Second), "no room")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "Waiting until there is room"},
				"nor can the only one, which serves nobody": {scene: newScene(
					runs(cart().Replicas(1).Build(), unschedulable("0/3 nodes are available.")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "correct what the template asks for"},
				"nor one of a DaemonSet": {scene: newScene(
					runs(
						builder.DaemonSet("shop", "log").CreatedAt(yesterday).RolledOut(2).Build(), uninjected, unschedulable("0/3 nodes are available."),
					),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "Pod log-1"},
				"a Pod runs on a node that is cordoned": {scene: newScene(
					builder.Node("north", false), builder.Node("south", true), runs(cart().Build(), on("north"), on("south")),
				),
					reason:   restart.ReasonWaitingForCapacity,
					clearsBy: byCluster,
					message: "Pod cart-1 runs on node south, which is cordoned: what a drain takes down would come on top of a restart, and what it " +
						"recreates is injected. Waiting until the Pod has moved; if nobody drains the node, run: kubectl uncordon south",
				},
				"its taint came before the field": {scene: newScene(
					builder.Node("north", false), tainted(builder.Node("south", false)), runs(cart().Build(), on("north"), on("south")),
				),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "node south, which is cordoned"},
				"there is no other node": {scene: newScene(builder.Node("north", true), builder.Node("south", true), outside(cart(), 3)),
					reason: restart.ReasonWaitingForCapacity, clearsBy: byCluster, message: "Every node (2) is cordoned"},
			},
			passes: map[string]*scene{
				"another's Pod has": newScene(
					outside(cart(), 3),
					runs(deployment("shop", "web").Labelled("sidecar.istio.io/inject", "false").Build(), unschedulableSince(yesterday, "no room")),
				),
				"another's Pod runs on a node that is cordoned": newScene(builder.Node("north", false), builder.Node("south", true), runs(
					cart().Build(), on("north"),
				),
					runs(deployment("shop", "web").Labelled("sidecar.istio.io/inject", "false").Build(), on("south"))),
				"a Pod of a DaemonSet does": newScene(
					builder.Node("north", true),
					runs(builder.DaemonSet("shop", "log").CreatedAt(yesterday).RolledOut(2).Build(), on("north"), on("south")),
				),
				"one that is on its way out": newScene(
					builder.Node("north", false), builder.Node("south", true),
					runs(cart().Build(), on("north"), func(b *builder.PodBuilder) { on("south")(b); b.Terminating(noon) }),
				),
				"a Pod fails outside the mesh": newScene(builder.Node("north", false), runs(cart().Build(), on("north"), broken)),
				"nothing is known of nodes":    newScene(runs(cart().Build(), on("north"))),
			},
		},
		"EvictionWaitsForItsPods": {
			holds: map[string]holding{
				"a Pod that is to stay is not ready": {scene: newScene(
					runs(
						cart().Replicas(4).Unavailable(1).RolledOut().Build(), uninjected, injected, injected,
						func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") },
					),
				),
					reason: restart.ReasonPodsNotReady, clearsBy: byCluster, message: "Only 3 of 4 Pods are ready"},
				"a Pod of a DaemonSet is missing": {scene: newScene(outside(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3), 2)),
					reason: restart.ReasonPodsNotReady, clearsBy: byCluster, message: "delete the Pods that must be replaced"},
			},
			passes: map[string]*scene{
				"a Pod that is to be replaced is not ready": newScene(
					runs(cart().Replicas(4).Unavailable(1).RolledOut().Build(), starting, injected, injected, injected),
				),
				"a rolling update": newScene(runs(cart().Build(), uninjected, uninjected)),
			},
		},
		"UpdateIsPending": {
			holds: map[string]holding{
				"a StatefulSet that is updated on deletion, and whose template has changed": {scene: newScene(
					outside(db().OnDelete().With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }), 3),
				),
					reason:   restart.ReasonUpdatePending,
					clearsBy: byOwner,
					message:  "1 of its 3 Pods run the newest template, and its update strategy is OnDelete. Delete the Pods yourself",
				},
				"a DaemonSet that is updated on deletion, and whose template has changed": {scene: newScene(
					outside(
						builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3).With(func(d *appsv1.DaemonSet) { d.Status.UpdatedNumberScheduled = 0 }),
						3,
					),
				),
					reason: restart.ReasonUpdatePending, clearsBy: byOwner, message: "0 of its 3 Pods"},
				"a partition that was raised in an update": {scene: newScene(outside(db().Partition(2).With(func(s *appsv1.StatefulSet) {
					s.Status.UpdatedReplicas, s.Status.CurrentRevision, s.Status.UpdateRevision = 2, "db-1", "db-2"
				}), 3)), reason: restart.ReasonUpdatePending, clearsBy: byOwner, message: "below partition 2 run a newer template"},
				"a ReplicaSet whose template was written since": {scene: newScene(
					outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut().CreatedAt(yesterday.Add(time.Hour)), 3),
				),
					reason:   restart.ReasonUpdatePending,
					clearsBy: byOwner,
					message:  "was written after the oldest Pods that must be replaced were created",
				},
				"one whose template was written between two of its Pods": {scene: newScene(
					runs(
						builder.ReplicaSet("shop", "old").Replicas(2).RolledOut().CreatedAt(yesterday).Build(), uninjectedAt(yesterday.Add(-time.Hour)),
						uninjectedAt(yesterday.Add(time.Hour)),
					),
				),
					reason:   restart.ReasonUpdatePending,
					clearsBy: byOwner,
					message:  "was written after the oldest Pods that must be replaced were created",
				},
			},
			passes: map[string]*scene{
				"a StatefulSet that is updated on deletion": newScene(outside(db().OnDelete(), 3)),
				"a partition, and an update down to it": newScene(outside(db().Partition(2).With(func(s *appsv1.StatefulSet) {
					s.Status.UpdatedReplicas, s.Status.CurrentRevision, s.Status.UpdateRevision = 1, "db-1", "db-2"
				}), 3)),
				"a partition, and no update": newScene(outside(db().Partition(2), 3)),
				"a ReplicaSet":               newScene(outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut().CreatedAt(yesterday), 3)),
			},
		},
		"ExceedsDisruptionBudget": {
			holds: map[string]holding{
				"it allows none now": {scene: newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(2, 2, 3).Build(), outside(cart().Unavailable(1), 3),
				),
					reason:   restart.ReasonExceedsDisruptionBudget,
					clearsBy: byCluster,
					message:  "PodDisruptionBudget cart allows 0 now (2 healthy, 2 needed)",
				},
				"it allows less now, and nothing may be evicted": {scene: newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Unavailable(2), 3),
				).when(evictionDisabled),
					reason:   restart.ReasonExceedsDisruptionBudget,
					clearsBy: byOwner,
					message:  "It never allows as many. Set maxUnavailable: 0 with a maxSurge, or loosen the budget",
				},
				"it never allows any": {scene: newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3),
				),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byOwner, message: "It never allows any. Loosen the budget"},
				"two cover it, and Kubernetes evicts nothing under two": {scene: newScene(
					builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 1, 9).Build(),
					builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(db().OnDelete().Labelled("app", "cart"), 3),
				),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byOwner, message: "Leave it one of them"},
				"one of two never allows as many, and nothing may be evicted": {scene: newScene(
					builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 1, 9).Build(),
					builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3),
				).when(evictionDisabled),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byOwner, message: "PodDisruptionBudget cart"},
				"its controller has not seen it, and it may be evicted in parts when it has": {scene: newScene(
					builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 5, 10),
					builder.DisruptionBudget("shop", "cart").Healthy(40, 39, 40).NotSeen().Build(),
					outside(cart().Replicas(40).Unavailable(20).Surge(0).RolledOut(), 40),
				),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byCluster, message: "has changed"},
				"its controller has not seen it": {scene: newScene(
					builder.DisruptionBudget("shop", "cart").NotSeen().Build(), outside(cart().Unavailable(1), 3),
				),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byCluster, message: "has not said yet"},
				"its controller has not seen its last change": {scene: newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 0, 3).With(
						func(budget *policyv1.PodDisruptionBudget) { budget.Generation++ },
					).Build(),
					outside(cart().Unavailable(1), 3),
				),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byCluster, message: "has not said yet"},
				"too few are healthy for Pods that are not ready to be evicted": {scene: newScene(
					builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, starting),
				),
					reason:   restart.ReasonExceedsDisruptionBudget,
					clearsBy: byCluster,
					message:  "only while as many are healthy as it needs (2 healthy, 3 needed)",
				},
				"too few are healthy, and one does not become it": {scene: newScene(
					builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, broken),
				),
					reason:   restart.ReasonExceedsDisruptionBudget,
					clearsBy: byOwner,
					message: "does not become ready by itself: Pod db-2, container app: CrashLoopBackOff, last exit code 1, 3 restarts. Set " +
						"unhealthyPodEvictionPolicy: AlwaysAllow, or delete the Pods that are not ready",
				},
				"too few are healthy, and a stale one does not become it": {scene: newScene(builder.Enforcing("mesh").Unbounded().Remediating(
					"Missing", "Stale",
				), builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(),
					runs(
						db().OnDelete().Build(), staleOf("gone"), staleOf("gone"),
						func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("gone").Crashing("istio-proxy", 255) },
					)),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byOwner, message: "container istio-proxy"},
				"a StatefulSet": {scene: newScene(builder.DisruptionBudget("shop", "db").Healthy(3, 3, 3).Build(), outside(db(), 3)),
					reason: restart.ReasonExceedsDisruptionBudget, clearsBy: byOwner, message: "Loosen the budget"},
			},
			passes: map[string]*scene{
				"it allows less, so that Pods are evicted": newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Unavailable(2), 3),
				),
				"what would be evicted has not started once": newScene(builder.DisruptionBudget(
					"shop", "db",
				).Healthy(2, 3, 3).Build(), runs(db().With(inParallel).OnDelete().Build(), uninjected, uninjected, func(b *builder.PodBuilder) {
					b.CreatedAt(yesterday).Crashing("app", 1)
					b.Build().Status.Phase = corev1.PodPending
				})),
				"what would be evicted is not ready, and always may be": newScene(builder.DisruptionBudget(
					"shop", "db",
				).Healthy(2, 3, 3).With(func(budget *policyv1.PodDisruptionBudget) {
					budget.Spec.UnhealthyPodEvictionPolicy = new(policyv1.AlwaysAllow)
				}).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, broken)),
				"what would be evicted is not ready": newScene(
					builder.DisruptionBudget("shop", "db").Healthy(2, 2, 3).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, starting),
				),
				"it allows as many": newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Unavailable(1), 3),
				),
				"none may be unavailable": newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart(), 3)),
				"none may be unavailable, and its controller has not seen it": newScene(
					builder.DisruptionBudget("shop", "cart").NotSeen().Build(), outside(cart(), 3),
				),
				"none is ready": newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(0, 3, 3).Build(), runs(cart().Unavailable(1).Build(), starting, starting),
				),
				"it covers others": newScene(builder.DisruptionBudget("shop", "db").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3)),
				"it is of another namespace": newScene(
					meshed("bank"), builder.DisruptionBudget("bank", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3),
				),
				"its selector is unset": newScene(
					builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).With(
						func(budget *policyv1.PodDisruptionBudget) { budget.Spec.Selector = nil },
					).Build(),
					outside(cart().Unavailable(1), 3),
				),
			},
		},
	}
}

// specChanged remembers that somebody has written the Deployment cart so often before it could be restarted.
func specChanged(times int, until time.Time) func(*restart.Input) {
	return func(in *restart.Input) {
		in.Memory.SpecChanges = map[types.UID]restart.SpecChanges{"deployment-shop-cart": {InARow: times, Until: until}}
	}
}

// evictionDisabled is an operator that may evict nothing.
func evictionDisabled(in *restart.Input) { in.EvictionDisabled = true }

// fewOut is a workload of which one of four Pods is out.
func fewOut[T metav1.Object](workload *builder.Workload[T]) []any {
	return runs(workload.Build(), uninjected, injected, injected, injected)
}

func (s *scene) when(change func(*restart.Input)) *scene {
	change(&s.Input)
	return s
}

func (s *scene) injectorChangedAt(at time.Time) *scene {
	s.injectorChanged = at
	return s
}

// lettingPass is a cluster whose webhooks let Pods pass when the injector is down.
func (s *scene) lettingPass() *scene {
	s.webhooks = []*webhookConfiguration{lettingPass}
	return s
}

func labelledAt(at time.Time) *corev1.Namespace {
	return builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(at).Build()
}

func meshedByRevision() *corev1.Namespace {
	return builder.Namespace("shop").Labelled("istio.io/rev", "default").CreatedAt(yesterday).Build()
}

func both() *corev1.Namespace {
	return builder.Namespace("shop").Labelled("istio-injection", "enabled", "istio.io/dataplane-mode", "ambient").CreatedAt(yesterday).Build()
}

func crashing(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default").Crashing("app", 1) }
func starting(b *builder.PodBuilder) { b.CreatedAt(yesterday) }

// aRunOf is a Job of a CronJob with its Pod.
func aRunOf(cron metav1.Object) []any {
	job := builder.Job("shop", "nightly-1").OwnedBy(cron).Build()
	return append([]any{cron}, runs(job, uninjected)...)
}

// updating is a StatefulSet of whose Pods one runs the newest template.
func updating(b *builder.Workload[*appsv1.StatefulSet]) *builder.Workload[*appsv1.StatefulSet] {
	return b.CreatedAt(yesterday.Add(-time.Hour)).With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 })
}

// writtenAt has somebody write the template.
func writtenAt(b *builder.Workload[*appsv1.StatefulSet], at time.Time) *builder.Workload[*appsv1.StatefulSet] {
	return b.With(func(s *appsv1.StatefulSet) {
		s.ManagedFields = []metav1.ManagedFieldsEntry{
			{Manager: "helm", Time: new(metav1.NewTime(at)), FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)}},
		}
	})
}

// staleOf is a ready Pod with a sidecar of another revision.
func staleOf(revision string) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected(revision).Ready(yesterday) }
}

// What is said of the Pods that follow is true where no sidecar is asked for any more.
func TestNothingIsInjectedAfterALeftover(t *testing.T) {
	policy := builder.Enforcing("mesh").Unbounded().Remediating("Leftover")
	job := builder.Job("shop", "import").CreatedAt(yesterday).Build()
	for name, objects := range map[string][]any{
		"a Job": {
			job, builder.Pod("shop", "import-1").OwnedBy(job).CreatedAt(yesterday).Injected("default").Ready(yesterday).Build(),
		},
		"a Deployment that is scaled to zero": runs(cart().Replicas(0).Build(), leftover),
		"a rollout that goes on": runs(
			cart().With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }).Build(), leftover, leftover, leftover,
		),
		"evictions that are disabled": runs(db().OnDelete().Build(), leftover, leftover, leftover),
		"a StatefulSet that waits": runs(
			db().Build(), leftover, leftover, func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("default") },
		),
	} {
		t.Run(name, func(t *testing.T) {
			got := only(t, newScene(policy, noLabel, objects).when(evictionDisabled).answer(restart.Check{At: noon, Received: noon}).decide())
			if got.Action != v1alpha1.ActionHold || strings.Contains(got.Message, "injected") || !strings.Contains(
				got.Message, "without a sidecar",
			) {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
}

// Whoever never fits a budget is not on its way into the mesh.
func TestNobodyWaitsForACallerThatNeverFitsABudget(t *testing.T) {
	payIsStrict := mutualTLSOf("shop", "pay", "STRICT")
	for pods, want := range map[int]v1alpha1.ClearedBy{2: byAdmin, 5: byCluster} {
		given := verdicts(newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, nil, pods),
			outside(builder.Deployment("shop", "wide").Replicas(10).Unavailable(0).Surge(5).CreatedAt(yesterday).RolledOut(), 10),
			outside(deployment("shop", "pay"), 3), payIsStrict).decide())
		if pay := given["Deployment shop/pay"]; pay.Reason != restart.ReasonStrictMTLS || pay.ClearsBy != want {
			t.Errorf("with a budget of %d Pods pay is held until %s clears it: %s %s", pods, pay.ClearsBy, pay.Reason, pay.Message)
		}
	}
}

// Who is on its way into the mesh does not depend on how namespaces are called.
func TestCallersAreOnTheirWayInAnyNamespace(t *testing.T) {
	for _, other := range []string{"bank", "zoo"} {
		given := verdicts(newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, nil, 100), meshed(other), strictIn("shop"),
			outside(evicting(db().OnDelete()), 3), outside(deployment(other, "pay"), 3)).decide())
		if got := given["StatefulSet shop/db"].Message; !strings.Contains(got, "All of them are on their way into the mesh") {
			t.Errorf("callers in %s: %s", other, got)
		}
	}
}
