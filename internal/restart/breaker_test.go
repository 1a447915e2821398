package restart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// tried is a Deployment, with its Pods outside, whose restart ended so long ago.
func tried(namespace, name string, result v1alpha1.RestartResult, ago time.Duration, changes ...func(*inventory.Record)) []any {
	uid := types.UID("deployment-" + namespace + "-" + name)
	record := inventory.NewRecord(inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: uid, Newest: yesterday.Unix()},
		"RolloutRestart", decidedOf(namespace, name), noon.Add(-ago-time.Minute))
	record.Replicas, record.Ready = 3, 3
	for _, change := range changes {
		change(&record)
	}
	if result != "" {
		record = record.Ended(result, "It has ended.", noon.Add(-ago))
	}
	pod := uninjected
	if result == v1alpha1.ResultSucceeded {
		pod = injected
	}
	return runs(deployment(namespace, name).Annotated(v1alpha1.LastRestartAnnotation, record.String()).
		TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Build(), pod, pod, pod)
}

// decidedOf is the hash over what decides about a Deployment.
func decidedOf(namespace, name string) string {
	s := newScene(meshed(namespace), outside(deployment(namespace, name), 3))
	return verdicts(s.decide())[fmt.Sprintf("Deployment %s/%s", namespace, name)].Record.Decided
}

func failedAgo(namespace, name string, ago time.Duration, changes ...func(*inventory.Record)) []any {
	return tried(namespace, name, v1alpha1.ResultFailed, ago, changes...)
}

// probe makes a restart the probe of a policy's breaker, of such a number.
func probe(number int) func(*inventory.Record) {
	return func(record *inventory.Record) { record.Probe.Policy = number }
}

// ofNamespace makes a restart the first probe of the breaker of its namespace.
func ofNamespace(record *inventory.Record) { record.Probe.Namespace = 1 }

// ofInjector makes a restart the probe of an injector's breaker, of such a number.
func ofInjector(number int) func(*inventory.Record) {
	return func(record *inventory.Record) { record.Probe.Injector = number }
}

// decided is by what a restart was decided.
func decided(by string) func(*inventory.Record) {
	return func(record *inventory.Record) { record.Decided = by }
}

func inNamespaces(names ...string) []any {
	var all []any
	for _, name := range names {
		all = append(all, meshed(name))
	}
	return all
}

// breaks is a case of restarts that were tried before, and of what becomes of the Deployment cart.
type breaks struct {
	scene    *scene
	reason   restart.Reason
	clearsBy v1alpha1.ClearedBy
	message  string
	// until is how long from now the breaker is tried.
	until time.Duration
}

