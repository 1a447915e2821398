package chaos

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/test/availability"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/referee"
)

// witness sees every write to the cluster, in order, and holds Fullmesh to its promises after each.
// It knows the budgets and the disruption budgets of the fleet, and takes nothing from the operator
// but the MeshRestarts, and the names of them on templates.
type witness struct {
	teamOf  map[string]string // of each namespace
	budgets []disruptionBudget

	mu        sync.Mutex
	workloads map[types.NamespacedName]*sight    // by namespace and resource/name
	owners    map[types.UID]types.NamespacedName // of ReplicaSets of Deployments
	pods      availability.Pods
	ledger    referee.Ledger
	// created and touched count the MeshRestarts of a name that were created, and that touched their workload: a name
	// is taken again after one that never began.
	created, touched map[types.NamespacedName]int
	// byUsers are the Pods that users evict, named those that MeshRestarts say are evicted.
	byUsers    map[types.UID]bool
	named      map[types.UID]*inventory.Restart
	evicted    map[types.UID]int64 // when they were created
	violations []string
	restarts   int
	most       most
}

// most is the most that was seen at once, or of one workload.
type most struct{ workloads, pods, restartsOfOne int }

// disruptionBudget is a PodDisruptionBudget of the fleet.
type disruptionBudget struct {
	namespace, name string
	covers          labels.Selector
	needed          int
	broken          bool // now
}

// sight is what is known of a workload.
type sight struct {
	uid        types.UID
	generation int64
	replicas   int
	template   labels.Set
	// names is the MeshRestart that the template names.
	names string
	// cost is how many Pods a rollout takes down or adds at once: now, or when its restart began if
	// those were less.
	cost int
	gone bool // or going
	// disturbed says that somebody else than Fullmesh changed it, and that its Pods have not all been
	// ready since.
	disturbed bool
}

func newWitness(f *fleet) *witness {
	w := &witness{
		teamOf:    map[string]string{},
		workloads: map[types.NamespacedName]*sight{},
		owners:    map[types.UID]types.NamespacedName{},
		created:   map[types.NamespacedName]int{},
		touched:   map[types.NamespacedName]int{},
		byUsers:   map[types.UID]bool{},
		named:     map[types.UID]*inventory.Restart{},
		evicted:   map[types.UID]int64{},
	}
	for _, namespace := range f.namespaces {
		w.teamOf[namespace.Name] = namespace.Labels["team"]
	}
	for _, budget := range f.budgets {
		w.budgets = append(w.budgets, budgetSight(budget))
	}
	return w
}

func budgetSight(budget *policyv1.PodDisruptionBudget) disruptionBudget {
	return disruptionBudget{
		namespace: budget.Namespace, name: budget.Name,
		covers: labels.SelectorFromSet(budget.Spec.Selector.MatchLabels),
		needed: budget.Spec.MinAvailable.IntValue(),
	}
}

// see takes in a write.
func (w *witness) see(write *cluster.Write) {
	if w.teamOf[write.Namespace] == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch write.Resource {
	case "pods":
		if err := w.pods.See(write); err != nil {
			w.blame(write, "%v", err)
		}
		w.checkAvailability(write)
		w.seeEviction(write)
	case "deployments":
		see(w, write, &appsv1.Deployment{})
	case "statefulsets":
		see(w, write, &appsv1.StatefulSet{})
	case "daemonsets":
		see(w, write, &appsv1.DaemonSet{})
	case "replicasets":
		see(w, write, &appsv1.ReplicaSet{})
	case "meshrestarts.fullmesh.dev":
		w.seeRestart(write)
	}
}

func (w *witness) blame(write *cluster.Write, format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf("revision %d, %s %s/%s: ", write.Revision, write.Resource, write.Namespace, write.Name)+fmt.Sprintf(format, args...))
}

// seen is what was not as it should be so far.
func (w *witness) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.violations)
}

// checkAvailability holds every disruption budget of a namespace to what it needs, or to all that is
// asked for where users ask for less, unless somebody else than Fullmesh disturbs what it covers.
func (w *witness) checkAvailability(write *cluster.Write) {
	for i := range w.budgets {
		budget := &w.budgets[i]
		if budget.namespace != write.Namespace {
			continue
		}
		asked, disturbed := 0, false
		for key, seen := range w.workloads {
			if key.Namespace == budget.namespace && budget.covers.Matches(seen.template) {
				asked += seen.replicas
				disturbed = disturbed || seen.disturbed
			}
		}
		ready, _ := w.pods.Count(budget.namespace, budget.covers)
		broken := !disturbed && ready < min(budget.needed, asked)
		if broken && !budget.broken {
			w.blame(write, "%d Pods are ready and PodDisruptionBudget %s needs %d, though nobody but Fullmesh restarts them", ready, budget.name, budget.needed)
		}
		budget.broken = broken
	}
}

