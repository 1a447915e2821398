package restart_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

const istioNamespace = "istio-system"

type webhookConfiguration = admissionregistrationv1.MutatingWebhookConfiguration

var (
	noon      = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	yesterday = noon.Add(-24 * time.Hour)
)

// istio and its variant that lets Pods pass while the injector is down; read only.
var (
	istio       = builder.Webhooks()
	lettingPass = builder.LettingPass(builder.Webhooks())
)

func injectorOf(webhooks ...*webhookConfiguration) *mesh.Injector {
	return mesh.NewInjector(webhooks, []*corev1.ConfigMap{builder.InjectorSettings()}, mesh.Options{})
}

// scene is a cluster at noon, when everybody is well and nothing has changed since yesterday. It is
// decided upon once.
type scene struct {
	restart.Input
	webhooks        []*webhookConfiguration
	injectorChanged time.Time
	policies        []*v1alpha1.MeshPolicy
	objects         []any
	// unshown leaves it to the Pods to show that injection works. Otherwise it is known to.
	unshown bool
	// unread are kinds that have not been read, with why.
	unread map[string]string
	// check is what every dry-run check has answered; nil where none has been asked. Where it is assumed, nobody can
	// ask.
	check   *restart.Check
	assumed bool
}

// newScene has the namespace shop, which asks for sidecars, and a policy that restarts what it may.
func newScene(objects ...any) *scene {
	s := &scene{
		Input:           restart.Input{Now: noon, Guard: restart.GuardHolds, System: restart.SystemNamespaces.Union(sets.New(istioNamespace))},
		webhooks:        []*webhookConfiguration{istio},
		injectorChanged: yesterday,
		policies:        []*v1alpha1.MeshPolicy{builder.Enforcing("mesh").Unbounded().Build()},
	}
	s.answer(restart.Check{Observed: sidecar(mesh.DefaultRevision), At: noon, Received: noon})
	return s.with(meshed("shop")).with(objects...)
}

// meshed is a namespace that asks for sidecars.
func meshed(name string) *corev1.Namespace {
	return builder.Namespace(name).Labelled("istio-injection", "enabled").CreatedAt(yesterday).Build()
}

// with adds objects; lists of them are taken apart. A namespace replaces the one of its name.
func (s *scene) with(objects ...any) *scene {
	for _, object := range objects {
		switch object := object.(type) {
		case []any:
			s.with(object...)
		case *v1alpha1.MeshPolicy:
			s.policies = []*v1alpha1.MeshPolicy{object}
		case *builder.PolicyBuilder:
			s.policies = []*v1alpha1.MeshPolicy{object.Build()}
		default:
			s.objects = append(s.objects, object)
		}
	}
	return s
}

// answer is what every dry-run check has answered.
func (s *scene) answer(check restart.Check) *scene {
	s.check = &check
	return s
}

// unasked leaves every dry-run check unasked.
func (s *scene) unasked() *scene {
	s.check = nil
	return s
}

// assuming has nobody ask for dry-run checks.
func (s *scene) assuming() *scene {
	s.assumed = true
	return s
}

// notRead leaves a kind unread.
func (s *scene) notRead(kind, why string) *scene {
	s.unread = map[string]string{kind: why}
	return s
}

