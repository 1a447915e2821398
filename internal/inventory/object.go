package inventory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Object is what is kept of a workload's object, of whatever kind. Workloads are cut down to it
// when they are decoded, and it is never changed once it is made.
type Object struct {
	mesh.Meta
	Group, Kind string
	Owner       mesh.Owner
	// Terminating says that the object is being deleted.
	Terminating bool

	// Annotations are the object's own.
	Annotations map[string]string
	// Template is the Pod template, shared with the informer's object. Claims are the names of
	// a StatefulSet's volume claim templates.
	Template *corev1.PodTemplateSpec
	Claims   []string
	// TemplateUnknown says, in a sentence, why the template is not known; empty where it is.
	TemplateUnknown string
	// TemplateHash changes with the template, but for what Fullmesh writes into it.
	TemplateHash string
	// TemplateChanged is when the template was changed last, as far as the object tells.
	TemplateChanged time.Time
	// LastWriter is who of others than Fullmesh and the kind's own controller wrote the object last,
	// unless Fullmesh did since; TemplateWriter is who of them wrote the template last. Their managers are
	// empty where that is not known.
	LastWriter, TemplateWriter Writer

	// Generation is of the spec; ObservedGeneration is what the kind's controller has seen.
	Generation, ObservedGeneration int64

	// Replicas is how many Pods are asked for. Current is how many there are, Updated how many
	// of them are on the newest template, Available how many serve.
	Replicas, Current, Updated, Available int
	Strategy                              Strategy
	Paused                                bool
	// TwoRevisions says that a StatefulSet's Pods may be of two revisions of its template.
	TwoRevisions bool
	// Ordered says that a StatefulSet's controller touches no further Pod while one is not ready.
	Ordered bool
	// Stuck says that the kind's own controller has given up on progress (ProgressDeadlineExceeded; an
	// Argo Rollout that was aborted or is Degraded).
	Stuck bool
	// ReplicaFailure is why the kind's controller cannot create or delete a Pod, in its words; empty where
	// it can, or does not say. Those of StatefulSets and DaemonSets say it in Events alone.
	ReplicaFailure string
	// MinReadySeconds is how long a Pod must be ready before it serves.
	MinReadySeconds int32

	// Updating says that an Argo Rollout's newest template is not the one that serves.
	Updating bool
	// RestartAt is the time before which an Argo Rollout's Pods are asked to have been created no more,
	// and RestartedAt the one for which its controller is done; zero where there is none.
	RestartAt, RestartedAt time.Time

	// TemplateOf is the workload from which the template is taken; zero where it is the object's own.
	// TemplateGeneration is the generation of that one, and TemplateSeen the one that the kind's
	// controller has seen.
	TemplateOf                       mesh.Key
	TemplateGeneration, TemplateSeen int64
}

// StrategyType is how a kind's controller replaces Pods when the template changes.
type StrategyType uint8

// The strategies.
const (
	// StrategyNone: a changed template replaces nothing.
	StrategyNone StrategyType = iota
	// StrategyRolling: a few at a time.
	StrategyRolling
	// StrategyRecreate: all are stopped before the new ones start.
	StrategyRecreate
)

// Strategy is how a kind's controller replaces Pods, in whole Pods.
type Strategy struct {
	Type StrategyType
	// MaxUnavailable is how many Pods may be down at once, MaxSurge how many may run on top.
	MaxUnavailable, MaxSurge int
	// Partition is the ordinal of a StatefulSet below which Pods are left alone.
	Partition int
}

// AtOnce is how many Pods a rollout takes down or adds at once.
func (s Strategy) AtOnce() int { return s.MaxUnavailable + s.MaxSurge }

// FromDeployment keeps what is judged of a Deployment.
func FromDeployment(d *appsv1.Deployment) *Object {
	object := newObject("Deployment", d, &d.Spec.Template)
	object.Replicas = replicas(d.Spec.Replicas)
	object.ObservedGeneration = d.Status.ObservedGeneration
	object.Current, object.Updated, object.Available = int(d.Status.Replicas), int(d.Status.UpdatedReplicas), int(d.Status.AvailableReplicas)
	object.Paused = d.Spec.Paused
	object.MinReadySeconds = d.Spec.MinReadySeconds
	for i := range d.Status.Conditions {
		condition := &d.Status.Conditions[i]
		if condition.Type == appsv1.DeploymentProgressing && condition.Status == corev1.ConditionFalse {
			object.Stuck = true
		}
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			object.ReplicaFailure = condition.Message
		}
	}
	object.Strategy = deploymentStrategy(d, object.Replicas)
	return object
}

