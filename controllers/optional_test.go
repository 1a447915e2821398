package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// define installs the definition of Rollouts. Other tests find none, as it is taken away in the end.
func (w *world) define(t *testing.T) client.Object {
	t.Helper()
	definition := builder.Definition("argoproj.io", "v1alpha1", "Rollout", "rollouts")
	if err := w.admin.Create(t.Context(), definition); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.undefine(context.Background(), t, definition) })
	eventually(t, "Rollouts are served", func(ctx context.Context) error {
		return w.admin.List(ctx, optionalKinds[0].list())
	})
	return definition
}

func (w *world) undefine(ctx context.Context, t *testing.T, definition client.Object) {
	t.Helper()
	if err := client.IgnoreNotFound(w.admin.Delete(ctx, definition)); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		err := w.admin.Get(ctx, client.ObjectKeyFromObject(definition), definition)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	if err != nil {
		t.Fatalf("waiting until the definition is gone: %v", err)
	}
}

// sees waits until the inventory has a Rollout or has none, and everything has been read.
func sees(t *testing.T, observer *Observer, key mesh.Key, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("the picture has %s: %t", key, want), func(context.Context) error {
		snapshot := observer.Inventory.Snapshot()
		found := false
		for _, namespace := range snapshot.Namespaces {
			for _, workload := range namespace.Workloads {
				found = found || workload.Key == key && workload.Object != nil
			}
		}
		if found != want || len(snapshot.Unread) > 0 {
			return fmt.Errorf("it is seen: %t, unread are %v", found, snapshot.Unread)
		}
		return nil
	})
}

func rolloutKey(namespace, name string) mesh.Key {
	return mesh.Key{Group: inventory.ArgoGroup, Kind: inventory.ArgoRollout, Namespace: namespace, Name: name}
}

func TestOptionalKindComesAndGoes(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	observer, _ := w.watching(t)
	cart := rolloutKey(shop, "cart")
	sees(t, observer, cart, false)

	definition := w.define(t)
	w.create(t, builder.Rollout(shop, "cart").Build())
	sees(t, observer, cart, true)
	w.undefine(t.Context(), t, definition)
	sees(t, observer, cart, false)

	// Another definition of the same name.
	w.define(t)
	w.create(t, builder.Rollout(shop, "cart").Build())
	sees(t, observer, cart, true)
	if err := w.admin.Delete(t.Context(), builder.Rollout(shop, "cart").Build()); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, cart, false)
}

// PeerAuthentications are followed where Istio's definitions are installed, and read once where somebody
// only plans.
func TestPeerAuthenticationsAreFollowed(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	w.create(t, builder.Webhooks())
	watched, _ := w.watching(t)
	strict := func(snapshot *inventory.Snapshot) bool {
		return snapshot.Injector.Effective(snapshot.PeerAuthentications, mesh.DefaultRevision, shop, nil).Strict
	}
	becomes := func(want bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("mutual TLS is strict: %t", want), func(context.Context) error {
			if snapshot := watched.Inventory.Snapshot(); strict(snapshot) != want || len(snapshot.Unread) > 0 {
				return fmt.Errorf("it is strict: %t, unread are %v", strict(snapshot), snapshot.Unread)
			}
			return nil
		})
	}
	becomes(false)
	definition := builder.Definition("security.istio.io", "v1beta1", "PeerAuthentication", "peerauthentications")
	w.create(t, definition)
	t.Cleanup(func() { w.undefine(context.Background(), t, definition) })
	policy := builder.PeerAuthentication(shop, "default", "STRICT")
	eventually(t, "PeerAuthentications are served", func(ctx context.Context) error { return w.admin.Create(ctx, policy) })
	becomes(true)
	planned := NewObserver(mesh.Options{IstioNamespace: istioNamespace}, time.Now)
	if err := planned.ReadOnce(t.Context(), w.operator, istioNamespace); err != nil || !strict(planned.Inventory.Snapshot()) {
		t.Errorf("whoever plans sees that it is strict: %t, %v", strict(planned.Inventory.Snapshot()), err)
	}
	w.patch(t, policy, `{"spec":{"mtls":{"mode":"PERMISSIVE"}}}`)
	becomes(false)
	w.patch(t, policy, `{"spec":{"mtls":{"mode":"STRICT"}}}`)
	becomes(true)
	w.undefine(t.Context(), t, definition)
	becomes(false)
}