func TestBreakers(t *testing.T) {
	const minute = time.Minute
	policy := func() *builder.PolicyBuilder { return builder.Enforcing("mesh").Unbounded() }
	three := func(ago time.Duration, changes ...func(*inventory.Record)) []any {
		return append(append(append(inNamespaces("a", "b", "c"), failedAgo("a", "x", ago+2*minute)...), failedAgo("b", "x", ago+minute)...), failedAgo("c", "x", ago, changes...)...)
	}
	target := outside(cart(), 3)
	status := func(breaker v1alpha1.BreakerStatus) *v1alpha1.MeshPolicy {
		object := policy().Build()
		object.Status.Breaker = &breaker
		return object
	}
	// trying is the status while a workload is tried alone, after so many that failed.
	trying := func(key string, failed int32) *v1alpha1.MeshPolicy {
		return status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Probe: key, ProbesFailed: &failed})
	}
	injecting := func(breaker v1alpha1.BreakerStatus) *v1alpha1.MeshPolicy {
		object := policy().Build()
		object.Status.InjectorBreakers = []v1alpha1.InjectorBreaker{{Revision: "default", Breaker: breaker}}
		return object
	}
	at := func(ago time.Duration) *metav1.Time { return new(metav1.NewTime(noon.Add(-ago))) }
	for name, test := range map[string]breaks{
		"two failed workloads do not stop a policy": {
			newScene(target, meshed("a"), meshed("b"), failedAgo("a", "x", minute), failedAgo("b", "x", minute)), restart.ReasonRestartDue, "", "", 0},
		"three do": {
			newScene(target, three(minute)), restart.ReasonBreakerOpen, byTime, "the restarts of 3 workloads have failed (Deployment c/x, Deployment b/x, Deployment a/x). At 2026-11-23T12:59:00Z one more is tried alone. To go on before that, mend what is wrong and run: kubectl annotate meshpolicy/mesh fullmesh.dev/retry-requested=", 59 * minute},
		"as many as the policy says": {
			newScene(policy().StopAfter(1), target, meshed("a"), failedAgo("a", "x", minute)), restart.ReasonBreakerOpen, byTime, "1 workloads have failed", 59 * minute},
		"not before as many as the policy says": {
			newScene(policy().StopAfter(4), target, three(minute)), restart.ReasonRestartDue, "", "", 0},
		"for as long as the policy says": {
			newScene(policy().CoolDown(300), target, three(minute)), restart.ReasonBreakerOpen, byTime, "12:04:00Z", 4 * minute},
		"then one is tried": {
			newScene(policy().CoolDown(300), target, three(5*minute)), restart.ReasonRestartDue, "", "", 0},
		"one whose template was mended does not count": {
			newScene(target, meshed("a"), failedAgo("a", "x", minute), meshed("b"), failedAgo("b", "x", minute), meshed("c"),
				failedAgo("c", "x", minute, func(r *inventory.Record) { r.Decided = "something else" })), restart.ReasonRestartDue, "", "", 0},
		"one that was asked for again does not count": {
			newScene(target, meshed("a"), failedAgo("a", "x", minute), meshed("b"), failedAgo("b", "x", minute),
				builder.Namespace("c").Labelled("istio-injection", "enabled").CreatedAt(yesterday).Build(), asking(failedAgo("c", "x", minute))), restart.ReasonRestartDue, "", "", 0},
		"one that another policy governs does not count": {
			newScene(target, three(minute)).labelled("c", "team", "other").governedBy(policy(), builder.Enforcing("other").Unbounded().Priority(1).Over("team", "other")), restart.ReasonRestartDue, "", "", 0},
		"one that failed in the future does not count": {
			newScene(target, three(-11*minute)), restart.ReasonRestartDue, "", "", 0},
		"one by a clock that is ahead does": {
			newScene(target, three(-9*minute)), restart.ReasonBreakerOpen, byTime, "", 69 * minute},
		"while a probe is in flight nothing else is": {
			newScene(trying("Deployment d/x", 0), target, three(61*minute), meshed("d"), tried("d", "x", "", minute, probe(1))), restart.ReasonBreakerOpen, byCluster, "Deployment d/x is restarted alone, to see whether it goes well now.", 0},
		"nor while this process has begun it, and that is not yet written down": {
			newScene(target, three(61*minute), meshed("d"), tried("d", "x", "", minute, probe(1))).hasBegun("d", "x"), restart.ReasonBreakerOpen, byCluster, "Deployment d/x is restarted alone", 0},
		"one in flight that says so of itself is no probe": {
			newScene(trying("Deployment d/y", 0), target, three(61*minute), meshed("d"), tried("d", "x", "", minute, probe(1))), restart.ReasonBreakerOpen, byCluster, "One more is tried alone when those in flight have ended.", 0},
		"a probe waits for what was in flight before": {
			newScene(target, three(61*minute), meshed("d"), tried("d", "x", "", minute)), restart.ReasonBreakerOpen, byCluster, "One more is tried alone when those in flight have ended.", 0},
		"a probe that failed doubles the wait": {
			newScene(trying("Deployment c/x", 0), target, three(minute, probe(1))), restart.ReasonBreakerOpen, byTime, "", 119 * minute},
		"another one doubles it again": {
			newScene(trying("Deployment c/x", 1), target, three(minute, probe(2))), restart.ReasonBreakerOpen, byTime, "", 239 * minute},
		"whatever number is written on it, it is one": {
			newScene(trying("Deployment c/x", 0), target, three(minute, probe(3))), restart.ReasonBreakerOpen, byTime, "", 119 * minute},
		"one that is no probe by the status is none": {
			newScene(trying("Deployment d/x", 0), target, three(minute, probe(3))), restart.ReasonBreakerOpen, byTime, "", 59 * minute},
		"nor is the one that was a probe once": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Probe: "Deployment c/x"}), target, three(minute, probe(3))), restart.ReasonBreakerOpen, byTime, "", 59 * minute},
		"after three somebody must ask": {
			newScene(trying("Deployment c/x", 2), target, three(1000*minute, probe(3))), restart.ReasonBreakerOpen, byAdmin, "Each of 3 more that were tried alone failed as well. Mend what is wrong and run: kubectl annotate meshpolicy/mesh", 0},
		"a probe that came well closes it": {
			newScene(trying("Deployment d/x", 0), target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute, probe(1))), restart.ReasonRestartDue, "", "", 0},
		"one that came well and says of itself that it is a probe does not": {
			newScene(trying("Deployment d/y", 0), target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute, probe(1))), restart.ReasonBreakerOpen, byTime, "", 50 * minute},
		"a restart that came well and was no probe does not": {
			newScene(target, three(10*minute), meshed("d"), tried("d", "x", v1alpha1.ResultSucceeded, minute)), restart.ReasonBreakerOpen, byTime, "", 50 * minute},
		"a probe that came well is remembered by the status": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed, ClearedTime: at(minute)}), target, three(10*minute)), restart.ReasonRestartDue, "", "", 0},
		"the status does not close it": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed}), target, three(10*minute)), restart.ReasonBreakerOpen, byTime, "", 50 * minute},
		"nor does a probe in the future": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed, ClearedTime: at(-time.Hour)}), target, three(10*minute)), restart.ReasonBreakerOpen, byTime, "", 50 * minute},
		"nor does it open it": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(minute), ProbesFailed: new(int32(3))}), target), restart.ReasonRestartDue, "", "", 0},
		"failed probes are remembered by the status when their workloads are gone": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(9 * minute), LastFailureTime: at(minute), ProbesFailed: new(int32(1))}), target, three(10*minute)),
			restart.ReasonBreakerOpen, byTime, "", 119 * minute},
		"not those before an administrator asked": {
			newScene(asked(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(9 * minute), LastFailureTime: at(minute), ProbesFailed: new(int32(1))})), target, three(minute)),
			restart.ReasonBreakerOpen, byTime, "", 59 * minute},
		"nor those of a breaker that opened in the future": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(-11 * minute), ProbesFailed: new(int32(1))}), target, three(minute)), restart.ReasonBreakerOpen, byTime, "", 59 * minute},
		"one that failed in the future puts nothing off": {
			newScene(status(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(9 * minute), LastFailureTime: at(-11 * minute), ProbesFailed: new(int32(1))}), target, three(minute)), restart.ReasonBreakerOpen, byTime, "", 119 * minute},
		"those that the policy leaves out do not count": {
			newScene(policy().Selecting("tier", "web"), outside(cart().Labelled("tier", "web"), 3), three(minute)), restart.ReasonRestartDue, "", "", 0},
		"nor does one that it leaves out close it": {
			newScene(leavingOut(trying("Deployment d/x", 0)), target, three(10*minute), meshed("d"), leftOut(tried("d", "x", v1alpha1.ResultSucceeded, minute, probe(1)))), restart.ReasonBreakerOpen, byTime, "", 50 * minute},
		"an administrator who asked has a namespace forget its probes as well": {
			newScene(asked(policy().Build()), target, failedAgo("shop", "x", minute), failedAgo("shop", "y", minute)).
				when(reporting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(9 * minute), ProbesFailed: new(int32(1))})), restart.ReasonNamespaceBreakerOpen, byTime, "", 59 * minute},
		"and otherwise it remembers them": {
			newScene(target, failedAgo("shop", "x", minute), failedAgo("shop", "y", minute)).
				when(reporting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: at(9 * minute), ProbesFailed: new(int32(1))})), restart.ReasonNamespaceBreakerOpen, byTime, "", 119 * minute},
		"two failed workloads stop their namespace": {
			newScene(target, failedAgo("shop", "x", minute), failedAgo("shop", "y", minute)), restart.ReasonNamespaceBreakerOpen, byTime,
			`Nothing more is restarted in this namespace: the restarts of 2 workloads have failed (Deployment shop/y, Deployment shop/x). At 2026-11-23T12:59:00Z one more is tried alone. To go on before that, mend what is wrong and run: kubectl annotate namespace/shop fullmesh.dev/retry-requested="$(date)" --overwrite`, 59 * minute},
		"and no other": {
			newScene(target, meshed("bank"), failedAgo("bank", "x", minute), failedAgo("bank", "y", minute)), restart.ReasonRestartDue, "", "", 0},
		"no more of one namespace count than stop it": {
			newScene(target, meshed("a"), failedAgo("a", "x", minute), failedAgo("a", "y", minute), failedAgo("a", "z", minute)), restart.ReasonRestartDue, "", "", 0},
		"the newest of them do": {
			newScene(target, inNamespaces("a", "b"), failedAgo("a", "x", 3*minute), failedAgo("a", "y", minute), failedAgo("a", "z", minute), failedAgo("b", "x", 2*minute)),
			restart.ReasonBreakerOpen, byTime, "3 workloads have failed (Deployment a/z, Deployment a/y, Deployment b/x)", 59 * minute},
		"one by which a namespace that had stopped was tried does not": {
			newScene(policy().StopAfter(1), target, meshed("a"), failedAgo("a", "x", minute, ofNamespace)), restart.ReasonRestartDue, "", "", 0},
		"one by which its policy was tried as well does": {
			newScene(policy().StopAfter(1), target, meshed("a"), failedAgo("a", "x", minute, ofNamespace, probe(1))), restart.ReasonBreakerOpen, byTime, "", 0},
		"three that brought no sidecar stop their injector": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", minute), inVain("bank", "y", minute), inVain("desk", "x", minute)).checkedSince(),
			restart.ReasonInjectorBreakerOpen, byTime, `Nothing more is restarted under injector revision "default": the restarts of 3 workloads brought no sidecar, one after the other`, 59 * minute},
		"three of another namespace do not": {
			newScene(target, meshed("bank"), inVain("bank", "x", minute), inVain("bank", "y", minute), inVain("bank", "z", minute)).checkedSince(), restart.ReasonRestartDue, "", "", 0},
		"three of its own namespace do": {
			newScene(target, inVain("shop", "x", minute), inVain("shop", "y", minute), inVain("shop", "z", minute)).checkedSince(), restart.ReasonInjectorBreakerOpen, byTime,
			`Nothing more is restarted under injector revision "default" in this namespace: the restarts of 3 workloads brought no sidecar`, 59 * minute},
		"of which one goes first, later": {
			newScene(target, outside(deployment("shop", "aaa"), 3), inVain("shop", "x", 61*minute), inVain("shop", "y", 61*minute), inVain("shop", "z", 61*minute)).checkedSince(),
			restart.ReasonInjectorBreakerOpen, byCluster, "Deployment shop/aaa is restarted alone, to see whether it goes well now.", 0},
		"and goes alone": {
			newScene(target, tried("shop", "aaa", "", minute, ofInjector(1)), inVain("shop", "x", 61*minute), inVain("shop", "y", 61*minute), inVain("shop", "z", 61*minute)).checkedSince(),
			restart.ReasonInjectorBreakerOpen, byCluster, "Deployment shop/aaa is restarted alone, to see whether it goes well now.", 0},
		"unless one came well since": {
			newScene(target, inVain("shop", "x", 2*minute), inVain("shop", "y", 2*minute), inVain("shop", "z", 2*minute), tried("shop", "well", v1alpha1.ResultSucceeded, minute)).checkedSince(),
			restart.ReasonRestartDue, "", "", 0},
		"three by which something else had decided do not": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", minute), inVain("bank", "y", minute), inVain("desk", "x", minute, decided("something else"))).checkedSince(),
			restart.ReasonRestartDue, "", "", 0},
		"three that are excused do": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", minute), inVain("bank", "y", minute), inVain("desk", "x", minute, decided(""))).checkedSince(),
			restart.ReasonInjectorBreakerOpen, byTime, "", 59 * minute},
		"two do not": {
			newScene(target, meshed("bank"), inVain("bank", "x", minute), inVain("bank", "y", minute)).checkedSince(), restart.ReasonRestartDue, "", "", 0},
		"nor do three where one came well since": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", 2*minute), inVain("bank", "y", 2*minute), inVain("desk", "z", 2*minute),
				tried("bank", "well", v1alpha1.ResultSucceeded, minute)).checkedSince(), restart.ReasonRestartDue, "", "", 0},
		"whatever says that it comes well in the future": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", 2*minute), inVain("bank", "y", 2*minute), inVain("desk", "z", 2*minute),
				tried("bank", "ahead", v1alpha1.ResultSucceeded, -11*minute), tried("desk", "well", v1alpha1.ResultSucceeded, minute)).checkedSince(), restart.ReasonRestartDue, "", "", 0},
		"which alone is nothing": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", 2*minute), inVain("bank", "y", 2*minute), inVain("desk", "z", 2*minute),
				tried("bank", "ahead", v1alpha1.ResultSucceeded, -11*minute)).checkedSince(), restart.ReasonInjectorBreakerOpen, byTime, "", 58 * minute},
		"one that came well does not close it": {
			newScene(injecting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen}), target, inNamespaces("bank", "desk"), inVain("bank", "x", 2*minute), inVain("bank", "y", 2*minute), inVain("desk", "z", 2*minute),
				tried("bank", "well", v1alpha1.ResultSucceeded, minute, ofInjector(1))).checkedSince(), restart.ReasonInjectorBreakerOpen, byTime, "", 58 * minute},
		"the one by which it was tried does": {
			newScene(injecting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Probe: "Deployment bank/well"}), target, inNamespaces("bank", "desk"), inVain("bank", "x", 2*minute), inVain("bank", "y", 2*minute), inVain("desk", "z", 2*minute),
				tried("bank", "well", v1alpha1.ResultSucceeded, minute, ofInjector(1))).checkedSince(), restart.ReasonRestartDue, "", "", 0},
		"while it is tried nothing else is": {
			newScene(injecting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Probe: "Deployment bank/well"}), target, inNamespaces("bank", "desk"), inVain("bank", "x", 62*minute), inVain("bank", "y", 62*minute), inVain("desk", "z", 62*minute),
				tried("bank", "well", "", minute, ofInjector(1))).checkedSince(), restart.ReasonInjectorBreakerOpen, byCluster, "Deployment bank/well is restarted alone", 0},
		"unless what is in flight only says so of itself": {
			newScene(injecting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen}), target, inNamespaces("bank", "desk"), inVain("bank", "x", 62*minute), inVain("bank", "y", 62*minute), inVain("desk", "z", 62*minute),
				tried("bank", "well", "", minute, ofInjector(1))).checkedSince(), restart.ReasonInjectorBreakerOpen, byCluster, "when those in flight have ended", 0},
		"when it failed again it waits longer": {
			newScene(injecting(v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Probe: "Deployment desk/z", ProbesFailed: new(int32(1))}), target, inNamespaces("bank", "desk"), inVain("bank", "x", 2*minute), inVain("bank", "y", 2*minute), inVain("desk", "z", minute, ofInjector(2))).checkedSince(),
			restart.ReasonInjectorBreakerOpen, byTime, "", 239 * minute},
		"nor do three by which the injector has changed since": {
			newScene(target, inNamespaces("bank", "desk"), inVain("bank", "x", 10*minute), inVain("bank", "y", 10*minute), inVain("desk", "z", 10*minute)).injectorChangedAt(noon.Add(-5 * minute)).checkedSince(),
			restart.ReasonRestartDue, "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			plan := test.scene.decide()
			verdict := verdicts(plan)["Deployment shop/cart"]
			if verdict.Reason != test.reason || verdict.ClearsBy != test.clearsBy || !strings.Contains(verdict.Message, test.message) {
				t.Errorf("verdict %s, cleared by %q: %s", verdict.Reason, verdict.ClearsBy, verdict.Message)
			}
			if until := verdict.Until.Sub(noon); test.until != 0 && (until != test.until || plan.NextLook.After(verdict.Until)) {
				t.Errorf("it is tried in %s and looked at in %s", until, plan.NextLook.Sub(noon))
			}
		})
	}
}

