package mesh

import (
	"fmt"
	"slices"
	"strings"
)

// Note is something worth knowing in addition to what was decided, with its own reason and sentence.
type Note struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
}

// What is worth knowing in addition to what was decided.
const (
	// ReasonConflict: two webhooks, or labels that contradict each other.
	ReasonConflict Reason = "Conflict"
	// ReasonInvalidInjectValue: what the template asks is neither "true" nor "false".
	ReasonInvalidInjectValue Reason = "InvalidInjectValue"
	// ReasonLiveLabelsDiffer: the labels of running Pods ask for something else than their
	// template.
	ReasonLiveLabelsDiffer Reason = "LiveLabelsDifferFromTemplate"
	// ReasonStaleStatusAnnotation: running Pods carry the annotation of injection, and no
	// sidecar.
	ReasonStaleStatusAnnotation Reason = "StaleStatusAnnotation"
)

// notesOn says what contradicts itself in what the namespace and the template ask for. accepted are
// the webhooks that inject, in their order.
func notesOn(namespace Namespace, template *Template, expected Expectation, accepted []*hook) []Note {
	var notes []Note
	add := func(reason Reason, format string, values ...any) {
		notes = append(notes, Note{reason, fmt.Sprintf(format, values...)})
	}
	if len(accepted) > 1 {
		names := make([]string, len(accepted))
		for i, hook := range accepted {
			names[i] = hook.String()
		}
		add(ReasonConflict, "Several webhooks inject the Pod, and the last of them has the last word: %s. Leave one of them.",
			strings.Join(names, ", then "))
	}
	injection, labelled := namespace.Labels[InjectionLabel]
	revision, revisioned := namespace.Labels[RevisionLabel]
	if labelled && revisioned {
		add(ReasonConflict, "Namespace %q has both labels %s=%q and %s=%q, and the second has no effect; remove one of them.",
			namespace.Name, InjectionLabel, injection, RevisionLabel, revision)
	}
	if expected.Inject && namespace.Labels[DataplaneModeLabel] == ambientMode {
		add(ReasonConflict, "Namespace %q asks for the ambient mesh (%s=ambient), and for sidecars as well; its new Pods get the sidecar.",
			namespace.Name, DataplaneModeLabel)
	}
	value, isLabel := injectValue(template)
	if isLabel && value == "true" && expected.Reason == ReasonNamespaceDisabled {
		add(ReasonConflict, "The template's label %s=\"true\" has no effect in namespace %q, whose label %s=%q no Pod overrides.",
			InjectLabel, namespace.Name, InjectionLabel, injection)
	}
	if !slices.Contains([]string{"", "true", "false"}, value) {
		kind := "annotation"
		if isLabel {
			kind = "label"
		}
		add(ReasonInvalidInjectValue, "The template's %s %s=%q is neither \"true\" nor \"false\", and versions of Istio differ in how they "+
			"read it; write one of both.",
			kind, InjectLabel, value)
	}
	return notes
}

// asking are the keys by which a Pod asks for injection or for the ambient mesh.
var asking = []string{InjectLabel, RevisionLabel, DataplaneModeLabel}

// asksOf writes down what labels ask for; empty where it is nothing.
func asksOf(set map[string]string) string {
	var text strings.Builder
	for _, key := range asking {
		if value, found := set[key]; found {
			text.WriteString(key + "=" + value + "\n")
		}
	}
	return text.String()
}

// withAsks is the template with what labels ask for in the place of what its own do.
func withAsks(template Template, asks string) Template {
	set := make(map[string]string, len(template.Labels)+len(asking))
	for key, value := range template.Labels {
		if !slices.Contains(asking, key) {
			set[key] = value
		}
	}
	for line := range strings.Lines(asks) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		set[key] = value
	}
	template.Labels = set
	return template
}

// NotesOn says what is worth knowing of running Pods that carry the same, in addition to what was judged:
// what they only seem to have, and that their labels ask for something else than their template.
func (i *Injector) NotesOn(namespace Namespace, template Template, expected Expectation, observed Observation) []Note {
	var notes []Note
	switch observed.Spoofed {
	case "":
	case spoofedName:
		notes = append(notes, Note{ReasonSidecarSpoofed, "Of running Pods, " + observed.Spoofed + "."})
	default:
		notes = append(notes, Note{ReasonStaleStatusAnnotation, "Of running Pods, " + observed.Spoofed + "; it also keeps them out of the " +
			"ambient mesh."})
	}
	if observed.Asks == asksOf(template.Labels) {
		return notes
	}
	live := i.Expect(namespace, withAsks(template, observed.Asks))
	if live.Inject != expected.Inject || live.Revision != expected.Revision {
		would := "no sidecar"
		if live.Inject {
			would = "a sidecar of revision " + live.Revision
		}
		notes = append(notes, Note{ReasonLiveLabelsDiffer, fmt.Sprintf(
			"The labels of running Pods (%s) differ from those of the template and would ask for %s; they have no effect until Pods are "+
				"created with them.",
			inOneLine(observed.Asks), would)})
	}
	return notes
}

// inOneLine writes what labels ask for in one line.
func inOneLine(asks string) string {
	if asks == "" {
		return "none for injection"
	}
	return strings.Join(strings.Split(strings.TrimSuffix(asks, "\n"), "\n"), ", ")
}
