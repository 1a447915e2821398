package mesh

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
}

// Expectation is what admission would do to a new Pod of a template now.
type Expectation struct {
	// Inject says whether the Pod would get a sidecar.
	Inject bool
	// Revision of the injector that would have the last word; empty where Inject is false.
	Revision string
	// Reason is why, as one word; Expected where Inject is true.
	Reason Reason
	// Message is why, as a sentence that says what would change it.
	Message string
	// Assumed says that something could not be read, and which; empty where everything was.
	Assumed string
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
	// ReasonAdmissionRefused: the API server cannot evaluate a webhook and refuses every Pod
	// that it may concern.
	ReasonAdmissionRefused Reason = "AdmissionRefused"
)

// Expect says what admission would do to a new Pod of a template now: first the API server, which
// matches webhooks by labels alone, then each injector that it calls. Of several that inject, the
// last in the order of the API server has the last word, with its revision; one that declines
// leaves the sidecar of an earlier one in place.
func (i *Injector) Expect(namespace Namespace, template Template) Expectation {
	var declined, accepted Expectation
	var skippedBy string
	for _, hook := range i.hooks {
		if !hook.covers {
			continue
		}
		selected, err := hook.selects(namespace, template)
		if err != nil {
			return hook.refuses(err)
		}
		if !selected {
			continue
		}
		met, assumed, err := i.conditionsMet(hook, namespace, template)
		if err != nil {
			return hook.refuses(err)
		}
		if !met {
			skippedBy = hook.String()
			continue
		}
		decided := hook.decide(namespace, template)
		if !decided.Inject {
			declined = decided
			continue
		}
		decided.Assumed = join(assumed, decided.Assumed)
		accepted = decided
	}
	switch {
	case accepted.Inject:
		return accepted
	case declined.Reason != "":
		return declined
	case skippedBy != "":
		return no(ReasonMatchConditionFalse,
			"Webhook "+skippedBy+" selects the Pod by its labels, but one of its matchConditions is not met by it.")
	}
	return i.explainUnselected(namespace, template)
}

// conditionsMet evaluates a webhook's matchConditions as the API server does: one that is false
// settles it, also where another cannot be evaluated; an error is then judged by the failure
// policy (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-matchconditions).
func (i *Injector) conditionsMet(hook *hook, namespace Namespace, template Template) (met bool, assumed string, err error) {
	if len(hook.conditions) == 0 {
		return true, "", nil
	}
	if i.matchCondition == nil {
		return true, "matchConditions of webhook " + hook.String() + " were not evaluated", nil
	}
	for _, condition := range hook.conditions {
		holds, failed := i.matchCondition(condition.Expression, namespace, template)
		if failed == nil && !holds {
			return false, "", nil
		}
		if failed != nil && err == nil {
			err = failed
		}
	}
	if err != nil && hook.ignore {
		return false, "", nil
	}
	return err == nil, "", err
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