func (s *scene) input() restart.Input {
	i := inventory.New()
	i.SetInjector(injectorOf(s.webhooks...), s.injectorChanged)
	for _, object := range s.objects {
		if carrying, is := object.(metav1.Object); is {
			without, restarts := builder.Ledger(carrying)
			object = without
			for n := range restarts {
				i.SetRestart(inventory.FromMeshRestart(&restarts[n]))
			}
		}
		switch object := object.(type) {
		case *v1alpha1.MeshRestart:
			i.SetRestart(inventory.FromMeshRestart(object))
		case *inventory.Restart:
			i.AddPendingRestart(object)
		case *corev1.Namespace:
			i.DeleteNamespace(object.Name)
			i.SetNamespace(object, noon)
		case *corev1.Pod:
			i.SetPod(mesh.CutDown(object))
		case *appsv1.Deployment:
			i.SetObject(inventory.FromDeployment(object))
		case *appsv1.StatefulSet:
			i.SetObject(inventory.FromStatefulSet(object))
		case *appsv1.DaemonSet:
			i.SetObject(inventory.FromDaemonSet(object))
		case *appsv1.ReplicaSet:
			if mesh.OwnerOf(object).Exists() {
				i.SetLink(inventory.LinkTo(object))
			} else {
				i.SetObject(inventory.FromReplicaSet(object))
			}
		case *batchv1.Job:
			i.SetObject(inventory.FromJob(object))
		case *batchv1.CronJob:
			i.SetObject(inventory.FromCronJob(object))
		case *unstructured.Unstructured:
			if object.GetKind() == mesh.PeerAuthenticationKind {
				i.SetPeerAuthentication(mesh.FromPeerAuthentication(object))
				continue
			}
			i.SetObject(inventory.FromRollout(object))
		case *policyv1.PodDisruptionBudget:
			i.SetDisruptionBudget(object)
		case *corev1.Node:
			i.SetNode(inventory.FromNode(object))
		case *corev1.Service:
			i.SetService(mesh.CutDownService(object))
		default:
			panic(fmt.Sprintf("what is a %T?", object))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(s.unread)) {
		i.SetUnread(kind, s.unread[kind])
	}
	s.Snapshot = i.Snapshot()
	for _, namespace := range s.Snapshot.Namespaces {
		if !s.unshown {
			namespace.Shown.Insert(s.Snapshot.Injector.Revisions()...)
		}
	}
	s.Answers = nil
	if !s.assumed {
		s.Answers = map[restart.CheckKey]restart.Check{}
	}
	if s.check != nil && !s.assumed {
		for _, key := range restart.CheckKeys(s.Snapshot) {
			s.Answers[key] = *s.check
		}
	}
	s.Policies = nil
	for _, policy := range s.policies {
		ready, err := restart.NewPolicy(policy)
		if ready == nil { // others cannot be used, and govern all the same
			panic(err)
		}
		s.Policies = append(s.Policies, ready)
	}
	return s.Input
}

func (s *scene) decide() *restart.Plan { return restart.Decide(s.input()) }

// verdicts are by workload.
func verdicts(plan *restart.Plan) map[string]restart.Verdict {
	given := map[string]restart.Verdict{}
	for _, namespace := range plan.Namespaces {
		for _, verdict := range namespace.Verdicts {
			given[verdict.Workload.Key.String()] = verdict
		}
	}
	return given
}

// only is the verdict on the one workload that there is one on.
func only(t testing.TB, plan *restart.Plan) restart.Verdict {
	t.Helper()
	given := verdicts(plan)
	if len(given) != 1 {
		t.Fatalf("verdicts on %d workloads: %v", len(given), given)
	}
	for _, verdict := range given {
		return verdict
	}
	return restart.Verdict{}
}

// cart is a Deployment of three Pods that surges.
func cart() *builder.Workload[*appsv1.Deployment] { return deployment("shop", "cart") }

func deployment(namespace, name string) *builder.Workload[*appsv1.Deployment] {
	return builder.Deployment(namespace, name).Replicas(3).Unavailable(0).Surge(1).CreatedAt(yesterday).RolledOut()
}

// istiod is what runs the injector of a revision, as Istio's charts install it.
func istiod(revision string) *builder.Workload[*appsv1.Deployment] {
	name := "istiod"
	if revision != mesh.DefaultRevision {
		name += "-" + revision
	}
	return builder.Deployment(istioNamespace, name).Replicas(2).Unavailable(0).Surge(1).CreatedAt(yesterday).RolledOut().
		Labelled("app", "istiod", "istio.io/rev", revision, "sidecar.istio.io/inject", "false")
}

// controlPlane is istiod in its namespace, changed as asked for.
func controlPlane(revision string, change func(*appsv1.Deployment)) []any {
	return []any{builder.Namespace(istioNamespace).CreatedAt(yesterday).Build(), istiod(revision).With(change).Build()}
}

// istiodService is behind the webhooks of the revision without a name.
func istiodService(selector map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: "istiod"},
		Spec:       corev1.ServiceSpec{Selector: selector},
	}
}

// canary is an Argo Rollout of three Pods.
func canary() *builder.RolloutBuilder {
	return builder.Rollout("shop", "canary").Replicas(3).CreatedAt(yesterday).RolledOut()
}

