package controllers

import (
	"context"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/matchcondition"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// readingMayTake is how long reading the cluster may take before the operator gives up and is
// started anew.
const readingMayTake = 10 * time.Minute

// Options are what the operator is told at start-up.
type Options struct {
	// Namespace is the operator's own.
	Namespace string
	// IstioNamespace is where the injector's ConfigMaps are.
	IstioNamespace string
	// AllowUnguarded restarts workloads though the admission guard is not in force.
	AllowUnguarded bool
	// EvictionDisabled evicts no Pods: what only evictions would bring in is held.
	EvictionDisabled bool
}

// Setup adds the operator to a manager.
//
// Its informers start when the lease is held, not before: their first lists are then newer than
// almost everything that a former leader wrote; what it had begun is read from the API server itself (readLedger). A
// standby costs next to nothing, and taking over costs the time of the lists.
func Setup(ctx context.Context, manager ctrl.Manager, options Options) error {
	wake := &debouncer{}
	of, err := ofControlPlane(ctx, manager, options.IstioNamespace)
	if err != nil {
		return err
	}
	clock := newServerClock(time.Now, func(by time.Duration) {
		log.FromContext(ctx).Info("This machine's clock and that of the API server have moved apart; what is decided goes by the latter", "by",
			by)
	})
	watchHealth := newWatchHealth(clock.now, wake.Trigger)
	watching := rest.CopyConfig(manager.GetConfig())
	watching.Wrap(watchHealth.Wrap)
	watching.Wrap(clock.Wrap)
	informers, err := newInformers(manager, watching, options, of)
	if err != nil {
		return err
	}
	if err := manager.Add(whenLeading{informers}); err != nil {
		return fmt.Errorf("adding the informers: %w", err)
	}
	if err := manager.AddReadyzCheck("watches", watchHealth.ready); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	reads, err := client.New(manager.GetConfig(), client.Options{
		HTTPClient: manager.GetHTTPClient(),
		Scheme:     manager.GetScheme(),
		Mapper:     manager.GetRESTMapper(),
		Cache:      &client.CacheOptions{Reader: informers},
		FieldOwner: FieldOwner,
		// A server of another version must not drop what this one writes down.
		FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	optional, err := dynamic.NewForConfig(watching)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	observer := NewObserver(mesh.Options{IstioNamespace: options.IstioNamespace, Match: matchcondition.New().Match}, clock.now)
	announcer := announcer{recorder: manager.GetEventRecorder(FieldOwner)}
	checker := newChecker(reads, manager.GetAPIReader(), clock.now, wake.Trigger)
	reconciler := &Reconciler{
		client:           reads,
		inventory:        observer.Inventory,
		now:              clock.now,
		system:           restart.SystemNamespaces.Union(sets.New(options.IstioNamespace, options.Namespace)),
		evictionDisabled: options.EvictionDisabled,
		debouncer:        wake,
		checker:          checker,
		actor: newActor(&actor{
			client: reads, reader: manager.GetAPIReader(), inventory: observer.Inventory, now: clock.now, namespace: options.Namespace,
			checker: checker, announcer: announcer, done: wake.Trigger,
		}),
		guard:       &guard{client: reads, now: clock.now, namespace: options.Namespace, waived: options.AllowUnguarded},
		watchHealth: watchHealth,
		reporter:    newReporter(reads, clock.now, announcer),
	}
	watched := &source{
		observer: observer,
		cache:    informers,
		kinds:    []client.Object{&v1alpha1.MeshPolicy{}, &v1alpha1.MeshReport{}, &corev1.ConfigMap{}},
		dynamic:  optional,
		wake:     wake,
	}
	if of.services {
		watched.kinds = append(watched.kinds, &corev1.Service{})
	}
	err = ctrl.NewControllerManagedBy(manager).Named("fullmesh").WatchesRawSource(watched).
		WithOptions(controller.Options{CacheSyncTimeout: readingMayTake}).Complete(reconciler)
	if err != nil {
		return fmt.Errorf("adding the controller: %w", err)
	}
	return nil
}

// readable is what may be read in the control plane's namespace.
type readable struct{ configMaps, services bool }

// ofControlPlane asks what may be read of the control plane, and logs what follows from what may not.
func ofControlPlane(ctx context.Context, manager ctrl.Manager, namespace string) (readable, error) {
	of, err := readable{}, error(nil)
	if of.configMaps, err = canRead(ctx, manager, namespace, "configmaps"); err != nil {
		return of, err
	}
	if !of.configMaps {
		log.FromContext(ctx).Info("ConfigMaps of the control plane cannot be read, so the injector's policy is assumed to be enabled",
			"namespace", namespace)
	}
	if of.services, err = canRead(ctx, manager, namespace, "services"); err != nil {
		return of, err
	}
	if !of.services {
		log.FromContext(ctx).Info("Services of the control plane cannot be read, so its workloads are told by the labels of Istio's charts",
			"namespace", namespace)
	}
	return of, nil
}

func newInformers(manager ctrl.Manager, watching *rest.Config, options Options, of readable) (cache.Cache, error) {
	kinds := byObject()
	namespaces := map[string]cache.Config{options.Namespace: {}}
	if of.configMaps {
		namespaces[options.IstioNamespace] = cache.Config{}
	}
	kinds[&corev1.ConfigMap{}] = cache.ByObject{Namespaces: namespaces}
	kinds[&corev1.Service{}] = cache.ByObject{Namespaces: map[string]cache.Config{options.IstioNamespace: {}}, Transform: cutDown}
	informers, err := cache.New(watching, cache.Options{
		Scheme:                      manager.GetScheme(),
		Mapper:                      manager.GetRESTMapper(),
		ByObject:                    kinds,
		ReaderFailOnMissingInformer: true,
	})
	if err != nil {
		return nil, fmt.Errorf("making the informers: %w", err)
	}
	return informers, nil
}

// canRead asks whether this account may list and watch objects of a kind in a namespace.
func canRead(ctx context.Context, manager ctrl.Manager, namespace, resource string) (bool, error) {
	for _, verb := range []string{"list", "watch"} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Resource: resource},
		}}
		if err := manager.GetClient().Create(ctx, review); err != nil {
			return false, fmt.Errorf("asking whether %s in %s may be read: %w", resource, namespace, err)
		}
		if !review.Status.Allowed {
			return false, nil
		}
	}
	return true, nil
}

// whenLeading starts a cache when the lease is held.
type whenLeading struct{ cache.Cache }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (whenLeading) NeedLeaderElection() bool { return true }