// evictsByUser says that a user is about to evict a Pod.
func (w *witness) evictsByUser(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byUsers[uid] = true
}

// seeEviction holds evictions to what MeshRestarts say. The API server marks a Pod before it deletes it.
func (w *witness) seeEviction(write *cluster.Write) {
	if write.Deleted() {
		return
	}
	var pod corev1.Pod
	if err := write.Into(&pod); err != nil {
		w.blame(write, "it cannot be read: %v", err)
		return
	}
	owner := metav1.GetControllerOf(&pod)
	isEvicted := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Reason == "EvictionByEvictionAPI"
	})
	if _, known := w.evicted[pod.UID]; known || !isEvicted || owner == nil {
		return
	}
	w.evicted[pod.UID] = pod.CreationTimestamp.Unix()
	if w.named[pod.UID] == nil && !w.byUsers[pod.UID] {
		w.blame(write, "it is evicted, and no MeshRestart has named it")
	}
}

// seeRestart holds the ledger to what is promised of it, and to the budgets.
func (w *witness) seeRestart(write *cluster.Write) {
	name := types.NamespacedName{Namespace: write.Namespace, Name: write.Name}
	if write.Deleted() {
		if former := w.ledger.Of(write.Namespace, write.Name); former != nil {
			w.blameFor(write, w.ledger.Delete(write.Namespace, write.Name, w.isGone(former.WorkloadUID)))
		}
		return
	}
	var object v1alpha1.MeshRestart
	if err := write.Into(&object); err != nil {
		w.blame(write, "it cannot be read: %v", err)
		return
	}
	r, former := inventory.FromMeshRestart(&object), w.ledger.Of(write.Namespace, write.Name)
	w.blameFor(write, w.ledger.Write(r))
	for _, uid := range r.Evicting {
		w.named[uid] = r
	}
	if former == nil {
		w.created[name]++
		w.checkStart(write, r)
	}
	if r.InFlight() {
		w.checkBudgets(write)
	}
}

// workloadOf is a workload by its UID; nil where it is not known.
func (w *witness) workloadOf(uid types.UID) *sight {
	for _, known := range w.workloads {
		if known.uid == uid {
			return known
		}
	}
	return nil
}

// isGone reports whether a workload was deleted, or is being deleted.
func (w *witness) isGone(uid types.UID) bool {
	known := w.workloadOf(uid)
	return known == nil || known.gone
}

func (w *witness) blameFor(write *cluster.Write, err error) {
	if err != nil {
		w.blame(write, "%v", err)
	}
}

// keyOf is an owner as the witness knows workloads: by namespace and resource/name.
func keyOf(namespace string, owner *metav1.OwnerReference) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: strings.ToLower(owner.Kind) + "s/" + owner.Name}
}

// status is what a workload's own controller says.
type status struct {
	observed                          int64
	replicas, updated, current, ready int32
}

func see(w *witness, write *cluster.Write, object client.Object) {
	key := types.NamespacedName{Namespace: write.Namespace, Name: write.Resource + "/" + write.Name}
	known := w.workloads[key]
	if write.Deleted() {
		if known != nil {
			known.gone, known.disturbed = true, true
		}
		return
	}
	if err := write.Into(object.(runtime.Object)); err != nil {
		w.blame(write, "it cannot be read: %v", err)
		return
	}
	if owner := metav1.GetControllerOf(object); owner != nil {
		w.owners[object.GetUID()] = keyOf(write.Namespace, owner)
		return
	}
	if known == nil || known.uid != object.GetUID() {
		known = &sight{uid: object.GetUID(), disturbed: true}
		w.workloads[key] = known
	}
	template, s := taken(object)
	known.template, known.replicas = template.Labels, int(s.replicas)
	started := false
	if names := template.Annotations[v1alpha1.RestartedByAnnotation]; names != known.names {
		var err error
		started, err = w.ledger.Touch(write.Namespace, names, known.uid, object.GetGeneration())
		w.blameFor(write, err)
		known.names = names
	}
	if started {
		w.restarts++
		w.touched[types.NamespacedName{Namespace: write.Namespace, Name: known.names}]++
		w.most.restartsOfOne = max(w.most.restartsOfOne, len(w.ledger.Begun(known.uid)))
	}
	if cost := costOf(object); !w.inFlight(known.uid) {
		known.cost = cost
	} else {
		known.cost = min(known.cost, cost)
	}
	if object.GetGeneration() != known.generation && !started {
		known.disturbed = true
	}
	known.generation = object.GetGeneration()
	if object.GetDeletionTimestamp() != nil {
		known.gone, known.disturbed = true, true // its Pods go before it does
		return
	}
	if known.disturbed && s.observed == known.generation && s.updated == s.replicas && s.current == s.replicas && s.ready == s.replicas {
		ready, all := w.pods.Count(write.Namespace, labels.SelectorFromSet(labels.Set{"app": template.Labels["app"]}))
		known.disturbed = ready != int(s.replicas) || all != ready
	}
}

