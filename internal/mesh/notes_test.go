package mesh_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

func TestWhatContradictsItselfIsNoted(t *testing.T) {
	twoOwners := []*webhookConfiguration{helm(), tagged("default", "canary")}
	oneOwner := []*webhookConfiguration{helm(), revisioned("canary")}
	tests := []struct {
		name      string
		webhooks  []*webhookConfiguration
		namespace mesh.Namespace
		template  mesh.Template
		want      []mesh.Reason
		says      string
	}{
		{name: "nothing", webhooks: oneOwner, namespace: namespace(set{"istio-injection": "enabled"})},
		{
			name: "two webhooks inject", webhooks: twoOwners, namespace: namespace(set{"istio-injection": "enabled"}),
			want: []mesh.Reason{mesh.ReasonConflict}, says: "istio-revision-tag-default, then namespace.sidecar-injector.istio.io of istio-sidecar-injector",
		},
		{
			name: "two labels on the namespace", webhooks: oneOwner, namespace: namespace(set{"istio-injection": "enabled", "istio.io/rev": "canary"}),
			want: []mesh.Reason{mesh.ReasonConflict}, says: `istio.io/rev="canary", and the second has no effect`,
		},
		{
			name: "sidecar and ambient", webhooks: oneOwner, namespace: namespace(set{"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"}),
			want: []mesh.Reason{mesh.ReasonConflict}, says: "its new Pods get the sidecar",
		},
		{
			name: "ambient and a revision that is not there", webhooks: oneOwner, namespace: namespace(set{"istio.io/rev": "ghost", "istio.io/dataplane-mode": "ambient"}),
		},
		{
			name: "a Pod against its namespace", webhooks: oneOwner, namespace: namespace(set{"istio-injection": "disabled"}),
			template: labelled(set{"sidecar.istio.io/inject": "true"}), want: []mesh.Reason{mesh.ReasonConflict}, says: "no Pod overrides",
		},
		{
			name: "True is not true", webhooks: oneOwner, namespace: namespace(nil),
			template: labelled(set{"sidecar.istio.io/inject": "True"}), want: []mesh.Reason{mesh.ReasonInvalidInjectValue}, says: `label sidecar.istio.io/inject="True"`,
		},
		{
			name: "no is not false", webhooks: oneOwner, namespace: namespace(set{"istio-injection": "enabled"}),
			template: annotated(set{"sidecar.istio.io/inject": "no"}), want: []mesh.Reason{mesh.ReasonInvalidInjectValue}, says: "annotation",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			expected := injector(test.webhooks).Expect(test.namespace, test.template)
			var reasons []mesh.Reason
			var text strings.Builder
			for _, note := range expected.Notes {
				reasons = append(reasons, note.Reason)
				text.WriteString(note.Message)
			}
			if diff := cmp.Diff(test.want, reasons); diff != "" || !strings.Contains(text.String(), test.says) {
				t.Errorf("notes (-want +got):\n%s%s", diff, text.String())
			}
		})
	}
}

func TestWhatRunningPodsCarryBesideTheirTemplateIsNoted(t *testing.T) {
	istio := injector([]*webhookConfiguration{helm(), revisioned("canary")})
	pod := func(labels, annotations set) mesh.Observation {
		return mesh.CutDown(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}}).Observed.Value()
	}
	tests := []struct {
		name      string
		namespace mesh.Namespace
		template  mesh.Template
		observed  mesh.Observation
		want      mesh.Reason
		says      string
	}{
		{name: "the same labels", template: labelled(set{"istio.io/rev": "canary"}), observed: pod(set{"istio.io/rev": "canary", "pod-template-hash": "x"}, nil)},
		{
			name: "a label was added that asks for a sidecar", observed: pod(set{"sidecar.istio.io/inject": "true"}, nil),
			want: mesh.ReasonLiveLabelsDiffer, says: "(sidecar.istio.io/inject=true) differ from those of the template and would ask for a sidecar of revision default",
		},
		{
			name: "a label was added that asks for none", namespace: namespace(set{"istio-injection": "enabled"}), observed: pod(set{"sidecar.istio.io/inject": "false"}, nil),
			want: mesh.ReasonLiveLabelsDiffer, says: "would ask for no sidecar",
		},
		{
			name: "a label was removed", template: labelled(set{"app": "cart", "istio.io/rev": "canary"}), observed: pod(set{"app": "cart"}, nil),
			want: mesh.ReasonLiveLabelsDiffer, says: "(none for injection)",
		},
		{
			name: "a label was changed", template: labelled(set{"istio.io/rev": "canary"}), observed: pod(set{"istio.io/rev": "default"}, nil),
			want: mesh.ReasonLiveLabelsDiffer, says: "revision default",
		},
		{name: "a label was added that changes nothing", observed: pod(set{"istio.io/rev": "ghost"}, nil)},
		{name: "a label was added to another end", namespace: namespace(set{"istio-injection": "enabled"}), observed: pod(set{"istio.io/rev": "canary"}, nil)},
		{
			name: "the annotation was copied", observed: pod(nil, set{"sidecar.istio.io/status": `{"containers":["istio-proxy"]}`}),
			want: mesh.ReasonStaleStatusAnnotation, says: "ambient",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.namespace.Name == "" {
				test.namespace = namespace(nil)
			}
			expected := istio.Expect(test.namespace, test.template)
			notes := istio.NotesOn(test.namespace, test.template, expected, test.observed)
			if test.want == "" {
				if len(notes) > 0 {
					t.Errorf("noted %v", notes)
				}
				return
			}
			if len(notes) != 1 || notes[0].Reason != test.want || !strings.Contains(notes[0].Message, test.says) {
				t.Errorf("noted %v, want %s: %s", notes, test.want, test.says)
			}
		})
	}
}

func TestJudgingAPodThatIsAsItShouldBeAllocatesNothing(t *testing.T) {
	istio := injector([]*webhookConfiguration{helm()})
	expected := istio.Expect(namespace(set{"istio-injection": "enabled"}), mesh.Template{})
	observed := mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default", Image: "docker.io/istio/proxyv2:1.27.0"}
	expected.Image = "registry.example/proxyv2:1.27.0"
	if n := testing.AllocsPerRun(100, func() { mesh.Judge(expected, observed) }); n > 0 {
		t.Errorf("it allocates %v times", n)
	}
}
