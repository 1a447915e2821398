package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// FieldOwner is the operator's field manager.
const FieldOwner = v1alpha1.FieldManager

// How many workloads are acted on at once, and how long one step may take. A MeshRestart touches its workload within
// that time after it was created, or is given up.
const (
	actAtOnce = 12
	stepTime  = 30 * time.Second
)

// actor does what was decided: it creates MeshRestarts and touches their workloads, evicts Pods, and writes down how
// restarts ended.
type actor struct {
	client client.Client // reads from the informers, writes to the API server
	// reader reads from the API server.
	reader    client.Reader
	inventory *inventory.Inventory
	now       func() time.Time
	// namespace is the operator's own, where the red button is.
	namespace string
	checker   *checker
	announcer announcer
	recorder  *restart.Recorder
	// done is called when something was done, or was not and is worth another look.
	done func()

	slots chan struct{}
	mu    sync.Mutex
	// busy are the workloads and MeshRestarts that are acted on, by their UIDs.
	busy map[types.UID]bool
	// failed are those whose last step failed.
	failed backOff[types.UID]
}

// newActor makes an actor ready for use; its clients are set already.
func newActor(a *actor) *actor {
	a.slots, a.busy, a.recorder = make(chan struct{}, actAtOnce), map[types.UID]bool{}, &restart.Recorder{}
	return a
}

// stopped reports whether the red button is pressed.
func (a *actor) stopped(ctx context.Context) (bool, error) {
	err := a.client.Get(ctx, client.ObjectKey{Namespace: a.namespace, Name: v1alpha1.StopConfigMap}, &corev1.ConfigMap{})
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	default:
		return false, fmt.Errorf("looking for ConfigMap %s/%s: %w", a.namespace, v1alpha1.StopConfigMap, err)
	}
}

var errStopped = errors.New("everything is stopped")

// start creates the MeshRestart and touches the workload that it names.
func (a *actor) start(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) error {
	object := verdict.Workload.Object
	if stopped, err := a.stopped(ctx); err != nil || stopped {
		a.inventory.DropPendingRestart(verdict.Restart)
		return cmp.Or(err, errStopped)
	}
	created, err := a.create(ctx, verdict.Restart, object)
	switch {
	case namespaceIsGone(err):
		return errRecheckLater // the informer tells it soon
	case isRefusal(err), apierrors.IsBadRequest(err):
		a.refused(ctx, verdict, policy, err)
		return nil
	case err != nil || created == nil:
		return err
	}
	a.recorder.Served(created.Namespace, created.Start)
	if created.Method != v1alpha1.MethodEviction {
		touched, err := a.touch(ctx, created, object)
		if isRefusal(err) {
			a.refused(ctx, verdict, policy, err)
			return a.deleteRestart(ctx, created)
		}
		if err != nil || !touched {
			return err
		}
	}
	a.recorder.Restarted(object.UID)
	restartsStarted.WithLabelValues(string(created.Cause.Finding)).Inc()
	log.FromContext(ctx).Info("Restarted "+object.Kind, "workload", klog.KObj(object), "method", created.Method, "restart",
		klog.KRef(created.Namespace, created.Name))
	return nil
}

// refused has a workload held because the API server did not admit its restart.
func (a *actor) refused(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy, err error) {
	object := verdict.Workload.Object
	log.FromContext(ctx).Info("Admission refused a restart", "kind", object.Kind, "workload", klog.KObj(object), "reason", err.Error())
	outcome := restart.CheckRefused
	if strings.Contains(err.Error(), "exceeded quota") {
		outcome = restart.CheckNotRecorded
	}
	a.checker.Remember(verdict.CheckKey, restart.Check{Outcome: outcome, Message: err.Error()}, false)
	a.announcer.Refused(verdict, policy, err)
}

// create creates the MeshRestart, again and again while there is no answer: the API server takes a name only once. It
// returns nil where another process has made the same attempt, and an error where the API server refuses, or gave no
// answer in time.
func (a *actor) create(ctx context.Context, intended *inventory.Restart, object *inventory.Object) (*inventory.Restart, error) {
	wanted := intended.MeshRestart()
	// What a probe of a policy's breaker came to is about others as well, and stays when its owner deletes the workload.
	if intended.Probes.Policy == 0 {
		wanted.OwnerReferences = []metav1.OwnerReference{ownedBy(object)}
	}
	for tries := 0; ; tries++ {
		created := wanted.DeepCopy()
		err := a.client.Create(ctx, created)
		switch {
		case err == nil:
			known := inventory.FromMeshRestart(created)
			a.inventory.SetRestart(known)
			return known, nil
		case apierrors.IsAlreadyExists(err):
			return a.readCreated(ctx, intended, tries > 0)
		case isRefusal(err), apierrors.IsNotFound(err), apierrors.IsBadRequest(err):
			a.inventory.DropPendingRestart(intended)
			return nil, fmt.Errorf("creating MeshRestart %s: %w", intended.Name, err)
		}
		if !a.pause(ctx, tries) {
			return nil, fmt.Errorf("creating MeshRestart %s: %w", intended.Name, err) // it counts until its name has been read
		}
	}
}