// rolloutOutside is a Rollout with so many ready Pods without a sidecar.
func rolloutOutside(b *builder.RolloutBuilder, pods int) []any {
	return runs(b.Build(), slices.Repeat([]func(*builder.PodBuilder){uninjected}, pods)...)
}

// db is a StatefulSet of three Pods.
func db() *builder.Workload[*appsv1.StatefulSet] {
	return builder.StatefulSet("shop", "db").Replicas(3).CreatedAt(yesterday).RolledOut()
}

// uninjected is a ready Pod without a sidecar, since yesterday.
func uninjected(b *builder.PodBuilder) { b.CreatedAt(yesterday).Ready(yesterday) }

// injected is a ready Pod with a sidecar, made at noon.
func injected(b *builder.PodBuilder) { b.CreatedAt(noon).Injected("default").Ready(noon) }

// outside is a workload with so many ready Pods without a sidecar.
func outside[T metav1.Object](workload *builder.Workload[T], pods int) []any {
	return runs(workload.Build(), slices.Repeat([]func(*builder.PodBuilder){uninjected}, pods)...)
}

// runs is a workload with its Pods, and the ReplicaSet between them.
func runs(workload metav1.Object, pods ...func(*builder.PodBuilder)) []any {
	objects := []any{workload}
	owner := workload
	switch workload.(type) {
	case *appsv1.Deployment, *unstructured.Unstructured:
		replicaSet := builder.ReplicaSet(workload.GetNamespace(), workload.GetName()+"-1").OwnedBy(workload).Build()
		objects, owner = append(objects, replicaSet), replicaSet
	}
	for n, change := range pods {
		b := builder.Pod(workload.GetNamespace(), fmt.Sprintf("%s-%d", workload.GetName(), n)).OwnedBy(owner)
		change(b)
		objects = append(objects, b.Build())
	}
	return objects
}

// sidecar is what a Pod carries that a revision has injected.
func sidecar(revision string) mesh.Observation {
	return mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: revision}
}

// broken is a Pod without a sidecar that cannot become ready.
func broken(b *builder.PodBuilder) { b.CreatedAt(yesterday).Crashing("app", 1) }

func brokenAt(at time.Time) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(at).Crashing("app", 1) }
}

// unschedulable is a Pod without a sidecar for which the scheduler has found no node for five minutes.
func unschedulable(message string) func(*builder.PodBuilder) {
	return unschedulableSince(noon.Add(-5*time.Minute), message)
}

func unschedulableSince(created time.Time, message string) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { b.CreatedAt(created).Unschedulable(message) }
}

// on is a ready Pod without a sidecar on a node.
func on(node string) func(*builder.PodBuilder) {
	return func(b *builder.PodBuilder) { uninjected(b); b.OnNode(node) }
}

// tainted is a node whose cordoning is told by the taint alone.
func tainted(node *corev1.Node) *corev1.Node {
	node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
	return node
}

// inParallel lets a StatefulSet's controller go on while a Pod is not ready.
func inParallel(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

// began is when restarts of these tests began, unless they say otherwise.
var began = noon.Add(-5 * time.Minute)

// tweak changes what the ledger says of a restart.
type tweak = func(*inventory.Restart)

// restartOf is the first MeshRestart of a workload: by a rollout restart, under the policy mesh, for three Pods that
// are outside since yesterday. What decides is as it is now.
func restartOf(workload metav1.Object, changes ...tweak) *v1alpha1.MeshRestart {
	key := mesh.Key{Group: "apps", Namespace: workload.GetNamespace(), Name: workload.GetName()}
	switch workload := workload.(type) {
	case *appsv1.Deployment:
		key.Kind = "Deployment"
	case *appsv1.StatefulSet:
		key.Kind = "StatefulSet"
	case *appsv1.DaemonSet:
		key.Kind = "DaemonSet"
	case *appsv1.ReplicaSet:
		key.Kind = "ReplicaSet"
	case *unstructured.Unstructured:
		key.Group, key.Kind = "argoproj.io", "Rollout"
	default:
		panic(fmt.Sprintf("a %T is not restarted", workload))
	}
	r := &inventory.Restart{
		Namespace: key.Namespace, Workload: key, WorkloadUID: workload.GetUID(), Generation: workload.GetGeneration(), Policy: "mesh",
		Cause:  inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: mesh.DefaultRevision, Newest: yesterday.Unix()},
		Method: v1alpha1.MethodRolloutRestart, InputsHash: inputsOf(workload), Replicas: 3, Ready: 3, Attempt: 1, Start: began,
	}
	for _, change := range changes {
		change(r)
	}
	r.Name = restart.NameOf(r.Workload, r.WorkloadUID, r.Attempt)
	object := r.MeshRestart()
	object.UID, object.ResourceVersion, object.CreationTimestamp = types.UID("restart-"+r.Name), "1", metav1.NewTime(r.Start)
	return object
}

