package restart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"pgregory.net/rapid"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// Whatever happens, whenever it is learned of: nothing is begun that must not be (mayStart), and
// nothing loses its last ready Pod unasked (stayedUp).
func TestNothingIsBegunThatMustNotBe(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, true)
		w.learn()
		w.arrange = func(events []event) (now, later []event) {
			if len(events) == 0 {
				return nil, nil
			}
			shuffled := rearrange(events, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "place") })
			return cut(shuffled, rapid.IntRange(0, len(shuffled)).Draw(t, "learned of"))
		}
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			for range rapid.IntRange(0, 2).Draw(t, "disturbances") {
				w.disturb(t, disturbances)
			}
			w.step(rapid.SampledFrom([]time.Duration{stepTime, stepTime, time.Minute, 11 * time.Minute}).Draw(t, "passes"))
			w.learn()
			w.pass()
		}
	})
}

// cut learns of the first so many events; the rest, in the order in which they happened to each
// thing, is left for later.
func cut(events []event, at int) (now, later []event) {
	return events[:at], append([]event{}, events[at:]...)
}

// Where everybody is well and everything is accepted, everything is brought in, and in no more steps
// than it takes when one waits for the other.
func TestEverythingIsBroughtIn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, false)
		w.arrange = func(events []event) (now, later []event) {
			return rearrange(events, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "place") }), nil
		}
		bound := 10
		for _, a := range w.apps {
			bound += 10 + a.replicas()*4*int(1+a.startup/stepTime)
		}
		for step := 0; step < bound && !w.quiet(); step++ {
			w.tick()
		}
		for _, a := range w.apps {
			if meshed := a.count(func(p *pod) bool { return ready(p) && inMesh(p) }); meshed < a.replicas() && !w.neverFits(a) {
				t.Fatalf("%s has %s after %d steps:\n%s", a, a.describe(), bound, w.transcript.String())
			}
		}
		if !w.plan.NextChange.IsZero() {
			t.Fatalf("all is done, and yet time may change something at %s", w.plan.NextChange)
		}
	})
}

// Whatever has come and gone, what everybody asks for again is brought in when it is calm, without a word from
// anybody.
func TestEverythingIsBroughtInWhenItIsCalmAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, false)
		var replicas []int
		for _, a := range w.apps {
			replicas = append(replicas, a.replicas())
		}
		for range rapid.IntRange(1, 50).Draw(t, "steps") { // in less time than it takes a restart to fail
			for range rapid.IntRange(0, 2).Draw(t, "disturbances") {
				w.disturb(t, passing)
			}
			w.tick()
		}
		w.calm()
		for i, a := range w.apps {
			w.scale(a, int32(replicas[i])) // which disruption budgets fit
		}
		for step := 0; step < 1000 && !w.isBroughtIn(); step++ {
			w.tick()
		}
		for hour := 0; hour < 24 && !w.isBroughtIn(); hour++ { // breakers cool down
			w.wait(time.Hour)
			for step := 0; step < 100 && !w.isBroughtIn(); step++ {
				w.tick()
			}
		}
		for _, a := range w.apps {
			verdict := verdicts(w.plan)[a.cut().Key().String()]
			if !w.hasJoined(a) && !w.neverFits(a) && verdict.Reason != restart.ReasonUpdatePending {
				t.Fatalf("%s has %s, and is held: %s %s %s\n%s", a, a.describe(), verdict.Reason, verdict.ClearsBy, verdict.Message, w.transcript.String())
			}
		}
	})
}

// calm ends what may have been begun by passing disturbances.
func (w *world) calm() {
	w.say("It is calm.")
	w.stopped, w.guard, w.down = false, restart.GuardHolds, false
	w.setMode(v1alpha1.ModeEnforce)
	w.setWebhooks(istio)
	for _, node := range w.nodes {
		node.room = 100
		w.cordon(node.name, false)
	}
	for _, plane := range w.planes {
		plane.crashes = nil
		w.scale(plane, 1)
	}
	for _, namespace := range w.namespaces {
		w.label(namespace.Name, "istio-injection", "enabled")
	}
	for _, a := range w.apps {
		if d, is := a.object.(*appsv1.Deployment); is {
			w.change(a, func() { d.Spec.Paused = false })
		}
		if a.argo != nil {
			a.argo.waits, a.argo.givenUp = false, false
		}
		a.object.SetAnnotations(with(a.object.GetAnnotations(), v1alpha1.RestartAnnotation, ""))
		w.changed(a)
	}
}

