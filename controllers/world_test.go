package controllers

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

var (
	noon      = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	yesterday = noon.Add(-24 * time.Hour)
)

const istioNamespace = "istio-system"

// world is an API server with Fullmesh's definitions and without any controller: what is in it was
// put there by a test.
type world struct {
	config *rest.Config
	// admin is somebody else than the operator; operator is a client as Setup makes it, but one that
	// reads from the API server.
	admin, operator client.Client
}

// shared is the world that the tests of this package share. Each has namespaces of its own.
var shared struct {
	start   sync.Once
	cluster *cluster.Cluster
	world   world
	err     error
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.Stop(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// apiServer is the shared world, which the first test that asks for it starts.
func apiServer(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an API server, which short mode leaves out")
	}
	shared.start.Do(func() { shared.err = startWorld(context.Background()) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &shared.world
}

func startWorld(ctx context.Context) error {
	var err error
	if shared.cluster, err = cluster.Start(ctx, cluster.Options{APIServerOnly: true}); err != nil {
		return err
	}
	w := &shared.world
	w.config = shared.cluster.Config()
	w.admin, err = client.New(w.config, client.Options{Scheme: testScheme, FieldOwner: "somebody"})
	if err == nil {
		w.operator, err = client.New(w.config, client.Options{Scheme: testScheme, FieldOwner: FieldOwner,
			FieldValidation: metav1.FieldValidationStrict})
	}
	if err != nil {
		return err
	}
	if err := w.admin.Create(ctx, builder.Namespace(istioNamespace).Build()); err != nil {
		return err
	}
	root, err := manifests.Root()
	if err != nil {
		return err
	}
	return manifests.Apply(ctx, w.admin, root, "config/crd")
}

var testScheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}()

// namespace makes a namespace that no other test has.
func (w *world) namespace(t *testing.T, labels ...string) string {
	t.Helper()
	namespace := builder.Namespace("").Labelled(labels...).Build()
	namespace.GenerateName = "shop-"
	w.create(t, namespace)
	// In a whole cluster, a controller makes it.
	w.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "default"}})
	return namespace.Name
}

// create makes an object, and takes it away at the end of the test where it is in no namespace.
func (w *world) create(t *testing.T, object client.Object) {
	t.Helper()
	object.SetUID("")
	if err := w.admin.Create(t.Context(), object); err != nil {
		t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
	}
	if _, stays := object.(*corev1.Namespace); !stays && object.GetNamespace() == "" {
		t.Cleanup(func() {
			if err := client.IgnoreNotFound(w.admin.Delete(context.Background(), object)); err != nil {
				t.Errorf("deleting %T %s: %v", object, object.GetName(), err)
			}
		})
	}
}

// get reads an object anew.
func get[T client.Object](t *testing.T, w *world, object T) T {
	t.Helper()
	if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatalf("reading %T %s: %v", object, object.GetName(), err)
	}
	return object
}

// patch changes an object by a merge patch.
func (w *world) patch(t *testing.T, object client.Object, patch string) {
	t.Helper()
	if err := w.admin.Patch(t.Context(), object, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatalf("patching %T %s: %v", object, object.GetName(), err)
	}
}

// eventually waits until condition returns nil.
func eventually(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	if err := cluster.Eventually(t.Context(), 20*time.Millisecond, 2*time.Minute, condition); err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

// clock is a time that only a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func atNoon() *clock { return &clock{now: noon} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// recorder keeps the Events that are sent: "Warning Paused on Deployment shop/web: message".
type recorder struct {
	mu   sync.Mutex
	sent []string
}

// Eventf implements events.EventRecorder.
func (r *recorder) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	on := fmt.Sprintf("%T", regarding)
	switch object := regarding.(type) {
	case *corev1.ObjectReference:
		on = object.Kind + " " + object.Name
	case *v1alpha1.MeshPolicy:
		on = "MeshPolicy " + object.Name
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, fmt.Sprintf("%s %s on %s: %s", kind, reason, on, fmt.Sprintf(note, args...)))
}

