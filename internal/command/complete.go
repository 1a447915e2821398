package command

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// uid stands for that of an object which was written by hand and has none.
func (i objectID) uid() types.UID {
	return types.UID(strings.Join([]string{i.Group, i.Kind, i.namespace, i.name}, ":"))
}

// complete gives objects that were written by hand what the API server and the controllers would have
// given them: references their UIDs, workloads and Pods a status. Without a status, a workload is
// taken to have rolled out, and a Pod to be ready: whoever writes one by hand means one that runs.
func (d *dump) complete() {
	for _, object := range d.objects {
		d.completeOwners(object)
	}
	pods := d.podsByOwner()
	for _, object := range d.objects {
		if completeStatus(object, pods[object.GetUID()]) {
			d.withoutStatus++
		}
	}
}

// completeOwners finds by name the owners that are named without a UID. The API server demands one,
// so that such a reference was written by hand, and then names the controller unless it says
// otherwise.
func (d *dump) completeOwners(object client.Object) {
	references := object.GetOwnerReferences()
	for i := range references {
		reference := &references[i]
		if reference.UID != "" {
			continue
		}
		kind := schema.FromAPIVersionAndKind(reference.APIVersion, reference.Kind).GroupKind()
		owner := objectID{kind, object.GetNamespace(), reference.Name}
		reference.UID = owner.uid()
		if at, placed := d.placed[owner]; placed {
			reference.UID = d.objects[at].GetUID()
		}
		if reference.Controller == nil {
			reference.Controller = new(true)
		}
	}
	object.SetOwnerReferences(references)
}

func (d *dump) podsByOwner() map[types.UID]int {
	pods := map[types.UID]int{}
	for _, object := range d.objects {
		if pod, is := object.(*corev1.Pod); is {
			pods[mesh.OwnerOf(pod).UID]++
		}
	}
	return pods
}

// completeStatus writes the status of an object that has none at all, and reports whether it did.
func completeStatus(object client.Object, pods int) bool {
	switch object := object.(type) {
	case *corev1.Pod:
		if !isUnset(object.Status) {
			return false
		}
		object.Status.Phase = corev1.PodRunning
		object.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue,
			LastTransitionTime: object.CreationTimestamp}}
	case *appsv1.Deployment:
		if !isUnset(object.Status) {
			return false
		}
		if isUnset(object.Spec.Strategy) {
			quarter := intstr.FromString("25%")
			object.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &quarter, MaxUnavailable: &quarter}
		}
		n := replicasOf(object.Spec.Replicas)
		object.Status = appsv1.DeploymentStatus{ObservedGeneration: object.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n,
			AvailableReplicas: n}
	case *appsv1.StatefulSet:
		if !isUnset(object.Status) {
			return false
		}
		n := replicasOf(object.Spec.Replicas)
		object.Status = appsv1.StatefulSetStatus{ObservedGeneration: object.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n,
			AvailableReplicas: n}
	case *appsv1.DaemonSet:
		if !isUnset(object.Status) {
			return false
		}
		n := int32(min(pods, maxPods))
		object.Status = appsv1.DaemonSetStatus{ObservedGeneration: object.Generation, DesiredNumberScheduled: n, CurrentNumberScheduled: n,
			UpdatedNumberScheduled: n, NumberReady: n, NumberAvailable: n}
	default:
		return false
	}
	return true
}

// maxPods is more than any cluster runs of one workload.
const maxPods = 1 << 30

func isUnset(value any) bool { return reflect.ValueOf(value).IsZero() }

func replicasOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// configMaps are those of injectors: in the control plane's namespace, and elsewhere.
func (d *dump) configMaps(namespace string) (in, elsewhere []*corev1.ConfigMap) {
	for _, object := range d.objects {
		configMap, is := object.(*corev1.ConfigMap)
		switch {
		case !is || !strings.HasPrefix(configMap.Name, mesh.InjectorConfigMap):
		case configMap.Namespace == namespace:
			in = append(in, configMap)
		default:
			elsewhere = append(elsewhere, configMap)
		}
	}
	return in, elsewhere
}

// sayWhatIsPassedOver says once what was not looked at.
func (d *dump) sayWhatIsPassedOver(notes screen) {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(d.passedOver)) {
		parts = append(parts, fmt.Sprintf("%d %s", d.passedOver[kind], kind))
	}
	if len(parts) > 0 {
		notes.line("Passed over, because it decides nothing: %s.", strings.Join(parts, ", "))
	}
	if d.withoutKind != nil {
		notes.line("Passed over what has no kind, first at %s.", d.withoutKind)
	}
	if d.withoutStatus > 0 {
		notes.line("%s no status: such workloads are taken to have rolled out, and such Pods to be ready.", plural(d.withoutStatus,
			"object has", "objects have"))
	}
}

