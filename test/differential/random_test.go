package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// absent stands for a label, annotation or setting that is not there.
const absent = "<absent>"

// random makes things up.
type random struct{ *rand.Rand }

func newRandom(seed, stream uint64) random { return random{rand.New(rand.NewPCG(seed, stream))} }

// in reports whether it is the one time in n.
func (r random) in(n int) bool { return r.IntN(n) == 0 }

func one[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

// set makes labels or annotations: of each key one of the values.
func (r random) put(set map[string]string, key string, values ...string) {
	if value := one(r, values...); value != absent {
		set[key] = value
	}
}

// namespace makes a namespace. Labels are there when it is created, and never change, so that no
// API server has ever seen others.
func (r random) namespace(name string) *corev1.Namespace {
	set := map[string]string{}
	r.put(set, "istio-injection", absent, absent, absent, absent, "enabled", "enabled", "enabled", "enabled", "disabled", one(r, "", "Enabled", "true"))
	r.put(set, "istio.io/rev", absent, absent, "default", "canary", "prod", one(r, "ghost", ""))
	r.put(set, "istio.io/dataplane-mode", absent, absent, "ambient", "none")
	r.put(set, "team", absent, "red", "blue")
	r.put(set, "istio.io/deactivated", absent, absent, absent, absent, absent, absent, absent, absent, absent, "never-match")
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set}}
}

// template makes a Pod template.
func (r random) template() corev1.PodTemplateSpec {
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Image: one(r, "registry.example/cart:1", "registry.example/web:2")}},
		},
	}
	r.label(template.Labels)
	r.annotate(template.Annotations)
	if r.in(10) {
		template.Spec.HostNetwork = true
	}
	if r.in(25) {
		template.Spec.OS = &corev1.PodOS{Name: one(r, corev1.Windows, corev1.Linux)}
	}
	if r.in(12) {
		template.Spec.ServiceAccountName = "default"
	}
	if r.in(8) {
		template.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: "registry.example/prepare:1"}}
	}
	switch r.IntN(30) {
	case 0: // an owner's own settings for the sidecar
		template.Spec.Containers = append(template.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: one(r, "auto", "registry.example/own-proxy:9")})
	case 1: // what kube-inject writes
		template.Spec.Containers = append(template.Spec.Containers, corev1.Container{
			Name: "istio-proxy", Image: "registry.example/proxyv2:1.20.0", Args: []string{"proxy", "sidecar"},
		})
		template.Annotations["sidecar.istio.io/status"] = `{"containers":["istio-proxy"],"initContainers":null,"revision":"` + bakedIn + `"}`
	case 2: // a copied annotation
		template.Annotations["sidecar.istio.io/status"] = one(r,
			`{"containers":["istio-proxy"],"initContainers":["istio-init"],"revision":"`+bakedIn+`"}`, `injected`, ``, `{}`)
	}
	return template
}

// kinds are of workloads, and what each kind's controller makes the owner of its Pods.
var kinds = map[string]string{"": "", "Deployment": "ReplicaSet", "StatefulSet": "StatefulSet", "DaemonSet": "DaemonSet", "CronJob": "Job"}

// kind makes a kind of workload.
func (r random) kind() string {
	return one(r, "", "Deployment", "Deployment", "StatefulSet", "DaemonSet", "CronJob")
}

func (r random) label(set map[string]string) {
	r.put(set, "sidecar.istio.io/inject", absent, absent, absent, absent, "true", "true", "true", "false", one(r, "", "True", "yes", "on", "0"))
	r.put(set, "istio.io/rev", absent, absent, absent, absent, "default", "canary", "prod", "ghost", "")
	r.put(set, "istio.io/dataplane-mode", absent, absent, absent, "ambient", "none")
	r.put(set, "app", absent, "cart", "web")
	r.put(set, "batch", absent, absent, "yes", "no")
	r.put(set, "version", absent, "v1", "v2")
	r.put(set, "security.istio.io/tlsMode", absent, absent, absent, absent, absent, "disabled")
	if r.in(40) {
		set["gateway.networking.k8s.io/gateway-name"] = "edge"
	}
}

