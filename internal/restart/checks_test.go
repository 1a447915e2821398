package restart_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

func TestChecksAreAskedInThisOrder(t *testing.T) {
	want := []string{
		"NamespaceIsTerminating",
		"RecordIsUnknown",
		"LastRestartFailed",
		"IsNotSelected",
		"IsOptedOut",
		"AcceptsWhatIsNoRisk",
		"FirstAnnotationIsInvalid",
		"FindingIsNotRemediated",
		"IsAJob",
		"NobodyRecreatesIt",
		"HasNotBeenRead",
		"TemplateIsUnknown",
		"IsScaledToZero",
		"IsPaused",
		"SidecarAndAmbientAreBothAskedFor",
		"EvictionIsDisabled",
		"TemplateIsLent",
		"AnotherRolloutIsGoingOn",
		"AnotherRestartIsAskedFor",
		"StatefulSetWaitsForItsPods",
		"ArgoWaitsForItsPods",
		"OwnerRolledItBack",
		"CauseWasTriedAlready",
		"PolicyCannotBeUsed",
		"WouldCauseDowntime",
		"WouldRefuseItsCallers",
		"IsOwnedByOperator",
		"InjectedPodsAreFailing",
		"IsUnschedulable",
		"UpdateIsPending",
		"NeverFitsItsDisruptionBudget",
		"NeverFitsABudget",
		"PolicyOnlyReports",
		"PictureIsOld",
		"ClusterHasNotBeenRead",
		"RedButtonIsPressed",
		"GuardIsNotProven",
		"WindowIsClosed",
		"FirstWorkloadsFailed",
		"BreakerIsOpen",
		"InjectorIsNotAtRest",
		"IsSettling",
		"WaitsForItsCallers",
		"DryRunCheckSaysNo",
		"CapacityIsMissing",
		"EvictionWaitsForItsPods",
		"ExceedsDisruptionBudget",
	}
	if diff := cmp.Diff(want, restart.CheckNames()); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

// Where every workload waits for the others, that is said: nobody must think that it ends by itself. Where
// all are on their way into the mesh, that is said, too: nobody must think that it waits for them.
func TestWhoWaitsForWhomUnderStrictMutualTLS(t *testing.T) {
	const allWait, nothingComes = "All of them belong to workloads that are held for the same reason", "Nothing is about to bring the others in"
	const allCome, notByItself = "All of them are on their way into the mesh, and it follows them by itself. To have it restarted before, accept it with", "does not end by itself"
	web := func() *builder.Workload[*appsv1.Deployment] { return deployment("shop", "web") }
	onItsWay := func(b *builder.Workload[*appsv1.Deployment]) *builder.Workload[*appsv1.Deployment] {
		cause := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: b.Build().UID, Newest: yesterday.Unix()}
		record := inventory.NewRecord(cause, v1alpha1.MethodRolloutRestart, "decided", noon)
		return b.Annotated(v1alpha1.LastRestartAnnotation, record.String()).TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause)
	}
	workloadIsStrict := mutualTLSOf("shop", "cart", "STRICT")
	for name, test := range map[string]struct {
		scene        *scene
		says, not    string
		clearsBy     v1alpha1.ClearedBy
		otherIsStuck bool
	}{
		"each waits for the other":                  {newScene(strictIn("shop"), outside(cart(), 3), outside(web(), 3)), allWait, nothingComes, byAdmin, true},
		"the other goes first":                      {newScene(workloadIsStrict, outside(cart(), 3), outside(web(), 3)), allCome, notByItself, byCluster, false},
		"the other goes first, by its owner's word": {newScene(strictIn("shop"), outside(cart(), 3), outside(web().Annotated(v1alpha1.AcceptAnnotation, "StrictMTLS"), 3)), allCome, notByItself, byCluster, false},
		"the other is on its way already":           {newScene(workloadIsStrict, outside(cart(), 3), outside(onItsWay(web()), 3)), allCome, notByItself, byCluster, false},
		"the other has opted out":                   {newScene(workloadIsStrict, outside(cart(), 3), outside(web().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled), 3)), nothingComes, allCome, byAdmin, false},
		"the other would lose its only Pod":         {newScene(workloadIsStrict, outside(cart(), 3), outside(web().Recreate(), 3)), nothingComes, allCome, byAdmin, false},
		"the other is never brought in":             {newScene(strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected)), nothingComes, allWait, byAdmin, false},
		"one other comes, one is never brought in":  {newScene(workloadIsStrict, outside(cart(), 3), outside(web(), 3), runs(plain("old").Build(), uninjected)), "There are such in its namespace.", allCome, byAdmin, false},
		"one other waits, one is never brought in":  {newScene(strictIn("shop"), outside(cart(), 3), outside(web(), 3), runs(plain("old").Build(), uninjected)), nothingComes, allWait, byAdmin, true},
	} {
		t.Run(name, func(t *testing.T) {
			given := verdicts(test.scene.decide())
			cart := given["Deployment shop/cart"]
			if cart.Reason != restart.ReasonStrictMTLS || cart.ClearsBy != test.clearsBy || !strings.Contains(cart.Message, test.says) || strings.Contains(cart.Message, test.not) {
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
	for want, scene := range map[restart.Reason]*scene{
		restart.ReasonReportMode:   newScene(builder.Reporting("mesh"), objects),
		restart.ReasonStopped:      newScene(objects).when(func(in *restart.Input) { in.Stopped = true }),
		restart.ReasonGuardMissing: newScene(objects).when(func(in *restart.Input) { in.Guard = restart.GuardMissing }),
		restart.ReasonNotReadYet:   newScene(objects).notRead("Rollout", "forbidden"),
		restart.ReasonWindowClosed: newScene(builder.Enforcing("mesh").Unbounded().Window(allow, "0 0 30 2 *", 60, ""), objects),
		restart.ReasonInjectorRollingOut: newScene(objects, controlPlane("default", func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Status = new(int32(0)), appsv1.DeploymentStatus{ObservedGeneration: d.Generation}
		})),
	} {
		if got := verdicts(scene.decide())["Deployment shop/cart"]; got.Reason != want {
			t.Errorf("the reason is %s, want %s: %s", got.Reason, want, got.Message)
		}
	}
}

// One revision's injector at a standstill holds nobody who waits for another's, and brings nobody in either.
func TestCallersOfAnInjectorAtAStandstillAreKeptOut(t *testing.T) {
	cartIsStrict := mutualTLSOf("shop", "cart", "STRICT")
	s := newScene(cartIsStrict, outside(cart(), 3), builder.Namespace("far").Labelled("istio.io/rev", "green").CreatedAt(yesterday).Build(), outside(deployment("far", "web"), 3),
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
		"by itself":         newScene(runs(cart().Build(), uninjected, unschedulable("no room"))),
		"in mode Report":    newScene(builder.Reporting("mesh"), runs(cart().Build(), uninjected, unschedulable("no room"))),
		"behind red button": newScene(runs(cart().Build(), uninjected, unschedulable("no room"))).when(func(in *restart.Input) { in.Stopped = true }),
	} {
		if got := scene.decide().NextLook; !got.Equal(noon.Add(5 * time.Minute)) {
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

// speaks is a case in which a check has something against a restart. The message must say how to
// end it.
type speaks struct {
	scene    *scene
	reason   restart.Reason
	clearsBy v1alpha1.ClearedBy
	message  string
}

// A restart is due where nothing speaks against it.
func TestRestartIsDue(t *testing.T) {
	verdict := only(t, newScene(outside(cart(), 3)).decide())
	if verdict.Action != v1alpha1.ActionRestart || verdict.Reason != restart.ReasonRestartDue || verdict.Step != restart.StepRestart || verdict.ClearsBy != "" {
		t.Errorf("verdict %s %s, step %d, cleared by %q", verdict.Action, verdict.Reason, verdict.Step, verdict.ClearsBy)
	}
	record := verdict.Record
	if record.Decided == "" {
		t.Error("what decided is not written down")
	}
	record.Decided = ""
	cause := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: "deployment-shop-cart", Newest: yesterday.Unix()}
	want := inventory.NewRecord(cause, "RolloutRestart", "", noon)
	want.Replicas, want.Ready = 3, 3
	if diff := cmp.Diff(want, record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestNothingIsSaidOfWhatIsComplete(t *testing.T) {
	for name, scene := range map[string]*scene{
		"every Pod is in the mesh":    newScene(runs(cart().Build(), injected, injected)),
		"no sidecar is expected":      newScene(outside(cart().Labelled("sidecar.istio.io/inject", "false"), 3)),
		"nothing runs":                newScene(cart().Build()),
		"the namespace asks for none": newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), outside(cart(), 3)),
		"it was restarted before":     newScene(runs(recorded(cart(), ended(v1alpha1.ResultSucceeded)).Build(), injected, injected, injected)),
	} {
		t.Run(name, func(t *testing.T) {
			if given := verdicts(scene.decide()); len(given) != 0 {
				t.Errorf("verdicts %v", given)
			}
		})
	}
}

func TestChecks(t *testing.T) {
	for check, test := range map[string]struct {
		// speak are cases in which it has something against a restart, pass their neighbours in
		// which it has not.
		speak map[string]speaks
		pass  map[string]*scene
	}{
		"NamespaceIsTerminating": {
			map[string]speaks{
				"one in which all is in the mesh and a restart has failed": {newScene(builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(yesterday).Terminating(noon).Build(), runs(recorded(cart(), ended(v1alpha1.ResultFailed)).Build(), crashing, crashing, crashing)),
					restart.ReasonNamespaceTerminating, byCluster, "is being deleted"},
				"a namespace that is being deleted": {newScene(builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(yesterday).Terminating(noon).Build(), outside(cart(), 3)),
					restart.ReasonNamespaceTerminating, byCluster, "is being deleted"},
			},
			map[string]*scene{"a namespace that is not": newScene(outside(cart(), 3))},
		},
		"RecordIsUnknown": {
			map[string]speaks{
				"a record that a newer version wrote": {newScene(outside(cart().Annotated(v1alpha1.LastRestartAnnotation, `{"version":2}`), 3)),
					restart.ReasonUnknownRecord, byAdmin, "remove the annotation"},
				"a record that nobody can read": {newScene(outside(cart().Annotated(v1alpha1.LastRestartAnnotation, "yes"), 3)),
					restart.ReasonUnknownRecord, byAdmin, "remove the annotation"},
				"one of a workload that is complete": {newScene(runs(cart().Annotated(v1alpha1.LastRestartAnnotation, "yes").Build(), injected)),
					restart.ReasonUnknownRecord, byAdmin, "remove the annotation"},
			},
			map[string]*scene{
				"the record of another object, copied with its manifest": newScene(outside(
					cart().Annotated(v1alpha1.LastRestartAnnotation, inventory.NewRecord(inventory.Cause{UID: "another"}, "RolloutRestart", "", yesterday).String()), 3)),
			},
		},
		"LastRestartFailed": {
			map[string]speaks{
				"nothing that decides has changed since it failed": {newScene(outside(recorded(cart(), ended(v1alpha1.ResultFailed)), 3)),
					restart.ReasonRestartFailed, byOwner, "only after its template, the namespace's labels or the injector has changed"},
				"its Pods are in the mesh and not ready": {newScene(runs(recorded(cart(), ended(v1alpha1.ResultFailed)).Build(), crashing, crashing, crashing)),
					restart.ReasonRestartFailed, byOwner, "goes on trying"},
			},
			map[string]*scene{
				"the template has changed since it failed": newScene(outside(recorded(cart(), ended(v1alpha1.ResultFailed)).TemplateAnnotated("mended", "yes"), 3)),
			},
		},
		"IsNotSelected": {
			map[string]speaks{
				"a workload that the selector leaves out": {newScene(builder.Enforcing("mesh").Unbounded().Selecting("tier", "web"), outside(cart(), 3)),
					restart.ReasonNotSelected, byAdmin, "Widen the selector"},
			},
			map[string]*scene{
				"a workload that the selector selects": newScene(builder.Enforcing("mesh").Unbounded().Selecting("tier", "web"), outside(cart().Labelled("tier", "web"), 3)),
			},
		},
		"IsOptedOut": {
			map[string]speaks{
				"a namespace that opted out": {newScene(builder.Namespace("shop").Labelled("istio-injection", "enabled").Annotated(v1alpha1.RestartAnnotation, "disabled").CreatedAt(yesterday).Build(), outside(cart(), 3)),
					restart.ReasonOptedOut, byOwner, "on the namespace asks for no restart. Restart it yourself, or remove the annotation"},
				"a workload that opted out": {newScene(outside(cart().Annotated(v1alpha1.RestartAnnotation, "disabled"), 3)),
					restart.ReasonOptedOut, byOwner, "remove the annotation"},
				"a template that opted out": {newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartAnnotation, "disabled"), 3)),
					restart.ReasonOptedOut, byOwner, "remove the annotation"},
				"a word that nobody knows": {newScene(outside(cart().Annotated(v1alpha1.RestartAnnotation, "never"), 3)),
					restart.ReasonInvalidAnnotation, byOwner, `only "disabled" is known`},
				"a Pod by itself that opted out": {newScene(builder.Pod("shop", "alone").CreatedAt(yesterday).Annotated(v1alpha1.RestartAnnotation, "disabled").Build()),
					restart.ReasonOptedOut, byOwner, "on the Pod"},
			},
			map[string]*scene{"another annotation": newScene(outside(cart().Annotated("restart", "disabled"), 3))},
		},
		"AcceptsWhatIsNoRisk": {
			map[string]speaks{
				"a risk in lower case": {newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, "downtime"), 3)),
					restart.ReasonInvalidAnnotation, byOwner, `names "downtime", and no such risk is known. Use one or more of these, separated by commas: Downtime, StrictMTLS, OwnedByOperator, Unchecked.`},
				"a risk beside one that is known": {newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime, Everything"), 3)),
					restart.ReasonInvalidAnnotation, byOwner, `names "Everything"`},
				"risks that are not set apart by commas": {newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime Unchecked"), 3)),
					restart.ReasonInvalidAnnotation, byOwner, `names "Downtime Unchecked"`},
			},
			map[string]*scene{
				"every risk that there is": newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime,StrictMTLS, OwnedByOperator ,Unchecked,"), 3)),
				"none":                     newScene(outside(cart().Annotated(v1alpha1.AcceptAnnotation, ""), 3)),
			},
		},
		"FindingIsNotRemediated": {
			map[string]speaks{
				"a sidecar of another revision": {newScene(runs(cart().Build(), func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("canary").Ready(yesterday) })),
					restart.ReasonNotRemediated, byAdmin, "Add that to its spec.remediate, or restart the workload yourself"},
				"a sidecar that is not expected": {newScene(builder.Namespace("shop").CreatedAt(yesterday).Build(), runs(cart().Build(), injected)),
					restart.ReasonNotRemediated, byAdmin, "does not act on Leftover"},
			},
			map[string]*scene{"a sidecar that is missing beside them": newScene(runs(cart().Build(), uninjected, func(b *builder.PodBuilder) { b.Injected("canary").Ready(yesterday) }))},
		},
		"IsAJob": {
			map[string]speaks{
				"a Job that runs": {newScene(outside(builder.Job("shop", "import"), 1)),
					restart.ReasonNextRunIsInjected, byTime, "one created now is injected"},
				"a CronJob whose run has begun": {newScene(aRunOf(builder.CronJob("shop", "nightly").Build())),
					restart.ReasonNextRunIsInjected, byTime, "the next run is injected. A sidecar that is no native one goes on running"},
			},
			map[string]*scene{"a Deployment": newScene(outside(cart(), 3))},
		},
		"NobodyRecreatesIt": {
			map[string]speaks{
				"a Pod by itself": {newScene(builder.Pod("shop", "alone").CreatedAt(yesterday).Ready(yesterday).Build()),
					restart.ReasonNobodyRecreatesPod, byOwner, "Delete it and create it again"},
			},
			map[string]*scene{"a Pod of a Deployment": newScene(outside(cart(), 1))},
		},
		"HasNotBeenRead": {
			map[string]speaks{
				"Pods whose ReplicaSet is not known": {newScene(outside(cart(), 1)[2]),
					restart.ReasonNotReadYet, byCluster, "has not been seen"},
				"Pods whose Deployment is not known": {newScene(outside(cart(), 1)[1:]),
					restart.ReasonNotReadYet, byCluster, "has not been seen"},
				"Pods whose Rollout is not known": {newScene(runs(canary().Build(), uninjected)[1:]),
					restart.ReasonNotReadYet, byCluster, "Rollout.argoproj.io shop/canary is named as the owner of running Pods and has not been seen"},
			},
			map[string]*scene{"Pods whose owners are known": newScene(outside(cart(), 1))},
		},
		"TemplateIsUnknown": {
			map[string]speaks{
				"a Rollout whose Deployment is not there": {newScene(runs(canary().TemplateOf("apps/v1", "Deployment", "canary").Build(), uninjected)),
					restart.ReasonTemplateUnknown, byOwner, "from Deployment shop/canary, which is not there"},
				"a Rollout that cannot be read": {newScene(runs(canary().Set("three", "spec", "replicas").Build(), uninjected)),
					restart.ReasonTemplateUnknown, byOwner, "cannot be read"},
			},
			map[string]*scene{
				"a Rollout of its own template": newScene(rolloutOutside(canary(), 3)),
				"a Rollout that takes its template from a Deployment": newScene(builder.Deployment("shop", "lender").Replicas(0).RolledOut().Build(),
					rolloutOutside(canary().TemplateOf("apps/v1", "Deployment", "lender"), 3)),
			},
		},
		"TemplateIsLent": {
			map[string]speaks{
				"a Deployment from which a Rollout takes its template": {newScene(canary().Replicas(0).RolledOut().TemplateOf("apps/v1", "Deployment", "cart").Build(), outside(cart(), 3)),
					restart.ReasonTemplateLent, byOwner, "would begin an update of the other"},
			},
			map[string]*scene{
				"a Rollout that takes it from another Deployment": newScene(canary().Replicas(0).RolledOut().TemplateOf("apps/v1", "Deployment", "other").Build(), outside(cart(), 3)),
			},
		},
		"AnotherRestartIsAskedFor": {
			map[string]speaks{
				"its owner has asked for one later": {newScene(rolloutOutside(canary().RestartAt(noon.Add(time.Hour)), 3)),
					restart.ReasonRolloutInProgress, byTime, "asked for a restart at 2026-11-23T13:00:00Z (spec.restartAt)"},
				"one that its owner asked for is going on": {newScene(rolloutOutside(canary().RestartAt(noon.Add(-time.Minute)), 3)),
					restart.ReasonRolloutInProgress, byCluster, "A restart that Fullmesh did not ask for is going on"},
			},
			map[string]*scene{
				"none was ever asked for": newScene(rolloutOutside(canary(), 3)),
				"the last one has ended":  newScene(rolloutOutside(canary().RestartAt(yesterday.Add(-time.Hour)).RestartedAt(yesterday.Add(-time.Hour)), 3)),
			},
		},
		"ArgoWaitsForItsPods": {
			map[string]speaks{
				"a Pod that is not ready": {newScene(runs(canary().Build(), uninjected, uninjected, starting)),
					restart.ReasonRolloutInProgress, byCluster, "Only 2 of 3 Pods are ready"},
				"a Pod that cannot become ready": {newScene(runs(canary().Build(), uninjected, uninjected, broken)),
					restart.ReasonRolloutStuck, byOwner, "Mend or delete that Pod"},
				"one beside as many as are asked for": {newScene(runs(canary().Build(), uninjected, uninjected, uninjected, broken)),
					restart.ReasonRolloutStuck, byOwner, "Mend or delete that Pod"},
			},
			map[string]*scene{
				"all are ready":              newScene(rolloutOutside(canary(), 3)),
				"more than that may be down": newScene(runs(canary().Unavailable(2).Build(), uninjected, uninjected, starting)),
				"a Deployment":               newScene(runs(cart().Build(), uninjected, uninjected, starting)),
			},
		},
		"ClusterHasNotBeenRead": {
			map[string]speaks{
				"a kind that is being read": {newScene(outside(cart(), 3)).notRead("Rollout.argoproj.io", ""),
					restart.ReasonNotReadYet, byCluster, "before every Rollout.argoproj.io has been read"},
				"a kind that may not be read": {newScene(outside(cart(), 3)).notRead("Rollout.argoproj.io", "listing it: forbidden"),
					restart.ReasonNotReadYet, byAdmin, "(listing it: forbidden). Apply config/rbac"},
			},
			map[string]*scene{"every kind has been read": newScene(outside(cart(), 3))},
		},
		"IsScaledToZero": {
			map[string]speaks{
				"a Deployment of no Pods": {newScene(outside(cart().Replicas(0).RolledOut(), 1)),
					restart.ReasonScaledToZero, byCluster, "the next ones are injected"},
			},
			map[string]*scene{"a Deployment of one": newScene(outside(cart().Replicas(1).RolledOut(), 1))},
		},
		"IsPaused": {
			map[string]speaks{
				"a Deployment that is paused": {newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Spec.Paused = true }), 3)),
					restart.ReasonPaused, byOwner, "kubectl rollout resume deployment/cart -n shop"},
			},
			map[string]*scene{"a Deployment that is not": newScene(outside(cart(), 3))},
		},
		"SidecarAndAmbientAreBothAskedFor": {
			map[string]speaks{
				"both asked for by the namespace": {newScene(both(), outside(cart(), 3)), restart.ReasonMeshModeConflict, byOwner, "Take away"},
				"ambient asked for by the template": {newScene(outside(cart().Labelled("istio.io/dataplane-mode", "ambient"), 3)),
					restart.ReasonMeshModeConflict, byOwner, "istio.io/dataplane-mode"},
			},
			map[string]*scene{"the template asks for neither": newScene(both(), outside(cart().Labelled("istio.io/dataplane-mode", "none"), 3))},
		},
		"EvictionIsDisabled": {
			map[string]speaks{
				"a StatefulSet that is updated on deletion": {newScene(outside(db().OnDelete(), 3)).when(evictionDisabled), restart.ReasonEvictionDisabled, byAdmin,
					"because its update strategy is OnDelete. Enable it"},
				"a StatefulSet with a partition": {newScene(outside(db().Partition(2), 3)).when(evictionDisabled), restart.ReasonEvictionDisabled, byAdmin, "stops at partition 2"},
				"a DaemonSet that is updated on deletion": {newScene(outside(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3), 3)).when(evictionDisabled),
					restart.ReasonEvictionDisabled, byAdmin, "OnDelete"},
				"a ReplicaSet by itself": {newScene(outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut(), 3)).when(evictionDisabled),
					restart.ReasonEvictionDisabled, byAdmin, "does not roll out its template"},
				"what something else controls": {newScene(outside(cart().OwnedBy(db().Build()), 3)).when(evictionDisabled), restart.ReasonEvictionDisabled, byAdmin, "would undo a change"},
			},
			map[string]*scene{
				"a StatefulSet whose update rolls": newScene(outside(db(), 3)).when(evictionDisabled),
				"few of its Pods are out":          newScene(fewOut(cart().Replicas(4).Unavailable(1).RolledOut())).when(evictionDisabled),
				"it is updated on deletion":        newScene(outside(db().OnDelete().CreatedAt(yesterday.Add(-time.Hour)), 3)),
			},
		},
		"AnotherRolloutIsGoingOn": {
			map[string]speaks{
				"a rollout that goes on": {newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }), 3)),
					restart.ReasonRolloutInProgress, byCluster, "1 of 3 Pods updated"},
				"a change that its controller has not seen": {newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Generation++ }), 3)),
					restart.ReasonRolloutInProgress, byCluster, "its new Pods are injected"},
				"a rollout that is stuck": {newScene(outside(cart().With(func(d *appsv1.Deployment) {
					d.Status.UpdatedReplicas = 1
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}}
				}), 3)), restart.ReasonRolloutStuck, byOwner, "Mend or undo"},
				"one of a StatefulSet that a Pod holds up": {newScene(runs(updating(db()).Build(), uninjected, uninjected, broken)), restart.ReasonRolloutStuck, byOwner,
					"does not go on: Pod db-2, container app: CrashLoopBackOff, last exit code 1"},
				"one of a StatefulSet that nothing is seen to hold up": {newScene(runs(updating(db()).Build(), uninjected, uninjected, uninjected)), restart.ReasonRolloutStuck, byOwner,
					"no further Pod was made or became ready for 10m30s (1 of 3 Pods updated). Mend or undo"},
				"one of a StatefulSet that has begun a moment ago": {newScene(runs(writtenAt(updating(db()), noon.Add(-10*time.Minute)).Build(), uninjected, uninjected, uninjected)),
					restart.ReasonRolloutInProgress, byCluster, "1 of 3 Pods updated"},
				"one of a StatefulSet that has made a Pod": {newScene(runs(updating(db()).Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(noon.Add(-10 * time.Minute)).Injected("default") })),
					restart.ReasonRolloutInProgress, byCluster, "1 of 3 Pods updated"},
				"one of a StatefulSet that has made a Pod without a sidecar": {newScene(runs(updating(db()).Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(noon.Add(-10 * time.Minute)) })),
					restart.ReasonRolloutInProgress, byCluster, "1 of 3 Pods updated"},
				"one of a StatefulSet that goes on": {newScene(runs(updating(db()).Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-10*time.Minute)))),
					restart.ReasonRolloutInProgress, byCluster, "1 of 3 Pods updated"},
			},
			map[string]*scene{
				"Pods of a workload that is rolled out are not available": newScene(outside(cart().With(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 }), 3)),
			},
		},
		"StatefulSetWaitsForItsPods": {
			map[string]speaks{
				"a Pod is not ready": {newScene(runs(db().Build(), uninjected, uninjected, starting)), restart.ReasonRolloutInProgress, byCluster,
					"Only 2 of 3 Pods are ready"},
				"a Pod cannot become ready, and nothing may be evicted": {newScene(runs(db().Build(), uninjected, uninjected, broken)).when(evictionDisabled), restart.ReasonRolloutStuck, byOwner,
					"Mend or delete that Pod"},
			},
			map[string]*scene{
				"every Pod is ready":                        newScene(outside(db(), 3)),
				"a Pod cannot become ready, and is evicted": newScene(runs(db().Build(), uninjected, uninjected, broken)),
				"it does not wait for its Pods":             newScene(runs(db().With(inParallel).Build(), uninjected, uninjected, starting)),
				"a Deployment":                              newScene(runs(cart().Build(), uninjected, uninjected, starting)),
			},
		},
		"OwnerRolledItBack": {
			map[string]speaks{
				"nothing has changed": {newScene(outside(recorded(cart(), forItsCause(v1alpha1.ResultRolledBack)), 3)),
					restart.ReasonRolledBack, byOwner, "until its template changes"},
				"the injector has changed": {newScene(outside(recorded(cart(), forItsCause(v1alpha1.ResultRolledBack)), 3)).lettingPass(),
					restart.ReasonRolledBack, byOwner, "until its template changes"},
			},
			map[string]*scene{
				"the template has changed": newScene(outside(recorded(cart(), ended(v1alpha1.ResultRolledBack)).TemplateAnnotated("changed", "yes"), 3)),
			},
		},
		"CauseWasTriedAlready": {
			map[string]speaks{
				"a restart that was ineffective": {newScene(outside(recorded(cart(), ended(v1alpha1.ResultIneffective)), 3)),
					restart.ReasonRestartIneffective, byAdmin, "before its template, the namespace's labels or the injector change"},
				"a restart that was taken back, and nothing may be evicted": {newScene(outside(recorded(cart(), ended(v1alpha1.ResultReverted)), 3)).when(evictionDisabled),
					restart.ReasonRestartReverted, byOwner, "before its template, the namespace's labels or the injector change"},
				"the template has this cause": {newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, cartCause().String()), 3)),
					restart.ReasonAlreadyRestarted, byOwner, "delete them"},
				"it was taken back for this cause, and the template has changed": {newScene(outside(recorded(cart(), forItsCause(v1alpha1.ResultReverted)).TemplateAnnotated("changed", "yes"), 3)).when(evictionDisabled),
					restart.ReasonAlreadyRestarted, byOwner, "delete them"},
				"what it failed for is left, though something has changed": {newScene(outside(recorded(cart(), ended(v1alpha1.ResultFailed)).
					TemplateAnnotated("mended", "yes", v1alpha1.RestartCauseAnnotation, cartCause().String()), 3)),
					restart.ReasonAlreadyRestarted, byOwner, "delete them"},
			},
			map[string]*scene{
				"an older Pod that fell out of the mesh since its restart succeeded": newScene(runs(recorded(cart().Unavailable(1).Surge(0), ended(v1alpha1.ResultSucceeded)).Build(), readyInMeshAt(noon.Add(-time.Hour)), readyInMeshAt(noon.Add(-time.Hour)), uncaptured(yesterday.Add(-time.Hour)))),
				"a restart that was ineffective, and the template has changed":       newScene(outside(recorded(cart(), ended(v1alpha1.ResultIneffective)).TemplateAnnotated("mended", "yes"), 3)),
				"a restart that was taken back, and eviction changes nothing":        newScene(outside(recorded(cart(), ended(v1alpha1.ResultReverted)), 3)),
				"evictions that were interrupted":                                    newScene(interrupted()),
				"a restart that was taken back, and the injector has changed":        newScene(outside(recorded(cart(), ended(v1alpha1.ResultReverted)), 3)).lettingPass(),
				"one for the same cause, and nothing may be evicted":                 newScene(outside(recorded(cart(), forItsCause(v1alpha1.ResultReverted)), 3)).when(evictionDisabled).lettingPass(),
				"a restart that is not held against it":                              newScene(outside(recorded(cart(), excused), 3)),
				"a cause of which newer Pods are no part":                            newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, older(cartCause()).String()), 3)),
				"the cause of another workload, copied with its template":            newScene(outside(cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, others(cartCause()).String()), 3)),
				"a restart that worked, and Pods that came without after it":         newScene(outside(recorded(cart(), ended(v1alpha1.ResultSucceeded)), 3)),
				"a restart that was made when the namespace had another label":       newScene(meshedByRevision(), outside(recorded(cart(), ended(v1alpha1.ResultIneffective)), 3)),
			},
		},
		"PolicyOnlyReports": {
			map[string]speaks{
				"a policy that reports": {newScene(builder.Reporting("mesh").Unbounded(), outside(cart(), 3)), restart.ReasonReportMode, byAdmin, "Set mode: Enforce"},
				"a policy that does not say": {newScene(&v1alpha1.MeshPolicy{ObjectMeta: metav1.ObjectMeta{Name: "mesh"}}, outside(cart(), 3)),
					restart.ReasonReportMode, byAdmin, "Set mode: Enforce"},
			},
			map[string]*scene{"a policy that enforces": newScene(outside(cart(), 3))},
		},
		"PictureIsOld": {
			map[string]speaks{
				"a watch is broken": {newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Blind = "pods cannot be watched" }),
					restart.ReasonNotObserved, byCluster, "pods cannot be watched"},
			},
			map[string]*scene{"all watches are had": newScene(outside(cart(), 3))},
		},
		"RedButtonIsPressed": {
			map[string]speaks{
				"it is pressed": {newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Stopped = true }), restart.ReasonStopped, byAdmin, "fullmesh stop --clear"},
			},
			map[string]*scene{"it is not": newScene(outside(cart(), 3))},
		},
		"GuardIsNotProven": {
			map[string]speaks{
				"it is missing": {newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Guard = restart.GuardMissing }),
					restart.ReasonGuardMissing, byAdmin, "Apply config/guard"},
				"nobody knows yet": {newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Guard = restart.GuardUnknown }),
					restart.ReasonGuardUnknown, byCluster, "tried again"},
			},
			map[string]*scene{"it holds": newScene(outside(cart(), 3))},
		},
		"InjectorIsNotAtRest": {
			map[string]speaks{
				"istiod is being rolled out": {newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })),
					restart.ReasonInjectorRollingOut, byCluster, "is being rolled out: of Deployment istio-system/istiod, 1 of 2 Pods are updated and 2 available"},
				"its controller has not seen the change yet": {newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Generation++ })),
					restart.ReasonInjectorRollingOut, byCluster, "is being rolled out"},
				"an old Pod of it is still there": {newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.Replicas = 3 })),
					restart.ReasonInjectorRollingOut, byCluster, "is being rolled out"},
				"one of its Pods is not available": {newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 1 })),
					restart.ReasonInjectorRollingOut, byCluster, "not there in full: of Deployment istio-system/istiod, 1 of 2 Pods are available"},
				"its Pods crash": {newScene(outside(cart(), 3), builder.Namespace(istioNamespace).Build(), runs(istiod("default").With(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 }).Build(), broken)),
					restart.ReasonInjectorRollingOut, byCluster, "kubectl logs istiod-0 -n istio-system"},
				"its rollout is stuck": {newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) {
					d.Status.UpdatedReplicas = 1
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}}
				})), restart.ReasonInjectorRollingOut, byAdmin, "kubectl describe deployment/istiod -n istio-system"},
				"it is paused in the middle": {newScene(outside(cart(), 3), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Spec.Paused = 1, true })),
					restart.ReasonInjectorRollingOut, byAdmin, "kubectl rollout resume deployment/istiod -n istio-system"},
				"it is scaled to zero": {newScene(outside(cart(), 3), builder.Namespace(istioNamespace).Build(), istiod("default").Replicas(0).RolledOut().Build()),
					restart.ReasonInjectorRollingOut, byAdmin, "kubectl scale deployment/istiod -n istio-system --replicas=2"},
				"its Service selects by other labels": {newScene(outside(cart(), 3), istiodService(map[string]string{"team": "mesh"}), builder.Namespace(istioNamespace).Build(),
					builder.Deployment(istioNamespace, "pilot").Labelled("team", "mesh").RolledOut().Replicas(2).Build()),
					restart.ReasonInjectorRollingOut, byCluster, "Deployment istio-system/pilot"},
			},
			map[string]*scene{
				"istiod is at rest":                  newScene(outside(cart(), 3), controlPlane("default", func(*appsv1.Deployment) {})),
				"nothing is known of it":             newScene(outside(cart(), 3)),
				"that of another revision rolls out": newScene(outside(cart(), 3), controlPlane("canary", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })),
				"one that is behind no Service":      newScene(outside(cart(), 3), istiodService(map[string]string{"team": "mesh"}), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })),
				"its Service has no selector":        newScene(outside(cart(), 3), istiodService(nil), controlPlane("default", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })),
				"one of two is scaled to zero": newScene(outside(cart(), 3), controlPlane("default", func(*appsv1.Deployment) {}),
					builder.Deployment(istioNamespace, "istiod-old").Labelled("app", "istiod", "istio.io/rev", "default").Replicas(0).RolledOut().Build()),
			},
		},
		"IsSettling": {
			map[string]speaks{
				"a label changed just now": {newScene(labelledAt(noon.Add(-29*time.Second)), outside(cart(), 3)),
					restart.ReasonSettling, byTime, "30s after the last change of the namespace's labels"},
				"the template changed just now": {newScene(outside(cart().CreatedAt(noon.Add(-29*time.Second)), 3)),
					restart.ReasonSettling, byTime, "30s after the last change of the template"},
				"the injector changed just now": {newScene(outside(cart(), 3)).injectorChangedAt(noon.Add(-29 * time.Second)),
					restart.ReasonSettling, byTime, "30s after the last change of the injector"},
				"the policy asks for longer": {newScene(builder.Enforcing("mesh").Unbounded().Settling(60), labelledAt(noon.Add(-59*time.Second)), outside(cart(), 3)),
					restart.ReasonSettling, byTime, "1m0s"},
				"the policy asks for less than can be": {newScene(builder.Enforcing("mesh").Unbounded().Settling(0), labelledAt(noon.Add(-time.Second)), outside(cart(), 3)),
					restart.ReasonSettling, byTime, "2s"},
				"its newest Pod without a sidecar has just come": {newScene(runs(cart().Build(), uninjected, uninjected, uninjectedAt(noon.Add(-time.Second)))),
					restart.ReasonSettling, byTime, "2s after its newest Pod was created"},
				"a clock is ahead of ours": {newScene(outside(cart().CreatedAt(noon.Add(time.Second)), 3)),
					restart.ReasonSettling, byTime, "30s"},
			},
			map[string]*scene{
				"its newest Pod came in a former second": newScene(runs(cart().Build(), uninjected, uninjected, uninjectedAt(noon.Add(-2*time.Second)))),
				"everything changed long enough ago":     newScene(labelledAt(noon.Add(-30*time.Second)), outside(cart().CreatedAt(noon.Add(-30*time.Second)), 3)).injectorChangedAt(noon.Add(-30 * time.Second)),
				"the policy asks for less":               newScene(builder.Enforcing("mesh").Unbounded().Settling(5), labelledAt(noon.Add(-5*time.Second)), outside(cart(), 3)),
			},
		},
		"WouldCauseDowntime": {
			map[string]speaks{
				"a Deployment that is recreated": {newScene(outside(cart().Recreate(), 3)), restart.ReasonWouldCauseDowntime, byAdmin, "Recreate. Accept it with accept: [Downtime]"},
				"one Pod without surge":          {newScene(outside(cart().Replicas(1).Surge(0).Unavailable(1).RolledOut(), 1)), restart.ReasonWouldCauseDowntime, byAdmin, "fullmesh.dev/accept=Downtime"},
				"all may be unavailable":         {newScene(outside(cart().Unavailable("100%"), 3)), restart.ReasonWouldCauseDowntime, byAdmin, "every Pod at once. Accept it"},
				"a StatefulSet of one":           {newScene(outside(db().Replicas(1).RolledOut(), 1)), restart.ReasonWouldCauseDowntime, byAdmin, "its only Pod goes before the new one comes. Accept it"},
				"a StatefulSet of which one is ready": {newScene(runs(db().With(inParallel).Build(), uninjected, starting, starting)), restart.ReasonWouldCauseDowntime, byAdmin,
					"only 1 of its 3 Pods are ready"},
				"the only one that is ready would be evicted": {newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Recreate().Replicas(1).RolledOut().OwnedBy(db().Build()).Annotated(v1alpha1.AcceptAnnotation, "OwnedByOperator"), 1)),
					restart.ReasonWouldCauseDowntime, byAdmin, "its only Pod that is ready goes before the new one comes. Accept it"},
				"another risk is accepted": {newScene(outside(cart().Recreate().Annotated(v1alpha1.AcceptAnnotation, "StrictMTLS"), 3)), restart.ReasonWouldCauseDowntime, byAdmin, "Accept it"},
			},
			map[string]*scene{
				"the administrator accepts it":            newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime), outside(cart().Recreate(), 3)),
				"the owner accepts it":                    newScene(outside(cart().Recreate().Annotated(v1alpha1.AcceptAnnotation, "StrictMTLS, Downtime"), 3)),
				"one that is not ready is evicted first":  newScene(runs(db().With(inParallel).OnDelete().Replicas(2).RolledOut().Build(), uninjected, starting)),
				"nothing is ready":                        newScene(runs(cart().Recreate().Build(), starting, starting, starting)),
				"one Pod with surge":                      newScene(outside(cart().Replicas(1).RolledOut(), 1)),
				"a StatefulSet of two":                    newScene(outside(db().Replicas(2).RolledOut(), 2)),
				"a Deployment of which one is ready":      newScene(runs(cart().Surge(0).Unavailable(1).Build(), uninjected, starting, starting)),
				"a StatefulSet of which enough are ready": newScene(runs(db().With(inParallel).Build(), uninjected, uninjected, starting)),
			},
		},
		"WouldRefuseItsCallers": {
			map[string]speaks{
				"others in its namespace are outside": {newScene(strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected, uninjected)),
					restart.ReasonStrictMTLS, byAdmin, "PeerAuthentication shop/default makes it take mutual TLS only: once it is in the mesh it refuses Pods that are outside of it. There are such in its namespace. Nothing is about to bring the others in, so that this does not end by itself. Accept it with accept: [StrictMTLS] in MeshPolicy mesh, or for this workload alone with the annotation fullmesh.dev/accept=StrictMTLS; or set the mode PERMISSIVE until"},
				"others of the policy are outside": {newScene(strictIn(istioNamespace), outside(cart(), 3), builder.Namespace("bank").Build(), runs(deployment("bank", "pay").Build(), uninjected)),
					restart.ReasonStrictMTLS, byAdmin, "PeerAuthentication istio-system/default makes it take mutual TLS only: once it is in the mesh it refuses Pods that are outside of it. There are such in other namespaces that MeshPolicy mesh governs."},
				"others near and far are outside": {newScene(strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected), builder.Namespace("bank").Build(), runs(deployment("bank", "pay").Build(), uninjected)),
					restart.ReasonStrictMTLS, byAdmin, "There are such in its namespace and in others that MeshPolicy mesh governs."},
				"the policy accepts another risk": {newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskDowntime), strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected)),
					restart.ReasonStrictMTLS, byAdmin, "accept: [StrictMTLS]"},
			},
			map[string]*scene{
				"nobody else is outside":                          newScene(strictIn("shop"), outside(cart(), 3)),
				"everybody else is in":                            newScene(strictIn("shop"), outside(cart(), 3), runs(deployment("shop", "web").Build(), injected)),
				"plain traffic is taken":                          newScene(builder.PeerAuthentication("shop", "default", "PERMISSIVE"), outside(cart(), 3), runs(plain("old").Build(), uninjected)),
				"another namespace is strict":                     newScene(strictIn("bank"), outside(cart(), 3), runs(plain("old").Build(), uninjected)),
				"a Pod of it is in the mesh already":              newScene(strictIn("shop"), runs(cart().Build(), uninjected, uninjected, injected), runs(plain("old").Build(), uninjected)),
				"none of its Pods answers anybody":                newScene(strictIn("shop"), runs(cart().Build(), broken, broken, broken), runs(plain("old").Build(), uninjected)),
				"the administrator accepts it":                    newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskStrictMTLS), strictIn("shop"), outside(cart(), 3), runs(plain("old").Build(), uninjected)),
				"the owner accepts it":                            newScene(strictIn("shop"), outside(cart().Annotated(v1alpha1.AcceptAnnotation, "Downtime, StrictMTLS"), 3), runs(plain("old").Build(), uninjected)),
				"who is outside is in no namespace of the policy": newScene(strictIn("shop"), outside(cart(), 3), builder.Namespace("kube-system").Build(), runs(deployment("kube-system", "dns").Build(), uninjected)),
			},
		},
		"IsOwnedByOperator": {
			map[string]speaks{
				"a StatefulSet that a database operator made": {newScene(outside(db().With(func(s *appsv1.StatefulSet) {
					s.OwnerReferences = []metav1.OwnerReference{builder.ControlledByOther("acid.zalan.do/v1", "postgresql", "main", "pg")}
				}), 3)), restart.ReasonOwnedByOperator, byAdmin, "postgresql.acid.zalan.do shop/main controls it and would undo a change of the template. Restart it by the means of that controller. Or have its Pods evicted one by one: accept that with accept: [OwnedByOperator]"},
				"Pods of a kind that is not known": {newScene(builder.Pod("shop", "a").OwnedByOther(builder.ControlledByOther("apps.kruise.io/v1alpha1", "CloneSet", "cart", "cs")).CreatedAt(yesterday).Ready(yesterday).Build()),
					restart.ReasonOwnedByOperator, byOwner, "CloneSet.apps.kruise.io shop/cart"},
				"Pods of a ReplicationController": {newScene(builder.Pod("shop", "a").OwnedByOther(builder.ControlledByOther("v1", "ReplicationController", "cart", "rc")).CreatedAt(yesterday).Ready(yesterday).Build()),
					restart.ReasonOwnedByOperator, byOwner, "Restart it by the means of that controller"},
			},
			map[string]*scene{
				"a StatefulSet that nobody controls": newScene(outside(db(), 3)),
				"the administrator accepts it":       newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskOwnedByOperator), outside(cart().OwnedBy(db().Build()), 3)),
				"the owner accepts it":               newScene(outside(cart().OwnedBy(db().Build()).Annotated(v1alpha1.AcceptAnnotation, "OwnedByOperator"), 3)),
			},
		},
		"DryRunCheckSaysNo": {
			map[string]speaks{
				"it would be of another revision": {newScene(outside(cart(), 3)).answer(restart.Check{Observed: sidecar("canary"), At: noon, Received: noon}),
					restart.ReasonOtherRevision, byAdmin, "Find out which of the webhooks"},
				"it would have no sidecar": {newScene(outside(cart(), 3)).answer(restart.Check{}),
					restart.ReasonWouldNotBeInjected, byAdmin, "Look at the injector's log"},
				"it would have no sidecar, and webhooks let Pods pass": {newScene(outside(cart(), 3)).answer(restart.Check{}).lettingPass(),
					restart.ReasonInjectorSilent, byCluster, "asked again"},
				"it fits in the place of an old Pod, and the rollout adds one first": {newScene(outside(cart().Surge(1).Unavailable(0), 3)).answer(restart.Check{Outcome: restart.CheckFitsInTurn, At: noon, Received: noon, Message: "exceeded quota"}),
					restart.ReasonQuotaExceeded, byOwner, "maxUnavailable: 1"},
				"the injector cannot be reached": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckUnreachable, Message: "refused"}),
					restart.ReasonInjectorUnreachable, byCluster, "caBundle. refused"},
				"somebody refuses the Pod": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDenied, Message: "exceeded quota"}),
					restart.ReasonCreationDenied, byOwner, "exceeded quota"},
				"the injector refuses the Pod": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDeniedByInjector, Message: "no template"}),
					restart.ReasonInjectorDenied, byOwner, "annotations. no template"},
				"a quota is used up": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckOverQuota}),
					restart.ReasonQuotaExceeded, byOwner, "Raise the quota"},
				"PodSecurity refuses the Pod": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDeniedByPodSecurity}),
					restart.ReasonPodSecurityDenied, byAdmin, "CNI plugin"},
				"a policy engine refuses the Pod": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDeniedByPolicy}),
					restart.ReasonDeniedByPolicy, byAdmin, "under Fullmesh's account"},
				"the ServiceAccount is missing": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckNoServiceAccount}),
					restart.ReasonServiceAccountMissing, byOwner, "Create it"},
				"a webhook takes no part in dry runs": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckUnsupported}),
					restart.ReasonUnchecked, byAdmin, "accept: [Unchecked]"},
				"the root certificate is missing": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckNoRootCertificate}),
					restart.ReasonRootCertificateMissing, byAdmin, "discoverySelectors"},
				"its sidecar would not capture traffic": {newScene(outside(cart(), 3)).answer(restart.Check{Observed: mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureBroken, Revision: mesh.DefaultRevision}}),
					restart.ReasonWouldNotHelp, byAdmin, "no better"},
				"the operator may not ask": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckForbidden, Message: "cannot create"}),
					restart.ReasonCheckFailed, byAdmin, "config/rbac"},
				"there was no answer": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckFailed, Message: "timeout"}),
					restart.ReasonCheckFailed, byCluster, "tried again. timeout"},
				"the restart was refused": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckRefused, Message: "the guard"}),
					restart.ReasonRefusedByAdmission, byAdmin, "the guard"},
				"an old no stands": {newScene(outside(cart(), 3)).answer(restart.Check{Outcome: restart.CheckDenied, Message: "no", At: yesterday, Received: yesterday, Retry: noon.Add(time.Hour)}),
					restart.ReasonCreationDenied, byOwner, "no"},
			},
			map[string]*scene{
				"it would have the sidecar":                   newScene(outside(cart(), 3)),
				"it fits in the place of an old Pod":          newScene(outside(cart().Unavailable(1), 3)).answer(restart.Check{Outcome: restart.CheckFitsInTurn, At: noon, Received: noon}),
				"it fits in the place of one that is evicted": newScene(outside(db().OnDelete(), 3)).answer(restart.Check{Outcome: restart.CheckFitsInTurn, At: noon, Received: noon}),
				"the missing check is accepted": newScene(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskUnchecked), outside(cart(), 3)).
					answer(restart.Check{Outcome: restart.CheckUnsupported, At: noon, Received: noon}),
				"nobody is to be asked": newScene(outside(cart(), 3)).when(func(in *restart.Input) { in.Check = nil }),
				"it has not been asked": newScene(outside(cart(), 3)).unasked(),
			},
		},
		"InjectedPodsAreFailing": {
			map[string]speaks{
				"a Pod in the mesh crashes": {newScene(runs(cart().Build(), uninjected, uninjected, crashing)),
					restart.ReasonInjectedPodsFailing, byOwner, "Pod cart-2, container app: CrashLoopBackOff, last exit code 1, 3 restarts (where it needs the network at once, set holdApplicationUntilProxyStarts: true). Mend that"},
			},
			map[string]*scene{
				"a Pod outside the mesh crashes":           newScene(runs(cart().Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Crashing("app", 1) })),
				"stale Pods crash, and are to be replaced": newScene(builder.Enforcing("mesh").Unbounded().Remediating("Missing", "Stale"), runs(cart().Build(), staleOf("gone"), staleOf("gone"), func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("gone").Crashing("istio-proxy", 255) })),
				"a Pod in the mesh is starting":            newScene(runs(cart().Build(), uninjected, uninjected, func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") })),
			},
		},
		"CapacityIsMissing": {
			map[string]speaks{
				"a Pod cannot be scheduled": {newScene(runs(cart().Build(), uninjected, unschedulable("0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available."))),
					restart.ReasonWaitingForCapacity, byCluster, "Pod cart-1 (0/3 nodes are available: 3 Insufficient cpu)"},
				"the scheduler does not say why": {newScene(runs(cart().Build(), uninjected, unschedulable(""))),
					restart.ReasonWaitingForCapacity, byCluster, "Pod cart-1 (it does not say why)"},
				"the scheduler says very much": {newScene(runs(cart().Build(), uninjected, unschedulable(strings.Repeat("ä", 300)))),
					restart.ReasonWaitingForCapacity, byCluster, "(" + strings.Repeat("ä", 200) + "…)"},
				"it is waited for as long as a restart may take": {newScene(runs(cart().Build(), uninjected, unschedulableSince(noon.Add(-10*time.Minute+time.Second), "no room"))),
					restart.ReasonWaitingForCapacity, byCluster, "Waiting until there is room"},
				"nor can the only one, which serves nobody": {newScene(runs(cart().Replicas(1).Build(), unschedulable("0/3 nodes are available."))),
					restart.ReasonWaitingForCapacity, byCluster, "correct what the template asks for"},
				"nor one of a DaemonSet": {newScene(runs(builder.DaemonSet("shop", "log").CreatedAt(yesterday).RolledOut(2).Build(), uninjected, unschedulable("0/3 nodes are available."))),
					restart.ReasonWaitingForCapacity, byCluster, "Pod log-1"},
				"a Pod runs on a node that is cordoned": {newScene(builder.Node("north", false), builder.Node("south", true), runs(cart().Build(), on("north"), on("south"))),
					restart.ReasonWaitingForCapacity, byCluster, "Pod cart-1 runs on node south, which is cordoned: what a drain takes down would come on top of a restart, and what it recreates is injected. Waiting until the Pod has moved; where nobody drains the node, run: kubectl uncordon south"},
				"its taint came before the field": {newScene(builder.Node("north", false), tainted(builder.Node("south", false)), runs(cart().Build(), on("north"), on("south"))),
					restart.ReasonWaitingForCapacity, byCluster, "node south, which is cordoned"},
				"there is no other node": {newScene(builder.Node("north", true), builder.Node("south", true), outside(cart(), 3)),
					restart.ReasonWaitingForCapacity, byCluster, "Every node (2) is cordoned"},
			},
			map[string]*scene{
				"another's Pod runs on a node that is cordoned": newScene(builder.Node("north", false), builder.Node("south", true), runs(cart().Build(), on("north")),
					runs(deployment("shop", "web").Labelled("sidecar.istio.io/inject", "false").Build(), on("south"))),
				"a Pod of a DaemonSet does":    newScene(builder.Node("north", true), runs(builder.DaemonSet("shop", "log").CreatedAt(yesterday).RolledOut(2).Build(), on("north"), on("south"))),
				"one that is on its way out":   newScene(builder.Node("north", false), builder.Node("south", true), runs(cart().Build(), on("north"), func(b *builder.PodBuilder) { on("south")(b); b.Terminating(noon) })),
				"a Pod fails outside the mesh": newScene(builder.Node("north", false), runs(cart().Build(), on("north"), broken)),
				"nothing is known of nodes":    newScene(runs(cart().Build(), on("north"))),
			},
		},
		"IsUnschedulable": {
			map[string]speaks{
				"a Pod has waited for as long as a restart may take": {newScene(runs(cart().Build(), uninjected, unschedulableSince(noon.Add(-10*time.Minute), "no room"))),
					restart.ReasonWaitingForCapacity, byOwner, "for longer than 10m0s. Correct what the template asks for"},
				"one that has waited for long, whatever the others are called": {newScene(runs(cart().Build(), uninjected, unschedulable("little room"), unschedulableSince(yesterday, "no room"))),
					restart.ReasonWaitingForCapacity, byOwner, "Pod cart-2 (no room)"},
				"that is told before what only waits": {newScene(builder.Reporting("mesh"), runs(cart().Build(), uninjected, unschedulableSince(yesterday, "no room"))),
					restart.ReasonWaitingForCapacity, byOwner, "no room"},
			},
			map[string]*scene{
				"another's Pod has": newScene(outside(cart(), 3), runs(deployment("shop", "web").Labelled("sidecar.istio.io/inject", "false").Build(), unschedulableSince(yesterday, "no room"))),
			},
		},
		"EvictionWaitsForItsPods": {
			map[string]speaks{
				"a Pod that is to stay is not ready": {newScene(runs(cart().Replicas(4).Unavailable(1).RolledOut().Build(), uninjected, injected, injected, func(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default") })),
					restart.ReasonPodsNotReady, byCluster, "Only 3 of 4 Pods are ready"},
				"a Pod of a DaemonSet is missing": {newScene(outside(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3), 2)),
					restart.ReasonPodsNotReady, byCluster, "delete the Pods that are to be replaced"},
			},
			map[string]*scene{
				"a Pod that is to be replaced is not ready": newScene(runs(cart().Replicas(4).Unavailable(1).RolledOut().Build(), starting, injected, injected, injected)),
				"a rolling update":                          newScene(runs(cart().Build(), uninjected, uninjected)),
			},
		},
		"UpdateIsPending": {
			map[string]speaks{
				"a StatefulSet that is updated on deletion, and whose template has changed": {newScene(outside(db().OnDelete().With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }), 3)),
					restart.ReasonUpdatePending, byOwner, "1 of its 3 Pods run the newest template, and its update strategy is OnDelete. Delete the Pods yourself"},
				"a DaemonSet that is updated on deletion, and whose template has changed": {newScene(outside(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3).With(func(d *appsv1.DaemonSet) { d.Status.UpdatedNumberScheduled = 0 }), 3)),
					restart.ReasonUpdatePending, byOwner, "0 of its 3 Pods"},
				"a partition that was raised in an update": {newScene(outside(db().Partition(2).With(func(s *appsv1.StatefulSet) {
					s.Status.UpdatedReplicas, s.Status.CurrentRevision, s.Status.UpdateRevision = 2, "db-1", "db-2"
				}), 3)), restart.ReasonUpdatePending, byOwner, "below partition 2 run a newer template"},
				"a ReplicaSet whose template was written since": {newScene(outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut().CreatedAt(yesterday.Add(time.Hour)), 3)),
					restart.ReasonUpdatePending, byOwner, "was written after Pods were created"},
				"one whose template was written between two of its Pods": {newScene(runs(builder.ReplicaSet("shop", "old").Replicas(2).RolledOut().CreatedAt(yesterday).Build(), uninjectedAt(yesterday.Add(-time.Hour)), uninjectedAt(yesterday.Add(time.Hour)))),
					restart.ReasonUpdatePending, byOwner, "was written after Pods were created"},
			},
			map[string]*scene{
				"a StatefulSet that is updated on deletion": newScene(outside(db().OnDelete(), 3)),
				"a partition, and an update down to it": newScene(outside(db().Partition(2).With(func(s *appsv1.StatefulSet) {
					s.Status.UpdatedReplicas, s.Status.CurrentRevision, s.Status.UpdateRevision = 1, "db-1", "db-2"
				}), 3)),
				"a partition, and no update": newScene(outside(db().Partition(2), 3)),
				"a ReplicaSet":               newScene(outside(builder.ReplicaSet("shop", "old").Replicas(3).RolledOut().CreatedAt(yesterday), 3)),
			},
		},
		"ExceedsDisruptionBudget": {
			map[string]speaks{
				"it allows none now": {newScene(builder.DisruptionBudget("shop", "cart").Healthy(2, 2, 3).Build(), outside(cart().Unavailable(1), 3)),
					restart.ReasonExceedsDisruptionBudget, byCluster, "PodDisruptionBudget cart allows 0 now (2 healthy, 2 needed)"},
				"it allows less now, and nothing may be evicted": {newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Unavailable(2), 3)).when(evictionDisabled),
					restart.ReasonExceedsDisruptionBudget, byOwner, "It never allows as many. Set maxUnavailable: 0 with a maxSurge, or loosen the budget"},
				"it never allows any": {newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3)),
					restart.ReasonExceedsDisruptionBudget, byOwner, "It never allows any. Loosen the budget"},
				"two cover it, and Kubernetes evicts nothing under two": {newScene(builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 1, 9).Build(), builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(db().OnDelete().Labelled("app", "cart"), 3)),
					restart.ReasonExceedsDisruptionBudget, byOwner, "Leave it one of them"},
				"one of two never allows as many, and nothing may be evicted": {newScene(builder.DisruptionBudget("shop", "all").Covering().Healthy(9, 1, 9).Build(), builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3)).when(evictionDisabled),
					restart.ReasonExceedsDisruptionBudget, byOwner, "PodDisruptionBudget cart"},
				"its controller has not seen it, and it may be evicted in parts when it has": {newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 5, 10), builder.DisruptionBudget("shop", "cart").Healthy(40, 39, 40).NotSeen().Build(), outside(cart().Replicas(40).Unavailable(20).Surge(0).RolledOut(), 40)),
					restart.ReasonExceedsDisruptionBudget, byCluster, "has changed"},
				"its controller has not seen it": {newScene(builder.DisruptionBudget("shop", "cart").NotSeen().Build(), outside(cart().Unavailable(1), 3)),
					restart.ReasonExceedsDisruptionBudget, byCluster, "has not said yet"},
				"its controller has not seen its last change": {newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 0, 3).With(func(budget *policyv1.PodDisruptionBudget) { budget.Generation++ }).Build(), outside(cart().Unavailable(1), 3)),
					restart.ReasonExceedsDisruptionBudget, byCluster, "has not said yet"},
				"too few are healthy for Pods that are not ready to be evicted": {newScene(builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, starting)),
					restart.ReasonExceedsDisruptionBudget, byCluster, "only while as many are healthy as it needs (2 healthy, 3 needed)"},
				"too few are healthy, and one does not become it": {newScene(builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, broken)),
					restart.ReasonExceedsDisruptionBudget, byOwner, "does not become ready by itself: Pod db-2, container app: CrashLoopBackOff, last exit code 1, 3 restarts. Set unhealthyPodEvictionPolicy: AlwaysAllow, or delete the Pods that are not ready"},
				"too few are healthy, and a stale one does not become it": {newScene(builder.Enforcing("mesh").Unbounded().Remediating("Missing", "Stale"), builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(),
					runs(db().OnDelete().Build(), staleOf("gone"), staleOf("gone"), func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("gone").Crashing("istio-proxy", 255) })),
					restart.ReasonExceedsDisruptionBudget, byOwner, "container istio-proxy"},
				"a StatefulSet": {newScene(builder.DisruptionBudget("shop", "db").Healthy(3, 3, 3).Build(), outside(db(), 3)),
					restart.ReasonExceedsDisruptionBudget, byOwner, "Loosen the budget"},
			},
			map[string]*scene{
				"it allows less, so that Pods are evicted": newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Unavailable(2), 3)),
				"what would be evicted has not started once": newScene(builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).Build(), runs(db().With(inParallel).OnDelete().Build(), uninjected, uninjected, func(b *builder.PodBuilder) {
					b.CreatedAt(yesterday).Crashing("app", 1)
					b.Build().Status.Phase = corev1.PodPending
				})),
				"what would be evicted is not ready, and always may be": newScene(builder.DisruptionBudget("shop", "db").Healthy(2, 3, 3).With(func(budget *policyv1.PodDisruptionBudget) {
					budget.Spec.UnhealthyPodEvictionPolicy = new(policyv1.AlwaysAllow)
				}).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, broken)),
				"what would be evicted is not ready":                          newScene(builder.DisruptionBudget("shop", "db").Healthy(2, 2, 3).Build(), runs(db().OnDelete().Build(), uninjected, uninjected, starting)),
				"it allows as many":                                           newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 2, 3).Build(), outside(cart().Unavailable(1), 3)),
				"none may be unavailable":                                     newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).Build(), outside(cart(), 3)),
				"none may be unavailable, and its controller has not seen it": newScene(builder.DisruptionBudget("shop", "cart").NotSeen().Build(), outside(cart(), 3)),
				"none is ready":                                               newScene(builder.DisruptionBudget("shop", "cart").Healthy(0, 3, 3).Build(), runs(cart().Unavailable(1).Build(), starting, starting)),
				"it covers others":                                            newScene(builder.DisruptionBudget("shop", "db").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3)),
				"it is of another namespace":                                  newScene(meshed("bank"), builder.DisruptionBudget("bank", "cart").Healthy(3, 3, 3).Build(), outside(cart().Unavailable(1), 3)),
				"its selector is unset":                                       newScene(builder.DisruptionBudget("shop", "cart").Healthy(3, 3, 3).With(func(budget *policyv1.PodDisruptionBudget) { budget.Spec.Selector = nil }).Build(), outside(cart().Unavailable(1), 3)),
			},
		},
	} {
		t.Run(check, func(t *testing.T) {
			if !slices.Contains(restart.CheckNames(), check) {
				t.Errorf("there is no such check")
			}
			for name, test := range test.speak {
				t.Run("speaks of "+name, func(t *testing.T) {
					verdict := only(t, test.scene.decide())
					if verdict.Action != v1alpha1.ActionHold || verdict.Reason != test.reason || verdict.ClearsBy != test.clearsBy {
						t.Errorf("verdict %s %s, cleared by %s; want Hold %s, cleared by %s", verdict.Action, verdict.Reason, verdict.ClearsBy, test.reason, test.clearsBy)
					}
					if !strings.Contains(verdict.Message, test.message) {
						t.Errorf("message %q does not say %q", verdict.Message, test.message)
					}
					if verdict.Step == restart.StepRestart || verdict.Step == restart.StepFinish {
						t.Errorf("a hold with step %d", verdict.Step)
					}
				})
			}
			for name, scene := range test.pass {
				t.Run("does not speak of "+name, func(t *testing.T) {
					if verdict := only(t, scene.decide()); verdict.Action != v1alpha1.ActionRestart {
						t.Errorf("verdict %s %s: %s", verdict.Action, verdict.Reason, verdict.Message)
					}
				})
			}
		})
	}
}

