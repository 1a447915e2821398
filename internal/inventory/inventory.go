package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Inventory is what is known of the cluster. It is safe for concurrent use. New makes one.
type Inventory struct {
	mu sync.Mutex

	injector *mesh.Injector
	// injectorChanged is when it did last; revisionChanged, when what injects by a revision did.
	injectorChanged time.Time
	revisionChanged map[string]time.Time

	namespaces map[string]*namespace
	workloads  map[mesh.Key]*workload
	groups     map[groupKey]*group
	pods       map[types.UID]*mesh.Pod
	objects    map[types.UID]*Object
	links      map[types.UID]*Link
	services   map[types.NamespacedName]*mesh.Service
	// templateRefs are the objects that take their template from the workload of a key, as they were read.
	templateRefs map[mesh.Key]map[types.UID]*Object

	// unread are the kinds of which not all objects have been taken in, with what keeps them from it.
	unread map[string]string
	// peers are the PeerAuthentications; ordered is made of them when it is asked for.
	peers   map[types.NamespacedName]*mesh.PeerAuthentication
	ordered *mesh.PeerAuthentications

	nodes map[unique.Handle[string]]*Node
	// cordoned is how many of the nodes are.
	cordoned int

	// evicted are the Pods whose eviction the API server has accepted, until they are gone.
	evicted map[types.UID]struct{}

	// deletedRestarts are the MeshRestarts that this process has deleted, until the informer has them no more.
	deletedRestarts map[types.UID]struct{}

	// unjudged are the workloads that have changed since the last snapshot.
	unjudged map[*workload]struct{}
}

type namespace struct {
	name        string
	known       bool
	terminating bool
	labels      map[string]string
	annotations map[string]string
	changed     time.Time
	// generation counts the changes of the labels.
	generation int64

	// workloads by kind, name and group, as snapshots list them.
	workloads []*workload
	budgets   map[string]DisruptionBudget
	// restarts are the MeshRestarts, by their names, and restartsOf by the UIDs of their workloads.
	restarts   map[string]*Restart
	restartsOf map[types.UID][]*Restart
	// view is what Snapshot gave last; nil when something has changed since.
	view *Namespace
}

type workload struct {
	key    mesh.Key
	object *Object
	groups map[*group]struct{}
	judged *Workload
	// expectation is kept for as long as what it was made from stays, and with it what was judged
	// of Pods by it. That is of one or two observations, for which a map is too large.
	expectation   mesh.Expectation
	expectedUnder expectedUnder
	judgements    []judgement
}

// judgement is what is said of Pods that carry the same.
type judgement struct {
	mesh.Judgement
	observed unique.Handle[mesh.Observation]
	notes    []mesh.Note
}

// keptJudgements is how many judgements are kept for a workload.
const keptJudgements = 16

// expectedUnder is what the expectation of a known object depends on.
type expectedUnder struct {
	injector  *mesh.Injector
	uid       types.UID
	template  string
	namespace int64
}

// New makes an empty inventory, in which no injector is known.
func New() *Inventory {
	return &Inventory{
		injector: mesh.NewInjector(nil, nil, mesh.Options{}),

		revisionChanged: map[string]time.Time{},

		namespaces:   map[string]*namespace{},
		workloads:    map[mesh.Key]*workload{},
		groups:       map[groupKey]*group{},
		pods:         map[types.UID]*mesh.Pod{},
		objects:      map[types.UID]*Object{},
		links:        map[types.UID]*Link{},
		services:     map[types.NamespacedName]*mesh.Service{},
		templateRefs: map[mesh.Key]map[types.UID]*Object{},
		unread:       map[string]string{},
		peers:        map[types.NamespacedName]*mesh.PeerAuthentication{},
		nodes:        map[unique.Handle[string]]*Node{},
		evicted:      map[types.UID]struct{}{},

		deletedRestarts: map[types.UID]struct{}{},

		unjudged: map[*workload]struct{}{},
	}
}

// SetInjector puts the injector model in the place of the former one. changed is when it became
// what it is, as far as its objects tell. A model that decides the same changes nothing.
func (i *Inventory) SetInjector(injector *mesh.Injector, changed time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if injector.Equal(i.injector) {
		return
	}
	// A snapshot may have the former one.
	i.revisionChanged = maps.Clone(i.revisionChanged)
	for _, revision := range slices.Concat(i.injector.Revisions(), injector.Revisions()) {
		if i.injector.Fingerprint(revision) != injector.Fingerprint(revision) {
			i.revisionChanged[revision] = changed
		}
	}
	i.injector, i.injectorChanged = injector, changed
	for _, w := range i.workloads {
		i.touch(w)
	}
}

