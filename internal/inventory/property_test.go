package inventory_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// The inventory that is kept up to date event by event is the one that is computed from scratch, after
// any events in any order, whenever it was looked at in between; the order in which objects are
// learned of does not matter; and what was looked at stays as it was.
func TestPictureIsThatOfTheObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{
			objects:         noObjects(),
			inventory:       inventory.New(),
			now:             time.Unix(1_000_000, 0),
			generations:     map[string]int64{},
			evicted:         map[types.UID]bool{},
			deletedRestarts: map[types.UID]*inventory.Restart{},
		}
		c.setInjector(t)
		for _, event := range rapid.SliceOfN(rapid.SampledFrom(c.events()), 20, 150).Draw(t, "events") {
			event.happens(t)
		}
		c.look(t)

		shuffled := c.feed(func(events []func(*inventory.Inventory)) {
			copied := slices.Clone(events)
			places := make([]int, len(events))
			for i := range places {
				places[i] = i
			}
			for to, from := range rapid.Permutation(places).Draw(t, "order") {
				events[to] = copied[from]
			}
		})
		if diff := cmp.Diff(describe(t, c.picture(), true), describe(t, shuffled.Snapshot(), true)); diff != "" {
			t.Fatalf("learned of in another order, the picture differs (-want +got):\n%s", diff)
		}
		for _, looked := range c.looked {
			if diff := cmp.Diff(looked.was, describe(t, looked.snapshot, false)); diff != "" {
				t.Fatalf("a picture was changed after it was looked at (-was +is):\n%s", diff)
			}
		}
	})
}

// cluster makes events at random and keeps the objects that they are about.
type cluster struct {
	*objects
	inventory *inventory.Inventory
	now       time.Time
	// version counts writes; made counts objects made under a name that was used before.
	version, made int
	generations   map[string]int64
	// former are what late events tell of.
	former []*inventory.Object
	// formerRestarts are what late events tell of, and deletedRestarts what this process has deleted and the informer
	// still has.
	formerRestarts  []*inventory.Restart
	deletedRestarts map[types.UID]*inventory.Restart
	// evicted are Pods that do not come back.
	evicted map[types.UID]bool
	looked  []looked
}

type looked struct {
	snapshot *inventory.Snapshot
	was      string
}

// event is something that happens; where there is nothing that it could happen to, nothing does.
type event struct {
	name    string
	happens func(*rapid.T)
}

func (e event) String() string { return e.name }

// events are what may happen, the frequent more often.
func (c *cluster) events() []event {
	return []event{
		{"the picture is looked at", c.look},
		{"the picture is looked at", c.look},
		{"a Pod is created", c.setPod},
		{"a Pod is created", c.setPod},
		{"a Pod is created", c.setPod},
		{"a Pod is created", c.setPod},
		{"a ReplicaSet makes Pods", c.makePods},
		{"a Pod becomes another", c.changePod},
		{"a Pod changes in some detail", c.adjustPod},
		{"a Pod changes in some detail", c.adjustPod},
		{"a Pod changes in some detail", c.adjustPod},
		{"a Pod goes", c.deletePod},
		{"a Pod goes", c.deletePod},
		{"a Pod goes", c.deletePod},
		{"a Pod is evicted", c.evictPod},
		{"a namespace is set", c.setNamespace},
		{"a namespace is set", c.setNamespace},
		{"a namespace goes", c.deleteNamespace},
		{"the injector is set", c.setInjector},
		{"a workload is set", c.setWorkload},
		{"a workload is set", c.setWorkload},
		{"a workload goes", c.deleteWorkload},
		{"a workload is made anew", c.recreateWorkload},
		{"a workload's event comes late", c.replayWorkload},
		{"a ReplicaSet or Job is set", c.setBetween},
		{"a ReplicaSet or Job is set", c.setBetween},
		{"a ReplicaSet or Job goes", c.deleteBetween},
		{"a node is set", c.setNode},
		{"a node is set", c.setNode},
		{"a node goes", c.deleteNode},
		{"the injector's Service is set or goes", c.setService},
		{"a MeshRestart is about to be created", c.addPendingRestart},
		{"a MeshRestart is not created after all", c.dropPendingRestart},
		{"a MeshRestart is set", c.setRestart},
		{"a MeshRestart is set", c.setRestart},
		{"a MeshRestart's event comes late", c.replayRestart},
		{"a MeshRestart is deleted", c.deleteRestart},
		{"the informer has a MeshRestart no more", c.forgetRestart},
		{"a disruption budget is set", c.setBudget},
		{"a disruption budget goes", c.deleteBudget},
	}
}

