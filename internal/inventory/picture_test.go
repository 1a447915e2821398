package inventory_test

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// objects are a cluster's objects as they are now. The inventory of them is computed here from
// scratch, in the plainest way: for each Pod its owners are walked, what is expected is held
// against what it carries, and the answers are summed up.
type objects struct {
	injector        *mesh.Injector
	injectorChanged time.Time
	revisionChanged map[string]time.Time
	namespaces      map[string]*corev1.Namespace
	changed         map[string]time.Time
	pods            map[types.UID]*mesh.Pod
	workloads       map[types.UID]*inventory.Object
	links           map[types.UID]*inventory.Link
	budgets         map[types.UID]*policyv1.PodDisruptionBudget
	restarts        map[types.NamespacedName]*inventory.Restart
	// service is the one behind the webhooks, in the namespace shop; nil where there is none.
	service *mesh.Service
	// nodes are the names of nodes, and whether they are cordoned.
	nodes map[string]bool
}

func noObjects() *objects {
	return &objects{
		injector:   mesh.NewInjector(nil, nil, mesh.Options{}),
		namespaces: map[string]*corev1.Namespace{},
		changed:    map[string]time.Time{},
		pods:       map[types.UID]*mesh.Pod{},
		workloads:  map[types.UID]*inventory.Object{},
		links:      map[types.UID]*inventory.Link{},
		budgets:    map[types.UID]*policyv1.PodDisruptionBudget{},
		restarts:   map[types.NamespacedName]*inventory.Restart{},
		nodes:      map[string]bool{},

		revisionChanged: map[string]time.Time{},
	}
}

// setInjector has another injector decide. What it decides for a revision may be as before.
func (o *objects) setInjector(injector *mesh.Injector, now time.Time) {
	if injector.Equal(o.injector) {
		return
	}
	for _, revision := range []string{"default", "canary"} {
		if injector.Fingerprint(revision) != o.injector.Fingerprint(revision) {
			o.revisionChanged[revision] = now
		}
	}
	o.injector, o.injectorChanged = injector, now
}

func (o *objects) changedFor(expected mesh.Expectation) time.Time {
	if expected.Inject {
		return o.revisionChanged[expected.Revision]
	}
	return o.injectorChanged
}

// inventory is what Snapshot has to say of the objects.
func (o *objects) picture() *inventory.Snapshot {
	snapshot := &inventory.Snapshot{Injector: o.injector, InjectorChanged: o.injectorChanged}
	for _, cordoned := range o.nodes {
		snapshot.Nodes.Known++
		if cordoned {
			snapshot.Nodes.Cordoned++
		}
	}
	for name, namespace := range o.namespaces {
		view := &inventory.Namespace{
			Name:        name,
			Labels:      namespace.Labels,
			Annotations: namespace.Annotations,
			Changed:     o.changed[name],
			Terminating: namespace.DeletionTimestamp != nil,
			Totals:      inventory.Totals{NotExpected: map[mesh.Reason]int{}},
			Shown:       sets.New[string](),
		}
		for key := range o.keys(name) {
			workload := o.judge(key)
			view.Workloads = append(view.Workloads, workload)
		}
		slices.SortFunc(view.Workloads, func(a, b *inventory.Workload) int {
			return cmp.Or(
				strings.Compare(a.Key.Kind, b.Key.Kind), strings.Compare(a.Key.Name, b.Key.Name), strings.Compare(a.Key.Group, b.Key.Group),
			)
		})
		for _, workload := range view.Workloads {
			sumUp(&view.Totals, workload)
			incomplete := workload.Finding != v1alpha1.FindingMeshed && workload.Finding != v1alpha1.FindingNotExpected
			if incomplete || workload.InFlight != nil || workload.Outcome != nil && workload.Outcome.Result == v1alpha1.ResultFailed {
				view.Open = append(view.Open, workload)
			}
			newest := workload.InFlight
			if newest == nil {
				newest = workload.Last
			}
			switch {
			case newest != nil && !newest.Start.Before(o.changedFor(workload.Expectation)):
				view.Tried = append(view.Tried, workload)
			case workload.Expectation.Inject && time.Unix(workload.NewestInjected, 0).After(o.changedFor(workload.Expectation)):
				view.Shown.Insert(workload.Expectation.Revision)
			}
		}
		for _, budget := range o.budgets {
			if budget.Namespace != name {
				continue
			}
			selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
			if err != nil {
				selector = labels.Nothing()
			}
			view.Budgets = append(view.Budgets, inventory.DisruptionBudget{
				Name: budget.Name, Selector: selector,
				Allowed: int(budget.Status.DisruptionsAllowed), Healthy: int(budget.Status.CurrentHealthy),
				Desired: int(budget.Status.DesiredHealthy), Expected: int(budget.Status.ExpectedPods),
				Observed: budget.Status.ObservedGeneration >= budget.Generation,
			})
		}
		o.listRestarts(view)
		slices.SortFunc(view.Budgets, func(a, b inventory.DisruptionBudget) int { return strings.Compare(a.Name, b.Name) })
		snapshot.Namespaces = append(snapshot.Namespaces, view)
	}
	snapshot.ControlPlanes = o.controlPlanes(snapshot)
	slices.SortFunc(snapshot.Namespaces, func(a, b *inventory.Namespace) int { return strings.Compare(a.Name, b.Name) })
	return snapshot
}

