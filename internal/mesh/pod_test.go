package mesh_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

var _ runtime.Object = &mesh.Pod{}

// born is when the Pods of these tests were created.
var born = time.Unix(1_790_000_000, 0)

// running is a Pod of a ReplicaSet, changed.
func running(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart-5d9-x2x", UID: "pod", ResourceVersion: "7",
			CreationTimestamp: metav1.NewTime(born),
			Labels:            set{"app": "cart", "pod-template-hash": "5d9"},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "example.com/v1", Kind: "Cart", Name: "cart", UID: "cart"},
				{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-5d9", UID: "set", Controller: new(true)},
			},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func condition(kind corev1.PodConditionType, status corev1.ConditionStatus, reason string, after time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: kind, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(born.Add(after)),
		})
	}
}

func phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = phase }
}

func TestCutDownKeepsWhoAPodIs(t *testing.T) {
	got := mesh.CutDown(running())
	want := mesh.Meta{Namespace: "shop", Name: "cart-5d9-x2x", UID: "pod", ResourceVersion: "7"}
	if diff := cmp.Diff(want, got.Meta); diff != "" {
		t.Errorf("Meta (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(mesh.Owner{Group: "apps", Kind: "ReplicaSet", Name: "cart-5d9", UID: "set"}, got.Owner); diff != "" {
		t.Errorf("Owner (-want +got):\n%s", diff)
	}
	if got.Created != born.Unix() || got.Revision != "5d9" || got.Template != nil {
		t.Errorf("got %+v", got)
	}
}

func TestCutDownKeepsWhatAPodCarries(t *testing.T) {
	pod := podFrom(t, "native")
	if got := mesh.CutDown(pod).Observed.Value(); got != mesh.Observe(pod) {
		t.Errorf("got %+v", got)
	}
	if mesh.CutDown(pod).Observed != mesh.CutDown(pod.DeepCopy()).Observed {
		t.Error("Pods that carry the same do not share it")
	}
}

func TestCutDownKeepsTheStateOfAPod(t *testing.T) {
	now := metav1.NewTime(born.Add(time.Minute))
	type state struct {
		ReadySince                                             int64
		Ready, Running                                         bool
		Terminating, Finished, Static, Unschedulable, Troubled bool
	}
	tests := []struct {
		name string
		pod  *corev1.Pod
		want state
	}{
		{"not ready yet", running(condition(corev1.PodReady, corev1.ConditionFalse, "ContainersNotReady", time.Second)), state{Running: true}},
		{"ready", running(condition(corev1.PodReady, corev1.ConditionTrue, "", 5*time.Second)), state{ReadySince: born.Unix() + 5, Ready: true, Running: true}},
		{"ready before it was created, by the clock of a node", running(condition(corev1.PodReady, corev1.ConditionTrue, "", -time.Hour)), state{ReadySince: born.Unix(), Ready: true, Running: true}},
		{"readiness unknown", running(condition(corev1.PodReady, corev1.ConditionUnknown, "", time.Second)), state{Running: true}},
		{"terminating", running(func(pod *corev1.Pod) { pod.DeletionTimestamp = &now }), state{Terminating: true}},
		{"succeeded", running(phase(corev1.PodSucceeded)), state{Finished: true}},
		{"failed", running(phase(corev1.PodFailed)), state{Finished: true}},
		{"no node has room", running(phase(corev1.PodPending), condition(corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, 0)), state{Running: true, Unschedulable: true}},
		{"no node had room once", running(func(pod *corev1.Pod) { pod.Spec.NodeName = "node" }, condition(corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, 0)), state{Running: true}},
		{"held back by a scheduling gate", running(phase(corev1.PodPending), condition(corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonSchedulingGated, 0)), state{Running: true}},
		{"scheduled", running(condition(corev1.PodScheduled, corev1.ConditionTrue, "", 0)), state{Running: true}},
		{"the mirror of a static Pod", running(func(pod *corev1.Pod) { pod.Annotations = set{"kubernetes.io/config.mirror": "hash"} }), state{Running: true, Static: true}},
		{"from a file", running(func(pod *corev1.Pod) { pod.Annotations = set{"kubernetes.io/config.source": "file"} }), state{Running: true, Static: true}},
		{"from the API server", running(func(pod *corev1.Pod) { pod.Annotations = set{"kubernetes.io/config.source": "api"} }), state{Running: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cut := mesh.CutDown(test.pod)
			got := state{
				ReadySince: cut.ReadySince, Ready: cut.Ready(), Running: cut.Running(),
				Terminating: cut.Terminating, Finished: cut.Finished, Static: cut.Static, Unschedulable: cut.Unschedulable != nil,
				Troubled: cut.Trouble != nil,
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("CutDown (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCutDownTellsWhatTroublesAPod(t *testing.T) {
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	exited := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	going := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	crashing := corev1.ContainerStatus{Name: "app", State: waiting("CrashLoopBackOff"), LastTerminationState: exited(3), RestartCount: 5}

	tests := []struct {
		name       string
		inits      []corev1.ContainerStatus
		containers []corev1.ContainerStatus
		changes    []func(*corev1.Pod)
		want       *mesh.Trouble
	}{
		{name: "nothing is known"},
		{name: "it is being created", containers: []corev1.ContainerStatus{{Name: "app", State: waiting("ContainerCreating")}}},
		{name: "it waits for its init containers", containers: []corev1.ContainerStatus{{Name: "app", State: waiting("PodInitializing")}}},
		{name: "it runs and is not ready", containers: []corev1.ContainerStatus{{Name: "app", State: going, RestartCount: 1, LastTerminationState: exited(1)}}},
		{name: "it crashes", containers: []corev1.ContainerStatus{{Name: "istio-proxy", State: going}, crashing},
			want: &mesh.Trouble{Container: "app", Reason: "CrashLoopBackOff", ExitCode: 3, Restarts: 5}},
		{name: "its image cannot be pulled", containers: []corev1.ContainerStatus{{Name: "app", State: waiting("ImagePullBackOff")}},
			want: &mesh.Trouble{Container: "app", Reason: "ImagePullBackOff"}},
		{name: "it has just crashed", containers: []corev1.ContainerStatus{{Name: "app", State: exited(137), LastTerminationState: exited(3), RestartCount: 1}},
			want: &mesh.Trouble{Container: "app", Reason: "Terminated", ExitCode: 137, Restarts: 1}},
		{name: "it is done", containers: []corev1.ContainerStatus{{Name: "app", State: exited(0)}}},
		{name: "an init container comes first", inits: []corev1.ContainerStatus{{Name: "istio-validation", State: waiting("CrashLoopBackOff"), LastTerminationState: exited(126), RestartCount: 2}},
			containers: []corev1.ContainerStatus{crashing},
			want:       &mesh.Trouble{Container: "istio-validation", Reason: "CrashLoopBackOff", ExitCode: 126, Restarts: 2}},
		{name: "a Pod that is ready has none", containers: []corev1.ContainerStatus{crashing},
			changes: []func(*corev1.Pod){condition(corev1.PodReady, corev1.ConditionTrue, "", 0)}},
		{name: "a Pod that has finished has none", containers: []corev1.ContainerStatus{{Name: "app", State: exited(1)}},
			changes: []func(*corev1.Pod){phase(corev1.PodFailed)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pod := running(test.changes...)
			pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = test.inits, test.containers
			if diff := cmp.Diff(test.want, mesh.CutDown(pod).Trouble); diff != "" {
				t.Errorf("Trouble (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCutDownTellsTheTemplateRevision(t *testing.T) {
	for name, test := range map[string]struct {
		labels set
		want   string
	}{
		"of a ReplicaSet":  {set{"pod-template-hash": "5d9"}, "5d9"},
		"of a StatefulSet": {set{"controller-revision-hash": "db-7f"}, "db-7f"},
		"of a Deployment whose owner uses the other label": {set{"pod-template-hash": "5d9", "controller-revision-hash": "x"}, "5d9"},
		"of nobody": {nil, ""},
	} {
		pod := running(func(pod *corev1.Pod) { pod.Labels = test.labels })
		if got := mesh.CutDown(pod).Revision; got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestCutDownKeepsTheTemplateWhereNobodyElseHasIt(t *testing.T) {
	owned := func(apiVersion, kind string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: "owner", UID: "owner", Controller: new(true)}}
		}
	}
	tests := []struct {
		name string
		own  func(*corev1.Pod)
		kept bool
	}{
		{"nobody owns it", func(pod *corev1.Pod) { pod.OwnerReferences = nil }, true},
		{"its owner does not control it", func(pod *corev1.Pod) { pod.OwnerReferences = pod.OwnerReferences[:1] }, true},
		{"a database operator owns it", owned("db.example.com/v1", "Cluster"), true},
		{"an old controller of the core group owns it", owned("v1", "ReplicationController"), true},
		{"a StatefulSet owns it", owned("apps/v1", "StatefulSet"), false},
		{"a Job owns it", owned("batch/v1", "Job"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pod := running(test.own, func(pod *corev1.Pod) {
				pod.Annotations = set{"sidecar.istio.io/inject": "false"}
				pod.Spec.HostNetwork = true
			})
			var want *mesh.Template
			if test.kept {
				want = &mesh.Template{Labels: pod.Labels, Annotations: pod.Annotations, HostNetwork: true}
			}
			if diff := cmp.Diff(want, mesh.CutDown(pod).Template); diff != "" {
				t.Errorf("Template (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysAreWrittenAsPeopleWriteThem(t *testing.T) {
	for want, key := range map[string]mesh.Key{
		"Deployment shop/cart":           {Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "cart"},
		"Job shop/import":                {Group: "batch", Kind: "Job", Namespace: "shop", Name: "import"},
		"Pod shop/cart":                  {Kind: "Pod", Namespace: "shop", Name: "cart"},
		"Rollout.argoproj.io shop/cart":  {Group: "argoproj.io", Kind: "Rollout", Namespace: "shop", Name: "cart"},
		"Cluster.db.example.com shop/db": {Group: "db.example.com", Kind: "Cluster", Namespace: "shop", Name: "db"},
	} {
		if got := key.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	owner := mesh.OwnerOf(running())
	if want := (mesh.Key{Group: "apps", Kind: "ReplicaSet", Namespace: "shop", Name: "cart-5d9"}); owner.Key("shop") != want || !owner.Exists() {
		t.Errorf("got %v", owner.Key("shop"))
	}
	if mesh.OwnerOf(&corev1.Pod{}).Exists() {
		t.Error("nobody owns the Pod")
	}
}