// restarted is a workload that Fullmesh has restarted. Of a restart that was reverted its template tells nothing.
func restarted[T metav1.Object](b *builder.Workload[T], changes ...tweak) *builder.Workload[T] {
	r := restartOf(b.Build(), changes...)
	if inventory.FromMeshRestart(r).Result == v1alpha1.ResultReverted {
		return b.Intended(r)
	}
	return b.Restarted(r)
}

// intended is a workload that Fullmesh is about to restart.
func intended[T metav1.Object](b *builder.Workload[T], changes ...tweak) *builder.Workload[T] {
	return b.Intended(restartOf(b.Build(), changes...))
}

// inputsOf is the hash over what decides about a workload as it is, in a namespace that asks for sidecars.
func inputsOf(workload metav1.Object) string {
	return restart.CheckKeys(newScene(meshed(workload.GetNamespace()), workload).input().Snapshot)[workload.GetUID()].InputsHash
}

// since is when a restart began.
func since(start time.Time) tweak { return func(r *inventory.Restart) { r.Start = start } }

// endedAt is how a restart ended, and when.
func endedAt(result v1alpha1.RestartResult, end time.Time) tweak {
	return func(r *inventory.Restart) { *r = *r.Ended(result, "It has ended.", end) }
}

// ended is how a restart ended that was begun two hours ago and went on for one.
func ended(result v1alpha1.RestartResult) tweak {
	return func(r *inventory.Restart) {
		r.Start = noon.Add(-2 * time.Hour)
		endedAt(result, noon.Add(-time.Hour))(r)
	}
}

// byEviction is a restart that evicts Pods.
func byEviction(r *inventory.Restart) { r.Method = v1alpha1.MethodEviction }

// forOlder is a restart whose newest Pod to be replaced was a second older than those that are outside now.
func forOlder(r *inventory.Restart) { r.Cause.Newest-- }

// forFinding is a restart for something else than Pods that are outside.
func forFinding(finding v1alpha1.Finding) tweak {
	return func(r *inventory.Restart) {
		if r.Cause.Finding = finding; finding == v1alpha1.FindingLeftover {
			r.Cause.Revision = ""
		}
	}
}

// ofPods is how many Pods the workload asked for when a restart began, and how many were ready.
func ofPods(replicas, ready int) tweak {
	return func(r *inventory.Restart) { r.Replicas, r.Ready = replicas, ready }
}

// takingAtOnce is how many Pods the strategy said that a restart takes at once when it was decided on.
func takingAtOnce(pods int) tweak { return func(r *inventory.Restart) { r.AtOnce = pods } }

// decidedBy is the hash over what decided when a restart began.
func decidedBy(inputs string) tweak { return func(r *inventory.Restart) { r.InputsHash = inputs } }

// excusedFor is a restart that was without effect for a reason that is not held against its workload.
func excusedFor(why v1alpha1.RestartExcuse) tweak {
	return func(r *inventory.Restart) { r.Excuse = why }
}

// attempt is which restart of its workload it is.
func attempt(n int) tweak { return func(r *inventory.Restart) { r.Attempt = n } }

// under names the policy under which a restart was decided on.
func under(policy string) tweak { return func(r *inventory.Restart) { r.Policy = policy } }

// resultOf is how the restart of a verdict has ended; empty where it has not, or there is none.
func resultOf(verdict restart.Verdict) v1alpha1.RestartResult {
	if verdict.Restart == nil {
		return ""
	}
	return verdict.Restart.Result
}
