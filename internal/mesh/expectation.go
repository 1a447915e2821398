package mesh

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace is what injection looks at in a namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Template is what injection looks at in a Pod template.
type Template struct {
	Labels      map[string]string
	Annotations map[string]string
	HostNetwork bool
	// Spec is the whole spec; nil where only the rest was kept.
	Spec *corev1.PodSpec
	// Kind of the workload, as far as it says what its controller adds to the Pods: Deployment,
	// StatefulSet, DaemonSet, Job, CronJob, ReplicaSet. Empty for Pods that nothing controls or
	// something else does.
	Kind string
}

// Expectation is what admission would do to a new Pod of a template now.
type Expectation struct {
	// Inject says whether the Pod would get a sidecar.
	Inject bool
	// Revision of the injector that would have the last word; empty where Inject is false.
	Revision string
	// Image of the proxy; empty where it cannot be told.
	Image string
	// Ambient says that Istio's CNI agent would capture the Pod as long as it has no sidecar.
	Ambient bool
	// Reason is why, as one word; Expected where Inject is true.
	Reason Reason
	// Message is why, as a sentence that says what would change it.
	Message string
	// Assumed says that something could not be read, and which; empty where everything was.
	Assumed string
	// Notes are worth knowing in addition.
	Notes []Note
}

// Reason is why injection is or is not expected, or why a finding is what it is. The words are
// stable: they stand in reports, metrics and JSON.
type Reason string

// ReasonExpected: a webhook selects the template and its injector gives it a sidecar.
const ReasonExpected Reason = "Expected"

// Why no sidecar is expected, where the Pod or its namespace can never have one, or asked for
// none.
const (
	// ReasonHostNetwork: the Pod uses the host's network.
	ReasonHostNetwork Reason = "HostNetwork"
	// ReasonIgnoredNamespace: one of the namespaces that Istio never injects into.
	ReasonIgnoredNamespace Reason = "IgnoredNamespace"
	// ReasonGatewayManaged: the Gateway controller gives the Pod its proxy, not injection.
	ReasonGatewayManaged Reason = "GatewayManaged"
	// ReasonPodLabelOptOut: the template's label says no.
	ReasonPodLabelOptOut Reason = "PodLabelOptOut"
	// ReasonPodAnnotationOptOut: the template's annotation says no.
	ReasonPodAnnotationOptOut Reason = "PodAnnotationOptOut"
)

// Why no sidecar is expected, where the injector's configuration decides.
const (
	// ReasonNeverInjectSelector: the configuration excludes Pods with such labels.
	ReasonNeverInjectSelector Reason = "NeverInjectSelector"
	// ReasonPolicyDisabled: the configuration injects only Pods that ask for it.
	ReasonPolicyDisabled Reason = "PolicyDisabled"
	// ReasonInvalidPolicy: the configuration's policy is a word that Istio does not know, and
	// nothing is injected.
	ReasonInvalidPolicy Reason = "InvalidPolicy"
)

// Why no sidecar is expected, where no webhook selects the Pod.
const (
	// ReasonNoIstioWebhook: no webhook of Istio's covers the creation of Pods.
	ReasonNoIstioWebhook Reason = "NoIstioWebhook"
	// ReasonNamespaceNotLabelled: the namespace has no injection label.
	ReasonNamespaceNotLabelled Reason = "NamespaceNotLabelled"
	// ReasonNamespaceDisabled: the namespace's label istio-injection is not "enabled".
	ReasonNamespaceDisabled Reason = "NamespaceDisabled"
	// ReasonNamespaceRevisionDangling: the namespace asks for a revision that nobody serves.
	ReasonNamespaceRevisionDangling Reason = "NamespaceRevisionDangling"
	// ReasonPodRevisionDangling: the template asks for a revision that nobody serves.
	ReasonPodRevisionDangling Reason = "PodRevisionDangling"
	// ReasonNoDefaultRevision: the default revision is asked for and there is none.
	ReasonNoDefaultRevision Reason = "NoDefaultRevision"
	// ReasonWebhookDeactivated: the webhook that would select the Pod was deactivated, and no
	// other took its place.
	ReasonWebhookDeactivated Reason = "WebhookDeactivated"
	// ReasonAnnotationWithoutWebhook: the template's annotation says yes; annotations cannot
	// make a webhook select a Pod.
	ReasonAnnotationWithoutWebhook Reason = "AnnotationWithoutWebhook"
	// ReasonAmbient: the namespace or the Pod is labelled for ambient mode.
	ReasonAmbient Reason = "Ambient"
	// ReasonPodNotSelected: webhooks select the namespace, their selectors of Pods do not
	// select this one.
	ReasonPodNotSelected Reason = "PodNotSelected"
	// ReasonMatchConditionFalse: a webhook selects the Pod, one of its match conditions does
	// not.
	ReasonMatchConditionFalse Reason = "MatchConditionFalse"
	// ReasonSidecarInTemplate: no injection reaches the Pod, its template brings a sidecar.
	ReasonSidecarInTemplate Reason = "SidecarInTemplate"
)

