// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// validPolicy is what the refused policies are mutations of. It is accepted itself, so each
// refusal is due to the mutation.
func validPolicy() *v1alpha1.MeshPolicy {
	return &v1alpha1.MeshPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "policy"},
		Spec: v1alpha1.MeshPolicySpec{
			Mode: v1alpha1.ModeEnforce,
			NamespaceSelector: &v1alpha1.LabelSelector{
				MatchLabels: map[string]v1alpha1.LabelValue{"team": "shop"},
			},
			Remediate:     []v1alpha1.Remediation{"Missing"},
			Accept:        []v1alpha1.Risk{v1alpha1.RiskDowntime, v1alpha1.RiskOwnedByOperator, v1alpha1.RiskUnchecked},
			SettleSeconds: new(int32(30)),
			Failure:       &v1alpha1.FailurePolicy{ProgressTimeoutSeconds: new(int32(600)), StopAfter: new(int32(1000)), CoolDownSeconds: new(int32(604800))},
			Budgets: []v1alpha1.Budget{
				{Scope: v1alpha1.BudgetScopePolicy, Workloads: new(intstr.FromInt32(5)), Pods: new(intstr.FromInt32(100))},
				{Scope: v1alpha1.BudgetScopeNamespace, Workloads: new(intstr.FromString("5%"))},
			},
		},
	}
}

// What refusals have in common.
const (
	keyCure    = "must be a label key: an optional DNS prefix and a slash, then at most 63 letters, digits, dots, dashes and underscores"
	valueCure  = "a label value has letters, digits, dots, dashes and underscores, and begins and ends with a letter or digit"
	valuesCure = "In and NotIn need at least one value, Exists and DoesNotExist take none"
	budgetCure = "must be a number from 0 to 100000 without quotes, or a percentage from 0% to 100%"
)

type refusal struct {
	name string
	// mutate makes the valid policy a wrong one; spec says what the Go types cannot.
	mutate     func(*v1alpha1.MeshPolicy)
	spec       string
	wantErrors []string
}

func testRefusedPolicies(t *testing.T, c client.Client) {
	if err := c.Create(t.Context(), validPolicy()); err != nil {
		t.Fatalf("The valid policy was refused: %v", err)
	}
	for _, group := range [][]refusal{
		wrongModes(), wrongPriorities(), wrongSelectors(), wrongFindings(), wrongRisks(),
		wrongTimes(), wrongBreakers(), wrongBudgets(), notActedOn(), wrongShapes(),
	} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) {
				var object client.Object
				if test.mutate != nil {
					wrong := validPolicy()
					test.mutate(wrong)
					object = wrong
				} else {
					object = policy(t, test.spec)
				}
				checkRefused(t, c.Create(t.Context(), object), test.wantErrors...)
			})
		}
	}
}

func wrongModes() []refusal {
	const supported = `supported values: "Report", "Enforce"`
	return []refusal{{
		name:       "an unknown mode",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.Mode = "Heal" },
		wantErrors: []string{"spec.mode", `"Heal"`, supported},
	}, {
		name:       "a mode in lower case",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.Mode = "enforce" },
		wantErrors: []string{"spec.mode", `"enforce"`, supported},
	}, {
		name:       "an empty mode",
		spec:       `{mode: ""}`,
		wantErrors: []string{"spec.mode", supported},
	}, {
		name:       "a mode that is a boolean",
		spec:       `{mode: true}`,
		wantErrors: []string{"spec.mode", "must be of type string", supported},
	}, {
		name:       "Enforce without namespaceSelector",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.NamespaceSelector = nil },
		wantErrors: []string{"spec.namespaceSelector", "Required", "use namespaceSelector: {} to govern every namespace"},
	}, {
		name:       "Enforce with a namespaceSelector of null",
		spec:       `{mode: Enforce, namespaceSelector: null}`,
		wantErrors: []string{"spec.namespaceSelector", "Required", "use namespaceSelector: {} to govern every namespace"},
	}}
}

