package mesh

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// DefaultRevision is how Istio writes the revision that has no name.
const DefaultRevision = "default"

// Options are what an Injector cannot see in the webhooks.
type Options struct {
	// IstioNamespace is where the ConfigMap of an injector is looked for that the API server
	// calls by URL; IstioNamespace when empty.
	IstioNamespace string

	// Match evaluates the matchConditions of a webhook against the creation of a Pod of a
	// template; internal/matchcondition has the API server's own way. When nil, webhooks with
	// matchConditions are assumed to match, and Expectation.Assumed says so.
	Match func(MatchRequest) (Match, error)
}

// MatchRequest asks whether the matchConditions of a webhook are met by the creation of a Pod.
type MatchRequest struct {
	Conditions []admissionregistrationv1.MatchCondition
	Namespace  Namespace
	Template   Template
	// Injected says that a webhook that was called before has changed the Pod.
	Injected bool
}

// Match is whether matchConditions are met. An error with it is judged by the webhook's failure
// policy.
type Match struct {
	Met bool
	// Failed is the name of a condition that is not met.
	Failed string
	// Assumed says which conditions could not be evaluated; empty where all were.
	Assumed string
}

// Injector is a cluster's sidecar injection as it is configured: the webhooks that the API server
// evaluates and the configuration of the control planes behind them. It does not change once it is
// made.
type Injector struct {
	hooks     []*hook
	revisions []revision
	match     func(MatchRequest) (Match, error)

	// asked maps what a label istio.io/rev can say, a revision or a tag, to the revision that
	// serves it.
	asked map[string]string
	// defaultRevision serves istio-injection=enabled; empty where none does.
	defaultRevision string
	// deactivated has what the deactivated webhooks would have served.
	deactivated map[string]*hook
	// howToAsk says how a namespace comes to be injected.
	howToAsk string

	// ambient is what Istio's CNI agent captures.
	ambient *ambient

	// controlPlanes are the namespaces of the Services that the webhooks call.
	controlPlanes sets.Set[string]
}

// RunsIn reports whether a control plane that injects runs in a namespace, as far as the webhooks
// tell.
func (i *Injector) RunsIn(namespace string) bool { return i.controlPlanes.Has(namespace) }

// revision is what is known of one control plane.
type revision struct {
	name        string
	ignore      bool
	active      bool
	fingerprint string
	// rootNamespace is the one whose policies hold for everything in the revision's mesh.
	rootNamespace string
}

// hook is one webhook of Istio's, compiled.
type hook struct {
	configuration, name string
	revision, tag       string
	// namespaces and objects are nil where they cannot be compiled; invalid says why.
	namespaces, objects labels.Selector
	invalid             error
	covers, deactivated bool
	ignore              bool
	conditions          []admissionregistrationv1.MatchCondition
	config              *config
	// service is where it is called; empty where that is by URL.
	service types.NamespacedName
	// expected is the sentence for templates that it injects.
	expected string
}

// NewInjector compiles the webhooks of Istio's among the given configurations, with the injectors'
// ConfigMaps among the given ones. Others are ignored, so everything that was listed can be
// given.
func NewInjector(webhooks []*admissionregistrationv1.MutatingWebhookConfiguration, configMaps []*corev1.ConfigMap,
	options Options) *Injector {
	injector := &Injector{
		match:       options.Match,
		asked:       map[string]string{},
		deactivated: map[string]*hook{},
		ambient:     newAmbient(configMaps),

		controlPlanes: sets.New[string](),
	}
	configs := newConfigs(configMaps, cmp.Or(options.IstioNamespace, IstioNamespace))
	digests := map[string]*digest{}

	// The API server calls them in this order
	// (k8s.io/apiserver/pkg/admission/configuration/mutating_webhook_manager.go).
	ordered := slices.Clone(webhooks)
	slices.SortStableFunc(ordered, func(a, b *admissionregistrationv1.MutatingWebhookConfiguration) int {
		return strings.Compare(a.Name, b.Name)
	})
	for _, configuration := range ordered {
		for i := range configuration.Webhooks {
			webhook := &configuration.Webhooks[i]
			if !strings.HasSuffix(webhook.Name, WebhookSuffix) {
				continue
			}
			hook := newHook(configuration, webhook)
			hook.config = configs.of(hook.revision, webhook.ClientConfig.Service)
			injector.hooks = append(injector.hooks, hook)
			if service := webhook.ClientConfig.Service; service != nil {
				injector.controlPlanes.Insert(service.Namespace)
			}
			if digests[hook.revision] == nil {
				digests[hook.revision] = &digest{}
			}
			digests[hook.revision].add(hook, webhook)
		}
	}
	for _, hook := range injector.hooks {
		injector.learn(hook)
	}
	injector.howToAsk = injector.describeHowToAsk()
	for name, digest := range digests {
		injector.revisions = append(injector.revisions, injector.summarise(name, digest))
	}
	slices.SortFunc(injector.revisions, func(a, b revision) int { return strings.Compare(a.name, b.name) })
	return injector
}

