package inventory

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Restart is what is kept of a MeshRestart. It is never changed.
type Restart struct {
	Namespace, Name string
	UID             types.UID
	// ResourceVersion is empty while it is not known whether the API server has the MeshRestart.
	ResourceVersion string

	// Workload is what is restarted, WorkloadUID and Generation as they were when that was decided.
	Workload    mesh.Key
	WorkloadUID types.UID
	Generation  int64
	// Policy under which it was decided, by its name.
	Policy string
	Cause  Cause
	Method v1alpha1.RestartMethod
	// RestartAt is the spec.restartAt that is set; zero for other methods.
	RestartAt time.Time
	// InputsHash is a hash over what decided that a restart would help.
	InputsHash string
	// Replicas is how many Pods the workload asked for, and Ready how many were ready.
	Replicas, Ready int
	// AtOnce is how many Pods the restart takes down or adds at once, as it was decided; 0 where that is not written
	// down.
	AtOnce int
	// Attempt counts the restarts of the workload; Excused, how many before it were without effect for a reason
	// that is not held against the workload.
	Attempt, Excused int
	Probes           Probes
	Requests         v1alpha1.RetryRequests

	// Start is when it was created, by the API server's clock.
	Start time.Time
	// Result is empty while the restart is in flight; End and Message say when and how it ended.
	Result  v1alpha1.RestartResult
	End     time.Time
	Message string
	// Excuse is why it is not held against the workload that the restart was without effect.
	Excuse v1alpha1.RestartExcuse
	// Evicting are the Pods of the current round of evictions.
	Evicting []types.UID
}

// Cause is why a workload needs a restart.
type Cause struct {
	Finding v1alpha1.Finding
	// Revision that injection gives now; empty where it gives none.
	Revision string
	// Newest is the creation second of the newest Pod that must be replaced.
	Newest int64
}

// Probes say which circuit breakers a restart tries: each number is which probe it is since that breaker opened,
// from 1; 0 where it tries none.
type Probes struct{ Policy, Namespace int }

// FromMeshRestart keeps what is judged of a MeshRestart.
func FromMeshRestart(object *v1alpha1.MeshRestart) *Restart {
	spec := &object.Spec
	r := &Restart{
		Namespace:       object.Namespace,
		Name:            object.Name,
		UID:             object.UID,
		ResourceVersion: object.ResourceVersion,
		Workload:        mesh.Key{Group: spec.Workload.Group, Kind: spec.Workload.Kind, Namespace: object.Namespace, Name: spec.Workload.Name},
		WorkloadUID:     types.UID(spec.Workload.UID),
		Generation:      value(spec.Workload.Generation),
		Policy:          spec.Policy,
		Cause:           Cause{Finding: spec.Cause.Finding, Revision: spec.Cause.Revision, Newest: spec.Cause.NewestPodTime.Unix()},
		Method:          spec.Method,
		InputsHash:      spec.InputsHash,
		Replicas:        int(value(spec.Replicas)),
		Ready:           int(value(spec.ReadyReplicas)),
		AtOnce:          int(value(spec.PodsAtOnce)),
		Attempt:         int(spec.Attempt),
		Excused:         int(value(spec.Excused)),
		Requests:        value(spec.Requests),
		Start:           object.CreationTimestamp.Time,
	}
	if spec.RestartAt != nil {
		r.RestartAt = spec.RestartAt.Time
	}
	for _, probe := range spec.Probes {
		switch probe.Scope {
		case v1alpha1.BreakerScopePolicy:
			r.Probes.Policy = int(probe.Number)
		case v1alpha1.BreakerScopeNamespace:
			r.Probes.Namespace = int(probe.Number)
		}
	}
	r.Excuse = object.Status.Excuse
	for _, uid := range object.Status.Evicting {
		r.Evicting = append(r.Evicting, types.UID(uid))
	}
	if finished := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionFinished); finished != nil {
		r.Result, r.Message = v1alpha1.RestartResult(finished.Reason), finished.Message
		r.End = finished.LastTransitionTime.Time
		if object.Status.EndTime != nil {
			r.End = object.Status.EndTime.Time
		}
	}
	return r
}