func (r random) annotate(set map[string]string) {
	r.put(set, "sidecar.istio.io/inject", absent, absent, absent, absent, "true", "false", "False", "")
	r.put(set, "example.com/mesh", absent, absent, "yes", "no")
	r.rarely(set, "inject.istio.io/templates", "sidecar", " sidecar ", "gateway", "grpc-agent", "grpc-simple", "both", "", "unknown", "sidecar,unknown")
	r.rarely(set, "sidecar.istio.io/proxyImage", "registry.example/own/proxyv2:1.2.3", "proxyv2")
	r.rarely(set, "sidecar.istio.io/proxyImageType", "distroless", "debug", "default", "")
	r.rarely(set, "sidecar.istio.io/nativeSidecar", "true", "false", "bogus")
	r.rarely(set, "sidecar.istio.io/interceptionMode", "REDIRECT", "TPROXY", "NONE", "none", "")
	r.rarely(set, "traffic.sidecar.istio.io/excludeInboundPorts", "80", " 80, 81 ", "80,", "http", "")
	r.rarely(set, "traffic.sidecar.istio.io/includeInboundPorts", "*", "80", "70000")
	r.rarely(set, "traffic.sidecar.istio.io/includeOutboundIPRanges", "*", "10.0.0.0/8", "10.0.0.0", "")
	r.rarely(set, "traffic.sidecar.istio.io/excludeInterfaces", "eth0", "eth0, net1", "0eth", "a-name-that-is-too-long")
	r.rarely(set, "status.sidecar.istio.io/port", "15020", "0", "-1", "many")
	r.rarely(set, "readiness.status.sidecar.istio.io/periodSeconds", "2", "-2", "2s")
	r.rarely(set, "prometheus.istio.io/merge-metrics", "true", "false", "T", "maybe")
	r.rarely(set, "sidecar.istio.io/proxyCPU", "100m", "plenty", "")
	r.rarely(set, "sidecar.istio.io/proxyMemoryLimit", "1Gi", "1 Gi")
	r.rarely(set, "proxy.istio.io/config", "concurrency: 1\n", "image:\n  imageType: debug\n", "holdApplicationUntilProxyStarts: true\n", "[", "")
}

// rarely puts one of the values under the key, once in a while.
func (r random) rarely(set map[string]string, key string, values ...string) {
	if r.in(60) {
		set[key] = one(r, values...)
	}
}

// selector makes a selector of Pods or, with other keys, of namespaces.
func (r random) selector(keys map[string][]string) *metav1.LabelSelector {
	made := &metav1.LabelSelector{}
	for range r.IntN(3) {
		key := one(r, sorted(keys)...)
		operator := one(r, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)
		requirement := metav1.LabelSelectorRequirement{Key: key, Operator: operator}
		if operator == metav1.LabelSelectorOpIn || operator == metav1.LabelSelectorOpNotIn {
			requirement.Values = []string{one(r, keys[key]...)}
		}
		made.MatchExpressions = append(made.MatchExpressions, requirement)
	}
	if r.in(4) {
		key := one(r, sorted(keys)...)
		made.MatchLabels = map[string]string{key: one(r, keys[key]...)}
	}
	return made
}

func sorted(keys map[string][]string) []string {
	var names []string
	for key := range keys {
		names = append(names, key)
	}
	slices.Sort(names)
	return names
}

var (
	podKeys = map[string][]string{
		"app": {"cart", "web"}, "batch": {"yes", "no"}, "version": {"v1"}, "security.istio.io/tlsMode": {"istio", "disabled"},
		"service.istio.io/canonical-revision": {"v1", "latest"}, "sidecar.istio.io/inject": {"true", "", "yes"}, "istio.io/rev": {"canary", "prod"},
		"job-name": {"another"}, "pod-template-hash": {"another"},
	}
	namespaceKeys = map[string][]string{
		"team": {"red", "blue"}, "istio-injection": {"enabled", "disabled"}, "istio.io/rev": {"canary", "default"},
		"kubernetes.io/metadata.name": {"kube-public", "case-1", "case-2", "case-3"},
	}
)

// expressions are matchConditions. The last two cannot be answered for whoever creates Pods.
var expressions = []string{
	`true`,
	`false`,
	`object.metadata.labels["app"] == "cart"`,
	`has(object.metadata.labels) && "app" in object.metadata.labels`,
	`!has(object.metadata.labels) || !("batch" in object.metadata.labels) || object.metadata.labels["batch"] != "yes"`,
	`object.metadata.?annotations["example.com/mesh"].orValue("yes") == "yes"`,
	`object.metadata.annotations["example.com/mesh"] != "no"`,
	`object.spec.containers.all(c, c.image.startsWith("registry.example/cart"))`,
	`!object.spec.?hostNetwork.orValue(false)`,
	`object.spec.hostNetwork == true`,
	`object.spec.serviceAccountName == "default" && object.spec.restartPolicy == "Always"`,
	`object.spec.initContainers.size() > 0`,
	`object.spec.tolerations.exists(t, t.key == "node.kubernetes.io/not-ready")`,
	`request.namespace != "case-1"`,
	`request.operation == "CREATE" && request.kind.kind == "Pod" && request.resource.version == "v1"`,
	`request.namespace.matches("^case-[0-9]*[02468]$")`,
	`oldObject == null && object != null`,
	`!has(object.metadata.labels) || !("job-name" in object.metadata.labels)`,
	`!has(object.metadata.ownerReferences) || object.metadata.ownerReferences.all(o, o.kind != "Job")`,
	`has(object.metadata.ownerReferences) && object.metadata.ownerReferences[0].controller`,
	`namespaceObject == null`,
	`request.userInfo.username == "admin"`,
	`object.metadata.name == "x"`,
}