func wrongPriorities() []refusal {
	return []refusal{{
		name:       "a priority above a million",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.Priority = new(int32(1000001)) },
		wantErrors: []string{"spec.priority", "less than or equal to 1000000"},
	}, {
		name:       "a priority below minus a million",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.Priority = new(int32(-1000001)) },
		wantErrors: []string{"spec.priority", "greater than or equal to -1000000"},
	}, {
		name:       "a priority in quotes",
		spec:       `{priority: "10"}`,
		wantErrors: []string{"spec.priority", "must be of type integer"},
	}, {
		name:       "a priority with a fraction",
		spec:       `{priority: 1.5}`,
		wantErrors: []string{"spec.priority", "must be of type int32"},
	}}
}

func wrongSelectors() []refusal {
	selector := func(s v1alpha1.LabelSelector) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { p.Spec.NamespaceSelector = &s }
	}
	expression := func(key string, operator metav1.LabelSelectorOperator, values ...v1alpha1.LabelValue) func(*v1alpha1.MeshPolicy) {
		return selector(v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{
			{Key: key, Operator: operator, Values: values},
		}})
	}
	labels := func(count int) map[string]v1alpha1.LabelValue {
		labels := map[string]v1alpha1.LabelValue{}
		for i := range count {
			labels[fmt.Sprintf("label-%d", i)] = "x"
		}
		return labels
	}
	return []refusal{{
		name:       "a label with a space in its key",
		mutate:     selector(v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"my team": "shop"}}),
		wantErrors: []string{"spec.namespaceSelector.matchLabels", keyCure},
	}, {
		name:       "a label with two dots in a row in its prefix",
		mutate:     selector(v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"example..com/team": "shop"}}),
		wantErrors: []string{"spec.namespaceSelector.matchLabels", keyCure},
	}, {
		name:       "a label with a value that has a space",
		mutate:     selector(v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"team": "my shop"}}),
		wantErrors: []string{"spec.namespaceSelector.matchLabels[team]", `"my shop"`, valueCure},
	}, {
		name:       "a label with a value of 64 letters",
		mutate:     selector(v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"team": v1alpha1.LabelValue(strings.Repeat("x", 64))}}),
		wantErrors: []string{"spec.namespaceSelector.matchLabels.team", "may not be more than 63 bytes"},
	}, {
		name:       "a label whose value is a boolean",
		spec:       `{namespaceSelector: {matchLabels: {mesh: true}}}`,
		wantErrors: []string{"spec.namespaceSelector.matchLabels.mesh", "must be of type string"},
	}, {
		name:       "33 labels",
		mutate:     selector(v1alpha1.LabelSelector{MatchLabels: labels(33)}),
		wantErrors: []string{"spec.namespaceSelector.matchLabels", "must have at most 32 items"},
	}, {
		name:       "In without values",
		mutate:     expression("team", metav1.LabelSelectorOpIn),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0]", valuesCure},
	}, {
		name:       "NotIn with an empty list of values",
		spec:       `{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: []}]}}`,
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0]", valuesCure},
	}, {
		name:       "Exists with a value",
		mutate:     expression("team", metav1.LabelSelectorOpExists, "shop"),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0]", valuesCure},
	}, {
		name:       "DoesNotExist with a value",
		mutate:     expression("team", metav1.LabelSelectorOpDoesNotExist, "shop"),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0]", valuesCure},
	}, {
		name:       "an unknown operator",
		mutate:     expression("team", "Equals", "shop"),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].operator", `"In", "NotIn", "Exists", "DoesNotExist"`},
	}, {
		name:       "an expression without operator",
		spec:       `{namespaceSelector: {matchExpressions: [{key: team}]}}`,
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].operator", "Required value"},
	}, {
		name:       "an expression without key",
		mutate:     expression("", metav1.LabelSelectorOpExists),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].key", "Required value"},
	}, {
		name:       "an expression with an empty key",
		spec:       `{namespaceSelector: {matchExpressions: [{key: "", operator: Exists}]}}`,
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].key", "at least 1 chars long", keyCure},
	}, {
		name:       "an expression whose key has two slashes",
		mutate:     expression("example.com/team/shop", metav1.LabelSelectorOpExists),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].key", `"example.com/team/shop"`, keyCure},
	}, {
		name:       "an expression whose key is 318 bytes long",
		mutate:     expression(strings.Repeat("x", 318), metav1.LabelSelectorOpExists),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].key", "may not be more than 317 bytes"},
	}, {
		name:       "an expression with a value that ends with a dash",
		mutate:     expression("team", metav1.LabelSelectorOpIn, "shop", "shop-"),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].values[1]", `"shop-"`, valueCure},
	}, {
		name: "17 expressions",
		mutate: selector(v1alpha1.LabelSelector{MatchExpressions: repeat(17,
			v1alpha1.LabelSelectorRequirement{Key: "team", Operator: metav1.LabelSelectorOpExists})}),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions", "must have at most 16 items"},
	}, {
		name:       "33 values",
		mutate:     expression("team", metav1.LabelSelectorOpIn, repeat(33, v1alpha1.LabelValue("shop"))...),
		wantErrors: []string{"spec.namespaceSelector.matchExpressions[0].values", "must have at most 32 items"},
	}, {
		name: "a wrong label in workloadSelector",
		mutate: func(p *v1alpha1.MeshPolicy) {
			p.Spec.WorkloadSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"-": "x"}}
		},
		wantErrors: []string{"spec.workloadSelector.matchLabels", keyCure},
	}, {
		name:       "a selector as text",
		spec:       `{namespaceSelector: team=shop}`,
		wantErrors: []string{"spec.namespaceSelector", "must be of type object"},
	}, {
		name:       "a selector that is a list of names",
		spec:       `{namespaceSelector: [shop, cart]}`,
		wantErrors: []string{"spec.namespaceSelector", "must be of type object"},
	}, {
		// Without strict validation this would select every namespace.
		name:       "a misspelt matchLabels",
		spec:       `{mode: Enforce, namespaceSelector: {matchLabel: {team: shop}}}`,
		wantErrors: []string{`unknown field "spec.namespaceSelector.matchLabel"`},
	}}
}

