package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

const (
	injectionLabel = "istio-injection"
	sidecarLabel   = "sidecar.istio.io/inject"
	restartedAt    = "kubectl.kubernetes.io/restartedAt"
)

// pick is a workload of the fleet as the cluster has it is to be changed.
func (w *world) pick(s step) client.Object {
	return w.fleet.workloads[s.which%len(w.fleet.workloads)].DeepCopyObject().(client.Object)
}

// pickRolling is pick for what changes a template. Where its own controller would not roll that out, users
// delete Pods afterwards, and nobody does here.
func (w *world) pickRolling(s step) client.Object {
	for {
		object := w.pick(s)
		set, isSet := object.(*appsv1.StatefulSet)
		_, isReplicaSet := object.(*appsv1.ReplicaSet)
		if !isReplicaSet && (!isSet || set.Spec.UpdateStrategy.RollingUpdate != nil && *set.Spec.UpdateStrategy.RollingUpdate.Partition == 0) {
			return object
		}
		s.which++
	}
}

func called(object client.Object) string {
	return fmt.Sprintf("%T %s/%s", object, object.GetNamespace(), object.GetName())[len("*v1."):]
}

func (w *world) killOperator(step) (string, error) {
	for _, replica := range w.replicas {
		replica.Crash()
	}
	return "every replica is killed", nil
}

func (w *world) killLeader(step) (string, error) {
	for i, replica := range w.replicas {
		if replica.Leads() {
			replica.Crash()
			return fmt.Sprintf("replica %d, which leads, is killed", i), nil
		}
	}
	return "no replica leads", nil
}

func (w *world) toggleIstiod(step) (string, error) {
	w.istiodStopped = !w.istiodStopped
	if w.istiodStopped {
		return "istiod is stopped", w.StopIstiod(w.t.Context(), cluster.DefaultRevision)
	}
	return "istiod is started", w.StartIstiod(w.t.Context(), cluster.DefaultRevision)
}

func (w *world) toggleFailurePolicy(step) (string, error) {
	w.lettingPass = !w.lettingPass
	policy := admissionregistrationv1.Fail
	if w.lettingPass {
		policy = admissionregistrationv1.Ignore
	}
	return fmt.Sprintf("the injector's failurePolicy is %s", policy), w.SetFailurePolicy(w.t.Context(), policy)
}

func (w *world) restartAPIServer(step) (string, error) {
	return "the API server is restarted", w.RestartAPIServer(w.t.Context())
}

func (w *world) changeNetwork(s step) (string, error) {
	return w.network.become(states[s.which%len(states)], time.Duration(500+s.how%3500)*time.Millisecond), nil
}

// editPolicy changes what a policy wants in one of several ways, or back to what it was. Its budgets
// stay, or it would depend on the moment whether one is broken.
func (w *world) editPolicy(s step) (string, error) {
	wanted := w.fleet.policies[s.which%len(w.fleet.policies)]
	edits := []struct {
		name string
		edit func(*v1alpha1.MeshPolicySpec)
	}{
		{"is as it was", func(*v1alpha1.MeshPolicySpec) {}},
		{"only reports", func(spec *v1alpha1.MeshPolicySpec) { spec.Mode = v1alpha1.ModeReport }},
		{"leaves most workloads out", func(spec *v1alpha1.MeshPolicySpec) {
			spec.WorkloadSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "app-0"}}
		}},
		{"is as it was", func(*v1alpha1.MeshPolicySpec) {}},
		{"accepts no downtime", func(spec *v1alpha1.MeshPolicySpec) { spec.Accept = nil }},
		{"settles for longer", func(spec *v1alpha1.MeshPolicySpec) { spec.SettleSeconds = new(int32(5)) }},
	}
	chosen := edits[s.how%len(edits)]
	return fmt.Sprintf("policy %s %s", wanted.Name, chosen.name), change(w, wanted.DeepCopy(), func(p *v1alpha1.MeshPolicy) {
		p.Spec = *wanted.Spec.DeepCopy()
		chosen.edit(&p.Spec)
	})
}

func (w *world) replacePolicy(s step) (string, error) {
	policy := w.fleet.policies[s.which%len(w.fleet.policies)]
	pause := time.Duration(s.how%2000) * time.Millisecond
	err := w.insist(func(ctx context.Context) error { return gone(w.admin.Delete(ctx, policy.DeepCopy())) })
	if err != nil {
		return "", err
	}
	time.Sleep(pause)
	return fmt.Sprintf("policy %s is deleted, and made again after %s", policy.Name, pause), w.make(policy)
}

// make creates an object, also where an answer was lost.
func (w *world) make(object client.Object) error {
	return w.insist(func(ctx context.Context) error {
		err := w.admin.Create(ctx, object.DeepCopyObject().(client.Object))
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

func (w *world) toggleRedButton(step) (string, error) {
	w.stopped = !w.stopped
	button := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operator.Namespace, Name: v1alpha1.StopConfigMap}}
	if w.stopped {
		return "everything is stopped", w.make(button)
	}
	return "what was stopped goes on", w.insist(func(ctx context.Context) error { return gone(w.admin.Delete(ctx, button)) })
}

func (w *world) rollOut(s step) (string, error) {
	object := w.pickRolling(s)
	return "a user rolls out " + called(object), change(w, object, func(o client.Object) {
		template, _ := taken(o)
		if template.Annotations == nil {
			template.Annotations = map[string]string{}
		}
		template.Annotations[restartedAt] = time.Now().Format(time.RFC3339Nano)
	})
}

func (w *world) scale(s step) (string, error) {
	object, to := w.pick(s), int32(s.how%6)
	if _, is := object.(*appsv1.DaemonSet); is {
		return called(object) + " is not to be scaled", nil
	}
	return fmt.Sprintf("a user scales %s to %d", called(object), to), change(w, object, func(o client.Object) { setReplicas(o, &to) })
}

func setReplicas(object client.Object, to *int32) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = to
	case *appsv1.StatefulSet:
		o.Spec.Replicas = to
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = to
	}
}

