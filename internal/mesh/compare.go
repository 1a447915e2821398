package mesh

import (
	"cmp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// IsIstioWebhook reports whether the configuration has a webhook of Istio's sidecar injection.
func IsIstioWebhook(configuration *admissionregistrationv1.MutatingWebhookConfiguration) bool {
	return slices.ContainsFunc(configuration.Webhooks, func(webhook admissionregistrationv1.MutatingWebhook) bool {
		return strings.HasSuffix(webhook.Name, WebhookSuffix)
	})
}

// Equal reports whether two injectors decide the same for every Pod.
func (i *Injector) Equal(other *Injector) bool {
	return slices.Equal(i.revisions, other.revisions) && i.ambient.text == other.ambient.text
}

// CompareObservations orders observations, so what is said of them does not depend on the
// order in which Pods were seen.
func CompareObservations(a, b Observation) int {
	return cmp.Or(
		cmp.Compare(a.Proxy, b.Proxy),
		cmp.Compare(a.Capture, b.Capture),
		cmp.Compare(a.Ambient, b.Ambient),
		strings.Compare(a.Revision, b.Revision),
		strings.Compare(a.Image, b.Image),
		strings.Compare(a.Spoofed, b.Spoofed),
		strings.Compare(a.Asks, b.Asks),
	)
}