func wrongFindings() []refusal {
	remediate := func(findings ...v1alpha1.Remediation) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { p.Spec.Remediate = findings }
	}
	return []refusal{{
		name:       "remediating an unknown finding",
		mutate:     remediate("Absent"),
		wantErrors: []string{"spec.remediate[0]", `"Absent"`, `supported values: "Missing"`},
	}, {
		name:       "remediating Missing twice",
		mutate:     remediate("Missing", "Missing"),
		wantErrors: []string{"spec.remediate[1]", `Duplicate value: "Missing"`},
	}, {
		name:       "remediating nothing",
		spec:       `{remediate: []}`,
		wantErrors: []string{"spec.remediate", "at least 1 items"},
	}, {
		name:       "remediating four",
		mutate:     remediate("Missing", "Stale", "Leftover", "Missing"),
		wantErrors: []string{"spec.remediate", "must have at most 3 items"},
	}, {
		name:       "remediate without a list",
		spec:       `{remediate: Missing}`,
		wantErrors: []string{"spec.remediate", "must be of type array"},
	}}
}

func wrongRisks() []refusal {
	accept := func(risks ...v1alpha1.Risk) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { p.Spec.Accept = risks }
	}
	return []refusal{{
		name:       "accepting an unknown risk",
		mutate:     accept("Outage"),
		wantErrors: []string{"spec.accept[0]", `"Outage"`, `supported values: "Downtime"`},
	}, {
		name:       "accepting Downtime twice",
		mutate:     accept(v1alpha1.RiskDowntime, v1alpha1.RiskDowntime),
		wantErrors: []string{"spec.accept[1]", `Duplicate value: "Downtime"`},
	}, {
		name:       "accepting five",
		spec:       `{accept: [Downtime, StrictMTLS, OwnedByOperator, Unchecked, Downtime]}`,
		wantErrors: []string{"spec.accept", "must have at most 4 items"},
	}, {
		name:       "accept without a list",
		spec:       `{accept: Downtime}`,
		wantErrors: []string{"spec.accept", "must be of type array"},
	}}
}

