package controllers

import (
	"maps"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

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

// observed are the kinds that the inventory is made of. It keeps no more of their objects than is judged.
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