// evictionDisabled is an operator that may evict nothing.
func evictionDisabled(in *restart.Input) { in.EvictionDisabled = true }

// fewOut is a workload of which one of four Pods is out.
func fewOut[T metav1.Object](workload *builder.Workload[T]) []any {
	return runs(workload.Build(), uninjected, injected, injected, injected)
}

// interrupted is a StatefulSet of whose Pods the last ones were not evicted.
func interrupted() []any {
	cause := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: "statefulset-shop-db", Newest: yesterday.Unix()}
	record := inventory.NewRecord(cause, v1alpha1.MethodEviction, decidedNow(), noon.Add(-time.Hour)).Ended(v1alpha1.ResultInterrupted, "", noon)
	return runs(db().OnDelete().Annotated(v1alpha1.LastRestartAnnotation, record.String()).Build(), uninjected, injected, injected)
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

func cartCause() inventory.Cause {
	return inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: "deployment-shop-cart", Newest: yesterday.Unix()}
}

func older(cause inventory.Cause) inventory.Cause {
	cause.Newest--
	return cause
}

func others(cause inventory.Cause) inventory.Cause {
	cause.UID = "another"
	return cause
}

// recorded gives the Deployment cart the record of an earlier restart, which was begun two hours ago
// for what was so then, under everything that decides as it is now.
func recorded(b *builder.Workload[*appsv1.Deployment], how func(inventory.Record) inventory.Record) *builder.Workload[*appsv1.Deployment] {
	start := inventory.NewRecord(older(cartCause()), "RolloutRestart", decidedNow(), noon.Add(-2*time.Hour))
	return b.Annotated(v1alpha1.LastRestartAnnotation, how(start).String())
}