func (w *world) isBroughtIn() bool {
	return w.plan != nil && !slices.ContainsFunc(w.apps, func(a *app) bool {
		return !w.hasJoined(a) && verdicts(w.plan)[a.cut().Key().String()].Reason != restart.ReasonUpdatePending
	})
}

func (w *world) hasJoined(a *app) bool {
	return a.count(func(p *pod) bool { return ready(p) && inMesh(p) }) >= a.replicas() && w.unfinished(a) == nil
}

// Time changes nothing before the moment that the plan names.
func TestNothingChangesBeforeTheNextChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, true)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			w.disturb(t, disturbances)
			w.tick()
		}
		w.pass()
		next := w.plan.NextChange
		later := w.now.Add(5 * time.Minute) // within which checks do not age
		if !next.IsZero() && !next.After(later) {
			later = next.Add(-time.Nanosecond)
		}
		if !later.After(w.now) {
			return
		}
		before := reasons(w.plan)
		w.now = later
		if after := reasons(w.decide()); after != before {
			t.Fatalf("from %s to %s, before %s:\n%s\nbecame\n%s", before, after, next, before, after)
		}
	})
}

func reasons(plan *restart.Plan) string {
	var text strings.Builder
	for _, namespace := range plan.Namespaces {
		for _, verdict := range namespace.Verdicts {
			fmt.Fprintf(&text, "%s %s %s\n", verdict.Workload.Key, verdict.Action, verdict.Reason)
		}
	}
	return text.String()
}

// What a policy in mode Report says is what it would say in mode Enforce, up to its mode: nothing is
// asked or done, and only where nobody would have to act for a restart does it say that the mode is why.
func TestReportSaysWhatEnforceWould(t *testing.T) {
	after := sets.New(restart.ReasonReportMode, restart.ReasonEvictionHeld)
	ofTheWorkload := sets.New(restart.ReasonWouldCauseDowntime, restart.ReasonStrictMTLS, restart.ReasonOwnedByOperator,
		restart.ReasonInjectedPodsFailing, restart.ReasonUpdatePending, restart.ReasonExceedsDisruptionBudget)
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, true)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			w.disturb(t, disturbances)
			w.tick()
		}
		w.setMode(v1alpha1.ModeEnforce)
		enforced := verdicts(w.decide())
		w.setMode(v1alpha1.ModeReport)
		reported := verdicts(w.decide())
		if len(enforced) != len(reported) {
			t.Fatalf("verdicts on %d workloads in Enforce and on %d in Report", len(enforced), len(reported))
		}
		for key, verdict := range reported {
			if verdict.Step == restart.StepRestart || verdict.Step == restart.StepCheck || verdict.Step == restart.StepEvict {
				t.Fatalf("%s: a policy that reports asks for step %d", key, verdict.Step)
			}
			if other := enforced[key]; !after.Has(verdict.Reason) && (other.Reason != verdict.Reason || other.Message != verdict.Message || other.Action != verdict.Action || other.Step != verdict.Step) {
				t.Fatalf("%s: %s in Report and %s in Enforce", key, verdict.Reason, other.Reason)
			}
			if other := enforced[key]; verdict.Reason == restart.ReasonReportMode && other.NeedsAction() && ofTheWorkload.Has(other.Reason) {
				t.Fatalf("%s: in Report only the mode is said to hold it, and in Enforce %s %s", key, other.Reason, other.Message)
			}
		}
	})
}

// world is a simulation of drawn workloads.
type world struct{ *simulation }

