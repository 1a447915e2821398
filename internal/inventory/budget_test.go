package inventory_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestBudgetsOverPodsAreThoseThatSelectThem(t *testing.T) {
	expression := func(key string, operator metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	i := inventory.New()
	i.SetNamespace(builder.Namespace("shop").Build(), noon)
	for name, selector := range map[string]*metav1.LabelSelector{
		"all":      {},
		"app":      {MatchLabels: map[string]string{"app": "cart"}},
		"both":     {MatchLabels: map[string]string{"app": "cart", "tier": "web"}},
		"either":   expression("app", metav1.LabelSelectorOpIn, "cart", "pay"),
		"labelled": expression("app", metav1.LabelSelectorOpExists),
		"no-data":  expression("tier", metav1.LabelSelectorOpNotIn, "data"),
		"none":     nil,
		"one-in":   expression("tier", metav1.LabelSelectorOpIn, "web"),
		"without":  expression("app", metav1.LabelSelectorOpDoesNotExist),
	} {
		budget := builder.DisruptionBudget("shop", name).With(func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = selector }).Build()
		i.SetDisruptionBudget(budget)
	}
	shop := i.Snapshot().Namespaces[0]
	for _, test := range []struct {
		pods labels.Set
		want []string
	}{
		{nil, []string{"all", "no-data", "without"}},
		{labels.Set{"app": "cart"}, []string{"all", "app", "either", "labelled", "no-data"}},
		{labels.Set{"app": "pay", "tier": "web"}, []string{"all", "either", "labelled", "no-data", "one-in"}},
		{labels.Set{"app": "cart", "tier": "web"}, []string{"all", "app", "both", "either", "labelled", "no-data", "one-in"}},
		{labels.Set{"app": "cart", "tier": "data"}, []string{"all", "app", "either", "labelled"}},
	} {
		var got []string
		for _, budget := range shop.BudgetsOver(test.pods) {
			got = append(got, budget.Name)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("over Pods with %s (-want +got):\n%s", test.pods, diff)
		}
	}
}
