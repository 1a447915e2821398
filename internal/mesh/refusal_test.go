package mesh_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// What the injector validates is held against the real one by test/differential; here each kind of
// value has one of either sort.
func TestWhatNoPodCanBeCreatedOf(t *testing.T) {
	refused := map[string][]string{
		"sidecar.istio.io/interceptionMode":                {"none", ""},
		"status.sidecar.istio.io/port":                     {"-1", "65536", ""},
		"readiness.status.sidecar.istio.io/periodSeconds":  {"-2", "2s"},
		"traffic.sidecar.istio.io/includeOutboundIPRanges": {"10.0.0.0", "10.0.0.0/8, 10.1.0.0/16"},
		"traffic.sidecar.istio.io/excludeOutboundIPRanges": {"*"},
		"traffic.sidecar.istio.io/excludeInboundPorts":     {"80,", "*"},
		"traffic.sidecar.istio.io/excludeInterfaces":       {"0eth", "sixteencharacter", ","},
		"prometheus.istio.io/merge-metrics":                {"maybe"},
		"proxy.istio.io/config":                            {"["},
		"sidecar.istio.io/proxyCPU":                        {"", "1\n", "1e99999999", "-.1E+00099999999"},
		"proxy.istio.io/overrides": {
			"x", "{}{", `{"containers": [{"name": "istio-proxy", "resources": {"limits": {"cpu": 1e99999999}}}]}`,
			`{"initContainers": [{"name": "istio-proxy", "resources": {"requests": {"memory": "1e-99999999"}}}]}`,
		},
		"inject.istio.io/templates": {"", "unknown", "sidecar,unknown"},
	}
	allowed := map[string][]string{
		"sidecar.istio.io/interceptionMode":                {"REDIRECT", "NONE"},
		"status.sidecar.istio.io/port":                     {" 15020 "},
		"traffic.sidecar.istio.io/includeOutboundIPRanges": {"*", "", "10.0.0.0/8,::/0"},
		"traffic.sidecar.istio.io/includeInboundPorts":     {"*"},
		"traffic.sidecar.istio.io/excludeInboundPorts":     {"", "80, 81"},
		"traffic.sidecar.istio.io/excludeInterfaces":       {"", "eth0, net.1"},
		"prometheus.istio.io/merge-metrics":                {"T"},
		"proxy.istio.io/config":                            {"", "concurrency: 1"},
		"sidecar.istio.io/proxyCPU":                        {"100m", "1e3", "1e-0000000000003"},
		"proxy.istio.io/overrides":                         {`{"containers": [{"name": "istio-proxy", "args": ["1e5"], "resources": {"limits": {"cpu": 1e1}}}]}`},
		"inject.istio.io/templates":                        {" sidecar ", "mine", "two"},
		"example.com/whatever":                             {"["},
	}
	istio := injector([]*webhookConfiguration{helm()}, settings("istio-sidecar-injector", known))
	check := func(values map[string][]string, want mesh.Reason) {
		for key, list := range values {
			for _, value := range list {
				got := istio.Expect(namespace(set{"istio-injection": "enabled"}), annotated(set{key: value}))
				if got.Reason != want || want == mesh.ReasonAdmissionRefused && !strings.Contains(got.Message, key) {
					t.Errorf("%s=%q: got %s: %s", key, value, got.Reason, got.Message)
				}
				// Whom the injector does not serve it does not refuse.
				if got := istio.Expect(namespace(nil), annotated(set{key: value})); got.Reason != mesh.ReasonNamespaceNotLabelled {
					t.Errorf("%s=%q in a namespace without label: got %s", key, value, got.Reason)
				}
			}
		}
	}
	check(refused, mesh.ReasonAdmissionRefused)
	check(allowed, mesh.ReasonExpected)
}

func TestPodsOnWindowsMustOptOut(t *testing.T) {
	istio := injector([]*webhookConfiguration{helm()})
	windows := &corev1.PodSpec{OS: &corev1.PodOS{Name: corev1.Windows}}
	ask := namespace(set{"istio-injection": "enabled"})
	if got := istio.Expect(ask, mesh.Template{Spec: windows}); got.Reason != mesh.ReasonAdmissionRefused || !strings.Contains(got.Message, "Windows") {
		t.Errorf("got %+v", got)
	}
	if got := istio.Expect(ask, mesh.Template{Spec: windows, Labels: set{"sidecar.istio.io/inject": "false"}}); got.Reason != mesh.ReasonPodLabelOptOut {
		t.Errorf("opted out: got %+v", got)
	}
}

func TestASidecarInTheTemplateIsNoLeftover(t *testing.T) {
	baked := mesh.Template{
		Annotations: set{"sidecar.istio.io/status": `{"containers":["istio-proxy"],"revision":"default"}`},
		Spec:        &corev1.PodSpec{Containers: []corev1.Container{{Name: "istio-proxy", Args: []string{"proxy", "sidecar"}}}},
	}
	pod := mesh.Observation{Proxy: mesh.ProxyClassic, Revision: "default"}
	istio := injector([]*webhookConfiguration{helm()})
	for _, test := range []struct {
		name      string
		namespace mesh.Namespace
		template  mesh.Template
		want      mesh.Reason
	}{
		{"where no injection reaches it", namespace(nil), baked, mesh.ReasonSidecarInTemplate},
		{"where the namespace is disabled", namespace(set{"istio-injection": "disabled"}), baked, mesh.ReasonSidecarInTemplate},
		{"where injection replaces it", namespace(set{"istio-injection": "enabled"}), baked, mesh.ReasonExpected},
	} {
		t.Run(test.name, func(t *testing.T) {
			expected := istio.Expect(test.namespace, test.template)
			if got := mesh.Judge(expected, pod); got.Finding != v1alpha1.FindingMeshed || got.Reason != test.want {
				t.Errorf("got %+v", got)
			}
		})
	}
	// A copied annotation alone is none.
	baked.Spec = &corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}
	if got := istio.Expect(namespace(nil), baked); got.Reason != mesh.ReasonNamespaceNotLabelled {
		t.Errorf("without the container: got %+v", got)
	}
}

func TestLabelsThatControllersAddCount(t *testing.T) {
	config := "policy: enabled\nneverInjectSelector:\n- matchExpressions: [{key: job-name, operator: Exists}]\n"
	istio := injector([]*webhookConfiguration{helm()}, settings("istio-sidecar-injector", config))
	ask := namespace(set{"istio-injection": "enabled"})
	for kind, want := range map[string]mesh.Reason{
		"CronJob": mesh.ReasonNeverInjectSelector, "Job": mesh.ReasonNeverInjectSelector, "Deployment": mesh.ReasonExpected, "": mesh.ReasonExpected,
	} {
		if got := istio.Expect(ask, mesh.Template{Kind: kind}); got.Reason != want {
			t.Errorf("of a %s: got %s", kind, got.Reason)
		}
	}
	hashed := configuration("istio-sidecar-injector", "default", webhook("", nil, selector(absent("pod-template-hash"))))
	istio = injector([]*webhookConfiguration{hashed})
	for kind, inject := range map[string]bool{"Deployment": false, "StatefulSet": true, "": true} {
		if got := istio.Expect(ask, mesh.Template{Kind: kind}); got.Inject != inject {
			t.Errorf("of a %s: got %+v", kind, got)
		}
	}
}