// asked is a policy that was asked five minutes ago to try again.
func asked(policy *v1alpha1.MeshPolicy) *v1alpha1.MeshPolicy {
	policy.Status.RetryServed = &v1alpha1.ServedRetry{Value: "then", Time: metav1.NewTime(noon.Add(-5 * time.Minute))}
	return policy
}

// leavingOut has a policy govern no workload with the label tier, which leftOut adds.
func leavingOut(policy *v1alpha1.MeshPolicy) *v1alpha1.MeshPolicy {
	policy.Spec.WorkloadSelector = &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	return policy
}

func leftOut(objects []any) []any {
	template := &objects[0].(*appsv1.Deployment).Spec.Template
	template.Labels = with(template.Labels, "tier", "legacy")
	return objects
}

// reporting has every report say how the breaker of its namespace stands.
func reporting(breaker v1alpha1.BreakerStatus) func(*restart.Input) {
	return func(in *restart.Input) {
		in.Reported = func(string) *v1alpha1.MeshReportStatus { return &v1alpha1.MeshReportStatus{Breaker: &breaker} }
	}
}

// A policy tells of no more injectors than its status has room for.
func TestOpenBreakersOfManyInjectors(t *testing.T) {
	s := newScene(inNamespaces("a", "b"))
	for revision := range v1alpha1.MaxInjectorBreakers + 1 {
		of := func(record *inventory.Record) {
			cause, _ := inventory.ParseCause(record.Cause)
			cause.Revision, record.Decided = fmt.Sprintf("r%02d", revision), ""
			record.Cause = cause.String()
		}
		s.with(inVain("a", fmt.Sprintf("x%d", revision), time.Minute, of), inVain("a", fmt.Sprintf("y%d", revision), time.Minute, of), inVain("b", fmt.Sprintf("x%d", revision), time.Minute, of))
	}
	for _, standing := range s.decide().Policies {
		if got := len(standing.Injectors); got != v1alpha1.MaxInjectorBreakers {
			t.Errorf("%d injectors are told of", got)
		}
	}
}

