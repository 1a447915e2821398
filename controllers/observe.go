package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Events are debounced before the inventory is looked at: for at least minDelay, and for several times as long as
// the last pass took, up to maxDelay. A busy cluster must not mean a busy operator.
const (
	minDelay     = 50 * time.Millisecond
	delayPerPass = 4
	maxDelay     = time.Second
)

// theInventory is the one request there is.
var theInventory = reconcile.Request{}

// Observer keeps the inventory up to date.
type Observer struct {
	Inventory *inventory.Inventory
	// Options are for reading the injector.
	Options mesh.Options
	// Now is the clock.
	Now func() time.Time

	mu         sync.Mutex
	webhooks   map[string]*admissionregistrationv1.MutatingWebhookConfiguration
	configMaps map[client.ObjectKey]*corev1.ConfigMap
	// deferringInjector puts off reading the injector until all of its objects are listed.
	deferringInjector bool
}

// NewObserver makes an observer with an empty inventory.
func NewObserver(options mesh.Options, now func() time.Time) *Observer {
	return &Observer{
		Inventory:  inventory.New(),
		Options:    options,
		Now:        now,
		webhooks:   map[string]*admissionregistrationv1.MutatingWebhookConfiguration{},
		configMaps: map[client.ObjectKey]*corev1.ConfigMap{},
	}
}

