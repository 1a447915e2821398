package mesh_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// everyPod is a webhook that leaves the whole decision to the injector.
func everyPod() []*webhookConfiguration {
	return []*webhookConfiguration{configuration("istio-sidecar-injector", "default", webhook("", nil, nil))}
}

// The rows and answers are those of TestInjectRequired in Istio's pkg/kube/inject.
func TestTheInjectorDecides(t *testing.T) {
	const (
		on    = "policy: enabled\n"
		off   = "policy: disabled\n"
		never = "neverInjectSelector:\n"
		force = "alwaysInjectSelector:\n"
	)
	matches := func(key, value string) string { return "- matchLabels: {" + key + ": " + value + "}\n" }
	exists := func(key string) string { return "- matchExpressions: [{key: " + key + ", operator: Exists}]\n" }
	inject := func(value string) set { return set{"sidecar.istio.io/inject": value} }

	tests := []struct {
		name        string
		config      string
		labels      set
		annotations set
		hostNetwork bool
		want        mesh.Reason
	}{
		{name: "enabled, empty annotations", config: on, annotations: set{}, want: mesh.ReasonExpected},
		{name: "enabled, nothing asked", config: on, want: mesh.ReasonExpected},
		{name: "enabled, annotation true", config: on, annotations: inject("true"), want: mesh.ReasonExpected},
		{name: "enabled, annotation false", config: on, annotations: inject("false"), want: mesh.ReasonPodAnnotationOptOut},
		{name: "disabled, empty annotations", config: off, annotations: set{}, want: mesh.ReasonPolicyDisabled},
		{name: "disabled, nothing asked", config: off, want: mesh.ReasonPolicyDisabled},
		{name: "disabled, annotation true", config: off, annotations: inject("true"), want: mesh.ReasonExpected},
		{name: "disabled, annotation false", config: off, annotations: inject("false"), want: mesh.ReasonPodAnnotationOptOut},
		{name: "enabled, annotation yes is none", config: on, annotations: inject("yes"), want: mesh.ReasonExpected},
		{name: "disabled, annotation on is none", config: off, annotations: inject("on"), want: mesh.ReasonPolicyDisabled},
		{name: "enabled, random label is none", config: on, labels: inject("random"), want: mesh.ReasonExpected},
		{name: "enabled, host network", config: on, annotations: set{}, hostNetwork: true, want: mesh.ReasonHostNetwork},
		{name: "unknown policy", config: "policy: wrong_policy\n", annotations: set{}, want: mesh.ReasonInvalidPolicy},
		{name: "enabled, always without labels", config: on + force + matches("foo", "bar"), want: mesh.ReasonExpected},
		{name: "enabled, always with another value", config: on + force + matches("foo", "bar"), labels: set{"foo": "bar1"}, want: mesh.ReasonExpected},
		{name: "disabled, always without labels", config: off + force + matches("foo", "bar"), want: mesh.ReasonPolicyDisabled},
		{name: "disabled, always matches", config: off + force + matches("foo", "bar"), labels: set{"foo": "bar"}, want: mesh.ReasonExpected},
		{name: "enabled, never without labels", config: on + never + matches("foo", "bar"), want: mesh.ReasonExpected},
		{name: "enabled, never matches", config: on + never + matches("foo", "bar"), labels: set{"foo": "bar"}, want: mesh.ReasonNeverInjectSelector},
		{name: "disabled, never without labels", config: off + never + matches("foo", "bar"), want: mesh.ReasonPolicyDisabled},
		{name: "disabled, never matches", config: off + never + matches("foo", "bar"), labels: set{"foo": "bar"}, want: mesh.ReasonNeverInjectSelector},
		{name: "enabled, never by key with an empty value", config: on + never + exists("foo"), labels: set{"foo": "", "foo2": "bar2"}, want: mesh.ReasonNeverInjectSelector},
		{name: "disabled, always by key with an empty value", config: off + force + exists("foo"), labels: set{"foo": "", "foo2": "bar2"}, want: mesh.ReasonExpected},
		{name: "disabled, always of both", config: off + force + exists("always") + never + exists("never"), labels: set{"always": "bar", "foo2": "bar2"}, want: mesh.ReasonExpected},
		{name: "disabled, never of both", config: off + force + exists("always") + never + exists("never"), labels: set{"never": "bar", "foo2": "bar2"}, want: mesh.ReasonNeverInjectSelector},
		{name: "disabled, never beats always", config: off + force + exists("always") + never + exists("never"), labels: set{"always": "bar", "never": "bar2"}, want: mesh.ReasonNeverInjectSelector},
		{name: "enabled, annotation true beats never", config: on + never + exists("foo"), labels: set{"foo": "", "foo2": "bar2"}, annotations: inject("true"), want: mesh.ReasonExpected},
		{name: "enabled, annotation false beats always", config: on + force + exists("foo"), labels: set{"foo": "", "foo2": "bar2"}, annotations: inject("false"), want: mesh.ReasonPodAnnotationOptOut},
		{name: "disabled, annotation false beats always", config: off + force + exists("foo"), labels: set{"foo": "", "foo2": "bar2"}, annotations: inject("false"), want: mesh.ReasonPodAnnotationOptOut},
		{name: "enabled, second never matches", config: on + never + exists("foo") + exists("bar"), labels: set{"label1": "", "bar": "anything"}, want: mesh.ReasonNeverInjectSelector},
		{name: "disabled, second always matches", config: off + force + exists("foo") + exists("bar"), labels: set{"label1": "", "bar": "anything"}, want: mesh.ReasonExpected},
		{name: "disabled, annotation true beats never", config: off + never + exists("foo"), labels: set{"foo": "", "foo2": "bar2"}, annotations: inject("true"), want: mesh.ReasonExpected},
		{name: "disabled, label true", config: off, labels: inject("true"), want: mesh.ReasonExpected},
		{name: "disabled, label and annotation true", config: off, labels: inject("true"), annotations: inject("true"), want: mesh.ReasonExpected},
		{name: "disabled, label true beats annotation false", config: off, labels: inject("true"), annotations: inject("false"), want: mesh.ReasonExpected},
		{name: "disabled, label false beats annotation true", config: off, labels: inject("false"), annotations: inject("true"), want: mesh.ReasonPodLabelOptOut},

		// Not in Istio's table.
		{name: "unknown policy beats label true", config: "policy: on\n", labels: inject("true"), want: mesh.ReasonInvalidPolicy},
		{name: "no policy is an unknown one", config: "templates: {}\n", want: mesh.ReasonInvalidPolicy},
		{name: "an empty label hides annotation false", config: on, labels: inject(""), annotations: inject("false"), want: mesh.ReasonExpected},
		{name: "an empty never selector matches nothing", config: on + never + "- {}\n", labels: set{"foo": "bar"}, want: mesh.ReasonExpected},
		{name: "an empty always selector matches nothing", config: off + force + "- {}\n", labels: set{"foo": "bar"}, want: mesh.ReasonPolicyDisabled},
		{name: "an invalid never selector matches nothing", config: on + never + "- matchExpressions: [{key: foo, operator: Wish}]\n" + exists("bar"), labels: set{"foo": "", "bar": ""}, want: mesh.ReasonNeverInjectSelector},
		{name: "never under an unknown policy", config: "policy: wrong\n" + never + exists("foo"), labels: set{"foo": ""}, want: mesh.ReasonInvalidPolicy},
		{name: "label True is not true", config: off, labels: inject("True"), want: mesh.ReasonPolicyDisabled},
		{name: "label False is not false", config: on, labels: inject("False"), want: mesh.ReasonExpected},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			istio := injector(everyPod(), settings("istio-sidecar-injector", test.config))
			got := istio.Expect(namespace(nil), mesh.Template{Labels: test.labels, Annotations: test.annotations, HostNetwork: test.hostNetwork})
			want := mesh.Expectation{Reason: test.want}
			if test.want == mesh.ReasonExpected {
				want.Inject, want.Revision = true, "default"
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mesh.Expectation{}, "Message", "Notes", "Ambient")); diff != "" {
				t.Errorf("Expect (-want +got):\n%s", diff)
			}
			if !strings.HasSuffix(got.Message, ".") {
				t.Errorf("message %q is no sentence", got.Message)
			}
		})
	}
}

