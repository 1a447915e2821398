package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// writtenBy names who wrote a Deployment a minute ago.
func writtenBy(manager string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Time: new(metav1.NewTime(noon.Add(-time.Minute))), FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)}}}
	}
}

// remembers is what the report of the namespace shop says of restarts of the Deployment cart.
func remembers(cause inventory.Cause) func(*restart.Input) {
	return remembersRows(v1alpha1.RecentRestart{WorkloadReference: cartReference, Cause: cause.String()})
}

var cartReference = v1alpha1.WorkloadReference{Group: "apps", Kind: "Deployment", Name: "cart"}

// remembersRows is what the report of every namespace says of restarts.
func remembersRows(rows ...v1alpha1.RecentRestart) func(*restart.Input) {
	return func(in *restart.Input) {
		in.Reported = func(string) *v1alpha1.MeshReportStatus {
			return &v1alpha1.MeshReportStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady}}, Recent: rows}
		}
	}
}

// A restart that somebody took back is named with who did it, while it goes on and after its record has
// gone; it is not repeated, whoever took away what was written down, and whether this process or only
// the report remembers.
func TestRestartThatWasTakenBackIsNotRepeated(t *testing.T) {
	withoutCause := func(d *appsv1.Deployment) { d.Spec.Template.Annotations = nil }
	another := cartCause()
	another.UID = "of another Deployment"
	newer := cartCause()
	newer.Newest--
	for name, test := range map[string]struct {
		scene   *scene
		reason  restart.Reason
		result  v1alpha1.RestartResult
		message string
	}{
		"by GitOps, while it goes on": {
			newScene(runs(restarting().With(withoutCause).With(writtenBy("argocd-controller")).Build(), uninjected, uninjected, uninjected)), restart.ReasonRestartEnded, v1alpha1.ResultReverted, `field manager "argocd-controller"`},
		"by its owner, while it goes on": {
			newScene(runs(restarting().With(withoutCause).With(writtenBy("kubectl")).Build(), uninjected, uninjected, uninjected)), restart.ReasonRestartEnded, v1alpha1.ResultRolledBack, "by its owner (kubectl rollout undo"},
		"by GitOps, and its record is gone": {
			newScene(outside(cart().With(writtenBy("argocd-controller")), 3)).when(remembers(cartCause())), restart.ReasonRestartReverted, "", `field manager "argocd-controller"`},
		"by its owner, and its record is gone": {
			newScene(outside(cart().With(writtenBy("kubectl")), 3)).when(remembers(cartCause())), restart.ReasonRolledBack, "", "kubectl rollout undo"},
		"and its newest Pods are gone": {
			newScene(outside(cart(), 3)).when(func(in *restart.Input) {
				in.Started = func(types.UID) restart.Start { c := cartCause(); c.Newest++; return restart.Start{Cause: c.String()} }
			}), restart.ReasonRestartReverted, "", "taken away"},
		"but newer Pods are out":         {newScene(outside(cart(), 3)).when(remembers(newer)), restart.ReasonRestartDue, "", ""},
		"but it was another Deployment":  {newScene(outside(cart(), 3)).when(remembers(another)), restart.ReasonRestartDue, "", ""},
		"and its owner asks for another": {newScene(outside(cart().Annotated(v1alpha1.RetryAnnotation, "now"), 3)).when(remembers(cartCause())), restart.ReasonRestartDue, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Reason != test.reason || verdict.Record.Result != test.result && test.result != "" || !strings.Contains(verdict.Message+verdict.Record.Message, test.message) {
				t.Errorf("verdict %s with result %q: %s %s", verdict.Reason, verdict.Record.Result, verdict.Message, verdict.Record.Message)
			}
			if verdict.Action == v1alpha1.ActionHold && !strings.Contains(verdict.Message, `run: kubectl annotate deployment/cart -n shop fullmesh.dev/retry-requested="$(date)" --overwrite`) {
				t.Errorf("no cure: %s", verdict.Message)
			}
		})
	}
}

// What an owner rolls out while a restart goes on is not held against the restart.
func TestRolloutThatOvertakesARestartIsNamed(t *testing.T) {
	otherVersion := func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "app:2" }
	soon := builder.Enforcing("mesh").ProgressTimeout(60)
	for name, test := range map[string]struct {
		scene   *scene
		result  v1alpha1.RestartResult
		message string
	}{
		"the owner has rolled out another template since": {
			newScene(soon, runs(restarting().With(otherVersion).With(writtenBy("helm")).Build(), uninjected, uninjected, crashing)), v1alpha1.ResultInterrupted,
			`A rollout of its own, begun by field manager "helm" at 2026-11-23T11:59:00Z, overtook the restart and makes no progress (0 of 3 Pods are ready in the mesh); Pod cart-2, container app: CrashLoopBackOff`},
		"the owner had rolled it out before": {
			newScene(soon, runs(restarting().With(otherVersion).With(writtenBy("helm")).With(before).Build(), uninjected, uninjected, crashing)), v1alpha1.ResultFailed, "The restart has failed"},
		"the owner has written the same template again": {
			newScene(soon, runs(restarting().With(writtenBy("helm")).Build(), uninjected, uninjected, crashing)), v1alpha1.ResultFailed, "The restart has failed"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, test.scene.decide())
			if verdict.Record.Result != test.result || !strings.HasPrefix(verdict.Record.Message, test.message) {
				t.Errorf("it ended as %s: %s", verdict.Record.Result, verdict.Record.Message)
			}
		})
	}
}

// before puts what was written before the restarts of these tests.
func before(d *appsv1.Deployment) {
	d.ManagedFields[0].Time = new(metav1.NewTime(began.Add(-time.Minute)))
}
