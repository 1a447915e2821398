package mesh_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// known is a configuration whose sidecar has Istio's own way to name the image.
const known = `
policy: enabled
defaultTemplates: [sidecar]
aliases: {mine: [sidecar], two: [sidecar, custom]}
templates:
  sidecar: 'image: "{{ .ProxyImage }}"'
  gateway: 'image: "{{ .ProxyImage }}"'
  custom: 'image: example.com/own:1'
`

func TestTheImageOfANewSidecar(t *testing.T) {
	values := func(text string) string { return "global: {hub: registry.example/istio, " + text + "}" }
	own := func(image string, annotations set) mesh.Template {
		return mesh.Template{Annotations: annotations, Spec: &corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: "istio-proxy", Image: image}}}}
	}
	tests := []struct {
		name             string
		values, meshConf string
		config           string
		template         mesh.Template
		want             string
	}{
		{name: "hub and tag", values: values("tag: 1.27.0"), want: "registry.example/istio/proxyv2:1.27.0"},
		{name: "a tag that looks like a number", values: values("tag: 1.5"), want: "registry.example/istio/proxyv2:1.5"},
		{name: "a variant", values: values("tag: 1.27.0, variant: distroless"), want: "registry.example/istio/proxyv2:1.27.0-distroless"},
		{name: "a variant in the place of another", values: values("tag: 1.27.0-debug, variant: distroless"), want: "registry.example/istio/proxyv2:1.27.0-distroless"},
		{name: "another image", values: values("tag: 1.27.0, proxy: {image: envoy}"), want: "registry.example/istio/envoy:1.27.0"},
		{name: "an image by its whole name", values: values("tag: 1.27.0, proxy: {image: example.com/envoy:7}"), want: "example.com/envoy:7"},
		{name: "a type for the mesh", values: values("tag: 1.27.0, variant: distroless"), meshConf: "defaultConfig: {image: {imageType: debug}}", want: "registry.example/istio/proxyv2:1.27.0-debug"},
		{
			name: "a type in the template's proxy configuration", values: values("tag: 1.27.0"), meshConf: "defaultConfig: {image: {imageType: debug}}",
			template: annotated(set{"proxy.istio.io/config": "image: {imageType: distroless}"}), want: "registry.example/istio/proxyv2:1.27.0-distroless",
		},
		{
			name: "the annotation for the type", values: values("tag: 1.27.0-distroless, variant: distroless"),
			template: annotated(set{"sidecar.istio.io/proxyImageType": "default"}), want: "registry.example/istio/proxyv2:1.27.0",
		},
		{
			name: "the annotation for the image", values: values("tag: 1.27.0"),
			template: annotated(set{"sidecar.istio.io/proxyImage": "example.com/own/proxy:3"}), want: "example.com/own/proxy:3",
		},
		{
			name: "the annotation for the image without a registry", values: values("tag: 1.27.0"),
			template: annotated(set{"sidecar.istio.io/proxyImage": "proxy"}), want: "registry.example/istio/proxyv2:1.27.0",
		},
		{name: "the owner's container", values: values("tag: 1.27.0"), template: own("example.com/own:2", nil), want: "example.com/own:2"},
		{name: "the owner's container, image left to injection", values: values("tag: 1.27.0"), template: own("auto", nil), want: "registry.example/istio/proxyv2:1.27.0"},
		{name: "a container that an injection left", values: values("tag: 1.27.0"), template: own("example.com/old:2", set{"sidecar.istio.io/status": `{"containers":["istio-proxy"]}`})},
		{name: "the template for gateways", values: values("tag: 1.27.0"), template: annotated(set{"inject.istio.io/templates": "gateway"}), want: "registry.example/istio/proxyv2:1.27.0"},
		{name: "an alias", values: values("tag: 1.27.0"), template: annotated(set{"inject.istio.io/templates": "mine"}), want: "registry.example/istio/proxyv2:1.27.0"},
		{name: "a template of the administrator's", values: values("tag: 1.27.0"), template: annotated(set{"inject.istio.io/templates": "custom"})},
		{name: "several templates", values: values("tag: 1.27.0"), template: annotated(set{"inject.istio.io/templates": "two"})},
		{name: "overrides of an injection before", values: values("tag: 1.27.0"), template: annotated(set{"proxy.istio.io/overrides": "{}"})},
		{name: "templates that are not known", values: values("tag: 1.27.0"), config: "policy: enabled\n"},
		{name: "values that cannot be read", values: "global: ["},
		{name: "no values"},
		{name: "no tag", values: values("variant: debug")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := known
			if test.config != "" {
				config = test.config
			}
			configMap := settings("istio-sidecar-injector", config)
			configMap.Data["values"] = test.values
			meshConfig := settings("istio", "")
			meshConfig.Data = map[string]string{"mesh": test.meshConf}
			got := injector([]*webhookConfiguration{helm()}, configMap, meshConfig).Expect(namespace(set{"istio-injection": "enabled"}), test.template)
			if !got.Inject || got.Image != test.want {
				t.Errorf("image %q, want %q (%s)", got.Image, test.want, got.Message)
			}
		})
	}
}

func TestASidecarOfAnotherImageIsStale(t *testing.T) {
	tests := []struct {
		name               string
		expected, observed string
		stale              bool
	}{
		{"the same", "a.example/istio/proxyv2:1.27.0", "a.example/istio/proxyv2:1.27.0", false},
		{"another tag", "a.example/istio/proxyv2:1.27.1", "a.example/istio/proxyv2:1.27.0", true},
		{"another type", "a.example/istio/proxyv2:1.27.0-distroless", "a.example/istio/proxyv2:1.27.0", true},
		{"another registry", "a.example/istio/proxyv2:1.27.0", "localhost:5000/mirror/proxyv2:1.27.0", false},
		{"by a digest", "a.example/istio/proxyv2:1.27.0", "a.example/istio/proxyv2@sha256:abcd", false},
		{"by a tag and a digest", "a.example/istio/proxyv2:1.27.1@sha256:1", "a.example/istio/proxyv2:1.27.0@sha256:2", false},
		{"without a tag", "a.example/istio/proxyv2:1.27.0", "localhost:5000/proxyv2", false},
		{"not expected to be known", "", "a.example/istio/proxyv2:1.27.0", false},
		{"not seen", "a.example/istio/proxyv2:1.27.0", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := mesh.Judge(
				mesh.Expectation{Inject: true, Revision: "default", Reason: mesh.ReasonExpected, Image: test.expected},
				mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default", Image: test.observed})
			want := mesh.Judgement{Finding: v1alpha1.FindingMeshed, Reason: mesh.ReasonExpected}
			if test.stale {
				want = mesh.Judgement{Finding: v1alpha1.FindingStale, Reason: mesh.ReasonStaleImage}
			}
			if got.Finding != want.Finding || got.Reason != want.Reason {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}
