// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// What the policy on workloads says.
var (
	specMessage        = "in spec only the template's annotation fullmesh.dev/restarted-by may change"
	templateMessage    = "in the template only the annotation fullmesh.dev/restarted-by may change"
	tAnnotationMessage = "of the template's annotations only fullmesh.dev/restarted-by may be added or changed, and none removed"
	nameMessage        = "the template's annotation fullmesh.dev/restarted-by holds the name of a MeshRestart, and nothing else"
	metaMessage        = "in a workload's metadata nothing may change"
	annotationMessage  = "of a workload's own annotations none may be added, changed or removed"
	restartAtMessage   = "a Rollout's restartAt may only be set to a later time"
	managedMessage     = "what others have applied stays theirs"
)

// patching is an attack by a JSON patch of one operation on a workload.
func patching(object func() client.Object, name, op, path, value, message string) attack {
	operation := fmt.Sprintf(`{"op":%q,"path":%q}`, op, path)
	if value != "" {
		operation = fmt.Sprintf(`{"op":%q,"path":%q,"value":%s}`, op, path, value)
	}
	return attack{
		name: name,
		do: func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, object(), "["+operation+"]")
		},
		want: byPolicy(restartOnly, message),
	}
}

// immutable makes an attack one that the API refuses to everybody.
func immutable(a attack, message string) attack {
	a.want, a.rehearse = byAPI(message), byAPI(message)
	return a
}

