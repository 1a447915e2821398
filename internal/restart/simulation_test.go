package restart_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/referee"
)

// simulation is a small cluster: the controllers of Deployments, StatefulSets and DaemonSets, the
// disruption controller and the injector, as far as rollouts see them; and Fullmesh, which looks at
// it through an inventory, decides and acts.
//
// Everything goes in steps. In each, time passes, the kinds' controllers do what they would, what
// changed is told to the inventory, and Fullmesh decides and acts until nothing is left to do.
type simulation struct {
	t interface{ Fatalf(string, ...any) }
	// began is the moment from which the transcript counts.
	began, now time.Time

	namespaces []*corev1.Namespace
	apps       []*app
	// planes run the injector.
	planes   []*app
	budgets  []*policyv1.PodDisruptionBudget
	policies []*v1alpha1.MeshPolicy
	// nodes have room for so many Pods each; where there are none, every Pod has its place.
	nodes []*node
	// knownAsCordoned are the nodes of which Fullmesh has learned that.
	knownAsCordoned sets.Set[string]
	// knownAsStrict are the namespaces of which Fullmesh has learned that they take mutual TLS only.
	knownAsStrict sets.Set[string]
	// quotas are how many Pods namespaces may have.
	quotas map[string]int
	// injector is what the webhooks say; down: nobody answers behind them.
	injector *mesh.Injector
	down     bool
	// dryRunsPass: what the API server asks in a dry run is answered although the injector is down.
	dryRunsPass bool
	stopped     bool
	guard       restart.Guard

	// ledger are the MeshRestarts as the API server has them, by namespace and name.
	ledger map[types.NamespacedName]*inventory.Restart
	// dies is after which write the process dies that makes the next restart; "" for none.
	dies string

	inventory *inventory.Inventory
	checks    map[restart.CheckKey]restart.Check
	memory    *restart.Recorder
	plan      *restart.Plan
	referee   referee.Ledger

	version, made int
	events        []event
	// learned of was everything in past.
	past []event
	// arrange puts what changed in the order in which it is learned of; the rest stays unknown for
	// now. When nil, everything is learned of in the order in which it happened.
	arrange func(events []event) (now, later []event)

	// brief leaves out of the transcript what goes well; lines counts them all.
	brief      bool
	lines      int
	transcript strings.Builder
	told       map[string]string
}

// event is a change that the inventory is still to be told. Those about the same thing stay in
// their order.
type event struct {
	about string
	tell  func(*inventory.Inventory)
}

// app is one workload with its Pods.
type app struct {
	name     string
	object   metav1.Object
	template *corev1.PodTemplateSpec
	// revision of the template; the Pods of others are replaced. A template that comes back comes
	// back with its revision.
	revision  int
	revisions map[string]int
	// current is the revision of a StatefulSet's Pods below its partition; bySlot, the revision of the
	// Pod that was in a slot last.
	current int
	bySlot  map[int]int
	// templated is the generation at which the template was looked at, counted what the status says.
	templated int64
	counted   [6]int64
	pods      []*pod
	// nodes, of a DaemonSet.
	nodes int
	// startup is how long a Pod takes to be ready. crashes says which ones never are.
	startup time.Duration
	crashes func(*pod) bool
	// argo is of an Argo Rollout.
	argo *argo
	// disturbed: something else was done to it, or it was down already when it was restarted.
	disturbed bool
}

// node takes new Pods while there is room and it is not cordoned.
type node struct {
	name     string
	room     int
	cordoned bool
}

type pod struct {
	name          string
	node          string // where it runs; empty where it waits for one, or there are none at all
	number        int
	uid           types.UID
	slot          int // ordinal, or node
	revision      int
	injected      string
	created       time.Time
	ready         time.Time // zero: not ready
	going, failed bool
}

const stepTime = 10 * time.Second

func newSimulation(t interface{ Fatalf(string, ...any) }) *simulation {
	s := &simulation{
		t:         t,
		began:     noon,
		now:       noon,
		guard:     restart.GuardHolds,
		inventory: inventory.New(),
		checks:    map[restart.CheckKey]restart.Check{},
		ledger:    map[types.NamespacedName]*inventory.Restart{},
		memory:    &restart.Recorder{},
		told:      map[string]string{},

		knownAsCordoned: sets.New[string](),
		knownAsStrict:   sets.New[string](),
		quotas:          map[string]int{},
	}
	s.setWebhooks(istio)
	return s
}

// A cluster is set up by the following; what is set up has been there since the day before.

func (s *simulation) setWebhooks(webhooks ...*webhookConfiguration) {
	changed := s.now
	if s.version == 0 {
		changed = yesterday
	}
	s.injector = injectorOf(webhooks...)
	injector := s.injector
	s.happens("injector", func(i *inventory.Inventory) { i.SetInjector(injector, changed) })
}

func (s *simulation) setPolicy(b *builder.PolicyBuilder) {
	policy := b.Build()
	for _, old := range s.policies {
		if old.Name == policy.Name {
			policy.Annotations, policy.Status = old.Annotations, old.Status
		}
	}
	s.policies = slices.DeleteFunc(s.policies, func(old *v1alpha1.MeshPolicy) bool { return old.Name == policy.Name })
	s.policies = append(s.policies, policy)
}

// addNamespace adds one without labels, in which a Job has asked for a sidecar by itself and shows that
// injection works.
func (s *simulation) addNamespace(name string) {
	s.addNewNamespace(name)
	job := builder.Job(name, "shows").CreatedAt(s.now).Labelled("sidecar.istio.io/inject", "true").Build()
	pod := builder.Pod(name, "shows-1").OwnedBy(job).CreatedAt(s.now).Injected("default").Ready(s.now).Build()
	s.happens("Job "+name+"/shows", func(i *inventory.Inventory) {
		i.SetObject(inventory.FromJob(job))
		i.SetPod(mesh.CutDown(pod))
	})
}