func newHook(configuration *admissionregistrationv1.MutatingWebhookConfiguration, webhook *admissionregistrationv1.MutatingWebhook) *hook {
	compiled := &hook{
		configuration: configuration.Name,
		name:          webhook.Name,
		revision:      cmp.Or(configuration.Labels[RevisionLabel], DefaultRevision),
		tag:           configuration.Labels[tagLabel],
		covers:        slices.ContainsFunc(webhook.Rules, coversPodCreation),
		deactivated:   isDeactivated(webhook.NamespaceSelector) || isDeactivated(webhook.ObjectSelector),
		ignore:        webhook.FailurePolicy != nil && *webhook.FailurePolicy == admissionregistrationv1.Ignore,
		conditions:    webhook.MatchConditions,
	}
	if service := webhook.ClientConfig.Service; service != nil {
		compiled.service = types.NamespacedName{Namespace: service.Namespace, Name: service.Name}
	}
	compiled.namespaces, compiled.invalid = compile(webhook.NamespaceSelector)
	var err error
	if compiled.objects, err = compile(webhook.ObjectSelector); compiled.invalid == nil {
		compiled.invalid = err
	}
	compiled.expected = fmt.Sprintf("Webhook %s injects a sidecar of revision %s.", compiled, compiled.revision)
	return compiled
}

// String names the webhook as it is found in the cluster.
func (h *hook) String() string { return h.name + " of " + h.configuration }

// compile reads a selector as the API server does; one that is unset, which the API server would
// have defaulted, selects everything.
func compile(selector *metav1.LabelSelector) (labels.Selector, error) {
	if selector == nil {
		return labels.Everything(), nil
	}
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, err
	}
	return compiled, nil
}

// isDeactivated also holds where a merge of the original manifest brought the expressions back and
// left the label that nothing carries.
func isDeactivated(selector *metav1.LabelSelector) bool {
	if selector == nil {
		return false
	}
	_, asked := selector.MatchLabels[deactivatedLabel]
	return asked
}

// coversPodCreation evaluates a rule against the creation of a Pod
// (k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules/rules.go).
func coversPodCreation(rule admissionregistrationv1.RuleWithOperations) bool {
	if rule.Scope != nil && *rule.Scope != admissionregistrationv1.AllScopes &&
		*rule.Scope != admissionregistrationv1.NamespacedScope {
		return false
	}
	return hasOrAll(rule.Operations, admissionregistrationv1.Create) &&
		hasOrAll(rule.APIGroups, corev1.GroupName) &&
		hasOrAll(rule.APIVersions, "v1") &&
		slices.ContainsFunc(rule.Resources, coversPods)
}

func hasOrAll[T ~string](items []T, item T) bool {
	return slices.Contains(items, item) || slices.Contains(items, "*")
}

// coversPods reports whether a rule's resource means Pods themselves: "pods/*" does, as the API
// server reads it, "pods/status" and "*/status" do not.
func coversPods(resource string) bool {
	resource, subresource, _ := strings.Cut(resource, "/")
	return (resource == "pods" || resource == "*") && (subresource == "" || subresource == "*")
}

// selects evaluates the selectors as the API server does. One that cannot be read leaves nothing
// out: the API server refuses what the other one selects.
func (h *hook) selects(namespace Namespace, labelled labels.Labels) bool {
	return (h.namespaces == nil || h.namespaces.Matches(namespaceLabels(namespace))) &&
		(h.objects == nil || h.objects.Matches(labelled))
}

// refusal says why the API server refuses the Pods that it would send to the webhook, given the
// error of its matchConditions; empty where it does not.
func (h *hook) refusal(err error) string {
	if h.invalid != nil {
		err = h.invalid
	}
	if err == nil {
		return ""
	}
	return fmt.Sprintf("webhook %s cannot be evaluated (%v), and the API server refuses the Pods that it may concern", h, err)
}

// namespaceLabels are a namespace's labels with the one that the API server gives to every
// namespace.
type namespaceLabels Namespace