// SetUnread says that there may be objects of a kind that have not been taken in, and what keeps them
// from it; empty where they are on their way.
func (i *Inventory) SetUnread(kind, why string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.unread[kind] = why
}

// SetRead says that every object of a kind has been taken in.
func (i *Inventory) SetRead(kind string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.unread, kind)
}

// SetNamespace takes in a namespace. A change of its labels that is seen now counts from now,
// otherwise from when its writers say that they wrote them.
func (i *Inventory) SetNamespace(object *corev1.Namespace, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.namespace(object.Name)
	if !n.known || !maps.Equal(n.labels, object.Labels) {
		n.changed = LastWritten(object, "f:labels")
		if n.known || n.changed.After(now) {
			n.changed = now
		}
		n.generation++
		for _, w := range n.workloads {
			i.touch(w)
		}
	}
	n.known = true
	n.labels, n.annotations = object.Labels, object.Annotations
	n.terminating = object.DeletionTimestamp != nil
	n.view = nil
}

// DeleteNamespace forgets a namespace. Its objects are forgotten one by one.
func (i *Inventory) DeleteNamespace(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n, found := i.namespaces[name]; found {
		n.known, n.view, n.labels, n.annotations = false, nil, nil, nil
		n.generation++
		for _, w := range n.workloads {
			i.touch(w)
		}
		i.dropNamespace(n)
	}
}

// SetObject takes in a workload's object, unless a newer one is known already.
func (i *Inventory) SetObject(object *Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.links, object.UID)
	if StandsBetween(object) {
		i.objects[object.UID] = object
		i.regroup(object.Namespace, object.UID)
		i.takeDown(object)
		return
	}
	w := i.workload(object.Key())
	if w.object != nil && Newer(w.object.ResourceVersion, object.ResourceVersion) {
		return
	}
	if former := w.object; former != nil {
		i.releaseTemplate(former)
		if former.UID != object.UID {
			delete(i.objects, former.UID)
		}
	}
	w.object = i.resolveTemplate(object)
	i.objects[object.UID] = object
	i.touch(w)
	i.regroup(object.Namespace, object.UID)
	i.propagateTemplate(w)
}

// DeleteObject forgets a workload's object. One that has been made anew under the same name
// stays.
func (i *Inventory) DeleteObject(object *Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.deleteObject(object)
}

func (i *Inventory) deleteObject(object *Object) {
	delete(i.objects, object.UID)
	i.regroup(object.Namespace, object.UID)
	i.takeDown(object)
}

// takeDown takes the object from the workload of its name, where it stands for itself.
func (i *Inventory) takeDown(object *Object) {
	w, found := i.workloads[object.Key()]
	if !found || w.object == nil || w.object.UID != object.UID {
		return
	}
	i.releaseTemplate(w.object)
	w.object = nil
	i.propagateTemplate(w)
	i.touch(w)
	i.dropWorkload(w)
}

// SetLink takes in what stands between Pods and their workload.
func (i *Inventory) SetLink(link *Link) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if object, found := i.objects[link.UID]; found {
		i.deleteObject(object)
	}
	i.links[link.UID] = link
	i.regroup(link.Namespace, link.UID)
}

// DeleteLink forgets what stood between Pods and their workload.
func (i *Inventory) DeleteLink(uid types.UID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if link, found := i.links[uid]; found {
		delete(i.links, uid)
		i.regroup(link.Namespace, uid)
	}
}

// SetPod takes in a Pod. One that was evicted does not come back, whatever is learned of it late.
func (i *Inventory) SetPod(pod *mesh.Pod) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, evicted := i.evicted[pod.UID]; evicted && !pod.Terminating {
		going := *pod
		going.Terminating = true
		pod = &going
	}
	i.setPod(pod)
}

// Evicted takes in that the API server has accepted the eviction of a Pod, so the next decision
// counts it as going before the informer tells.
func (i *Inventory) Evicted(uid types.UID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if pod, found := i.pods[uid]; found {
		i.evicted[uid] = struct{}{}
		going := *pod
		going.Terminating = true
		i.setPod(&going)
	}
}