// addNewNamespace adds one without labels, in which nothing shows that injection works.
func (s *simulation) addNewNamespace(name string) {
	s.namespaces = append(s.namespaces, builder.Namespace(name).CreatedAt(yesterday).Build())
	s.tellNamespace(name)
}

// label changes the labels of a namespace; an empty value takes one off.
func (s *simulation) label(name, key, value string) {
	namespace := s.namespace(name)
	namespace.Labels = maps.Clone(namespace.Labels)
	if namespace.Labels == nil {
		namespace.Labels = map[string]string{}
	}
	namespace.Labels[key] = value
	if value == "" {
		delete(namespace.Labels, key)
	}
	s.tellNamespace(name)
}

func (s *simulation) namespace(name string) *corev1.Namespace {
	return s.namespaces[slices.IndexFunc(s.namespaces, func(n *corev1.Namespace) bool { return n.Name == name })]
}

func (s *simulation) tellNamespace(name string) {
	namespace, now := s.namespace(name).DeepCopy(), s.now
	s.happens("namespace "+name, func(i *inventory.Inventory) { i.SetNamespace(namespace, now) })
}

// add adds a workload with as many Pods as it asks for, which are ready and as the injector would
// have made them the day before.
func add[T metav1.Object](s *simulation, b *builder.Workload[T]) *app {
	b.CreatedAt(yesterday)
	a := &app{object: b.Build(), revision: 1, current: 1, startup: stepTime, nodes: 3}
	switch object := any(a.object).(type) {
	case *appsv1.Deployment:
		a.template = &object.Spec.Template
	case *appsv1.StatefulSet:
		a.template = &object.Spec.Template
	case *appsv1.DaemonSet:
		a.template = &object.Spec.Template
	case *appsv1.ReplicaSet:
		a.template = &object.Spec.Template
	}
	s.enter(a)
	return a
}

func (s *simulation) enter(a *app) {
	a.name = a.cut().Key().String()
	a.revisions = map[string]int{render(a.template): 1}
	s.apps = append(s.apps, a)
	s.tellReplicaSet(a)
	for slot := range a.replicas() {
		p := s.newPod(a, slot, yesterday)
		p.ready = yesterday
		s.tellPod(a, p)
	}
	s.report(a)
}

// addControlPlane adds the Deployment that runs a revision's injector.
func (s *simulation) addControlPlane(revision string) *app {
	if !slices.ContainsFunc(s.namespaces, func(n *corev1.Namespace) bool { return n.Name == istioNamespace }) {
		s.addNamespace(istioNamespace)
	}
	plane := add(s, istiod(revision))
	s.apps = slices.DeleteFunc(s.apps, func(a *app) bool { return a == plane })
	s.planes = append(s.planes, plane)
	return plane
}

// delete deletes a workload with its Pods.
func (s *simulation) delete(a *app) {
	cut := a.cut()
	s.happens(a.String(), func(i *inventory.Inventory) { i.DeleteObject(cut) })
	for _, p := range a.pods {
		s.happens("Pod "+string(p.uid), func(i *inventory.Inventory) { i.DeletePod(p.uid) })
	}
	s.apps = slices.DeleteFunc(s.apps, func(other *app) bool { return other == a })
	for _, r := range s.restartsOf(a) { // the garbage collector follows owner references
		s.deleteRestart(r)
	}
}

func (s *simulation) addNode(name string, room int) {
	s.nodes = append(s.nodes, &node{name: name, room: room})
	s.cordon(name, false)
}

// setMutualTLS says by a PeerAuthentication which mode holds in a namespace, or for one app of it.
func (s *simulation) setMutualTLS(namespace, app, mode string) {
	policy := builder.PeerAuthentication(namespace, "default", mode)
	if app != "" {
		policy = mutualTLSOf(namespace, app, mode)
	}
	s.happens("PeerAuthentication "+namespace+"/"+policy.GetName(), func(i *inventory.Inventory) {
		i.SetPeerAuthentication(mesh.FromPeerAuthentication(policy))
		if app == "" {
			s.knownAsStrict.Delete(namespace)
			if mode == "STRICT" {
				s.knownAsStrict.Insert(namespace)
			}
		}
	})
}

// cordon keeps new Pods from a node, or lets them come again.
func (s *simulation) cordon(name string, cordoned bool) {
	at := slices.IndexFunc(s.nodes, func(n *node) bool { return n.name == name })
	s.nodes[at].cordoned = cordoned
	s.happens("node "+name, func(i *inventory.Inventory) {
		i.SetNode(inventory.FromNode(builder.Node(name, cordoned)))
		s.knownAsCordoned.Delete(name)
		if cordoned {
			s.knownAsCordoned.Insert(name)
		}
	})
}

// drain evicts one Pod of each workload from a node.
func (s *simulation) drain(name string) {
	for _, a := range s.apps {
		at := slices.IndexFunc(a.pods, func(p *pod) bool { return running(p) && p.node == name })
		if _, stays := a.object.(*appsv1.DaemonSet); at >= 0 && !stays {
			a.disturbed = true
			a.remove(s, a.pods[at])
		}
	}
}

