package mesh_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// The files in testdata were not written by hand: injection-truth-4500.csv holds what Istio's real
// injector answered behind a real API server under injection-truth-mwc.yaml; pods and goldens.jsonl
// hold Pod templates as Istio's own tests expect them after injection (istio.io/istio, Apache License
// 2.0).

// set are labels, written as pairs.
type set = map[string]string

type webhookConfiguration = admissionregistrationv1.MutatingWebhookConfiguration

// helm is what the istiod chart registers for a control plane that has no revision.
func helm() *webhookConfiguration {
	return configuration("istio-sidecar-injector", "default", append(byRevision("default"), byDefault()...)...)
}

// revisioned is what the istiod chart registers for a revision.
func revisioned(revision string) *webhookConfiguration {
	return configuration("istio-sidecar-injector-"+revision, revision, byRevision(revision)...)
}

// tagged is what a revision tag registers; the tag default also serves who asks for no revision.
func tagged(tag, revision string) *webhookConfiguration {
	webhooks := byRevision(tag)
	if tag == "default" {
		webhooks = append(webhooks, byDefault()...)
	}
	made := configuration("istio-revision-tag-"+tag, revision, webhooks...)
	made.Labels["istio.io/tag"] = tag
	return made
}

// deactivated is a configuration after istioctl has switched it off.
func deactivated(configuration *webhookConfiguration) *webhookConfiguration {
	never := &metav1.LabelSelector{MatchLabels: set{"istio.io/deactivated": "never-match"}}
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].NamespaceSelector = never
		configuration.Webhooks[i].ObjectSelector = never
	}
	return configuration
}

// merged is what a three-way merge makes of a deactivated configuration.
func merged(configuration *webhookConfiguration) *webhookConfiguration {
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].NamespaceSelector.MatchLabels = set{"istio.io/deactivated": "never-match"}
		configuration.Webhooks[i].ObjectSelector.MatchLabels = set{"istio.io/deactivated": "never-match"}
	}
	return configuration
}

// auto adds the webhook that injects namespaces without any label.
func auto(configuration *webhookConfiguration) *webhookConfiguration {
	configuration.Webhooks = append(configuration.Webhooks, webhook("auto.",
		selector(absent("istio-injection"), absent("istio.io/rev"),
			notIn("kubernetes.io/metadata.name", "kube-system", "kube-public", "kube-node-lease", "local-path-storage")),
		selector(absent("sidecar.istio.io/inject"), absent("istio.io/rev"))))
	return configuration
}

func byRevision(asked string) []admissionregistrationv1.MutatingWebhook {
	return []admissionregistrationv1.MutatingWebhook{
		webhook("rev.namespace.",
			selector(in("istio.io/rev", asked), absent("istio-injection")),
			selector(notIn("sidecar.istio.io/inject", "false"))),
		webhook("rev.object.",
			selector(absent("istio.io/rev"), absent("istio-injection")),
			selector(notIn("sidecar.istio.io/inject", "false"), in("istio.io/rev", asked))),
	}
}

func byDefault() []admissionregistrationv1.MutatingWebhook {
	return []admissionregistrationv1.MutatingWebhook{
		webhook("namespace.",
			selector(in("istio-injection", "enabled")),
			selector(notIn("sidecar.istio.io/inject", "false"))),
		webhook("object.",
			selector(absent("istio-injection"), absent("istio.io/rev")),
			selector(in("sidecar.istio.io/inject", "true"), absent("istio.io/rev"))),
	}
}

func configuration(name, revision string, webhooks ...admissionregistrationv1.MutatingWebhook) *webhookConfiguration {
	return &webhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set{"istio.io/rev": revision, "app": "sidecar-injector"}},
		Webhooks:   webhooks,
	}
}

func webhook(prefix string, namespaces, objects *metav1.LabelSelector) admissionregistrationv1.MutatingWebhook {
	return admissionregistrationv1.MutatingWebhook{
		Name: prefix + "sidecar-injector.istio.io",
		ClientConfig: admissionregistrationv1.WebhookClientConfig{
			Service:  &admissionregistrationv1.ServiceReference{Namespace: "istio-system", Name: "istiod"},
			CABundle: []byte("certificate"),
		},
		NamespaceSelector: namespaces,
		ObjectSelector:    objects,
		FailurePolicy:     new(admissionregistrationv1.Fail),
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
	}
}

func selector(requirements ...metav1.LabelSelectorRequirement) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: requirements}
}

func in(key string, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: values}
}

func notIn(key string, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpNotIn, Values: values}
}

func absent(key string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpDoesNotExist}
}

// settings is an injector's ConfigMap of Istio 1.31.
func settings(name, config string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name},
		Data:       set{"config": config, "values": `{"global":{"tag":"1.31.0"}}`},
	}
}

const enabled = "policy: enabled\n"

// injector has the webhooks given, and every ConfigMap that they need unless some are given.
func injector(webhooks []*webhookConfiguration, configMaps ...*corev1.ConfigMap) *mesh.Injector {
	if len(configMaps) == 0 {
		for _, name := range []string{"", "-canary", "-stable"} {
			configMaps = append(configMaps, settings("istio-sidecar-injector"+name, enabled))
		}
	}
	return mesh.NewInjector(webhooks, configMaps, mesh.Options{})
}

func namespace(labels set) mesh.Namespace { return mesh.Namespace{Name: "shop", Labels: labels} }

func labelled(labels set) mesh.Template { return mesh.Template{Labels: labels} }

func annotated(annotations set) mesh.Template { return mesh.Template{Annotations: annotations} }

// webhooksFrom reads the configurations of a file, in another order than the API server's.
func webhooksFrom(t testing.TB, path string) []*webhookConfiguration {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var read []*webhookConfiguration
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		configuration := &webhookConfiguration{}
		if err := yaml.UnmarshalStrict(document, configuration); err != nil {
			t.Fatal(err)
		}
		if configuration.Name != "" {
			read = append(read, configuration)
		}
	}
	slices.Reverse(read)
	return read
}

// podFrom reads a Pod of testdata/pods.
func podFrom(t testing.TB, name string) *corev1.Pod {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "pods", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(content, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}