func (i *Inventory) setPod(pod *mesh.Pod) {
	if old, found := i.pods[pod.UID]; found {
		if old.Owner == pod.Owner {
			g := i.groups[groupOf(old)]
			g.remove(old)
			g.add(pod, i.isUnplaced(pod))
			i.pods[pod.UID] = pod
			i.touch(g.workload)
			return
		}
		i.removePod(old)
	}
	i.pods[pod.UID] = pod
	id := groupOf(pod)
	g, found := i.groups[id]
	if !found {
		g = &group{
			namespace: pod.Namespace,
			pods:      map[types.UID]*mesh.Pod{},
			classes:   map[unique.Handle[mesh.Observation]]*class{},
		}
		if id.uid != pod.UID {
			g.owner = pod.Owner
		}
		i.groups[id] = g
	}
	g.add(pod, i.isUnplaced(pod))
	if !found {
		i.attach(g, i.rootOf(g))
	}
	i.touch(g.workload)
}

// DeletePod forgets a Pod.
func (i *Inventory) DeletePod(uid types.UID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.evicted, uid)
	if pod, found := i.pods[uid]; found {
		i.removePod(pod)
	}
}

// SetDisruptionBudget takes in a PodDisruptionBudget. A selector that cannot be read selects
// nothing, as it does for the disruption controller.
func (i *Inventory) SetDisruptionBudget(object *policyv1.PodDisruptionBudget) {
	selector, err := metav1.LabelSelectorAsSelector(object.Spec.Selector)
	if err != nil {
		selector = labels.Nothing()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.namespace(object.Namespace)
	n.view = nil
	n.budgets[object.Name] = DisruptionBudget{
		Name:     object.Name,
		Selector: selector,
		Allowed:  int(object.Status.DisruptionsAllowed),
		Healthy:  int(object.Status.CurrentHealthy),
		Desired:  int(object.Status.DesiredHealthy),
		Expected: int(object.Status.ExpectedPods),
		Observed: object.Status.ObservedGeneration >= object.Generation,

		EvictsUnready: object.Spec.UnhealthyPodEvictionPolicy != nil && *object.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow,
	}
}

// DeleteDisruptionBudget forgets a PodDisruptionBudget.
func (i *Inventory) DeleteDisruptionBudget(namespace, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n, found := i.namespaces[namespace]; found {
		delete(n.budgets, name)
		n.view = nil
		i.dropNamespace(n)
	}
}

// ResourceVersionOf is the resource version at which an object, link or Pod is known, and whether
// it is known at all.
func (i *Inventory) ResourceVersionOf(uid types.UID) (string, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if pod, found := i.pods[uid]; found {
		return pod.ResourceVersion, true
	}
	if object, found := i.objects[uid]; found {
		return object.ResourceVersion, true
	}
	if link, found := i.links[uid]; found {
		return link.ResourceVersion, true
	}
	return "", false
}

func (i *Inventory) namespace(name string) *namespace {
	n, found := i.namespaces[name]
	if !found {
		n = &namespace{name: name, budgets: map[string]DisruptionBudget{}, restarts: map[string]*Restart{},
			restartsOf: map[types.UID][]*Restart{}}
		i.namespaces[name] = n
	}
	return n
}

func (i *Inventory) workload(key mesh.Key) *workload {
	w, found := i.workloads[key]
	if !found {
		w = &workload{key: key, groups: map[*group]struct{}{}}
		i.workloads[key] = w
		n := i.namespace(key.Namespace)
		at, _ := slices.BinarySearchFunc(n.workloads, key, compareKey)
		n.workloads = slices.Insert(n.workloads, at, w)
	}
	return w
}

// touch marks a workload as changed.
func (i *Inventory) touch(w *workload) {
	i.unjudged[w] = struct{}{}
	i.namespaces[w.key.Namespace].view = nil
}

// dropWorkload forgets a workload of which nothing is left.
func (i *Inventory) dropWorkload(w *workload) {
	if w.object != nil || len(w.groups) > 0 {
		return
	}
	n := i.namespaces[w.key.Namespace]
	delete(i.workloads, w.key)
	delete(i.unjudged, w)
	at, _ := slices.BinarySearchFunc(n.workloads, w.key, compareKey)
	n.workloads = slices.Delete(n.workloads, at, at+1)
	n.view = nil
	i.dropNamespace(n)
}

// compareKey orders the workloads of a namespace.
func compareKey(w *workload, key mesh.Key) int {
	return cmp.Or(strings.Compare(w.key.Kind, key.Kind), strings.Compare(w.key.Name, key.Name), strings.Compare(w.key.Group, key.Group))
}

func (i *Inventory) dropNamespace(n *namespace) {
	if !n.known && len(n.workloads) == 0 && len(n.budgets) == 0 && len(n.restarts) == 0 {
		delete(i.namespaces, n.name)
	}
}
