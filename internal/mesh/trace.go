package mesh

import (
	"cmp"
	"fmt"
)

// WebhookAnswer is what came of one webhook for a new Pod of a template.
type WebhookAnswer string

// The answers.
const (
	// WebhookNotCovering: its rules do not cover the creation of Pods.
	WebhookNotCovering WebhookAnswer = "NotCovering"
	// WebhookNotSelecting: its selectors leave the Pod out.
	WebhookNotSelecting WebhookAnswer = "NotSelecting"
	// WebhookConditionFalse: its selectors match, its matchConditions do not.
	WebhookConditionFalse WebhookAnswer = "ConditionFalse"
	// WebhookInjects: its injector gives the Pod a sidecar.
	WebhookInjects WebhookAnswer = "Injects"
	// WebhookDeclines: its injector is called and gives the Pod none.
	WebhookDeclines WebhookAnswer = "Declines"
)

// Call is what one webhook of Istio's makes of a new Pod.
type Call struct {
	// Webhook by its name, in the Configuration of a name; Revision of the control plane behind it.
	Webhook       string `json:"webhook"`
	Configuration string `json:"configuration"`
	Revision      string `json:"revision"`
	// Answer, and why, as a sentence.
	Answer  WebhookAnswer `json:"answer"`
	Message string        `json:"message"`
}

// Trace expects what Expect does, and says what every webhook of Istio's had to do with it, in the
// order in which the API server goes through them.
func (i *Injector) Trace(namespace Namespace, template Template) (Expectation, []Call) {
	trace := &trace{}
	expected := i.expectTracing(namespace, template, trace)
	return expected, trace.calls
}

// trace writes down what came of each webhook. A nil one writes nothing down.
type trace struct{ calls []Call }

func (t *trace) note(hook *hook, answer WebhookAnswer, message string) {
	t.calls = append(t.calls, Call{
		Webhook: hook.name, Configuration: hook.configuration, Revision: hook.revision, Answer: answer, Message: message,
	})
}

func (t *trace) notCovering(hook *hook) {
	if t != nil {
		t.note(hook, WebhookNotCovering, "Its rules do not cover the creation of Pods.")
	}
}

// notSelecting names the selector that leaves the Pod out.
func (t *trace) notSelecting(hook *hook, namespace Namespace) {
	switch {
	case t == nil:
	case hook.deactivated:
		t.note(hook, WebhookNotSelecting, "It is deactivated.")
	case hook.namespaces != nil && !hook.namespaces.Matches(namespaceLabels(namespace)):
		t.note(hook, WebhookNotSelecting, fmt.Sprintf("Its namespaceSelector (%s) does not select the namespace.", hook.namespaces))
	default:
		t.note(hook, WebhookNotSelecting, fmt.Sprintf("Its objectSelector (%s) does not select the Pod.", hook.objects))
	}
}

// answers writes down what follows from a webhook that selects the Pod, and returns it.
func (t *trace) answers(hook *hook, decided Expectation) Expectation {
	switch {
	case t == nil:
	case decided.Inject:
		t.note(hook, WebhookInjects, fmt.Sprintf("It selects the Pod, and the injector's policy in ConfigMap %s (%s) has nothing against a "+
			"sidecar.",
			hook.config.source, cmp.Or(hook.config.policy, "none")))
	case decided.Reason == ReasonMatchConditionFalse:
		t.note(hook, WebhookConditionFalse, decided.Message)
	default:
		t.note(hook, WebhookDeclines, decided.Message)
	}
	return decided
}