// asking adds the owner's request for another try to a workload.
func asking(objects []any) []any {
	objects[0].(*appsv1.Deployment).Annotations[v1alpha1.RetryAnnotation] = "now"
	return objects
}

// inVain is a Deployment whose restart ended so long ago and brought no sidecar.
func inVain(namespace, name string, ago time.Duration, changes ...func(*inventory.Record)) []any {
	return tried(namespace, name, v1alpha1.ResultIneffective, ago, changes...)
}

// hasBegun says that this process has begun the restart of a Deployment.
func (s *scene) hasBegun(namespace, name string) *scene {
	uid := types.UID("deployment-" + namespace + "-" + name)
	cause := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: uid, Newest: yesterday.Unix()}
	s.Started = startOf(uid, restart.Start{Cause: cause.String(), At: noon.Add(-2 * time.Minute)})
	return s
}

// checkedSince answers every dry run after all that has happened.
func (s *scene) checkedSince() *scene {
	return s.answer(restart.Check{Observed: sidecar("default"), At: noon.Add(time.Second), Received: noon})
}

// What a restart that begins as a probe writes down says so.
func TestProbeIsWrittenDown(t *testing.T) {
	object := builder.Enforcing("mesh").Unbounded().CoolDown(60).Build()
	object.Status.Breaker = &v1alpha1.BreakerStatus{State: v1alpha1.BreakerProbing, Probe: "Deployment c/x"}
	s := newScene(object, outside(cart(), 3), outside(deployment("shop", "pay"), 3),
		inNamespaces("a", "b", "c"), failedAgo("a", "x", time.Hour), failedAgo("b", "x", time.Hour), failedAgo("c", "x", time.Hour, probe(1)),
		failedAgo("shop", "x", time.Hour), failedAgo("shop", "y", time.Hour))
	plan := s.decide()
	given := verdicts(plan)
	if got := given["Deployment shop/cart"]; got.Step != restart.StepRestart || got.Record.Probe != (inventory.Probe{Policy: 2, Namespace: 1}) {
		t.Errorf("the probe: step %d, %+v: %s", got.Step, got.Record.Probe, got.Message)
	}
	if got := given["Deployment shop/pay"]; got.Reason != restart.ReasonBreakerOpen || !strings.Contains(got.Message, "Deployment shop/cart is restarted alone") {
		t.Errorf("the other one: %s: %s", got.Reason, got.Message)
	}
	for _, standing := range plan.Policies {
		if breaker := standing.Breaker; breaker.State != v1alpha1.BreakerProbing || breaker.Probe != "Deployment shop/cart" || *breaker.ProbesFailed != 1 || *breaker.FailedWorkloads != 5 || breaker.RetryTime != nil || len(breaker.Failed) != 5 {
			t.Errorf("the policy's breaker is told as %+v", breaker)
		}
	}
}