func (c *cluster) look(t *rapid.T) {
	snapshot := c.inventory.Snapshot()
	got := describe(t, snapshot, false)
	if diff := cmp.Diff(describe(t, c.picture(), false), got); diff != "" {
		t.Fatalf("the picture is not that of the objects (-want +got):\n%s", diff)
	}
	checkCarried(t, c.inventory, snapshot)
	c.looked = append(c.looked, looked{snapshot, got})
}

func (c *cluster) tick() { c.now = c.now.Add(time.Second) }

func oneOf[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

// pick draws one of a map's values; false where there is none.
func pick[K ~string, V any](t *rapid.T, label string, from map[K]V, fits func(V) bool) (V, bool) {
	var keys []K
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if fits == nil || fits(from[key]) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		var none V
		return none, false
	}
	return from[rapid.SampledFrom(keys).Draw(t, label)], true
}

// drawNamespace draws one of two, mostly the same, so that something happens there.
func drawNamespace(t *rapid.T) string { return oneOf(t, "namespace", "shop", "shop", "shop", "bank") }

func (c *cluster) setNamespace(t *rapid.T) {
	c.tick()
	b := builder.Namespace(drawNamespace(t)).CreatedAt(c.now.Add(oneOf(t, "created", -time.Hour, time.Hour)))
	b.Labelled(oneOf(t, "labels", nil, []string{
		"istio-injection", "enabled",
	}, []string{"istio-injection", "enabled"}, []string{"istio.io/rev", "canary"},
		[]string{"istio-injection", "disabled"}, []string{"istio.io/dataplane-mode", "ambient"})...)
	if rapid.Bool().Draw(t, "annotated") {
		b.Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled)
	}
	if oneOf(t, "terminating", false, false, true) {
		b.Terminating(c.now)
	}
	namespace := b.Build()
	switch before, known := c.namespaces[namespace.Name]; {
	case !known && namespace.CreationTimestamp.Time.Before(c.now):
		c.changed[namespace.Name] = namespace.CreationTimestamp.Time
	case !known || !maps.Equal(before.Labels, namespace.Labels):
		c.changed[namespace.Name] = c.now
	}
	c.namespaces[namespace.Name] = namespace
	c.inventory.SetNamespace(namespace, c.now)
}

func (c *cluster) deleteNamespace(t *rapid.T) {
	name := drawNamespace(t)
	delete(c.namespaces, name)
	c.inventory.DeleteNamespace(name)
}

// injectors of various webhooks.
var injectors = []*mesh.Injector{
	injectorOf(servedFromShop(builder.Webhooks()), servedFromShop(builder.RevisionWebhooks("canary"))),
	injectorOf(servedFromShop(builder.Webhooks())),
	injectorOf(servedFromShop(builder.LettingPass(builder.Webhooks()))),
	injectorOf(),
}

// servedFromShop has the control plane in a namespace where there is something.
func servedFromShop(configuration *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.MutatingWebhookConfiguration {
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].ClientConfig.Service.Namespace = "shop"
		configuration.Webhooks[i].ClientConfig.Service.Name = "istiod"
	}
	return configuration
}

func (c *cluster) setService(t *rapid.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "istiod"}}
	cut := mesh.CutDownService(service)
	if c.service = nil; rapid.Bool().Draw(t, "goes") {
		c.inventory.DeleteService(cut)
		return
	}
	service.Spec.Selector = oneOf(t, "selector", nil, map[string]string{"app": "a"}, map[string]string{"istio.io/rev": "canary"})
	c.service = mesh.CutDownService(service)
	c.inventory.SetService(c.service)
}