// take are the Events that were sent since it was called last.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// inventoryOf is an inventory of what the informers would give, at noon.
func inventoryOf(t *testing.T, objects ...any) *inventory.Inventory {
	t.Helper()
	observer := NewObserver(mesh.Options{}, atNoon().Now)
	for _, object := range objects {
		cut, err := cutDown(object)
		if err != nil {
			t.Fatal(err)
		}
		observer.take(cut)
	}
	return observer.Inventory
}

// known is what the inventory keeps of a workload's object.
func known(t *testing.T, object client.Object) *inventory.Object {
	t.Helper()
	cut, err := cutDown(object)
	if err != nil {
		t.Fatal(err)
	}
	return cut.(*inventory.Object)
}

// restartOf is the verdict that a workload is restarted, for the first time.
func restartOf(object *inventory.Object) *restart.Verdict {
	return &restart.Verdict{
		Workload: &inventory.Workload{Key: object.Key(), Object: object, Finding: v1alpha1.FindingMissing},
		Action:   v1alpha1.ActionRestart,
		Reason:   restart.ReasonRestartDue,
		Message:  "It is restarted.",
		Step:     restart.StepRestart,
		Method:   v1alpha1.MethodRolloutRestart,
		Restart:  intended(object),
		CheckKey: restart.CheckKey{UID: object.UID, InputsHash: "v1-inputs"},
	}
}

// intended is the first MeshRestart of a workload, as it is before it is created.
func intended(object *inventory.Object) *inventory.Restart {
	return &inventory.Restart{
		Namespace:   object.Namespace,
		Name:        restart.NameOf(object.Key(), object.UID, 1),
		Workload:    object.Key(),
		WorkloadUID: object.UID,
		Generation:  object.Generation,
		Policy:      "production",
		Cause:       inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", Newest: noon.Unix()},
		Method:      v1alpha1.MethodRolloutRestart,
		InputsHash:  "v1-inputs",
		Replicas:    object.Replicas,
		Attempt:     1,
		Start:       noon,
	}
}

// acting is an actor on an inventory, with what it remembers and sends.
type acting struct {
	*actor
	events *recorder
}

// actor makes an actor that writes by way of a client and reads from the API server.
func (w *world) actor(c client.Client, known *inventory.Inventory) *acting {
	return actorOf(c, w.admin, known)
}

func actorOf(c client.Client, reader client.Reader, known *inventory.Inventory) *acting {
	events, clock := &recorder{}, atNoon()
	return &acting{events: events, actor: newActor(&actor{
		client: c, reader: reader, inventory: known, now: clock.Now, namespace: "fullmesh-system",
		checker: newChecker(c, reader, clock.Now, func() {}), announcer: announcer{recorder: events}, done: func() {},
	})}
}

// ledger is what the API server has of a namespace's MeshRestarts.
func (w *world) ledger(t *testing.T, namespace string) []v1alpha1.MeshRestart {
	t.Helper()
	var list v1alpha1.MeshRestartList
	if err := w.admin.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// ledgerOf is what it has of one workload.
func (w *world) ledgerOf(t *testing.T, workload client.Object) []v1alpha1.MeshRestart {
	t.Helper()
	return slices.DeleteFunc(w.ledger(t, workload.GetNamespace()), func(r v1alpha1.MeshRestart) bool {
		return r.Spec.Workload.UID != string(workload.GetUID())
	})
}

// intercept is the operator's client with something between it and the API server.
func intercept(t *testing.T, w *world, funcs interceptor.Funcs) client.Client {
	t.Helper()
	c, err := client.NewWithWatch(w.config, client.Options{Scheme: testScheme, FieldOwner: FieldOwner,
		FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	return interceptor.NewClient(c, funcs)
}

// mapper knows the built-in kinds without asking anybody.
func mapper() meta.RESTMapper {
	return testrestmapper.TestOnlyStaticRESTMapper(testScheme)
}

// answering is a client that answers as a test says and has nothing behind it.
func answering(funcs interceptor.Funcs, objects ...client.Object) client.Client {
	return fake.NewClientBuilder().WithScheme(testScheme).WithRESTMapper(mapper()).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.MeshPolicy{}, &v1alpha1.MeshReport{}, &v1alpha1.MeshRestart{}).WithInterceptorFuncs(funcs).Build()
}
