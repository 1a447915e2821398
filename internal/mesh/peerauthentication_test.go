package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// peer is a PeerAuthentication: where it is, of which second, and its spec in YAML.
type peer struct {
	namespace, name string
	second          int
	spec            string
	labels          map[string]string
}

func peerAuthentications(t *testing.T, peers ...peer) *mesh.PeerAuthentications {
	t.Helper()
	all := map[types.NamespacedName]*mesh.PeerAuthentication{}
	for _, p := range peers {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		spec := map[string]any{}
		if err := yaml.Unmarshal([]byte(p.spec), &spec); err != nil {
			t.Fatal(err)
		}
		object.Object["spec"] = spec
		object.SetNamespace(p.namespace)
		object.SetName(p.name)
		object.SetLabels(p.labels)
		object.SetCreationTimestamp(metav1.Unix(int64(1000+p.second), 0))
		all[types.NamespacedName{Namespace: p.namespace, Name: p.name}] = mesh.FromPeerAuthentication(object)
	}
	return mesh.NewPeerAuthentications(all)
}

const (
	strict     = "mtls: {mode: STRICT}"
	permissive = "mtls: {mode: PERMISSIVE}"
	forWeb     = "selector: {matchLabels: {app: web}}\n"
)

// The rules are those of ComposePeerAuthentication and addPeerAuthentication in Istio's
// pilot/pkg/security/authn/policy_applier.go and pilot/pkg/model/authentication.go.
func TestEffectiveMutualTLS(t *testing.T) {
	const root = "istio-system"
	type want struct {
		strict bool
		ports  []string
		by     string
	}
	for _, test := range []struct {
		name  string
		peers []peer
		want  want
	}{
		{"nothing is said", nil, want{}},
		{"the mesh is strict", []peer{{root, "mesh", 0, strict, nil}}, want{true, nil, "istio-system/mesh"}},
		{"the mesh is permissive", []peer{{root, "mesh", 0, permissive, nil}}, want{by: "istio-system/mesh"}},
		{"the mesh says nothing", []peer{{root, "mesh", 0, "{}", nil}}, want{}},
		{"the namespace is strict", []peer{{"shop", "all", 0, strict, nil}}, want{true, nil, "shop/all"}},
		{"another namespace is strict", []peer{{"bank", "all", 0, strict, nil}}, want{}},
		{"the namespace takes the mesh's word back", []peer{{root, "mesh", 0, strict, nil}, {"shop", "all", 1, permissive, nil}}, want{by: "shop/all"}},
		{"the namespace disables it", []peer{{root, "mesh", 0, strict, nil}, {"shop", "all", 1, "mtls: {mode: DISABLE}", nil}}, want{by: "shop/all"}},
		{"the namespace leaves it unset", []peer{{root, "mesh", 0, strict, nil}, {"shop", "all", 1, "mtls: {mode: UNSET}", nil}}, want{true, nil, "istio-system/mesh"}},
		{"the namespace has no mtls", []peer{{root, "mesh", 0, strict, nil}, {"shop", "all", 1, "{}", nil}}, want{true, nil, "istio-system/mesh"}},
		{"an empty selector is none", []peer{{"shop", "all", 0, "selector: {matchLabels: {}}\n" + strict, nil}}, want{true, nil, "shop/all"}},
		{"the workload is strict", []peer{{"shop", "all", 0, permissive, nil}, {"shop", "web", 1, forWeb + strict, nil}}, want{true, nil, "shop/web"}},
		{"the workload is permissive", []peer{{"shop", "all", 0, strict, nil}, {"shop", "web", 1, forWeb + permissive, nil}}, want{by: "shop/web"}},
		{"the workload inherits", []peer{{"shop", "all", 0, strict, nil}, {"shop", "web", 1, forWeb + "mtls: {mode: UNSET}", nil}}, want{true, nil, "shop/all"}},
		{"another workload is strict", []peer{{"shop", "db", 0, "selector: {matchLabels: {app: db}}\n" + strict, nil}}, want{}},
		{"a selector asks for more labels than there are", []peer{{"shop", "web", 0, "selector: {matchLabels: {app: web, tier: front}}\n" + strict, nil}}, want{}},
		{"a selector in the root namespace counts for nothing", []peer{{root, "web", 0, forWeb + strict, nil}}, want{}},
		{"the older of two of a namespace", []peer{{"shop", "a", 1, permissive, nil}, {"shop", "b", 0, strict, nil}}, want{true, nil, "shop/b"}},
		{"the older counts also where it leaves it unset", []peer{{"shop", "a", 1, strict, nil}, {"shop", "b", 0, "{}", nil}}, want{}},
		{"of one second, the first by name", []peer{{"shop", "b", 0, permissive, nil}, {"shop", "a", 0, strict, nil}}, want{true, nil, "shop/a"}},
		{"the older of two of the mesh", []peer{{root, "a", 1, strict, nil}, {root, "b", 0, permissive, nil}}, want{by: "istio-system/b"}},
		{"the older of two for a workload", []peer{{"shop", "a", 1, forWeb + permissive, nil}, {"shop", "b", 0, forWeb + strict, nil}}, want{true, nil, "shop/b"}},
		{"one port is strict", []peer{{"shop", "web", 0, forWeb + "portLevelMtls: {8080: {mode: STRICT}, 9090: {mode: PERMISSIVE}}", nil}}, want{true, []string{"8080"}, "shop/web"}},
		{"several ports, in order", []peer{{"shop", "web", 0, forWeb + "portLevelMtls: {8080: {mode: STRICT}, 443: {mode: STRICT}}", nil}}, want{true, []string{"443", "8080"}, "shop/web"}},
		{"all but one port are strict", []peer{{"shop", "web", 0, forWeb + strict + "\nportLevelMtls: {8080: {mode: DISABLE}}", nil}}, want{true, nil, "shop/web"}},
		{"a port that inherits what is permissive", []peer{{"shop", "web", 0, forWeb + "portLevelMtls: {8080: {mode: UNSET}}", nil}}, want{}},
		{"ports without a selector count for nothing", []peer{{"shop", "all", 0, "portLevelMtls: {8080: {mode: STRICT}}", nil}}, want{}},
		{"what is no spec at all", []peer{{"shop", "all", 0, "mtls: STRICT\nselector: web\nportLevelMtls: {8080: STRICT}", nil}}, want{}},
		{"for this revision alone", []peer{{"shop", "all", 0, strict, map[string]string{"istio.io/rev": "default"}}}, want{true, nil, "shop/all"}},
		{"for another revision alone", []peer{{"shop", "all", 0, strict, map[string]string{"istio.io/rev": "canary"}}}, want{}},
		{"the oldest that its revision reads", []peer{{"shop", "a", 0, permissive, map[string]string{"istio.io/rev": "canary"}}, {"shop", "b", 1, strict, nil}}, want{true, nil, "shop/b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			injector := mesh.NewInjector([]*admissionregistrationv1.MutatingWebhookConfiguration{builder.Webhooks()}, []*corev1.ConfigMap{builder.InjectorSettings()}, mesh.Options{})
			got := injector.Effective(peerAuthentications(t, test.peers...), "default", "shop", map[string]string{"app": "web", "version": "1"})
			by := ""
			if got.By != nil {
				by = got.By.Namespace + "/" + got.By.Name
			}
			if diff := cmp.Diff(test.want, want{got.Strict, got.Ports, by}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("effective (-want +got):\n%s", diff)
			}
		})
	}
}