func TestOddValuesAreReadAsTheVersionOfIstioReadsThem(t *testing.T) {
	tests := []struct {
		name        string
		tag         string
		chart       string
		value       string
		want        mesh.Reason
		wantAssumed bool
	}{
		{name: "1.26 reads no as false", tag: "1.26.3", value: "no", want: mesh.ReasonPodLabelOptOut},
		{name: "1.26 reads False as false", tag: "1.26.3-distroless", value: "False", want: mesh.ReasonPodLabelOptOut},
		{name: "1.26 reads anything as false", tag: "1.26-alpha.0", value: "perhaps", want: mesh.ReasonPodLabelOptOut},
		{name: "1.26 reads Yes as true", tag: "1.26.3", value: "Yes", want: mesh.ReasonExpected},
		{name: "1.26 reads an empty value as unset", tag: "1.26.3", value: "", want: mesh.ReasonPolicyDisabled},
		{name: "1.27 reads no as unset", tag: "1.27.0", value: "no", want: mesh.ReasonPolicyDisabled},
		{name: "1.27 reads yes as unset", tag: "1.27.0", value: "yes", want: mesh.ReasonPolicyDisabled},
		{name: "the chart tells the version where the tag does not", tag: "latest", chart: "1.25.0", value: "y", want: mesh.ReasonExpected},
		{name: "the tag is believed before the chart", tag: "1.28.1", chart: "1.25.0", value: "y", want: mesh.ReasonPolicyDisabled},
		{name: "the version of a development build is assumed", tag: "latest", chart: "1.0.0", value: "y", want: mesh.ReasonPolicyDisabled, wantAssumed: true},
		{name: "nothing is assumed where the version does not matter", tag: "latest", value: "true", want: mesh.ReasonExpected},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := settings("istio-sidecar-injector", "policy: disabled\n")
			config.Data["values"] = `{"global":{"tag":"` + test.tag + `"}}`
			config.Labels = set{"app.kubernetes.io/version": test.chart}
			got := injector(everyPod(), config).Expect(namespace(nil), labelled(set{"sidecar.istio.io/inject": test.value}))
			if got.Reason != test.want || (got.Assumed != "") != test.wantAssumed {
				t.Errorf("got %+v, want reason %s, assumed %t", got, test.want, test.wantAssumed)
			}
		})
	}
}

