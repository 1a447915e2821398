package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// optionalKind is a kind that a cluster has only where its CustomResourceDefinition is installed.
type optionalKind struct {
	schema.GroupVersionKind
	// resource is the name in URLs; it is that of the definition, too, with the group.
	resource string
	// cut keeps of an object what is judged. It must take whatever the API server stores: an informer
	// would list again and again for an object that cannot be cut down.
	cut func(*unstructured.Unstructured) client.Object
}

// optionalKinds are read where they are served: by the operator, which follows their definitions as
// they come and go, by plan, and of dumps. A kind that is added here needs its cases in take and drop,
// and in config/rbac the right to list and watch its objects and its definition.
var optionalKinds = []optionalKind{
	{gvkOf(rollout), rollout.Resource,
		func(object *unstructured.Unstructured) client.Object { return inventory.FromRollout(object) }},
	{schema.GroupVersionKind{Group: mesh.PeerAuthenticationGroup, Version: "v1beta1", Kind: mesh.PeerAuthenticationKind},
		"peerauthentications",
		func(object *unstructured.Unstructured) client.Object { return mesh.FromPeerAuthentication(object) }},
}

var rollout = mesh.KindOf(inventory.ArgoGroup, inventory.ArgoRollout)

func gvkOf(kind *mesh.Kind) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Name}
}

// alsoDumped are the same kinds in the versions that kubectl may have asked for. What is read is the
// version that every Istio since 1.20 serves.
var alsoDumped = []schema.GroupVersionKind{{Group: mesh.PeerAuthenticationGroup, Version: "v1", Kind: mesh.PeerAuthenticationKind}}

// cutDownOptional keeps what is judged of an object of an optional kind; others are kept as they are.
func cutDownOptional(object *unstructured.Unstructured) any {
	for i := range optionalKinds {
		if object.GroupVersionKind().GroupKind() == optionalKinds[i].GroupKind() {
			return optionalKinds[i].cut(object)
		}
	}
	return object
}

// object is an empty one of the kind.
func (k *optionalKind) object() client.Object {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(k.GroupVersionKind)
	return object
}

// list is an empty list of the kind.
func (k *optionalKind) list() client.ObjectList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
	return list
}

// name is the kind as people write it.
func (k *optionalKind) name() string { return k.GroupKind().String() }

func (k *optionalKind) gvr() schema.GroupVersionResource {
	return k.GroupVersion().WithResource(k.resource)
}

// definitionName is the name of the kind's CustomResourceDefinition.
func (k *optionalKind) definitionName() string { return k.resource + "." + k.Group }

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// definition is what is kept of a CustomResourceDefinition. Its schema alone may take megabytes.
type definition struct {
	mesh.Meta
	// served are the versions that the API server serves now.
	served []string
}

// DeepCopyObject implements runtime.Object.
func (d *definition) DeepCopyObject() runtime.Object {
	copied := *d
	return &copied
}

func toDefinition(object any) (any, error) {
	crd, is := object.(*unstructured.Unstructured)
	if !is {
		return object, nil
	}
	kept := &definition{Meta: mesh.MetaOf(crd)}
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	if !isEstablished(conditions) {
		return kept, nil
	}
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for i := range versions {
		version, _ := versions[i].(map[string]any)
		if name, _, _ := unstructured.NestedString(version, "name"); version["served"] == true {
			kept.served = append(kept.served, name)
		}
	}
	return kept, nil
}

func isEstablished(conditions []any) bool {
	for i := range conditions {
		if condition, _ := conditions[i].(map[string]any); condition["type"] == "Established" {
			return condition["status"] == "True"
		}
	}
	return false
}

// optionalWatch keeps the objects of one optional kind in the inventory for as long as it is served.
//
// Where it is not, that costs one watch for one object: nothing is asked for that is not there. From
// when it is served until all of its objects have been read, the inventory says that they have not.
type optionalWatch struct {
	kind     *optionalKind
	client   dynamic.Interface
	observer *Observer
	wake     *debouncer

	// settled is closed when the inventory has all of the objects, or it is known why it cannot have them.
	settled chan struct{}
	once    sync.Once

	// followed is the definition whose objects are watched; empty where none is. stop ends that.
	followed types.UID
	stop     func()
}

func newOptionalWatch(kind *optionalKind, c dynamic.Interface, observer *Observer, wake *debouncer) *optionalWatch {
	observer.Inventory.SetUnread(kind.name(), "")
	return &optionalWatch{kind: kind, client: c, observer: observer, wake: wake, settled: make(chan struct{}), stop: func() {}}
}