// drawWorld draws a cluster whose namespaces ask for sidecars now. One that is free has risks that
// nobody accepts and budgets that hold some up forever.
func drawWorld(t *rapid.T, free bool) *world {
	w := &world{newSimulation(t)}
	policy := builder.Enforcing("mesh").Settling(int32(rapid.SampledFrom([]int{2, 30, 60}).Draw(t, "settling")))
	var risks []v1alpha1.Risk
	if free {
		policy.ProgressTimeout(60).CoolDown(int32(rapid.SampledFrom([]int{60, 1200, 3600}).Draw(t, "cool-down"))).
			StopAfter(int32(rapid.IntRange(1, 3).Draw(t, "stop after")))
	}
	if !free || rapid.Bool().Draw(t, "downtime is accepted") {
		risks = append(risks, v1alpha1.RiskDowntime)
	}
	if !free || rapid.Bool().Draw(t, "strict mutual TLS is accepted") {
		risks = append(risks, v1alpha1.RiskStrictMTLS)
	}
	policy.Accepting(risks...).Soaking(int32(rapid.SampledFrom([]int{0, 0, 30, 90}).Draw(t, "soak")))
	if free && rapid.Bool().Draw(t, "windows") {
		policy.Window(v1alpha1.WindowAllow, "*/8 * * * *", int32(rapid.IntRange(2, 6).Draw(t, "open")), "")
	}
	for range rapid.IntRange(1, 3).Draw(t, "budgets") {
		scope := rapid.SampledFrom([]v1alpha1.BudgetScope{v1alpha1.BudgetScopePolicy, v1alpha1.BudgetScopeNamespace}).Draw(t, "scope")
		workloads := rapid.SampledFrom([]any{1, 2, 3, "1%", "34%", "50%", nil}).Draw(t, "workloads")
		pods := rapid.SampledFrom([]any{nil, 8, 12}).Draw(t, "pods")
		if free {
			pods = rapid.SampledFrom([]any{nil, 1, 2, 4, "10%", "50%"}).Draw(t, "few pods")
		}
		if workloads == nil && pods == nil {
			workloads = 1
		}
		policy.Budget(scope, workloads, pods)
	}
	w.setPolicy(policy)
	for n := range rapid.IntRange(0, 3).Draw(t, "nodes") {
		w.addNode(fmt.Sprintf("node%d", n), 100)
	}
	names := []string{"bank", "shop"}[:rapid.IntRange(1, 2).Draw(t, "namespaces")]
	for _, name := range names {
		if rapid.Bool().Draw(t, "injection is shown to work") {
			w.addNamespace(name)
		} else {
			w.addNewNamespace(name)
		}
	}
	for n := range rapid.IntRange(1, 6).Draw(t, "workloads") {
		a := w.drawApp(t, rapid.SampledFrom(names).Draw(t, "namespace"), fmt.Sprintf("app%d", n))
		a.startup = time.Duration(rapid.IntRange(0, 3).Draw(t, "startup")) * stepTime
	}
	if rapid.Bool().Draw(t, "a disruption budget") {
		// All workloads of a tier share it; it leaves room for one Pod of each.
		tier := rapid.SampledFrom(tiers).Draw(t, "tier")
		minimum := 0
		for _, a := range w.apps {
			if a.object.GetNamespace() == names[0] && a.template.Labels["tier"] == tier {
				minimum += a.replicas()
			}
		}
		w.addBudget(builder.DisruptionBudget(names[0], "tier").Covering("tier", tier), max(0, minimum-rapid.IntRange(0, 3).Draw(t, "room")))
		w.countBudgets()
	}
	for _, name := range names {
		w.label(name, "istio-injection", "enabled")
	}
	if rapid.Bool().Draw(t, "mutual TLS is strict") {
		w.setMutualTLS(names[0], "", "STRICT")
	}
	if rapid.Bool().Draw(t, "istiod runs here") {
		w.addControlPlane(mesh.DefaultRevision).startup = time.Duration(rapid.IntRange(0, 3).Draw(t, "startup of istiod")) * stepTime
	}
	return w
}

var tiers = []string{"data", "web"}