// schedule finds a node for a Pod, the one with the fewest Pods; those of DaemonSets come to cordoned
// ones, too.
func (s *simulation) schedule(a *app, p *pod) {
	_, everywhere := a.object.(*appsv1.DaemonSet)
	best, fewest := "", 0
	for _, n := range s.nodes {
		taken := 0
		for _, other := range slices.Concat(s.apps, s.planes) {
			taken += other.count(func(p *pod) bool { return p.node == n.name })
		}
		if taken < n.room && (!n.cordoned || everywhere) && (best == "" || taken < fewest) {
			best, fewest = n.name, taken
		}
	}
	p.node = best
}

func (s *simulation) waitsForANode(p *pod) bool { return len(s.nodes) > 0 && p.node == "" }

// takeOut takes the sidecar from one of a workload's Pods: it was created while the injector was down.
func (s *simulation) takeOut(a *app, at int) {
	a.pods[at].injected = ""
	s.tellPod(a, a.pods[at])
}

func (s *simulation) addBudget(b *builder.BudgetBuilder, minAvailable int) {
	budget := b.Build()
	budget.Spec.MinAvailable = new(intstr.FromInt(minAvailable))
	s.budgets = append(s.budgets, budget)
}

func render(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Fullmesh learns of what happens.

func (s *simulation) happens(about string, tell func(*inventory.Inventory)) {
	s.version++
	s.events = append(s.events, event{about, tell})
}

func (s *simulation) learn() {
	events := s.events
	s.events = nil
	if s.arrange != nil {
		events, s.events = s.arrange(events)
	}
	for _, event := range events {
		event.tell(s.inventory)
	}
	s.past = append(s.past, events...)
}

// failOver has another process go on: it reads the ledger from the API server, everything else as far as it has been
// learned of, and remembers nothing.
func (s *simulation) failOver() {
	s.say("Another replica of Fullmesh takes over.")
	s.inventory, s.checks, s.memory = inventory.New(), map[restart.CheckKey]restart.Check{}, &restart.Recorder{}
	for _, event := range s.past {
		event.tell(s.inventory)
	}
	for _, r := range s.ledger {
		s.inventory.SetRestart(r)
	}
}

// writtenBy has the API server's record of writers name a field manager, as of now.
func (s *simulation) writtenBy(a *app, manager string, operation metav1.ManagedFieldsOperationType) {
	a.object.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: operation, Time: new(metav1.NewTime(s.now)),
		FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)},
	}})
}

// cut is the workload as the inventory keeps it.
func (a *app) cut() *inventory.Object {
	switch object := a.object.(type) {
	case *appsv1.Deployment:
		return inventory.FromDeployment(object.DeepCopy())
	case *appsv1.StatefulSet:
		return inventory.FromStatefulSet(object.DeepCopy())
	case *unstructured.Unstructured:
		return inventory.FromRollout(a.rollout().DeepCopy())
	case *appsv1.ReplicaSet:
		return inventory.FromReplicaSet(object.DeepCopy())
	default:
		return inventory.FromDaemonSet(object.(*appsv1.DaemonSet).DeepCopy())
	}
}

func (a *app) String() string { return a.name }

func (a *app) replicas() int {
	switch object := a.object.(type) {
	case *appsv1.Deployment:
		return int(*object.Spec.Replicas)
	case *appsv1.StatefulSet:
		return int(*object.Spec.Replicas)
	case *unstructured.Unstructured:
		return inventory.FromRollout(object).Replicas
	case *appsv1.ReplicaSet:
		return int(*object.Spec.Replicas)
	default:
		return a.nodes
	}
}

// changed stores a workload that was changed.
func (s *simulation) changed(a *app) *inventory.Object {
	s.version++
	a.object.SetResourceVersion(strconv.Itoa(s.version))
	cut := a.cut()
	s.happens(a.String(), func(i *inventory.Inventory) { i.SetObject(cut) })
	return cut
}

// change changes a workload's spec, as its owner would.
func (s *simulation) change(a *app, how func()) {
	how()
	a.disturbed = true
	a.object.SetGeneration(a.object.GetGeneration() + 1)
	s.changed(a)
}

// setTemplate changes the template: key and value are an annotation on it.
func (s *simulation) setTemplate(a *app, key, value string) {
	s.change(a, func() { a.annotate(key, value) })
}

func (a *app) annotate(key, value string) {
	a.template.Annotations = maps.Clone(a.template.Annotations)
	if a.template.Annotations == nil {
		a.template.Annotations = map[string]string{}
	}
	a.template.Annotations[key] = value
	if value == "" {
		delete(a.template.Annotations, key)
	}
}

func (s *simulation) scale(a *app, replicas int32) {
	s.change(a, func() {
		switch object := a.object.(type) {
		case *appsv1.Deployment:
			object.Spec.Replicas = &replicas
		case *appsv1.StatefulSet:
			object.Spec.Replicas = &replicas
		case *unstructured.Unstructured:
			a.set(int64(replicas), "spec", "replicas")
		case *appsv1.ReplicaSet:
			object.Spec.Replicas = &replicas
		}
	})
}

// owner is what controls the app's Pods of its newest revision.
func (a *app) owner(revision int) metav1.Object {
	switch a.object.(type) {
	case *appsv1.Deployment, *unstructured.Unstructured:
		return builder.ReplicaSet(a.object.GetNamespace(), fmt.Sprintf("%s-%d", a.object.GetName(), revision)).OwnedBy(a.object).Build()
	}
	return a.object
}

func (s *simulation) tellReplicaSet(a *app) {
	if replicaSet, is := a.owner(a.revision).(*appsv1.ReplicaSet); is && a.cut().Kind != "ReplicaSet" {
		link := inventory.LinkTo(replicaSet)
		s.happens("ReplicaSet "+link.Name, func(i *inventory.Inventory) { i.SetLink(link) })
	}
}