// change makes an administrator's changes to a webhook.
func (r random) change(webhook *admissionregistrationv1.MutatingWebhook) {
	if r.in(10) {
		more := r.selector(namespaceKeys)
		if webhook.NamespaceSelector == nil || r.in(3) {
			webhook.NamespaceSelector = more
		} else {
			webhook.NamespaceSelector.MatchExpressions = append(webhook.NamespaceSelector.MatchExpressions, more.MatchExpressions...)
		}
	}
	if r.in(10) {
		more := r.selector(podKeys)
		if webhook.ObjectSelector == nil || r.in(3) {
			webhook.ObjectSelector = more
		} else {
			webhook.ObjectSelector.MatchExpressions = append(webhook.ObjectSelector.MatchExpressions, more.MatchExpressions...)
		}
	}
	if r.in(6) {
		for i := range 1 + r.IntN(3) {
			webhook.MatchConditions = append(webhook.MatchConditions, admissionregistrationv1.MatchCondition{
				Name: fmt.Sprintf("condition-%d", i), Expression: one(r, expressions...),
			})
		}
	}
	if r.in(4) {
		webhook.FailurePolicy = new(admissionregistrationv1.Ignore)
	}
	if r.in(12) {
		rule := &webhook.Rules[0]
		switch r.IntN(7) {
		case 0:
			rule.Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.Update}
		case 1:
			rule.Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll}
		case 2:
			rule.Resources = []string{one(r, "pods/*", "pods/status", "*", "*/*", "services")}
		case 3:
			rule.APIGroups = []string{one(r, "*", "apps")}
		case 4:
			rule.APIVersions = []string{one(r, "*", "v2")}
		case 5:
			rule.Scope = new(one(r, admissionregistrationv1.NamespacedScope, admissionregistrationv1.ClusterScope, admissionregistrationv1.AllScopes))
		case 6:
			rule.Resources = []string{"services", "pods"}
		}
	}
	if r.in(30) {
		deactivate(webhook)
	}
}

func deactivate(webhook *admissionregistrationv1.MutatingWebhook) {
	never := &metav1.LabelSelector{MatchLabels: map[string]string{"istio.io/deactivated": "never-match"}}
	webhook.NamespaceSelector, webhook.ObjectSelector = never, never
}

// injectorConfig changes an injector's configuration and values.
func (r random) injectorConfig(config, values map[string]any) {
	config["policy"] = one(r, "enabled", "enabled", "enabled", "enabled", "disabled", "disabled", "on")
	config["neverInjectSelector"] = r.selectors()
	config["alwaysInjectSelector"] = r.selectors()
	config["aliases"] = map[string]any{"both": []any{"sidecar", "grpc-simple"}}
	config["defaultTemplates"] = one(r, []any{"sidecar"}, []any{"sidecar"}, []any{"sidecar"}, []any{"sidecar"}, []any{},
		one(r, []any{"gateway"}, []any{"grpc-agent"}, []any{"both"}, []any{"unknown"}))
	global := values["global"].(map[string]any)
	global["hub"] = one(r, "registry.example/istio", "localhost:5000")
	global["tag"] = one[any](r, "1.31.0", "1.31.0-distroless", "latest", 1.5)
	global["variant"] = one(r, "", "", "distroless", "debug")
}

func (r random) selectors() []any {
	made := []any{}
	for range r.IntN(3) {
		selector := r.selector(podKeys)
		if r.in(12) {
			selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: "app", Operator: "Wish"})
		}
		made = append(made, asMap(selector))
	}
	return made
}

func asMap(object any) map[string]any {
	text, err := yaml.Marshal(object)
	if err != nil {
		panic(err)
	}
	made := map[string]any{}
	if err := yaml.Unmarshal(text, &made); err != nil {
		panic(err)
	}
	return made
}
