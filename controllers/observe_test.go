package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// oneOfEach is one of everything that is observed, in the namespace shop. Each Pod belongs to another
// kind of owner.
func oneOfEach(shop string) []client.Object {
	web := builder.Deployment(shop, "web").Build()
	webSet := builder.ReplicaSet(shop, "web-1").OwnedBy(web).Build()
	alone := builder.ReplicaSet(shop, "alone").Build()
	db := builder.StatefulSet(shop, "db").Build()
	agent := builder.DaemonSet(shop, "agent").Build()
	once := builder.Job(shop, "once").Build()
	hourly := builder.CronJob(shop, "hourly").Build()
	hourlyJob := builder.Job(shop, "hourly-1").OwnedBy(hourly).Build()
	return []client.Object{
		web, webSet, alone, db, agent, once, hourly, hourlyJob,
		builder.Pod(shop, "web-1-a").OwnedBy(webSet).Injected("default").Build(),
		builder.Pod(shop, "web-1-b").OwnedBy(webSet).Build(),
		builder.Pod(shop, "alone-a").OwnedBy(alone).Build(),
		builder.Pod(shop, "db-0").OwnedBy(db).Build(),
		builder.Pod(shop, "agent-a").OwnedBy(agent).Build(),
		builder.Pod(shop, "once-a").OwnedBy(once).Build(),
		builder.Pod(shop, "hourly-1-a").OwnedBy(hourlyJob).Build(),
		builder.Pod(shop, "bare").Build(),
		builder.DisruptionBudget(shop, "web").Build(),
	}
}

func TestWhatIsCutDownStaysAsItIs(t *testing.T) {
	objects := append(oneOfEach("shop"), builder.Namespace("shop").Build(), builder.Webhooks(), builder.InjectorSettings(),
		builder.Node("north", true), &corev1.Service{}, builder.PeerAuthentication("shop", "default", "STRICT"), &v1alpha1.MeshRestart{})
	kinds := map[string]bool{}
	for _, object := range objects {
		once, err := cutDown(object)
		if err != nil {
			t.Fatal(err)
		}
		again, err := cutDown(once)
		if err != nil {
			t.Fatal(err)
		}
		if once != again {
			t.Errorf("%T was cut down to %T and then to %T", object, once, again)
		}
		kinds[fmt.Sprintf("%T", object)] = true
	}
	for _, kind := range observed() {
		if !kinds[fmt.Sprintf("%T", kind)] {
			t.Errorf("%T is observed and not tried here", kind)
		}
	}
}

