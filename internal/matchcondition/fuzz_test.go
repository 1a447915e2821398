package matchcondition_test

import (
	"testing"

	"github.com/fullmesh/fullmesh/internal/matchcondition"
)

// Expressions come from the cluster: none of them may do more than be met, not be met or fail, and
// it stays so.
func FuzzMatch(f *testing.F) {
	for _, expression := range []string{
		`true`, `false`, `"yes"`, `object`, `object.`, `object.metadata.labels["app"] == "cart"`, `has(object.metadata.labels)`,
		`object.metadata.?annotations["example.com/mesh"].orValue("no") == "yes"`, `object.spec.containers.all(c, c.image.startsWith("cart"))`,
		`request.userInfo.username == "a"`, `authorizer.group("").resource("pods").check("get").allowed()`, `request.namespace.matches("[")`,
		`object[?"metadata"].hasValue()`, `{"a": object.metadata.name}.a == ""`, `[1,2].map(x, x * 2).exists(y, y == 2)`, `cel.bind(x, object, x.kind == "Pod")`,
		`object.metadata.ownerReferences[0].name == ""`, `quantity("1Gi").isGreaterThan(quantity("1Mi"))`, `1/0 == 1`, `dyn(object.metadata.labels.app) == 1`,
		`[[[[]]]].size() == 1`, `object.metadata.labels == object.metadata.annotations`, `"\u0000" == ""`,
	} {
		f.Add(expression, "app", "cart")
	}
	evaluator := matchcondition.New()
	f.Fuzz(func(t *testing.T, expression, key, value string) {
		asked := request(expression)
		asked.Template.Labels = map[string]string{key: value}
		got, err := evaluator.Match(asked)
		if got.Met && (err != nil || got.Failed != "") || !got.Met && err == nil && got.Failed != "a" {
			t.Errorf("contradictory: %+v and %v", got, err)
		}
		again, errAgain := evaluator.Match(asked)
		if again != got || (errAgain == nil) != (err == nil) {
			t.Errorf("%+v and %v, then %+v and %v", got, err, again, errAgain)
		}
		asked.Conditions = append(asked.Conditions, conditions("true", "false")...)
		if settled, err := evaluator.Match(asked); err == nil && settled.Met {
			t.Errorf("met beside a condition that is false: %+v", settled)
		}
	})
}