func TestWhyNoSidecarIsExpected(t *testing.T) {
	tests := []struct {
		name      string
		webhooks  []*webhookConfiguration
		namespace mesh.Namespace
		template  mesh.Template
		want      mesh.Reason
		message   []string // fragments
	}{
		{
			name:      "there is no Istio",
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonNoIstioWebhook,
		}, {
			name:      "webhooks of others are not Istio's",
			webhooks:  []*webhookConfiguration{configuration("other", "default", admissionregistrationv1.MutatingWebhook{Name: "inject.example.com"})},
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonNoIstioWebhook,
		}, {
			name:      "the namespace is not labelled",
			webhooks:  []*webhookConfiguration{helm(), revisioned("canary"), tagged("prod", "canary")},
			namespace: namespace(nil),
			want:      mesh.ReasonNamespaceNotLabelled,
			message:   []string{`"shop"`, "istio-injection=enabled (revision default)", "istio.io/rev=canary", "istio.io/rev=prod (revision canary)"},
		}, {
			name:      "the label that asks is misspelt",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(nil),
			template:  labelled(set{"sidecar.istio.io/inject": "True"}),
			want:      mesh.ReasonNamespaceNotLabelled,
			message:   []string{`sidecar.istio.io/inject="True"`, `"true"`},
		}, {
			name:      "the namespace is disabled",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio-injection": "disabled"}),
			template:  labelled(set{"sidecar.istio.io/inject": "true"}),
			want:      mesh.ReasonNamespaceDisabled,
			message:   []string{`istio-injection="disabled"`, `"enabled"`},
		}, {
			name:      "the namespace label is empty",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio-injection": "", "istio.io/rev": "default"}),
			want:      mesh.ReasonNamespaceDisabled,
		}, {
			name:      "the namespace asks for a revision that is not there",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio.io/rev": "ghost"}),
			want:      mesh.ReasonNamespaceRevisionDangling,
			message:   []string{`"ghost"`, `"shop"`, "istio-injection=enabled"},
		}, {
			name:      "the template asks for a revision that is not there",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(nil),
			template:  labelled(set{"istio.io/rev": "ghost", "sidecar.istio.io/inject": "true"}),
			want:      mesh.ReasonPodRevisionDangling,
			message:   []string{`"ghost"`},
		}, {
			name:      "only a revision is installed and the default is asked for",
			webhooks:  []*webhookConfiguration{revisioned("canary")},
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonNoDefaultRevision,
			message:   []string{"istio.io/rev=canary"},
		}, {
			name:      "only a revision is installed and the Pod asks",
			webhooks:  []*webhookConfiguration{revisioned("canary")},
			namespace: namespace(nil),
			template:  labelled(set{"sidecar.istio.io/inject": "true"}),
			want:      mesh.ReasonNoDefaultRevision,
		}, {
			name:      "only a revision is installed and the revision default is asked for",
			webhooks:  []*webhookConfiguration{revisioned("canary")},
			namespace: namespace(set{"istio.io/rev": "default"}),
			want:      mesh.ReasonNoDefaultRevision,
		}, {
			name:      "the default webhook was deactivated and nothing took its place",
			webhooks:  []*webhookConfiguration{deactivated(helm()), revisioned("canary")},
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonWebhookDeactivated,
			message:   []string{"istio-sidecar-injector"},
		}, {
			name:      "a merge left the default webhook deactivated",
			webhooks:  []*webhookConfiguration{merged(helm())},
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonWebhookDeactivated,
		}, {
			name:      "a deactivated default does not explain a missing revision",
			webhooks:  []*webhookConfiguration{deactivated(helm()), tagged("default", "canary")},
			namespace: namespace(set{"istio.io/rev": "ghost"}),
			want:      mesh.ReasonNamespaceRevisionDangling,
		}, {
			name:      "an annotation selects no webhook",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(nil),
			template:  annotated(set{"sidecar.istio.io/inject": "true"}),
			want:      mesh.ReasonAnnotationWithoutWebhook,
		}, {
			name:      "an ambient namespace needs no sidecar",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio.io/dataplane-mode": "ambient"}),
			want:      mesh.ReasonAmbient,
		}, {
			name:      "an ambient Pod needs no sidecar",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio.io/dataplane-mode": "none"}),
			template:  labelled(set{"istio.io/dataplane-mode": "ambient"}),
			want:      mesh.ReasonAmbient,
		}, {
			name:      "a Pod that left ambient mode is in an unlabelled namespace",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio.io/dataplane-mode": "ambient"}),
			template:  labelled(set{"istio.io/dataplane-mode": "none"}),
			want:      mesh.ReasonNamespaceNotLabelled,
		}, {
			name:      "the Pod opted out by label",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio-injection": "enabled"}),
			template:  labelled(set{"sidecar.istio.io/inject": "false"}),
			want:      mesh.ReasonPodLabelOptOut,
			message:   []string{`label sidecar.istio.io/inject="false"`},
		}, {
			name:      "the Pod opted out by annotation",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio-injection": "enabled"}),
			template:  annotated(set{"sidecar.istio.io/inject": "false"}),
			want:      mesh.ReasonPodAnnotationOptOut,
			message:   []string{`annotation sidecar.istio.io/inject="false"`},
		}, {
			name:      "the Gateway controller manages the Pod",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: namespace(set{"istio-injection": "enabled"}),
			template:  labelled(set{"sidecar.istio.io/inject": "false", "gateway.networking.k8s.io/gateway-name": "public"}),
			want:      mesh.ReasonGatewayManaged,
		}, {
			name:      "a namespace that Istio ignores",
			webhooks:  []*webhookConfiguration{helm()},
			namespace: mesh.Namespace{Name: "kube-public", Labels: set{"istio-injection": "enabled"}},
			want:      mesh.ReasonIgnoredNamespace,
			message:   []string{`"kube-public"`},
		}, {
			name: "webhooks that leave the Pod out",
			webhooks: []*webhookConfiguration{configuration("istio-sidecar-injector", "default",
				webhook("", selector(in("istio-injection", "enabled")), selector(in("tier", "web"))))},
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonPodNotSelected,
		}, {
			name: "webhooks of a revision that leave the Pod out",
			webhooks: []*webhookConfiguration{configuration("istio-sidecar-injector-canary", "canary",
				webhook("", selector(in("istio.io/rev", "canary")), selector(in("tier", "web"))))},
			namespace: namespace(set{"istio.io/rev": "canary"}),
			want:      mesh.ReasonPodNotSelected,
		}, {
			name: "a webhook that does not cover Pods",
			webhooks: []*webhookConfiguration{configuration("istio-sidecar-injector", "default",
				admissionregistrationv1.MutatingWebhook{Name: "sidecar-injector.istio.io"})},
			namespace: namespace(set{"istio-injection": "enabled"}),
			want:      mesh.ReasonNoIstioWebhook,
			message:   []string{"rules"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := injector(test.webhooks).Expect(test.namespace, test.template)
			if diff := cmp.Diff(mesh.Expectation{Reason: test.want}, got, cmpopts.IgnoreFields(mesh.Expectation{}, "Message", "Notes", "Ambient")); diff != "" {
				t.Errorf("Expect (-want +got):\n%s%s", diff, got.Message)
			}
			if !strings.HasSuffix(got.Message, ".") {
				t.Errorf("message %q is no sentence", got.Message)
			}
			for _, fragment := range test.message {
				if !strings.Contains(got.Message, fragment) {
					t.Errorf("message %q does not say %s", got.Message, fragment)
				}
			}
		})
	}
}

