package mesh_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

func TestRevisionsAreThoseThatAWebhookLeadsTo(t *testing.T) {
	tests := []struct {
		name      string
		webhooks  []*webhookConfiguration
		want      []string
		installed bool
	}{
		{name: "no Istio"},
		{name: "webhooks of others", webhooks: []*webhookConfiguration{configuration("other", "x", admissionregistrationv1.MutatingWebhook{Name: "x.example.com"})}},
		{name: "helm", webhooks: []*webhookConfiguration{helm()}, want: []string{"default"}, installed: true},
		{name: "revision and tag", webhooks: []*webhookConfiguration{tagged("prod", "canary"), revisioned("canary"), helm()}, want: []string{"canary", "default"}, installed: true},
		{name: "only the tag is left", webhooks: []*webhookConfiguration{tagged("prod", "canary")}, want: []string{"canary"}, installed: true},
		{name: "all is deactivated", webhooks: []*webhookConfiguration{deactivated(helm())}, installed: true},
		{name: "a configuration without label is the default revision", webhooks: []*webhookConfiguration{configuration("custom", "", webhook("", nil, nil))}, want: []string{"default"}, installed: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			istio := injector(test.webhooks)
			if diff := cmp.Diff(test.want, istio.Revisions()); diff != "" {
				t.Errorf("Revisions (-want +got):\n%s", diff)
			}
			if istio.Installed() != test.installed {
				t.Errorf("Installed is %t", istio.Installed())
			}
		})
	}
}

func TestFailurePolicyIgnoreIsToldPerRevision(t *testing.T) {
	ignoring := revisioned("canary")
	ignoring.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore)
	unset := helm()
	for i := range unset.Webhooks {
		unset.Webhooks[i].FailurePolicy = nil
	}
	istio := injector([]*webhookConfiguration{unset, ignoring, tagged("prod", "stable")})
	for revision, want := range map[string]bool{"": false, "default": false, "canary": true, "stable": false, "ghost": false} {
		if istio.FailurePolicyIgnore(revision) != want {
			t.Errorf("FailurePolicyIgnore(%q) is not %t", revision, want)
		}
	}
}

func TestRulesCoverTheCreationOfPods(t *testing.T) {
	type rule = admissionregistrationv1.RuleWithOperations
	made := func(operation admissionregistrationv1.OperationType, group, version, resource string) rule {
		return rule{
			Operations: []admissionregistrationv1.OperationType{operation},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}},
		}
	}
	scoped := func(scope admissionregistrationv1.ScopeType) rule {
		rule := made("CREATE", "", "v1", "pods")
		rule.Scope = &scope
		return rule
	}
	tests := []struct {
		name string
		rule rule
		want bool
	}{
		{"Istio's own", made("CREATE", "", "v1", "pods"), true},
		{"everything", made("*", "*", "*", "*"), true},
		{"everything with subresources", made("*", "*", "*", "*/*"), true},
		{"Pods with subresources", made("CREATE", "", "v1", "pods/*"), true},
		{"a subresource", made("CREATE", "", "v1", "pods/eviction"), false},
		{"a subresource of everything", made("CREATE", "", "v1", "*/status"), false},
		{"another resource", made("CREATE", "", "v1", "services"), false},
		{"another operation", made("UPDATE", "", "v1", "pods"), false},
		{"another group", made("CREATE", "apps", "v1", "pods"), false},
		{"another version", made("CREATE", "", "v2", "pods"), false},
		{"all scopes", scoped("*"), true},
		{"objects in namespaces", scoped("Namespaced"), true},
		{"objects of the cluster", scoped("Cluster"), false},
		{"nothing", rule{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			one := webhook("", nil, nil)
			one.Rules = []rule{made("DELETE", "", "v1", "pods"), test.rule}
			istio := injector([]*webhookConfiguration{configuration("istio-sidecar-injector", "default", one)})
			if got := istio.Expect(namespace(nil), mesh.Template{}).Inject; got != test.want {
				t.Errorf("covered: %t, want %t", got, test.want)
			}
		})
	}
}

