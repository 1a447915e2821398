package restart_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// cureOfCart is what its owner types for another try.
const cureOfCart = `kubectl annotate deployment/cart -n shop fullmesh.dev/retry-requested="$(date)" --overwrite`

// historyCases are those of the phase history.
func historyCases() map[string]cases {
	const notBefore = "It has ended. It is not restarted again before its template, the namespace's labels or the injector changes. For " +
		"another try run: " + cureOfCart
	const already = "It was restarted for this very cause at 2026-11-23T10:00:00Z, and these Pods were not replaced. Find out what keeps " +
		"its controller from " +
		"replacing them, or delete them. For another try run: " + cureOfCart
	newer := func() []any {
		return runs(restarted(cart(), ended(v1alpha1.ResultFailed), forOlder).Build(), uninjected, uninjected, uninjected)
	}
	stale := staleOf("gone")
	revertedRollout := restartOf(canary().Build(), ended(v1alpha1.ResultReverted), func(r *inventory.Restart) {
		r.Method, r.RestartAt = v1alpha1.MethodRestartAt, afterNewest
	})
	remediating := builder.Enforcing("mesh").Unbounded().Remediating("Missing", "Stale")
	return map[string]cases{
		"LastRestartFailed": {
			holds: map[string]holding{
				"nothing that decides has changed since it failed": {
					scene: newScene(outside(restarted(cart(), ended(v1alpha1.ResultFailed)), 3)), reason: restart.ReasonRestartFailed, clearsBy: byOwner,
					message: "It has ended. The workload's own controller keeps trying. Fullmesh restarts it again only after its template, the " +
						"namespace's labels or the " +
						"injector has changed, or when asked: " + cureOfCart,
				},
				"newer Pods are outside since": {scene: newScene(newer()), reason: restart.ReasonRestartFailed, clearsBy: byOwner},
				"its Pods are in the mesh and not ready": {
					scene:    newScene(runs(restarted(cart(), ended(v1alpha1.ResultFailed)).Build(), crashing, crashing, crashing)),
					reason:   restart.ReasonRestartFailed,
					clearsBy: byOwner,
				},
				"another restart was interrupted after that": {
					scene:    newScene(outside(twice(v1alpha1.ResultFailed, v1alpha1.ResultInterrupted), 3)),
					reason:   restart.ReasonRestartFailed,
					clearsBy: byOwner,
				},
				"its inputs were hashed in another format": {
					scene:    newScene(outside(restarted(cart(), ended(v1alpha1.ResultFailed), decidedBy("0-else")), 3)),
					reason:   restart.ReasonRestartFailed,
					clearsBy: byOwner,
				},
				"nothing may start now anyway": {
					scene:    newScene(builder.Reporting("mesh"), outside(restarted(cart(), ended(v1alpha1.ResultFailed)), 3)),
					reason:   restart.ReasonRestartFailed,
					clearsBy: byOwner,
				},
			},
			passes: map[string]*scene{
				"a template that has changed since it failed": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultFailed)).TemplateAnnotated("fixed", "yes"), 3),
				),
				"an injector that has changed since": newScene(outside(restarted(cart(), ended(v1alpha1.ResultFailed)), 3)).lettingPass(),
				"a label of the namespace that has":  newScene(meshedByRevision(), outside(restarted(cart(), ended(v1alpha1.ResultFailed)), 3)),
				"one that failed for another finding": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultFailed), forFinding(v1alpha1.FindingStale)), 3),
				),
				"a workload of the same name": newScene(outside(restarted(cart(), ended(v1alpha1.ResultFailed)).UID("another"), 3)),
			},
		},
		"RestartWasIneffective": {
			holds: map[string]holding{
				"nothing that decides has changed since": {
					scene:    newScene(outside(restarted(cart(), ended(v1alpha1.ResultIneffective)), 3)),
					reason:   restart.ReasonRestartIneffective,
					clearsBy: byAdmin,
					message:  notBefore,
				},
				"each round's Pods are newer": {
					scene:    newScene(outside(restarted(cart(), ended(v1alpha1.ResultIneffective), forOlder), 3)),
					reason:   restart.ReasonRestartIneffective,
					clearsBy: byAdmin,
					message:  notBefore,
				},
			},
			passes: map[string]*scene{
				"one that is excused, and Pods that came up just before a change": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultIneffective), excusedFor(v1alpha1.ExcuseChangedJustBefore)), 3),
				),
				"one that is excused, and an injector that was silent": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultIneffective), excusedFor(v1alpha1.ExcuseInjectorSilent)), 3),
				),
				"a template that has changed since it was without effect": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultIneffective)).TemplateAnnotated("fixed", "yes"), 3),
				),
				"one that was made when the namespace had another label": newScene(
					meshedByRevision(), outside(restarted(cart(), ended(v1alpha1.ResultIneffective)), 3),
				),
			},
		},
		"RestartWasReverted": {
			holds: map[string]holding{
				"a restart that was taken back, and nothing may be evicted": {
					scene: newScene(
						outside(restarted(cart(), ended(v1alpha1.ResultReverted)), 3),
					).when(evictionDisabled), reason: restart.ReasonRestartReverted, clearsBy: byOwner, message: notBefore,
				},
				"a Rollout's": {
					scene: newScene(rolloutOutside(canary().Intended(revertedRollout), 3)), reason: restart.ReasonRestartReverted, clearsBy: byOwner,
					message: "It has ended. It is not restarted again before",
				},
			},
			passes: map[string]*scene{
				"one that was taken back, and eviction changes nothing": newScene(outside(restarted(cart(), ended(v1alpha1.ResultReverted)), 3)),
				"one that was taken back, and the injector has changed": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultReverted)), 3),
				).when(evictionDisabled).lettingPass(),
				"one that was taken back, and the template has changed since": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultReverted)).TemplateAnnotated("changed", "yes"), 3),
				).when(evictionDisabled),
			},
		},
		"WasAlreadyRestarted": {
			holds: map[string]holding{
				"the very cause": {
					scene:    newScene(outside(restarted(cart(), ended(v1alpha1.ResultSucceeded)), 3)),
					reason:   restart.ReasonAlreadyRestarted,
					clearsBy: byOwner,
					message:  already,
				},
				"Pods that are older": {
					scene:    newScene(outside(restarted(cart(), ended(v1alpha1.ResultSucceeded), forNewer), 3)),
					reason:   restart.ReasonAlreadyRestarted,
					clearsBy: byOwner,
					message:  already,
				},
				"the very cause, whatever has changed since": {
					scene: newScene(
						outside(restarted(cart(), ended(v1alpha1.ResultSucceeded)).TemplateAnnotated("changed", "yes"), 3),
					).lettingPass(), reason: restart.ReasonAlreadyRestarted, clearsBy: byOwner, message: already,
				},
				"what was evicted for the very cause": {
					scene: newScene(
						outside(restarted(db().OnDelete(), byEviction, ended(v1alpha1.ResultSucceeded)), 3),
					), reason: restart.ReasonAlreadyRestarted, clearsBy: byOwner, message: "or delete them",
				},
			},
			passes: map[string]*scene{
				"Pods that came up without a sidecar after it": newScene(outside(restarted(cart(), ended(v1alpha1.ResultSucceeded), forOlder), 3)),
				"an older Pod, after those that were out then were evicted": newScene(
					outside(restarted(db().OnDelete(), byEviction, ended(v1alpha1.ResultSucceeded), forNewer), 3),
				),
				"what succeeded for another finding": newScene(
					remediating, runs(restarted(cart(), ended(v1alpha1.ResultSucceeded)).Build(), stale, stale, stale),
				),
				"what succeeded when another revision was wanted": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultSucceeded), func(r *inventory.Restart) { r.Cause.Revision = "former" }), 3),
				),
				"a restart that was interrupted": newScene(outside(restarted(cart(), ended(v1alpha1.ResultInterrupted)), 3)),
				"a restart of the workload that had this name before": newScene(
					outside(restarted(cart(), ended(v1alpha1.ResultSucceeded)).UID("another"), 3),
				),
				"a template that was copied with the name of a restart in it": newScene(
					outside(cart().TemplateAnnotated(v1alpha1.RestartedByAnnotation, restartOf(cart().Build()).Name), 3),
				),
			},
		},
	}
}