func TestTheLastWebhookThatInjectsWins(t *testing.T) {
	both := []*webhookConfiguration{helm(), tagged("default", "canary")}
	ask := namespace(set{"istio-injection": "enabled"})

	got := injector(both).Expect(ask, mesh.Template{})
	if got.Revision != "default" || !strings.Contains(got.Message, "istio-sidecar-injector") {
		t.Errorf("both inject, the last by name is istio-sidecar-injector: got %+v", got)
	}
	got = injector(both, settings("istio-sidecar-injector", "policy: disabled\n"), settings("istio-sidecar-injector-canary", enabled)).
		Expect(ask, mesh.Template{})
	if got.Revision != "canary" {
		t.Errorf("the last declines, the sidecar of the first stays: got %+v", got)
	}
	got = injector(both, settings("istio-sidecar-injector", enabled), settings("istio-sidecar-injector-canary", "policy: disabled\n")).
		Expect(ask, mesh.Template{})
	if got.Revision != "default" {
		t.Errorf("the first declines: got %+v", got)
	}
}

func TestWebhooksOfOneConfigurationAreCalledInTheirOrder(t *testing.T) {
	one := configuration("istio-sidecar-injector", "default", webhook("a.", nil, nil), webhook("b.", nil, nil))
	if got := injector([]*webhookConfiguration{one}).Expect(namespace(nil), mesh.Template{}); !strings.Contains(got.Message, "b.sidecar-injector") {
		t.Errorf("got %+v", got)
	}
}

