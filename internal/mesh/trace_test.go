package mesh_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// call is what a trace says of one webhook, without where it stands.
type call struct {
	webhook string
	answer  mesh.WebhookAnswer
	message string
}

func TestTraceSaysWhatCameOfEveryWebhook(t *testing.T) {
	const (
		rev       = "rev.namespace.sidecar-injector.istio.io"
		revObject = "rev.object.sidecar-injector.istio.io"
		namespace = "namespace.sidecar-injector.istio.io"
		object    = "object.sidecar-injector.istio.io"

		settings = "ConfigMap istio-system/istio-sidecar-injector"
	)
	enabled := mesh.Namespace{Name: "shop", Labels: set{"istio-injection": "enabled"}}
	notRev := call{rev, mesh.WebhookNotSelecting, "Its namespaceSelector (!istio-injection,istio.io/rev in (default)) does not select the namespace."}
	notRevObject := call{revObject, mesh.WebhookNotSelecting, "Its namespaceSelector (!istio-injection,!istio.io/rev) does not select the namespace."}
	notObject := call{object, mesh.WebhookNotSelecting, "Its namespaceSelector (!istio-injection,!istio.io/rev) does not select the namespace."}
	injects := call{namespace, mesh.WebhookInjects, "It selects the Pod, and the injector's policy in " + settings + " (enabled) has nothing against a sidecar."}

	conditional := builder.Webhooks()
	conditional.Webhooks[2].MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "not-today", Expression: "false"}}
	elsewhere := builder.Webhooks()
	elsewhere.Webhooks[2].Rules[0].Resources = []string{"services"}

	for name, test := range map[string]struct {
		configuration *webhookConfiguration
		namespace     mesh.Namespace
		template      mesh.Template
		match         func(mesh.MatchRequest) (mesh.Match, error)
		want          []call
	}{
		"one of them injects": {
			builder.Webhooks(), enabled, mesh.Template{}, nil, []call{notRev, notRevObject, injects, notObject},
		},
		"the template opts out by its label": {
			builder.Webhooks(), enabled, mesh.Template{Labels: set{"sidecar.istio.io/inject": "false"}}, nil,
			[]call{notRev, notRevObject, {namespace, mesh.WebhookNotSelecting, "Its objectSelector (sidecar.istio.io/inject notin (false)) does not select the Pod."}, notObject},
		},
		"the template opts out by its annotation, and the injector declines": {
			builder.Webhooks(), enabled, mesh.Template{Annotations: set{"sidecar.istio.io/inject": "false"}}, nil,
			[]call{notRev, notRevObject, {namespace, mesh.WebhookDeclines, `The template's annotation sidecar.istio.io/inject="false" asks for no sidecar; remove it to have one.`}, notObject},
		},
		"a condition is not met": {
			conditional, enabled, mesh.Template{},
			func(mesh.MatchRequest) (mesh.Match, error) { return mesh.Match{Failed: "not-today"}, nil },
			[]call{notRev, notRevObject, {namespace, mesh.WebhookConditionFalse, "Webhook " + namespace + ` of istio-sidecar-injector selects the Pod by its labels, but its matchCondition "not-today" is not met by it.`}, notObject},
		},
		"a condition cannot be evaluated": {
			conditional, enabled, mesh.Template{},
			func(mesh.MatchRequest) (mesh.Match, error) { return mesh.Match{}, errors.New("it is nonsense") },
			[]call{notRev, notRevObject, injects, notObject},
		},
		"rules are for something else": {
			elsewhere, enabled, mesh.Template{}, nil,
			[]call{notRev, notRevObject, {namespace, mesh.WebhookNotCovering, "Its rules do not cover the creation of Pods."}, notObject},
		},
	} {
		t.Run(name, func(t *testing.T) {
			injector := mesh.NewInjector([]*webhookConfiguration{test.configuration}, []*corev1.ConfigMap{builder.InjectorSettings()}, mesh.Options{Match: test.match})
			expected, calls := injector.Trace(test.namespace, test.template)
			if diff := cmp.Diff(injector.Expect(test.namespace, test.template), expected); diff != "" {
				t.Errorf("it expects something else than without a trace (-without +with):\n%s", diff)
			}
			got := make([]call, 0, len(calls))
			for _, c := range calls {
				if c.Configuration != "istio-sidecar-injector" || c.Revision != "default" {
					t.Errorf("%s is of %s, revision %s", c.Webhook, c.Configuration, c.Revision)
				}
				got = append(got, call{c.Webhook, c.Answer, c.Message})
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}