func (s *simulation) tellPod(a *app, p *pod) {
	b := builder.Pod(a.object.GetNamespace(), p.name).UID(string(p.uid)).OwnedBy(a.owner(p.revision)).CreatedAt(p.created)
	if p.injected != "" {
		b.Injected(p.injected)
	}
	if !p.ready.IsZero() {
		b.Ready(p.ready)
	}
	if p.failed {
		b.Crashing("app", 1)
	}
	if p.going {
		b.Terminating(s.now)
	}
	if s.waitsForANode(p) {
		b.Unschedulable(fmt.Sprintf("0/%d nodes are available.", len(s.nodes)))
	} else {
		b.OnNode(p.node)
	}
	cut := mesh.CutDown(b.Build())
	s.happens("Pod "+string(p.uid), func(i *inventory.Inventory) { i.SetPod(cut) })
}

// The cluster's controllers.

// step lets time pass.
func (s *simulation) step(d time.Duration) {
	s.now = s.now.Add(d)
	for _, a := range slices.Concat(s.planes, s.apps) {
		s.control(a)
	}
	s.countBudgets()
}

// control does what the kind's controller does.
func (s *simulation) control(a *app) {
	defer s.stayedUp(a, a.count(ready))
	a.pods = slices.DeleteFunc(a.pods, func(p *pod) bool {
		if p.going {
			s.happens("Pod "+string(p.uid), func(i *inventory.Inventory) { i.DeletePod(p.uid) })
		}
		return p.going
	})
	for _, p := range a.pods {
		if s.waitsForANode(p) && !p.going {
			if s.schedule(a, p); p.node == "" {
				continue
			}
			s.tellPod(a, p)
		}
		failed := a.crashes != nil && a.crashes(p)
		switch {
		case failed && !p.failed:
			p.failed, p.ready = true, time.Time{}
			s.tellPod(a, p)
		case !failed && p.ready.IsZero() && !s.now.Before(p.created.Add(a.startup)):
			p.failed, p.ready = false, s.now
			s.tellPod(a, p)
		}
	}
	if !a.paused() && a.templated != a.object.GetGeneration() {
		a.templated = a.object.GetGeneration()
		template := render(a.template)
		if a.revisions[template] == 0 {
			a.revisions[template] = len(a.revisions) + 1
		}
		if a.revision != a.revisions[template] && a.cut().Kind != "ReplicaSet" {
			a.revision = a.revisions[template]
			s.tellReplicaSet(a)
		}
	}
	cut := a.cut()
	strategy := cut.Strategy
	switch {
	case a.paused():
	case a.argo != nil:
		s.runRollout(a)
	case cut.Kind == "StatefulSet", cut.Kind == "DaemonSet" && strategy.MaxSurge == 0:
		s.replaceInPlace(a, strategy)
	default:
		s.replaceBeside(a, strategy)
	}
	s.report(a)
}

func (a *app) paused() bool {
	deployment, is := a.object.(*appsv1.Deployment)
	return is && deployment.Spec.Paused
}

func (a *app) count(which func(*pod) bool) int {
	n := 0
	for _, p := range a.pods {
		if which(p) {
			n++
		}
	}
	return n
}

func running(p *pod) bool                   { return !p.going }
func ready(p *pod) bool                     { return !p.going && !p.ready.IsZero() }
func (a *app) updated(p *pod) bool          { return !p.going && p.revision == a.revision }
func (a *app) outdated(p *pod) bool         { return !p.going && p.revision != a.revision }
func (a *app) slotTaken(n int) bool         { return a.count(func(p *pod) bool { return p.slot == n }) > 0 }
func inMesh(p *pod) bool                    { return running(p) && p.injected != "" }
func (a *app) remove(s *simulation, p *pod) { p.going = true; s.tellPod(a, p) }

// replaceInPlace is how StatefulSets and DaemonSets without surge go: a Pod goes, then the next one
// comes in its place, the highest ordinal first and each only when those before it are ready.
func (s *simulation) replaceInPlace(a *app, strategy inventory.Strategy) {
	for slot := range a.replicas() {
		if !a.slotTaken(slot) {
			s.newPod(a, slot, s.now)
		}
	}
	unavailable := a.replicas() - a.count(ready)
	for _, p := range slices.SortedFunc(slices.Values(a.pods), func(x, y *pod) int { return cmp.Compare(y.slot, x.slot) }) {
		switch {
		case p.going:
		case p.slot >= a.replicas():
			a.remove(s, p)
		case p.revision == a.revision || strategy.Type == inventory.StrategyNone || p.slot < strategy.Partition:
		case p.ready.IsZero():
			a.remove(s, p)
		case unavailable < strategy.MaxUnavailable:
			a.remove(s, p)
			unavailable++
		}
	}
}

// replaceBeside is how Deployments go: new Pods come on top, old ones go as far as enough are ready.
func (s *simulation) replaceBeside(a *app, strategy inventory.Strategy) {
	if strategy.Type == inventory.StrategyRecreate && a.count(a.outdated) > 0 {
		for _, p := range a.pods {
			if a.outdated(p) {
				a.remove(s, p)
			}
		}
		return
	}
	if strategy.Type == inventory.StrategyRecreate && a.count(func(p *pod) bool { return p.going }) > 0 {
		return
	}
	// What is there is filled up by the ReplicaSets themselves, whatever the strategy is.
	room := min(a.replicas()-a.count(a.updated), a.replicas()+strategy.MaxSurge-a.count(running))
	for range room {
		if s.newPod(a, len(a.pods), s.now) == nil {
			break
		}
	}
	spare := a.count(ready) - (a.replicas() - strategy.MaxUnavailable)
	excess := a.count(running) - a.replicas()
	for _, p := range a.pods {
		switch {
		case p.going || !a.outdated(p) && excess <= 0:
		case !a.outdated(p) && a.count(a.outdated) > 0:
		case p.ready.IsZero():
			a.remove(s, p)
			excess--
		case spare > 0:
			a.remove(s, p)
			spare--
			excess--
		}
	}
}

