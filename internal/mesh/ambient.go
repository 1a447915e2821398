package mesh

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// ambient is what Istio's CNI agent captures into the ambient mesh
// (cni/pkg/util/enablement_selector.go).
type ambient struct {
	excluded  []string
	selectors []ambientSelector
	// text is what it was read from; empty where it is the default.
	text string
}

type ambientSelector struct {
	pods, namespaces labels.Selector
}

// The defaults of Istio's chart (manifests/charts/istio-cni/values.yaml).
var (
	defaultExcluded         = []string{"kube-system"}
	defaultAmbientSelectors = []enablementSelector{
		{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{DataplaneModeLabel: ambientMode}}},
		{
			PodSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: DataplaneModeLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{noneMode}},
			}},
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{DataplaneModeLabel: ambientMode}},
		},
	}
)

// enablementSelector is how the CNI agent's configuration writes one.
type enablementSelector struct {
	PodSelector       metav1.LabelSelector `json:"podSelector"`
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
}

// newAmbient reads the CNI agent's configuration where it is among the ConfigMaps. Selectors that
// cannot be read keep the agent from starting; the defaults stand for them.
func newAmbient(configMaps []*corev1.ConfigMap) *ambient {
	read := &ambient{excluded: defaultExcluded}
	selectors := defaultAmbientSelectors
	at := slices.IndexFunc(configMaps, func(configMap *corev1.ConfigMap) bool { return configMap.Name == cniConfigMap })
	if at >= 0 {
		data := configMaps[at].Data
		if text, set := data["EXCLUDE_NAMESPACES"]; set {
			read.excluded = splitNames(text)
			read.text = text
		}
		if text, set := data["AMBIENT_ENABLEMENT_SELECTOR"]; set {
			var given []enablementSelector
			if yaml.Unmarshal([]byte(text), &given) == nil {
				selectors = given
			}
			read.text += "\n" + text
		}
	}
	for i := range selectors {
		pods, err := metav1.LabelSelectorAsSelector(&selectors[i].PodSelector)
		if err != nil {
			continue
		}
		namespaces, err := metav1.LabelSelectorAsSelector(&selectors[i].NamespaceSelector)
		if err != nil {
			continue
		}
		read.selectors = append(read.selectors, ambientSelector{pods, namespaces})
	}
	return read
}

func splitNames(text string) []string {
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// selects reports whether the agent would capture a Pod of the template. That the annotation of
// injection keeps it from that is judged of the Pod.
func (a *ambient) selects(namespace Namespace, template *Template) bool {
	if template.HostNetwork || slices.Contains(a.excluded, namespace.Name) {
		return false
	}
	return slices.ContainsFunc(a.selectors, func(selector ambientSelector) bool {
		return selector.pods.Matches(labels.Set(template.Labels)) && selector.namespaces.Matches(namespaceLabels(namespace))
	})
}