// observed are the kinds that the inventory is made of, and of which the inventory keeps no more than
// is judged.
func observed() []client.Object {
	return []client.Object{
		&corev1.Namespace{}, &corev1.Pod{},
		&appsv1.Deployment{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{}, &appsv1.ReplicaSet{},
		&batchv1.Job{}, &batchv1.CronJob{},
		&policyv1.PodDisruptionBudget{},
		&corev1.Node{},
		&admissionregistrationv1.MutatingWebhookConfiguration{},
		&v1alpha1.MeshRestart{},
	}
}

// byObject says how each observed kind is kept by the informers.
func byObject() map[client.Object]cache.ByObject {
	settings := map[client.Object]cache.ByObject{}
	for _, object := range observed() {
		settings[object] = cache.ByObject{Transform: cutDown}
	}
	return settings
}

// cutDown keeps of an object what is judged. Informers call it on what it returned before as well.
func cutDown(object any) (any, error) {
	switch object := object.(type) {
	case *corev1.Pod:
		return mesh.CutDown(object), nil
	case *appsv1.Deployment:
		return inventory.FromDeployment(object), nil
	case *appsv1.StatefulSet:
		return inventory.FromStatefulSet(object), nil
	case *appsv1.DaemonSet:
		return inventory.FromDaemonSet(object), nil
	case *appsv1.ReplicaSet:
		if mesh.OwnerOf(object).Is().Makes == "ReplicaSet" {
			return inventory.LinkTo(object), nil
		}
		return inventory.FromReplicaSet(object), nil
	case *batchv1.Job:
		if mesh.OwnerOf(object).Is().Makes == "Job" {
			return inventory.LinkTo(object), nil
		}
		return inventory.FromJob(object), nil
	case *batchv1.CronJob:
		return inventory.FromCronJob(object), nil
	case *corev1.Node:
		return inventory.FromNode(object), nil
	case *corev1.Service:
		return mesh.CutDownService(object), nil
	case *unstructured.Unstructured:
		return cutDownOptional(object), nil
	default:
		return object, nil
	}
}

// take takes in an object as the informers keep it.
func (o *Observer) take(object any) {
	switch object := object.(type) {
	case *mesh.Pod:
		o.Inventory.SetPod(object)
	case *inventory.Object:
		o.Inventory.SetObject(object)
	case *inventory.Link:
		o.Inventory.SetLink(object)
	case *corev1.Namespace:
		o.Inventory.SetNamespace(object, o.Now())
	case *policyv1.PodDisruptionBudget:
		o.Inventory.SetDisruptionBudget(object)
	case *inventory.Node:
		o.Inventory.SetNode(object)
	case *mesh.Service:
		o.Inventory.SetService(object)
	case *mesh.PeerAuthentication:
		o.Inventory.SetPeerAuthentication(object)
	case *v1alpha1.MeshRestart:
		o.Inventory.SetRestart(inventory.FromMeshRestart(object))
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		o.changeInjector(func() { o.webhooks[object.Name] = object })
	case *corev1.ConfigMap:
		o.changeInjector(func() { o.configMaps[client.ObjectKeyFromObject(object)] = object })
	}
}

// replace takes in an object in the place of a former one. Where a deletion was missed, that is
// another object of the same name, and is forgotten.
func (o *Observer) replace(old, object any) {
	former, knowsFormer := old.(metav1.Object)
	if now, knowsNow := object.(metav1.Object); knowsFormer && knowsNow && former.GetUID() != now.GetUID() {
		o.drop(old)
	}
	o.take(object)
}

// drop forgets an object.
func (o *Observer) drop(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	switch object := object.(type) {
	case *mesh.Pod:
		o.Inventory.DeletePod(object.UID)
	case *inventory.Object:
		o.Inventory.DeleteObject(object)
	case *inventory.Link:
		o.Inventory.DeleteLink(object.UID)
	case *corev1.Namespace:
		o.Inventory.DeleteNamespace(object.Name)
	case *policyv1.PodDisruptionBudget:
		o.Inventory.DeleteDisruptionBudget(object.Namespace, object.Name)
	case *inventory.Node:
		o.Inventory.DeleteNode(object)
	case *mesh.Service:
		o.Inventory.DeleteService(object)
	case *mesh.PeerAuthentication:
		o.Inventory.DeletePeerAuthentication(object)
	case *v1alpha1.MeshRestart:
		o.Inventory.DeleteRestart(object.Namespace, object.Name, object.UID)
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		o.changeInjector(func() { delete(o.webhooks, object.Name) })
	case *corev1.ConfigMap:
		o.changeInjector(func() { delete(o.configMaps, client.ObjectKeyFromObject(object)) })
	}
}

// changeInjector changes what the injector is read from, and reads it.
func (o *Observer) changeInjector(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	if !o.deferringInjector {
		o.readInjector(o.Now())
	}
}

func (o *Observer) readInjector(changed time.Time) {
	webhooks := slices.Collect(maps.Values(o.webhooks))
	configMaps := slices.Collect(maps.Values(o.configMaps))
	o.Inventory.SetInjector(mesh.NewInjector(webhooks, configMaps, o.Options), changed)
}

// deferInjector puts off reading the injector; the function that it returns reads it, as changed
// when the writers of its objects say.
func (o *Observer) deferInjector() func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deferringInjector = true
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.deferringInjector = false
		changed := time.Time{}
		for _, webhook := range o.webhooks {
			if mesh.IsIstioWebhook(webhook) {
				changed = latest(changed, inventory.LastWritten(webhook, "f:webhooks"))
			}
		}
		for _, configMap := range o.configMaps {
			changed = latest(changed, inventory.LastWritten(configMap, "f:data"))
		}
		o.readInjector(changed)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// source feeds a controller's queue with a request for every event, after the inventory has taken it
// in. The controller's workers start when the inventory is complete.
type source struct {
	observer *Observer
	cache    cache.Cache
	// kinds other than the observed ones whose events matter.
	kinds []client.Object
	// dynamic reads the optional kinds.
	dynamic dynamic.Interface
	// wake lets others ask for a pass.
	wake *debouncer

	registrations []toolscache.ResourceEventHandlerRegistration
	optional      []*optionalWatch
	injectorRead  func()
}

// Start implements source.Source. The cache that it registers with is started at the same time.
func (s *source) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	s.wake.start(queue)
	s.injectorRead = s.observer.deferInjector()
	for _, kind := range append(observed(), s.kinds...) {
		informer, err := s.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
		registration, err := informer.AddEventHandler(s.observer.handler(s.wake))
		if err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
		s.registrations = append(s.registrations, registration)
	}
	for i := range optionalKinds {
		watch := newOptionalWatch(&optionalKinds[i], s.dynamic, s.observer, s.wake)
		s.optional = append(s.optional, watch)
		go watch.run(ctx)
	}
	return nil
}