// What was taken in and dropped leaves nothing behind, in whatever order, and also where the informer
// only learns afterwards that it is gone.
func TestWhatIsDroppedLeavesNothing(t *testing.T) {
	for _, missed := range []bool{false, true} {
		for _, backwards := range []bool{false, true} {
			t.Run(fmt.Sprintf("deletion missed: %t, backwards: %t", missed, backwards), func(t *testing.T) {
				observer := NewObserver(mesh.Options{}, atNoon().Now)
				var kept []any
				for _, object := range append(oneOfEach("shop"), builder.Namespace("shop").Labelled("istio-injection", "enabled").Build(),
					builder.Webhooks(), builder.InjectorSettings(), builder.Node("north", true), builder.PeerAuthentication("shop", "default", "STRICT")) {
					cut, err := cutDown(object)
					if err != nil {
						t.Fatal(err)
					}
					kept = append(kept, cut)
					observer.take(cut)
				}
				before := observer.Inventory.Snapshot()
				if len(before.Namespaces) != 1 || len(before.Namespaces[0].Workloads) != 7 || len(before.Namespaces[0].Budgets) != 1 {
					t.Fatalf("the picture is %+v", before.Namespaces)
				}
				if !before.Injector.Effective(before.PeerAuthentications, "default", "shop", nil).Strict {
					t.Error("the PeerAuthentication is not seen")
				}
				web := workloadIn(t, observer.Inventory, mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"})
				if !web.Expectation.Inject || web.Pods.Running != 2 || web.Pods.Meshed != 1 {
					t.Errorf("the Deployment is %+v", web)
				}
				if backwards {
					slices.Reverse(kept)
				}
				for _, object := range kept {
					if missed {
						object = toolscache.DeletedFinalStateUnknown{Key: "x", Obj: object}
					}
					observer.drop(object)
				}
				after := observer.Inventory.Snapshot()
				if len(after.Namespaces) != 0 || after.Nodes.Known != 0 ||
					after.Injector.Effective(after.PeerAuthentications, "default", "shop", nil).Strict ||
					!after.Injector.Equal(inventory.New().Snapshot().Injector) {
					t.Errorf("the picture is %+v", after)
				}
				// What comes back begins anew.
				for _, object := range kept {
					observer.take(object)
				}
				if diff := cmp.Diff(inWordsOf(before), inWordsOf(observer.Inventory.Snapshot())); diff != "" {
					t.Errorf("the picture when all is back (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestReplicaSetIsOrphanedAndAdopted(t *testing.T) {
	web := builder.Deployment("shop", "web").Build()
	owned := builder.ReplicaSet("shop", "web-1").OwnedBy(web).Build()
	orphan := builder.ReplicaSet("shop", "web-1").Build()
	job := builder.Job("shop", "hourly-1").OwnedBy(builder.CronJob("shop", "hourly").Build()).Build()
	ownJob := builder.Job("shop", "hourly-1").Build()
	observer := NewObserver(mesh.Options{}, atNoon().Now)
	for _, object := range []client.Object{
		builder.Namespace("shop").Build(), web,
		builder.Pod("shop", "web-1-a").OwnedBy(orphan).Build(), builder.Pod("shop", "hourly-1-a").OwnedBy(ownJob).Build(),
	} {
		cut, _ := cutDown(object)
		observer.take(cut)
	}
	for _, step := range []struct {
		name    string
		objects []client.Object
		want    []string
	}{
		{"owned", []client.Object{owned, job}, []string{"CronJob shop/hourly 1", "Deployment shop/web 1"}},
		{"orphaned", []client.Object{orphan, ownJob}, []string{"Deployment shop/web 0", "Job shop/hourly-1 1", "ReplicaSet shop/web-1 1"}},
		{"adopted", []client.Object{owned, job}, []string{"CronJob shop/hourly 1", "Deployment shop/web 1"}},
	} {
		for _, object := range step.objects {
			cut, _ := cutDown(object)
			observer.take(cut)
		}
		var got []string
		for _, workload := range observer.Inventory.Snapshot().Namespaces[0].Workloads {
			got = append(got, fmt.Sprintf("%s %d", workload.Key, workload.Pods.Running))
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: workloads and their Pods (-want +got):\n%s", step.name, diff)
		}
	}
}

// A watch that was away for a while may tell of another Pod of the same name as a change of the
// former one.
func TestSuccessorOfTheSameNameReplaces(t *testing.T) {
	observer := NewObserver(mesh.Options{}, time.Now)
	observer.take(builder.Namespace("shop").Build())
	db := builder.StatefulSet("shop", "db").Build()
	cut := func(uid string) any {
		pod, err := cutDown(builder.Pod("shop", "db-0").UID(uid).OwnedBy(db).Build())
		if err != nil {
			t.Fatal(err)
		}
		return pod
	}
	observer.take(cut("former"))
	observer.replace(cut("former"), cut("successor"))
	workloads := observer.Inventory.Snapshot().Namespaces[0].Workloads
	if len(workloads) != 1 || workloads[0].Pods.Running != 1 {
		t.Errorf("the picture has %d workloads, the first with %d Pods", len(workloads), workloads[0].Pods.Running)
	}
}

// While the first lists come in, half an injector is none: it would look as if it had changed just
// now, and everything would settle anew.
func TestInjectorIsReadOnceAllOfItIsListed(t *testing.T) {
	clock := atNoon()
	observer := NewObserver(mesh.Options{}, clock.Now)
	written := func(object metav1.Object, field string, at time.Time) {
		object.SetCreationTimestamp(metav1.NewTime(yesterday.Add(-time.Hour)))
		object.SetManagedFields([]metav1.ManagedFieldsEntry{{
			Time: new(metav1.NewTime(at)), FieldsV1: metav1.NewFieldsV1(`{"` + field + `":{}}`),
		}})
	}
	webhooks, settings := builder.Webhooks(), builder.InjectorSettings()
	written(webhooks, "f:webhooks", yesterday)
	written(settings, "f:data", yesterday.Add(time.Minute))
	other := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "other"}}
	written(other, "f:webhooks", noon)
	none := inventory.New().Snapshot().Injector

	read := observer.deferInjector()
	for _, object := range []any{webhooks, other, settings} {
		observer.take(object)
		if !observer.Inventory.Snapshot().Injector.Equal(none) {
			t.Errorf("the injector was read when %T came in", object)
		}
	}
	read()
	snapshot := observer.Inventory.Snapshot()
	if snapshot.Injector.Equal(none) || snapshot.InjectorChanged != yesterday.Add(time.Minute) {
		t.Errorf("the injector has changed at %s", snapshot.InjectorChanged)
	}
	// From then on, it changes when it is seen to.
	clock.pass(time.Minute)
	observer.take(other)
	if changed := observer.Inventory.Snapshot().InjectorChanged; changed != yesterday.Add(time.Minute) {
		t.Errorf("another webhook changed the injector at %s", changed)
	}
	observer.take(builder.LettingPass(builder.Webhooks()))
	if changed := observer.Inventory.Snapshot().InjectorChanged; changed != clock.Now() {
		t.Errorf("its own webhooks changed the injector at %s", changed)
	}
	observer.drop(webhooks)
	if !observer.Inventory.Snapshot().Injector.Equal(mesh.NewInjector(nil, []*corev1.ConfigMap{settings}, mesh.Options{})) {
		t.Error("the injector stays though its webhooks are gone")
	}
}

// watching starts informers as Setup does, on an observer of their own.
func (w *world) watching(t *testing.T, kinds ...client.Object) (*Observer, *debouncer) {
	t.Helper()
	return w.watchingAs(t, w.config, kinds...)
}

// watchingAs watches by way of a client of its own.
func (w *world) watchingAs(t *testing.T, config *rest.Config, kinds ...client.Object) (*Observer, *debouncer) {
	t.Helper()
	observer := NewObserver(mesh.Options{IstioNamespace: istioNamespace}, time.Now)
	return observer, watchInto(t, config, observer, kinds...)
}

// watchInto starts informers that tell an observer.
func watchInto(t *testing.T, config *rest.Config, observer *Observer, kinds ...client.Object) *debouncer {
	t.Helper()
	settings := byObject()
	there := map[string]cache.Config{istioNamespace: {}}
	settings[&corev1.ConfigMap{}] = cache.ByObject{Namespaces: there}
	settings[&corev1.Service{}] = cache.ByObject{Namespaces: there, Transform: cutDown}
	informers, err := cache.New(config, cache.Options{Scheme: testScheme, ByObject: settings, ReaderFailOnMissingInformer: true})
	if err != nil {
		t.Fatal(err)
	}
	wake := &debouncer{}
	optional, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	watched := &source{observer: observer, cache: informers, kinds: append(kinds, &corev1.ConfigMap{}), dynamic: optional, wake: wake}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	t.Cleanup(queue.ShutDown)
	if err := watched.Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- informers.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the informers ended: %v", err)
		}
	})
	syncing, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := watched.WaitForSync(syncing); err != nil {
		t.Fatal(err)
	}
	return wake
}

// The inventory of the commands, which read once, is that of the operator, which watches.
func TestReadingOnceGivesWhatInformersGive(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t, "istio-injection", "enabled")
	w.createAll(t, oneOfEach(shop))
	w.create(t, builder.LettingPass(builder.Webhooks()))
	w.create(t, builder.Node("north", true))
	settings := builder.InjectorSettings()
	w.create(t, settings)
	t.Cleanup(func() {
		if err := w.admin.Delete(context.Background(), settings); err != nil {
			t.Error(err)
		}
	})
	watched, _ := w.watching(t)
	want := inWordsOf(watched.Inventory.Snapshot())
	if !slices.ContainsFunc(want, func(line string) bool { return strings.Contains(line, "Deployment "+shop+"/web Missing") }) {
		t.Errorf("the picture is %v", want)
	}
	for name, reader := range map[string]client.Reader{"in one page": w.operator, "in many pages": inPagesOf{w.operator, 2}} {
		t.Run(name, func(t *testing.T) {
			observer := NewObserver(mesh.Options{IstioNamespace: istioNamespace}, time.Now)
			if err := observer.ReadOnce(t.Context(), reader, istioNamespace); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, inWordsOf(observer.Inventory.Snapshot())); diff != "" {
				t.Errorf("the picture (-watched +read):\n%s", diff)
			}
		})
	}
}