func injectorOf(webhooks ...*admissionregistrationv1.MutatingWebhookConfiguration) *mesh.Injector {
	return mesh.NewInjector(webhooks, []*corev1.ConfigMap{builder.InjectorSettings()}, mesh.Options{})
}

func (c *cluster) setInjector(t *rapid.T) {
	c.tick()
	injector := injectors[rapid.IntRange(0, len(injectors)-1).Draw(t, "injector")]
	c.objects.setInjector(injector, c.now)
	c.inventory.SetInjector(injector, c.now)
}

// drawObject draws what a workload may be, of whatever kind.
func (c *cluster) drawObject(t *rapid.T, kind, namespace, name, uid string, owners ...metav1.OwnerReference) *inventory.Object {
	c.version++
	var object *inventory.Object
	switch kind {
	case "Deployment":
		object = inventory.FromDeployment(drawn(t, c, builder.Deployment(namespace, name), uid).Build())
	case "StatefulSet":
		object = inventory.FromStatefulSet(drawn(t, c, builder.StatefulSet(namespace, name), uid).Build())
	case "CronJob":
		object = inventory.FromCronJob(drawn(t, c, builder.CronJob(namespace, name), uid).Build())
	case "ReplicaSet":
		r := drawn(t, c, builder.ReplicaSet(namespace, name), uid).Build()
		r.OwnerReferences = owners
		object = inventory.FromReplicaSet(r)
	default:
		j := drawn(t, c, builder.Job(namespace, name), uid).Build()
		j.OwnerReferences = owners
		object = inventory.FromJob(j)
	}
	return object
}

func drawn[T metav1.Object](t *rapid.T, c *cluster, b *builder.Workload[T], uid string) *builder.Workload[T] {
	b.UID(uid).Labelled(oneOf(t, "labels", nil, []string{"sidecar.istio.io/inject", "false"},
		[]string{"sidecar.istio.io/inject", "true"}, []string{"istio.io/rev", "canary"})...)
	if name := oneOf(t, "restarted by", "", "", "r0", "r1", "gone"); name != "" {
		b.TemplateAnnotated(v1alpha1.RestartedByAnnotation, name)
	}
	return b.With(func(object T) {
		object.SetResourceVersion(strconv.Itoa(c.version))
		c.generations[uid]++
		object.SetGeneration(c.generations[uid])
	})
}

func (c *cluster) store(object *inventory.Object) {
	c.workloads[object.UID] = object
	c.inventory.SetObject(object)
	c.former = append(c.former, object)
}

// standing is the object that stands for itself under a name.
func (c *cluster) standing(key mesh.Key) *inventory.Object {
	for _, object := range c.workloads {
		if object.Key() == key && !belongsToAnother(object) {
			return object
		}
	}
	return nil
}

// setWorkload makes one, or changes the one that is there.
func (c *cluster) setWorkload(t *rapid.T) {
	kind, namespace, name := oneOf(t, "kind", "Deployment", "StatefulSet", "CronJob"), drawNamespace(t), oneOf(t, "name", "a", "b")
	object := c.drawObject(t, kind, namespace, name, "?")
	uid := strings.Join([]string{kind, namespace, name}, "-")
	if there := c.standing(object.Key()); there != nil {
		uid = string(there.UID)
	}
	c.store(c.drawObject(t, kind, namespace, name, uid))
}

func (c *cluster) deleteWorkload(t *rapid.T) {
	object, found := pick(t, "workload", c.workloads, func(o *inventory.Object) bool { return !belongsToAnother(o) })
	if !found {
		return
	}
	delete(c.workloads, object.UID)
	c.inventory.DeleteObject(object)
}

// recreateWorkload makes one anew under the same name, and the deletion of the former may be heard
// of late or never.
func (c *cluster) recreateWorkload(t *rapid.T) {
	former, found := pick(t, "workload", c.workloads, func(o *inventory.Object) bool { return !belongsToAnother(o) })
	if !found {
		return
	}
	c.made++
	delete(c.workloads, former.UID)
	deleted := oneOf(t, "deleted", "before", "after", "never")
	if deleted == "before" {
		c.inventory.DeleteObject(former)
	}
	c.store(c.drawObject(t, former.Kind, former.Namespace, former.Name, fmt.Sprintf("anew-%d", c.made)))
	if deleted == "after" {
		c.inventory.DeleteObject(former)
	}
}

