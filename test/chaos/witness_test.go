package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

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
)

// witness sees every write to the cluster, in order, and holds Fullmesh to its promises after each.
// It knows the budgets and the disruption budgets of the fleet, and takes nothing from the operator
// but what is written on workloads.
type witness struct {
	teamOf  map[string]string // of each namespace
	budgets []disruptionBudget

	mu         sync.Mutex
	workloads  map[types.NamespacedName]*sight    // by namespace and resource/name
	owners     map[types.UID]types.NamespacedName // of ReplicaSets of Deployments
	pods       availability.Pods
	evicted    map[types.UID]evictedFor
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
	// cost is how many Pods a rollout takes down or adds at once: now, or when its restart began if
	// those were less.
	cost   int
	record *record
	// causes are those for which it was restarted, ever; newest is the last one's.
	causes map[string]bool
	newest int64
	// disturbed says that somebody else than Fullmesh changed it, and that its Pods have not all been
	// ready since.
	disturbed bool
}

// evictedFor is what was in flight when a Pod was evicted, by whomever; the empty cause if nothing was.
type evictedFor struct {
	cause   string
	created int64
}

// record is what Fullmesh writes down about a restart, as far as it matters here.
type record struct {
	Cause, Result string
	Method        v1alpha1.RestartMethod
	Start         time.Time
}

func (r *record) inFlight() bool { return r != nil && r.Result == "" }

// goneOnWith reports whether next evicts what former evictions have left: they were interrupted before all Pods were
// evicted, or ended because one came up without a sidecar, which has gone since.
func (r *record) goneOnWith(next *record) bool {
	if r == nil || next.Method != v1alpha1.MethodEviction || r.Method != v1alpha1.MethodEviction ||
		r.Result != string(v1alpha1.ResultInterrupted) && r.Result != string(v1alpha1.ResultIneffective) {
		return false
	}
	former, formerErr := inventory.ParseCause(r.Cause)
	cause, err := inventory.ParseCause(next.Cause)
	return formerErr == nil && err == nil && former.Covers(cause)
}

// triedAnewFor reports whether a restart for the cause tries again what had failed, as is promised where
// something that decides has changed since.
func (r *record) triedAnewFor(cause *inventory.Cause) bool {
	if r == nil || r.Result != string(v1alpha1.ResultFailed) {
		return false
	}
	failed, err := inventory.ParseCause(r.Cause)
	return err == nil && failed.Retry != cause.Retry
}