// createAll creates objects with the UIDs that the API server gives, in the references to owners too.
func (w *world) createAll(t *testing.T, objects []client.Object) {
	t.Helper()
	given := map[types.UID]types.UID{}
	for _, object := range objects {
		owners := object.GetOwnerReferences()
		for i := range owners {
			owners[i].UID = given[owners[i].UID]
		}
		object.SetOwnerReferences(owners)
		built := object.GetUID()
		w.create(t, object)
		given[built] = object.GetUID()
	}
}

// inPagesOf reads so many objects at once.
type inPagesOf struct {
	client.Reader
	size int64
}

func (r inPagesOf) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return r.Reader.List(ctx, list, append(options, client.Limit(r.size))...)
}

func TestInformersBringEveryEventAndAskForAPass(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	observer, wake := w.watching(t)
	queue := wake.queue
	web := builder.Deployment(shop, "web").Build()
	w.create(t, web)
	seen := func(what string, condition func(*inventory.Workload) bool) {
		t.Helper()
		eventually(t, what, func(context.Context) error {
			for _, namespace := range observer.Inventory.Snapshot().Namespaces {
				for _, workload := range namespace.Workloads {
					if namespace.Name == shop && workload.Key.Name == "web" && condition(workload) {
						return nil
					}
				}
			}
			return errors.New("the picture does not show it")
		})
		item, _ := queue.Get()
		queue.Done(item)
	}
	seen("the Deployment is seen", func(workload *inventory.Workload) bool { return workload.Object != nil })
	set := builder.ReplicaSet(shop, "web-1").OwnedBy(web).Build()
	w.create(t, set)
	pod := builder.Pod(shop, "web-1-a").OwnedBy(set).Build()
	w.create(t, pod)
	seen("the Pod is seen", func(workload *inventory.Workload) bool { return workload.Pods.Running == 1 })
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}}
	if err := w.admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	seen("the Pod is ready", func(workload *inventory.Workload) bool { return workload.Pods.Ready == 1 })
	if err := w.admin.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	seen("the Pod is gone", func(workload *inventory.Workload) bool { return workload.Pods.Running == 0 })
	w.patch(t, web, `{"spec":{"paused":true}}`)
	seen("the Deployment is paused", func(workload *inventory.Workload) bool { return workload.Object.Paused })
	if err := w.admin.Delete(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Deployment is gone", func(context.Context) error {
		if _, known := observer.Inventory.ResourceVersionOf(web.UID); known {
			return errors.New("the picture shows it")
		}
		return nil
	})
}

