package mesh_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Selectors of a webhook are evaluated as the library of Kubernetes does, and those that it does not
// understand leave nothing out, which is said.
func FuzzSelectors(f *testing.F) {
	for _, selector := range []string{
		`{}`, `null`, `{"matchLabels":{"a":"b"}}`, `{"matchLabels":{"istio.io/deactivated":"never-match"}}`,
		`{"matchExpressions":[{"key":"a","operator":"In","values":["b","c"]}]}`,
		`{"matchExpressions":[{"key":"a","operator":"NotIn","values":["b"]},{"key":"kubernetes.io/metadata.name","operator":"Exists"}]}`,
		`{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}`, `{"matchExpressions":[{"key":"a","operator":"Wish"}]}`,
		`{"matchExpressions":[{"key":"","operator":"In","values":[]}]}`, `{"matchLabels":{"a b":"c d"}}`,
	} {
		f.Add(selector, `{}`, "b", "")
		f.Add(`{}`, selector, "", "b")
		f.Add(selector, selector, "c", "c")
	}
	f.Fuzz(func(t *testing.T, namespaces, objects, namespaceLabel, podLabel string) {
		read := func(text string) *metav1.LabelSelector {
			selector := &metav1.LabelSelector{}
			if json.Unmarshal([]byte(text), selector) != nil {
				t.Skip()
			}
			return selector
		}
		ofNamespaces, ofObjects := read(namespaces), read(objects)
		istio := injector([]*webhookConfiguration{configuration("istio-sidecar-injector", "default", webhook("", ofNamespaces, ofObjects))})
		got := istio.Expect(namespace(set{"a": namespaceLabel}), labelled(set{"a": podLabel}))

		matches := func(selector *metav1.LabelSelector, of set) (matches, readable bool) {
			compiled, err := metav1.LabelSelectorAsSelector(selector)
			return err != nil || compiled.Matches(labels.Set(of)), err == nil
		}
		namespaceMatches, namespaceRead := matches(ofNamespaces, set{"a": namespaceLabel, "kubernetes.io/metadata.name": "shop"})
		podMatches, podRead := matches(ofObjects, set{"a": podLabel})
		switch {
		case !namespaceMatches || !podMatches:
			if got.Inject {
				t.Errorf("not selected, yet %+v", got)
			}
		case !got.Inject:
			t.Errorf("selected, yet %+v", got)
		case strings.Contains(got.Assumed, "cannot be evaluated") != (!namespaceRead || !podRead):
			t.Errorf("readable: %t and %t, yet %+v", namespaceRead, podRead, got)
		}
	})
}

// Whatever a template's annotations, the answer is complete, and says of the image nothing that
// cannot be compared.
func FuzzTemplate(f *testing.F) {
	for _, values := range []string{"global: {hub: h, tag: 1.27.0}", "global: {tag: 1.5, variant: debug}", "global: {tag: [1]}", "global: 7", ""} {
		f.Add(values, "inject.istio.io/templates", "sidecar", "auto", "true")
		f.Add(values, "sidecar.istio.io/proxyImage", "a/b:c@d", "", "True")
		f.Add(values, "sidecar.istio.io/proxyImageType", "distroless", "x:y", "")
		f.Add(values, "proxy.istio.io/config", "image: {imageType: debug}", "auto", "false")
		f.Add(values, "proxy.istio.io/config", "image: [", "", "")
		f.Add(values, "sidecar.istio.io/status", `{"containers":["istio-proxy"]}`, "x", "")
		f.Add(values, "traffic.sidecar.istio.io/excludeInboundPorts", "80,,", "", "")
		f.Add(values, "sidecar.istio.io/proxyCPU", "1e9999999", "", "")
	}
	f.Fuzz(func(t *testing.T, values, key, value, image, inject string) {
		configMap := settings("istio-sidecar-injector", known)
		configMap.Data["values"] = values
		istio := injector(everyPod(), configMap)
		template := mesh.Template{
			Labels: set{"sidecar.istio.io/inject": inject}, Annotations: set{key: value},
			Spec: &corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
		}
		if image != "" {
			template.Spec.Containers = append(template.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: image})
		}
		got := istio.Expect(namespace(nil), template)
		switch {
		case got.Reason == "" || got.Message == "" || got.Inject != (got.Reason == mesh.ReasonExpected):
			t.Errorf("incomplete or contradictory: %+v", got)
		case !got.Inject && got.Image != "":
			t.Errorf("no sidecar, yet an image: %+v", got)
		case inject == "false" && got.Inject:
			t.Errorf("an opt-out always counts: %+v", got)
		}
		observed := mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: got.Revision, Image: got.Image}
		if judgement := mesh.Judge(got, observed); got.Inject && judgement.Finding != v1alpha1.FindingMeshed {
			t.Errorf("what is expected is found, yet %+v", judgement)
		}
		for _, note := range got.Notes {
			if !strings.HasSuffix(note.Message, ".") {
				t.Errorf("note %q is no sentence", note.Message)
			}
		}
	})
}

