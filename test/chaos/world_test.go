package chaos

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

// patience bounds every wait. It is longer than Kubernetes' own controllers leave alone what has failed for them
// again and again: 1000 s (k8s.io/client-go/util/workqueue, DefaultTypedControllerRateLimiter).
const patience = 20 * time.Minute

// world is what chaos befalls.
type world struct {
	*cluster.Cluster
	t        *testing.T
	admin    client.Client
	fleet    *fleet
	witness  *witness
	journal  *cluster.Journal
	replicas []*operator.Replica
	network  *network

	// What the steps have done so far; the steps alone decide on it.
	istiodStopped, lettingPass, stopped bool
	cordoned                            map[string]bool
}

func newWorld(t *testing.T, seed uint64, workloads int) *world {
	w := &world{
		Cluster:  cluster.ForTest(t, cluster.Options{Nodes: 4, Supervised: true}),
		t:        t,
		fleet:    newFleet(workloads),
		network:  newNetwork(seed),
		cordoned: map[string]bool{},
	}
	w.witness = newWitness(w.fleet)
	var err error
	if w.journal, err = w.Follow(t.Context(), w.witness.see); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.journal.Close)
	installation, err := operator.Install(t.Context(), w.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	w.admin = installation.Admin
	kubeconfig := installation.Behind(t, w.Cluster, w.network.inFrontOf)
	w.populate()
	for range 2 {
		w.replicas = append(w.replicas, installation.Start(t, "--kubeconfig", kubeconfig, "--leader-elect-lease-duration", "5s"))
	}
	return w
}

// populate makes the fleet and waits until all of it runs, outside of the mesh.
func (w *world) populate() {
	for _, namespace := range w.fleet.namespaces {
		w.create(namespace)
	}
	for _, workload := range append(w.fleet.workloads, w.fleet.untouchable...) {
		w.create(workload)
	}
	for _, budget := range w.fleet.budgets {
		w.create(budget)
	}
	w.awaitReady()
}

func (w *world) create(object client.Object) {
	if err := w.admin.Create(w.t.Context(), object.DeepCopyObject().(client.Object)); err != nil {
		w.t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
	}
}

func (w *world) awaitReady() {
	for _, workload := range w.fleet.workloads {
		w.eventually(workload.GetNamespace()+"/"+workload.GetName()+" is rolled out", func(ctx context.Context) error {
			now := workload.DeepCopyObject().(client.Object)
			if err := w.admin.Get(ctx, client.ObjectKeyFromObject(workload), now); err != nil {
				return err
			}
			_, s := taken(now)
			if s.observed != now.GetGeneration() || s.updated != s.replicas || s.current != s.replicas || s.ready != s.replicas {
				return fmt.Errorf("generation %d, %+v", now.GetGeneration(), s)
			}
			return nil
		})
	}
}

// eventually waits until condition returns nil.
func (w *world) eventually(what string, condition func(context.Context) error) {
	w.t.Helper()
	if err := cluster.Eventually(w.t.Context(), 100*time.Millisecond, patience, condition); err != nil {
		w.t.Fatalf("waiting until %s: %v", what, err)
	}
}

// insist does something until it succeeds: users, too, try again while the API server is away.
func (w *world) insist(do func(context.Context) error) error { return w.insistFor(time.Minute, do) }

func (w *world) insistFor(limit time.Duration, do func(context.Context) error) error {
	return cluster.Eventually(w.t.Context(), 100*time.Millisecond, limit, func(ctx context.Context) error {
		// Nobody waits for one answer forever.
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return do(ctx)
	})
}

// change changes an object in the cluster, as another than who made it: what is said of fields that it
// leaves alone stays true.
func change[T client.Object](w *world, object T, how func(T)) error {
	return w.insist(func(ctx context.Context) error {
		if err := w.admin.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		how(object)
		return w.admin.Update(ctx, object, client.FieldOwner("kubectl-edit"))
	})
}