// newPod creates a Pod as the API server would: with the sidecar, without, or not at all.
func (s *simulation) newPod(a *app, slot int, at time.Time) *pod {
	expected := s.injector.Expect(
		mesh.Namespace{Name: a.object.GetNamespace(), Labels: s.namespace(a.object.GetNamespace()).Labels},
		mesh.Template{Labels: a.template.Labels, Annotations: a.template.Annotations})
	p := &pod{slot: slot, revision: a.revision, created: at}
	if former := a.bySlot[slot]; former != 0 && slot < a.cut().Strategy.Partition {
		p.revision = a.current
	}
	if a.bySlot == nil {
		a.bySlot = map[int]int{}
	}
	a.bySlot[slot] = p.revision
	if expected.Inject && s.down {
		if !s.lettingPass() {
			return nil
		}
	} else if expected.Inject {
		p.injected = expected.Revision
	}
	if quota, bounded := s.quotas[a.object.GetNamespace()]; bounded && s.podsIn(a.object.GetNamespace()) >= quota {
		return nil
	}
	s.made++
	p.number = s.made
	p.name = fmt.Sprintf("%s-%d", a.object.GetName(), s.made)
	p.uid = types.UID(fmt.Sprintf("pod-%d", s.made))
	s.schedule(a, p)
	a.pods = append(a.pods, p)
	s.tellPod(a, p)
	return p
}

func (s *simulation) podsIn(namespace string) int {
	pods := 0
	for _, a := range s.apps {
		if a.object.GetNamespace() == namespace {
			pods += len(a.pods)
		}
	}
	return pods
}

func (s *simulation) lettingPass() bool {
	return s.injector.FailurePolicyIgnore("default")
}

// report writes the workload's status.
func (s *simulation) report(a *app) {
	generation, updated := a.object.GetGeneration(), int32(a.count(a.updated))
	all, available := int32(a.count(running)), int32(a.count(ready))
	counted := [...]int64{generation, int64(updated), int64(all), int64(available), 0, 0}
	if a.argo != nil {
		counted[4], counted[5] = int64(a.argo.stable), a.argo.restartedAt.Unix()
	}
	if counted == a.counted {
		return
	}
	a.counted = counted
	switch object := a.object.(type) {
	case *appsv1.Deployment:
		object.Status = appsv1.DeploymentStatus{ObservedGeneration: generation, Replicas: all, UpdatedReplicas: updated, ReadyReplicas: available, AvailableReplicas: available}
	case *appsv1.ReplicaSet:
		object.Status = appsv1.ReplicaSetStatus{ObservedGeneration: generation, Replicas: all, ReadyReplicas: available, AvailableReplicas: available}
	case *appsv1.StatefulSet:
		if int(updated) == a.replicas() && a.cut().Strategy.Type == inventory.StrategyRolling {
			a.current = a.revision
		}
		object.Status = appsv1.StatefulSetStatus{CurrentRevision: fmt.Sprint(a.current), UpdateRevision: fmt.Sprint(a.revision), ObservedGeneration: generation, Replicas: all, UpdatedReplicas: updated, ReadyReplicas: available, AvailableReplicas: available}
	case *unstructured.Unstructured:
		a.reportRollout(updated, all, available)
	case *appsv1.DaemonSet:
		object.Status = appsv1.DaemonSetStatus{ObservedGeneration: generation, DesiredNumberScheduled: int32(a.nodes), CurrentNumberScheduled: all, UpdatedNumberScheduled: updated, NumberReady: available, NumberAvailable: available}
	}
	s.changed(a)
}

// countBudgets does what the disruption controller does.
func (s *simulation) countBudgets() {
	for _, budget := range s.budgets {
		var healthy, expected int32
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil {
			s.t.Fatalf("reading the selector of %s: %v", budget.Name, err)
		}
		for _, a := range s.apps {
			if a.object.GetNamespace() == budget.Namespace && selector.Matches(labels.Set(a.template.Labels)) {
				healthy += int32(a.count(ready))
				expected += int32(a.replicas())
			}
		}
		desired := budget.Spec.MinAvailable.IntVal
		budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation,
			CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: expected, DisruptionsAllowed: max(0, healthy-desired)}
		counted := budget.DeepCopy()
		s.happens("budget "+budget.Name, func(i *inventory.Inventory) { i.SetDisruptionBudget(counted) })
	}
}

// Fullmesh.

// decide looks at the inventory once.
func (s *simulation) decide() *restart.Plan {
	in := restart.Input{
		Now: s.now, Snapshot: s.inventory.Snapshot(), System: restart.SystemNamespaces.Union(sets.New(istioNamespace)), Stopped: s.stopped, Guard: s.guard,
		Answers: maps.Clone(s.checks), Memory: s.memory.Memory(),
	}
	for _, policy := range s.policies {
		ready, err := restart.NewPolicy(policy)
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		in.Policies = append(in.Policies, ready)
	}
	s.plan = restart.Decide(in)
	return s.plan
}

