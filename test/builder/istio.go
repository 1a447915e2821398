package builder

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// IstioWebhooks is what Istio's chart registers for a control plane without a revision of its own.
const IstioWebhooks = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: istio-sidecar-injector
  labels: {app: sidecar-injector, istio.io/rev: default}
webhooks:
- name: rev.namespace.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio.io/rev, operator: In, values: [default]}
    - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
  clientConfig: &client
    service: {namespace: istio-system, name: istiod, path: /inject, port: 443}
  failurePolicy: Fail
  rules: &rules
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  admissionReviewVersions: [v1]
  sideEffects: None
- name: rev.object.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio.io/rev, operator: DoesNotExist}
    - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
    - {key: istio.io/rev, operator: In, values: [default]}
  clientConfig: *client
  failurePolicy: Fail
  rules: *rules
  admissionReviewVersions: [v1]
  sideEffects: None
- name: namespace.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio-injection, operator: In, values: [enabled]}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
  clientConfig: *client
  failurePolicy: Fail
  rules: *rules
  admissionReviewVersions: [v1]
  sideEffects: None
- name: object.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio-injection, operator: DoesNotExist}
    - {key: istio.io/rev, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: In, values: ["true"]}
    - {key: istio.io/rev, operator: DoesNotExist}
  clientConfig: *client
  failurePolicy: Fail
  rules: *rules
  admissionReviewVersions: [v1]
  sideEffects: None
`

// Webhooks are IstioWebhooks.
func Webhooks() *admissionregistrationv1.MutatingWebhookConfiguration {
	return parseWebhooks(IstioWebhooks)
}

// RevisionWebhooks are what Istio's chart registers for a revision: it serves who asks for it by
// name.
func RevisionWebhooks(revision string) *admissionregistrationv1.MutatingWebhookConfiguration {
	text := strings.NewReplacer("istio-sidecar-injector", "istio-sidecar-injector-"+revision, "default", revision).Replace(IstioWebhooks)
	configuration := parseWebhooks(text)
	configuration.Webhooks = configuration.Webhooks[:2]
	return configuration
}

// LettingPass makes the API server create Pods without a sidecar while the injector is down.
func LettingPass(configuration *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.MutatingWebhookConfiguration {
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].FailurePolicy = new(admissionregistrationv1.Ignore)
	}
	return configuration
}

func parseWebhooks(text string) *admissionregistrationv1.MutatingWebhookConfiguration {
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict([]byte(text), configuration); err != nil {
		panic(fmt.Sprintf("the webhook configuration above cannot be read: %v", err))
	}
	return configuration
}

// PeerAuthentication says which mode of mutual TLS holds for a namespace: STRICT, PERMISSIVE and so on.
func PeerAuthentication(namespace, name, mode string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"mtls": map[string]any{"mode": mode}}}}
	object.SetAPIVersion("security.istio.io/v1beta1")
	object.SetKind("PeerAuthentication")
	object.SetNamespace(namespace)
	object.SetName(name)
	return object
}

// InjectorSettings is the ConfigMap of the control plane without a revision of its own.
func InjectorSettings() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-sidecar-injector"},
		Data:       map[string]string{"config": "policy: enabled\n", "values": `{"global":{"tag":"1.31.0"}}`},
	}
}