func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// orUnset points to a value, unless it is zero.
func orUnset[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

// MeshRestart is the object that records the restart, as it is created.
func (r *Restart) MeshRestart() *v1alpha1.MeshRestart {
	object := &v1alpha1.MeshRestart{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name},
		Spec: v1alpha1.MeshRestartSpec{
			Workload: v1alpha1.RestartedWorkload{
				WorkloadReference: v1alpha1.WorkloadReference{Group: r.Workload.Group, Kind: r.Workload.Kind, Name: r.Workload.Name},
				UID:               string(r.WorkloadUID),
				Generation:        new(r.Generation),
			},
			Policy: r.Policy,
			Cause: v1alpha1.RestartCause{Finding: r.Cause.Finding, Revision: r.Cause.Revision,
				NewestPodTime: metav1.NewTime(time.Unix(r.Cause.Newest, 0))},
			Method:        r.Method,
			InputsHash:    r.InputsHash,
			Replicas:      new(int32(r.Replicas)),
			ReadyReplicas: new(int32(r.Ready)),
			PodsAtOnce:    orUnset(int32(min(r.AtOnce, math.MaxInt32))),
			Attempt:       int32(r.Attempt),
			Excused:       orUnset(int32(r.Excused)),
			Requests:      orUnset(r.Requests),
		},
		Status: r.Status(),
	}
	if !r.RestartAt.IsZero() {
		object.Spec.RestartAt = new(metav1.NewTime(r.RestartAt))
	}
	for _, probe := range []v1alpha1.BreakerProbe{
		{Scope: v1alpha1.BreakerScopeNamespace, Number: int32(r.Probes.Namespace)},
		{Scope: v1alpha1.BreakerScopePolicy, Number: int32(r.Probes.Policy)},
	} {
		if probe.Number > 0 {
			object.Spec.Probes = append(object.Spec.Probes, probe)
		}
	}
	return object
}

// Status is what the status of the MeshRestart says.
func (r *Restart) Status() v1alpha1.MeshRestartStatus {
	status := v1alpha1.MeshRestartStatus{Excuse: r.Excuse}
	for _, uid := range r.Evicting {
		status.Evicting = append(status.Evicting, string(uid))
	}
	if r.Result != "" {
		end := metav1.NewTime(r.End)
		status.EndTime = &end
		status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionFinished, Status: metav1.ConditionTrue, Reason: string(r.Result), Message: r.Message, LastTransitionTime: end,
		}}
	}
	return status
}

// InFlight reports whether the restart has not ended.
func (r *Restart) InFlight() bool { return r != nil && r.Result == "" }

// Failed reports whether the restart was given up.
func (r *Restart) Failed() bool { return r != nil && r.Result == v1alpha1.ResultFailed }

// Pending reports whether it is not known yet that the API server has the MeshRestart.
func (r *Restart) Pending() bool { return r.ResourceVersion == "" }

// Ended is the restart with its result. Pods are evicted for it no more.
func (r *Restart) Ended(result v1alpha1.RestartResult, message string, end time.Time) *Restart {
	ended := *r
	ended.Result, ended.Message, ended.End, ended.Evicting = result, message, end.UTC().Truncate(time.Second), nil
	return &ended
}

// HasTouched reports whether the workload shows that the restart has begun. Evictions write nothing to it and have
// begun with their MeshRestart; a later spec.restartAt does the work of an earlier one.
func (r *Restart) HasTouched(object *Object) bool {
	switch r.Method {
	case v1alpha1.MethodRolloutRestart:
		return object.Template.Annotations[v1alpha1.RestartedByAnnotation] == r.Name
	case v1alpha1.MethodRestartAt:
		return !object.RestartAt.Before(r.RestartAt)
	default:
		return true
	}
}

// SetRestart takes in a MeshRestart, unless a newer one of its name is known or it was deleted by this process.
func (i *Inventory) SetRestart(restart *Restart) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, deleted := i.deletedRestarts[restart.UID]; deleted {
		return
	}
	n := i.namespace(restart.Namespace)
	if known := n.restarts[restart.Name]; known != nil && Newer(known.ResourceVersion, restart.ResourceVersion) {
		return
	}
	i.removeRestart(n, restart.Name)
	i.addRestart(n, restart)
}