// sayWhatIsMissing says which objects the dump should have and has not, and what follows from that.
func (d *dump) sayWhatIsMissing(istioNamespace string, notes screen) {
	counted := map[string]int{}
	namespaces, used := sets.New[string](), sets.New[string]()
	for id := range d.placed {
		counted[id.Kind]++
		switch id.Kind {
		case "Namespace":
			namespaces.Insert(id.name)
		case "Node", "ConfigMap", "PeerAuthentication", "PodDisruptionBudget", "Service":
		default:
			used.Insert(id.namespace)
		}
	}
	if counted["MutatingWebhookConfiguration"] == 0 {
		notes.line("The dump has no MutatingWebhookConfigurations: it looks as if nothing were injected anywhere (%s), which says nothing "+
			"about the cluster. Add: kubectl get mutatingwebhookconfigurations -o yaml", mesh.ReasonNoIstioWebhook)
	} else if in, elsewhere := d.configMaps(istioNamespace); len(in) == 0 {
		notes.line("The dump has no ConfigMap %s in namespace %s: the injector's policy is taken to be enabled. Add: kubectl get configmaps "+
			"-n %s -o yaml", mesh.InjectorConfigMap, istioNamespace, istioNamespace)
		for _, configMap := range elsewhere {
			notes.line("There is a ConfigMap %s/%s; with --istio-namespace %s it counts.", configMap.Namespace, configMap.Name, configMap.Namespace)
		}
	}
	if counted["Pod"] == 0 {
		notes.line("The dump has no Pods: what runs is not known, and it looks as if everything were complete. Add: kubectl get pods -A -o yaml")
	}
	if counted["MeshPolicy"] > 0 && counted["MeshRestart"] == 0 {
		notes.line("The dump has a MeshPolicy and no MeshRestarts. If the cluster has some, a workload whose restart has failed looks due " +
			"here. Add: kubectl get meshrestarts -A -o yaml")
	}
	if counted["Node"] == 0 && d.hasScheduledPods() {
		notes.line("The dump has no Nodes: which of them are cordoned is not known. Add: kubectl get nodes -o yaml")
	}
	if unknown := sets.List(used.Difference(namespaces).Delete("")); len(unknown) > 0 {
		notes.line("The dump does not have every Namespace, and says nothing about what is in %s. Add: kubectl get namespaces -o yaml",
			fewOf(unknown))
	}
	d.sayWhichOwnersAreMissing(notes)
}

func (d *dump) hasScheduledPods() bool {
	return slices.ContainsFunc(d.objects, func(object client.Object) bool {
		pod, is := object.(*corev1.Pod)
		return is && pod.Spec.NodeName != ""
	})
}

// sayWhichOwnersAreMissing says of which kinds objects are missing through which Pods lead to their
// workload.
func (d *dump) sayWhichOwnersAreMissing(notes screen) {
	missing := map[string]int{}
	for _, object := range d.objects {
		if _, is := object.(*corev1.Pod); !is {
			continue
		}
		if kind := d.missingAbove(object); kind != "" {
			missing[kind]++
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(missing)) {
		what := "nothing can be decided about these"
		if slices.ContainsFunc(mesh.Kinds, func(above mesh.Kind) bool { return above.Makes == kind }) {
			what = fmt.Sprintf("they stand under the %s and not under what controls it", kind)
		}
		notes.line("The dump does not have every %s: %s of one that is not there, and %s. Add: kubectl get %ss -A -o yaml",
			kind, plural(missing[kind], "Pod is", "Pods are"), what, strings.ToLower(kind))
	}
}

// missingAbove is the kind of the first owner above a Pod that is not in the dump; empty where all are.
func (d *dump) missingAbove(pod client.Object) string {
	object := pod
	for range 2 { // a ReplicaSet or Job, and what controls that
		owner := mesh.OwnerOf(object)
		if !owner.Exists() || !owner.Is().IsRead() {
			return ""
		}
		next, placed := d.owned[owner.UID]
		if !placed {
			return owner.Kind
		}
		object = d.objects[d.placed[next.objectID]]
	}
	return ""
}

// fewOf names the first of several.
func fewOf(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