// attacksOnWorkloads are on what RBAC lets the operator patch: only the guard stands before them.
func attacksOnWorkloads() []attack {
	web := func() client.Object { return deployment() }
	db := func() client.Object { return statefulSet() }
	agent := func() client.Object { return daemonSet() }
	const (
		spec        = "/spec/template/spec/"
		annotations = "/spec/template/metadata/annotations"
		image       = `"example.com/evil"`
		mount       = `{"name":"data","emptyDir":{}}`
	)
	return []attack{
		patching(web, "another image", "replace", spec+"containers/0/image", image, templateMessage),
		patching(web, "another container", "add", spec+"containers/-", `{"name":"evil","image":"example.com/evil"}`, templateMessage),
		patching(web, "an init container", "add", spec+"initContainers", `[{"name":"evil","image":"example.com/evil"}]`, templateMessage),
		patching(web, "another command", "add", spec+"containers/0/command", `["sh"]`, templateMessage),
		patching(web, "an environment variable", "add", spec+"containers/0/env", `[{"name":"A","value":"b"}]`, templateMessage),
		patching(web, "the node's network", "add", spec+"hostNetwork", "true", templateMessage),
		patching(web, "a path of the node", "add", spec+"volumes", `[{"name":"root","hostPath":{"path":"/"}}]`, templateMessage),
		patching(web, "another ServiceAccount", "add", spec+"serviceAccountName", `"admin"`, templateMessage),
		patching(web, "a privileged container", "add", spec+"containers/0/securityContext", `{"privileged":true}`, templateMessage),
		patching(web, "a node", "add", spec+"nodeName", `"node"`, templateMessage),

		patching(web, "a label on the template", "add", "/spec/template/metadata/labels/sidecar.istio.io~1inject", `"false"`, templateMessage),
		patching(web, "a finalizer on the template", "add", "/spec/template/metadata/finalizers/-", `"example.com/forever"`, templateMessage),
		patching(web, "the finalizers of the template removed", "remove", "/spec/template/metadata/finalizers", "", templateMessage),
		patching(web, "a foreign annotation on the template", "add", annotations+"/sidecar.istio.io~1proxyImage", image, tAnnotationMessage),
		patching(web, "a foreign annotation of the template changed", "replace", annotations+"/prometheus.io~1scrape", `"false"`, tAnnotationMessage),
		patching(web, "a foreign annotation of the template removed", "remove", annotations+"/prometheus.io~1scrape", "", tAnnotationMessage),
		patching(web, "every annotation of the template removed", "remove", annotations, "", tAnnotationMessage),
		patching(web, "the owner's word on the template", "add", annotations+"/fullmesh.dev~1restart", `"disabled"`, tAnnotationMessage),
		patching(web, "another annotation of ours on the template", "add", annotations+"/fullmesh.dev~1accept", `"Downtime"`, tAnnotationMessage),
		patching(web, "a look-alike on the template", "add", annotations+"/fullmesh.dev~1restarted-by.x", `"x"`, tAnnotationMessage),
		patching(agent, "the first annotation of a template", "add", annotations, `{"sidecar.istio.io/proxyImage":"example.com/evil"}`, tAnnotationMessage),
		patching(db, "a foreign annotation beside the restart", "add", annotations,
			`{"fullmesh.dev/restarted-by":"x","sidecar.istio.io/inject":"true"}`, tAnnotationMessage),

		patching(web, "a restart taken back", "remove", annotations+"/fullmesh.dev~1restarted-by", "", tAnnotationMessage),
		patching(web, "a restart by nobody", "add", annotations+"/fullmesh.dev~1restarted-by", `""`, nameMessage),
		patching(web, "a restart by what cannot be a name", "add", annotations+"/fullmesh.dev~1restarted-by", `"Evil!"`, nameMessage),
		patching(web, "a restart by two lines", "add", annotations+"/fullmesh.dev~1restarted-by", `"evil\nevil"`, nameMessage),
		patching(web, "a restart by too long a name", "add", annotations+"/fullmesh.dev~1restarted-by",
			`"`+strings.Repeat("a", v1alpha1.MaxRestartName+1)+`"`, nameMessage),

		patching(web, "a label", "add", "/metadata/labels/evil", `"true"`, metaMessage),
		patching(web, "a label changed", "replace", "/metadata/labels/team", `"cart"`, metaMessage),
		patching(web, "the labels removed", "remove", "/metadata/labels", "", metaMessage),
		patching(web, "another owner", "add", "/metadata/ownerReferences/-", `{"apiVersion":"example.com/v1","kind":"App","name":"evil","uid":"1b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d"}`, metaMessage),
		patching(web, "no owner", "remove", "/metadata/ownerReferences", "", metaMessage),
		patching(web, "a finalizer", "add", "/metadata/finalizers/-", `"example.com/forever"`, metaMessage),
		patching(web, "no finalizer", "remove", "/metadata/finalizers", "", metaMessage),
		patching(web, "a foreign annotation", "add", "/metadata/annotations/argocd.argoproj.io~1sync-options", `"Prune=false"`, annotationMessage),
		patching(web, "a foreign annotation changed", "replace", "/metadata/annotations/owner", `"evil"`, annotationMessage),
		patching(web, "a foreign annotation removed", "remove", "/metadata/annotations/owner", "", annotationMessage),
		patching(web, "every annotation removed", "remove", "/metadata/annotations", "", annotationMessage),
		patching(web, "the owner's word taken back", "remove", "/metadata/annotations/fullmesh.dev~1restart", "", annotationMessage),
		patching(web, "a risk accepted in the owner's name", "add", "/metadata/annotations/fullmesh.dev~1accept", `"Downtime"`, annotationMessage),
		patching(web, "a restart in the wrong place", "add", "/metadata/annotations/fullmesh.dev~1restarted-by", `"x"`, annotationMessage),
		patching(web, "a record on the workload", "add", "/metadata/annotations/fullmesh.dev~1last-restart", `"{}"`, annotationMessage),
		patching(agent, "the first annotation", "add", "/metadata/annotations/evil", `"true"`, annotationMessage),

		patching(web, "fewer replicas", "replace", "/spec/replicas", "0", specMessage),
		patching(web, "a paused Deployment", "add", "/spec/paused", "true", specMessage),
		patching(web, "another strategy", "replace", "/spec/strategy", `{"type":"Recreate"}`, specMessage),
		patching(web, "minReadySeconds", "add", "/spec/minReadySeconds", "60", specMessage),
		patching(web, "another history", "replace", "/spec/revisionHistoryLimit", "0", specMessage),
		patching(web, "another deadline", "replace", "/spec/progressDeadlineSeconds", "1000", specMessage),
		immutable(patching(web, "another selector", "add", "/spec/selector/matchLabels/evil", `"true"`, ""), "field is immutable"),

		patching(db, "another image of a StatefulSet", "replace", spec+"containers/0/image", image, templateMessage),
		patching(db, "fewer replicas of a StatefulSet", "replace", "/spec/replicas", "0", specMessage),
		patching(db, "a partition", "add", "/spec/updateStrategy/rollingUpdate/partition", "3", specMessage),
		patching(db, "claims deleted with the StatefulSet", "replace", "/spec/persistentVolumeClaimRetentionPolicy", `{"whenDeleted":"Delete","whenScaled":"Delete"}`, specMessage),
		patching(db, "another volume of a StatefulSet", "add", spec+"volumes", "["+mount+"]", templateMessage),
		immutable(patching(db, "another claim", "replace", "/spec/volumeClaimTemplates/0/metadata/name", `"evil"`, ""), "field is immutable"),
		immutable(patching(db, "another Pod management", "replace", "/spec/podManagementPolicy", `"Parallel"`, ""), "field is immutable"),

		patching(agent, "another image of a DaemonSet", "replace", spec+"containers/0/image", image, templateMessage),
		patching(agent, "other nodes", "add", spec+"nodeSelector", `{"evil":"true"}`, templateMessage),
		patching(agent, "another strategy of a DaemonSet", "replace", "/spec/updateStrategy", `{"type":"OnDelete"}`, specMessage),
		patching(agent, "a label on a DaemonSet", "add", "/metadata/labels/evil", `"true"`, metaMessage),

		{name: "a Pod evicted by its name alone", do: evicting(nil), want: byPolicy(evictOnly, evictionMessage)},
		{name: "a Pod evicted at a version", do: evicting(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: new("1")}}), want: byPolicy(evictOnly, evictionMessage), rehearse: isStale},
		{name: "a Pod killed at once", do: evicting(&metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: new(types.UID("x"))}}),
			want: byPolicy(evictOnly, evictionMessage), rehearse: isStale},
		{name: "what belongs to a Pod orphaned", do: evicting(&metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan), Preconditions: &metav1.Preconditions{UID: new(types.UID("x"))}}),
			want: byPolicy(evictOnly, evictionMessage), rehearse: isStale},

		{
			name: "another image beside the restart",
			do: func(ctx context.Context, c caller) error {
				return jsonPatch(ctx, c, web(), `[
					{"op":"add","path":"/spec/template/metadata/annotations/fullmesh.dev~1restarted-by","value":"x"},
					{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"example.com/evil"}]`)
			},
			want: byPolicy(restartOnly, templateMessage),
		}, {
			name: "another image by merge patch",
			do: func(ctx context.Context, c caller) error {
				return c.Patch(ctx, web(), client.RawPatch(types.StrategicMergePatchType,
					[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"example.com/evil"}]}}}}`)))
			},
			want: byPolicy(restartOnly, templateMessage),
		}, {
			name: "fewer replicas by apply",
			do: func(ctx context.Context, c caller) error {
				return apply(ctx, c, map[string]any{"replicas": int64(0)})
			},
			want: byPolicy(restartOnly, specMessage),
		}, {
			name: "another image, as a dry-run",
			do: func(ctx context.Context, c caller) error {
				return jsonPatch(ctx, c, web(), `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"example.com/evil"}]`, client.DryRunAll)
			},
			want: byPolicy(restartOnly, templateMessage),
		}, {
			name: "a Pod for real",
			do:   func(ctx context.Context, c caller) error { return c.Create(ctx, pod("evil")) },
			want: byPolicy(podsDryRunOnly, "Pods may be created with dryRun only"),
		},
	}
}

// attacksOnRollouts are made on one that was restarted before.
func attacksOnRollouts() []attack {
	canary := func() client.Object { return rollout() }
	return []attack{
		patching(canary, "another image of a Rollout", "replace", "/spec/template/spec/containers/0/image", `"example.com/evil"`, specMessage),
		patching(canary, "no template of a Rollout", "remove", "/spec/template", "", specMessage),
		patching(canary, "a restart on a Rollout's template, which would start an update", "add", "/spec/template/metadata",
			`{"annotations":{"fullmesh.dev/restarted-by":"x"}}`, specMessage),
		patching(canary, "an annotation on a Rollout's template", "add", "/spec/template/metadata", `{"annotations":{"sidecar.istio.io/proxyImage":"example.com/evil"}}`, specMessage),
		patching(canary, "a Rollout paused", "add", "/spec/paused", "true", specMessage),
		patching(canary, "a Rollout's replicas", "replace", "/spec/replicas", "0", specMessage),
		patching(canary, "a Rollout's replicas removed", "remove", "/spec/replicas", "", specMessage),
		patching(canary, "another strategy of a Rollout", "add", "/spec/strategy", `{"canary":{"maxUnavailable":"100%"}}`, specMessage),
		patching(canary, "another template by reference", "add", "/spec/workloadRef", `{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}`, specMessage),
		patching(canary, "an earlier restart of a Rollout", "replace", "/spec/restartAt", `"2026-01-02T03:04:04Z"`, restartAtMessage),
		patching(canary, "an earlier restart of a Rollout, written as of another zone", "replace", "/spec/restartAt", `"2026-01-02T09:04:04+06:00"`, restartAtMessage),
		patching(canary, "no restart of a Rollout", "remove", "/spec/restartAt", "", restartAtMessage),
		patching(canary, "a label on a Rollout", "add", "/metadata/labels", `{"evil":"true"}`, metaMessage),
		patching(canary, "a finalizer on a Rollout", "add", "/metadata/finalizers", `["example.com/forever"]`, metaMessage),
		patching(canary, "an annotation on a Rollout", "add", "/metadata/annotations", `{"evil":"true"}`, annotationMessage),
		patching(canary, "what others applied to a Rollout made nobody's", "add", "/metadata/managedFields", `[{}]`, managedMessage),
	}
}

// What the policy on Pods says.
const (
	podMessage      = "of Pods only the eviction may be asked for"
	evictionMessage = "an eviction must name the Pod's UID, and may set nothing else"
)

func evict(ctx context.Context, c caller, options *metav1.DeleteOptions) error {
	return c.SubResource("eviction").Create(ctx, pod("web-0"), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-0"}, DeleteOptions: options,
	})
}

func evicting(options *metav1.DeleteOptions) func(context.Context, caller) error {
	return func(ctx context.Context, c caller) error { return evict(ctx, c, options) }
}

// isStale is the refusal of a request about another Pod than the one that there is.
func isStale(err error) error { return refused(err, apierrors.IsConflict, "") }

// apply applies a spec for the Deployment server-side.
func apply(ctx context.Context, c caller, spec map[string]any) error {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("apps/v1")
	object.SetKind("Deployment")
	object.SetNamespace(shop)
	object.SetName("web")
	object.Object["spec"] = spec
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("fullmesh"), client.ForceOwnership)
}

// attacksOnRoles are refused because no role allows them.
func attacksOnRoles() []attack {
	inShop := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: shop, Name: name} }
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	patch := func(object client.Object) func(context.Context, caller) error {
		return func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, object, `[{"op":"add","path":"/metadata/labels","value":{"evil":"true"}}]`)
		}
	}
	create := func(object client.Object) func(context.Context, caller) error {
		return func(ctx context.Context, c caller) error {
			return c.Create(ctx, object.DeepCopyObject().(client.Object))
		}
	}
	del := func(object client.Object) func(context.Context, caller) error {
		return func(ctx context.Context, c caller) error { return c.Delete(ctx, object) }
	}
	get := func(object client.Object) func(context.Context, caller) error {
		return func(ctx context.Context, c caller) error {
			return c.Get(ctx, client.ObjectKeyFromObject(object), object)
		}
	}
	list := func(list client.ObjectList, options ...client.ListOption) func(context.Context, caller) error {
		return func(ctx context.Context, c caller) error { return c.List(ctx, list, options...) }
	}
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: operatorNamespace, Name: "fullmesh"}}
	admin := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}
	another := func() *appsv1.Deployment {
		d := deployment()
		d.Name = "evil"
		return d
	}

	return []attack{
		// Secrets and settings.
		{name: "a Secret", do: get(&corev1.Secret{ObjectMeta: inShop("password")}), want: byRBAC("get", "secrets")},
		{name: "the Secrets of a namespace", do: list(&corev1.SecretList{}, client.InNamespace(shop)), want: byRBAC("list", "secrets")},
		{name: "every Secret", do: list(&corev1.SecretList{}), want: byRBAC("list", "secrets")},
		{name: "the Secrets beside the operator", do: list(&corev1.SecretList{}, client.InNamespace(operatorNamespace)), want: byRBAC("list", "secrets")},
		{name: "the Secrets of Istio", do: list(&corev1.SecretList{}, client.InNamespace(injectorNamespace)), want: byRBAC("list", "secrets")},
		{name: "a ConfigMap of somebody", do: get(&corev1.ConfigMap{ObjectMeta: inShop("settings")}), want: byRBAC("get", "configmaps")},
		{name: "every ConfigMap", do: list(&corev1.ConfigMapList{}), want: byRBAC("list", "configmaps")},
		{name: "the Events of a namespace", do: list(&corev1.EventList{}, client.InNamespace(shop)), want: byRBAC("list", "events")},
		{name: "the injector's settings changed", do: patch(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: injectorNamespace, Name: "istio-sidecar-injector"}}), want: byRBAC("patch", "configmaps")},
		{name: "the red button released", do: del(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.StopConfigMap}}), want: byRBAC("delete", "configmaps")},

		// Pods.
		{name: "a Pod deleted", do: del(pod("web-0")), want: byRBAC("delete", "pods")},
		{name: "all Pods deleted", do: func(ctx context.Context, c caller) error {
			return c.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(shop))
		}, want: byRBAC("deletecollection", "pods")},
		{name: "a Pod patched", do: patch(pod("web-0")), want: byRBAC("patch", "pods")},
		{name: "a command in a Pod", do: connect("exec"), want: byRBAC("create", "pods/exec"), rehearse: hasNoNode},
		{name: "attaching to a Pod", do: connect("attach"), want: byRBAC("create", "pods/attach"), rehearse: hasNoNode},
		{name: "a port of a Pod", do: connect("portforward"), want: byRBAC("create", "pods/portforward"), rehearse: hasNoNode},
		{name: "a debug container in a Pod", do: func(ctx context.Context, c caller) error {
			return c.SubResource("ephemeralcontainers").Patch(ctx, pod("web-0"), client.RawPatch(types.StrategicMergePatchType,
				[]byte(`{"spec":{"ephemeralContainers":[{"name":"evil","image":"example.com/evil"}]}}`)))
		}, want: byRBAC("patch", "pods/ephemeralcontainers")},
		{name: "a Pod's log", do: func(ctx context.Context, c caller) error {
			return c.kube.CoreV1().Pods(shop).GetLogs("web-0", &corev1.PodLogOptions{}).Do(ctx).Error()
		}, want: byRBAC("get", "pods/log")},
		{name: "a Pod bound to a node", do: func(ctx context.Context, c caller) error {
			return c.kube.CoreV1().Pods(shop).Bind(ctx, &corev1.Binding{
				ObjectMeta: inShop("web-0"), Target: corev1.ObjectReference{Kind: "Node", Name: "node"},
			}, metav1.CreateOptions{DryRun: c.dryRun})
		}, want: byRBAC("create", "pods/binding")},

		// Workloads, beyond the patch that the guard holds.
		{name: "a Deployment created", do: create(another()), want: byRBAC("create", "deployments")},
		{name: "a Deployment deleted", do: del(deployment()), want: byRBAC("delete", "deployments")},
		{name: "a StatefulSet deleted", do: del(statefulSet()), want: byRBAC("delete", "statefulsets")},
		{name: "all DaemonSets deleted", do: func(ctx context.Context, c caller) error {
			return c.DeleteAllOf(ctx, &appsv1.DaemonSet{}, client.InNamespace(shop))
		}, want: byRBAC("deletecollection", "daemonsets")},
		{name: "a Deployment replaced", do: update, want: byRBAC("update", "deployments")},
		{name: "a Deployment scaled", do: scale(deployment()), want: byRBAC("patch", "deployments/scale")},
		{name: "a StatefulSet scaled", do: scale(statefulSet()), want: byRBAC("patch", "statefulsets/scale")},
		{name: "a Deployment's status", do: status(deployment()), want: byRBAC("patch", "deployments/status")},
		{name: "a Rollout's status", do: status(rollout()), want: byRBAC("patch", "rollouts/status")},
		{name: "a Rollout scaled", do: scale(rollout()), want: byRBAC("patch", "rollouts/scale")},
		{name: "a Rollout deleted", do: del(rollout()), want: byRBAC("delete", "rollouts")},
		{name: "a Rollout replaced", do: func(ctx context.Context, c caller) error {
			object := rollout()
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			return c.Update(ctx, object)
		}, want: byRBAC("update", "rollouts")},
		{name: "the definition of Rollouts", do: patch(definition()), want: byRBAC("patch", "customresourcedefinitions")},
		{name: "every definition", do: list(definitions()), want: byRBAC("list", "customresourcedefinitions")},
		{name: "a ReplicaSet patched", do: patch(replicaSet()), want: byRBAC("patch", "replicasets")},
		{name: "a ReplicaSet scaled", do: scale(replicaSet()), want: byRBAC("patch", "replicasets/scale")},
		{name: "a ReplicaSet deleted", do: del(replicaSet()), want: byRBAC("delete", "replicasets")},
		{name: "a Job", do: create(&batchv1.Job{ObjectMeta: inShop("evil"), Spec: batchv1.JobSpec{Template: jobTemplate()}}), want: byRBAC("create", "jobs")},
		{name: "a disruption budget deleted", do: del(&policyv1.PodDisruptionBudget{ObjectMeta: inShop("web")}), want: byRBAC("delete", "poddisruptionbudgets")},

		// The ledger, beyond its status.
		{name: "a MeshRestart patched", do: patch(meshRestart(shop, "deployment-web-1")), want: byRBAC("patch", "meshrestarts"),
			rehearse: byPolicy(ledgerOnly, labelsMessage)},
		{name: "a MeshRestart replaced", do: func(ctx context.Context, c caller) error {
			object := meshRestart(shop, "deployment-web-1")
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			return c.Update(ctx, object)
		}, want: byRBAC("update", "meshrestarts")},
		{name: "all MeshRestarts deleted", do: func(ctx context.Context, c caller) error {
			return c.DeleteAllOf(ctx, &v1alpha1.MeshRestart{}, client.InNamespace(shop))
		}, want: byRBAC("deletecollection", "meshrestarts")},

		// What decides.
		{name: "a policy's spec", do: func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, meshPolicy(), `[{"op":"add","path":"/spec","value":{"mode":"Enforce","namespaceSelector":{}}}]`)
		}, want: byRBAC("patch", "meshpolicies")},
		{name: "a policy created", do: create(&v1alpha1.MeshPolicy{ObjectMeta: named("evil"), Spec: v1alpha1.MeshPolicySpec{Mode: v1alpha1.ModeReport}}), want: byRBAC("create", "meshpolicies")},
		{name: "a policy deleted", do: del(meshPolicy()), want: byRBAC("delete", "meshpolicies")},
		{name: "a namespace's labels", do: patch(&corev1.Namespace{ObjectMeta: named(shop)}), want: byRBAC("patch", "namespaces")},
		{name: "a namespace deleted", do: del(&corev1.Namespace{ObjectMeta: named(shop)}), want: byRBAC("delete", "namespaces")},
		{name: "the injector's webhook", do: patch(webhookConfiguration()), want: byRBAC("patch", "mutatingwebhookconfigurations")},
		{name: "a webhook created", do: create(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: named("evil")}), want: byRBAC("create", "mutatingwebhookconfigurations")},
		{name: "a node", do: patch(&corev1.Node{ObjectMeta: named("node")}), want: byRBAC("patch", "nodes")},
		{name: "a lease elsewhere", do: create(&coordinationv1.Lease{ObjectMeta: inShop("evil")}), want: byRBAC("create", "leases")},

		// More rights.
		{name: "the guard's policy deleted", do: del(&admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: named(restartOnly)}), want: byRBAC("delete", "validatingadmissionpolicies")},
		{name: "the guard's policy patched", do: patch(&admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: named(restartOnly)}), want: byRBAC("patch", "validatingadmissionpolicies")},
		{name: "the guard's binding deleted", do: del(&admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: named(restartOnly)}), want: byRBAC("delete", "validatingadmissionpolicybindings")},
		{name: "a role's binding in a namespace", do: create(&rbacv1.RoleBinding{ObjectMeta: inShop("evil"), RoleRef: admin, Subjects: subject}), want: byRBAC("create", "rolebindings")},
		{name: "a role's binding in the cluster", do: create(&rbacv1.ClusterRoleBinding{ObjectMeta: named("evil"), RoleRef: admin, Subjects: subject}), want: byRBAC("create", "clusterrolebindings")},
		{name: "its own role", do: patch(&rbacv1.ClusterRole{ObjectMeta: named("fullmesh")}), want: byRBAC("patch", "clusterroles")},
		{name: "a token of another account", do: func(ctx context.Context, c caller) error {
			_, err := c.kube.CoreV1().ServiceAccounts(shop).CreateToken(ctx, "default",
				&authenticationv1.TokenRequest{}, metav1.CreateOptions{DryRun: c.dryRun})
			return err
		}, want: byRBAC("create", "serviceaccounts/token")},
		{name: "a token of its own account", do: func(ctx context.Context, c caller) error {
			_, err := c.kube.CoreV1().ServiceAccounts(operatorNamespace).CreateToken(ctx, "fullmesh",
				&authenticationv1.TokenRequest{}, metav1.CreateOptions{DryRun: c.dryRun})
			return err
		}, want: byRBAC("create", "serviceaccounts/token")},
		{name: "being somebody else", do: impersonate(rest.ImpersonationConfig{UserName: "somebody"}), want: cannotImpersonate, rehearse: mayNothing},
		{name: "being an administrator", do: impersonate(rest.ImpersonationConfig{UserName: "somebody", Groups: []string{"system:masters"}}), want: cannotImpersonate},
		{name: "the roles of the cluster", do: list(&rbacv1.ClusterRoleList{}), want: byRBAC("list", "clusterroles")},
	}
}

// attacksWithMoreRights are refused by the policies where a role that is too wide allows them.
func attacksWithMoreRights() []attack {
	const message = "subresources of workloads, such as scale and status, may not be written"
	old := func() client.Object { return replicaSet() }
	return []attack{
		patching(old, "another image of a ReplicaSet", "replace", "/spec/template/spec/containers/0/image", `"example.com/evil"`, specMessage),
		patching(old, "a restart of a ReplicaSet, which would restart nothing", "add", "/spec/template/metadata/annotations",
			`{"fullmesh.dev/restarted-by":"x"}`, specMessage),
		patching(old, "fewer replicas of a ReplicaSet", "replace", "/spec/replicas", "0", specMessage),
		patching(old, "an owner of a ReplicaSet", "add", "/metadata/ownerReferences",
			`[{"apiVersion":"example.com/v1","kind":"App","name":"evil","uid":"1b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d"}]`, metaMessage),
		patching(old, "an annotation of a ReplicaSet", "add", "/metadata/annotations/evil", `"true"`, annotationMessage),
		{name: "a Deployment replaced", do: update, want: byPolicy(restartOnly, specMessage)},
		{name: "a Deployment scaled", do: scale(deployment()), want: byPolicy(noSubresources, message)},
		{name: "a StatefulSet scaled", do: scale(statefulSet()), want: byPolicy(noSubresources, message)},
		{name: "a Deployment's status", do: status(deployment()), want: byPolicy(noSubresources, message)},
		{name: "a DaemonSet's status", do: status(daemonSet()), want: byPolicy(noSubresources, message)},
		{name: "a Rollout's status", do: status(rollout()), want: byPolicy(noSubresources, message)},
		{name: "a Rollout scaled", do: scale(rollout()), want: byPolicy(noSubresources, message)},
		{name: "a ReplicaSet scaled", do: scale(replicaSet()), want: byPolicy(noSubresources, message)},
		{name: "a Pod deleted", do: func(ctx context.Context, c caller) error { return c.Delete(ctx, pod("web-0")) }, want: byPolicy(evictOnly, podMessage)},
		{name: "all Pods deleted", do: func(ctx context.Context, c caller) error {
			return c.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(shop))
		}, want: byPolicy(evictOnly, podMessage)},
		{name: "a Pod patched", do: func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, pod("web-0"), `[{"op":"add","path":"/metadata/labels/evil","value":"true"}]`)
		}, want: byPolicy(evictOnly, podMessage)},
		{name: "a Pod bound to a node", do: func(ctx context.Context, c caller) error {
			return c.kube.CoreV1().Pods(shop).Bind(ctx, &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-0"}, Target: corev1.ObjectReference{Kind: "Node", Name: "node"},
			}, metav1.CreateOptions{DryRun: c.dryRun})
		}, want: byPolicy(evictOnly, podMessage)},
		{name: "a command in a Pod", do: connect("exec"), want: byPolicy(evictOnly, podMessage), rehearse: hasNoNode},
	}
}

func definition() client.Object {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("apiextensions.k8s.io/v1")
	object.SetKind("CustomResourceDefinition")
	object.SetName("rollouts.argoproj.io")
	return object
}

func definitions() client.ObjectList {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("apiextensions.k8s.io/v1")
	list.SetKind("CustomResourceDefinitionList")
	return list
}

func update(ctx context.Context, c caller) error {
	wrong := deployment()
	if err := c.Get(ctx, client.ObjectKeyFromObject(wrong), wrong); err != nil {
		return err
	}
	wrong.Spec.Replicas = new(int32(0))
	return c.Update(ctx, wrong)
}

func scale(object client.Object) func(context.Context, caller) error {
	return func(ctx context.Context, c caller) error {
		return c.SubResource("scale").Patch(ctx, object.DeepCopyObject().(client.Object),
			client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`)),
			client.WithSubResourceBody(&autoscalingv1.Scale{}))
	}
}