func TestNamespacesCanBeSelectedByName(t *testing.T) {
	one := webhook("", selector(in("kubernetes.io/metadata.name", "shop")), nil)
	istio := injector([]*webhookConfiguration{configuration("istio-sidecar-injector", "default", one)})
	for name, want := range map[string]bool{"shop": true, "bank": false} {
		if got := istio.Expect(mesh.Namespace{Name: name}, mesh.Template{}).Inject; got != want {
			t.Errorf("namespace %s: injected %t, want %t", name, got, want)
		}
	}
}

func TestTheOrderOfWhatWasListedDoesNotMatter(t *testing.T) {
	webhooks := append(webhooksFrom(t, filepath.Join("testdata", "injection-truth-mwc.yaml")), tagged("default", "canary"))
	configMaps := []*corev1.ConfigMap{
		settings("istio-sidecar-injector", "policy: disabled\n"), settings("istio-sidecar-injector-canary", enabled),
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "istio-sidecar-injector"}},
	}
	rows := truth(t)
	random := rand.New(rand.NewPCG(1, 2))
	first := injector(webhooks, configMaps...)
	for range 5 {
		random.Shuffle(len(webhooks), func(i, j int) { webhooks[i], webhooks[j] = webhooks[j], webhooks[i] })
		random.Shuffle(len(configMaps), func(i, j int) { configMaps[i], configMaps[j] = configMaps[j], configMaps[i] })
		shuffled := injector(webhooks, configMaps...)
		for _, row := range rows {
			if diff := cmp.Diff(first.Expect(row.namespace, row.template), shuffled.Expect(row.namespace, row.template)); diff != "" {
				t.Fatalf("namespace %v, template %v:\n%s", row.namespace.Labels, row.template, diff)
			}
		}
		for _, revision := range first.Revisions() {
			if first.Fingerprint(revision) != shuffled.Fingerprint(revision) {
				t.Fatalf("fingerprint of %s changed with the order", revision)
			}
		}
	}
}

func TestTheFingerprintChangesWithWhatDecides(t *testing.T) {
	type state struct {
		canary, prod *webhookConfiguration
		config       *corev1.ConfigMap
	}
	tests := []struct {
		name   string
		change func(*state)
		want   bool
	}{
		{"nothing", func(*state) {}, false},
		{"certificates", func(s *state) { s.canary.Webhooks[0].ClientConfig.CABundle = []byte("renewed") }, false},
		{"versions and managers", func(s *state) {
			s.canary.ResourceVersion, s.config.ResourceVersion = "2", "2"
			s.canary.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "helm"}}
		}, false},
		{"labels of the ConfigMap", func(s *state) { s.config.Labels = set{"a": "b"} }, false},
		{"the default failure policy made explicit", func(s *state) { s.canary.Webhooks[0].FailurePolicy = nil }, false},
		{"the failure policy", func(s *state) { s.canary.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore) }, true},
		{"a selector of namespaces", func(s *state) { s.canary.Webhooks[0].NamespaceSelector = nil }, true},
		{"a selector of Pods", func(s *state) { s.canary.Webhooks[0].ObjectSelector = selector() }, true},
		{"a rule", func(s *state) { s.canary.Webhooks[0].Rules[0].Resources = []string{"*"} }, true},
		{"a match condition", func(s *state) {
			s.canary.Webhooks[0].MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "a", Expression: "true"}}
		}, true},
		{"the service", func(s *state) { s.canary.Webhooks[0].ClientConfig.Service.Name = "other" }, true},
		{"the address", func(s *state) {
			s.canary.Webhooks[0].ClientConfig.URL = new("https://istiod.example.com/inject")
		}, true},
		{"deactivation", func(s *state) { deactivated(s.canary) }, true},
		{"the tag was moved away", func(s *state) { s.prod.Labels["istio.io/rev"] = "stable" }, true},
		{"the configuration", func(s *state) { s.config.Data["config"] = "policy: disabled" }, true},
		{"the values", func(s *state) { s.config.Data["values"] = `{"global":{"tag":"1.31.1"}}` }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fingerprints := func(change func(*state)) (canary, other string) {
				s := &state{canary: revisioned("canary"), prod: tagged("prod", "canary"), config: settings("istio-sidecar-injector-canary", enabled)}
				change(s)
				istio := injector([]*webhookConfiguration{helm(), s.canary, s.prod}, s.config, settings("istio-sidecar-injector", enabled))
				return istio.Fingerprint("canary"), istio.Fingerprint("")
			}
			before, otherBefore := fingerprints(func(*state) {})
			after, otherAfter := fingerprints(test.change)
			if len(before) != 16 || (before != after) != test.want {
				t.Errorf("fingerprint %q, then %q", before, after)
			}
			if otherBefore == "" || otherBefore != otherAfter {
				t.Errorf("the fingerprint of another revision was %q, then %q", otherBefore, otherAfter)
			}
		})
	}
	if got := injector(nil).Fingerprint("default"); got != "" {
		t.Errorf("fingerprint of nothing is %q", got)
	}
}