// AddPendingRestart takes in a MeshRestart that is about to be created, unless one of its name is known.
func (i *Inventory) AddPendingRestart(restart *Restart) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := i.namespace(restart.Namespace); n.restarts[restart.Name] == nil {
		i.addRestart(n, restart)
	}
}

// DropPendingRestart forgets a MeshRestart that was not created after all.
func (i *Inventory) DropPendingRestart(restart *Restart) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n, found := i.namespaces[restart.Namespace]; found && n.restarts[restart.Name] != nil && n.restarts[restart.Name].Pending() {
		i.removeRestart(n, restart.Name)
		i.dropNamespace(n)
	}
}

// DeleteRestart forgets a MeshRestart that the informer has no more.
func (i *Inventory) DeleteRestart(namespace, name string, uid types.UID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.deletedRestarts, uid)
	i.forgetRestart(namespace, name, uid)
}

// RestartDeleted forgets a MeshRestart that this process has deleted. It stays forgotten until the informer has it
// no more, unless it has told that already.
func (i *Inventory) RestartDeleted(namespace, name string, uid types.UID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.forgetRestart(namespace, name, uid) {
		i.deletedRestarts[uid] = struct{}{}
	}
}

// forgetRestart reports whether the MeshRestart was known.
func (i *Inventory) forgetRestart(namespace, name string, uid types.UID) bool {
	n, found := i.namespaces[namespace]
	if !found || n.restarts[name] == nil || n.restarts[name].UID != uid {
		return false
	}
	i.removeRestart(n, name)
	i.dropNamespace(n)
	return true
}

func (i *Inventory) addRestart(n *namespace, restart *Restart) {
	n.restarts[restart.Name] = restart
	n.restartsOf[restart.WorkloadUID] = append(n.restartsOf[restart.WorkloadUID], restart)
	i.touchRestarted(n, restart)
}

func (i *Inventory) removeRestart(n *namespace, name string) {
	former := n.restarts[name]
	if former == nil {
		return
	}
	delete(n.restarts, name)
	others := slices.DeleteFunc(slices.Clone(n.restartsOf[former.WorkloadUID]), func(r *Restart) bool { return r == former })
	if n.restartsOf[former.WorkloadUID] = others; len(others) == 0 {
		delete(n.restartsOf, former.WorkloadUID)
	}
	i.touchRestarted(n, former)
}

// touchRestarted marks the workload of a restart as changed, where it is known.
func (i *Inventory) touchRestarted(n *namespace, restart *Restart) {
	n.view = nil
	if object, found := i.objects[restart.WorkloadUID]; found && object.Namespace == n.name {
		if w, found := i.workloads[object.Key()]; found {
			i.touch(w)
		}
	}
}

// recordRestarts sets what the ledger says of the workload.
func (w *Workload) recordRestarts(restarts []*Restart) {
	w.Restarts = slices.SortedFunc(slices.Values(restarts), func(a, b *Restart) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), strings.Compare(a.Name, b.Name))
	})
	for _, r := range w.Restarts {
		switch {
		case r.InFlight() && (w.InFlight == nil || r.HasTouched(w.Object) && !w.InFlight.HasTouched(w.Object)):
			w.InFlight = r
		case r.InFlight():
		case w.Last == nil:
			w.Last = r
		}
		if !r.InFlight() && w.Outcome == nil && r.Result != v1alpha1.ResultInterrupted {
			w.Outcome = r
		}
	}
	for _, r := range w.Restarts {
		if r.InFlight() && r != w.InFlight {
			w.Strays = append(w.Strays, r)
		}
	}
}

// Newest is the restart that is in flight, or the last one that has ended; nil where there was none.
func (w *Workload) Newest() *Restart { return cmp.Or(w.InFlight, w.Last) }

// compareRestarts orders a namespace's restarts: the newest first.
func compareRestarts(a, b *Restart) int {
	return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(b.Attempt, a.Attempt), strings.Compare(a.Name, b.Name))
}