func TestUnlabelledNamespacesCanBeInjectedByDefault(t *testing.T) {
	istio := injector([]*webhookConfiguration{auto(helm())})
	if got := istio.Expect(namespace(nil), mesh.Template{}); !got.Inject {
		t.Errorf("a namespace without labels: got %+v", got)
	}
	// The API server gives every namespace a label with its name.
	got := istio.Expect(mesh.Namespace{Name: "kube-system"}, mesh.Template{})
	if got.Inject {
		t.Errorf("kube-system: got %+v", got)
	}
	if got := istio.Expect(namespace(nil), labelled(set{"sidecar.istio.io/inject": ""})); got.Inject {
		t.Errorf("a Pod with an empty label: got %+v", got)
	}
}

func TestTheInjectorsConfigurationIsFound(t *testing.T) {
	service := func(namespace string) []*webhookConfiguration {
		made := revisioned("canary")
		for i := range made.Webhooks {
			made.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new("https://istiod.example.com/inject")}
			if namespace != "" {
				made.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{
					Service: &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: "istiod-canary"},
				}
			}
		}
		return []*webhookConfiguration{made}
	}
	off := settings("istio-sidecar-injector-canary", "policy: disabled\n")
	offIn := func(namespace string) *corev1.ConfigMap {
		moved := off.DeepCopy()
		moved.Namespace = namespace
		return moved
	}
	tests := []struct {
		name       string
		webhooks   []*webhookConfiguration
		configMaps []*corev1.ConfigMap
		options    mesh.Options
		want       mesh.Reason
		assumed    string
	}{
		{name: "beside the service", webhooks: service("mesh"), configMaps: []*corev1.ConfigMap{offIn("mesh")}, want: mesh.ReasonPolicyDisabled},
		{name: "in istio-system for a URL", webhooks: service(""), configMaps: []*corev1.ConfigMap{off}, want: mesh.ReasonPolicyDisabled},
		{
			name: "where the options say for a URL", webhooks: service(""), configMaps: []*corev1.ConfigMap{offIn("mesh")},
			options: mesh.Options{IstioNamespace: "mesh"}, want: mesh.ReasonPolicyDisabled,
		},
		{
			name: "not in another namespace", webhooks: service("mesh"), configMaps: []*corev1.ConfigMap{off},
			want: mesh.ReasonExpected, assumed: "mesh/istio-sidecar-injector-canary could not be read",
		},
		{
			name: "not of another revision", webhooks: service("istio-system"), configMaps: []*corev1.ConfigMap{settings("istio-sidecar-injector", "policy: disabled\n")},
			want: mesh.ReasonExpected, assumed: "istio-system/istio-sidecar-injector-canary could not be read",
		},
		{
			name: "not understood", webhooks: service("istio-system"), configMaps: []*corev1.ConfigMap{settings("istio-sidecar-injector-canary", "policy: [")},
			want: mesh.ReasonExpected, assumed: "could not be understood",
		},
		{
			name: "of another type", webhooks: service("istio-system"), configMaps: []*corev1.ConfigMap{settings("istio-sidecar-injector-canary", "neverInjectSelector: yes")},
			want: mesh.ReasonExpected, assumed: "could not be understood",
		},
		{
			name: "without its key", webhooks: service("istio-system"),
			configMaps: []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-sidecar-injector-canary"}}},
			want:       mesh.ReasonExpected, assumed: "no key config",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			istio := mesh.NewInjector(test.webhooks, test.configMaps, test.options)
			got := istio.Expect(namespace(set{"istio.io/rev": "canary"}), mesh.Template{})
			if got.Reason != test.want || !strings.Contains(got.Assumed, test.assumed) || (test.assumed == "") != (got.Assumed == "") {
				t.Errorf("got %+v, want reason %s, assumed %q", got, test.want, test.assumed)
			}
		})
	}
}