// run follows the definition until the context ends.
func (w *optionalWatch) run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	change := func() {
		select {
		case changed <- struct{}{}:
		default: // it is being looked at already, or about to be
		}
	}
	byName := fields.OneTermEqualSelector(metav1.ObjectNameField, w.kind.definitionName()).String()
	informer := w.informer(definitions, byName, toDefinition, "its CustomResourceDefinition")
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { change() },
		UpdateFunc: func(any, any) { change() },
		DeleteFunc: func(any) { change() },
	})
	if err != nil {
		panic(fmt.Sprintf("an informer that has not been started takes no handler: %v", err))
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { informer.RunWithContext(ctx) })
	if !toolscache.WaitFor(ctx, "", registration.HasSyncedChecker()) {
		return
	}
	change()
	for {
		select {
		case <-ctx.Done():
			w.stop()
			return
		case <-changed:
			w.follow(ctx, w.definition(informer))
		}
	}
}

// definition is the one that serves the kind in the version that is read; nil where none does.
func (w *optionalWatch) definition(informer toolscache.SharedIndexInformer) *definition {
	object, found, err := informer.GetStore().GetByKey(w.kind.definitionName())
	if err != nil || !found {
		return nil
	}
	if kept := object.(*definition); slices.Contains(kept.served, w.kind.Version) {
		return kept
	}
	return nil
}

// follow watches the objects of a definition instead of those of the former one.
func (w *optionalWatch) follow(ctx context.Context, now *definition) {
	uid := types.UID("")
	if now != nil {
		uid = now.UID
	}
	if uid != w.followed {
		w.stop()
		w.followed, w.stop = uid, func() {}
		if now != nil {
			log.FromContext(ctx).Info("Watching a kind that is served", "kind", w.kind.name())
			w.stop = w.watch(ctx)
			return
		}
	}
	if now == nil {
		w.haveRead()
	}
}

// watch watches the kind's objects. What it returns ends that and takes them from the inventory.
func (w *optionalWatch) watch(ctx context.Context) func() {
	w.observer.Inventory.SetUnread(w.kind.name(), "")
	operator := ctx
	ctx, cancel := context.WithCancel(ctx)
	informer := w.informer(w.kind.gvr(), "", cutDown, "its objects")
	registration, err := informer.AddEventHandler(w.observer.handler(w.wake))
	if err != nil {
		panic(fmt.Sprintf("an informer that has not been started takes no handler: %v", err))
	}
	var running sync.WaitGroup
	running.Go(func() { informer.RunWithContext(ctx) })
	running.Go(func() {
		if toolscache.WaitFor(ctx, "", registration.HasSyncedChecker()) {
			w.haveRead()
		}
	})
	return func() {
		cancel()
		running.Wait()
		if operator.Err() != nil {
			return // they are there, and nothing may be decided as if they were not
		}
		for _, object := range informer.GetStore().List() {
			w.observer.drop(object)
		}
		log.FromContext(ctx).Info("Let go of a kind that is not served any more", "kind", w.kind.name())
		w.wake.Trigger()
	}
}

// informer makes an informer that says in the inventory why the kind cannot be read, for as long as it
// has not been.
func (w *optionalWatch) informer(resource schema.GroupVersionResource, fieldSelector string, transform toolscache.TransformFunc,
	what string) toolscache.SharedIndexInformer {
	objects := w.client.Resource(resource)
	informer := toolscache.NewSharedIndexInformerWithOptions(
		toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				options.FieldSelector = fieldSelector
				return objects.List(ctx, options)
			},
			WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
				options.FieldSelector = fieldSelector
				return objects.Watch(ctx, options)
			},
		}, w.client),
		&unstructured.Unstructured{},
		toolscache.SharedIndexInformerOptions{ObjectDescription: resource.String()},
	)
	err := informer.SetTransform(transform)
	if err == nil {
		err = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, reflector *toolscache.Reflector, err error) {
			toolscache.DefaultWatchErrorHandler(ctx, reflector, err)
			// A definition may be served by one API server a moment before another.
			if informer.HasSynced() || apierrors.IsNotFound(err) {
				return
			}
			if apierrors.IsForbidden(err) {
				w.observer.Inventory.SetUnread(w.kind.name(), fmt.Sprintf("reading %s: %v", what, err))
			}
			w.settle()
		})
	}
	if err != nil {
		panic(fmt.Sprintf("an informer that has not been started cannot be set up: %v", err))
	}
	return informer
}

// haveRead says that the inventory has all of the objects that there are.
func (w *optionalWatch) haveRead() {
	w.observer.Inventory.SetRead(w.kind.name())
	w.settle()
}

func (w *optionalWatch) settle() {
	w.once.Do(func() { close(w.settled) })
	w.wake.Trigger()
}

// readOptional reads the objects of the optional kinds that are served.
func (o *Observer) readOptional(ctx context.Context, reader client.Reader) error {
	for i := range optionalKinds {
		err := o.readList(ctx, reader, optionalKinds[i].list())
		if err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