func replicasOf(object client.Object) *int32 {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return o.Spec.Replicas
	case *appsv1.StatefulSet:
		return o.Spec.Replicas
	case *appsv1.ReplicaSet:
		return o.Spec.Replicas
	default:
		return nil
	}
}

func (w *world) togglePause(s step) (string, error) {
	object, is := w.pick(s).(*appsv1.Deployment)
	if !is {
		return "what is no Deployment is not to be paused", nil
	}
	return "a user pauses or resumes " + called(object), change(w, object, func(d *appsv1.Deployment) { d.Spec.Paused = !d.Spec.Paused })
}

func (w *world) toggleOptOut(s step) (string, error) {
	object := w.pick(s)
	return "a user opts out or in " + called(object), change(w, object, func(o client.Object) {
		annotations := maps.Clone(o.GetAnnotations())
		if annotations == nil {
			annotations = map[string]string{}
		}
		if _, out := annotations[v1alpha1.RestartAnnotation]; out {
			delete(annotations, v1alpha1.RestartAnnotation)
		} else {
			annotations[v1alpha1.RestartAnnotation] = v1alpha1.RestartDisabled
		}
		o.SetAnnotations(annotations)
	})
}

func (w *world) toggleSidecar(s step) (string, error) {
	object := w.pickRolling(s)
	return "a user asks for a sidecar or for none in " + called(object), change(w, object, func(o client.Object) {
		template, _ := taken(o)
		if _, none := template.Labels[sidecarLabel]; none {
			delete(template.Labels, sidecarLabel)
		} else {
			template.Labels[sidecarLabel] = "false"
		}
	})
}

// evict takes away a Pod as a drain does; it asks the disruption budgets.
func (w *world) evict(s step) (string, error) {
	object := w.pick(s)
	var pods corev1.PodList
	err := w.insist(func(ctx context.Context) error {
		return w.admin.List(ctx, &pods, client.InNamespace(object.GetNamespace()), client.MatchingLabels{"app": object.GetName()})
	})
	if err != nil || len(pods.Items) == 0 {
		return called(object) + " has no Pods to evict", err
	}
	pod := &pods.Items[s.how%len(pods.Items)]
	w.witness.evictsByUser(pod.UID)
	err = w.admin.SubResource("eviction").Create(w.t.Context(), pod, &policyv1.Eviction{})
	return fmt.Sprintf("a user evicts Pod %s/%s: %v", pod.Namespace, pod.Name, err), nil
}

// remake deletes a workload and makes it again from what the cluster had, annotations included, as
// backups do.
func (w *world) remake(s step) (string, error) {
	object := w.pick(s)
	err := w.insist(func(ctx context.Context) error {
		return w.admin.Get(ctx, client.ObjectKeyFromObject(object), object)
	})
	if err != nil {
		return "", err
	}
	again := object.DeepCopyObject().(client.Object)
	// It is made again when its Pods are gone. Kubernetes' garbage collector forgets those of an owner that
	// was gone and back, by name, while the API server could not be watched.
	err = w.insistFor(patience, func(ctx context.Context) error {
		if err := w.admin.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
			return gone(err)
		}
		return errors.New("its Pods are not gone yet")
	})
	if err != nil {
		return "a user deletes " + called(again), err
	}
	again.SetUID("")
	again.SetResourceVersion("")
	again.SetManagedFields(nil)
	again.SetFinalizers(nil)
	return "a user deletes " + called(again) + " and makes it again", w.make(again)
}

// copyAnnotations gives a workload what is written on another and not on itself, template included.
func (w *world) copyAnnotations(s step) (string, error) {
	to, from := w.pickRolling(s), w.pick(step{which: s.how})
	if err := w.insist(func(ctx context.Context) error { return w.admin.Get(ctx, client.ObjectKeyFromObject(from), from) }); err != nil {
		return "", err
	}
	source, _ := taken(from)
	return fmt.Sprintf("a user copies the annotations of %s to %s", called(from), called(to)), change(w, to, func(o client.Object) {
		o.SetAnnotations(filled(o.GetAnnotations(), from.GetAnnotations()))
		template, _ := taken(o)
		template.Annotations = filled(template.Annotations, source.Annotations)
	})
}

// filled is a map with what another has besides.
func filled(own, others map[string]string) map[string]string {
	all := maps.Clone(others)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	return all
}

func (w *world) relabel(s step) (string, error) {
	namespace := w.fleet.namespaces[s.which%len(w.fleet.namespaces)].DeepCopy()
	to := []string{"enabled", "enabled", "disabled", ""}[s.how%4]
	return fmt.Sprintf("namespace %s is labelled %s=%s", namespace.Name, injectionLabel, to), change(w, namespace, func(n *corev1.Namespace) {
		if n.Labels[injectionLabel] = to; to == "" {
			delete(n.Labels, injectionLabel)
		}
	})
}

// toggleNode cordons a node, or lets it be used again. One always is.
func (w *world) toggleNode(s step) (string, error) {
	node := fmt.Sprintf("node-%d", s.which%3)
	w.cordoned[node] = !w.cordoned[node]
	return fmt.Sprintf("node %s is cordoned: %t", node, w.cordoned[node]), w.setCordoned(node, w.cordoned[node])
}

func (w *world) setCordoned(node string, cordoned bool) error {
	return change(w, &corev1.Node{ObjectMeta: named(node)}, func(n *corev1.Node) { n.Spec.Unschedulable = cordoned })
}
