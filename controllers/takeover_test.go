package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// play is a namespace in which Reconcilers restart workloads on the real API server. The test plays the workloads'
// controllers. Nothing else is left out but the wait for real time.
type play struct {
	*world
	namespace string
	policy    *v1alpha1.MeshPolicy
	// ahead is how far the Reconcilers' clock is ahead.
	ahead atomic.Int64

	mu sync.Mutex
	// writes are those that the API server has answered, but for reports, as "PATCH deployments/web 200".
	writes []string
	// unfinished are the names of the MeshRestarts that have not ended, by the UIDs of their workloads, and overlaps
	// those moments at which a workload had several.
	unfinished map[string]map[string]bool
	overlaps   []string
	// met, where it is set, has creations of the same name wait for each other; closed for those that have met.
	met map[string]chan struct{}
}

func newPlay(t *testing.T) *play {
	t.Helper()
	w := apiServer(t)
	p := &play{world: w, namespace: w.namespace(t, "istio-injection", "enabled", "team", "none"), unfinished: map[string]map[string]bool{}}
	namespace := get(t, w, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.namespace}})
	w.patch(t, namespace, `{"metadata":{"labels":{"team":"`+p.namespace+`"}}}`)
	p.policy = builder.Enforcing(p.namespace).Over("team", p.namespace).Settling(2).Unbounded().Build()
	w.create(t, p.policy)
	p.follow(t)
	return p
}

