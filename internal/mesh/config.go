package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// sidecarTemplate is the injection template where none is asked for.
const sidecarTemplate = "sidecar"

// Istio read the value of the label and annotation sidecar.istio.io/inject generously until 1.26
// and exactly since. Which of both holds is decided by the control plane that serves the webhook,
// so that it is read from the injector's ConfigMap, per revision.
const (
	generousValuesSince = 12
	exactValuesSince    = 27
)

// ignoredNamespaces are never injected into (pkg/kube/inject/initializer.go). The namespace of the
// control plane is none of them.
var ignoredNamespaces = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// config is an injector's configuration: what it decides by.
type config struct {
	policy        string
	never, always []labels.Selector
	// usesProxyImage are the injection templates that have the proxy's image from the injector.
	usesProxyImage   []string
	defaultTemplates []string
	aliases          map[string][]string
	// image is what the values say of the proxy's image; imageType what the mesh's configuration
	// does.
	image     imageValues
	imageType string
	// rootNamespace is the one whose policies hold for the whole mesh.
	rootNamespace string
	// minor version of Istio 1; 0 where it cannot be told.
	minor int
	// source names the ConfigMap.
	source string
	// assumed says what could not be read; the policy is then taken to be enabled.
	assumed string
	// text and values are what the ConfigMap says, for the fingerprint.
	text, values string
}

// configs finds an injector's configuration.
type configs struct {
	istioNamespace string
	parsed         map[string]*config
	// imageTypes is what each mesh configuration says, by namespace and name.
	imageTypes map[string]string
	// rootNamespaces, too.
	rootNamespaces map[string]string
}

func newConfigs(configMaps []*corev1.ConfigMap, istioNamespace string) *configs {
	found := &configs{istioNamespace: istioNamespace, parsed: map[string]*config{}, imageTypes: map[string]string{},
		rootNamespaces: map[string]string{}}
	for _, configMap := range configMaps {
		switch name := configMap.Name; {
		case strings.HasPrefix(name, InjectorConfigMap):
			parsed := readConfigMap(configMap)
			found.parsed[parsed.source] = parsed
		case name == meshConfigMap || strings.HasPrefix(name, meshConfigMap+"-"):
			found.imageTypes[configMap.Namespace+"/"+name] = defaultImageTypeOf(configMap.Data["mesh"])
			found.rootNamespaces[configMap.Namespace+"/"+name] = rootNamespaceOf(configMap.Data["mesh"])
		}
	}
	return found
}

// of finds the configuration of a revision's injector
// (pilot/pkg/bootstrap/sidecarinjector.go). It lies with the control plane, which is where the
// webhook's service is.
func (c *configs) of(revision string, service *admissionregistrationv1.ServiceReference) *config {
	namespace := c.istioNamespace
	if service != nil && service.Namespace != "" {
		namespace = service.Namespace
	}
	suffix := ""
	if revision != DefaultRevision {
		suffix = "-" + revision
	}
	source := namespace + "/" + InjectorConfigMap + suffix
	found := c.parsed[source]
	if found == nil {
		found = &config{policy: "enabled", source: source, assumed: "ConfigMap " + source + " could not be read, its policy is taken to be " +
			"enabled"}
		c.parsed[source] = found
	}
	found.imageType = c.imageTypes[namespace+"/"+meshConfigMap+suffix]
	found.rootNamespace = cmp.Or(c.rootNamespaces[namespace+"/"+meshConfigMap+suffix], namespace)
	return found
}

func readConfigMap(configMap *corev1.ConfigMap) *config {
	source := configMap.Namespace + "/" + configMap.Name
	text, set := configMap.Data["config"]
	if !set {
		return &config{policy: "enabled", source: source, assumed: "ConfigMap " + source + " has no key config, its policy is taken to be " +
			"enabled"}
	}
	parsed, err := parseConfig(text)
	if err != nil {
		parsed = &config{policy: "enabled", assumed: "ConfigMap " + source + " could not be understood, its policy is taken to be enabled"}
	}
	parsed.source = source
	parsed.text, parsed.values = text, configMap.Data["values"]
	parsed.image = readImageValues(parsed.values)
	parsed.minor = minorVersion(configMap)
	return parsed
}

// parseConfig reads what decides from an injector's configuration. Selectors that are invalid or
// empty never match there (pkg/kube/inject/inject.go, injectRequired) and are left out here.
func parseConfig(text string) (*config, error) {
	var content struct {
		Policy           string                 `json:"policy"`
		Never            []metav1.LabelSelector `json:"neverInjectSelector"`
		Always           []metav1.LabelSelector `json:"alwaysInjectSelector"`
		DefaultTemplates []string               `json:"defaultTemplates"`
		Templates        map[string]string      `json:"templates"`
		Aliases          map[string][]string    `json:"aliases"`
	}
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		return nil, fmt.Errorf("parsing the injector's configuration: %w", err)
	}
	parsed := &config{
		policy:  content.Policy,
		never:   effective(content.Never),
		always:  effective(content.Always),
		aliases: content.Aliases,
	}
	if len(content.DefaultTemplates) == 0 {
		content.DefaultTemplates = []string{sidecarTemplate}
	}
	for _, name := range content.DefaultTemplates {
		parsed.defaultTemplates = append(parsed.defaultTemplates, parsed.resolve(name)...)
	}
	for name, text := range content.Templates {
		if strings.Contains(text, ".ProxyImage") {
			parsed.usesProxyImage = append(parsed.usesProxyImage, name)
		}
	}
	return parsed, nil
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

