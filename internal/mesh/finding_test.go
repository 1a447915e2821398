package mesh_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

func TestJudge(t *testing.T) {
	sidecar := mesh.Expectation{Inject: true, Revision: "default", Reason: mesh.ReasonExpected, Message: "Webhook w injects."}
	none := mesh.Expectation{Reason: mesh.ReasonNamespaceNotLabelled, Message: "Label it."}
	ambient := mesh.Expectation{Reason: mesh.ReasonAmbient, Message: "It is ambient."}
	managed := mesh.Expectation{Reason: mesh.ReasonGatewayManaged, Message: "It is managed."}

	proxy := func(proxy mesh.Proxy, capture mesh.Capture, revision string) mesh.Observation {
		return mesh.Observation{Proxy: proxy, Capture: capture, Revision: revision}
	}
	var nothing mesh.Observation
	classic := proxy(mesh.ProxyClassic, mesh.CaptureOn, "default")
	spoofed := mesh.Observation{Spoofed: "it looks so"}
	captured := mesh.Observation{Ambient: mesh.AmbientEnabled}
	pending := mesh.Observation{Ambient: mesh.AmbientPending}
	both := classic
	both.Ambient = mesh.AmbientEnabled

	const (
		meshed      = v1alpha1.FindingMeshed
		missing     = v1alpha1.FindingMissing
		stale       = v1alpha1.FindingStale
		leftover    = v1alpha1.FindingLeftover
		notExpected = v1alpha1.FindingNotExpected
	)
	tests := []struct {
		name     string
		expected mesh.Expectation
		observed mesh.Observation
		want     v1alpha1.Finding
		reason   mesh.Reason
	}{
		{"expected and there", sidecar, classic, meshed, mesh.ReasonExpected},
		{"expected and there, native", sidecar, proxy(mesh.ProxyNative, mesh.CaptureOn, "default"), meshed, mesh.ReasonExpected},
		{"expected and there, for gRPC", sidecar, proxy(mesh.ProxyAgent, mesh.CaptureNone, "default"), meshed, mesh.ReasonExpected},
		{"expected and there, a gateway", sidecar, proxy(mesh.ProxyGateway, mesh.CaptureNone, "default"), meshed, mesh.ReasonExpected},
		{"expected and there, interception off", sidecar, proxy(mesh.ProxyNative, mesh.CaptureNone, "default"), meshed, mesh.ReasonExpected},
		{"expected and there, revision unknown", sidecar, proxy(mesh.ProxyClassic, mesh.CaptureOn, ""), meshed, mesh.ReasonExpected},
		{"expected and there, ambient as well", sidecar, both, meshed, mesh.ReasonExpected},
		{"expected and there, of another revision", sidecar, proxy(mesh.ProxyClassic, mesh.CaptureOn, "canary"), stale, mesh.ReasonStaleRevision},
		{"expected and there, a gateway of another revision", sidecar, proxy(mesh.ProxyGateway, mesh.CaptureNone, "canary"), stale, mesh.ReasonStaleRevision},
		{"expected and there, traffic not redirected", sidecar, proxy(mesh.ProxyNative, mesh.CaptureBroken, "default"), missing, mesh.ReasonCaptureBroken},
		{"broken redirection is worse than another revision", sidecar, proxy(mesh.ProxyNative, mesh.CaptureBroken, "canary"), missing, mesh.ReasonCaptureBroken},
		{"expected and missing", sidecar, nothing, missing, mesh.ReasonSidecarMissing},
		{"expected and pretended", sidecar, spoofed, missing, mesh.ReasonSidecarSpoofed},
		{"expected and ambient instead", sidecar, captured, missing, mesh.ReasonAmbientInstead},
		{"expected and ambient instead, pending", sidecar, pending, missing, mesh.ReasonAmbientInstead},
		{"not expected and not there", none, nothing, notExpected, mesh.ReasonNamespaceNotLabelled},
		{"not expected and pretended", none, spoofed, notExpected, mesh.ReasonNamespaceNotLabelled},
		{"not expected and in the ambient mesh", none, captured, notExpected, mesh.ReasonInAmbientMesh},
		{"not expected and nearly in the ambient mesh", none, pending, notExpected, mesh.ReasonAmbientPending},
		{"ambient and not captured", ambient, nothing, notExpected, mesh.ReasonAmbient},
		{"ambient and captured", ambient, captured, notExpected, mesh.ReasonInAmbientMesh},
		{"not expected and there", none, classic, leftover, mesh.ReasonNamespaceNotLabelled},
		{"not expected and there, traffic not redirected", none, proxy(mesh.ProxyNative, mesh.CaptureBroken, "default"), leftover, mesh.ReasonNamespaceNotLabelled},
		{"not expected and there, an injected gateway", none, proxy(mesh.ProxyGateway, mesh.CaptureNone, "default"), leftover, mesh.ReasonNamespaceNotLabelled},
		{"a managed gateway is a member, whatever its revision", managed, proxy(mesh.ProxyGateway, mesh.CaptureNone, "canary"), meshed, mesh.ReasonGatewayManaged},
		{"a sidecar under a managed gateway's labels is not", managed, classic, leftover, mesh.ReasonGatewayManaged},
		{"a managed gateway's labels alone make no member", managed, nothing, notExpected, mesh.ReasonGatewayManaged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := mesh.Judge(test.expected, test.observed)
			want := mesh.Judgement{Finding: test.want, Reason: test.reason}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mesh.Judgement{}, "Message")); diff != "" {
				t.Errorf("Judge (-want +got):\n%s", diff)
			}
			if !strings.HasSuffix(got.Message, ".") {
				t.Errorf("message %q is no sentence", got.Message)
			}
		})
	}
}

func BenchmarkJudge(b *testing.B) {
	expected := mesh.Expectation{Inject: true, Revision: "default", Reason: mesh.ReasonExpected, Message: "Webhook w injects."}
	for name, observed := range map[string]mesh.Observation{
		"meshed":  {Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default"},
		"missing": {},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mesh.Judge(expected, observed)
			}
		})
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