// replayWorkload tells of a state that is over.
func (c *cluster) replayWorkload(t *rapid.T) {
	if len(c.former) == 0 {
		return
	}
	former := rapid.SampledFrom(c.former).Draw(t, "former")
	if belongsToAnother(former) || c.standing(former.Key()) == nil {
		return
	}
	c.inventory.SetObject(former)
}

func betweenUID(namespace, name string) types.UID {
	return types.UID(namespace + "-" + name)
}

// setBetween sets a ReplicaSet or Job that belongs to something, or to nothing, or to something else
// than before.
func (c *cluster) setBetween(t *rapid.T) {
	kind, namespace := oneOf(t, "kind", "ReplicaSet", "Job"), drawNamespace(t)
	name := strings.ToLower(kind) + oneOf(t, "name", "0", "1")
	uid := betweenUID(namespace, name)
	for _, known := range c.workloads {
		if known.Kind == kind && known.Namespace == namespace && known.Name == name {
			uid = known.UID
		}
	}
	owner := builder.ControlledByOther("apps/v1", "Deployment", oneOf(t, "owner", "a", "b"), "some-deployment")
	other := builder.ControlledByOther("argoproj.io/v1alpha1", "Rollout", "r", "some-rollout")
	if kind == "Job" {
		owner = builder.ControlledByOther("batch/v1", "CronJob", owner.Name, "some-cronjob")
		other = builder.ControlledByOther("argoproj.io/v1alpha1", "Workflow", "r", "some-workflow")
	}
	switch oneOf(t, "belongs", "to a workload that is read", "to another", "to nothing") {
	case "to a workload that is read":
		object := c.drawObject(t, kind, namespace, name, string(uid), owner)
		link := inventory.LinkTo(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: uid, ResourceVersion: object.ResourceVersion, OwnerReferences: []metav1.OwnerReference{owner}}})
		delete(c.workloads, uid)
		c.links[uid] = link
		c.inventory.SetLink(link)
	case "to another":
		delete(c.links, uid)
		c.store(c.drawObject(t, kind, namespace, name, string(uid), other))
	default:
		delete(c.links, uid)
		c.store(c.drawObject(t, kind, namespace, name, string(uid)))
	}
}

func (c *cluster) deleteBetween(t *rapid.T) {
	if link, found := pick(t, "link", c.links, nil); found && rapid.Bool().Draw(t, "a link") {
		delete(c.links, link.UID)
		c.inventory.DeleteLink(link.UID)
	} else if object, found := pick(t, "object", c.workloads, belongsToAnother); found {
		delete(c.workloads, object.UID)
		c.inventory.DeleteObject(object)
	} else {
		return
	}
}

// setPod makes a Pod under a name that is free.
func (c *cluster) setPod(t *rapid.T) {
	namespace, name := drawNamespace(t), "pod"+oneOf(t, "name", "0", "1", "2", "3", "4", "5", "6", "7")
	for _, pod := range c.pods {
		if pod.Namespace == namespace && pod.Name == name {
			return
		}
	}
	c.made++
	c.storePod(c.drawPod(t, namespace, name, fmt.Sprintf("pod-%d", c.made)))
}

// makePods makes some that differ in little.
func (c *cluster) makePods(t *rapid.T) {
	owner := builder.ControlledByOther("apps/v1", "ReplicaSet", "replicaset0", betweenUID("shop", "replicaset0"))
	for range rapid.IntRange(2, 6).Draw(t, "number") {
		c.made++
		b := builder.Pod("shop", fmt.Sprintf("made%d", c.made)).UID(fmt.Sprintf("pod-%d", c.made)).OwnedByOther(owner).
			CreatedAt(time.Unix(drawSecond(t, "created"), 0))
		if rapid.Bool().Draw(t, "injected") {
			b.Injected("default")
		}
		if rapid.Bool().Draw(t, "ready") {
			b.Ready(time.Unix(drawSecond(t, "ready"), 0))
		} else {
			b.Crashing("app", 1)
		}
		c.storePod(mesh.CutDown(b.Build()))
	}
}

