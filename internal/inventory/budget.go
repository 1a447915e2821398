package inventory

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// budgetIndex finds the disruption budgets that may cover Pods by the labels of these, so many
// budgets and many workloads are not each compared with each.
type budgetIndex struct {
	// byLabel are the places of those that ask for a label with one value; anywhere of all others.
	byLabel  map[label][]int
	anywhere []int
}

type label struct{ key, value string }

func indexBudgets(budgets []DisruptionBudget) budgetIndex {
	index := budgetIndex{byLabel: map[label][]int{}}
	for i := range budgets {
		if required, found := requiredLabel(budgets[i].Selector); found {
			index.byLabel[required] = append(index.byLabel[required], i)
		} else {
			index.anywhere = append(index.anywhere, i)
		}
	}
	return index
}

// requiredLabel is one without which a selector matches nothing.
func requiredLabel(selector labels.Selector) (label, bool) {
	requirements, _ := selector.Requirements()
	for i := range requirements {
		required := &requirements[i]
		values := required.ValuesUnsorted()
		switch required.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if len(values) == 1 {
				return label{required.Key(), values[0]}, true
			}
		}
	}
	return label{}, false
}

// BudgetsOver are the disruption budgets that cover Pods with such labels, by name.
func (n *Namespace) BudgetsOver(pods labels.Set) []*DisruptionBudget {
	places := slices.Clone(n.budgets.anywhere)
	for key, value := range pods {
		places = append(places, n.budgets.byLabel[label{key, value}]...)
	}
	slices.Sort(places)
	var covering []*DisruptionBudget
	for _, i := range places {
		if budget := &n.Budgets[i]; budget.Selector.Matches(pods) {
			covering = append(covering, budget)
		}
	}
	return covering
}
