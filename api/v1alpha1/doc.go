// Package v1alpha1 holds the API of Fullmesh: MeshPolicy, with which an administrator says
// which namespaces are to be brought to full mesh and at what risk, and MeshReport, in which
// the operator says how far each namespace is and why the rest is left.
//
// The package is a leaf: it imports Kubernetes' API machinery and nothing of this project.
//
// +kubebuilder:object:generate=true
// +groupName=fullmesh.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "fullmesh.dev", Version: "v1alpha1"}

// AddToScheme registers the types of this package.
var AddToScheme = schemeBuilder.AddToScheme

var schemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &MeshPolicy{}, &MeshPolicyList{}, &MeshReport{}, &MeshReportList{}, &MeshRestart{}, &MeshRestartList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
})