// handler takes events in, and asks for a pass.
func (o *Observer) handler(wake *debouncer) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { o.take(object); wake.Trigger() },
		UpdateFunc: func(old, object any) {
			o.replace(old, object)
			if !isHeartbeat(old, object) {
				wake.Trigger()
			}
		},
		DeleteFunc: func(object any) { o.drop(object); wake.Trigger() },
	}
}

// isHeartbeat reports whether no more has happened than that a kubelet wrote its node's status, as each
// does every few minutes.
func isHeartbeat(old, object any) bool {
	former, wasNode := old.(*inventory.Node)
	node, isNode := object.(*inventory.Node)
	return wasNode && isNode && former.UID == node.UID && former.Cordoned == node.Cordoned
}

// WaitForSync implements source.SyncingSource: it waits until every kind's first list is in the
// inventory. An optional kind that cannot be read keeps restarts from beginning and not the operator
// from saying so.
func (s *source) WaitForSync(ctx context.Context) error {
	synced := make([]toolscache.InformerSynced, 0, len(s.registrations))
	for _, registration := range s.registrations {
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("reading the cluster took too long; see the log for kinds that cannot be listed")
	}
	for _, watch := range s.optional {
		select {
		case <-watch.settled:
		case <-ctx.Done():
			return fmt.Errorf("reading %s took too long", watch.kind.name())
		}
	}
	s.injectorRead()
	return nil
}

// debouncer asks for passes over the inventory.
type debouncer struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	wait  time.Duration
}

func (w *debouncer) start(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue, w.wait = queue, minDelay
}

// passTook says how long a pass took.
func (w *debouncer) passTook(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wait = min(max(minDelay, delayPerPass*took), maxDelay)
}

// Trigger asks for a pass soon. What asks until then is served by the same one.
func (w *debouncer) Trigger() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue != nil {
		w.queue.AddAfter(theInventory, w.wait)
	}
}

// In asks for a pass after a time, but not sooner than Trigger does; 0 asks for none.
func (w *debouncer) In(wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue != nil && wait > 0 {
		w.queue.AddAfter(theInventory, max(wait, w.wait))
	}
}

// ReadOnce reads the whole cluster into the inventory, without watching it: namespaces, webhooks,
// workloads and Pods, and the injector's ConfigMaps and Services in istioNamespace where that is
// allowed.
func (o *Observer) ReadOnce(ctx context.Context, reader client.Reader, istioNamespace string) error {
	injectorRead := o.deferInjector()
	defer injectorRead()
	lists := []client.ObjectList{
		&corev1.NamespaceList{},
		&admissionregistrationv1.MutatingWebhookConfigurationList{},
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{}, &appsv1.ReplicaSetList{},
		&batchv1.JobList{}, &batchv1.CronJobList{},
		&policyv1.PodDisruptionBudgetList{},
		&corev1.NodeList{},
		&corev1.PodList{},
	}
	for _, list := range lists {
		if err := o.readList(ctx, reader, list); err != nil {
			return err
		}
	}
	// Before Fullmesh is installed there are none.
	if err := o.readList(ctx, reader, &v1alpha1.MeshRestartList{}); err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		return err
	}
	if err := o.readOptional(ctx, reader); err != nil {
		return err
	}
	for _, list := range []client.ObjectList{&corev1.ConfigMapList{}, &corev1.ServiceList{}} {
		if err := o.readList(ctx, reader, list, client.InNamespace(istioNamespace)); err != nil && !apierrors.IsForbidden(err) {
			return err
		}
	}
	return nil
}

func (o *Observer) readList(ctx context.Context, reader client.Reader, list client.ObjectList, options ...client.ListOption) error {
	for {
		page := append([]client.ListOption{client.Limit(500), client.Continue(list.GetContinue())}, options...)
		if err := reader.List(ctx, list, page...); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItemWithAlloc(list, func(object runtime.Object) error {
			cut, err := cutDown(object)
			if err != nil {
				return err
			}
			o.take(cut)
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading %T: %w", list, err)
		}
		if list.GetContinue() == "" {
			return nil
		}
	}
}