// Kubelets write the status of their nodes all the time. That asks for no pass; a node that is cordoned
// does.
func TestHeartbeatOfANodeAsksForNoPass(t *testing.T) {
	north, cordoned := inventory.FromNode(builder.Node("north", false)), inventory.FromNode(builder.Node("north", true))
	anew := inventory.FromNode(builder.Node("north", false))
	anew.UID = "another"
	pod := mesh.CutDown(builder.Pod("shop", "web").Build())
	for _, test := range []struct {
		name     string
		old, new any
		want     bool
	}{
		{"its status is written", north, inventory.FromNode(builder.Node("north", false)), true},
		{"it is cordoned", north, cordoned, false},
		{"it is freed", cordoned, north, false},
		{"it is made anew", north, anew, false},
		{"it is a Pod", pod, pod, false},
	} {
		if got := isHeartbeat(test.old, test.new); got != test.want {
			t.Errorf("%s: it is a heartbeat: %t", test.name, got)
		}
	}
}

// inWordsOf is a inventory in lines.
func inWordsOf(snapshot *inventory.Snapshot) []string {
	lines := []string{fmt.Sprintf("injector %s, changed %s, nodes %+v", snapshot.Injector.Fingerprint("default"),
		snapshot.InjectorChanged.UTC(), snapshot.Nodes)}
	for _, namespace := range snapshot.Namespaces {
		lines = append(lines, fmt.Sprintf("namespace %s %s, changed %s, terminating %t", namespace.Name, labels.Set(namespace.Labels),
			namespace.Changed.UTC(), namespace.Terminating))
		for _, workload := range namespace.Workloads {
			line := fmt.Sprintf("%s %s (%s), %+v, %s, newest %d", workload.Key, workload.Finding, workload.Reason, workload.Pods,
				labels.Set(workload.Template.Labels), workload.NewestToReplace)
			if object := workload.Object; object != nil {
				line += fmt.Sprintf(", object %s %s of generation %d, changed %s, %+v, %d replicas", object.UID, object.ResourceVersion,
					object.Generation, object.TemplateChanged.UTC(), object.Strategy, object.Replicas)
			}
			lines = append(lines, line)
		}
		for _, budget := range namespace.Budgets {
			lines = append(lines, fmt.Sprintf("budget %s %s %d %d %d %d %t", budget.Name, budget.Selector, budget.Allowed, budget.Healthy,
				budget.Desired, budget.Expected, budget.Observed))
		}
	}
	return lines
}