func newWitness(f *fleet) *witness {
	w := &witness{
		teamOf:    map[string]string{},
		workloads: map[types.NamespacedName]*sight{},
		owners:    map[types.UID]types.NamespacedName{},
		evicted:   map[types.UID]evictedFor{},
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

// seeEviction notes what an eviction is a part of. The API server marks a Pod before it deletes it.
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
	key, ofDeployment := w.owners[owner.UID]
	if !ofDeployment {
		key = keyOf(pod.Namespace, owner)
	}
	workload := w.workloads[key]
	if workload == nil || !ofDeployment && workload.uid != owner.UID {
		return // it is gone
	}
	during := evictedFor{created: pod.CreationTimestamp.Unix()}
	if workload.record.inFlight() {
		during.cause = workload.record.Cause
	}
	w.evicted[pod.UID] = during
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
			known.record, known.disturbed = nil, true
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
		known = &sight{uid: object.GetUID(), causes: map[string]bool{}, disturbed: true}
		w.workloads[key] = known
	}
	template, s := taken(object)
	known.template, known.replicas = template.Labels, int(s.replicas)
	former := known.record
	known.record = w.recordOf(write, object)
	started := known.record.inFlight() && (!former.inFlight() || former.Cause != known.record.Cause)
	if started || !known.record.inFlight() {
		known.cost = costOf(object, known.record)
	}
	known.cost = min(known.cost, costOf(object, known.record))
	if started {
		w.checkStart(write, known, former)
	}
	if object.GetGeneration() != known.generation && (!started || known.record.Method != v1alpha1.MethodRolloutRestart) {
		known.disturbed = true
	}
	known.generation = object.GetGeneration()
	if object.GetDeletionTimestamp() != nil {
		known.disturbed = true // its Pods go before it does
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

// costOf is how many Pods a restart of a workload of the fleet takes down or adds at once, at least.
func costOf(object client.Object, by *record) int {
	if by.inFlight() && by.Method != v1alpha1.MethodRolloutRestart {
		return 1
	}
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

// recordOf is what Fullmesh wrote about the last restart of this very object.
func (w *witness) recordOf(write *cluster.Write, object metav1.Object) *record {
	text, set := object.GetAnnotations()[v1alpha1.LastRestartAnnotation]
	if !set {
		return nil
	}
	read := &record{}
	if err := json.Unmarshal([]byte(text), read); err != nil {
		w.blame(write, "the record %q cannot be read: %v", text, err)
		return nil
	}
	if !strings.Contains(read.Cause, string(object.GetUID())) {
		return nil // copied from another
	}
	return read
}

// checkStart holds the start of a restart to the budgets, and to once per cause: evictions that were
// interrupted may go on, of the Pods that are left.
func (w *witness) checkStart(write *cluster.Write, started *sight, former *record) {
	cause, err := inventory.ParseCause(started.record.Cause)
	goesOn := former.goneOnWith(started.record)
	if !goesOn {
		w.restarts++
	}
	switch {
	case err != nil:
		w.blame(write, "it was restarted for a cause that nobody can read: %v", err)
	case goesOn:
	case started.causes[started.record.Cause]:
		w.blame(write, "it was restarted again for the cause %s", started.record.Cause)
	case former.triedAnewFor(&cause):
	case cause.Newest <= started.newest:
		w.blame(write, "it was restarted for Pods of second %d after it had been restarted for those of second %d", cause.Newest, started.newest)
	}
	started.causes[started.record.Cause] = true
	started.newest = max(started.newest, cause.Newest)
	w.most.restartsOfOne = max(w.most.restartsOfOne, len(started.causes))

	team := w.teamOf[write.Namespace]
	var inPolicy, inNamespace, pods int
	var records []string
	for key, other := range w.workloads {
		if !other.record.inFlight() || w.teamOf[key.Namespace] != team {
			continue
		}
		inPolicy++
		pods += other.cost
		records = append(records, fmt.Sprintf("%s: %+v", key, *other.record))
		if key.Namespace == write.Namespace {
			inNamespace++
			w.checkShared(write, started, other)
		}
	}
	w.most.workloads, w.most.pods = max(w.most.workloads, inPolicy), max(w.most.pods, pods)
	if inPolicy > policyWorkloads || pods > policyPods {
		w.blame(write, "%d workloads with %d Pods are in flight; policy %s allows %d and %d: %q", inPolicy, pods, team, policyWorkloads, policyPods, records)
	}
	if inNamespace > namespaceWorkloads {
		w.blame(write, "%d workloads of its namespace are in flight, and %d are allowed", inNamespace, namespaceWorkloads)
	}
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

// checkEvictions says which Pods the operator evicted that it should not have.
func (w *witness) checkEvictions(audit []cluster.AuditEvent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for i := range audit {
		event := &audit[i]
		if event.Resource != "pods" || event.Subresource != "eviction" || event.DryRun || event.Code >= 300 {
			continue
		}
		var body policyv1.Eviction
		if err := json.Unmarshal(event.Object, &body); err != nil {
			return fmt.Errorf("reading an eviction of the audit log: %w", err)
		}
		switch {
		case body.DeleteOptions == nil || body.DeleteOptions.Preconditions == nil || body.DeleteOptions.Preconditions.UID == nil:
			errs = append(errs, fmt.Errorf("Pod %s/%s was evicted without a precondition on its uid", event.Namespace, event.Name))
		case w.pods.Injected(*body.DeleteOptions.Preconditions.UID):
			errs = append(errs, fmt.Errorf("Pod %s/%s was evicted, though it has a sidecar", event.Namespace, event.Name))
		default:
			errs = append(errs, w.checkCohort(event, *body.DeleteOptions.Preconditions.UID))
		}
	}
	return errors.Join(errs...)
}

// checkCohort says what is wrong with an eviction by the operator: only Pods may be evicted that ran when
// the restart's cause arose, and none of those that came in their place.
func (w *witness) checkCohort(event *cluster.AuditEvent, uid types.UID) error {
	during, known := w.evicted[uid]
	cause, err := inventory.ParseCause(during.cause)
	switch {
	case !known:
		return nil // its workload was gone
	case err != nil:
		return fmt.Errorf("Pod %s/%s was evicted, and no restart of its workload was in flight", event.Namespace, event.Name)
	case during.created > cause.Newest:
		return fmt.Errorf("Pod %s/%s, created at second %d, was evicted for the cause %s", event.Namespace, event.Name, during.created, during.cause)
	default:
		return nil
	}
}

// inFlight names the restarts that have not ended.
func (w *witness) inFlight() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for key, seen := range w.workloads {
		if seen.record.inFlight() {
			names = append(names, key.String())
		}
	}
	slices.Sort(names)
	return names
}