// deploymentStrategy resolves percentages as the Deployment controller does: surge is rounded up,
// unavailable down, and where both come to nothing one may be unavailable
// (k8s.io/kubernetes/pkg/controller/deployment/util, ResolveFenceposts).
func deploymentStrategy(d *appsv1.Deployment, replicas int) Strategy {
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return Strategy{Type: StrategyRecreate, MaxUnavailable: replicas}
	}
	strategy := Strategy{Type: StrategyRolling}
	if rolling := d.Spec.Strategy.RollingUpdate; rolling != nil {
		strategy.MaxSurge = min(scaled(rolling.MaxSurge, replicas, true), replicas)
		strategy.MaxUnavailable = min(scaled(rolling.MaxUnavailable, replicas, false), replicas)
	}
	if strategy.MaxSurge == 0 && strategy.MaxUnavailable == 0 {
		strategy.MaxUnavailable = 1
	}
	return strategy
}

// FromStatefulSet keeps what is judged of a StatefulSet.
func FromStatefulSet(s *appsv1.StatefulSet) *Object {
	object := newObject("StatefulSet", s, &s.Spec.Template)
	object.Replicas = replicas(s.Spec.Replicas)
	object.ObservedGeneration = s.Status.ObservedGeneration
	object.Current, object.Updated, object.Available = int(s.Status.Replicas), int(s.Status.UpdatedReplicas), int(s.Status.AvailableReplicas)
	object.MinReadySeconds = s.Spec.MinReadySeconds
	object.TwoRevisions = s.Status.CurrentRevision != s.Status.UpdateRevision
	object.Ordered = s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	for i := range s.Spec.VolumeClaimTemplates {
		object.Claims = append(object.Claims, s.Spec.VolumeClaimTemplates[i].Name)
	}
	if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return object
	}
	object.Strategy = Strategy{Type: StrategyRolling, MaxUnavailable: 1}
	if rolling := s.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		if rolling.Partition != nil {
			object.Strategy.Partition = int(*rolling.Partition)
		}
		if rolling.MaxUnavailable != nil {
			object.Strategy.MaxUnavailable = max(1, min(scaled(rolling.MaxUnavailable, object.Replicas, false), object.Replicas))
		}
	}
	return object
}

// FromDaemonSet keeps what is judged of a DaemonSet. Its replicas are the nodes it is meant for.
func FromDaemonSet(d *appsv1.DaemonSet) *Object {
	object := newObject("DaemonSet", d, &d.Spec.Template)
	object.Replicas = int(d.Status.DesiredNumberScheduled)
	object.ObservedGeneration = d.Status.ObservedGeneration
	object.Current, object.Updated = int(d.Status.CurrentNumberScheduled), int(d.Status.UpdatedNumberScheduled)
	object.Available = int(d.Status.NumberAvailable)
	object.MinReadySeconds = d.Spec.MinReadySeconds
	if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		return object
	}
	object.Strategy = Strategy{Type: StrategyRolling, MaxUnavailable: 1}
	if rolling := d.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		object.Strategy.MaxSurge = min(scaled(rolling.MaxSurge, object.Replicas, true), object.Replicas)
		object.Strategy.MaxUnavailable = min(scaled(rolling.MaxUnavailable, object.Replicas, true), object.Replicas)
	}
	return object
}

// FromReplicaSet keeps of a ReplicaSet that nobody owns what is judged of it.
func FromReplicaSet(r *appsv1.ReplicaSet) *Object {
	object := newObject("ReplicaSet", r, &r.Spec.Template)
	object.Replicas = replicas(r.Spec.Replicas)
	object.ObservedGeneration = r.Status.ObservedGeneration
	object.Current, object.Available = int(r.Status.Replicas), int(r.Status.AvailableReplicas)
	object.Updated = object.Current
	for i := range r.Status.Conditions {
		if condition := &r.Status.Conditions[i]; condition.Type == appsv1.ReplicaSetReplicaFailure && condition.Status == corev1.ConditionTrue {
			object.ReplicaFailure = condition.Message
		}
	}
	return object
}

// FromJob keeps what is judged of a Job.
func FromJob(j *batchv1.Job) *Object {
	return newObject("Job", j, &j.Spec.Template)
}

// FromCronJob keeps what is judged of a CronJob.
func FromCronJob(c *batchv1.CronJob) *Object {
	return newObject("CronJob", c, &c.Spec.JobTemplate.Spec.Template)
}

func newObject(kind string, object metav1.Object, template *corev1.PodTemplateSpec) *Object {
	return &Object{
		Meta:            mesh.MetaOf(object),
		Group:           mesh.KindNamed(kind).Group,
		Kind:            kind,
		Owner:           mesh.OwnerOf(object),
		Terminating:     object.GetDeletionTimestamp() != nil,
		Annotations:     object.GetAnnotations(),
		Template:        template,
		TemplateHash:    hashOf(template),
		TemplateChanged: templateChanged(object),
		LastWriter:      lastWriter(object, ""),
		TemplateWriter:  lastWriter(object, "f:template"),
		Generation:      object.GetGeneration(),
	}
}

