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

// answer is what every dry-run check says.
func (s *scene) answer(check restart.Check) *scene {
	s.Check = func(restart.CheckKey) (restart.Check, bool) { return check, true }
	return s
}

// unasked leaves every dry-run check unasked.
func (s *scene) unasked() *scene {
	s.Check = func(restart.CheckKey) (restart.Check, bool) { return restart.Check{}, false }
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
		switch object := object.(type) {
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
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: "istiod"}, Spec: corev1.ServiceSpec{Selector: selector}}
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

// startOf remembers that one restart was begun.
func startOf(uid types.UID, start restart.Start) func(types.UID) restart.Start {
	return func(of types.UID) restart.Start {
		if of != uid {
			return restart.Start{}
		}
		return start
	}
}

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