func status(object client.Object) func(context.Context, caller) error {
	return func(ctx context.Context, c caller) error {
		return c.Status().Patch(ctx, object.DeepCopyObject().(client.Object),
			client.RawPatch(types.MergePatchType, []byte(`{"status":{"conditions":[]}}`)))
	}
}

// connect asks for a connection into a Pod.
func connect(subresource string) func(context.Context, caller) error {
	return func(ctx context.Context, c caller) error {
		return c.kube.CoreV1().RESTClient().Post().Namespace(shop).Resource("pods").Name("web-0").
			SubResource(subresource).Param("command", "sh").Param("stdout", "true").Do(ctx).Error()
	}
}

// hasNoNode is as far as a connection gets where there are no nodes.
func hasNoNode(err error) error {
	return refused(err, apierrors.IsBadRequest, "does not have a host assigned")
}

// impersonate lists Secrets in somebody else's name.
func impersonate(who rest.ImpersonationConfig) func(context.Context, caller) error {
	return func(ctx context.Context, c caller) error {
		config := rest.CopyConfig(c.config)
		config.Impersonate = who
		kube, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		_, err = kube.CoreV1().Secrets(shop).List(ctx, metav1.ListOptions{})
		return err
	}
}

// cannotImpersonate is what RBAC says; how it goes on depends on the version of Kubernetes.
func cannotImpersonate(err error) error {
	return refused(err, apierrors.IsForbidden, fmt.Sprintf("User %q cannot impersonate", account))
}

// mayNothing is what somebody without any role hears.
func mayNothing(err error) error {
	return refused(err, apierrors.IsForbidden, `User "somebody" cannot list resource "secrets"`)
}

func jobTemplate() corev1.PodTemplateSpec {
	template := template("evil", nil)
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return template
}