func (w *world) drawApp(t *rapid.T, namespace, name string) *app {
	replicas := int32(rapid.IntRange(1, 4).Draw(t, "replicas"))
	tier := rapid.SampledFrom(tiers).Draw(t, "tier")
	switch rapid.SampledFrom([]string{"Deployment", "Deployment", "StatefulSet", "DaemonSet", "Rollout"}).Draw(t, "kind") {
	case "StatefulSet":
		b := builder.StatefulSet(namespace, name).Replicas(replicas).Labelled("tier", tier).Unavailable(rapid.IntRange(1, 2).Draw(t, "unavailable"))
		if rapid.Bool().Draw(t, "on deletion") {
			b.OnDelete()
		}
		return add(w.simulation, b)
	case "DaemonSet":
		b := builder.DaemonSet(namespace, name).Labelled("tier", tier)
		if rapid.Bool().Draw(t, "surge") {
			b.Surge(1).Unavailable(0)
		}
		return add(w.simulation, b)
	case "Rollout":
		return addRollout(w.simulation, builder.Rollout(namespace, name).Replicas(int64(replicas)).Labelled("tier", tier).
			Unavailable(rapid.IntRange(0, 2).Draw(t, "unavailable")))
	default:
		b := builder.Deployment(namespace, name).Replicas(replicas).Labelled("tier", tier)
		switch rapid.SampledFrom([]string{"surge", "unavailable", "both", "Recreate"}).Draw(t, "strategy") {
		case "surge":
			b.Surge(1).Unavailable(0)
		case "unavailable":
			b.Surge(0).Unavailable(1)
		case "both":
			b.Surge("50%").Unavailable("50%")
		default:
			b.Recreate()
		}
		return add(w.simulation, b)
	}
}

// quiet reports whether nothing is left to be done or waited for.
func (w *world) quiet() bool {
	if w.plan == nil {
		return false
	}
	for _, verdict := range verdicts(w.plan) {
		if !verdict.NeedsAction() {
			return false
		}
	}
	return !slices.ContainsFunc(w.apps, func(a *app) bool { return w.unfinished(a) != nil })
}

// neverFits reports whether a disruption budget never lets a workload go.
func (w *world) neverFits(a *app) bool {
	for _, verdict := range verdicts(w.plan) {
		if verdict.Workload.Key == a.cut().Key() {
			return verdict.Reason == restart.ReasonExceedsDisruptionBudget && verdict.ClearsBy == v1alpha1.ClearedByOwner
		}
	}
	return false
}