// forNewer is a restart whose newest Pod to be replaced was a second newer than those that are outside now.
func forNewer(r *inventory.Restart) { r.Cause.Newest++ }

// twice is the Deployment cart after two restarts.
func twice(first, second v1alpha1.RestartResult) *builder.Workload[*appsv1.Deployment] {
	return restarted(restarted(cart(), ended(first)), ended(second), attempt(2), since(noon.Add(-90*time.Minute)))
}

// What is without effect for a reason that is not held against its workload is counted, in a row.
func TestExcusesAreCounted(t *testing.T) {
	excused := func(before int) tweak {
		return func(r *inventory.Restart) { r.Excused, r.Excuse = before, v1alpha1.ExcuseInjectorSilent }
	}
	for name, test := range map[string]struct {
		cart *builder.Workload[*appsv1.Deployment]
		want int
	}{
		"the first restart":                   {cart: cart(), want: 0},
		"after one that is excused":           {cart: restarted(cart(), ended(v1alpha1.ResultIneffective), excused(0)), want: 1},
		"after three":                         {cart: restarted(cart(), ended(v1alpha1.ResultIneffective), excused(2)), want: 3},
		"after one that came through":         {cart: restarted(cart(), ended(v1alpha1.ResultSucceeded), forOlder), want: 0},
		"after one that is excused no longer": {cart: restarted(cart(), ended(v1alpha1.ResultIneffective), decidedBy("1-else")), want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := only(t, newScene(outside(test.cart, 3)).decide())
			if got.Action != v1alpha1.ActionRestart || got.Restart.Excused != test.want {
				t.Errorf("%s: %s: %+v", got.Reason, got.Message, got.Restart)
			}
		})
	}
}