func TestAssumptionsDoNotBlurWhatIsCertain(t *testing.T) {
	istio := mesh.NewInjector([]*webhookConfiguration{helm()}, nil, mesh.Options{})
	got := istio.Expect(namespace(set{"istio-injection": "enabled"}), labelled(set{"sidecar.istio.io/inject": "false"}))
	if got.Assumed != "" {
		t.Errorf("an opt-out does not depend on the ConfigMap: got %+v", got)
	}
}

func TestMatchConditionsAreEvaluated(t *testing.T) {
	conditioned := func(policy admissionregistrationv1.FailurePolicyType, expressions ...string) []*webhookConfiguration {
		made := configuration("istio-sidecar-injector", "default", webhook("", nil, nil))
		made.Webhooks[0].FailurePolicy = &policy
		for _, expression := range expressions {
			made.Webhooks[0].MatchConditions = append(made.Webhooks[0].MatchConditions,
				admissionregistrationv1.MatchCondition{Name: expression, Expression: expression})
		}
		return []*webhookConfiguration{made}
	}
	evaluate := func(request mesh.MatchRequest) (mesh.Match, error) {
		answer := mesh.Match{Met: true}
		var err error
		for _, condition := range request.Conditions {
			switch condition.Expression {
			case "false":
				return mesh.Match{Failed: condition.Name}, nil
			case "broken":
				err = errors.New("no such field")
			case "unknown":
				answer.Assumed = "condition unknown was taken to be met"
			}
		}
		return answer, err
	}
	const fail, ignore = admissionregistrationv1.Fail, admissionregistrationv1.Ignore
	tests := []struct {
		name        string
		webhooks    []*webhookConfiguration
		evaluate    func(mesh.MatchRequest) (mesh.Match, error)
		want        mesh.Reason
		wantAssumed bool
	}{
		{name: "all are true", webhooks: conditioned(fail, "true", "true"), evaluate: evaluate, want: mesh.ReasonExpected},
		{name: "one is false", webhooks: conditioned(fail, "true", "false"), evaluate: evaluate, want: mesh.ReasonMatchConditionFalse},
		{name: "one is broken, another false", webhooks: conditioned(fail, "broken", "false"), evaluate: evaluate, want: mesh.ReasonMatchConditionFalse},
		{name: "one is broken under Fail", webhooks: conditioned(fail, "broken", "true"), evaluate: evaluate, want: mesh.ReasonExpected, wantAssumed: true},
		{name: "one is not known", webhooks: conditioned(fail, "unknown", "true"), evaluate: evaluate, want: mesh.ReasonExpected, wantAssumed: true},
		{name: "one is not known, another broken", webhooks: conditioned(fail, "unknown", "broken"), evaluate: evaluate, want: mesh.ReasonExpected, wantAssumed: true},
		{name: "one is broken under Ignore", webhooks: conditioned(ignore, "true", "broken"), evaluate: evaluate, want: mesh.ReasonMatchConditionFalse},
		{name: "nobody can evaluate them", webhooks: conditioned(fail, "false"), want: mesh.ReasonExpected, wantAssumed: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			istio := mesh.NewInjector(test.webhooks, []*corev1.ConfigMap{settings("istio-sidecar-injector", enabled)},
				mesh.Options{Match: test.evaluate})
			got := istio.Expect(namespace(nil), mesh.Template{})
			if got.Reason != test.want || (got.Assumed != "") != test.wantAssumed {
				t.Errorf("got %+v, want reason %s, assumed %t", got, test.want, test.wantAssumed)
			}
		})
	}
}