func (c *cluster) changePod(t *rapid.T) {
	pod, found := pick(t, "pod", c.pods, nil)
	if !found {
		return
	}
	c.storePod(c.drawPod(t, pod.Namespace, pod.Name, string(pod.UID)))
}

// adjustPod changes one thing about a Pod and leaves the rest.
func (c *cluster) adjustPod(t *rapid.T) {
	pod, found := pick(t, "pod", c.pods, nil)
	if !found {
		return
	}
	adjusted := *pod
	switch oneOf(t, "what", "terminating", "finished", "ready", "trouble", "scheduled", "nothing") {
	case "scheduled":
		adjusted.Node, adjusted.Unschedulable = unique.Make(drawNode(t)), nil
	case "terminating":
		adjusted.Terminating = true
	case "finished":
		adjusted.Finished = !pod.Finished
	case "ready":
		adjusted.ReadySince, adjusted.Trouble = drawSecond(t, "ready"), nil
	case "trouble":
		adjusted.ReadySince, adjusted.Trouble = 0, &mesh.Trouble{Container: "app", Reason: "CrashLoopBackOff"}
	}
	c.storePod(&adjusted)
}

// evictPod has a Pod evicted, of which something may be heard after that is from before.
func (c *cluster) evictPod(t *rapid.T) {
	pod, found := pick(t, "pod", c.pods, nil)
	if !found {
		return
	}
	c.evicted[pod.UID] = true
	c.inventory.Evicted(pod.UID)
	if rapid.Bool().Draw(t, "heard of late") {
		c.inventory.SetPod(pod)
	}
	going := *pod
	going.Terminating = true
	c.pods[pod.UID] = &going
}

func (c *cluster) storePod(pod *mesh.Pod) {
	c.inventory.SetPod(pod)
	if c.evicted[pod.UID] {
		going := *pod
		going.Terminating = true
		pod = &going
	}
	c.pods[pod.UID] = pod
}

func (c *cluster) deletePod(t *rapid.T) {
	pod, found := pick(t, "pod", c.pods, nil)
	if !found {
		return
	}
	delete(c.pods, pod.UID)
	delete(c.evicted, pod.UID)
	c.inventory.DeletePod(pod.UID)
}

// drawSecond draws one of few, so that Pods share them.
func drawSecond(t *rapid.T, label string) int64 {
	return 1000 + rapid.Int64Range(0, 9).Draw(t, label)
}

func (c *cluster) drawPod(t *rapid.T, namespace, name, uid string) *mesh.Pod {
	b := builder.Pod(namespace, name).UID(uid).CreatedAt(time.Unix(drawSecond(t, "created"), 0))
	switch oneOf(t, "carries", "nothing", "default", "canary", "a failed redirection", "ambient") {
	case "default":
		b.Injected("default")
	case "canary":
		b.Injected("canary")
	case "a failed redirection":
		b.Injected("default").RedirectionFailed()
	case "ambient":
		b.Annotated("ambient.istio.io/redirection", "enabled")
	}
	b.Labelled(oneOf(t, "labels", nil, nil, []string{"sidecar.istio.io/inject", "false"})...)
	if rapid.Bool().Draw(t, "scheduled") {
		b.OnNode(drawNode(t))
	} else if rapid.Bool().Draw(t, "unschedulable") {
		b.Unschedulable(oneOf(t, "scheduler", "0/3 nodes are available.", ""))
	}
	switch oneOf(t, "state", "ready", "ready", "crashing", "starting", "terminating", "finished") {
	case "ready":
		b.Ready(time.Unix(drawSecond(t, "ready"), 0))
	case "crashing":
		b.Crashing("app", 1)
	case "terminating":
		b.Ready(time.Unix(drawSecond(t, "ready"), 0)).Terminating(c.now)
	case "finished":
		b.Finished()
	}
	c.drawOwner(t, b, namespace)
	return mesh.CutDown(b.Build())
}