// What is tried under an open breaker is what costs the least where it fails.
func TestTheSmallestIsTried(t *testing.T) {
	const ago = 6 * time.Minute
	huge := func(namespace string) []any { return outside(deployment(namespace, "huge").Replicas(9).RolledOut(), 9) }
	small := func(namespace string) []any {
		return outside(deployment(namespace, "small").Replicas(2).RolledOut(), 2)
	}
	three := append(append(failedAgo("a", "x", ago), failedAgo("b", "x", ago)...), failedAgo("c", "x", ago)...)
	vain := append(append(inVain("a", "x", ago), inVain("b", "x", ago)...), inVain("c", "x", ago)...)
	for name, test := range map[string]struct {
		objects []any
		want    string
	}{
		"of a large one and a small one, the small one":                {[]any{three, huge("aa"), small("shop")}, "Deployment shop/small"},
		"nothing of a namespace in which something has failed":         {[]any{three, small("a"), huge("shop")}, "Deployment shop/huge"},
		"nor of one in which something was in vain":                    {[]any{vain, small("a"), huge("shop")}, "Deployment shop/huge"},
		"unless there is no other":                                     {[]any{three, small("a"), huge("a")}, "Deployment a/small"},
		"a healthy one before one that is not":                         {[]any{three, runs(deployment("aa", "ill").Replicas(2).RolledOut().Build(), uninjected, broken), huge("shop")}, "Deployment shop/huge"},
		"whatever an owner wants to be first":                          {[]any{three, runs(deployment("aa", "loud").Annotated(v1alpha1.FirstAnnotation, "true").Build(), uninjected, uninjected, uninjected), small("shop")}, "Deployment shop/small"},
		"the small one of a namespace, though another serves nothing":  {[]any{three, runs(deployment("shop", "down").Build(), broken, broken, broken), small("shop")}, "Deployment shop/small"},
		"of a namespace that has stopped alone as well, the small one": {[]any{failedAgo("shop", "x", ago), failedAgo("shop", "y", ago), runs(deployment("shop", "down").Build(), broken, broken, broken), small("shop")}, "Deployment shop/small"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(builder.Enforcing("mesh").Unbounded().CoolDown(300), inNamespaces("a", "aa", "b", "c"), test.objects).checkedSince()
			var begun []string
			for key, verdict := range verdicts(s.decide()) {
				if verdict.Step == restart.StepRestart {
					begun = append(begun, key)
				}
			}
			if len(begun) != 1 || begun[0] != test.want {
				t.Errorf("restarted are %v", begun)
			}
		})
	}
}