// disturb does something that administrators, owners and clusters do.
func (w *world) disturb(t *rapid.T, by []string) {
	a := rapid.SampledFrom(w.apps).Draw(t, "workload")
	namespace := rapid.SampledFrom(w.namespaces).Draw(t, "namespace").Name
	switch rapid.SampledFrom(by).Draw(t, "disturbance") {
	case "label":
		w.label(namespace, "istio-injection", rapid.SampledFrom([]string{"enabled", "enabled", ""}).Draw(t, "value"))
	case "red button":
		w.stopped = !w.stopped
	case "mode":
		w.setMode(rapid.SampledFrom([]v1alpha1.Mode{v1alpha1.ModeEnforce, v1alpha1.ModeEnforce, v1alpha1.ModeReport}).Draw(t, "mode"))
	case "guard":
		w.guard = rapid.SampledFrom([]restart.Guard{restart.GuardHolds, restart.GuardHolds, restart.GuardMissing, restart.GuardUnknown}).Draw(t, "guard")
	case "webhooks":
		if rapid.Bool().Draw(t, "letting pass") {
			w.setWebhooks(lettingPass)
		} else {
			w.setWebhooks(istio)
		}
	case "injector":
		w.down, w.dryRunsPass = rapid.Bool().Draw(t, "down"), rapid.Bool().Draw(t, "dry runs pass")
	case "mutual TLS":
		w.setMutualTLS(namespace, "", rapid.SampledFrom([]string{"STRICT", "STRICT", "PERMISSIVE", "UNSET"}).Draw(t, "mode of mutual TLS"))
	case "node":
		if len(w.nodes) > 0 {
			node := rapid.SampledFrom(w.nodes).Draw(t, "node")
			node.room = rapid.SampledFrom([]int{100, 100, 4}).Draw(t, "room")
			w.cordon(node.name, rapid.Bool().Draw(t, "cordoned"))
			if node.cordoned && rapid.Bool().Draw(t, "drained") {
				w.drain(node.name)
			}
		}
	case "control plane":
		w.disturbControlPlane(t)
	case "crash":
		a.crashes = rapid.SampledFrom([]func(*pod) bool{nil, inMesh, running}).Draw(t, "crashes")
	case "scale":
		w.scale(a, int32(rapid.IntRange(0, 4).Draw(t, "replicas")))
	case "template":
		w.setTemplate(a, "changed", fmt.Sprint(w.version))
	case "ask again":
		value := fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "request"))
		switch rapid.IntRange(0, 2).Draw(t, "asked of") {
		case 0:
			w.ask(a, value)
		case 1:
			w.ask(w.namespace(namespace), value)
		default:
			w.ask(w.policies[0].Name, value)
		}
	case "fail over":
		w.failOver()
	case "delete":
		if len(w.apps) > 1 {
			w.delete(a)
		}
	case "rename":
		// Another policy, as good as the former one, governs the same.
		policy := w.policies[0].DeepCopy()
		policy.Name += "'"
		policy.Status = v1alpha1.MeshPolicyStatus{}
		w.policies[0] = policy
	case "die":
		w.dies = rapid.SampledFrom([]string{"create", "touch", "round"}).Draw(t, "dies after")
	case "revert":
		if a.argo != nil {
			w.change(a, func() { a.setRestartAt(time.Time{}) })
		} else {
			w.setTemplate(a, v1alpha1.RestartedByAnnotation, "")
		}
	case "step":
		if a.argo != nil {
			a.argo.waits = rapid.Bool().Draw(t, "update waits")
			a.argo.givenUp = rapid.Bool().Draw(t, "update is given up")
		}
	case "owner's restart":
		if a.argo != nil {
			at := w.now.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "in")) * stepTime)
			w.change(a, func() { a.setRestartAt(at) })
		}
	case "pause":
		if d, is := a.object.(*appsv1.Deployment); is {
			w.change(a, func() { d.Spec.Paused = !d.Spec.Paused })
		}
	case "opt out":
		a.object.SetAnnotations(with(a.object.GetAnnotations(), v1alpha1.RestartAnnotation, rapid.SampledFrom([]string{"", "disabled"}).Draw(t, "opt out")))
		w.changed(a)
	case "Pod":
		if len(a.pods) > 0 {
			a.disturbed = true
			a.remove(w.simulation, rapid.SampledFrom(a.pods).Draw(t, "Pod"))
		}
	}
}

var disturbances = []string{"label", "red button", "mode", "guard", "webhooks", "injector", "control plane", "node", "mutual TLS", "crash", "scale", "template", "revert", "ask again", "ask again", "fail over", "delete", "rename", "die", "die", "step", "owner's restart", "pause", "opt out", "Pod",
	"nothing", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing"}

// passing are those after which nobody has to be told anything: no restart fails by them, and none is taken back.
var passing = []string{"label", "label", "injector", "injector", "webhooks", "webhooks", "Pod", "Pod", "Pod", "scale", "red button", "mode", "guard", "control plane", "node", "template", "fail over", "die", "rename", "pause", "opt out",
	"nothing", "nothing", "nothing", "nothing", "nothing", "nothing"}

func (w *world) disturbControlPlane(t *rapid.T) {
	for _, plane := range w.planes {
		switch rapid.SampledFrom([]string{"upgrade", "crash", "recover", "scale"}).Draw(t, "control plane") {
		case "upgrade":
			w.setTemplate(plane, "changed", fmt.Sprint(w.version))
		case "crash":
			plane.crashes = running
		case "recover":
			plane.crashes = nil
		case "scale":
			w.scale(plane, int32(rapid.IntRange(0, 3).Draw(t, "replicas of istiod")))
		}
	}
}

func (w *world) setMode(mode v1alpha1.Mode) {
	policy := w.policies[0].DeepCopy()
	policy.Spec.Mode = mode
	w.policies[0] = policy
}