func wrongTimes() []refusal {
	settle := func(seconds int32) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { p.Spec.SettleSeconds = &seconds }
	}
	progress := func(seconds int32) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) {
			p.Spec.Failure = &v1alpha1.FailurePolicy{ProgressTimeoutSeconds: &seconds}
		}
	}
	return []refusal{{
		name:       "settling for 0 seconds",
		mutate:     settle(0),
		wantErrors: []string{"spec.settleSeconds", "greater than or equal to 2"},
	}, {
		name:       "settling for 1 second",
		mutate:     settle(1),
		wantErrors: []string{"spec.settleSeconds", "greater than or equal to 2"},
	}, {
		name:       "settling for -30 seconds",
		mutate:     settle(-30),
		wantErrors: []string{"spec.settleSeconds", "greater than or equal to 2"},
	}, {
		name:       "settling for more than a day",
		mutate:     settle(86401),
		wantErrors: []string{"spec.settleSeconds", "less than or equal to 86400"},
	}, {
		name:       "settling for a duration with a unit",
		spec:       `{settleSeconds: 30s}`,
		wantErrors: []string{"spec.settleSeconds", "must be of type integer"},
	}, {
		name:       "no progress for 9 seconds",
		mutate:     progress(9),
		wantErrors: []string{"spec.failure.progressTimeoutSeconds", "greater than or equal to 10"},
	}, {
		name:       "no progress for more than a day",
		mutate:     progress(86401),
		wantErrors: []string{"spec.failure.progressTimeoutSeconds", "less than or equal to 86400"},
	}}
}

func wrongBreakers() []refusal {
	return []refusal{{
		name:       "stopAfter of zero",
		spec:       `{failure: {stopAfter: 0}}`,
		wantErrors: []string{"spec.failure.stopAfter", "greater than or equal to 1"},
	}, {
		name:       "stopAfter above a thousand",
		spec:       `{failure: {stopAfter: 1001}}`,
		wantErrors: []string{"spec.failure.stopAfter", "less than or equal to 1000"},
	}, {
		name:       "coolDownSeconds of zero",
		spec:       `{failure: {coolDownSeconds: 0}}`,
		wantErrors: []string{"spec.failure.coolDownSeconds", "greater than or equal to 1"},
	}, {
		name:       "coolDownSeconds of more than a week",
		spec:       `{failure: {coolDownSeconds: 604801}}`,
		wantErrors: []string{"spec.failure.coolDownSeconds", "less than or equal to 604800"},
	}}
}

func wrongBudgets() []refusal {
	budgets := func(budgets ...v1alpha1.Budget) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { p.Spec.Budgets = budgets }
	}
	workloads := func(value intstr.IntOrString) func(*v1alpha1.MeshPolicy) {
		return budgets(v1alpha1.Budget{Scope: v1alpha1.BudgetScopePolicy, Workloads: &value})
	}
	pods := func(value intstr.IntOrString) func(*v1alpha1.MeshPolicy) {
		return budgets(v1alpha1.Budget{Scope: v1alpha1.BudgetScopePolicy, Pods: &value})
	}
	refusals := []refusal{{
		name:       "an empty list of budgets",
		spec:       `{budgets: []}`,
		wantErrors: []string{"spec.budgets", "at least 1 items"},
	}, {
		name:       "nine budgets",
		mutate:     budgets(repeat(9, v1alpha1.Budget{Scope: v1alpha1.BudgetScopePolicy, Pods: new(intstr.FromInt32(1))})...),
		wantErrors: []string{"spec.budgets", "must have at most 8 items"},
	}, {
		name:       "a budget without bounds",
		mutate:     budgets(v1alpha1.Budget{Scope: v1alpha1.BudgetScopePolicy}),
		wantErrors: []string{"spec.budgets[0]", "a budget needs workloads or pods, or both"},
	}, {
		name:       "a budget of an unknown scope",
		mutate:     budgets(v1alpha1.Budget{Scope: "Cluster", Pods: new(intstr.FromInt32(1))}),
		wantErrors: []string{"spec.budgets[0].scope", `"Cluster"`, `supported values: "Policy", "Namespace"`},
	}, {
		name:       "a budget without scope",
		spec:       `{budgets: [{pods: 1}]}`,
		wantErrors: []string{"spec.budgets[0].scope", "Required value"},
	}, {
		name:       "a budget that is not in a list",
		spec:       `{budgets: 5}`,
		wantErrors: []string{"spec.budgets", "must be of type array"},
	}, {
		name:       "a budget that is a boolean",
		spec:       `{budgets: [{scope: Policy, pods: true}]}`,
		wantErrors: []string{"spec.budgets[0].pods", "must be of type integer,string"},
	}, {
		name:       "a budget with a fraction",
		spec:       `{budgets: [{scope: Policy, workloads: 2.5}]}`,
		wantErrors: []string{"spec.budgets[0].workloads", "must be of type integer,string"},
	}, {
		name:       "a budget with a field that there is not",
		spec:       `{budgets: [{scope: Policy, workloads: 1, maxUnavailable: 1}]}`,
		wantErrors: []string{`unknown field "spec.budgets[0].maxUnavailable"`},
	}, {
		name:       "a budget of an endless text",
		mutate:     pods(intstr.FromString(strings.Repeat("9", 65))),
		wantErrors: []string{"spec.budgets[0].pods", "may not be more than 64 bytes"},
	}}
	for _, wrong := range []intstr.IntOrString{
		intstr.FromString("101%"), intstr.FromString("-5%"), intstr.FromString("5 %"), intstr.FromString("2.5%"),
		intstr.FromString("05%"), intstr.FromString("5"), intstr.FromString("%"), intstr.FromString("abc"),
		intstr.FromString(""), intstr.FromString("5 workloads"), intstr.FromInt32(-1), intstr.FromInt32(100001),
	} {
		refusals = append(refusals, refusal{
			name:       fmt.Sprintf("a budget of %q workloads", wrong.String()),
			mutate:     workloads(wrong),
			wantErrors: []string{"spec.budgets[0].workloads", "workloads " + budgetCure},
		}, refusal{
			name:       fmt.Sprintf("a budget of %q Pods", wrong.String()),
			mutate:     pods(wrong),
			wantErrors: []string{"spec.budgets[0].pods", "pods " + budgetCure},
		})
	}
	return refusals
}

