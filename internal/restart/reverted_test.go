package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
)

// writtenBy names who wrote a Deployment a minute ago.
func writtenBy(manager string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.ManagedFields = []metav1.ManagedFieldsEntry{
			{
				Manager:   manager,
				Operation: metav1.ManagedFieldsOperationUpdate,
				Time:      new(metav1.NewTime(noon.Add(-time.Minute))),
				FieldsV1:  &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)},
			},
		}
	}
}

// A restart that somebody took back is named with who did it. What its owner undid has failed: nothing is evicted
// after it.
func TestRestartThatWasTakenBackIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		cart    *builder.Workload[*appsv1.Deployment]
		result  v1alpha1.RestartResult
		message string
	}{
		"by GitOps": {
			cart: takenBack().With(writtenBy("argocd-controller")), result: v1alpha1.ResultReverted,
			message: "The annotation fullmesh.dev/restarted-by was taken off the template, most likely by field manager \"argocd-controller\" " +
				"(at 2026-11-23T11:59:00Z), or never landed there. Have whatever manages the workload keep fullmesh.dev/ annotations.",
		},
		"by kubectl rollout undo": {
			cart: takenBack().With(writtenBy("kubectl")), result: v1alpha1.ResultFailed,
			message: "Its owner rolled the restart back (kubectl rollout undo, at 2026-11-23T11:59:00Z).",
		},
		"by somebody": {
			cart: takenBack(), result: v1alpha1.ResultReverted,
			message: "The annotation fullmesh.dev/restarted-by was taken off the template, or never landed there. Have whatever manages the " +
				"workload keep " +
				"fullmesh.dev/ annotations.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, newScene(outside(test.cart, 3)).decide())
			if resultOf(verdict) != test.result || verdict.Restart.Message != test.message {
				t.Errorf("it ended as %q: %s %s", resultOf(verdict), verdict.Message, verdict.Restart.Message)
			}
		})
	}
}

// What an owner rolls out while a restart goes on is not held against the restart.
func TestRolloutThatOvertakesARestartIsNamed(t *testing.T) {
	soon := builder.Enforcing("mesh").ProgressTimeout(60)
	for name, test := range map[string]struct {
		scene   *scene
		result  v1alpha1.RestartResult
		message string
	}{
		"the owner has rolled out another template since": {
			scene: newScene(
				soon, runs(restarting().With(otherVersion).With(writtenBy("helm")).Build(), uninjected, uninjected, crashing),
			), result: v1alpha1.ResultInterrupted,
			message: `A rollout of its own, started by field manager "helm" at 2026-11-23T11:59:00Z, overtook the restart and makes no progress ` +
				"(0 of 3 Pods are ready in the mesh); Pod cart-2, container app: CrashLoopBackOff",
		},
		"the owner had rolled it out before": {
			scene: newScene(
				soon, runs(restarting().With(otherVersion).With(writtenBy("helm")).With(before).Build(), uninjected, uninjected, crashing),
			), result: v1alpha1.ResultFailed,
			message: "The restart has failed",
		},
		"the owner has written the same template again": {
			scene: newScene(
				soon, runs(restarting().With(writtenBy("helm")).Build(), uninjected, uninjected, crashing),
			), result: v1alpha1.ResultFailed,
			message: "The restart has failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if resultOf(verdict) != test.result || !strings.HasPrefix(verdict.Restart.Message, test.message) {
				t.Errorf("it ended as %s: %s", verdict.Restart.Result, verdict.Restart.Message)
			}
		})
	}
}

// before puts what was written before the restarts of these tests.
func before(d *appsv1.Deployment) {
	d.ManagedFields[0].Time = new(metav1.NewTime(began.Add(-time.Minute)))
}
