package mesh

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// refusal says why no Pod can be created of a template that gets a sidecar, and what would change
// it; empty where one can. What the injector cannot render it refuses, whatever the failure policy;
// and what it renders the API server validates.
func (c *config) refusal(template *Template) string {
	if template.Spec != nil && template.Spec.OS != nil && template.Spec.OS.Name == corev1.Windows {
		return fmt.Sprintf("The template is for Windows (spec.os.name), and the API server refuses such a Pod with a sidecar; opt out with the label %s=\"false\".", InjectLabel)
	}
	for _, key := range slices.Sorted(maps.Keys(template.Annotations)) {
		check, checked := annotationChecks[key]
		if checked && !check(template.Annotations[key]) {
			return fmt.Sprintf("The injector refuses Pods with the annotation %s=%q, whose value is invalid; correct it.", key, template.Annotations[key])
		}
	}
	for _, name := range c.templatesFor(template) {
		if _, known := c.templates[name]; !known && c.templates != nil {
			return fmt.Sprintf("The injector knows no injection template %q, which is asked for by the annotation %s or by defaultTemplates in ConfigMap %s, and refuses the Pod.",
				name, templatesAnnotation, c.source)
		}
	}
	return ""
}

// templatesFor are the injection templates that are rendered for a Pod
// (pkg/kube/inject/inject.go, selectTemplates).
func (c *config) templatesFor(template *Template) []string {
	asked, annotated := template.Annotations[templatesAnnotation]
	if !annotated {
		return c.defaultTemplates
	}
	var names []string
	for name := range strings.SplitSeq(asked, ",") {
		names = append(names, c.resolve(strings.TrimSpace(name))...)
	}
	return names
}

func (c *config) resolve(name string) []string {
	if names, alias := c.aliases[name]; alias {
		return names
	}
	return []string{name}
}

// annotationChecks are the annotations whose values the injector validates
// (pkg/kube/inject/validate.go).
var annotationChecks = map[string]func(value string) bool{
	"sidecar.istio.io/interceptionMode":                     oneOf("REDIRECT", "TPROXY", "NONE"),
	"status.sidecar.istio.io/port":                          isPort,
	"readiness.status.sidecar.istio.io/initialDelaySeconds": isUint32,
	"readiness.status.sidecar.istio.io/periodSeconds":       isUint32,
	"readiness.status.sidecar.istio.io/failureThreshold":    isUint32,
	"traffic.sidecar.istio.io/includeOutboundIPRanges":      isAllOr(areCIDRs),
	"traffic.sidecar.istio.io/excludeOutboundIPRanges":      areCIDRs,
	"traffic.sidecar.istio.io/includeInboundPorts":          isAllOr(arePorts),
	"traffic.sidecar.istio.io/excludeInboundPorts":          arePorts,
	"traffic.sidecar.istio.io/excludeOutboundPorts":         arePorts,
	"traffic.sidecar.istio.io/excludeInterfaces":            areInterfaces,
	"traffic.sidecar.istio.io/kubevirtInterfaces":           areInterfaces,
	"istio.io/reroute-virtual-interfaces":                   areInterfaces,
	"prometheus.istio.io/merge-metrics":                     isBool,
	proxyConfigAnnotation:                                   isMapping,
	"sidecar.istio.io/proxyCPU":                             isQuantity,
	"sidecar.istio.io/proxyMemory":                          isQuantity,
	"sidecar.istio.io/proxyCPULimit":                        isQuantity,
	"sidecar.istio.io/proxyMemoryLimit":                     isQuantity,
	overridesAnnotation:                                     areContainers,
}

func oneOf(values ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(values, value) }
}

func isAllOr(check func(string) bool) func(string) bool {
	return func(value string) bool { return value == "*" || check(value) }
}

func isUint32(value string) bool {
	_, err := strconv.ParseUint(value, 10, 32)
	return err == nil
}

func isBool(value string) bool {
	_, err := strconv.ParseBool(value)
	return err == nil
}

func isPort(value string) bool {
	_, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
	return err == nil
}

func arePorts(value string) bool {
	value = strings.TrimSpace(value)
	return value == "" || all(value, isPort)
}

func areCIDRs(value string) bool {
	return value == "" || all(value, func(part string) bool {
		_, err := netip.ParsePrefix(part)
		return err == nil
	})
}

var interfaceName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.\-]*$`)

// longestInterfaceName is the kernel's (IFNAMSIZ less the end of the text).
const longestInterfaceName = 15

func areInterfaces(value string) bool {
	return value == "" || all(value, func(part string) bool {
		part = strings.TrimSpace(part)
		return len(part) <= longestInterfaceName && interfaceName.MatchString(part)
	})
}

func isQuantity(value string) bool {
	if strings.ContainsFunc(value, unicode.IsControl) || endlessQuantity.MatchString(value) {
		return false
	}
	_, err := resource.ParseQuantity(value)
	return err == nil
}

// endlessQuantity matches exponents of five digits and more. Parsing one writes the number out in
// full, here as in the injector and in the API server, and is not over before they give up.
var endlessQuantity = regexp.MustCompile(`^[+-]?[0-9.]+[eE][+-]?0*[1-9][0-9]{4,}$`)

// isMapping is less than the injector asks for, which knows every field.
func isMapping(value string) bool {
	var content map[string]any
	return yaml.Unmarshal([]byte(value), &content) == nil
}

// areContainers reads the containers that overrides consist of.
func areContainers(value string) bool {
	var anything any
	decoder := json.NewDecoder(strings.NewReader(value))
	decoder.UseNumber()
	if err := decoder.Decode(&anything); err != nil || hasEndlessQuantity(anything) {
		return false
	}
	var content struct {
		Containers, InitContainers []corev1.Container
	}
	return json.Unmarshal([]byte(value), &content) == nil
}

// hasEndlessQuantity looks everywhere, also where no quantity belongs: nothing else looks like one.
func hasEndlessQuantity(content any) bool {
	switch content := content.(type) {
	case string:
		return endlessQuantity.MatchString(content)
	case json.Number:
		return endlessQuantity.MatchString(content.String())
	case []any:
		return slices.ContainsFunc(content, hasEndlessQuantity)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(content)), hasEndlessQuantity)
	default:
		return false
	}
}

func all(list string, check func(string) bool) bool {
	for part := range strings.SplitSeq(list, ",") {
		if !check(part) {
			return false
		}
	}
	return true
}
