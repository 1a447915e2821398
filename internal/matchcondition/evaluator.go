package matchcondition

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	celplugin "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// keptAtMost is how many compiled expressions are kept. Webhooks have a handful; what editing
// leaves behind is forgotten with the rest.
const keptAtMost = 1000

var (
	podKind     = corev1.SchemeGroupVersion.WithKind("Pod")
	podResource = corev1.SchemeGroupVersion.WithResource("pods")
)

// Evaluator evaluates matchConditions. It is safe for concurrent use. New makes one.
type Evaluator struct {
	environment *environment.EnvSet
	compiler    celplugin.Compiler

	mu   sync.Mutex
	kept map[string]*expression
}

// expression is one expression, compiled.
type expression struct {
	compiled celplugin.CompilationResult
	// looksAt is what it refers to.
	looksAt references
}

// New makes an evaluator.
func New() *Evaluator {
	set := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	return &Evaluator{
		environment: set,
		compiler:    celplugin.NewCompiler(set),
		kept:        map[string]*expression{},
	}
}

// Match answers for all conditions of one webhook at once, as the API server does: one that is
// false settles it, also where another cannot be evaluated. An error is what the API server would
// judge by the webhook's failure policy.
func (e *Evaluator) Match(request mesh.MatchRequest) (mesh.Match, error) {
	var answerable []celplugin.CompilationResult
	var assumed []string
	for i := range request.Conditions {
		condition := matchconditions.MatchCondition(request.Conditions[i])
		expression := e.expression(condition.Expression)
		if unknown := expression.looksAt.unknownIn(request); unknown != "" {
			assumed = append(assumed, fmt.Sprintf("condition %q, which looks at %s, is taken to be met", condition.Name, unknown))
			continue
		}
		// The compiled expression is shared by conditions of different names.
		compiled := expression.compiled
		compiled.ExpressionAccessor = &condition
		answerable = append(answerable, compiled)
	}
	fail := admissionregistrationv1.Fail
	matcher := matchconditions.NewMatcher(celplugin.NewCondition(answerable), &fail, "webhook", "admit", "")
	result := matcher.Match(context.Background(), attributes(request), nil, nil)
	answer := mesh.Match{Assumed: strings.Join(assumed, "; ")}
	switch {
	case result.Error != nil:
		return answer, result.Error
	case !result.Matches:
		return mesh.Match{Failed: result.FailedConditionName}, nil
	default:
		answer.Met = true
		return answer, nil
	}
}

// expression compiles an expression, once.
func (e *Evaluator) expression(text string) *expression {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known, found := e.kept[text]; found {
		return known
	}
	if len(e.kept) >= keptAtMost {
		clear(e.kept)
	}
	made := &expression{
		compiled: e.compiler.CompileCELExpression(
			&matchconditions.MatchCondition{Expression: text},
			celplugin.OptionalVariableDeclarations{HasAuthorizer: true},
			environment.StoredExpressions,
		),
		looksAt: e.referencesOf(text),
	}
	e.kept[text] = made
	return made
}

// attributes is the request that creates the Pod, as admission sees it when it comes to webhooks.
func attributes(request mesh.MatchRequest) *admission.VersionedAttributes {
	pod := podOf(request)
	record := admission.NewAttributesRecord(pod, nil, podKind, request.Namespace.Name, "", podResource, "",
		admission.Create, &metav1.CreateOptions{}, false, nil)
	return &admission.VersionedAttributes{
		Attributes:      record,
		VersionedKind:   podKind,
		VersionedObject: admission.NewLazyObject(pod),
	}
}

// podOf is the Pod that the workload's controller makes of the template, after the admission
// plugins of Kubernetes itself that come before webhooks.
func podOf(request mesh.MatchRequest) *corev1.Pod {
	template := request.Template
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: podKind.GroupVersion().String(), Kind: podKind.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   request.Namespace.Name,
			Labels:      template.Labels,
			Annotations: template.Annotations,
		},
	}
	if added := mesh.LabelsAddedBy(template.Kind); len(added) > 0 {
		pod.Labels = make(map[string]string, len(template.Labels)+len(added))
		for _, key := range added {
			pod.Labels[key] = ""
		}
		maps.Copy(pod.Labels, template.Labels)
	}
	if owner, owned := controllerOf(template.Kind); owned {
		pod.OwnerReferences = []metav1.OwnerReference{owner}
	}
	if template.Spec == nil {
		pod.Spec.HostNetwork = template.HostNetwork
		return pod
	}
	pod.Spec = *template.Spec
	defaultSpec(&pod.Spec)
	return pod
}

// controllerOf is what controls the Pods of a kind of workloads; false where that is not known. Names and UIDs are those
// of objects that may not exist yet.
func controllerOf(kind string) (metav1.OwnerReference, bool) {
	workload := mesh.KindNamed(kind)
	if !workload.IsRead() || workload.Optional {
		return metav1.OwnerReference{}, false
	}
	owner := mesh.KindNamed(workload.PodOwner())
	return metav1.OwnerReference{APIVersion: owner.APIVersion(), Kind: owner.Name, Controller: new(true), BlockOwnerDeletion: new(true)}, true
}

// defaultSpec does what every Pod undergoes before webhooks and no template has undergone: the
// defaults of Pods alone (k8s.io/kubernetes/pkg/apis/core/v1/defaults.go, SetDefaults_Pod), the
// ServiceAccount's name and the tolerations (plugin/pkg/admission/serviceaccount and
// defaulttolerationseconds). What else it undergoes depends on other objects; see references.
func defaultSpec(spec *corev1.PodSpec) {
	if spec.EnableServiceLinks == nil {
		spec.EnableServiceLinks = new(true)
	}
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = "default"
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	given := spec.Tolerations
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !slices.ContainsFunc(given, tolerates(taint)) {
			spec.Tolerations = append(slices.Clip(spec.Tolerations), corev1.Toleration{
				Key:               taint,
				Operator:          corev1.TolerationOpExists,
				Effect:            corev1.TaintEffectNoExecute,
				TolerationSeconds: new(int64(300)),
			})
		}
	}
}

func tolerates(taint string) func(corev1.Toleration) bool {
	return func(toleration corev1.Toleration) bool {
		return (toleration.Key == taint || toleration.Key == "") &&
			(toleration.Effect == corev1.TaintEffectNoExecute || toleration.Effect == "")
	}
}