func (n namespaceLabels) Lookup(label string) (string, bool) {
	if value, found := n.Labels[label]; found || label != corev1.LabelMetadataName {
		return value, found
	}
	return n.Name, true
}

func (n namespaceLabels) Has(label string) bool {
	_, found := n.Lookup(label)
	return found
}

func (n namespaceLabels) Get(label string) string {
	value, _ := n.Lookup(label)
	return value
}

// learn notes what a webhook can be asked for.
func (i *Injector) learn(hook *hook) {
	if hook.deactivated {
		i.deactivated[hook.revision] = hook
		if hook.tag != "" {
			i.deactivated[hook.tag] = hook
		}
		return
	}
	if !hook.covers || hook.invalid != nil {
		return
	}
	for _, selector := range []labels.Selector{hook.namespaces, hook.objects} {
		for _, name := range revisionsAskedBy(selector) {
			i.asked[name] = hook.revision
		}
	}
	if hook.namespaces.Matches(labels.Set{InjectionLabel: "enabled"}) {
		i.defaultRevision = hook.revision
	}
}

func revisionsAskedBy(selector labels.Selector) []string {
	requirements, _ := selector.Requirements()
	var names []string
	for _, requirement := range requirements {
		switch requirement.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if requirement.Key() == RevisionLabel {
				names = append(names, requirement.ValuesUnsorted()...)
			}
		}
	}
	return names
}

// Installed reports whether there is any webhook of Istio's, active or not.
func (i *Injector) Installed() bool { return len(i.hooks) > 0 }

// Revisions lists, sorted, the revisions that a webhook can lead to. The one without a name is
// DefaultRevision.
func (i *Injector) Revisions() []string {
	var names []string
	for _, revision := range i.revisions {
		if revision.active {
			names = append(names, revision.name)
		}
	}
	return names
}

// FailurePolicyIgnore reports whether the API server creates Pods without a sidecar while the
// revision's injector does not answer. For a revision without webhook it does not.
func (i *Injector) FailurePolicyIgnore(revision string) bool { return i.revision(revision).ignore }

// Fingerprint changes with everything that decides about injection by the revision: its webhooks'
// selectors, rules, conditions and failure policy, where they lead, and the injector's
// configuration. It does not change with certificates. Empty for a revision without webhook.
func (i *Injector) Fingerprint(revision string) string { return i.revision(revision).fingerprint }

func (i *Injector) revision(name string) revision {
	name = cmp.Or(name, DefaultRevision)
	for _, known := range i.revisions {
		if known.name == name {
			return known
		}
	}
	return revision{}
}

func (i *Injector) summarise(name string, digest *digest) revision {
	summary := revision{name: name, fingerprint: digest.sum()}
	for _, hook := range i.hooks {
		if hook.revision != name || hook.deactivated || !hook.covers {
			continue
		}
		summary.active = true
		summary.rootNamespace = hook.config.rootNamespace
		summary.ignore = summary.ignore || hook.ignore
	}
	return summary
}

// digest collects what decides about injection by one revision.
type digest struct {
	Hooks   []hookDigest
	Configs []configDigest
}

type hookDigest struct {
	Configuration, Name string
	Ignore              bool
	Namespaces, Objects *metav1.LabelSelector
	Rules               []admissionregistrationv1.RuleWithOperations
	Conditions          []admissionregistrationv1.MatchCondition
	Service             *admissionregistrationv1.ServiceReference
	URL                 *string
}

type configDigest struct {
	Assumed, Config, Values, ImageType string
	Minor                              int
}

func (d *digest) add(hook *hook, webhook *admissionregistrationv1.MutatingWebhook) {
	d.Hooks = append(d.Hooks, hookDigest{
		Configuration: hook.configuration,
		Name:          hook.name,
		Ignore:        hook.ignore,
		Namespaces:    webhook.NamespaceSelector,
		Objects:       webhook.ObjectSelector,
		Rules:         webhook.Rules,
		Conditions:    webhook.MatchConditions,
		Service:       webhook.ClientConfig.Service,
		URL:           webhook.ClientConfig.URL,
	})
	config := configDigest{
		Assumed:   hook.config.assumed,
		Config:    hook.config.text,
		Values:    hook.config.values,
		ImageType: hook.config.imageType,
		Minor:     hook.config.minor,
	}
	if !slices.Contains(d.Configs, config) {
		d.Configs = append(d.Configs, config)
	}
}

func (d *digest) sum() string {
	text, err := json.Marshal(d)
	if err != nil {
		// Structs of strings, lists and maps of strings always marshal.
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
