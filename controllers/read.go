package controllers

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// Kinds are those whose objects Read takes in.
func Kinds() []client.Object {
	kinds := append(observed(), &corev1.ConfigMap{}, &corev1.Service{})
	for i := range optionalKinds {
		kinds = append(kinds, optionalKinds[i].object())
	}
	for _, gvk := range alsoDumped {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(gvk)
		kinds = append(kinds, object)
	}
	return kinds
}

// Read takes a cluster's objects, which somebody has read before, into the inventory. It is what
// ReadOnce does with those that it lists, so of ConfigMaps only those of the control plane's
// namespace belong among them. Objects of other kinds change nothing.
func (o *Observer) Read(objects []client.Object) error {
	injectorRead := o.deferInjector()
	defer injectorRead()
	for _, object := range objects {
		cut, err := cutDown(object)
		if err != nil {
			return err
		}
		o.take(cut)
	}
	return nil
}

// ReadOnce reads the whole cluster into the inventory, without watching it: namespaces, webhooks,
// workloads and Pods, and the injector's ConfigMaps and Services in istioNamespace where that is
// allowed.
func (o *Observer) ReadOnce(ctx context.Context, reader client.Reader, istioNamespace string) error {
	injectorRead := o.deferInjector()
	defer injectorRead()
	lists := []client.ObjectList{
		&corev1.NamespaceList{},
		&admissionregistrationv1.MutatingWebhookConfigurationList{},
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{}, &appsv1.ReplicaSetList{},
		&batchv1.JobList{}, &batchv1.CronJobList{},
		&policyv1.PodDisruptionBudgetList{},
		&corev1.NodeList{},
		&corev1.PodList{},
	}
	for _, list := range lists {
		if err := o.readList(ctx, reader, list); err != nil {
			return err
		}
	}
	// Before Fullmesh is installed there are none.
	if err := o.readList(ctx, reader, &v1alpha1.MeshRestartList{}); err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		return err
	}
	if err := o.readOptional(ctx, reader); err != nil {
		return err
	}
	for _, list := range []client.ObjectList{&corev1.ConfigMapList{}, &corev1.ServiceList{}} {
		if err := o.readList(ctx, reader, list, client.InNamespace(istioNamespace)); err != nil && !apierrors.IsForbidden(err) {
			return err
		}
	}
	return nil
}

func (o *Observer) readList(ctx context.Context, reader client.Reader, list client.ObjectList, options ...client.ListOption) error {
	for {
		page := append([]client.ListOption{client.Limit(500), client.Continue(list.GetContinue())}, options...)
		if err := reader.List(ctx, list, page...); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItemWithAlloc(list, func(object runtime.Object) error {
			cut, err := cutDown(object)
			if err != nil {
				return err
			}
			o.take(cut)
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading %T: %w", list, err)
		}
		if list.GetContinue() == "" {
			return nil
		}
	}
}
