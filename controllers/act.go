package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// FieldOwner is the operator's field manager.
const FieldOwner = v1alpha1.FieldManager

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// actor writes to workloads.
type actor struct {
	client client.Client
	// reader reads from the API server.
	reader    client.Reader
	inventory *inventory.Inventory
}

// written is what became of a write.
type written uint8

const (
	// writtenDone: it is in the cluster.
	writtenDone written = iota
	// writtenStale: the object has moved on, and so will the picture.
	writtenStale
	// writtenRefused: the API server does not admit it, and is not likely to do so next time.
	writtenRefused
)

// restart begins a restart: it writes the record on the object and what the method asks for, in one
// patch that the API server refuses when the spec has changed since it was looked at.
func (a *actor) restart(ctx context.Context, verdict *restart.Verdict) (written, error) {
	object := verdict.Workload.Object
	patch := []operation{
		{"test", "/metadata/uid", object.UID},
		{"test", "/metadata/generation", object.Generation},
	}
	switch verdict.Method {
	case v1alpha1.MethodRolloutRestart:
		patch = append(patch, causeOperations(object, verdict.Record.Cause)...)
	case v1alpha1.MethodRestartAt:
		patch = append(patch, operation{"add", "/spec/restartAt", verdict.RestartAt.Format(time.RFC3339)})
	case v1alpha1.MethodEviction:
		// The record is all: it must be there before the first Pod goes. It moves no generation, so that
		// it is told by itself whether another has been written since.
		patch = append(patch, formerRecord(object)...)
	default:
		return writtenStale, fmt.Errorf("restarting %s: this version does not know the method %s", object.Key(), verdict.Method)
	}
	return a.write(ctx, object, append(patch, recordOperations(object, verdict.Record)...))
}

// causeOperations set the cause on the template, which has the kind's controller roll it out.
func causeOperations(object *inventory.Object, cause string) []operation {
	var patch []operation
	if len(object.Template.Annotations) == 0 {
		patch = append(patch, operation{"add", "/spec/template/metadata/annotations", map[string]string{}})
	}
	return append(patch, operation{"add", "/spec/template/metadata/annotations/" + pointer(v1alpha1.RestartCauseAnnotation), cause})
}

// finish writes down how a restart ended, unless somebody else did.
func (a *actor) finish(ctx context.Context, verdict *restart.Verdict) (written, error) {
	object := verdict.Workload.Object
	path := "/metadata/annotations/" + pointer(v1alpha1.LastRestartAnnotation)
	return a.write(ctx, object, []operation{
		{"test", "/metadata/uid", object.UID},
		{"test", path, object.Annotations[v1alpha1.LastRestartAnnotation]},
		{"replace", path, verdict.Record.String()},
	})
}

// formerRecord tests that the object has the record that was read. A patch cannot test that there is none:
// then the object must be as it was read.
func formerRecord(object *inventory.Object) []operation {
	former, written := object.Annotations[v1alpha1.LastRestartAnnotation]
	if !written {
		return []operation{{"test", "/metadata/resourceVersion", object.ResourceVersion}}
	}
	return []operation{{"test", "/metadata/annotations/" + pointer(v1alpha1.LastRestartAnnotation), former}}
}

// recordOperations set the record. Where the object has no annotation yet the map is made first,
// and that is tied to the resource version: it would wipe out one that somebody has made since.
func recordOperations(object *inventory.Object, record inventory.Record) []operation {
	var patch []operation
	if len(object.Annotations) == 0 {
		patch = []operation{
			{"test", "/metadata/resourceVersion", object.ResourceVersion},
			{"add", "/metadata/annotations", map[string]string{}},
		}
	}
	return append(patch, operation{"add", "/metadata/annotations/" + pointer(v1alpha1.LastRestartAnnotation), record.String()})
}

// write patches a workload and takes the answer into the picture, so that the next decision knows
// of it before the informer does.
func (a *actor) write(ctx context.Context, object *inventory.Object, patch []operation) (written, error) {
	data, err := json.Marshal(patch)
	if err != nil {
		return writtenStale, fmt.Errorf("marshalling a patch: %w", err)
	}
	target, err := emptyWorkload(object)
	if err != nil {
		return writtenStale, err
	}
	err = a.client.Patch(ctx, target, client.RawPatch(types.JSONPatchType, data))
	switch {
	case err == nil:
		return writtenDone, a.takeIn(target)
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err): // it is gone, or its kind is
		a.inventory.DeleteObject(object)
		return writtenStale, nil
	case isRefusal(err):
		return writtenRefused, err
	case apierrors.IsInvalid(err), apierrors.IsConflict(err):
		return writtenStale, nil
	default:
		return writtenStale, fmt.Errorf("patching %s: %w", object.Key(), err)
	}
}

// read takes a workload into the picture as the API server has it, and returns the record that is written on it.
func (a *actor) read(ctx context.Context, object *inventory.Object) (record string, err error) {
	current, err := emptyWorkload(object)
	if err != nil {
		return "", err
	}
	switch err := a.reader.Get(ctx, client.ObjectKeyFromObject(current), current); {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return "", nil // the informer tells
	case err != nil:
		return "", fmt.Errorf("reading %s, of which it is not known whether it was written: %w", object.Key(), err)
	default:
		return current.GetAnnotations()[v1alpha1.LastRestartAnnotation], a.takeIn(current)
	}
}

// takeIn takes an answer into the picture, unless the informer has taken the object from it since:
// nothing would take it out again.
func (a *actor) takeIn(answer client.Object) error {
	cut, err := cutDown(answer)
	if err != nil {
		return err
	}
	if _, known := a.inventory.ResourceVersionOf(answer.GetUID()); known {
		a.inventory.SetObject(cut.(*inventory.Object))
	}
	return nil
}

// isRefusal tells a refusal by an admission policy or webhook, and one of an object that is not
// valid (annotations may be too long together with ours), from one by a test of the patch. All of
// them may come as the same status; only that of a test names no causes.
func isRefusal(err error) bool {
	status, is := errors.AsType[*apierrors.StatusError](err)
	invalid := is && apierrors.IsInvalid(err) && status.ErrStatus.Details != nil && len(status.ErrStatus.Details.Causes) > 0
	return invalid || apierrors.IsForbidden(err) || strings.Contains(err.Error(), "ValidatingAdmissionPolicy") ||
		strings.Contains(err.Error(), "admission webhook") || strings.Contains(err.Error(), "failed calling webhook")
}

// emptyWorkload is an object of the kind, with no more than its name.
func emptyWorkload(object *inventory.Object) (client.Object, error) {
	named := metav1.ObjectMeta{Namespace: object.Namespace, Name: object.Name}
	for i := range optionalKinds {
		if kind := &optionalKinds[i]; kind.GroupKind() == (schema.GroupKind{Group: object.Group, Kind: object.Kind}) {
			empty := kind.object()
			empty.SetNamespace(object.Namespace)
			empty.SetName(object.Name)
			return empty, nil
		}
	}
	switch object.Kind {
	case "Deployment":
		return &appsv1.Deployment{ObjectMeta: named}, nil
	case "StatefulSet":
		return &appsv1.StatefulSet{ObjectMeta: named}, nil
	case "DaemonSet":
		return &appsv1.DaemonSet{ObjectMeta: named}, nil
	case "ReplicaSet":
		return &appsv1.ReplicaSet{ObjectMeta: named}, nil
	default:
		return nil, fmt.Errorf("patching %s: this kind is never restarted", object.Key())
	}
}

// pointer escapes a key for a JSON pointer (RFC 6901).
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
