package mesh

import (
	"cmp"
	"maps"
	"slices"
)

// LabelsAddedBy are the keys of the labels that Pods have in addition to those of their template, by the
// kind of the workload, sorted. Their values are not known before the Pod.
func LabelsAddedBy(kind string) []string { return slices.Sorted(maps.Keys(KindNamed(kind).PodLabels)) }

// podLabels are the labels of the Pod that is made of a template, at a moment of its admission. It
// implements labels.Labels.
type podLabels struct {
	template *Template
	// injected: a webhook that was called before has injected a sidecar.
	injected bool
}

func (p *podLabels) Lookup(label string) (string, bool) {
	if value, found := p.template.Labels[label]; found {
		return value, true
	}
	if _, added := KindNamed(p.template.Kind).PodLabels[label]; added {
		return "", true
	}
	if p.injected {
		return p.lookupInjected(label)
	}
	return "", false
}

// lookupInjected knows what Istio's template writes in addition to the sidecar
// (files/injection-template.yaml).
func (p *podLabels) lookupInjected(label string) (string, bool) {
	of := p.template.Labels
	switch label {
	case "security.istio.io/tlsMode":
		return "istio", true
	case "service.istio.io/canonical-name":
		return cmp.Or(of["app.kubernetes.io/name"], of["app"]), true
	case "service.istio.io/canonical-revision":
		return cmp.Or(of["app.kubernetes.io/version"], of["version"], "latest"), true
	default:
		return "", false
	}
}

func (p *podLabels) Has(label string) bool {
	_, found := p.Lookup(label)
	return found
}

func (p *podLabels) Get(label string) string {
	value, _ := p.Lookup(label)
	return value
}
