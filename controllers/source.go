package controllers

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/client-go/dynamic"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

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