// hashOf is made once, when the object is decoded: it is asked for in every planning pass.
func hashOf(template *corev1.PodTemplateSpec) string {
	hashed := *template
	hashed.Annotations = maps.Clone(template.Annotations)
	maps.DeleteFunc(hashed.Annotations, func(key, _ string) bool { return strings.HasPrefix(key, "fullmesh.dev/") })
	text, err := json.Marshal(&hashed)
	if err != nil {
		panic(fmt.Sprintf("a Pod template that was read cannot be written: %v", err))
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}

// DeepCopyObject implements runtime.Object. The copy shares what it points to.
func (o *Object) DeepCopyObject() runtime.Object {
	object := *o
	return &object
}

// Key names the workload.
func (o *Object) Key() mesh.Key {
	return mesh.Key{Group: o.Group, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

// Is says what is known of the object's kind.
func (o *Object) Is() *mesh.Kind { return mesh.KindOf(o.Group, o.Kind) }

// Injection is what injection looks at in the template.
func (o *Object) Injection() mesh.Template {
	return mesh.Template{
		Labels:      o.Template.Labels,
		Annotations: o.Template.Annotations,
		HostNetwork: o.Template.Spec.HostNetwork,
		Spec:        &o.Template.Spec,
		Kind:        o.Kind,
	}
}

// RollingOut reports whether the kind's controller is still replacing Pods after a change of the
// template, or has not seen the newest change.
func (o *Object) RollingOut() bool {
	unseen := o.ObservedGeneration < o.Generation || o.TemplateSeen < o.TemplateGeneration
	if unseen || o.Strategy.Type == StrategyNone {
		return unseen
	}
	return o.Updating || o.Updated < o.Replicas-o.Strategy.Partition || o.Current > max(o.Updated, o.Replicas)
}

// Patience is how long a Pod of this template may take by its own account before it is ready:
// the grace period of the one it replaces, its startup probes and its minReadySeconds; with the pause
// that its kind's controller makes before it goes on.
func (o *Object) Patience() time.Duration {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if o.Template.Spec.TerminationGracePeriodSeconds != nil {
		grace = *o.Template.Spec.TerminationGracePeriodSeconds
	}
	startup := int64(0)
	for i := range o.Template.Spec.Containers {
		if probe := o.Template.Spec.Containers[i].StartupProbe; probe != nil {
			startup = max(startup, int64(probe.InitialDelaySeconds)+int64(max(probe.PeriodSeconds, 1))*int64(max(probe.FailureThreshold, 1)))
		}
	}
	pause := int64(0)
	if o.IsRollout() {
		pause = argoPause
	}
	patience := longestPatience
	for _, seconds := range []int64{grace, startup, int64(o.MinReadySeconds), pause} {
		patience -= time.Duration(min(max(seconds, 0), int64(patience/time.Second))) * time.Second
	}
	return longestPatience - patience
}

// longestPatience bounds Patience: nobody may hold up others by a number in a template.
const longestPatience = time.Hour

// Restartable reports whether the object is of a kind whose controller makes Pods again.
func (o *Object) Restartable() bool {
	return o.Is().Method != ""
}

// OptOut is the value of the restart annotation on the object or its template; the object's
// counts first.
func (o *Object) OptOut() string {
	return cmp.Or(o.Annotations[v1alpha1.RestartAnnotation], o.Template.Annotations[v1alpha1.RestartAnnotation])
}

// Newer reports whether one resource version is newer than another. They are numbers that grow with
// every write
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions). What is no
// number is newer than nothing.
func Newer(version, than string) bool {
	a, errA := strconv.ParseUint(version, 10, 64)
	b, errB := strconv.ParseUint(than, 10, 64)
	return errA == nil && errB == nil && a > b
}

// templateChanged is when somebody else than Fullmesh last wrote the fields of the template, from the record
// that the API server keeps of every writer. It is an upper bound: a writer's time moves with any of its
// fields. Fullmesh's own moves with each outcome, and changes nothing that injection looks at.
func templateChanged(object metav1.Object) time.Time {
	return lastWritten(object, "f:template", v1alpha1.FieldManager)
}

// LastWritten is when the newest of an object's writers that own the field (as managedFields name
// it, for instance f:labels) last wrote anything but the status; the object's creation where none
// does.
func LastWritten(object metav1.Object, field string) time.Time { return lastWritten(object, field, "") }

func lastWritten(object metav1.Object, field, butBy string) time.Time {
	newest := object.GetCreationTimestamp().Time
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource == "" && (butBy == "" || entry.Manager != butBy) && entry.Time != nil && entry.FieldsV1 != nil &&
			entry.Time.After(newest) && bytes.Contains(entry.FieldsV1.GetRawBytes(), []byte(`"`+field+`"`)) {
			newest = entry.Time.Time
		}
	}
	return newest
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// scaled resolves a number or percentage of total; what cannot be read counts as 0, as the API
// server would not have stored it.
func scaled(value *intstr.IntOrString, total int, roundUp bool) int {
	if value == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(value, total, roundUp)
	if err != nil {
		return 0
	}
	return max(n, 0)
}