// readCreated reads a MeshRestart that exists already. It is this process's own where an answer to its creation was
// lost and it says what was intended.
func (a *actor) readCreated(ctx context.Context, intended *inventory.Restart, answerLost bool) (*inventory.Restart, error) {
	var existing v1alpha1.MeshRestart
	if err := a.reader.Get(ctx, client.ObjectKey{Namespace: intended.Namespace, Name: intended.Name}, &existing); err != nil {
		return nil, fmt.Errorf("reading MeshRestart %s, which exists: %w", intended.Name, err)
	}
	known := inventory.FromMeshRestart(&existing)
	a.inventory.SetRestart(known)
	if wanted := intended.MeshRestart(); answerLost && known.InFlight() && equalSpecs(&existing.Spec, &wanted.Spec) {
		return known, nil
	}
	return nil, nil
}

// touch changes the workload, in a patch that the API server refuses when its spec has changed since it was looked at.
// A lost answer is no reason to stop: the change can be made only once. It is false where the workload was not touched
// and will not be by this MeshRestart.
func (a *actor) touch(ctx context.Context, r *inventory.Restart, object *inventory.Object) (bool, error) {
	patch, err := touchPatch(r, object)
	if err != nil {
		return false, err
	}
	unanswered := false
	for tries := 0; ; tries++ {
		target, err := emptyWorkload(object.Group, object.Kind, object.Namespace, object.Name)
		if err != nil {
			return false, err
		}
		err = a.client.Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch))
		switch {
		case err == nil:
			return true, a.takeIn(target)
		case isRefusal(err) && !unanswered:
			return false, err
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err): // it is gone, or its kind is
			a.inventory.DeleteObject(object)
			return false, a.deleteRestart(ctx, r)
		case isRefusal(err), apierrors.IsInvalid(err), apierrors.IsConflict(err):
			return a.readTouched(ctx, r, unanswered)
		}
		unanswered = true
		if !a.pause(ctx, tries) {
			return false, fmt.Errorf("patching %s: %w", object.Key(), err)
		}
	}
}

// readTouched finds out whether the patch landed although the API server refused it. Where no answer was lost it did
// not, and somebody else has changed the workload's spec.
func (a *actor) readTouched(ctx context.Context, r *inventory.Restart, unanswered bool) (bool, error) {
	live, err := a.readWorkload(ctx, r)
	switch {
	case err != nil:
		return false, err
	case live != nil && r.HasTouched(live):
		return true, nil
	case live != nil && unanswered && live.Generation != r.Generation+1:
		return false, nil // what became of it is decided by its generation, in time
	}
	a.recorder.SpecChanged(r.WorkloadUID, a.now())
	return false, a.deleteRestart(ctx, r)
}

// readWorkload reads the workload of a restart from the API server, and takes it into the inventory. It is nil where
// the workload is gone: another one of its name is not it, and neither is a ReplicaSet that something else controls now.
func (a *actor) readWorkload(ctx context.Context, r *inventory.Restart) (*inventory.Object, error) {
	current, err := emptyWorkload(r.Workload.Group, r.Workload.Kind, r.Workload.Namespace, r.Workload.Name)
	if err != nil {
		return nil, err
	}
	switch err := a.reader.Get(ctx, client.ObjectKeyFromObject(current), current); {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err), err == nil && current.GetUID() != r.WorkloadUID:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", r.Workload, err)
	}
	cut, err := cutDown(current)
	if err != nil {
		return nil, err
	}
	object, is := cut.(*inventory.Object)
	if !is || inventory.StandsBetween(object) {
		return nil, nil // it was adopted, and is part of another workload
	}
	return object, a.takeIn(current)
}

// recheck finds out what became of a restart that has not ended: one whose workload is gone is void, and one that has
// not touched its workload, and will not any more, never began.
func (a *actor) recheck(ctx context.Context, r *inventory.Restart) error {
	if r.Pending() {
		return a.reread(ctx, r)
	}
	live, err := a.readWorkload(ctx, r)
	if err != nil || !restart.IsVoid(r, live, a.now()) {
		return err
	}
	return a.deleteRestart(ctx, r)
}

// reread takes in what the API server has of a MeshRestart that is not as it was taken to be. The informer may be
// behind, and of one that is gone it tells nothing where an answer was taken in after its deletion.
func (a *actor) reread(ctx context.Context, r *inventory.Restart) error {
	var existing v1alpha1.MeshRestart
	switch err := a.reader.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: r.Name}, &existing); {
	case apierrors.IsNotFound(err):
		if r.Pending() {
			a.inventory.DropPendingRestart(r)
		}
		a.inventory.DeleteRestart(r.Namespace, r.Name, r.UID)
		return nil
	case err != nil:
		return fmt.Errorf("reading MeshRestart %s: %w", r.Name, err)
	}
	a.inventory.SetRestart(inventory.FromMeshRestart(&existing))
	return nil
}

