// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// image does nothing and is on every registry mirror.
const image = "registry.k8s.io/pause:3.10"

// exhibit is one of the shop's workloads, with what is said of it.
type exhibit struct {
	object client.Object
	// remark is why it is there.
	remark string
	// leftAlone says that it must not be restarted.
	leftAlone bool
}

// The workloads that the story names.
const (
	scaled = "web"
	held   = "db"
)

// shop is eight workloads of three kinds.
func shop(namespace string, annotations map[string]string) []exhibit {
	template := func(name string, change ...func(*corev1.PodTemplateSpec)) (metav1.ObjectMeta, *metav1.LabelSelector, corev1.PodTemplateSpec) {
		labels := map[string]string{"app": name}
		built := corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}, Annotations: annotations},
			Spec: corev1.PodSpec{
				Containers:                    []corev1.Container{{Name: "app", Image: image}},
				TerminationGracePeriodSeconds: new(int64(1)),
			},
		}
		for _, change := range change {
			change(&built)
		}
		return metav1.ObjectMeta{Namespace: namespace, Name: name}, &metav1.LabelSelector{MatchLabels: labels}, built
	}
	deployment := func(name string, replicas int32, change ...func(*corev1.PodTemplateSpec)) client.Object {
		meta, selector, template := template(name, change...)
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector, Template: template}}
	}
	statefulSet := func(name string, replicas int32) client.Object {
		meta, selector, template := template(name)
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: selector, ServiceName: name,
			Template: template}}
	}
	daemonSet := func(name string, change ...func(*corev1.PodTemplateSpec)) client.Object {
		meta, selector, template := template(name, change...)
		return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}
	}
	return []exhibit{
		{object: deployment(scaled, 3)},
		{object: deployment("cart", 2)},
		{object: deployment("checkout", 3)},
		{
			object:    deployment("legacy", 2, func(t *corev1.PodTemplateSpec) { t.Labels["sidecar.istio.io/inject"] = "false" }),
			remark:    "opted out: label sidecar.istio.io/inject=false",
			leftAlone: true,
		},
		{object: statefulSet("queue", 3)},
		{object: statefulSet(held, 1), remark: "one replica: a restart is a moment without it"},
		{object: daemonSet("logs")},
		{
			object:    daemonSet("node-agent", func(t *corev1.PodTemplateSpec) { t.Spec.HostNetwork = true }),
			remark:    "hostNetwork: injection never reaches it",
			leftAlone: true,
		},
	}
}

// kindOf is the kind of a workload of the shop.
func kindOf(object client.Object) string {
	switch object.(type) {
	case *appsv1.Deployment:
		return "Deployment"
	case *appsv1.StatefulSet:
		return "StatefulSet"
	default:
		return "DaemonSet"
	}
}

// settled reports how many Pods a workload runs and whether all of them are ready.
func settled(object client.Object) (pods int32, ready bool) {
	switch object := object.(type) {
	case *appsv1.Deployment:
		status := &object.Status
		return *object.Spec.Replicas, status.ObservedGeneration == object.Generation && status.ReadyReplicas == *object.Spec.Replicas &&
			status.Replicas == *object.Spec.Replicas
	case *appsv1.StatefulSet:
		status := &object.Status
		return *object.Spec.Replicas, status.ObservedGeneration == object.Generation && status.ReadyReplicas == *object.Spec.Replicas
	case *appsv1.DaemonSet:
		status := &object.Status
		return status.DesiredNumberScheduled, status.ObservedGeneration == object.Generation && status.DesiredNumberScheduled > 0 &&
			status.NumberReady == status.DesiredNumberScheduled
	default:
		return 0, false
	}
}