// calm undoes what the steps have done, as administrators and users would in the end.
func (w *world) calm() error {
	w.network.become(states[0], 0)
	var errs []error
	if w.istiodStopped {
		errs = append(errs, w.StartIstiod(w.t.Context(), cluster.DefaultRevision))
	}
	if w.lettingPass {
		_, err := w.toggleFailurePolicy(step{})
		errs = append(errs, err)
	}
	if w.stopped {
		_, err := w.toggleRedButton(step{})
		errs = append(errs, err)
	}
	for node, cordoned := range w.cordoned {
		if cordoned {
			errs = append(errs, w.setCordoned(node, false))
		}
	}
	for _, policy := range w.fleet.policies {
		errs = append(errs, change(w, policy.DeepCopy(), func(p *v1alpha1.MeshPolicy) { p.Spec = policy.Spec }))
	}
	for _, namespace := range w.fleet.namespaces {
		errs = append(errs, change(w, namespace.DeepCopy(), func(n *corev1.Namespace) {
			n.Labels[injectionLabel] = "enabled"
		}))
	}
	for _, workload := range w.fleet.workloads {
		errs = append(errs, w.restore(workload))
	}
	return errors.Join(errs...)
}

// restore makes a workload what it was, but for what Fullmesh and rollouts wrote.
func (w *world) restore(workload client.Object) error {
	return change(w, workload.DeepCopyObject().(client.Object), func(now client.Object) {
		annotations := now.GetAnnotations()
		delete(annotations, v1alpha1.RestartAnnotation)
		now.SetAnnotations(annotations)
		template, _ := taken(now)
		delete(template.Labels, sidecarLabel)
		setReplicas(now, replicasOf(workload))
		if d, is := now.(*appsv1.Deployment); is {
			d.Spec.Paused = false
		}
	})
}

// awaitFullMesh waits until every namespace of the fleet says that it is in the mesh and that nothing
// is left to do, and checks that it is so.
func (w *world) awaitFullMesh() {
	w.eventually("everything is in the mesh and settled", func(ctx context.Context) error {
		var errs []error
		for _, namespace := range w.fleet.namespaces {
			conditions := []string{v1alpha1.ConditionSettled, v1alpha1.ConditionFullMesh}
			if namespace.Name == strays {
				conditions = conditions[:1]
			}
			errs = append(errs, w.says(ctx, namespace.Name, conditions))
		}
		return errors.Join(errs...)
	})
	w.awaitReady()
}

// says tells what the report of a namespace has left where its conditions are not all true.
func (w *world) says(ctx context.Context, namespace string, conditions []string) error {
	report := &v1alpha1.MeshReport{}
	if err := w.admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ReportName}, report); err != nil {
		return err
	}
	var errs []error
	for _, condition := range conditions {
		if !meta.IsStatusConditionTrue(report.Status.Conditions, condition) {
			errs = append(errs, fmt.Errorf("the report of %s is not %s", namespace, condition))
		}
	}
	if len(errs) > 0 {
		for _, left := range report.Status.Workloads {
			errs = append(errs, fmt.Errorf("%s %s/%s: %s %s: %s", left.Kind, namespace, left.Name, left.Action, left.Reason, left.Message))
		}
	}
	return errors.Join(errs...)
}

// uninjected names the Pods of the fleet that have no sidecar.
func (w *world) uninjected() []string {
	var outside []string
	for _, namespace := range w.fleet.namespaces {
		var pods corev1.PodList
		if err := w.admin.List(w.t.Context(), &pods, client.InNamespace(namespace.Name)); err != nil {
			w.t.Fatal(err)
		}
		for i := range pods.Items {
			if pod := &pods.Items[i]; namespace.Name != strays && !w.witness.pods.Injected(pod.UID) {
				outside = append(outside, pod.Namespace+"/"+pod.Name)
			}
		}
	}
	return outside
}

// untouched are the UIDs of the Pods that nobody may restart.
func (w *world) untouched() map[string]bool {
	uids := map[string]bool{}
	var pods corev1.PodList
	if err := w.admin.List(w.t.Context(), &pods, client.InNamespace(strays)); err != nil {
		w.t.Fatal(err)
	}
	for i := range pods.Items {
		uids[string(pods.Items[i].UID)] = true
	}
	return uids
}

// gone is not an error where something is to be deleted.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