func (o *objects) controlPlanes(snapshot *inventory.Snapshot) map[string][]*inventory.Workload {
	planes := map[string][]*inventory.Workload{}
	for _, namespace := range snapshot.Namespaces {
		for _, workload := range namespace.Workloads {
			for _, revision := range o.injector.Revisions() {
				if object := workload.Object; namespace.Name == "shop" && object != nil &&
					slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}, object.Kind) &&
					mesh.IsControlPlane(revision, o.service, object.Template.Labels) {
					planes[revision] = append(planes[revision], workload)
				}
			}
		}
	}
	return planes
}

func sumUp(totals *inventory.Totals, workload *inventory.Workload) {
	concerned := workload.Pods.Eligible
	if workload.Finding == v1alpha1.FindingLeftover {
		concerned = max(concerned, workload.Pods.ToReplace)
	}
	if concerned > 0 {
		totals.Workloads++
		totals.Concerned += concerned
	}
	if workload.Pods.Eligible > 0 {
		totals.Meshed += workload.Pods.Meshed
	}
	totals.Eligible += workload.Pods.Eligible
	totals.Outside += workload.Pods.Outside
	if !workload.Expectation.Inject && workload.Pods.Running > workload.Pods.Eligible {
		totals.NotExpected[workload.Expectation.Reason] += workload.Pods.Running - workload.Pods.Eligible
	}
	totals.Sidecars += workload.Pods.Meshed
	if workload.Finding == v1alpha1.FindingLeftover {
		totals.Sidecars += workload.Pods.ToReplace
	}
}

// keys are the workloads of a namespace: those that have an object, and those that a Pod leads to.
func (o *objects) keys(namespace string) map[mesh.Key]bool {
	keys := map[mesh.Key]bool{}
	for _, object := range o.workloads {
		if object.Namespace == namespace && !belongsToAnother(object) {
			keys[object.Key()] = true
		}
	}
	for _, pod := range o.pods {
		if pod.Namespace == namespace {
			keys[o.root(pod)] = true
		}
	}
	return keys
}

func belongsToAnother(object *inventory.Object) bool {
	return (object.Kind == "ReplicaSet" || object.Kind == "Job") && object.Owner.UID != ""
}