// The API server refuses what the other selector selects: the dry run shows that.
func TestASelectorThatCannotBeReadLeavesNothingOut(t *testing.T) {
	invalid := selector(metav1.LabelSelectorRequirement{Key: "a", Operator: "Wish"})
	tests := []struct {
		name                string
		namespaces, objects *metav1.LabelSelector
		want                mesh.Reason
	}{
		{name: "of namespaces", namespaces: invalid, want: mesh.ReasonExpected},
		{name: "of Pods", objects: invalid, want: mesh.ReasonExpected},
		{name: "of both", namespaces: invalid, objects: invalid, want: mesh.ReasonExpected},
		{name: "of namespaces, for a Pod that is not selected", namespaces: invalid, objects: selector(in("a", "b")), want: mesh.ReasonNamespaceNotLabelled},
		{name: "of Pods, in a namespace that is not selected", namespaces: selector(in("a", "b")), objects: invalid, want: mesh.ReasonNamespaceNotLabelled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			istio := injector([]*webhookConfiguration{configuration("istio-sidecar-injector", "default", webhook("", test.namespaces, test.objects))})
			got := istio.Expect(namespace(nil), mesh.Template{})
			if got.Reason != test.want || got.Inject != strings.Contains(got.Assumed, "cannot be evaluated") {
				t.Errorf("got %+v, want reason %s, and to hear of the selector where that is %s", got, test.want, mesh.ReasonExpected)
			}
		})
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
