package referee

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// maxExcused is how many restarts in a row may be excused for having had no effect.
const maxExcused = 3

// Ledger is what was seen of MeshRestarts, in the order in which it was written. The zero value has seen nothing.
type Ledger struct {
	// now are those that exist.
	now map[types.NamespacedName]*inventory.Restart
	// begun are those that have touched their workload, by its UID and as they were written last, the oldest first.
	// Those that are deleted stay.
	begun map[types.UID][]*inventory.Restart
}

// Write takes in a MeshRestart as it was written.
func (l *Ledger) Write(r *inventory.Restart) error {
	if l.now == nil {
		l.now, l.begun = map[types.NamespacedName]*inventory.Restart{}, map[types.UID][]*inventory.Restart{}
	}
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	former := l.now[key]
	if former != nil && former.UID != r.UID {
		former = nil
	}
	l.now[key] = r
	if at := l.indexOfBegun(r); at >= 0 {
		l.begun[r.WorkloadUID][at] = r
	}
	switch {
	case former == nil && !r.InFlight():
		return fmt.Errorf("MeshRestart %s was created with the result %s", key, r.Result)
	case former == nil && r.Method == v1alpha1.MethodEviction:
		return l.begin(r)
	case former == nil:
		return nil
	case !equality.Semantic.DeepEqual(former.MeshRestart().Spec, r.MeshRestart().Spec):
		return fmt.Errorf("what MeshRestart %s intends has changed", key)
	case !former.InFlight() && former.Result != r.Result && (former.Result != v1alpha1.ResultFailed || r.Result != v1alpha1.ResultSucceeded):
		return fmt.Errorf("the result of MeshRestart %s was %s and is %q", key, former.Result, r.Result)
	case r.Excuse != "" && r.Excused >= maxExcused:
		return fmt.Errorf("MeshRestart %s is excused after %d that were", key, r.Excused)
	default:
		return nil
	}
}

// Delete takes in that a MeshRestart was deleted. One that has begun has an end first, unless its workload is gone.
func (l *Ledger) Delete(namespace, name string, workloadIsGone bool) error {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	r := l.now[key]
	delete(l.now, key)
	if r.InFlight() && l.indexOfBegun(r) >= 0 && !workloadIsGone {
		return fmt.Errorf("MeshRestart %s was deleted before it had ended", key)
	}
	return nil
}

// Touch takes in that the template of a workload of some UID has come to name a MeshRestart, in the write that gave
// the workload its generation. It is false where that starts nothing: another workload's, one that does not exist, or
// one that had touched the workload before and that somebody has put back.
func (l *Ledger) Touch(namespace, name string, workload types.UID, generation int64) (bool, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	r := l.now[key]
	switch {
	case r == nil || r.WorkloadUID != workload || r.Method == v1alpha1.MethodEviction || l.indexOfBegun(r) >= 0:
		return false, nil
	case !r.InFlight():
		return false, fmt.Errorf("MeshRestart %s touched its workload after it had ended (%s)", key, r.Result)
	case generation != r.Generation+1:
		return true, errors.Join(l.begin(r), fmt.Errorf("MeshRestart %s was made for generation %d, and the workload has %d", key, r.Generation, generation))
	default:
		return true, l.begin(r)
	}
}

func (l *Ledger) begin(r *inventory.Restart) error {
	err := l.MayStart(r)
	l.begun[r.WorkloadUID] = append(l.begun[r.WorkloadUID], r)
	return err
}

func (l *Ledger) indexOfBegun(r *inventory.Restart) int {
	if r == nil {
		return -1
	}
	return slices.IndexFunc(l.begun[r.WorkloadUID], func(other *inventory.Restart) bool { return other.UID == r.UID })
}

// MayStart is an error where a restart must not be made: another one of its workload is in flight, or it was made for
// the same cause.
func (l *Ledger) MayStart(next *inventory.Restart) error {
	var last *inventory.Restart // that was not interrupted
	for _, former := range slices.Backward(l.begun[next.WorkloadUID]) {
		if former.UID == next.UID && next.UID != "" {
			continue
		}
		if former.InFlight() {
			return fmt.Errorf("%s must not be restarted by %s: %s has not ended", next.Workload, next.Name, former.Name)
		}
		if former.Result == v1alpha1.ResultInterrupted {
			continue
		}
		last = cmp.Or(last, former)
		// One before the last covers the identical cause alone.
		if (former == last || former.Cause == next.Cause) && covers(former, next) && !asksAgain(last, next) {
			return fmt.Errorf("%s must not be restarted by %s: %s (%s, attempt %d, cause %v, inputs %s) covers its cause %v, inputs %s",
				next.Workload, next.Name, former.Name, former.Result, former.Attempt, former.Cause, former.InputsHash, next.Cause, next.InputsHash)
		}
	}
	return nil
}

// covers reports whether what a restart came to keeps another one from being made, unless somebody asks for it.
func covers(former, next *inventory.Restart) bool {
	if former.Cause.Finding != next.Cause.Finding || former.Cause.Revision != next.Cause.Revision {
		return false
	}
	unchanged := former.InputsHash == next.InputsHash
	byEviction := former.Method == v1alpha1.MethodEviction
	switch former.Result {
	case v1alpha1.ResultSucceeded:
		// Evictions replace the Pods that are out then; an older one may have left the mesh since.
		return next.Cause.Newest == former.Cause.Newest || !byEviction && next.Cause.Newest < former.Cause.Newest
	case v1alpha1.ResultFailed:
		// Evictions may go on when the Pod for which they failed has recovered.
		return unchanged && (!byEviction || next.Method != v1alpha1.MethodEviction)
	case v1alpha1.ResultIneffective:
		return unchanged && former.Excuse == ""
	case v1alpha1.ResultReverted:
		return unchanged && next.Method != v1alpha1.MethodEviction
	default:
		return false
	}
}

// asksAgain reports whether a restart serves a request for another try that the one before did not serve.
func asksAgain(last, next *inventory.Restart) bool {
	isNew := func(served, value string) bool { return value != "" && value != served }
	then, now := last.Requests, next.Requests
	return isNew(then.Workload, now.Workload) || isNew(then.Namespace, now.Namespace) || last.Policy == next.Policy && isNew(then.Policy, now.Policy)
}

// Unfinished are the MeshRestarts that exist and have not ended, by their names.
func (l *Ledger) Unfinished() []*inventory.Restart {
	var unfinished []*inventory.Restart
	for _, r := range l.now {
		if r.InFlight() {
			unfinished = append(unfinished, r)
		}
	}
	slices.SortFunc(unfinished, func(a, b *inventory.Restart) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return unfinished
}

// Of is the MeshRestart of a name; nil where there is none.
func (l *Ledger) Of(namespace, name string) *inventory.Restart {
	return l.now[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Begun are the restarts that have touched a workload, the oldest first.
func (l *Ledger) Begun(workload types.UID) []*inventory.Restart {
	return slices.Clone(l.begun[workload])
}

// Workloads is how many workloads were touched.
func (l *Ledger) Workloads() int { return len(l.begun) }