// taken reads what differs by kind.
func taken(object client.Object) (*corev1.PodTemplateSpec, status) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template, status{o.Status.ObservedGeneration, *o.Spec.Replicas, o.Status.UpdatedReplicas, o.Status.Replicas, o.Status.ReadyReplicas}
	case *appsv1.StatefulSet:
		return &o.Spec.Template, status{o.Status.ObservedGeneration, *o.Spec.Replicas, o.Status.UpdatedReplicas, o.Status.Replicas, o.Status.ReadyReplicas}
	case *appsv1.DaemonSet:
		return &o.Spec.Template, status{o.Status.ObservedGeneration, o.Status.DesiredNumberScheduled, o.Status.UpdatedNumberScheduled, o.Status.CurrentNumberScheduled, o.Status.NumberReady}
	case *appsv1.ReplicaSet:
		return &o.Spec.Template, status{o.Status.ObservedGeneration, *o.Spec.Replicas, o.Status.Replicas, o.Status.Replicas, o.Status.ReadyReplicas}
	default:
		panic(fmt.Sprintf("a %T is no workload", object))
	}
}

// inFlight reports whether a restart of a workload has not ended.
func (w *witness) inFlight(uid types.UID) bool {
	return slices.ContainsFunc(w.ledger.Unfinished(), func(r *inventory.Restart) bool { return r.WorkloadUID == uid })
}

// costOf is how many Pods a rollout restart of a workload of the fleet takes down or adds at once, at least.
func costOf(object client.Object) int {
	switch o := object.(type) {
	case *appsv1.Deployment:
		if o.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
			return int(*o.Spec.Replicas)
		}
		return o.Spec.Strategy.RollingUpdate.MaxSurge.IntValue() + min(o.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), int(*o.Spec.Replicas))
	default:
		return 1
	}
}

// checkStart holds a restart that was just recorded to the disruption budgets that it shares with others in flight.
func (w *witness) checkStart(write *cluster.Write, r *inventory.Restart) {
	if r.Method == v1alpha1.MethodEviction {
		w.restarts++
		w.most.restartsOfOne = max(w.most.restartsOfOne, len(w.ledger.Begun(r.WorkloadUID)))
	}
	started := w.workloadOf(r.WorkloadUID)
	if started == nil {
		w.blame(write, "the workload %s with the UID %s was never seen", r.Workload, r.WorkloadUID)
		return
	}
	for _, other := range w.ledger.Unfinished() {
		if other.Namespace == r.Namespace && other.WorkloadUID != r.WorkloadUID && !w.isGone(other.WorkloadUID) {
			w.checkShared(write, started, w.workloadOf(other.WorkloadUID))
		}
	}
}

// checkBudgets holds what is in flight to the budgets, by all MeshRestarts that have not ended, as soon as they exist.
func (w *witness) checkBudgets(write *cluster.Write) {
	team := w.teamOf[write.Namespace]
	takes := func(r *inventory.Restart) int {
		if workload := w.workloadOf(r.WorkloadUID); r.Method == v1alpha1.MethodRolloutRestart && workload != nil {
			return workload.cost
		}
		return max(1, len(r.Evicting))
	}
	used := w.ledger.InUse(func(r *inventory.Restart) (int, bool) { return takes(r), w.teamOf[r.Namespace] == team })
	w.most.workloads, w.most.pods = max(w.most.workloads, used.Workloads), max(w.most.pods, used.Pods)
	w.blameFor(write, referee.Budget{Scope: "Policy", Usage: referee.Usage{Workloads: policyWorkloads, Pods: policyPods}}.Allows(used))
	used = w.ledger.InUse(func(r *inventory.Restart) (int, bool) { return 0, r.Namespace == write.Namespace })
	w.blameFor(write, referee.Budget{Scope: "Namespace", Usage: referee.Usage{Workloads: namespaceWorkloads}}.Allows(used))
}

// checkShared holds two restarts to the disruption budget that covers both.
func (w *witness) checkShared(write *cluster.Write, started, other *sight) {
	for i := range w.budgets {
		budget := &w.budgets[i]
		if other != started && budget.namespace == write.Namespace && budget.covers.Matches(started.template) && budget.covers.Matches(other.template) {
			w.blame(write, "another workload of PodDisruptionBudget %s is in flight", budget.name)
		}
	}
}

// unfinished names the restarts that have not ended.
func (w *witness) unfinished() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, r := range w.ledger.Unfinished() {
		names = append(names, r.Namespace+"/"+r.Name)
	}
	return names
}