// Expect says what admission would do to a new Pod of a template now: first the API server, which
// matches webhooks by labels and matchConditions, then each injector that it calls. Of several that
// inject, the last in the order of the API server has the last word, with its revision; one that
// declines leaves the sidecar of an earlier one in place. Whether the Pod is created at all it does not
// say: that is for a dry run, which has the API server's own words.
func (i *Injector) Expect(namespace Namespace, template Template) Expectation {
	return i.expectTracing(namespace, template, nil)
}

func (i *Injector) expectTracing(namespace Namespace, template Template, trace *trace) Expectation {
	expected, accepted := i.expect(namespace, &template, trace)
	expected.Ambient = i.ambient.selects(namespace, &template)
	expected.Notes = notesOn(namespace, &template, expected, accepted)
	return expected
}

func (i *Injector) expect(namespace Namespace, template *Template, trace *trace) (Expectation, []*hook) {
	call := i.call(namespace, template, trace)
	var decided Expectation
	switch {
	case len(call.accepted) > 0:
		decided = call.injected
	case hasSidecar(template):
		decided = bakedIn()
	case call.declined.Reason != "":
		decided = call.declined
	case call.skipped.Reason != "":
		decided = call.skipped
	default:
		decided = i.explainUnselected(namespace, template, &podLabels{template: template})
	}
	decided.Assumed = join(call.assumed, decided.Assumed)
	return decided, call.accepted
}

// called is what becomes of a Pod on its way through the webhooks: at each stage the last answer.
type called struct {
	injected, declined, skipped Expectation
	// accepted are the webhooks that inject.
	accepted []*hook
	// assumed says what could not be evaluated. Whichever way the webhook would answer, that may as
	// well keep it from being asked, or the Pod from being created.
	assumed string
}

func (i *Injector) call(namespace Namespace, template *Template, trace *trace) called {
	var call called
	labelled := &podLabels{template: template}
	for _, hook := range i.hooks {
		if !hook.covers {
			trace.notCovering(hook)
			continue
		}
		if !hook.selects(namespace, labelled) {
			trace.notSelecting(hook, namespace)
			continue
		}
		match, err := i.conditionsMet(hook, namespace, template, labelled.injected)
		call.assumed = join(call.assumed, match.Assumed)
		if err == nil && !match.Met || err != nil && hook.ignore {
			call.skipped = trace.answers(hook, hook.skips(match, err))
			continue
		}
		call.assumed = join(call.assumed, hook.refusal(err))
		decided := trace.answers(hook, hook.decide(namespace, template, labelled))
		if !decided.Inject {
			call.declined = decided
			continue
		}
		if len(call.accepted) > 0 {
			// What becomes of the sidecar that is there already depends on where either injection
			// template puts it.
			decided.Image = ""
			decided.Assumed = join(call.injected.Assumed, decided.Assumed)
		}
		call.injected = decided
		call.accepted = append(call.accepted, hook)
		labelled.injected = true
	}
	return call
}

// conditionsMet evaluates a webhook's matchConditions.
func (i *Injector) conditionsMet(hook *hook, namespace Namespace, template *Template, injected bool) (Match, error) {
	if len(hook.conditions) == 0 {
		return Match{Met: true}, nil
	}
	assumed := "matchConditions of webhook " + hook.String() + " were not evaluated"
	if i.match == nil {
		return Match{Met: true, Assumed: assumed}, nil
	}
	match, err := i.match(MatchRequest{Conditions: hook.conditions, Namespace: namespace, Template: *template, Injected: injected})
	if match.Assumed != "" {
		match.Assumed = "of webhook " + hook.String() + " " + match.Assumed
	}
	return match, err
}

// skips says why the API server does not call a webhook whose selectors match.
func (h *hook) skips(match Match, err error) Expectation {
	if err != nil {
		return Expectation{
			Reason: ReasonMatchConditionFalse,
			Message: fmt.Sprintf("Webhook %s selects the Pod by its labels, but its matchConditions cannot be evaluated (%v), and its "+
				"failurePolicy is Ignore.",
				h, err),
		}
	}
	return no(ReasonMatchConditionFalse, fmt.Sprintf(
		"Webhook %s selects the Pod by its labels, but its matchCondition %q is not met by it.", h, match.Failed))
}

// hasSidecar reports whether the template itself brings a sidecar, as kube-inject writes it.
func hasSidecar(template *Template) bool {
	if template.Spec == nil || !hasKey(template.Annotations, statusAnnotation) {
		return false
	}
	observed := Observe(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations},
		Spec:       *template.Spec,
	})
	return observed.Proxy != ProxyNone
}

func bakedIn() Expectation {
	return no(ReasonSidecarInTemplate,
		"No injection reaches the Pod, but its template brings a sidecar of its own (kube-inject writes such), which nothing keeps up to "+
			"date; remove it from the template.")
}

func no(reason Reason, message string) Expectation {
	return Expectation{Reason: reason, Message: message}
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	default:
		return a + "; " + b
	}
}