// An injector that answers dry runs and not controllers has a workload restarted four times: three are excused.
func TestRestartsWithoutEffectEnd(t *testing.T) {
	s := newScene(builder.Enforcing("mesh").Unbounded().StopAfter(100), outside(cart(), 3)).lettingPass()
	restarts := 0
	for {
		s.answer(restart.Check{Observed: sidecar(mesh.DefaultRevision), At: s.Now, Received: s.Now})
		due := only(t, s.decide())
		if due.Action != v1alpha1.ActionRestart {
			if due.Reason != restart.ReasonRestartIneffective {
				t.Errorf("%s: %s", due.Reason, due.Message)
			}
			break
		}
		if restarts++; restarts > 10 {
			t.Fatal("it goes on")
		}
		// It is restarted, and every Pod comes up without a sidecar.
		s.Now = s.Now.Add(time.Minute)
		pod := uninjectedAt(s.Now)
		begun := runs(cart().Restarted(written(due.Restart)).Build(), pod, pod, pod)
		s.Now = s.Now.Add(time.Minute)
		end := only(t, s.replacing(begun).decide())
		if resultOf(end) != v1alpha1.ResultIneffective {
			t.Fatalf("it ends as %q: %s", resultOf(end), end.Message)
		}
		s.replacing(runs(cart().Restarted(written(end.Restart)).Build(), pod, pod, pod))
		s.Now = s.Now.Add(time.Minute)
	}
	if restarts != 4 {
		t.Errorf("%d restarts, want 4", restarts)
	}
}

// written is the MeshRestart as the API server has it.
func written(r *inventory.Restart) *v1alpha1.MeshRestart {
	object := r.MeshRestart()
	object.UID, object.ResourceVersion = "restart-of-"+r.WorkloadUID, "1"
	object.CreationTimestamp.Time = r.Start
	return object
}

// replacing is the scene with other objects in the namespace shop, which asks for sidecars.
func (s *scene) replacing(objects []any) *scene {
	s.objects = nil
	return s.with(meshed("shop"), objects)
}
