package mesh_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// The first cases are those of Istio's own test of its CNI agent (cni/pkg/util/podutil_test.go,
// TestEnablementSelectorMatches).
func TestWhatTheCNIAgentCaptures(t *testing.T) {
	const mode = "istio.io/dataplane-mode"
	ambient, none := set{mode: "ambient"}, set{mode: "none"}
	configured := func(data set) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-cni-config"}, Data: data}
	}
	tests := []struct {
		name      string
		config    *corev1.ConfigMap
		namespace mesh.Namespace
		template  mesh.Template
		want      bool
	}{
		{name: "a namespace", namespace: namespace(ambient), want: true},
		{name: "a Pod", namespace: namespace(nil), template: labelled(ambient), want: true},
		{name: "both", namespace: namespace(ambient), template: labelled(ambient), want: true},
		{name: "neither", namespace: namespace(nil)},
		{name: "a Pod that opts out", namespace: namespace(ambient), template: labelled(none)},
		{name: "a Pod in a namespace that opts out", namespace: namespace(none), template: labelled(ambient), want: true},
		{name: "the host's network", namespace: namespace(ambient), template: mesh.Template{HostNetwork: true}},
		{name: "the host's network of a Pod", namespace: namespace(nil), template: mesh.Template{HostNetwork: true, Labels: ambient}},
		{name: "another word", namespace: namespace(ambient), template: labelled(set{mode: "other"}), want: true},
		{name: "kube-system", namespace: mesh.Namespace{Name: "kube-system", Labels: ambient}},
		{name: "beside an injection label", namespace: namespace(set{mode: "ambient", "istio.io/rev": "ghost"}), want: true},
		{
			name: "kube-system where it is not excluded", config: configured(set{"EXCLUDE_NAMESPACES": " other ,,shop"}),
			namespace: mesh.Namespace{Name: "kube-system", Labels: ambient}, want: true,
		},
		{name: "a namespace that is excluded", config: configured(set{"EXCLUDE_NAMESPACES": " other ,,shop"}), namespace: namespace(ambient)},
		{
			name: "other selectors", config: configured(set{"AMBIENT_ENABLEMENT_SELECTOR": "- namespaceSelector: {matchLabels: {team: red}}\n  podSelector: {matchLabels: {app: cart}}"}),
			namespace: namespace(set{"team": "red"}), template: labelled(set{"app": "cart"}), want: true,
		},
		{
			name: "other selectors, for another Pod", config: configured(set{"AMBIENT_ENABLEMENT_SELECTOR": "- namespaceSelector: {matchLabels: {team: red}}\n  podSelector: {matchLabels: {app: cart}}"}),
			namespace: namespace(ambient), template: labelled(set{"app": "cart"}),
		},
		{name: "no selectors", config: configured(set{"AMBIENT_ENABLEMENT_SELECTOR": "[]"}), namespace: namespace(ambient)},
		{name: "selectors that cannot be read", config: configured(set{"AMBIENT_ENABLEMENT_SELECTOR": "["}), namespace: namespace(ambient), want: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var configMaps []*corev1.ConfigMap
			if test.config != nil {
				configMaps = append(configMaps, test.config)
			}
			istio := injector([]*webhookConfiguration{helm()}, configMaps...)
			if got := istio.Expect(test.namespace, test.template); got.Ambient != test.want {
				t.Errorf("captured: %t, want %t", got.Ambient, test.want)
			}
			if changed := !istio.Equal(injector([]*webhookConfiguration{helm()})); changed != (test.config != nil) {
				t.Errorf("another injector: %t", changed)
			}
		})
	}
}

func TestAPodInAnAmbientNamespaceIsNeverMissing(t *testing.T) {
	istio := injector([]*webhookConfiguration{helm()})
	status := set{"sidecar.istio.io/status": `{"containers":["istio-proxy"]}`}
	observe := func(annotations set) mesh.Observation {
		return mesh.Observe(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}})
	}
	for _, template := range []mesh.Template{{}, labelled(set{"sidecar.istio.io/inject": "false"})} {
		expected := istio.Expect(namespace(set{"istio.io/dataplane-mode": "ambient"}), template)
		for _, test := range []struct {
			name     string
			observed mesh.Observation
			want     mesh.Reason
		}{
			{"captured", observe(set{"ambient.istio.io/redirection": "enabled"}), mesh.ReasonInAmbientMesh},
			{"pending", observe(set{"ambient.istio.io/redirection": "pending"}), mesh.ReasonAmbientPending},
			{"not captured", observe(nil), mesh.ReasonAmbientNotCaptured},
			{"not captured for a copied annotation", observe(status), mesh.ReasonAmbientBlocked},
		} {
			got := mesh.Judge(expected, test.observed)
			if got.Finding != v1alpha1.FindingNotExpected || got.Reason != test.want {
				t.Errorf("%s, template %v: got %+v, want %s", test.name, template.Labels, got, test.want)
			}
		}
	}
}