// drawOwner draws who controls a Pod: among others a ReplicaSet of another namespace, which cannot
// be, though anybody who may create Pods can claim it.
func (c *cluster) drawOwner(t *rapid.T, b *builder.PodBuilder, namespace string) {
	between := func(kind string) metav1.OwnerReference {
		name := strings.ToLower(kind) + oneOf(t, "number", "0", "0", "1")
		version := "apps/v1"
		if kind == "Job" {
			version = "batch/v1"
		}
		uid := betweenUID(oneOf(t, "of", namespace, namespace, namespace, "bank", "shop"), name)
		return builder.ControlledByOther(version, kind, name, uid)
	}
	switch oneOf(
		t, "owner", "ReplicaSet", "ReplicaSet", "ReplicaSet", "ReplicaSet", "StatefulSet", "StatefulSet", "Job", "CloneSet",
		"CloneSet made anew", "none", "Node",
	) {
	case "ReplicaSet":
		b.OwnedByOther(between("ReplicaSet"))
	case "Job":
		b.OwnedByOther(between("Job"))
	case "StatefulSet":
		name := oneOf(t, "name", "a", "b")
		uid := oneOf(t, "uid", "StatefulSet-", "former-StatefulSet-") + namespace + "-" + name
		b.OwnedByOther(builder.ControlledByOther("apps/v1", "StatefulSet", name, types.UID(uid)))
	case "CloneSet":
		b.OwnedByOther(builder.ControlledByOther("apps.kruise.io/v1alpha1", "CloneSet", "c", types.UID("clones-"+namespace)))
	case "CloneSet made anew":
		b.OwnedByOther(builder.ControlledByOther("apps.kruise.io/v1alpha1", "CloneSet", "c", types.UID("more-clones-"+namespace)))
	case "Node":
		b.Mirror("node")
	}
}

func drawNode(t *rapid.T) string { return oneOf(t, "node", "node0", "node1", "node2") }

func (c *cluster) setNode(t *rapid.T) {
	name, cordoned := drawNode(t), rapid.Bool().Draw(t, "cordoned")
	c.nodes[name] = cordoned
	c.inventory.SetNode(inventory.FromNode(builder.Node(name, cordoned)))
}

func (c *cluster) deleteNode(t *rapid.T) {
	name := drawNode(t)
	delete(c.nodes, name)
	c.inventory.DeleteNode(inventory.FromNode(builder.Node(name, false)))
}

func (c *cluster) setBudget(t *rapid.T) {
	b := builder.DisruptionBudget(drawNamespace(t), oneOf(t, "name", "a", "b")).Healthy(rapid.Int32Range(0, 5).Draw(t, "healthy"), 2, 5)
	switch oneOf(t, "budget", "covers by label", "covers all", "covers none", "cannot be read", "has not been seen") {
	case "covers all":
		b.Covering()
	case "covers none":
		b.With(func(budget *policyv1.PodDisruptionBudget) { budget.Spec.Selector = nil })
	case "cannot be read":
		b.With(func(budget *policyv1.PodDisruptionBudget) {
			budget.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like"}}
		})
	case "has not been seen":
		b.NotSeen()
	}
	budget := b.Build()
	c.budgets[budget.UID] = budget
	c.inventory.SetDisruptionBudget(budget)
}

func (c *cluster) deleteBudget(t *rapid.T) {
	budget, found := pick(t, "budget", c.budgets, nil)
	if !found {
		return
	}
	delete(c.budgets, budget.UID)
	c.inventory.DeleteDisruptionBudget(budget.Namespace, budget.Name)
}