func TestReadingOnceWithoutRights(t *testing.T) {
	forbidden := func(list client.ObjectList) error {
		return apierrors.NewForbidden(corev1.Resource("configmaps"), "", fmt.Errorf("%T", list))
	}
	for _, test := range []struct {
		name   string
		refuse func(client.ObjectList) error
		want   string
	}{
		{"everything may be read", func(client.ObjectList) error { return nil }, ""},
		{"ConfigMaps may not be read", func(list client.ObjectList) error {
			if _, is := list.(*corev1.ConfigMapList); is {
				return forbidden(list)
			}
			return nil
		}, ""},
		{"ConfigMaps cannot be read", func(list client.ObjectList) error {
			if _, is := list.(*corev1.ConfigMapList); is {
				return errors.New("no answer")
			}
			return nil
		}, "listing *v1.ConfigMapList"},
		{"Pods may not be read", func(list client.ObjectList) error {
			if _, is := list.(*corev1.PodList); is {
				return forbidden(list)
			}
			return nil
		}, "listing *v1.PodList"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reader := answering(interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
					if err := test.refuse(list); err != nil {
						return err
					}
					return c.List(ctx, list, options...)
				},
			}, builder.Namespace("shop").Build(), builder.Webhooks())
			observer := NewObserver(mesh.Options{}, time.Now)
			err := observer.ReadOnce(t.Context(), reader, istioNamespace)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if snapshot := observer.Inventory.Snapshot(); snapshot.Injector.Equal(inventory.New().Snapshot().Injector) {
				t.Error("the injector was not read")
			}
		})
	}
}

func TestManyWakesMakeOnePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		wake := &debouncer{}
		wake.Trigger() // before there is a queue, it is lost
		wake.In(time.Second)
		wake.start(queue)
		var passes atomic.Int32
		go func() {
			for {
				item, over := queue.Get()
				if over {
					return
				}
				passes.Add(1)
				queue.Done(item)
			}
		}()
		after := func(wait time.Duration, want int32, what string) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := passes.Swap(0); got != want {
				t.Errorf("%s: %d passes, want %d", what, got, want)
			}
		}
		after(time.Minute, 0, "nobody asks")
		for range 100 {
			wake.Trigger()
		}
		after(minDelay-time.Millisecond, 0, "it is gathered")
		after(time.Millisecond, 1, "it was gathered")
		after(time.Minute, 0, "what was asked is answered")

		wake.passTook(100 * time.Millisecond)
		wake.Trigger()
		after(399*time.Millisecond, 0, "after a long pass")
		after(time.Millisecond, 1, "after four times as long")
		wake.passTook(time.Minute)
		wake.Trigger()
		after(maxDelay, 1, "after a very long pass")
		wake.passTook(0)

		wake.In(0)
		after(time.Minute, 0, "In never")
		wake.In(time.Second)
		after(time.Second-time.Millisecond, 0, "In a second, too early")
		after(time.Millisecond, 1, "In a second")
		wake.passTook(100 * time.Millisecond)
		wake.In(time.Nanosecond)
		after(399*time.Millisecond, 0, "time does not ask sooner than events")
		after(time.Millisecond, 1, "time asks as soon as events")
	})
}