func TestOptionalKindIsReadBeforeAnythingIsDecided(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	w.define(t)
	w.create(t, builder.Rollout(shop, "cart").Build())
	observer, _ := w.watching(t) // returns when the inventory is complete
	snapshot := observer.Inventory.Snapshot()
	if len(snapshot.Unread) > 0 {
		t.Errorf("unread are %v", snapshot.Unread)
	}
	if workloadIn(t, observer.Inventory, rolloutKey(shop, "cart")).Object == nil {
		t.Error("the Rollout is not in the picture")
	}
}

// requests are the paths that a client asked for.
type requests struct {
	mu    sync.Mutex
	paths []string
}

func (r *requests) config(config *rest.Config) *rest.Config {
	watched := rest.CopyConfig(config)
	watched.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(request *http.Request) (*http.Response, error) {
			r.mu.Lock()
			r.paths = append(r.paths, request.URL.RequestURI())
			r.mu.Unlock()
			return next.RoundTrip(request)
		})
	})
	return watched
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func (r *requests) about(part string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var about []string
	for _, path := range r.paths {
		if strings.Contains(path, part) {
			about = append(about, path)
		}
	}
	return about
}

func TestAbsentKindCostsOneWatch(t *testing.T) {
	w := apiServer(t)
	var asked requests
	w.watchingAs(t, asked.config(w.config))
	if about := asked.about("argoproj.io/v1alpha1"); len(about) > 0 {
		t.Errorf("Rollouts are not served, and asked for: %v", about)
	}
	about := asked.about("customresourcedefinitions")
	if len(about) == 0 || len(about) > len(optionalKinds) {
		t.Errorf("%d requests for definitions: %v", len(about), about)
	}
	for _, path := range about {
		if !strings.Contains(path, "fieldSelector=metadata.name%3D") {
			t.Errorf("all definitions are asked for: %s", path)
		}
	}
}

// The rights are those of config/rbac, and where an older install lacks them the operator says so and
// restarts nothing.
func TestWhatMayNotBeReadIsNotTakenToBeAbsent(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	w.define(t)
	w.create(t, builder.Rollout(shop, "cart").Build())
	user := "reader-" + shop
	allow := func(name string, rules ...rbacv1.PolicyRule) {
		t.Helper()
		w.create(t, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules})
		w.create(t, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
		})
	}
	reading := []string{"list", "watch"}
	definition := func(name string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, ResourceNames: []string{name}, Verbs: reading}
	}
	allow(user,
		rbacv1.PolicyRule{APIGroups: []string{"", "apps", "batch", "policy", "admissionregistration.k8s.io", "fullmesh.dev"}, Resources: []string{"*"}, Verbs: reading},
		definition("peerauthentications.security.istio.io"))
	config := rest.CopyConfig(w.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	observer, _ := w.watchingAs(t, config)
	unread := func(what string) {
		t.Helper()
		eventually(t, "it is said that "+what+" may not be read", func(context.Context) error {
			if why := observer.Inventory.Snapshot().Unread["Rollout.argoproj.io"]; !strings.Contains(why, "reading "+what) || !strings.Contains(why, "forbidden") {
				return errors.New(why)
			}
			return nil
		})
	}
	unread("its CustomResourceDefinition")
	allow(user+"-definition", definition("rollouts.argoproj.io"))
	unread("its objects")
	allow(user+"-objects", rbacv1.PolicyRule{APIGroups: []string{"argoproj.io"}, Resources: []string{"rollouts"}, Verbs: reading})
	sees(t, observer, rolloutKey(shop, "cart"), true)
}

func TestDefinitionServesWhatItSays(t *testing.T) {
	established := []any{map[string]any{"type": "NamesAccepted", "status": "True"}, map[string]any{"type": "Established", "status": "True"}}
	versions := []any{map[string]any{"name": "v1alpha1", "served": true}, map[string]any{"name": "v1", "served": false}}
	for _, test := range []struct {
		name    string
		content map[string]any
		want    string
	}{
		{"established", map[string]any{"spec": map[string]any{"versions": versions}, "status": map[string]any{"conditions": established}}, "[v1alpha1]"},
		{"not yet established", map[string]any{"spec": map[string]any{"versions": versions}, "status": map[string]any{"conditions": established[:1]}}, "[]"},
		{"without status", map[string]any{"spec": map[string]any{"versions": versions}}, "[]"},
		{"what nobody has checked", map[string]any{"spec": map[string]any{"versions": []any{"v1", nil}}, "status": map[string]any{"conditions": append([]any{"?", nil}, established...)}}, "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			once, err := toDefinition(&unstructured.Unstructured{Object: test.content})
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(once.(*definition).served); got != test.want {
				t.Errorf("served are %s, want %s", got, test.want)
			}
			if again, err := toDefinition(once); err != nil || again != once {
				t.Errorf("it does not stay as it is: %v, %v", again, err)
			}
		})
	}
}