// drawRestart draws what the ledger says of a restart of some workload, which may not be there.
func (c *cluster) drawRestart(t *rapid.T) *inventory.Restart {
	c.version++
	c.made++
	namespace := drawNamespace(t)
	uid := types.UID("gone")
	if object, found := pick(t, "workload", c.workloads, func(o *inventory.Object) bool { return o.Namespace == namespace }); found &&
		!oneOf(t, "gone", false, false, true) {
		uid = object.UID
	}
	r := &inventory.Restart{
		Namespace: namespace, Name: oneOf(
			t, "name", "r0", "r1", "r2", "r3",
		), UID: types.UID(fmt.Sprintf("restart-%d", c.made)), ResourceVersion: strconv.Itoa(c.version),
		WorkloadUID: uid, Cause: inventory.Cause{Finding: v1alpha1.FindingMissing, Newest: drawSecond(t, "newest")},
		Method:  oneOf(t, "method", v1alpha1.MethodRolloutRestart, v1alpha1.MethodEviction),
		Attempt: rapid.IntRange(1, 3).Draw(t, "attempt"), Start: time.Unix(drawSecond(t, "start"), 0),
	}
	result := oneOf(t, "result", "", "", v1alpha1.ResultSucceeded, v1alpha1.ResultFailed, v1alpha1.ResultInterrupted, v1alpha1.ResultReverted)
	if result != "" {
		r = r.Ended(result, "It has ended.", c.now)
	}
	return r
}

func keyOfRestart(r *inventory.Restart) types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
}

// setRestart makes a MeshRestart, or changes the status of the one that is there.
func (c *cluster) setRestart(t *rapid.T) {
	r := c.drawRestart(t)
	if known := c.restarts[keyOfRestart(r)]; known != nil && !known.Pending() && rapid.Bool().Draw(t, "the same") {
		changed := *known
		changed.Result, changed.End, changed.ResourceVersion = r.Result, r.End, r.ResourceVersion
		r = &changed
	}
	c.restarts[keyOfRestart(r)] = r
	c.formerRestarts = append(c.formerRestarts, r)
	c.inventory.SetRestart(r)
}

// replayRestart tells of a state that is over.
func (c *cluster) replayRestart(t *rapid.T) {
	if len(c.formerRestarts) == 0 {
		return
	}
	former := rapid.SampledFrom(c.formerRestarts).Draw(t, "former")
	known := c.restarts[keyOfRestart(former)]
	_, deleted := c.deletedRestarts[former.UID]
	if deleted || known != nil && inventory.Newer(known.ResourceVersion, former.ResourceVersion) {
		c.inventory.SetRestart(former)
	}
}

func (c *cluster) addPendingRestart(t *rapid.T) {
	r := c.drawRestart(t)
	r.UID, r.ResourceVersion = "", ""
	if c.restarts[keyOfRestart(r)] == nil {
		c.restarts[keyOfRestart(r)] = r
	}
	c.inventory.AddPendingRestart(r)
}

func (c *cluster) dropPendingRestart(t *rapid.T) {
	r := c.drawRestart(t)
	if known := c.restarts[keyOfRestart(r)]; known != nil && known.Pending() {
		delete(c.restarts, keyOfRestart(r))
	}
	c.inventory.DropPendingRestart(r)
}

// deleteRestart has this process delete a MeshRestart, or somebody else.
func (c *cluster) deleteRestart(t *rapid.T) {
	r, found := c.pickRestart(t)
	if !found {
		return
	}
	delete(c.restarts, keyOfRestart(r))
	if rapid.Bool().Draw(t, "by this process") {
		c.deletedRestarts[r.UID] = r
		c.inventory.RestartDeleted(r.Namespace, r.Name, r.UID)
		return
	}
	c.inventory.DeleteRestart(r.Namespace, r.Name, r.UID)
}

func (c *cluster) pickRestart(t *rapid.T) (*inventory.Restart, bool) {
	byName := map[string]*inventory.Restart{}
	for key, r := range c.restarts {
		byName[key.String()] = r
	}
	return pick(t, "MeshRestart", byName, func(r *inventory.Restart) bool { return !r.Pending() })
}

// forgetRestart has the informer lose a MeshRestart that this process has deleted. Another one of its name stays.
func (c *cluster) forgetRestart(t *rapid.T) {
	r, found := pick(t, "deleted", c.deletedRestarts, nil)
	if !found {
		return
	}
	delete(c.deletedRestarts, r.UID)
	c.formerRestarts = slices.DeleteFunc(c.formerRestarts, func(former *inventory.Restart) bool { return former.UID == r.UID })
	c.inventory.DeleteRestart(r.Namespace, r.Name, r.UID)
}