// However everything crashes, no more workloads are hurt than it takes to see that, and those that were
// in flight then.
func TestFewAreHurtWhereEverythingCrashes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t)
		atOnce, stopAfter := rapid.IntRange(1, 4).Draw(t, "at once"), rapid.IntRange(1, 4).Draw(t, "stop after")
		s.setPolicy(builder.Enforcing("mesh").ProgressTimeout(60).Budget(v1alpha1.BudgetScopePolicy, atOnce, nil).StopAfter(int32(stopAfter)))
		names := []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "namespaces")]
		for _, name := range names {
			s.addNamespace(name)
			for n := range rapid.IntRange(1, 5).Draw(t, "workloads") {
				a := add(s, deployment(name, fmt.Sprintf("app%d", n)).Replicas(int32(rapid.IntRange(1, 3).Draw(t, "replicas"))))
				a.crashes = inMesh
			}
			s.label(name, "istio-injection", "enabled")
		}
		s.run(6 * 50) // 50 minutes, and the breaker waits for an hour
		hurt := map[string]int{}
		for _, a := range s.apps {
			if a.count(inMesh) > 0 {
				hurt[a.object.GetNamespace()]++
			}
		}
		counted := 0
		for _, hurt := range hurt {
			counted += min(hurt, 2)
		}
		if most := stopAfter - 1 + atOnce; counted > most {
			t.Fatalf("%d workloads are hurt that count, where %d are to stop the policy and %d go at once:\n%s", counted, stopAfter, atOnce, s.transcript.String())
		}
		for name, hurt := range hurt {
			if most := 2 - 1 + atOnce; hurt > most {
				t.Fatalf("%d workloads of %s are hurt:\n%s", hurt, name, s.transcript.String())
			}
		}
	})
}