// pass decides and acts until nothing is left to do.
func (s *simulation) pass() {
	for range 12 {
		plan := s.decide()
		s.tellPlan(plan)
		acted := false
		for namespace, verdict := range plan.Steps() {
			acted = s.act(namespace, verdict) || acted
			if s.plan != plan { // the process has died
				return
			}
		}
		for _, namespace := range plan.Namespaces {
			for _, unfinished := range namespace.Recheck {
				acted = s.recheck(unfinished) || acted
			}
			for _, surplus := range namespace.Surplus {
				s.deleteRestart(surplus)
			}
		}
		if !acted {
			return
		}
	}
}

// The API server's side of the ledger.

// store writes a MeshRestart, if it is still as it was read; it is false where it is not.
func (s *simulation) store(r *inventory.Restart) (*inventory.Restart, bool) {
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	current := s.ledger[key]
	if created := current == nil && r.Pending(); !created && (current == nil || current.ResourceVersion != r.ResourceVersion) {
		return current, false
	}
	s.version++
	stored := *r
	stored.ResourceVersion = strconv.Itoa(s.version)
	if stored.UID == "" {
		stored.UID = types.UID("mrestart-" + stored.ResourceVersion)
	}
	s.ledger[key] = &stored
	s.promised(s.referee.Write(&stored))
	s.happens("MeshRestart "+key.String(), func(i *inventory.Inventory) { i.SetRestart(&stored) })
	s.inventory.SetRestart(&stored)
	return &stored, true
}

func (s *simulation) deleteRestart(r *inventory.Restart) {
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	if s.ledger[key] == nil || s.ledger[key].UID != r.UID {
		return
	}
	delete(s.ledger, key)
	s.promised(s.referee.Delete(r.Namespace, r.Name, s.appOf(r.WorkloadUID) == nil))
	s.happens("MeshRestart "+key.String(), func(i *inventory.Inventory) { i.DeleteRestart(r.Namespace, r.Name, r.UID) })
	s.inventory.RestartDeleted(r.Namespace, r.Name, r.UID)
}

// promised fails the test where the referee says that a promise was broken.
func (s *simulation) promised(err error) {
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.transcript.String())
	}
}

// restartsOf are the MeshRestarts of a workload, the newest first.
func (s *simulation) restartsOf(a *app) []*inventory.Restart {
	var restarts []*inventory.Restart
	for _, r := range s.ledger {
		if r.WorkloadUID == a.object.GetUID() {
			restarts = append(restarts, r)
		}
	}
	slices.SortFunc(restarts, func(x, y *inventory.Restart) int { return cmp.Compare(y.Attempt, x.Attempt) })
	return restarts
}

// lastRestart is the newest; nil where there was none.
func (s *simulation) lastRestart(a *app) *inventory.Restart {
	if restarts := s.restartsOf(a); len(restarts) > 0 {
		return restarts[0]
	}
	return nil
}

// unfinished is the restart of a workload that has not ended; nil where none is in flight.
func (s *simulation) unfinished(a *app) *inventory.Restart {
	for _, r := range s.restartsOf(a) {
		if r.InFlight() {
			return r
		}
	}
	return nil
}

// recheck does what follows from how the API server has the workload of a restart.
func (s *simulation) recheck(r *inventory.Restart) bool {
	var live *inventory.Object
	if a := s.appOf(r.WorkloadUID); a != nil {
		live = a.cut()
		s.inventory.SetObject(live)
	}
	if !restart.IsVoid(r, live, s.now) {
		return false
	}
	s.say("the restart of %s never began", r.Workload)
	s.deleteRestart(r)
	return true
}

func (s *simulation) tellBreaker(of string, breaker *v1alpha1.BreakerStatus) {
	if breaker == nil && s.told["breaker of "+of] == "" {
		return
	}
	line := "  breaker of " + of + ": " + string(v1alpha1.BreakerClosed)
	if breaker != nil {
		line = fmt.Sprintf("  breaker of %s: %s, %d failed", of, breaker.State, *breaker.FailedWorkloads)
		if breaker.RetryTime != nil {
			line += fmt.Sprintf(", probe %s after noon", breaker.RetryTime.Sub(noon))
		}
		if *breaker.ProbesFailed > 0 {
			line += fmt.Sprintf(", probes failed: %d", *breaker.ProbesFailed)
		}
	}
	s.tell("breaker of "+of, line)
}

// ask asks for another try: of a workload, or of a namespace or policy by its name.
func (s *simulation) ask(what any, value string) {
	switch what := what.(type) {
	case *app:
		what.object.SetAnnotations(with(what.object.GetAnnotations(), v1alpha1.RetryAnnotation, value))
		s.changed(what)
	case *corev1.Namespace:
		what.Annotations = with(what.Annotations, v1alpha1.RetryAnnotation, value)
		s.tellNamespace(what.Name)
	case string:
		at := slices.IndexFunc(s.policies, func(p *v1alpha1.MeshPolicy) bool { return p.Name == what })
		policy := s.policies[at].DeepCopy()
		policy.Annotations = with(policy.Annotations, v1alpha1.RetryAnnotation, value)
		s.policies[at] = policy
	}
}

// act does what a verdict asks for, and reports whether something has changed by it.
func (s *simulation) act(namespace *restart.NamespacePlan, verdict *restart.Verdict) bool {
	at := slices.IndexFunc(s.apps, func(a *app) bool { return a.object.GetUID() == verdict.Workload.Object.UID })
	if at < 0 {
		return false
	}
	a := s.apps[at]
	switch verdict.Step {
	case restart.StepCheck:
		s.checks[verdict.CheckKey] = s.dryRun(a)
		return true
	case restart.StepRestart:
		return s.start(namespace, verdict, a)
	case restart.StepEvict:
		return s.evict(namespace, verdict, a)
	case restart.StepFinish:
		ended, written := s.store(verdict.Restart)
		switch {
		case !written:
			return false
		case ended.Result == v1alpha1.ResultSucceeded:
			s.note("%s: %s. %s", a, ended.Result, ended.Message)
		default:
			s.say("%s: %s. %s", a, ended.Result, ended.Message)
		}
		return true
	case restart.StepRecheck:
		return s.recheck(verdict.Restart)
	default:
		return false
	}
}