// root walks up from a Pod.
func (o *objects) root(pod *mesh.Pod) mesh.Key {
	owner := pod.Owner
	if owner.UID == "" || slices.Contains([]string{"Node", "Deployment", "CronJob"}, owner.Kind) {
		return mesh.Key{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
	}
	if link := o.links[owner.UID]; link != nil && link.Namespace == pod.Namespace && link.Owner().UID != "" {
		owner = link.Owner()
	} else if object := o.ownerObject(pod); object != nil && belongsToAnother(object) {
		owner = object.Owner
	}
	return mesh.Key{Group: owner.Group, Kind: owner.Kind, Namespace: pod.Namespace, Name: owner.Name}
}

func (o *objects) ownerObject(pod *mesh.Pod) *inventory.Object {
	if object := o.workloads[pod.Owner.UID]; object != nil && object.Namespace == pod.Namespace {
		return object
	}
	return nil
}

// sibling is what Pods that stand and fall together share.
func sibling(pod *mesh.Pod) string {
	if pod.Owner.UID == "" || slices.Contains([]string{"Node", "Deployment", "CronJob"}, pod.Owner.Kind) {
		return string(pod.UID)
	}
	return string(pod.Owner.UID)
}

var worst = []v1alpha1.Finding{
	"", v1alpha1.FindingNotExpected, v1alpha1.FindingMeshed, v1alpha1.FindingLeftover, v1alpha1.FindingStale, v1alpha1.FindingMissing,
}

func (o *objects) judge(key mesh.Key) *inventory.Workload {
	namespace := mesh.Namespace{Name: key.Namespace, Labels: o.namespaces[key.Namespace].Labels}
	workload := &inventory.Workload{Key: key}
	for _, object := range o.workloads {
		if object.Key() == key && !belongsToAnother(object) {
			workload.Object = object
			workload.Template = object.Injection()
			workload.Expectation = o.injector.Expect(namespace, workload.Template)
			o.readLedger(workload)
		}
	}
	var pods []*mesh.Pod
	for _, pod := range o.pods {
		if o.root(pod) == key {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *mesh.Pod) int {
		return cmp.Or(strings.Compare(sibling(a), sibling(b)),
			mesh.CompareObservations(a.Observed.Value(), b.Observed.Value()), strings.Compare(a.Name, b.Name))
	})
	if workload.Object == nil {
		workload.Template, workload.Expectation = o.expectOfPod(pods, pods[0], namespace)
	}

	// First the worst finding, then what is counted of it.
	judgements := map[*mesh.Pod]mesh.Judgement{}
	for _, pod := range pods {
		template, expectation := workload.Template, workload.Expectation
		if workload.Object == nil {
			template, expectation = o.expectOfPod(pods, pod, namespace)
		}
		if !pod.Running() {
			continue
		}
		judgement := mesh.Judge(expectation, pod.Observed.Value())
		judgements[pod] = judgement
		workload.Notes = append(workload.Notes, o.injector.NotesOn(namespace, template, expectation, pod.Observed.Value())...)
		if slices.Index(worst, judgement.Finding) > slices.Index(worst, workload.Finding) {
			workload.Finding, workload.Reason, workload.Message = judgement.Finding, judgement.Reason, judgement.Message
		}
		o.setUnplaced(workload, pod)
		if !pod.Observed.Value().InMesh() {
			workload.Pods.Outside++
		}
		if pod.Observed.Value().Proxy == mesh.ProxyNone {
			workload.NewestUninjected = max(workload.NewestUninjected, pod.Created)
		}
		workload.Pods.Running++
		if pod.Ready() {
			workload.Pods.Ready++
			workload.NewestReady = max(workload.NewestReady, pod.ReadySince)
		}
		if expectation.Inject && key.Group != "batch" {
			workload.Pods.Eligible++
		}
		if judgement.Finding == v1alpha1.FindingMeshed || judgement.Finding == v1alpha1.FindingStale {
			workload.Pods.Meshed++
			workload.NewestMeshed = max(workload.NewestMeshed, pod.Created)
			if pod.Ready() {
				workload.Pods.MeshedReady++
				workload.NewestMeshedReady = max(workload.NewestMeshedReady, pod.ReadySince)
				if judgement.Finding == v1alpha1.FindingMeshed {
					workload.NewestInjected = max(workload.NewestInjected, pod.Created)
				}
			}
			stale := judgement.Finding == v1alpha1.FindingStale
			if pod.Trouble != nil && (workload.Failing == nil || workload.Failing.Stale && !stale) {
				workload.Failing = &inventory.FailingPod{Name: pod.Name, UID: pod.UID, Trouble: *pod.Trouble, Stale: stale}
			}
		} else if pod.Trouble != nil && workload.FailingOutside == nil {
			workload.FailingOutside = &inventory.FailingPod{Name: pod.Name, UID: pod.UID, Trouble: *pod.Trouble}
		}
	}
	workload.Unready = broughtAndNotReady(workload, judgements)
	workload.Notes = append(workload.Notes, workload.Expectation.Notes...)
	slices.SortFunc(workload.Notes, func(a, b mesh.Note) int {
		return cmp.Or(strings.Compare(string(a.Reason), string(b.Reason)), strings.Compare(a.Message, b.Message))
	})
	workload.Notes = slices.Compact(workload.Notes)
	for pod, judgement := range judgements {
		if judgement.Finding == workload.Finding && slices.Index(worst, workload.Finding) > 2 {
			workload.Pods.ToReplace++
			workload.NewestToReplace = max(workload.NewestToReplace, pod.Created)
			if pod.Ready() {
				workload.Pods.ToReplaceReady++
			}
			if pod.Pending {
				workload.Pods.ToReplacePending++
			}
			if workload.OldestToReplace == 0 || pod.Created < workload.OldestToReplace {
				workload.OldestToReplace = pod.Created
			}
			if going := workload.InFlight; going != nil && going.Method == v1alpha1.MethodEviction {
				workload.Evictable = append(workload.Evictable, pod)
			}
		}
	}
	slices.SortFunc(workload.Evictable, func(a, b *mesh.Pod) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Name, b.Name), strings.Compare(string(a.UID), string(b.UID)))
	})
	switch {
	case workload.Finding != "":
	case workload.Expectation.Inject:
		workload.Finding, workload.Reason, workload.Message = v1alpha1.FindingMeshed, mesh.ReasonExpected, "No Pod runs; the next one is injected."
	default:
		workload.Finding, workload.Reason, workload.Message = v1alpha1.FindingNotExpected, workload.Expectation.Reason, workload.Expectation.Message
	}
	return workload
}