// The root namespace is what the mesh configuration says, else the control plane's.
func TestRootNamespaceIsThatOfTheMeshConfiguration(t *testing.T) {
	meshConfig := func(text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"}, Data: map[string]string{"mesh": text}}
	}
	for _, test := range []struct {
		name       string
		configMaps []*corev1.ConfigMap
		root       string
	}{
		{"nothing is known", nil, "istio-system"},
		{"it says so", []*corev1.ConfigMap{meshConfig("rootNamespace: mesh-config")}, "mesh-config"},
		{"it does not say", []*corev1.ConfigMap{meshConfig("trustDomain: cluster.local")}, "istio-system"},
		{"it cannot be read", []*corev1.ConfigMap{meshConfig("rootNamespace: [")}, "istio-system"},
	} {
		t.Run(test.name, func(t *testing.T) {
			injector := mesh.NewInjector([]*admissionregistrationv1.MutatingWebhookConfiguration{builder.Webhooks()}, test.configMaps, mesh.Options{})
			for _, namespace := range []string{"istio-system", "mesh-config"} {
				got := injector.Effective(peerAuthentications(t, peer{namespace, "mesh", 0, strict, nil}), "default", "shop", nil)
				if got.Strict != (namespace == test.root) {
					t.Errorf("a policy in %s makes it strict: %t", namespace, got.Strict)
				}
			}
		})
	}
	elsewhere := mesh.NewInjector([]*admissionregistrationv1.MutatingWebhookConfiguration{builder.Webhooks()}, []*corev1.ConfigMap{meshConfig("rootNamespace: a")}, mesh.Options{})
	if elsewhere.Equal(mesh.NewInjector([]*admissionregistrationv1.MutatingWebhookConfiguration{builder.Webhooks()}, nil, mesh.Options{})) {
		t.Error("another root namespace is no other injector")
	}
}

// A policy for a tag is one for the revision behind it.
func TestPeerAuthenticationOfATag(t *testing.T) {
	tagged := builder.RevisionWebhooks("canary")
	tagged.Labels["istio.io/tag"] = "prod"
	for i := range tagged.Webhooks {
		for _, selector := range []*metav1.LabelSelector{tagged.Webhooks[i].NamespaceSelector, tagged.Webhooks[i].ObjectSelector} {
			for j := range selector.MatchExpressions {
				if selector.MatchExpressions[j].Key == "istio.io/rev" && selector.MatchExpressions[j].Operator == metav1.LabelSelectorOpIn {
					selector.MatchExpressions[j].Values = []string{"prod"}
				}
			}
		}
	}
	injector := mesh.NewInjector([]*admissionregistrationv1.MutatingWebhookConfiguration{builder.Webhooks(), tagged}, nil, mesh.Options{})
	policies := peerAuthentications(t, peer{"shop", "all", 0, strict, map[string]string{"istio.io/rev": "prod"}})
	if !injector.Effective(policies, "canary", "shop", nil).Strict {
		t.Error("the control plane behind the tag does not read it")
	}
	if injector.Effective(policies, "default", "shop", nil).Strict {
		t.Error("another control plane reads it")
	}
}