// start creates the MeshRestart and touches the workload, and dies in between where that was asked for.
func (s *simulation) start(namespace *restart.NamespacePlan, verdict *restart.Verdict, a *app) bool {
	s.mayStart(namespace, verdict)
	r, created := s.store(verdict.Restart)
	if !created {
		return false // another process has made the same attempt
	}
	if s.diesAfter("create") {
		return true
	}
	switch {
	case r.Method == v1alpha1.MethodEviction:
		s.note("begin to evict Pods of %s", a)
		a.disturbed = a.count(ready) < a.replicas()
	case a.object.GetGeneration() != r.Generation:
		s.memory.SpecChanged(r.WorkloadUID, s.now)
		s.deleteRestart(r)
		return false
	default:
		s.note("restart %s", a)
		a.disturbed = wasDown(a, verdict.Workload)
		if r.Method == v1alpha1.MethodRestartAt {
			a.setRestartAt(r.RestartAt)
		} else {
			a.annotate(v1alpha1.RestartedByAnnotation, r.Name)
		}
		a.object.SetGeneration(a.object.GetGeneration() + 1)
		_, err := s.referee.Touch(r.Namespace, r.Name, r.WorkloadUID, a.object.GetGeneration())
		s.promised(err)
		changed := s.changed(a)
		if !s.diesAfter("touch") {
			s.inventory.SetObject(changed)
		}
	}
	s.memory.Restarted(r.WorkloadUID)
	s.memory.Served(r.Namespace, r.Start)
	return true
}

// diesAfter has another process take over where this one was to die after a write.
func (s *simulation) diesAfter(write string) bool {
	if s.dies != write {
		return false
	}
	s.dies = ""
	s.say("Fullmesh dies after the write: %s.", write)
	s.failOver()
	s.decide()
	return true
}

// wasDown reports whether a workload was down when its restart began, or Pods of it that nobody has
// learned of yet.
func wasDown(a *app, known *inventory.Workload) bool {
	return known.Pods.Ready == 0 || a.count(ready) < known.Pods.Ready
}

// evict does as the API server does, which asks the disruption budgets, until it refuses.
func (s *simulation) evict(namespace *restart.NamespacePlan, verdict *restart.Verdict, a *app) bool {
	r, written := verdict.Restart, true
	if !slices.Equal(r.Evicting, verdict.Workload.InFlight.Evicting) {
		r, written = s.store(r)
	}
	if !written || s.diesAfter("round") {
		return false
	}
	acted, unseen := len(verdict.Evict) == 0, a.count(ready) < verdict.Workload.Pods.Ready
	for _, chosen := range verdict.Evict {
		at := slices.IndexFunc(a.pods, func(p *pod) bool { return p.uid == chosen.UID })
		if at < 0 || a.pods[at].going {
			continue // it has gone by itself
		}
		p := a.pods[at]
		s.mayEvictNow(namespace, verdict, a, p)
		if refused := s.refusal(a, p); refused != "" {
			s.memory.EvictionRefused(r.WorkloadUID, refused, s.now)
			s.say("eviction of %s is refused: %s", p.name, refused)
			return acted
		}
		s.say("evict %s", p.name)
		s.memory.EvictionAccepted(r.WorkloadUID, s.now)
		a.remove(s, p)
		s.inventory.Evicted(p.uid)
		if !unseen { // Pods that are down already, of which nobody has learned
			s.downTogether(namespace, a)
		}
		s.countBudgets()
		acted = true
	}
	return acted
}

// refusal is why the API server refuses an eviction; empty where it does not.
func (s *simulation) refusal(a *app, p *pod) string {
	for _, budget := range s.budgets {
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil {
			s.t.Fatalf("reading the selector of %s: %v", budget.Name, err)
		}
		status := budget.Status
		covers := budget.Namespace == a.object.GetNamespace() && selector.Matches(labels.Set(a.template.Labels))
		if covers && status.DisruptionsAllowed == 0 && (ready(p) || status.CurrentHealthy < status.DesiredHealthy) {
			return "Cannot evict pod as it would violate the pod's disruption budget."
		}
	}
	return ""
}

func with(annotations map[string]string, key, value string) map[string]string {
	changed := maps.Clone(annotations)
	if changed == nil {
		changed = map[string]string{}
	}
	changed[key] = value
	return changed
}

// dryRun is the API server's answer to the dry-run creation of a Pod.
func (s *simulation) dryRun(a *app) restart.Check {
	expected := s.injector.Expect(
		mesh.Namespace{Name: a.object.GetNamespace(), Labels: s.namespace(a.object.GetNamespace()).Labels},
		mesh.Template{Labels: a.template.Labels, Annotations: a.template.Annotations})
	answer, told := restart.Check{At: s.now, Received: s.now, Observed: sidecar(expected.Revision)}, "injected"
	switch {
	case !expected.Inject, s.down && !s.dryRunsPass && s.lettingPass():
		answer.Observed, told = mesh.Observation{}, "not_injected"
	case s.down && !s.dryRunsPass:
		answer.Outcome, answer.Message, told = restart.CheckUnreachable, "connection refused.", "unreachable"
	}
	if quota, bounded := s.quotas[a.object.GetNamespace()]; bounded && answer.Outcome == restart.CheckAdmitted {
		switch pods := s.podsIn(a.object.GetNamespace()); {
		case pods > quota:
			answer.Outcome, told = restart.CheckOverQuota, "over_quota"
		case pods == quota:
			answer.Outcome, told = restart.CheckFitsInTurn, "fits_in_turn"
		}
	}
	if !answer.Promises(expected) {
		answer.Retry = s.now.Add(time.Minute)
	}
	s.note("dry run of %s: %s", a, told)
	return answer
}

