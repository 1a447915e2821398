package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// neverInjected says why a Pod gets no sidecar whatever webhooks and configuration say.
func neverInjected(namespace Namespace, template *Template) (Expectation, bool) {
	value, _ := injectValue(template)
	switch {
	case template.HostNetwork:
		return no(ReasonHostNetwork, "The template uses the host's network (hostNetwork: true); Istio injects no such Pod."), true
	case slices.Contains(ignoredNamespaces, namespace.Name):
		return no(ReasonIgnoredNamespace, fmt.Sprintf("Istio never injects into namespace %q.", namespace.Name)), true
	case value != "false":
		return Expectation{}, false
	case isManagedGateway(template.Labels):
		return no(ReasonGatewayManaged, "The Gateway controller gives this Pod its proxy; injection has no part in it."), true
	case hasKey(template.Labels, InjectLabel):
		return no(ReasonPodLabelOptOut, optOut(template)), true
	default:
		return no(ReasonPodAnnotationOptOut, optOut(template)), true
	}
}

// isManagedGateway reports whether Pods of these labels are made by Istio's Gateway controller
// (files/kube-gateway.yaml and waypoint.yaml of the istiod chart).
func isManagedGateway(set map[string]string) bool {
	return hasKey(set, managedLabel) || hasKey(set, gatewayNameLabel)
}

func hasKey(set map[string]string, key string) bool {
	_, found := set[key]
	return found
}

func optOut(template *Template) string {
	value, label := injectValue(template)
	if label {
		return fmt.Sprintf("The template's label %s=%q asks for no sidecar; remove it to have one.", InjectLabel, value)
	}
	return fmt.Sprintf("The template's annotation %s=%q asks for no sidecar; remove it to have one.", InjectLabel, value)
}

// explainUnselected says why no webhook selects a template, and what would change it.
func (i *Injector) explainUnselected(namespace Namespace, template *Template, labelled labels.Labels) Expectation {
	if !i.Installed() {
		return no(ReasonNoIstioWebhook, "No webhook of Istio's injector is registered with the API server; install Istio or its revision's "+
			"webhooks.")
	}
	if never, applies := neverInjected(namespace, template); applies {
		return never
	}
	if hook := i.selectedButNotCovered(namespace, labelled); hook != nil {
		return no(ReasonNoIstioWebhook, fmt.Sprintf("Webhook %s selects the Pod, but its rules do not cover the creation of Pods.", hook))
	}
	if value, labelled := namespace.Labels[InjectionLabel]; labelled {
		return i.explainInjectionLabel(namespace, value)
	}
	if asked, labelled := namespace.Labels[RevisionLabel]; labelled {
		return i.explainNamespaceRevision(namespace, asked)
	}
	return i.explainUnlabelled(namespace, template)
}

func (i *Injector) selectedButNotCovered(namespace Namespace, labelled labels.Labels) *hook {
	for _, hook := range i.hooks {
		if hook.covers {
			continue
		}
		if hook.invalid == nil && hook.selects(namespace, labelled) {
			return hook
		}
	}
	return nil
}

func (i *Injector) explainInjectionLabel(namespace Namespace, value string) Expectation {
	if value != "enabled" {
		return no(ReasonNamespaceDisabled, fmt.Sprintf(
			"Namespace %q has the label %s=%q, which no label of a Pod overrides; set it to \"enabled\" to have sidecars.",
			namespace.Name, InjectionLabel, value))
	}
	return i.explainMissingDefault(fmt.Sprintf("Namespace %q has the label %s=enabled", namespace.Name, InjectionLabel))
}

func (i *Injector) explainNamespaceRevision(namespace Namespace, asked string) Expectation {
	asks := fmt.Sprintf("Namespace %q asks for revision %q", namespace.Name, asked)
	return i.explainMissingRevision(asks, asked, ReasonNamespaceRevisionDangling)
}

func (i *Injector) explainUnlabelled(namespace Namespace, template *Template) Expectation {
	if asked, labelled := template.Labels[RevisionLabel]; labelled {
		asks := fmt.Sprintf("The template's label %s asks for revision %q", RevisionLabel, asked)
		return i.explainMissingRevision(asks, asked, ReasonPodRevisionDangling)
	}
	value, label := injectValue(template)
	switch {
	case value == "true" && label:
		return i.explainMissingDefault(fmt.Sprintf("The template has the label %s=\"true\"", InjectLabel))
	case value == "true":
		return no(ReasonAnnotationWithoutWebhook, fmt.Sprintf(
			"The template's annotation %s=\"true\" has no effect in namespace %q, which has no injection label: make it a label of the template.",
			InjectLabel, namespace.Name))
	case i.ambient.selects(namespace, template):
		return no(ReasonAmbient, fmt.Sprintf(
			"The Pod is labelled for the ambient mesh (%s=ambient on namespace %q or the template): Istio's CNI agent captures it, without "+
				"sidecar or restart.",
			DataplaneModeLabel, namespace.Name))
	case label && value != "":
		return no(ReasonNamespaceNotLabelled, fmt.Sprintf(
			"Namespace %q has no injection label, and the template's label %s=%q is not exactly \"true\"; %s.",
			namespace.Name, InjectLabel, value, i.howToAsk))
	default:
		return no(ReasonNamespaceNotLabelled, fmt.Sprintf("Namespace %q has no injection label; %s.", namespace.Name, i.howToAsk))
	}
}

func (i *Injector) explainMissingDefault(asks string) Expectation {
	if i.defaultRevision != "" {
		return notSelected(asks)
	}
	if hook := i.deactivated[DefaultRevision]; hook != nil {
		return deactivated(asks, hook)
	}
	return no(ReasonNoDefaultRevision, fmt.Sprintf("%s, which the default revision serves, and there is none; %s, or make one the default.",
		asks, i.howToAsk))
}

func (i *Injector) explainMissingRevision(asks, asked string, dangling Reason) Expectation {
	if _, served := i.asked[asked]; served {
		return notSelected(asks)
	}
	if hook := i.deactivated[asked]; hook != nil {
		return deactivated(asks, hook)
	}
	if asked == DefaultRevision {
		return no(ReasonNoDefaultRevision, fmt.Sprintf("%s, and no revision is the default; %s.", asks, i.howToAsk))
	}
	return no(dangling, fmt.Sprintf("%s, which no webhook serves; %s.", asks, i.howToAsk))
}

func notSelected(asks string) Expectation {
	return no(ReasonPodNotSelected, asks+", but the selectors of the webhooks that serve it leave this Pod out.")
}

func deactivated(asks string, hook *hook) Expectation {
	return no(ReasonWebhookDeactivated, fmt.Sprintf("%s, but webhook %s was deactivated and no other took its place; set a default tag.",
		asks, hook))
}

// describeHowToAsk says which labels on a namespace bring a sidecar.
func (i *Injector) describeHowToAsk() string {
	var ways []string
	if i.defaultRevision != "" {
		ways = append(ways, fmt.Sprintf("%s=enabled (revision %s)", InjectionLabel, i.defaultRevision))
	}
	for _, name := range slices.Sorted(maps.Keys(i.asked)) {
		label := RevisionLabel + "=" + name
		if i.asked[name] != name {
			label += " (revision " + i.asked[name] + ")"
		}
		ways = append(ways, label)
	}
	const most = 4
	if len(ways) > most {
		ways = append(ways[:most], "another revision")
	}
	if len(ways) == 0 {
		return "no webhook serves any label"
	}
	return "label the namespace " + strings.Join(ways, " or ")
}