// finish writes down how a restart ended.
func (a *actor) finish(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) error {
	ended := verdict.Restart
	written, err := a.writeStatus(ctx, ended)
	if err != nil || !written {
		return err
	}
	log.FromContext(ctx).Info("Restart of "+ended.Workload.Kind+" ended", "workload", klog.KRef(ended.Namespace, ended.Workload.Name),
		"result", ended.Result, "message", ended.Message)
	restartsEnded.WithLabelValues(string(ended.Result)).Inc()
	a.announcer.Ended(verdict, policy)
	return nil
}

// writeStatus writes the status of a MeshRestart, if it is as it was read. It is false where it has moved on or gone.
func (a *actor) writeStatus(ctx context.Context, r *inventory.Restart) (bool, error) {
	data, err := statusPatch(r)
	if err != nil {
		return false, err
	}
	written := &v1alpha1.MeshRestart{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name}}
	switch err := a.client.Status().Patch(ctx, written, client.RawPatch(types.MergePatchType, data)); {
	case err == nil:
		a.inventory.SetRestart(inventory.FromMeshRestart(written))
		return true, nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return false, a.reread(ctx, r)
	default:
		return false, fmt.Errorf("writing the status of MeshRestart %s: %w", r.Name, err)
	}
}

// deleteRestart deletes a MeshRestart, if it is as it was read.
func (a *actor) deleteRestart(ctx context.Context, r *inventory.Restart) error {
	object := &v1alpha1.MeshRestart{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name}}
	switch err := a.client.Delete(ctx, object, client.Preconditions{UID: &r.UID, ResourceVersion: &r.ResourceVersion}); {
	case err == nil:
		a.inventory.RestartDeleted(r.Namespace, r.Name, r.UID)
		return nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return a.reread(ctx, r)
	default:
		return fmt.Errorf("deleting MeshRestart %s: %w", r.Name, err)
	}
}

// pause waits before the next try; it is false where there is no time for one.
func (a *actor) pause(ctx context.Context, tries int) bool {
	timer := time.NewTimer(restart.Backoff(tries, restart.LastRetry) / 4)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// takeIn takes an answer into the inventory, unless the informer has taken the object from it since:
// nothing would take it out again.
func (a *actor) takeIn(answer client.Object) error {
	cut, err := cutDown(answer)
	if err != nil {
		return err
	}
	object, is := cut.(*inventory.Object)
	if _, known := a.inventory.ResourceVersionOf(answer.GetUID()); known && is {
		a.inventory.SetObject(object)
	}
	return nil
}

// namespaceIsGone tells that nothing can be created in a namespace any more.
func namespaceIsGone(err error) bool {
	status, is := errors.AsType[*apierrors.StatusError](err)
	missing := is && apierrors.IsNotFound(err) && status.ErrStatus.Details != nil && status.ErrStatus.Details.Kind == "namespaces"
	return missing || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// isRefusal tells a refusal by an admission policy, webhook or quota, and one of an object that is not
// valid (annotations may be too long together with ours), from one by a test of the patch. All of
// them may come as the same status; only that of a test names no causes.
func isRefusal(err error) bool {
	if err == nil {
		return false
	}
	status, is := errors.AsType[*apierrors.StatusError](err)
	invalid := is && apierrors.IsInvalid(err) && status.ErrStatus.Details != nil && len(status.ErrStatus.Details.Causes) > 0
	return invalid || apierrors.IsForbidden(err) || strings.Contains(err.Error(), "ValidatingAdmissionPolicy") ||
		strings.Contains(err.Error(), "admission webhook") || strings.Contains(err.Error(), "failed calling webhook")
}

// emptyWorkload is an object of a kind that is restarted, with no more than its name.
func emptyWorkload(group, kind, namespace, name string) (client.Object, error) {
	known := mesh.KindOf(group, kind)
	if known.Method == "" {
		return nil, fmt.Errorf("%s %s/%s: objects of this kind are never restarted", kind, namespace, name)
	}
	var empty client.Object = &unstructured.Unstructured{}
	if !known.Optional {
		typed, err := clientgoscheme.Scheme.New(gvkOf(known))
		if err != nil {
			return nil, fmt.Errorf("%s %s/%s: %w", kind, namespace, name, err)
		}
		empty = typed.(client.Object)
	}
	empty.GetObjectKind().SetGroupVersionKind(gvkOf(known))
	empty.SetNamespace(namespace)
	empty.SetName(name)
	return empty, nil
}