func TestTheFingerprintChangesWithTheVersionThatReadsValues(t *testing.T) {
	of := func(version string) string {
		config := settings("istio-sidecar-injector", enabled)
		config.Data["values"] = ""
		config.Labels = set{"app.kubernetes.io/version": version}
		return injector([]*webhookConfiguration{helm()}, config).Fingerprint("")
	}
	if of("1.26.0") == of("1.27.0") {
		t.Error("1.26 and 1.27 read values differently")
	}
	if of("") != of("1.0.0") {
		t.Error("a development build tells no version")
	}
}

func FuzzInjectorConfig(f *testing.F) {
	for _, config := range []string{
		enabled, "policy: disabled\n", "policy: 7", "", "[]", "policy: [", "null", "\t",
		"policy: enabled\nneverInjectSelector:\n- matchLabels: {a: b}\n- {}\n",
		"policy: disabled\nalwaysInjectSelector:\n- matchExpressions: [{key: a, operator: In, values: [b]}]\n",
		"alwaysInjectSelector: [{matchExpressions: [{key: a, operator: Wish}]}]",
		"neverInjectSelector: [null]",
		"policy: enabled\ndefaultTemplates: [a]\naliases: {a: [a, b], b: []}\ntemplates: {a: '{{ .ProxyImage }}', b: ''}\n",
		"policy: enabled\ntemplates: {sidecar: '{{ .ProxyImage }}'}\n",
	} {
		f.Add(config, `{"global":{"tag":"1.26.0"}}`, "", "true")
		f.Add(config, "", "1.27.0", "no")
		f.Add(config, `{"global":{"tag":1.2}}`, "1.", "")
	}
	f.Fuzz(func(t *testing.T, config, values, version, value string) {
		configMap := settings("istio-sidecar-injector", config)
		configMap.Data["values"] = values
		configMap.Labels = set{"app.kubernetes.io/version": version}
		istio := injector(everyPod(), configMap)
		got := istio.Expect(namespace(nil), mesh.Template{Labels: set{"sidecar.istio.io/inject": value, "a": "b"}})
		switch {
		case got.Reason == "" || got.Message == "":
			t.Errorf("incomplete answer %+v", got)
		case got.Inject != (got.Reason == mesh.ReasonExpected) || got.Inject != (got.Revision == "default"):
			t.Errorf("contradictory answer %+v", got)
		case value == "false" && got.Reason != mesh.ReasonPodLabelOptOut:
			t.Errorf("an opt-out always counts: %+v", got)
		case value == "true" && !got.Inject && got.Reason != mesh.ReasonInvalidPolicy:
			t.Errorf("a wish counts under every known policy: %+v", got)
		}
		if again := injector(everyPod(), configMap); again.Fingerprint("") != istio.Fingerprint("") {
			t.Error("the fingerprint is not stable")
		}
	})
}

func BenchmarkNewInjector(b *testing.B) {
	webhooks := webhooksFrom(b, filepath.Join("testdata", "injection-truth-mwc.yaml"))
	for b.Loop() {
		injector(webhooks)
	}
}