func (p *play) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// follow keeps a history of the namespace's MeshRestarts, with every version of each.
func (p *play) follow(t *testing.T) {
	t.Helper()
	c, err := client.NewWithWatch(p.config, client.Options{Scheme: testScheme})
	if err != nil {
		t.Fatal(err)
	}
	versions, err := c.Watch(t.Context(), &v1alpha1.MeshRestartList{}, client.InNamespace(p.namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(versions.Stop)
	go func() {
		for event := range versions.ResultChan() {
			if object, is := event.Object.(*v1alpha1.MeshRestart); is {
				p.note(inventory.FromMeshRestart(object), event.Type == watch.Deleted)
			}
		}
	}()
}

func (p *play) note(r *inventory.Restart, deleted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.unfinished[string(r.WorkloadUID)]
	if of == nil {
		of = map[string]bool{}
		p.unfinished[string(r.WorkloadUID)] = of
	}
	if delete(of, r.Name); r.InFlight() && !deleted {
		of[r.Name] = true
	}
	if len(of) > 1 {
		p.overlaps = append(p.overlaps, fmt.Sprint(of))
	}
}

// misfortune befalls the nth write of a kind.
type misfortune struct {
	write string
	nth   int32
	// reaches says that the write reaches the API server, and stops that the process ends with it.
	reaches, stops bool

	seen atomic.Int32
}

// name of the kind of misfortune.
func (m *misfortune) name() string {
	switch {
	case m.stops && m.reaches:
		return "the process stops right after it"
	case m.stops:
		return "the process stops right before it"
	case m.reaches:
		return "its answer is lost"
	default:
		return "it fails"
	}
}

func (m *misfortune) befalls(write string) bool {
	return m != nil && m.write == write && m.seen.Add(1) == m.nth
}

var namedObject = regexp.MustCompile(`^(meshrestarts|pods)/[^/]+`)

// writeOf is a request in short; empty where it writes nothing that counts.
func (p *play) writeOf(request *http.Request) string {
	_, path, in := strings.Cut(request.URL.Path, "/namespaces/"+p.namespace+"/")
	if !in || request.Method == http.MethodGet || request.URL.Query().Has("dryRun") || strings.HasPrefix(path, "meshreports") {
		return ""
	}
	return request.Method + " " + namedObject.ReplaceAllString(path, "$1/*")
}

// leader is a process that believes to lead.
type leader struct {
	*Reconciler
	passes  atomic.Int32
	stop    context.CancelFunc
	stopped chan struct{}
}

// lead starts a process with an empty inventory.
func (p *play) lead(t *testing.T, m *misfortune) *leader {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &leader{stop: stop, stopped: make(chan struct{})}
	config := rest.CopyConfig(p.config)
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) { return p.send(request, next, l, m) })
	})
	c, err := client.New(config, client.Options{Scheme: testScheme, FieldOwner: FieldOwner, FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	// What decides has been as it is for long.
	observer := NewObserver(mesh.Options{IstioNamespace: istioNamespace}, func() time.Time { return time.Now().Add(-time.Hour) })
	observer.take(builder.Webhooks())
	observer.take(builder.InjectorSettings())
	watchInto(t, p.config, observer)
	announcer := announcer{recorder: &recorder{}}
	l.Reconciler = &Reconciler{
		client: c, inventory: observer.Inventory, now: p.now, system: restart.SystemNamespaces,
		debouncer:   &debouncer{},
		checker:     newChecker(p.injecting(), c, p.now, func() {}),
		guard:       &guard{waived: true, now: p.now, client: answeredAs(refusal(ledgerRefusal))},
		watchHealth: newWatchHealth(p.now, func() {}),
		reporter:    newReporter(c, p.now, announcer),
	}
	l.actor = newActor(&actor{
		client: c, reader: c, inventory: observer.Inventory, now: p.now, namespace: "fullmesh-system",
		checker: l.checker, announcer: announcer, done: func() {},
	})
	go func() {
		defer close(l.stopped)
		for ctx.Err() == nil {
			if _, err := l.Reconcile(ctx, ctrl.Request{}); err != nil && ctx.Err() == nil {
				t.Logf("a pass failed: %v", err)
			}
			l.passes.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		l.finishSteps()
	}()
	t.Cleanup(func() { stop(); <-l.stopped })
	return l
}

// finishSteps takes every worker, which is when none of them works any more.
func (l *leader) finishSteps() {
	for range actAtOnce {
		l.actor.slots <- struct{}{}
	}
}

func (p *play) send(request *http.Request, next http.RoundTripper, l *leader, m *misfortune) (*http.Response, error) {
	write := p.writeOf(request)
	befallen := write != "" && m.befalls(write)
	if befallen && !m.reaches {
		if m.stops {
			l.stop()
		}
		return nil, errors.New("the connection was lost before the request")
	}
	if write == "POST meshrestarts" {
		if err := p.meet(request); err != nil {
			return nil, err
		}
	}
	response, err := next.RoundTrip(request)
	if write != "" && err == nil {
		p.mu.Lock()
		p.writes = append(p.writes, fmt.Sprintf("%s %d", write, response.StatusCode))
		p.mu.Unlock()
	}
	if !befallen || err != nil {
		return response, err
	}
	response.Body.Close()
	if m.stops {
		l.stop()
	}
	return nil, errors.New("the connection was lost before the answer")
}

// meet has a creation wait for that of another leader, for a while.
func (p *play) meet(request *http.Request) error {
	if p.met == nil {
		return nil
	}
	body, err := request.GetBody()
	if err != nil {
		return err
	}
	var created metav1.PartialObjectMetadata
	if err := json.NewDecoder(body).Decode(&created); err != nil {
		return err
	}
	p.mu.Lock()
	other, waits := p.met[created.Name]
	if !waits {
		p.met[created.Name] = make(chan struct{})
		other = p.met[created.Name]
	}
	p.mu.Unlock()
	if waits {
		select {
		case <-other: // these have met before
		default:
			close(other)
		}
		return nil
	}
	select {
	case <-other:
	case <-time.After(5 * time.Second):
	case <-request.Context().Done():
	}
	return nil
}

// injecting answers dry runs of Pods with a sidecar.
func (p *play) injecting() client.Client {
	return answering(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
			pod := object.(*corev1.Pod)
			injected := builder.Pod(pod.Namespace, "x").Injected("default").Build()
			pod.CreationTimestamp, pod.Annotations, pod.Spec = metav1.NewTime(p.now()), injected.Annotations, injected.Spec
			return nil
		},
	})
}

// store creates an object, if there is none, with its status.
func (p *play) store(ctx context.Context, object client.Object) error {
	object.SetUID("")
	status := object.DeepCopyObject().(client.Object)
	if err := p.admin.Create(ctx, object); err != nil {
		return client.IgnoreAlreadyExists(err)
	}
	switch object := object.(type) {
	case *corev1.Pod:
		object.Status = status.(*corev1.Pod).Status
	case *appsv1.Deployment:
		object.Status = status.(*appsv1.Deployment).Status
	case *appsv1.StatefulSet:
		object.Status = status.(*appsv1.StatefulSet).Status
	default:
		return nil
	}
	return p.admin.Status().Update(ctx, object)
}

