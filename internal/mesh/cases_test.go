package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// The stories that tools about Istio get wrong. Where it was possible, the answer is that of the
// real injector.
func TestStories(t *testing.T) {
	plain := func() []*webhookConfiguration { return []*webhookConfiguration{helm()} }
	withCanary := func() []*webhookConfiguration {
		return []*webhookConfiguration{helm(), revisioned("canary"), tagged("prod", "canary")}
	}
	const (
		meshed      = v1alpha1.FindingMeshed
		missing     = v1alpha1.FindingMissing
		stale       = v1alpha1.FindingStale
		leftover    = v1alpha1.FindingLeftover
		notExpected = v1alpha1.FindingNotExpected
	)
	native := mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default"}
	classic := mesh.Observation{Proxy: mesh.ProxyClassic, Capture: mesh.CaptureOn, Revision: "default"}
	canary := mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "canary"}
	uninjected := mesh.Observation{}
	captured := mesh.Observation{Ambient: mesh.AmbientEnabled}
	copied := mesh.Observe(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Annotations: set{"sidecar.istio.io/status": `{"containers":["istio-proxy"],"revision":"default"}`},
	}})

	named := mesh.Observe(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "istio-proxy"}}}})

	const (
		conflict      = mesh.ReasonConflict
		liveDiffers   = mesh.ReasonLiveLabelsDiffer
		statusCopied  = mesh.ReasonStaleStatusAnnotation
		invalidInject = mesh.ReasonInvalidInjectValue
	)
	upgraded := mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default", Image: "registry.example/istio/proxyv2:1.27.0"}
	relabelled := mesh.CutDown(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: set{"sidecar.istio.io/inject": "true"}}}).Observed.Value()

	tests := []struct {
		name      string
		webhooks  []*webhookConfiguration
		config    string
		namespace mesh.Namespace
		template  mesh.Template
		observed  mesh.Observation
		revision  string
		want      v1alpha1.Finding
		reason    mesh.Reason
		notes     []mesh.Reason
	}{
		{
			name: "a label that is present but empty hides the annotation that opts out", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "enabled"}),
			template:  mesh.Template{Labels: set{"sidecar.istio.io/inject": ""}, Annotations: set{"sidecar.istio.io/inject": "false"}},
			observed:  uninjected, revision: "default", want: missing, reason: mesh.ReasonSidecarMissing,
		}, {
			name: "a Pod cannot overrule a namespace that is disabled", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "disabled"}), template: labelled(set{"sidecar.istio.io/inject": "true"}),
			observed: uninjected, want: notExpected, reason: mesh.ReasonNamespaceDisabled,
			notes: []mesh.Reason{conflict},
		}, {
			name: "of two labels on the namespace the older one counts", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "enabled", "istio.io/rev": "canary"}),
			observed:  canary, revision: "default", want: stale, reason: mesh.ReasonStaleRevision,
			notes: []mesh.Reason{conflict},
		}, {
			name:      "the tag was moved after the Pod started",
			webhooks:  []*webhookConfiguration{helm(), revisioned("canary"), revisioned("stable"), tagged("prod", "stable")},
			namespace: namespace(set{"istio.io/rev": "prod"}),
			observed:  canary, revision: "stable", want: stale, reason: mesh.ReasonStaleRevision,
		}, {
			name: "a revision that is not there defeats a Pod's wish", webhooks: withCanary(),
			namespace: namespace(nil), template: labelled(set{"sidecar.istio.io/inject": "true", "istio.io/rev": "ghost"}),
			observed: uninjected, want: notExpected, reason: mesh.ReasonPodRevisionDangling,
		}, {
			name: "a Pod's revision alone injects in a namespace without labels", webhooks: withCanary(),
			namespace: namespace(nil), template: labelled(set{"istio.io/rev": "prod"}),
			observed: uninjected, revision: "canary", want: missing, reason: mesh.ReasonSidecarMissing,
		}, {
			name: "True is not true", webhooks: plain(),
			namespace: namespace(nil), template: labelled(set{"sidecar.istio.io/inject": "True"}),
			observed: uninjected, want: notExpected, reason: mesh.ReasonNamespaceNotLabelled,
			notes: []mesh.Reason{invalidInject},
		}, {
			name: "kube-system is never injected", webhooks: plain(),
			namespace: mesh.Namespace{Name: "kube-system", Labels: set{"istio-injection": "enabled"}},
			template:  labelled(set{"sidecar.istio.io/inject": "true"}),
			observed:  uninjected, want: notExpected, reason: mesh.ReasonIgnoredNamespace,
		}, {
			name: "istio-system is injected like any other", webhooks: plain(),
			namespace: mesh.Namespace{Name: "istio-system", Labels: set{"istio-injection": "enabled"}},
			observed:  uninjected, revision: "default", want: missing, reason: mesh.ReasonSidecarMissing,
		}, {
			name: "the administrator excludes Pods by their labels", webhooks: plain(),
			config:    "policy: enabled\nneverInjectSelector:\n- matchLabels: {batch: 'yes'}\n",
			namespace: namespace(set{"istio-injection": "enabled"}), template: labelled(set{"batch": "yes"}),
			observed: uninjected, want: notExpected, reason: mesh.ReasonNeverInjectSelector,
		}, {
			name: "an annotation overrules the administrator's exclusion", webhooks: plain(),
			config:    "policy: enabled\nneverInjectSelector:\n- matchLabels: {batch: 'yes'}\n",
			namespace: namespace(set{"istio-injection": "enabled"}),
			template:  mesh.Template{Labels: set{"batch": "yes"}, Annotations: set{"sidecar.istio.io/inject": "true"}},
			observed:  uninjected, revision: "default", want: missing, reason: mesh.ReasonSidecarMissing,
		}, {
			name: "under a disabled policy nothing is injected unasked", webhooks: plain(),
			config:    "policy: disabled\nalwaysInjectSelector:\n- matchLabels: {always: 'yes'}\n",
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  uninjected, want: notExpected, reason: mesh.ReasonPolicyDisabled,
		}, {
			name: "under a disabled policy an annotation is enough", webhooks: plain(), config: "policy: disabled\n",
			namespace: namespace(set{"istio-injection": "enabled"}), template: annotated(set{"sidecar.istio.io/inject": "true"}),
			observed: uninjected, revision: "default", want: missing, reason: mesh.ReasonSidecarMissing,
		}, {
			name: "under a disabled policy the administrator's selector is enough", webhooks: plain(),
			config:    "policy: disabled\nalwaysInjectSelector:\n- matchLabels: {always: 'yes'}\n",
			namespace: namespace(set{"istio-injection": "enabled"}), template: labelled(set{"always": "yes"}),
			observed: native, revision: "default", want: meshed, reason: mesh.ReasonExpected,
		}, {
			name: "under a policy that Istio does not know nothing is injected, not even what asks for it", webhooks: plain(), config: "policy: on\n",
			namespace: namespace(set{"istio-injection": "enabled"}), template: annotated(set{"sidecar.istio.io/inject": "true"}),
			observed: uninjected, want: notExpected, reason: mesh.ReasonInvalidPolicy,
		}, {
			name: "a native sidecar whose image was upgraded in place", webhooks: plain(),
			config:    known,
			namespace: namespace(set{"istio-injection": "enabled"}), template: annotated(set{"sidecar.istio.io/proxyImage": "registry.example/istio/proxyv2:1.28.0"}),
			observed: upgraded, revision: "default", want: stale, reason: mesh.ReasonStaleImage,
		}, {
			name: "the CNI agent has not captured a Pod of an ambient namespace", webhooks: withCanary(),
			namespace: namespace(set{"istio.io/rev": "ghost", "istio.io/dataplane-mode": "ambient"}),
			observed:  uninjected, want: notExpected, reason: mesh.ReasonAmbientNotCaptured,
		}, {
			name: "ztunnel has not accepted a Pod of an ambient namespace", webhooks: withCanary(),
			namespace: namespace(set{"istio.io/dataplane-mode": "ambient"}),
			observed:  mesh.Observation{Ambient: mesh.AmbientPending}, want: notExpected, reason: mesh.ReasonAmbientPending,
		}, {
			name:      "istioctl deactivates one webhook and another takes its place",
			webhooks:  []*webhookConfiguration{deactivated(helm()), tagged("default", "default")},
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  native, revision: "default", want: meshed, reason: mesh.ReasonExpected,
		}, {
			name:      "the default tag was moved to another revision",
			webhooks:  []*webhookConfiguration{deactivated(helm()), revisioned("canary"), tagged("default", "canary")},
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  native, revision: "canary", want: stale, reason: mesh.ReasonStaleRevision,
		}, {
			name:      "two webhooks own the default",
			webhooks:  []*webhookConfiguration{helm(), revisioned("canary"), tagged("default", "canary")},
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  native, revision: "default", want: meshed, reason: mesh.ReasonExpected,
			notes: []mesh.Reason{conflict},
		}, {
			name: "the injector was down while the Pod was created", webhooks: withCanary(),
			namespace: namespace(set{"istio.io/rev": "canary"}),
			observed:  uninjected, revision: "canary", want: missing, reason: mesh.ReasonSidecarMissing,
		}, {
			name: "a label on the running Pod changes nothing: the template decides", webhooks: plain(),
			namespace: namespace(nil), template: labelled(nil),
			observed: relabelled, want: notExpected, reason: mesh.ReasonNamespaceNotLabelled,
			notes: []mesh.Reason{liveDiffers},
		}, {
			name: "an annotation was copied", webhooks: withCanary(),
			namespace: namespace(nil),
			observed:  copied, want: notExpected, reason: mesh.ReasonNamespaceNotLabelled,
			notes: []mesh.Reason{statusCopied},
		}, {
			name: "an annotation was copied and a sidecar is expected", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  copied, revision: "default", want: missing, reason: mesh.ReasonSidecarSpoofed,
			notes: []mesh.Reason{statusCopied},
		}, {
			name: "an annotation was copied into an ambient namespace", webhooks: withCanary(),
			namespace: namespace(set{"istio.io/dataplane-mode": "ambient"}),
			observed:  copied, want: notExpected, reason: mesh.ReasonAmbientBlocked,
			notes: []mesh.Reason{statusCopied},
		}, {
			name: "a container was named istio-proxy in an ambient namespace", webhooks: withCanary(),
			namespace: namespace(set{"istio.io/dataplane-mode": "ambient"}),
			observed:  named, want: notExpected, reason: mesh.ReasonAmbientNotCaptured,
			notes: []mesh.Reason{mesh.ReasonSidecarSpoofed},
		}, {
			name: "a native sidecar", webhooks: plain(),
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  native, revision: "default", want: meshed, reason: mesh.ReasonExpected,
		}, {
			name: "a classic sidecar in the same ReplicaSet", webhooks: plain(),
			namespace: namespace(set{"istio-injection": "enabled"}),
			observed:  classic, revision: "default", want: meshed, reason: mesh.ReasonExpected,
		}, {
			name: "the namespace's label was removed", webhooks: plain(),
			namespace: namespace(nil),
			observed:  native, want: leftover, reason: mesh.ReasonNamespaceNotLabelled,
		}, {
			name: "an opt-out was added", webhooks: plain(),
			namespace: namespace(set{"istio-injection": "enabled"}), template: labelled(set{"sidecar.istio.io/inject": "false"}),
			observed: native, want: leftover, reason: mesh.ReasonPodLabelOptOut,
		}, {
			name: "sidecar and ambient are both asked for, the Pod is older than the injection label", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}),
			observed:  captured, revision: "default", want: missing, reason: mesh.ReasonAmbientInstead,
			notes: []mesh.Reason{conflict},
		}, {
			name: "sidecar and ambient are both asked for, the sidecar wins", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}),
			observed:  native, revision: "default", want: meshed, reason: mesh.ReasonExpected,
			notes: []mesh.Reason{conflict},
		}, {
			name: "sidecar and ambient are both asked for, the Pod has neither", webhooks: withCanary(),
			namespace: namespace(set{"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}),
			observed:  uninjected, revision: "default", want: missing, reason: mesh.ReasonSidecarMissing,
			notes: []mesh.Reason{conflict},
		}, {
			name: "ambient with a revision that is not there", webhooks: withCanary(),
			namespace: namespace(set{"istio.io/rev": "ghost", "istio.io/dataplane-mode": "ambient"}),
			observed:  captured, want: notExpected, reason: mesh.ReasonInAmbientMesh,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var configMaps []*corev1.ConfigMap
			if test.config != "" {
				configMaps = append(configMaps, settings("istio-sidecar-injector", test.config))
			}
			istio := injector(test.webhooks, configMaps...)
			expected := istio.Expect(test.namespace, test.template)
			if expected.Revision != test.revision || expected.Inject != (test.revision != "") || expected.Assumed != "" {
				t.Errorf("expected %+v, want revision %q", expected, test.revision)
			}
			if test.observed.Asks == "" { // the Pod has the labels of its template
				test.observed.Asks = mesh.CutDown(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: test.template.Labels}}).Observed.Value().Asks
			}
			var notes []mesh.Reason
			for _, note := range append(expected.Notes, istio.NotesOn(test.namespace, test.template, expected, test.observed)...) {
				notes = append(notes, note.Reason)
			}
			if diff := cmp.Diff(test.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			got := mesh.Judge(expected, test.observed)
			want := mesh.Judgement{Finding: test.want, Reason: test.reason}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mesh.Judgement{}, "Message")); diff != "" {
				t.Errorf("Judge (-want +got):\n%s", diff)
			}
		})
	}
}