func effective(selectors []metav1.LabelSelector) []labels.Selector {
	var compiled []labels.Selector
	for i := range selectors {
		selector, err := metav1.LabelSelectorAsSelector(&selectors[i])
		if err == nil && !selector.Empty() {
			compiled = append(compiled, selector)
		}
	}
	return compiled
}

// minorVersion tells the control plane's version from the image tag in its values, else from the
// label that the charts set. Development builds have neither: 0.
func minorVersion(configMap *corev1.ConfigMap) int {
	var values struct {
		Global struct {
			Tag any `json:"tag"`
		} `json:"global"`
	}
	if yaml.Unmarshal([]byte(configMap.Data["values"]), &values) == nil {
		if tag, isText := values.Global.Tag.(string); isText {
			if minor := minorOf(tag); minor != 0 {
				return minor
			}
		}
	}
	return minorOf(configMap.Labels["app.kubernetes.io/version"])
}

// minorOf reads 27 from 1.27.0-distroless; 0 where it is no version that reads labels at all.
func minorOf(version string) int {
	rest, found := strings.CutPrefix(version, "1.")
	if !found {
		return 0
	}
	digits := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = rest[:end]
	}
	minor, err := strconv.Atoi(digits)
	if err != nil || minor < generousValuesSince {
		return 0
	}
	return minor
}

// decide is what the injector does with a Pod that the API server sends to it
// (pkg/kube/inject/inject.go, injectRequired).
func (h *hook) decide(namespace Namespace, template *Template, labelled labels.Labels) Expectation {
	if never, applies := neverInjected(namespace, template); applies {
		return never
	}
	wish, assumed := h.config.wishOf(template)
	decided := h.config.apply(wish, labelled)
	switch decided {
	case ReasonExpected:
		assumed = join(h.config.assumed, assumed)
		if _, brought := ownProxy(template); brought && len(h.config.templatesFor(template)) > 1 {
			assumed = join(assumed, "several injection templates are taken to get along with the template's own container istio-proxy")
		}
		return Expectation{
			Inject:   true,
			Revision: h.revision,
			Image:    h.config.imageFor(template),
			Reason:   ReasonExpected,
			Message:  h.expected,
			Assumed:  assumed,
		}
	case ReasonPodLabelOptOut:
		if _, labelled := template.Labels[InjectLabel]; !labelled {
			decided = ReasonPodAnnotationOptOut
		}
	}
	return Expectation{Reason: decided, Message: h.config.explain(decided, template), Assumed: assumed}
}

// wish is what a template asks of the injector.
type wish uint8

const (
	wishNothing wish = iota
	wishSidecar
	wishNone
)

// wishOf reads what a template asks for. A label counts where it is present, also with an empty
// value; an annotation counts where the label is absent.
func (c *config) wishOf(template *Template) (wish, string) {
	value, _ := injectValue(template)
	switch value {
	case "true":
		return wishSidecar, ""
	case "false":
		return wishNone, ""
	case "":
		return wishNothing, ""
	}
	switch {
	case c.minor >= exactValuesSince:
		return wishNothing, ""
	case c.minor >= generousValuesSince:
		switch strings.ToLower(value) {
		case "y", "yes", "true", "on":
			return wishSidecar, ""
		}
		return wishNone, ""
	}
	return wishNothing, fmt.Sprintf("the version of Istio behind ConfigMap %s could not be told; 1.27 and later read %s=%q as unset",
		c.source, InjectLabel, value)
}

// injectValue returns the value that the injector reads, and whether it stands in the label.
func injectValue(template *Template) (value string, label bool) {
	if value, labelled := template.Labels[InjectLabel]; labelled {
		return value, true
	}
	return template.Annotations[InjectLabel], false
}

// apply decides by what a template asks for and by the configuration.
func (c *config) apply(wish wish, labelled labels.Labels) Reason {
	if wish == wishNothing {
		switch {
		case anyMatches(c.never, labelled):
			return c.unlessInvalid(ReasonNeverInjectSelector)
		case anyMatches(c.always, labelled):
			wish = wishSidecar
		}
	}
	switch wish {
	case wishSidecar:
		return c.unlessInvalid(ReasonExpected)
	case wishNone:
		return ReasonPodLabelOptOut
	}
	if c.policy == "disabled" {
		return ReasonPolicyDisabled
	}
	return c.unlessInvalid(ReasonExpected)
}

// unlessInvalid: under a policy that Istio does not know nothing is injected, whatever is asked.
func (c *config) unlessInvalid(reason Reason) Reason {
	if c.policy != "enabled" && c.policy != "disabled" {
		return ReasonInvalidPolicy
	}
	return reason
}

func anyMatches(selectors []labels.Selector, labelled labels.Labels) bool {
	return slices.ContainsFunc(selectors, func(selector labels.Selector) bool {
		return selector.Matches(labelled)
	})
}

// explain says why the injector declines, and what would change it.
func (c *config) explain(reason Reason, template *Template) string {
	switch reason {
	case ReasonPodLabelOptOut, ReasonPodAnnotationOptOut:
		return optOut(template)
	case ReasonNeverInjectSelector:
		return fmt.Sprintf("The template's labels match a neverInjectSelector in ConfigMap %s; the template's label %s=\"true\" would "+
			"override it.",
			c.source, InjectLabel)
	case ReasonPolicyDisabled:
		return fmt.Sprintf("The injector's policy is \"disabled\" in ConfigMap %s; only a template with the label %s=\"true\" gets a sidecar.",
			c.source, InjectLabel)
	default:
		return fmt.Sprintf("The injector's policy in ConfigMap %s is %q; Istio knows \"enabled\" and \"disabled\" and injects nothing.",
			c.source, c.policy)
	}
}