// broughtAndNotReady is, of the Pods that the restart in flight has brought, the first that is not ready.
func broughtAndNotReady(workload *inventory.Workload, pods map[*mesh.Pod]mesh.Judgement) *mesh.Pod {
	if workload.InFlight == nil {
		return nil
	}
	var unready *mesh.Pod
	for pod := range pods {
		if !pod.Ready() && pod.Created > workload.InFlight.Cause.Newest && (unready == nil || pod.Name < unready.Name) {
			unready = pod
		}
	}
	return unready
}

// setUnplaced notes that a node is missing for a Pod, unless it is so of one whose name comes first.
func (o *objects) setUnplaced(workload *inventory.Workload, pod *mesh.Pod) {
	node := pod.Node.Value()
	switch {
	case pod.Unschedulable != nil && (workload.Unschedulable == nil || pod.Created < workload.Unschedulable.Created ||
		pod.Created == workload.Unschedulable.Created && pod.Name < workload.Unschedulable.Pod):
		workload.Unschedulable = &inventory.Unplaced{Pod: pod.Name, Created: pod.Created, Scheduler: *pod.Unschedulable}
	case pod.Unschedulable == nil && o.nodes[node] && (workload.OnCordonedNode == nil || pod.Name < workload.OnCordonedNode.Pod):
		workload.OnCordonedNode = &inventory.Unplaced{Pod: pod.Name, Created: pod.Created, Node: node}
	}
}

// expectOfPod is what is expected of a Pod of which no workload's template is known: by the template
// of its owner, else by what the first of its siblings has itself.
func (o *objects) expectOfPod(pods []*mesh.Pod, pod *mesh.Pod, namespace mesh.Namespace) (mesh.Template, mesh.Expectation) {
	first := pod
	for _, other := range pods {
		if sibling(other) == sibling(pod) && other.Name < first.Name {
			first = other
		}
	}
	var template mesh.Template
	if object := o.ownerObject(pod); object != nil {
		template = object.Injection()
	} else if first.Template != nil {
		template = *first.Template
	}
	if first.Static {
		return template, mesh.Expectation{
			Reason:  mesh.ReasonMirrorPod,
			Message: "The kubelet runs this Pod from a file on its node; injection does not reach it.",
		}
	}
	return template, o.injector.Expect(namespace, template)
}

// readLedger finds the restarts of a workload, the highest attempt first.
func (o *objects) readLedger(workload *inventory.Workload) {
	for key, r := range o.restarts {
		if key.Namespace == workload.Key.Namespace && r.WorkloadUID == workload.Object.UID {
			workload.Restarts = append(workload.Restarts, r)
		}
	}
	slices.SortFunc(workload.Restarts, func(a, b *inventory.Restart) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), strings.Compare(a.Name, b.Name))
	})
	first := func(fits func(*inventory.Restart) bool) *inventory.Restart {
		if at := slices.IndexFunc(workload.Restarts, fits); at >= 0 {
			return workload.Restarts[at]
		}
		return nil
	}
	goesOn := func(r *inventory.Restart) bool { return r.Result == "" }
	named := workload.Object.Template.Annotations[v1alpha1.RestartedByAnnotation]
	workload.InFlight = cmp.Or(
		first(func(r *inventory.Restart) bool {
			return goesOn(r) && (r.Method == v1alpha1.MethodEviction || r.Name == named)
		}),
		first(goesOn),
	)
	workload.Last = first(func(r *inventory.Restart) bool { return !goesOn(r) })
	workload.Outcome = first(func(r *inventory.Restart) bool { return !goesOn(r) && r.Result != v1alpha1.ResultInterrupted })
	for _, r := range workload.Restarts {
		if goesOn(r) && r != workload.InFlight {
			workload.Strays = append(workload.Strays, r)
		}
	}
}

