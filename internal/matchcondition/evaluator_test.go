package matchcondition_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/internal/matchcondition"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

func conditions(expressions ...string) []admissionregistrationv1.MatchCondition {
	var made []admissionregistrationv1.MatchCondition
	for i, expression := range expressions {
		made = append(made, admissionregistrationv1.MatchCondition{Name: string(rune('a' + i)), Expression: expression})
	}
	return made
}

func request(expressions ...string) mesh.MatchRequest {
	return mesh.MatchRequest{
		Conditions: conditions(expressions...),
		Namespace:  mesh.Namespace{Name: "shop"},
		Template: mesh.Template{
			Kind:        "Deployment",
			Labels:      map[string]string{"app": "cart"},
			Annotations: map[string]string{"example.com/mesh": "yes"},
			Spec: &corev1.PodSpec{
				Containers:         []corev1.Container{{Name: "app", Image: "cart:1"}},
				ServiceAccountName: "cart",
			},
		},
	}
}

func TestConditionsAreEvaluatedAsTheAPIServerDoes(t *testing.T) {
	tests := []struct {
		name        string
		expressions []string
		want        mesh.Match
		wantErr     string
	}{
		{name: "true", expressions: []string{`object.metadata.labels["app"] == "cart"`}, want: mesh.Match{Met: true}},
		{name: "false", expressions: []string{`true`, `object.metadata.labels.app != "cart"`}, want: mesh.Match{Failed: "b"}},
		{name: "false beside an error", expressions: []string{`object.metadata.labels.none == "x"`, `false`}, want: mesh.Match{Failed: "b"}},
		{name: "an error", expressions: []string{`true`, `object.metadata.labels.none == "x"`}, wantErr: "no such key: none"},
		{name: "no expression", expressions: []string{`object.`}, wantErr: "compilation error"},
		{name: "no answer of yes or no", expressions: []string{`"yes"`}, wantErr: "must evaluate to bool"},
		{name: "too dear", expressions: []string{`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))`}, wantErr: "cost"},
		{name: "the request", expressions: []string{
			`request.operation == "CREATE" && request.kind.kind == "Pod" && request.resource.resource == "pods" && request.namespace == "shop" && !request.dryRun`,
		}, want: mesh.Match{Met: true}},
		{name: "the Pod", expressions: []string{
			`object.kind == "Pod" && object.metadata.namespace == "shop" && object.metadata.annotations["example.com/mesh"] == "yes"`,
			`object.spec.containers.all(c, c.image.startsWith("cart:"))`,
			`object.spec.serviceAccountName == "cart" && !has(object.spec.nodeName) && object.spec.tolerations.size() == 2`,
			`oldObject == null`,
		}, want: mesh.Match{Met: true}},
		{name: "the Pod's owner", expressions: []string{`object.metadata.ownerReferences.exists(o, o.kind == "ReplicaSet")`}, want: mesh.Match{Met: true}},
		{name: "a label that the controller adds", expressions: []string{`"pod-template-hash" in object.metadata.labels && has(object.metadata.labels.app)`}, want: mesh.Match{Met: true}},
		{name: "libraries of Kubernetes", expressions: []string{`quantity("1Gi").isGreaterThan(quantity("1Mi")) && object.metadata.labels.app.find("[a-z]+") == "cart"`}, want: mesh.Match{Met: true}},
	}
	evaluator := matchcondition.New()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // compiled, and again as it was kept
				got, err := evaluator.Match(request(test.expressions...))
				if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
					t.Fatalf("error %v, want %q", err, test.wantErr)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("Match (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestWhatIsNotKnownIsAssumed(t *testing.T) {
	injected := func(request mesh.MatchRequest) mesh.MatchRequest {
		request.Injected = true
		return request
	}
	withoutSpec := func(request mesh.MatchRequest) mesh.MatchRequest {
		request.Template.Spec = nil
		return request
	}
	of := func(kind string, request mesh.MatchRequest) mesh.MatchRequest {
		request.Template.Kind = kind
		return request
	}
	tests := []struct {
		name    string
		request mesh.MatchRequest
		assumed string
	}{
		{"the user", request(`request.userInfo.username != "system:admin"`), "request.userInfo.username"},
		{"what the user may do", request(`authorizer.group("").resource("pods").check("get").allowed()`), "what the request's user may do"},
		{"the user, deep inside", request(`["a"].exists(g, g in request.userInfo.groups)`), "request.userInfo.groups"},
		{"the user, by index", request(`request["userInfo"].username == "a"`), "request.userInfo.username"},
		{"the Pod's name", request(`object.metadata.name.startsWith("cart-")`), "object.metadata.name"},
		{"the metadata as a whole", request(`object.metadata == object.metadata`), "object.metadata"},
		{"the owner's name", request(`object.metadata.ownerReferences.exists(o, o.name == "cart")`), "name of the Pod's owner"},
		{"the value of a label that the controller adds", request(`object.metadata.labels["pod-template-hash"] == "abc"`), "pod-template-hash"},
		{"what LimitRanges add", request(`object.spec.containers.all(c, has(c.resources.limits))`), "resources"},
		{"the default priority", request(`!has(object.spec.priorityClassName)`), "priorityClassName"},
		{"a DaemonSet's tolerations", of("DaemonSet", request(`object.spec.tolerations.size() == 2`)), "tolerations"},
		{"the owner of what nobody knows", of("", request(`has(object.metadata.ownerReferences)`)), "ownerReferences"},
		{"the spec where it was not kept", withoutSpec(request(`object.spec.containers.size() == 1`)), "object.spec.containers"},
		{"the Pod after another webhook", injected(request(`object.spec.containers.size() == 1`)), "earlier webhook"},
	}
	evaluator := matchcondition.New()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := evaluator.Match(test.request)
			if err != nil || !got.Met || !strings.Contains(got.Assumed, test.assumed) || got.Assumed == "" {
				t.Errorf("got %+v and %v, want what assumes %q", got, err, test.assumed)
			}
			// What is known to be false settles it all the same.
			test.request.Conditions = append(test.request.Conditions, admissionregistrationv1.MatchCondition{Name: "no", Expression: "false"})
			got, err = evaluator.Match(test.request)
			if diff := cmp.Diff(mesh.Match{Failed: "no"}, got); err != nil || diff != "" {
				t.Errorf("beside a condition that is false: %v (-want +got)\n%s", err, diff)
			}
		})
	}
}

func TestTheTemplateIsLeftAsItIs(t *testing.T) {
	asked := request(`true`)
	before := asked.Template.Spec.DeepCopy()
	if _, err := matchcondition.New().Match(asked); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, asked.Template.Spec); diff != "" {
		t.Errorf("the spec has changed (-before +after):\n%s", diff)
	}
	if len(asked.Template.Labels) != 1 {
		t.Errorf("the labels have changed: %v", asked.Template.Labels)
	}
}

func BenchmarkMatch(b *testing.B) {
	evaluator := matchcondition.New()
	asked := request(`object.metadata.labels["app"] == "cart"`, `request.namespace != "kube-system"`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := evaluator.Match(asked); err != nil {
			b.Fatal(err)
		}
	}
}