// notActedOn are fields that this version has no code for. Accepting them would promise something.
func notActedOn() []refusal {
	return []refusal{{
		name:       "soakSeconds below zero",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.SoakSeconds = new(int32(-1)) },
		wantErrors: []string{"spec.soakSeconds", "greater than or equal to 0"},
	}, {
		name:       "soakSeconds of more than a day",
		mutate:     func(p *v1alpha1.MeshPolicy) { p.Spec.SoakSeconds = new(int32(86401)) },
		wantErrors: []string{"spec.soakSeconds", "less than or equal to 86400"},
	}, {
		name:       "a schedule of four fields",
		mutate:     window("0 22 * *  ", ""),
		wantErrors: []string{"spec.windows[0].schedule", "must be cron's five fields: minute, hour"},
	}, {
		name:       "a schedule of six fields",
		mutate:     window("0 0 22 * * *", ""),
		wantErrors: []string{"spec.windows[0].schedule", "must be cron's five fields: minute, hour"},
	}, {
		name:       "a schedule by name",
		mutate:     window("@midnight", ""),
		wantErrors: []string{"spec.windows[0].schedule", "must be cron's five fields: minute, hour"},
	}, {
		name:       "a schedule with a time zone",
		mutate:     window("TZ=Europe/Berlin 22 * * *", ""),
		wantErrors: []string{"spec.windows[0].schedule", "must be cron's five fields: minute, hour"},
	}, {
		name:       "the zone of the machine",
		mutate:     window("0 22 * * *", "Local"),
		wantErrors: []string{"spec.windows[0].timeZone", "must be the name of a zone in the IANA database"},
	}, {
		name:       "a zone that is a path",
		mutate:     window("0 22 * * *", "../../etc/passwd"),
		wantErrors: []string{"spec.windows[0].timeZone", "must be the name of a zone in the IANA database"},
	}, {
		name:       "a zone that is an offset",
		mutate:     window("0 22 * * *", "+01:00"),
		wantErrors: []string{"spec.windows[0].timeZone", "must be the name of a zone in the IANA database"},
	}, {
		name: "a window with nothing right",
		spec: `{windows: [{action: Open, schedule: "@daily", durationMinutes: 0, timeZone: ""}]}`,
		wantErrors: []string{
			`spec.windows[0].action: Unsupported value: "Open": supported values: "Allow", "Deny"`,
			"spec.windows[0].schedule in body should be at least 9 chars long",
			"spec.windows[0].durationMinutes in body should be greater than or equal to 1",
			"spec.windows[0].timeZone in body should be at least 1 chars long",
		},
	}, {
		name: "a window with too much of everything",
		mutate: func(p *v1alpha1.MeshPolicy) {
			p.Spec.Windows = []v1alpha1.Window{{
				Action: "Deny", Schedule: strings.Repeat("*", 257), DurationMinutes: 10081, TimeZone: strings.Repeat("x", 65),
			}}
		},
		wantErrors: []string{
			"spec.windows[0].schedule: Too long: may not be more than 256 bytes",
			"spec.windows[0].durationMinutes in body should be less than or equal to 10080",
			"spec.windows[0].timeZone: Too long: may not be more than 64 bytes",
		},
	}, {
		name: "a window without anything",
		spec: `{windows: [{}]}`,
		wantErrors: []string{
			"spec.windows[0].action: Required value",
			"spec.windows[0].schedule: Required value",
			"spec.windows[0].durationMinutes: Required value",
		},
	}, {
		name: "33 windows",
		mutate: func(p *v1alpha1.MeshPolicy) {
			p.Spec.Windows = repeat(33, v1alpha1.Window{Action: "Allow", Schedule: "0 22 * * *", DurationMinutes: 360})
		},
		wantErrors: []string{"spec.windows", "must have at most 32 items"},
	}}
}