// deployment is one of two ready Pods without sidecars.
func (p *play) deployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	object := builder.Deployment(p.namespace, name).Replicas(2).Annotated("team/own", "er").
		TemplateAnnotated("team/tem", "plate").RolledOut().Build()
	object.Status.ObservedGeneration = 1
	if err := p.store(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	if err := p.replicas(t.Context(), object, false); err != nil {
		t.Fatal(err)
	}
	return object
}

// replicas makes the ReplicaSet of a Deployment's generation, and its Pods.
func (p *play) replicas(ctx context.Context, object *appsv1.Deployment, injected bool) error {
	set := builder.ReplicaSet(p.namespace, fmt.Sprintf("%s-%d", object.Name, object.Generation)).OwnedBy(object).Build()
	if err := p.store(ctx, set); err != nil {
		return err
	}
	if err := p.admin.Get(ctx, client.ObjectKeyFromObject(set), set); err != nil {
		return err
	}
	for i := range *object.Spec.Replicas {
		if err := p.store(ctx, pod(set, fmt.Sprintf("%s-%d", set.Name, i), injected)); err != nil {
			return err
		}
	}
	return nil
}

func pod(owner client.Object, name string, injected bool) *corev1.Pod {
	built := builder.Pod(owner.GetNamespace(), name).OwnedBy(owner).Ready(time.Now())
	if injected {
		built.Injected("default")
	}
	return built.Build()
}

// statefulSet is one of two ready Pods without sidecars, which no change of the template replaces.
func (p *play) statefulSet(t *testing.T, name string) *appsv1.StatefulSet {
	t.Helper()
	object := builder.StatefulSet(p.namespace, name).Replicas(2).OnDelete().RolledOut().Build()
	object.Status.ObservedGeneration = 1
	if err := p.store(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := p.store(t.Context(), pod(object, fmt.Sprintf("%s-%d", name, i), false)); err != nil {
			t.Fatal(err)
		}
	}
	return object
}

// controllers do what those of the workloads would.
func (p *play) controllers(ctx context.Context) error {
	var deployments appsv1.DeploymentList
	var sets appsv1.StatefulSetList
	if err := errors.Join(p.admin.List(ctx, &deployments, client.InNamespace(p.namespace)),
		p.admin.List(ctx, &sets, client.InNamespace(p.namespace))); err != nil {
		return err
	}
	for i := range deployments.Items {
		if object := &deployments.Items[i]; object.Status.ObservedGeneration < object.Generation {
			if err := p.rollOut(ctx, object); err != nil {
				return err
			}
		}
	}
	for i := range sets.Items {
		for ordinal := range 2 {
			if err := p.store(ctx, pod(&sets.Items[i], fmt.Sprintf("%s-%d", sets.Items[i].Name, ordinal), true)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *play) rollOut(ctx context.Context, object *appsv1.Deployment) error {
	if err := p.replicas(ctx, object, true); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := p.admin.List(ctx, &pods, client.InNamespace(p.namespace)); err != nil {
		return err
	}
	for i := range pods.Items {
		former := fmt.Sprintf("%s-%d-", object.Name, object.Generation-1)
		if strings.HasPrefix(pods.Items[i].Name, former) {
			if err := client.IgnoreNotFound(p.admin.Delete(ctx, &pods.Items[i])); err != nil {
				return err
			}
		}
	}
	object.Status.ObservedGeneration = object.Generation
	return p.admin.Status().Update(ctx, object)
}

// until plays the controllers until a condition returns nil.
func (p *play) until(t *testing.T, what string, condition func(ctx context.Context) error) {
	t.Helper()
	eventually(t, what, func(ctx context.Context) error {
		if err := p.controllers(ctx); err != nil {
			return err
		}
		return condition(ctx)
	})
}

func (p *play) untilStopped(t *testing.T, l *leader) {
	t.Helper()
	p.until(t, "the process stops", func(context.Context) error {
		select {
		case <-l.stopped:
			return nil
		default:
			return errors.New("it goes on")
		}
	})
}

// ended holds when every one of so many MeshRestarts has succeeded.
func (p *play) ended(want int) func(context.Context) error {
	return func(ctx context.Context) error {
		var ledger v1alpha1.MeshRestartList
		if err := p.admin.List(ctx, &ledger, client.InNamespace(p.namespace)); err != nil {
			return err
		}
		var results []string
		for i := range ledger.Items {
			results = append(results, ledger.Items[i].Name+" "+string(inventory.FromMeshRestart(&ledger.Items[i]).Result))
		}
		if len(results) != want || slices.ContainsFunc(results, func(result string) bool { return !strings.HasSuffix(result, " Succeeded") }) {
			return fmt.Errorf("MeshRestarts: %q; writes: %q", results, p.written())
		}
		return nil
	}
}

// morePasses lets leaders make as many passes as it takes to see that nothing more happens.
func (p *play) morePasses(t *testing.T, leaders ...*leader) {
	t.Helper()
	for _, l := range leaders {
		from := l.passes.Load()
		p.until(t, "more passes are made", func(context.Context) error {
			if l.passes.Load() < from+5 {
				return errors.New("not yet")
			}
			return nil
		})
	}
}

// written are the writes, without those of reports, that the API server has answered.
func (p *play) written() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.writes)
}

// count is how many of them are of a kind.
func (p *play) count(kind string) int {
	return len(slices.DeleteFunc(p.written(), func(write string) bool { return write != kind }))
}

// holds checks what holds whatever befell.
func (p *play) holds(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.overlaps) > 0 {
		t.Errorf("a workload had several unfinished MeshRestarts: %v", p.overlaps)
	}
}

