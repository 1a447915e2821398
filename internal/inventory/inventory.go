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

// Inventory is the picture of the cluster. It is safe for concurrent use. New makes one.
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
	// borrowers are the objects that take their template from the workload of a key, as they were read.
	borrowers map[mesh.Key]map[types.UID]*Object

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

	// unjudged are the workloads that have changed since the picture was looked at.
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

	// workloads by kind, name and group, as the picture lists them.
	workloads []*workload
	budgets   map[string]DisruptionBudget
	// view is what Snapshot gave last; nil when something has changed since.
	view *Namespace
}

// groupKey names the Pods of one immediate owner by that owner's UID, or one Pod without an owner by
// its own. The namespace is part of it because owner references can be forged: nobody's Pods count
// for a workload of another namespace.
type groupKey struct {
	namespace string
	uid       types.UID
}

type group struct {
	namespace string
	owner     mesh.Owner // the zero value for a Pod by itself
	pods      map[types.UID]*mesh.Pod
	classes   map[unique.Handle[mesh.Observation]]*class
	// stranded are those of the Pods for which a node is missing; mostly nil.
	stranded map[*mesh.Pod]struct{}
	workload *workload
}

// class counts the running Pods of a group that carry the same.
type class struct {
	running, ready, troubled, pending int
	// oldestCreated, newestCreated, newestReady and newestServing (created, of those that are ready) are
	// in seconds since 1970; stale says that a Pod which held one of them has gone and that they must be
	// looked for again.
	oldestCreated, newestCreated, newestReady, newestServing int64
	stale                                                    bool
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

// New makes an empty picture, in which no injector is known.
func New() *Inventory {
	return &Inventory{
		injector: mesh.NewInjector(nil, nil, mesh.Options{}),

		revisionChanged: map[string]time.Time{},

		namespaces: map[string]*namespace{},
		workloads:  map[mesh.Key]*workload{},
		groups:     map[groupKey]*group{},
		pods:       map[types.UID]*mesh.Pod{},
		objects:    map[types.UID]*Object{},
		links:      map[types.UID]*Link{},
		services:   map[types.NamespacedName]*mesh.Service{},
		borrowers:  map[mesh.Key]map[types.UID]*Object{},
		unread:     map[string]string{},
		peers:      map[types.NamespacedName]*mesh.PeerAuthentication{},
		nodes:      map[unique.Handle[string]]*Node{},
		evicted:    map[types.UID]struct{}{},
		unjudged:   map[*workload]struct{}{},
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
	if standsBetween(object) {
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
		i.returnTemplate(former)
		if former.UID != object.UID {
			delete(i.objects, former.UID)
		}
	}
	w.object = i.borrowTemplate(object)
	i.objects[object.UID] = object
	i.touch(w)
	i.regroup(object.Namespace, object.UID)
	i.lendTemplate(w)
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
	i.returnTemplate(w.object)
	w.object = nil
	i.lendTemplate(w)
	i.touch(w)
	i.dropWorkload(w)
}

// borrowTemplate is the object with its template, which may be that of another workload.
func (i *Inventory) borrowTemplate(object *Object) *Object {
	if !object.borrows() {
		return object
	}
	if i.borrowers[object.TemplateOf] == nil {
		i.borrowers[object.TemplateOf] = map[types.UID]*Object{}
	}
	i.borrowers[object.TemplateOf][object.UID] = object
	lender, found := i.workloads[object.TemplateOf]
	if !found {
		return object
	}
	i.touch(lender)
	return object.withTemplateOf(lender.object)
}

// lendTemplate gives the template, after it may have changed, to those that take it from the workload.
func (i *Inventory) lendTemplate(lender *workload) {
	for _, object := range i.borrowers[lender.key] {
		if borrower, found := i.workloads[object.Key()]; found {
			borrower.object = object.withTemplateOf(lender.object)
			i.touch(borrower)
		}
	}
}

// returnTemplate forgets that the object takes its template from another workload.
func (i *Inventory) returnTemplate(object *Object) {
	if !object.borrows() {
		return
	}
	delete(i.borrowers[object.TemplateOf], object.UID)
	if len(i.borrowers[object.TemplateOf]) == 0 {
		delete(i.borrowers, object.TemplateOf)
	}
	if lender, found := i.workloads[object.TemplateOf]; found {
		i.touch(lender)
	}
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

// Evicted takes in that the API server has accepted the eviction of a Pod, so that the next decision
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
			g.add(pod, i.strands(pod))
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
	g.add(pod, i.strands(pod))
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
		n = &namespace{name: name, budgets: map[string]DisruptionBudget{}}
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
	if !n.known && len(n.workloads) == 0 && len(n.budgets) == 0 {
		delete(i.namespaces, n.name)
	}
}

func (i *Inventory) removePod(pod *mesh.Pod) {
	delete(i.pods, pod.UID)
	id := groupOf(pod)
	g := i.groups[id]
	g.remove(pod)
	i.touch(g.workload)
	if len(g.pods) == 0 {
		delete(i.groups, id)
		delete(g.workload.groups, g)
		i.dropWorkload(g.workload)
	}
}

// regroup finds the workload of an owner's Pods again, after what is known of the owner changed.
func (i *Inventory) regroup(namespace string, owner types.UID) {
	g, found := i.groups[groupKey{namespace, owner}]
	if !found {
		return
	}
	if key := i.rootOf(g); key != g.workload.key {
		former := g.workload
		delete(former.groups, g)
		i.touch(former)
		i.attach(g, key)
		i.dropWorkload(former)
	}
	i.touch(g.workload)
}

func (i *Inventory) attach(g *group, key mesh.Key) {
	g.workload = i.workload(key)
	g.workload.groups[g] = struct{}{}
}

// rootOf follows controllers up to the workload: the topmost object of a kind that is read, or the
// first one of a kind that is not. A ReplicaSet or Job that has not been seen yet stands for
// itself until it is.
func (i *Inventory) rootOf(g *group) mesh.Key {
	if !g.owner.Exists() {
		for _, pod := range g.pods {
			return mesh.Key{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
		}
	}
	if link, found := i.links[g.owner.UID]; found && link.Namespace == g.namespace && link.Owner().Exists() {
		return link.Owner().Key(g.namespace)
	}
	if object := i.ownerOf(g); object != nil && standsBetween(object) {
		return object.Owner.Key(g.namespace)
	}
	return g.owner.Key(g.namespace)
}

// ownerOf is the object of the group's immediate owner; nil where it is not known.
func (i *Inventory) ownerOf(g *group) *Object {
	if object, found := i.objects[g.owner.UID]; found && object.Namespace == g.namespace {
		return object
	}
	return nil
}

// standsBetween reports whether an object is a ReplicaSet or Job that something else controls.
func standsBetween(object *Object) bool {
	return (object.Kind == "ReplicaSet" || object.Kind == "Job") && object.Owner.Exists()
}

// groupOf is the group of the Pod's owner, or the Pod's own where nothing recreates it: no owner, one
// that makes no Pods, or the Node whose kubelet runs it from a file.
func groupOf(pod *mesh.Pod) groupKey {
	if !pod.Owner.MakesPods() {
		return groupKey{pod.Namespace, pod.UID}
	}
	return groupKey{pod.Namespace, pod.Owner.UID}
}

func (g *group) add(pod *mesh.Pod, stranded bool) {
	g.pods[pod.UID] = pod
	if stranded {
		g.strand(pod, true)
	}
	if !pod.Running() {
		return
	}
	c, found := g.classes[pod.Observed]
	if !found {
		c = &class{}
		g.classes[pod.Observed] = c
	}
	c.count(pod)
}

func (g *group) remove(pod *mesh.Pod) {
	delete(g.pods, pod.UID)
	g.strand(pod, false)
	if !pod.Running() {
		return
	}
	c := g.classes[pod.Observed]
	c.running--
	if pod.Ready() {
		c.ready--
	}
	if pod.Trouble != nil {
		c.troubled--
	}
	if pod.Pending {
		c.pending--
	}
	if c.running == 0 {
		delete(g.classes, pod.Observed)
	}
	if pod.Created == c.oldestCreated || pod.Created == c.newestCreated || pod.Created == c.newestServing || pod.ReadySince == c.newestReady {
		c.stale = true
	}
}

func (c *class) count(pod *mesh.Pod) {
	c.running++
	if pod.Ready() {
		c.ready++
		c.newestServing = max(c.newestServing, pod.Created)
	}
	if pod.Trouble != nil {
		c.troubled++
	}
	if pod.Pending {
		c.pending++
	}
	if c.oldestCreated == 0 || pod.Created < c.oldestCreated {
		c.oldestCreated = pod.Created
	}
	c.newestCreated = max(c.newestCreated, pod.Created)
	c.newestReady = max(c.newestReady, pod.ReadySince)
}

// refresh looks for the newest Pods of a class again, if one of them has gone.
func (g *group) refresh(observed unique.Handle[mesh.Observation], c *class) {
	if !c.stale {
		return
	}
	fresh := class{}
	for _, pod := range g.pods {
		if pod.Running() && pod.Observed == observed {
			fresh.count(pod)
		}
	}
	*c = fresh
}

// podsByName are the group's Pods in a stable order.
func (g *group) podsByName() []*mesh.Pod {
	return slices.SortedFunc(maps.Values(g.pods), func(a, b *mesh.Pod) int { return strings.Compare(a.Name, b.Name) })
}