func wrongShapes() []refusal {
	return []refusal{{
		name:       "no spec",
		spec:       `null`,
		wantErrors: []string{"spec", "Required value"},
	}, {
		name:       "a spec that is text",
		spec:       `Enforce`,
		wantErrors: []string{"spec", "must be of type object"},
	}, {
		name:       "a field that there is not",
		spec:       `{mode: Report, dryRun: true}`,
		wantErrors: []string{`unknown field "spec.dryRun"`},
	}, {
		name:       "a failure that is a number",
		spec:       `{failure: 3}`,
		wantErrors: []string{"spec.failure", "must be of type object"},
	}, {
		name:       "a field of failure that there is not",
		spec:       `{failure: {progressDeadlineSeconds: 600}}`,
		wantErrors: []string{`unknown field "spec.failure.progressDeadlineSeconds"`},
	}}
}

// window is the only one that a policy has.
func window(schedule, zone string) func(*v1alpha1.MeshPolicy) {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.Windows = []v1alpha1.Window{{Action: "Allow", Schedule: schedule, DurationMinutes: 360, TimeZone: zone}}
	}
}

func testAcceptedPolicies(t *testing.T, c client.Client) {
	for _, test := range []struct{ name, spec string }{
		{"nothing said", `{}`},
		{"Report over all namespaces", `{mode: Report}`},
		{"the defaults, written out", `
mode: Report
priority: 0
remediate: [Missing]
accept: []
settleSeconds: 30
budgets:
- {scope: Policy, workloads: 5, pods: 100}
- {scope: Namespace, workloads: 5%}
soakSeconds: 0
windows: []
failure: {progressTimeoutSeconds: 600}`},
		{"windows and a soak", `
soakSeconds: 86400
windows:
- {action: Allow, schedule: "0 22 * * 1-5", durationMinutes: 360, timeZone: America/Argentina/Buenos_Aires}
- {action: Allow, schedule: "*/15 0-4,22 1 JAN ?", durationMinutes: 1, timeZone: Etc/GMT+12}
- {action: Deny, schedule: "0  0  24  12  *", durationMinutes: 10080}`},
		{"Enforce in every namespace", `{mode: Enforce, namespaceSelector: {}}`},
		{"Enforce in some namespaces", `{mode: Enforce, namespaceSelector: {matchLabels: {team: shop}}}`},
		{"every operator", `
namespaceSelector:
  matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: [shop, cart]}
  - {key: example.com/team, operator: NotIn, values: [""]}
  - {key: istio.io/rev, operator: Exists}
  - {key: legacy, operator: DoesNotExist, values: []}`},
		{"some workloads", `{workloadSelector: {matchLabels: {app.kubernetes.io/part-of: shop}}}`},
		{"a label with an empty value", `{namespaceSelector: {matchLabels: {team: ""}}}`},
		{"the lowest bounds", `
priority: -1000000
settleSeconds: 2
failure: {progressTimeoutSeconds: 10}`},
		{"the highest bounds", `
priority: 1000000
settleSeconds: 86400
budgets: [{scope: Policy, workloads: 100000, pods: 100000}]
failure: {progressTimeoutSeconds: 86400}`},
		{"a budget that allows nothing", `{budgets: [{scope: Policy, workloads: 0}, {scope: Namespace, pods: 0%}]}`},
		{"a budget that allows everything", `{budgets: [{scope: Policy, workloads: 100%, pods: 100%}]}`},
		{"eight budgets, some of the same scope", `
budgets:
- {scope: Policy, workloads: 1}
- {scope: Policy, workloads: 10%}
- {scope: Policy, pods: 10}
- {scope: Policy, pods: 99%}
- {scope: Namespace, workloads: 1}
- {scope: Namespace, workloads: 10%}
- {scope: Namespace, pods: 10}
- {scope: Namespace, pods: 9%}`},
		{"an accepted risk", `{mode: Enforce, namespaceSelector: {}, accept: [Downtime]}`},
		{"an empty failure", `{failure: {}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := c.Create(t.Context(), policy(t, test.spec)); err != nil {
				t.Error(err)
			}
		})
	}
}

// testSelectors holds the rules against Kubernetes' own code: what can be evaluated is accepted,
// and what cannot is refused when it is written, not when it is used.
func testSelectors(t *testing.T, c client.Client) {
	long := func(n int) string { return strings.Repeat("x", n) }
	dns := strings.Repeat(long(61)+".", 4) // 248 characters
	for _, key := range []string{
		"a", "A", "1", "a-b_c.d", "a.", ".a", "_a", "-a", "a-", "ä", "a b", "", " ",
		long(63), long(64), "example.com/a", "Example.com/a", "example.com/", "/a", "a/b/c",
		"example..com/a", "-example.com/a", "example-.com/a", "example.com./a", "a_b.com/a", "1.2/3",
		dns + long(5) + "/a", dns + long(6) + "/a", dns + long(5) + "/" + long(63), dns + long(6) + "/" + long(62),
		long(70) + ".com/a", "a\n", "a/b\n",
	} {
		selector := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: key, Operator: metav1.LabelSelectorOpExists},
		}}
		compareWithKubernetes(t, c, fmt.Sprintf("the key %q of an expression", key), selector)
		selector = metav1.LabelSelector{MatchLabels: map[string]string{key: "x"}}
		compareWithKubernetes(t, c, fmt.Sprintf("the key %q of a label", key), selector)
	}
	for _, value := range []string{
		"", "a", "A.b-c_d", "a.", ".a", "-", "a b", "ä", "a/b", "*", "a\n", long(63), long(64),
	} {
		selector := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "a", Operator: metav1.LabelSelectorOpIn, Values: []string{value}},
		}}
		compareWithKubernetes(t, c, fmt.Sprintf("the value %q of an expression", value), selector)
		selector = metav1.LabelSelector{MatchLabels: map[string]string{"a": value}}
		compareWithKubernetes(t, c, fmt.Sprintf("the value %q of a label", value), selector)
	}
}

func compareWithKubernetes(t *testing.T, c client.Client, name string, selector metav1.LabelSelector) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		spec, err := yaml.Marshal(map[string]any{"namespaceSelector": selector})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Create(t.Context(), policy(t, string(spec)))
		_, invalid := metav1.LabelSelectorAsSelector(&selector)
		switch {
		case invalid == nil && err != nil:
			t.Errorf("Kubernetes can evaluate what was refused: %v", err)
		case invalid != nil:
			checkRefused(t, err, "spec.namespaceSelector")
		}
	})
}

func testSamples(t *testing.T, c client.Client, root string) {
	files, err := filepath.Glob(filepath.Join(root, "config", "samples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("Found %d samples (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(content, &object.Object); err != nil {
				t.Fatal(err)
			}
			if err := c.Create(t.Context(), object); err != nil {
				t.Error(err)
			}
		})
	}
}

func repeat[T any](n int, value T) []T {
	return slices.Repeat([]T{value}, n)
}