// run lets a number of steps pass.
func (s *simulation) run(steps int) {
	for range steps {
		s.tick()
	}
}

// tick is one step of the cluster, what is learned of it, and what Fullmesh makes of it.
func (s *simulation) tick() { s.wait(stepTime) }

// wait is one long step.
func (s *simulation) wait(d time.Duration) {
	s.step(d)
	s.learn()
	s.pass()
	s.tellApps()
}

// runUntilQuiet lets steps pass until nothing has happened for a while.
func (s *simulation) runUntilQuiet() {
	quiet := 0
	for range 1000 {
		before := s.lines
		s.tick()
		if quiet++; s.lines != before {
			quiet = 0
		}
		waits := !s.plan.NextChange.IsZero()
		if quiet >= 6 && !waits || quiet >= 120 {
			return
		}
	}
	s.t.Fatalf("it never comes to rest:\n%s", s.transcript.String())
}

// The transcript.

// widestLine is how wide a line of it may be; whole sentences are pinned elsewhere.
const widestLine = 150

// say writes a line down.
func (s *simulation) say(format string, arguments ...any) {
	s.lines++
	elapsed := s.now.Sub(s.began)
	line := fmt.Sprintf("%02d:%02d  %s", int(elapsed.Minutes()), int(elapsed.Seconds())%60, strings.TrimSpace(fmt.Sprintf(format, arguments...)))
	if runes := []rune(line); len(runes) > widestLine {
		line = string(runes[:widestLine-1]) + "…"
	}
	fmt.Fprintln(&s.transcript, line)
}

// note writes down what goes well.
func (s *simulation) note(format string, arguments ...any) {
	if s.brief {
		s.lines++
		return
	}
	s.say(format, arguments...)
}

// tell writes a line down unless that is what was said of the same thing last.
func (s *simulation) tell(about, line string) {
	if s.told[about] != line {
		s.told[about] = line
		s.say("%s", line)
	}
}

// tellWell is tell, of what goes well.
func (s *simulation) tellWell(about, line string) {
	if s.brief && s.told[about] != line {
		s.told[about] = line
		s.lines++
		return
	}
	s.tell(about, line)
}

func (s *simulation) tellPlan(plan *restart.Plan) {
	for policy, own := range plan.Policies {
		s.tellBreaker("MeshPolicy "+policy.Name, own.Breaker)
	}
	holds := map[string][]string{}
	var order []string
	held := sets.New[string]()
	for _, namespace := range plan.Namespaces {
		s.tellBreaker("namespace "+namespace.Name, namespace.Breaker)
		for i := range namespace.Verdicts {
			verdict := &namespace.Verdicts[i]
			about := "verdict on " + verdict.Workload.Key.String()
			why := fmt.Sprintf("%s (%s)", verdict.Reason, verdict.ClearsBy)
			switch {
			case verdict.Action != v1alpha1.ActionHold:
				continue
			case s.told[about] == why:
			case verdict.Waits() && s.brief:
				s.lines++
			default:
				if len(holds[why]) == 0 {
					order = append(order, why)
				}
				holds[why] = append(holds[why], verdict.Workload.Key.String())
			}
			held.Insert(about)
			s.told[about] = why
		}
	}
	for _, why := range order {
		s.say("  hold %s: %s", why, strings.Join(holds[why], ", "))
	}
	for about := range s.told {
		if strings.HasPrefix(about, "verdict on ") && !held.Has(about) {
			s.told[about] = ""
		}
	}
}

func (s *simulation) tellApps() {
	for _, a := range slices.Concat(s.planes, s.apps) {
		s.tellWell(a.String(), fmt.Sprintf("  %s has %s", a, a.describe()))
	}
}

func (a *app) describe() string {
	describe := func(n int, what string) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf("%d %s", n, what)
	}
	parts := slices.DeleteFunc([]string{
		describe(a.count(func(p *pod) bool { return ready(p) && inMesh(p) }), "in the mesh"),
		describe(a.count(func(p *pod) bool { return !ready(p) && inMesh(p) && !p.failed }), "coming up in the mesh"),
		describe(a.count(func(p *pod) bool { return inMesh(p) && p.failed }), "crashing in the mesh"),
		describe(a.count(func(p *pod) bool { return ready(p) && !inMesh(p) }), "outside"),
		describe(a.count(func(p *pod) bool { return running(p) && !ready(p) && !inMesh(p) }), "outside and not ready"),
		describe(a.count(func(p *pod) bool { return p.going }), "on its way out"),
	}, func(part string) bool { return part == "" })
	return cmp.Or(strings.Join(parts, ", "), "no Pods")
}

// outcome is how things stand.
func (s *simulation) outcome() string {
	var lines []string
	for _, a := range s.apps {
		line := fmt.Sprintf("%s: %s", a, a.describe())
		last := s.lastRestart(a)
		if s.brief && (last == nil || last.Result == v1alpha1.ResultSucceeded) {
			continue // most of them have gone from the history
		}
		if last != nil {
			line += ", restart " + cmp.Or(string(last.Result), "in flight")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