// The CNI agent's configuration may hold anything; what decides with the defaults goes on deciding
// where it cannot be read.
func FuzzCNIConfig(f *testing.F) {
	for _, selectors := range []string{
		"", "[]", "[", "null", "- podSelector: {matchLabels: {a: b}}", "- namespaceSelector: {matchExpressions: [{key: a, operator: Wish}]}",
		"- {}", "- podSelector: null\n  namespaceSelector: {matchLabels: {a: b}}", "- 7", "a: b",
	} {
		f.Add(selectors, "kube-system", "ambient", "b")
		f.Add(selectors, " , ,shop", "none", "")
	}
	f.Fuzz(func(t *testing.T, selectors, excluded, mode, value string) {
		configMap := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-cni-config"},
			Data:       set{"AMBIENT_ENABLEMENT_SELECTOR": selectors, "EXCLUDE_NAMESPACES": excluded},
		}
		istio := injector(nil, configMap)
		template := labelled(set{"istio.io/dataplane-mode": mode, "a": value})
		got := istio.Expect(namespace(set{"a": value}), template)
		if got.Ambient && strings.TrimSpace(excluded) == "shop" {
			t.Error("an excluded namespace is captured")
		}
		template.HostNetwork = true
		if istio.Expect(namespace(set{"a": value}), template).Ambient {
			t.Error("a Pod of the host's network is captured")
		}
		if !istio.Equal(injector(nil, configMap)) {
			t.Error("the same configuration differs")
		}
	})
}

// What a Pod's labels ask for survives being kept: with the template's own, nothing differs.
func FuzzLiveLabels(f *testing.F) {
	f.Add("true", "prod", "ambient", "x")
	f.Add("", "", "", "")
	f.Add("a=b", "c\nd", "\n", "=")
	istio := injector([]*webhookConfiguration{helm(), revisioned("canary"), tagged("prod", "canary")})
	f.Fuzz(func(t *testing.T, inject, revision, mode, app string) {
		template := labelled(set{"sidecar.istio.io/inject": inject, "istio.io/rev": revision, "istio.io/dataplane-mode": mode, "app": app})
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}}
		observed := mesh.CutDown(pod).Observed.Value()
		expected := istio.Expect(namespace(nil), template)
		if notes := istio.NotesOn(namespace(nil), template, expected, observed); len(notes) > 0 {
			t.Errorf("the same labels differ: %v", notes)
		}
		// Of another template's Pod it is said what it would be by its own labels. Line breaks, which
		// no label has, do not survive.
		if strings.Contains(inject+revision+mode, "\n") {
			t.Skip()
		}
		plain := labelled(set{"app": app})
		differs := len(istio.NotesOn(namespace(nil), plain, istio.Expect(namespace(nil), plain), observed)) > 0
		if differs != expected.Inject {
			t.Errorf("labels %v: noted %t, though they bring a sidecar: %t", template.Labels, differs, expected.Inject)
		}
	})
}