// listRestarts finds those of a namespace, the newest first, and those of workloads that are not there.
func (o *objects) listRestarts(view *inventory.Namespace) {
	for key, r := range o.restarts {
		if key.Namespace == view.Name {
			view.Restarts = append(view.Restarts, r)
		}
	}
	slices.SortFunc(view.Restarts, func(a, b *inventory.Restart) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(b.Attempt, a.Attempt), strings.Compare(a.Name, b.Name))
	})
	for _, r := range view.Restarts {
		there := slices.ContainsFunc(view.Workloads, func(w *inventory.Workload) bool { return w.Object != nil && w.Object.UID == r.WorkloadUID })
		if r.Result == "" && !there {
			view.Orphans = append(view.Orphans, r)
		}
	}
}

// feed takes the objects into a new inventory, in an order that shuffle gives.
func (o *objects) feed(shuffle func([]func(*inventory.Inventory))) *inventory.Inventory {
	events := []func(*inventory.Inventory){
		func(i *inventory.Inventory) { i.SetInjector(o.injector, o.injectorChanged) },
	}
	for _, object := range o.namespaces {
		events = append(events, func(i *inventory.Inventory) { i.SetNamespace(object, o.changed[object.Name]) })
	}
	for _, object := range o.pods {
		events = append(events, func(i *inventory.Inventory) { i.SetPod(object) })
	}
	for _, object := range o.workloads {
		events = append(events, func(i *inventory.Inventory) { i.SetObject(object) })
	}
	for _, object := range o.links {
		events = append(events, func(i *inventory.Inventory) { i.SetLink(object) })
	}
	for _, object := range o.budgets {
		events = append(events, func(i *inventory.Inventory) { i.SetDisruptionBudget(object) })
	}
	for name, cordoned := range o.nodes {
		events = append(events, func(i *inventory.Inventory) { i.SetNode(inventory.FromNode(builder.Node(name, cordoned))) })
	}
	if o.service != nil {
		events = append(events, func(i *inventory.Inventory) { i.SetService(o.service) })
	}
	for _, r := range o.restarts {
		events = append(events, func(i *inventory.Inventory) {
			if r.Pending() {
				i.AddPendingRestart(r)
			} else {
				i.SetRestart(r)
			}
		})
	}
	shuffle(events)
	fed := inventory.New()
	for _, event := range events {
		event(fed)
	}
	return fed
}

// fatal is a testing.T, of whatever kind.
type fatal interface{ Fatal(...any) }

// describe writes down everything that a snapshot says, so that two can be compared, also when one
// of them was taken long ago.
func describe(t fatal, snapshot *inventory.Snapshot, ignoreTimes bool) string {
	type workload struct {
		*inventory.Workload
		Object string
	}
	type budget struct {
		inventory.DisruptionBudget
		Selector string
	}
	type namespace struct {
		*inventory.Namespace
		Workloads   []workload
		Open, Tried []string
		Budgets     []budget
	}
	keys := func(list []*inventory.Workload) []string {
		var keys []string
		for _, w := range list {
			keys = append(keys, w.Key.String())
		}
		return keys
	}
	var described struct {
		InjectorChanged time.Time
		Revisions       []string
		Nodes           inventory.Nodes
		ControlPlanes   map[string][]string
		Namespaces      []namespace
	}
	described.Revisions = snapshot.Injector.Revisions()
	described.Nodes = snapshot.Nodes
	described.ControlPlanes = map[string][]string{}
	for revision, planes := range snapshot.ControlPlanes {
		described.ControlPlanes[revision] = keys(planes)
	}
	if !ignoreTimes {
		described.InjectorChanged = snapshot.InjectorChanged
	}
	for _, n := range snapshot.Namespaces {
		copied := *n
		if ignoreTimes {
			copied.Changed, copied.Tried, copied.Shown = time.Time{}, nil, nil
		}
		view := namespace{Namespace: &copied, Open: keys(n.Open), Tried: keys(copied.Tried)}
		for _, w := range n.Workloads {
			described := workload{Workload: w}
			if w.Object != nil {
				described.Object = string(w.Object.UID) + "@" + w.Object.ResourceVersion
			}
			view.Workloads = append(view.Workloads, described)
		}
		for _, b := range n.Budgets {
			described := budget{DisruptionBudget: b, Selector: b.Selector.String()}
			view.Budgets = append(view.Budgets, described)
		}
		described.Namespaces = append(described.Namespaces, view)
	}
	text, err := json.MarshalIndent(described, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
