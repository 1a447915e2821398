package restart_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestNamespaceFollowsOnePolicy(t *testing.T) {
	shop := &inventory.Namespace{Name: "shop", Labels: map[string]string{"team": "shop"}}
	for name, test := range map[string]struct {
		policies  []*builder.PolicyBuilder
		namespace *inventory.Namespace
		want      string
	}{
		"none where there is none":   {nil, shop, ""},
		"none where none selects it": {[]*builder.PolicyBuilder{builder.Enforcing("a").Over("team", "bank")}, shop, ""},
		"the one that selects it": {
			[]*builder.PolicyBuilder{builder.Enforcing("a").Over("team", "bank"), builder.Enforcing("b").Over("team", "shop")},
			shop,
			"b",
		},
		"the highest priority": {
			[]*builder.PolicyBuilder{builder.Enforcing("a"), builder.Enforcing("b").Priority(1), builder.Enforcing("c").Priority(-1)},
			shop,
			"b",
		},
		"the first by name among equals": {
			[]*builder.PolicyBuilder{builder.Enforcing("b"), builder.Enforcing("a"), builder.Enforcing("c").Priority(0)},
			shop,
			"a",
		},
		"no system namespace": {[]*builder.PolicyBuilder{builder.Enforcing("a")}, &inventory.Namespace{Name: "kube-system"}, ""},
		"a system namespace that says so": {
			[]*builder.PolicyBuilder{builder.Enforcing("a")},
			&inventory.Namespace{Name: "kube-system", Labels: map[string]string{v1alpha1.IncludeLabel: "true"}}, "a",
		},
		"no system namespace that says something else": {
			[]*builder.PolicyBuilder{builder.Enforcing("a")},
			&inventory.Namespace{Name: "kube-system", Labels: map[string]string{v1alpha1.IncludeLabel: "yes"}}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var policies []*restart.Policy
			for _, b := range test.policies {
				policy, err := restart.NewPolicy(b.Build())
				if err != nil {
					t.Fatal(err)
				}
				policies = append(policies, policy)
			}
			got := ""
			if policy := restart.Governing(
				restart.Rank(policies), restart.SystemNamespaces.Has(test.namespace.Name), test.namespace,
			); policy != nil {
				got = policy.Name
			}
			if got != test.want {
				t.Errorf("it follows %q, want %q", got, test.want)
			}
		})
	}
}

func TestSelectorsOfAPolicyReadLikeKubernetes(t *testing.T) {
	policy := builder.Enforcing("a").Build()
	policy.Spec.NamespaceSelector = &v1alpha1.LabelSelector{
		MatchLabels: map[string]v1alpha1.LabelValue{"team": "shop"},
		MatchExpressions: []v1alpha1.LabelSelectorRequirement{
			{Key: "stage", Operator: metav1.LabelSelectorOpIn, Values: []v1alpha1.LabelValue{"test", "production"}},
			{Key: "frozen", Operator: metav1.LabelSelectorOpDoesNotExist},
		},
	}
	ready, err := restart.NewPolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"all hold":       {map[string]string{"team": "shop", "stage": "test"}, true},
		"another value":  {map[string]string{"team": "shop", "stage": "development"}, false},
		"a label's lack": {map[string]string{"stage": "test"}, false},
		"a label's harm": {map[string]string{"team": "shop", "stage": "test", "frozen": ""}, false},
	} {
		governed := restart.Governing([]*restart.Policy{ready}, false, &inventory.Namespace{Name: "shop", Labels: test.labels}) != nil
		if governed != test.want {
			t.Errorf("%s: governed %t", name, governed)
		}
	}
}

func TestSelectorThatCannotBeReadIsNamed(t *testing.T) {
	broken := &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}
	for field, change := range map[string]func(*v1alpha1.MeshPolicySpec){
		"spec.namespaceSelector": func(spec *v1alpha1.MeshPolicySpec) { spec.NamespaceSelector = broken },
		"spec.workloadSelector":  func(spec *v1alpha1.MeshPolicySpec) { spec.WorkloadSelector = broken },
	} {
		policy := builder.Enforcing("a").Build()
		change(&policy.Spec)
		if _, err := restart.NewPolicy(policy); err == nil || !strings.Contains(err.Error(), "reading "+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestPolicyWithoutNamespaceSelectorReportsOnAll(t *testing.T) {
	policy, err := restart.NewPolicy(&v1alpha1.MeshPolicy{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if policy.Mode != v1alpha1.ModeReport || restart.Governing(
		[]*restart.Policy{policy}, false, &inventory.Namespace{Name: "shop"},
	) != policy {
		t.Errorf("mode %s", policy.Mode)
	}
}

func TestControlPlanesAreLeftAloneUnlessALabelSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		labels []string
		want   int
	}{
		"where the webhooks' Service is": {[]string{"istio-injection", "enabled"}, 0},
		"and where a label includes it":  {[]string{"istio-injection", "enabled", v1alpha1.IncludeLabel, "true"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			service := istio.Webhooks[0].ClientConfig.Service.Namespace
			s := newScene(
				builder.Namespace(service).Labelled(test.labels...).CreatedAt(yesterday).Build(), outside(deployment(service, "gateway"), 3),
			)
			if got := verdicts(s.decide()); len(got) != test.want {
				t.Errorf("There are verdicts on %d workloads, want %d: %v", len(got), test.want, got)
			}
		})
	}
}