// decidedNow is the hash over what decides about the Deployment cart in newScene.
func decidedNow() string {
	for _, verdict := range verdicts(newScene(outside(cart(), 1)).decide()) {
		return verdict.Record.Decided
	}
	return ""
}

func ended(result v1alpha1.RestartResult) func(inventory.Record) inventory.Record {
	return func(record inventory.Record) inventory.Record {
		return record.Ended(result, "It has ended.", noon.Add(-time.Hour))
	}
}

// forItsCause is a restart that was made for the very cause that there is now.
func forItsCause(result v1alpha1.RestartResult) func(inventory.Record) inventory.Record {
	return func(record inventory.Record) inventory.Record {
		record = ended(result)(record)
		record.Cause = cartCause().String()
		return record
	}
}

// excused is an ineffective restart that is not held against the workload.
func excused(record inventory.Record) inventory.Record {
	record = ended(v1alpha1.ResultIneffective)(record)
	record.Decided = ""
	return record
}

// updating is a StatefulSet of whose Pods one runs the newest template.
func updating(b *builder.Workload[*appsv1.StatefulSet]) *builder.Workload[*appsv1.StatefulSet] {
	return b.CreatedAt(yesterday.Add(-time.Hour)).With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 })
}

// writtenAt has somebody write the template.
func writtenAt(b *builder.Workload[*appsv1.StatefulSet], at time.Time) *builder.Workload[*appsv1.StatefulSet] {
	return b.With(func(s *appsv1.StatefulSet) {
		s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "helm", Time: new(metav1.NewTime(at)), FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)}}}
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
		"a Job":                               {job, builder.Pod("shop", "import-1").OwnedBy(job).CreatedAt(yesterday).Injected("default").Ready(yesterday).Build()},
		"a Deployment that is scaled to zero": runs(cart().Replicas(0).Build(), leftover),
		"a rollout that goes on":              runs(cart().With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }).Build(), leftover, leftover, leftover),
		"evictions that are disabled":         runs(db().OnDelete().Build(), leftover, leftover, leftover),
		"a StatefulSet that waits":            runs(db().Build(), leftover, leftover, func(b *builder.PodBuilder) { b.CreatedAt(yesterday).Injected("default") }),
	} {
		t.Run(name, func(t *testing.T) {
			got := only(t, newScene(policy, noLabel, objects).when(evictionDisabled).answer(restart.Check{At: noon, Received: noon}).decide())
			if got.Action != v1alpha1.ActionHold || strings.Contains(got.Message, "injected") || !strings.Contains(got.Message, "without a sidecar") {
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