// touchedOnce checks that nothing but one touch has happened to a Deployment.
func (p *play) touchedOnce(t *testing.T, before *appsv1.Deployment) {
	t.Helper()
	got := get(t, p.world, before.DeepCopy())
	want := before.DeepCopy()
	want.Generation++
	want.Spec.Template.Annotations[v1alpha1.RestartedByAnnotation] = restart.NameOf(known(t, before).Key(), before.UID, 1)
	for _, object := range []*appsv1.Deployment{want, got} {
		object.ResourceVersion, object.ManagedFields, object.Status = "", nil, appsv1.DeploymentStatus{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the Deployment (-want +got):\n%s", diff)
	}
}

func TestOneRestartCostsThreeWrites(t *testing.T) {
	p := newPlay(t)
	web := p.deployment(t, "web")
	l := p.lead(t, nil)
	p.until(t, "the restart has ended", p.ended(1))
	p.morePasses(t, l)
	if diff := cmp.Diff([]string{"POST meshrestarts 201", "PATCH deployments/web 200", "PATCH meshrestarts/*/status 200"},
		p.written()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	p.touchedOnce(t, web)
	p.holds(t)
}

func TestEvictionsCostOneWriteARound(t *testing.T) {
	p := newPlay(t)
	before := p.statefulSet(t, "web")
	l := p.lead(t, nil)
	p.until(t, "the restart has ended", p.ended(1))
	p.morePasses(t, l)
	want := []string{
		"POST meshrestarts 201",
		"PATCH meshrestarts/*/status 200", "POST pods/*/eviction 201",
		"PATCH meshrestarts/*/status 200", "POST pods/*/eviction 201",
		"PATCH meshrestarts/*/status 200",
	}
	if diff := cmp.Diff(want, p.written()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if after := get(t, p.world, before.DeepCopy()); after.ResourceVersion != before.ResourceVersion {
		t.Error("evictions wrote to the StatefulSet")
	}
	p.holds(t)
}

// Whatever befalls a write of a restart, its workload is touched once, and its MeshRestart ends.
func TestWriteOfARestartIsLost(t *testing.T) {
	for _, write := range []string{"POST meshrestarts", "PATCH deployments/web", "PATCH meshrestarts/*/status"} {
		for _, m := range []*misfortune{{}, {reaches: true}, {stops: true}, {stops: true, reaches: true}} {
			m := &misfortune{write: write, nth: 1, reaches: m.reaches, stops: m.stops}
			t.Run(write+", "+m.name(), func(t *testing.T) {
				p := newPlay(t)
				web := p.deployment(t, "web")
				l := p.lead(t, m)
				if m.stops {
					p.untilStopped(t, l)
					l = p.lead(t, nil)
				}
				// It is written down, and there is nobody any more who will touch the workload.
				if m.stops && (write == "POST meshrestarts" && m.reaches || write == "PATCH deployments/web" && !m.reaches) {
					p.morePasses(t, l)
					if ledger := p.ledger(t, p.namespace); len(ledger) != 1 || get(t, p.world, web.DeepCopy()).Generation != web.Generation {
						t.Errorf("within two minutes, there are %d MeshRestarts, want the one that nobody carries on: %q", len(ledger), p.written())
					}
					p.ahead.Add(int64(2 * time.Minute))
				}
				p.until(t, "the restart has ended", p.ended(1))
				p.morePasses(t, l)
				if touches := p.count("PATCH deployments/web 200"); touches != 1 {
					t.Errorf("it was touched %d times: %q", touches, p.written())
				}
				p.touchedOnce(t, web)
				p.holds(t)
			})
		}
	}
}

// Whatever befalls a write of evictions, each Pod is evicted once, and their MeshRestart ends.
func TestWriteOfEvictionsIsLost(t *testing.T) {
	for _, at := range []struct {
		name, write string
		nth         int32
	}{
		{name: "the beginning", write: "POST meshrestarts", nth: 1},
		{name: "the first round", write: "PATCH meshrestarts/*/status", nth: 1},
		{name: "the first eviction", write: "POST pods/*/eviction", nth: 1},
		{name: "the second round", write: "PATCH meshrestarts/*/status", nth: 2},
		{name: "the end", write: "PATCH meshrestarts/*/status", nth: 3},
	} {
		for _, m := range []*misfortune{{}, {reaches: true}, {stops: true}, {stops: true, reaches: true}} {
			m := &misfortune{write: at.write, nth: at.nth, reaches: m.reaches, stops: m.stops}
			t.Run(at.name+", "+m.name(), func(t *testing.T) {
				p := newPlay(t)
				before := p.statefulSet(t, "web")
				l := p.lead(t, m)
				if m.stops {
					p.untilStopped(t, l)
					l = p.lead(t, nil)
				}
				p.until(t, "the restart has ended", p.ended(1))
				p.morePasses(t, l)
				if evictions := p.count("POST pods/*/eviction 201"); evictions != 2 {
					t.Errorf("of 2 Pods, %d were evicted: %q", evictions, p.written())
				}
				if after := get(t, p.world, before.DeepCopy()); after.ResourceVersion != before.ResourceVersion {
					t.Error("evictions wrote to the StatefulSet")
				}
				p.holds(t)
			})
		}
	}
}

// A former leader may go on for a while without knowing that another one leads. Both decide on each workload before
// either of them has written anything.
func TestTwoLeadersTouchAWorkloadOnce(t *testing.T) {
	p := newPlay(t)
	p.met = map[string]chan struct{}{}
	leaders := []*leader{p.lead(t, nil), p.lead(t, nil)}
	var all []*appsv1.Deployment
	for round := range 4 {
		for i := range 4 {
			all = append(all, p.deployment(t, fmt.Sprintf("web-%d-%d", round, i)))
		}
		p.until(t, "every restart has ended", func(ctx context.Context) error {
			for _, object := range all {
				name := types.NamespacedName{Namespace: p.namespace, Name: restart.NameOf(known(t, object).Key(), object.UID, 1)}
				var r v1alpha1.MeshRestart
				// The history is cut to the newest.
				if err := p.admin.Get(ctx, name, &r); err != nil && (!apierrors.IsNotFound(err) || slices.Contains(all[4*round:], object)) {
					return err
				}
				if r.Name != "" && inventory.FromMeshRestart(&r).Result != v1alpha1.ResultSucceeded {
					return fmt.Errorf("%s has not ended", r.Name)
				}
			}
			return nil
		})
	}
	p.morePasses(t, leaders...)
	for _, object := range all {
		p.touchedOnce(t, object)
	}
	p.holds(t)
	won, lost := p.count("POST meshrestarts 201"), p.count("POST meshrestarts 409")
	if won != len(all) || lost == 0 {
		t.Errorf("of %d workloads, %d restarts were written down, and %d attempts lost against another", len(all), won, lost)
	}
}