// A success that an owner has written shows nothing of an injector that brings others no sidecar.
func TestAForgedSuccessKeepsNoBreakerClosed(t *testing.T) {
	vain := []string{"a", "b", "c"}
	objects := append(inNamespaces("a", "b", "c", "hostile"), outside(cart(), 3))
	starts := map[string]time.Time{"hostile": noon.Add(-2 * time.Minute)}
	for n, namespace := range vain {
		objects = append(objects, tried(namespace, "x", v1alpha1.ResultIneffective, time.Duration(4-n)*time.Minute))
		starts[namespace] = noon.Add(-time.Duration(5-n) * time.Minute)
	}
	forged := tried("hostile", "x", v1alpha1.ResultSucceeded, time.Minute)
	for name, test := range map[string]struct {
		ours []string
		want restart.Reason
	}{
		"that Fullmesh knows nothing of": {vain, restart.ReasonInjectorBreakerOpen},
		"that it is":                     {append(vain, "hostile"), restart.ReasonRestartDue},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(append(objects, forged)...).when(tookOver(yesterday))
			s.Started = func(uid types.UID) restart.Start {
				for _, namespace := range test.ours {
					if uid == types.UID("deployment-"+namespace+"-x") {
						return restart.Start{Cause: inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: uid, Newest: yesterday.Unix()}.String(), At: starts[namespace]}
					}
				}
				return restart.Start{}
			}
			if got := verdicts(s.decide())["Deployment shop/cart"]; got.Reason != test.want {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
}

// What an owner has written of failures stops nobody else.
func TestAForgedFailureOpensNoBreakerOfOthers(t *testing.T) {
	var names []string
	starts := map[types.UID]time.Time{}
	failing := []string{"a", "b", "c"}
	for n, namespace := range failing {
		ago := time.Duration(4-n) * time.Minute
		starts[types.UID("deployment-"+namespace+"-x")] = noon.Add(-ago - time.Minute)
		names = append(names, "Deployment "+namespace+"/x")
	}
	opened := v1alpha1.BreakerStatus{State: v1alpha1.BreakerOpen, Since: new(metav1.NewTime(noon.Add(-2 * time.Minute))), Failed: names}
	objects := append(inNamespaces(failing...), outside(cart(), 3))
	for result, reason := range map[v1alpha1.RestartResult]restart.Reason{
		v1alpha1.ResultFailed:      restart.ReasonBreakerOpen,
		v1alpha1.ResultIneffective: restart.ReasonInjectorBreakerOpen,
	} {
		for name, test := range map[string]struct {
			begun, counted bool
			want           restart.Reason
		}{
			"that Fullmesh knows nothing of": {want: restart.ReasonRestartDue},
			"that this process has begun":    {begun: true, want: reason},
			"that were counted before":       {counted: true, want: reason},
		} {
			t.Run(string(result)+" ones "+name, func(t *testing.T) {
				policy := builder.Enforcing("mesh").Unbounded().Build()
				switch {
				case test.counted && result == v1alpha1.ResultFailed:
					policy.Status.Breaker = &opened
				case test.counted:
					policy.Status.InjectorBreakers = []v1alpha1.InjectorBreaker{{Revision: "default", Breaker: opened}}
				}
				of := append(slices.Clone(objects), policy)
				for n, namespace := range failing {
					of = append(of, tried(namespace, "x", result, time.Duration(4-n)*time.Minute))
				}
				s := newScene(of...).when(tookOver(yesterday))
				s.Started = func(uid types.UID) restart.Start {
					if at, failed := starts[uid]; failed && test.begun {
						return restart.Start{Cause: inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: uid, Newest: yesterday.Unix()}.String(), At: at, Ended: true}
					}
					return restart.Start{}
				}
				if got := verdicts(s.decide())["Deployment shop/cart"]; got.Reason != test.want {
					t.Errorf("%s: %s", got.Reason, got.Message)
				}
			})
		}
	}
}

// The breaker of an injector that stops one namespace alone is told of there, and not with the policy.
func TestOpenBreakerOfAnInjectorInOneNamespace(t *testing.T) {
	plan := newScene(inNamespaces("a", "b"), inVain("a", "x", time.Minute), inVain("a", "y", time.Minute), inVain("a", "z", time.Minute)).decide()
	got := map[string][]string{}
	tell := func(of string, standing *restart.Standing) {
		for i := range standing.Injectors {
			injector := &standing.Injectors[i]
			got[of] = append(got[of], fmt.Sprintf("%s %s %d", injector.Revision, injector.Breaker.State, *injector.Breaker.FailedWorkloads))
		}
	}
	for _, namespace := range plan.Namespaces {
		tell(namespace.Name, &namespace.Standing)
	}
	for policy, standing := range plan.Policies {
		tell(policy.Name, standing)
	}
	want := map[string][]string{"a": {"default Open 3"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("open breakers of injectors (-want +got):\n%s", diff)
	}
}
