package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/controllers"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

func TestWithoutKubeconfigTheErrorSaysWhatToSet(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none")
	t.Setenv("KUBECONFIG", nowhere)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, args := range [][]string{{"plan"}, {"explain", "deploy/web"}, {"status"}, {"stop"}} {
		got := run(t, args...)
		got.check(t, exitError, "set --kubeconfig or KUBECONFIG", nowhere)
	}
}

func TestWrongUseIsAnError(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"plan", "everything"}, "unknown command"},
		{[]string{"plan", "-o", "xml"}, "must be table, json or yaml"},
		{[]string{"status", "--until", "full-mesh"}, "--until goes with --watch"},
		{[]string{"status", "--watch", "--until", "friday"}, "must be full-mesh or settled"},
		{[]string{"status", "--watch", "-o", "json"}, "no other --output than table"},
		{[]string{"stop", "--clear", "--reason", "over"}, "none of the others can be"},
	} {
		run(t, test.args...).check(t, exitError, test.want)
	}
}

func TestPlanWithUnknownContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	kubeconfig := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: https://127.0.0.1:1}}]\ncontexts: [{name: here, context: {cluster: c}}]\ncurrent-context: here\n"
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "plan", "--kubeconfig", path, "--context", "there").check(t, exitError, `"there"`, "--context")
}

// TestCommands runs the commands against a real API server, from before Fullmesh is installed on.
func TestCommands(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{APIServerOnly: true})
	t.Setenv("KUBECONFIG", c.Kubeconfig())
	admin, err := newClient(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{cluster: c, admin: admin}
	w.fill(t)
	for _, step := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"plan without definitions", testPlanWithoutDefinitions},
		{"status without definitions", testStatusWithoutDefinitions},
		{"plan without policy", testPlanWithoutPolicy},
		{"plan in every format", testPlanInEveryFormat},
		{"plan of one namespace", testPlanOfOneNamespace},
		{"plan with policies", testPlanWithPolicies},
		{"plan knows of a missing guard", testPlanKnowsOfAMissingGuard},
		{"plan of a dump", testPlanOfADumpOfTheCluster},
		{"explain", testExplain},
		{"plan when there is nothing to do", testPlanWhenThereIsNothingToDo},
		{"plan writes nothing", testPlanWritesNothing},
		{"plan without rights", testPlanWithoutRights},
		{"stop", testStop},
		{"stop without rights", testStopWithoutRights},
		{"status", testStatus},
		{"status without rights", testStatusWithoutRights},
		{"status goes on", testStatusGoesOn},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, w) }) {
			return // each step stands on the ones before
		}
	}
}

// world is a cluster without controllers: what runs in it was written by hand.
type world struct {
	cluster *cluster.Cluster
	admin   client.Client
}

// fill makes two labelled namespaces: shop is partially injected, done is complete.
func (w *world) fill(t *testing.T) {
	t.Helper()
	for _, name := range []string{"istio-system", "shop", "done"} {
		namespace := builder.Namespace(name)
		if name != "istio-system" {
			namespace.Labelled("istio-injection", "enabled")
		}
		w.create(t, namespace.Build())
		// In a whole cluster, a controller makes it.
		w.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}})
	}
	w.runDeployment(t, "shop", "web", 1, 2)
	w.runDeployment(t, "shop", "cart", 2, 0)
	w.runDeployment(t, "shop", "legacy", 0, 1, "sidecar.istio.io/inject", "false")
	w.runPod(t, builder.Pod("shop", "debug"))
	w.runDeployment(t, "done", "api", 2, 0)
	w.create(t, builder.LettingPass(builder.Webhooks()))
	w.create(t, builder.InjectorSettings())
	// Pods and labels were made just now: let every policy's shortest settling pass.
	time.Sleep(2500 * time.Millisecond)
}

func (w *world) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := w.admin.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// runDeployment makes a Deployment, rolled out, with so many ready Pods in the mesh and outside.
func (w *world) runDeployment(t *testing.T, namespace, name string, meshed, bare int, labels ...string) {
	t.Helper()
	built := builder.Deployment(namespace, name).Replicas(int32(meshed + bare)).Labelled(labels...)
	deployment := built.Build()
	w.create(t, deployment)
	built.RolledOut()
	if err := w.admin.Status().Update(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	replicaSet := builder.ReplicaSet(namespace, name+"-1").OwnedBy(deployment).Build()
	w.create(t, replicaSet)
	for i := range meshed + bare {
		pod := builder.Pod(namespace, fmt.Sprintf("%s-%d", name, i)).OwnedBy(replicaSet).Labelled(labels...)
		if i < meshed {
			pod.Injected("default")
		}
		w.runPod(t, pod)
	}
}

func (w *world) runPod(t *testing.T, built *builder.PodBuilder) {
	t.Helper()
	pod := built.Build()
	w.create(t, pod)
	pod.Status.Phase = corev1.PodRunning
	built.Ready(time.Now())
	if err := w.admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// account makes a ServiceAccount with rights in the whole cluster and returns its kubeconfig and
// its name as the API server knows it.
func (w *world) account(t *testing.T, name string, rules ...rbacv1.PolicyRule) (kubeconfig, user string) {
	t.Helper()
	w.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
	meta := metav1.ObjectMeta{Name: name}
	w.create(t, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules})
	w.create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: name}},
	})
	kubeconfig, err := w.cluster.ServiceAccountKubeconfig(t.Context(), "default", name)
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig, "system:serviceaccount:default:" + name
}

// toList are the rights that plan says it needs.
func toList() []rbacv1.PolicyRule {
	list := []string{"list"}
	return []rbacv1.PolicyRule{
		{Verbs: list, APIGroups: []string{""}, Resources: []string{"namespaces", "nodes", "pods"}},
		{Verbs: list, APIGroups: []string{"apps"}, Resources: []string{"deployments", "statefulsets", "daemonsets", "replicasets"}},
		{Verbs: list, APIGroups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}},
		{Verbs: list, APIGroups: []string{"policy"}, Resources: []string{"poddisruptionbudgets"}},
		{Verbs: list, APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"mutatingwebhookconfigurations"}},
		{Verbs: list, APIGroups: []string{"fullmesh.dev"}, Resources: []string{"meshpolicies", "meshrestarts"}},
	}
}

func testPlanWithoutDefinitions(t *testing.T, _ *world) {
	got := run(t, "plan")
	got.check(t, exitSomethingToDo, "There is no MeshPolicy in this cluster",
		"shop: 3 of 6 Pods are in the mesh, 1 workload to restart, 1 held; not expected: 1 PodLabelOptOut", "done: 2 of 2 Pods are in the mesh")
	if strings.Contains(got.stdout, "kube-system") || strings.Contains(got.stdout, "istio-system") {
		t.Errorf("System namespaces are governed by the assumed policy:\n%s", got.stdout)
	}
}

func testStatusWithoutDefinitions(t *testing.T, _ *world) {
	run(t, "status").check(t, exitError, "there is no Fullmesh in this cluster")
}

func testPlanWithoutPolicy(t *testing.T, w *world) {
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := manifests.Apply(t.Context(), w.admin, root, "config/crd"); err != nil {
		t.Fatal(err)
	}
	got := run(t, "plan", "-o", "json").document(t, exitSomethingToDo)
	if !got.PolicyAssumed {
		t.Error("policyAssumed is false, want true")
	}
	// It is one that could be applied.
	policy := newAssumedPolicy()
	if err := client.NewDryRunClient(w.admin).Create(t.Context(), policy); err != nil {
		t.Errorf("The policy that is assumed would be refused: %v", err)
	}
}

func testPlanInEveryFormat(t *testing.T, _ *world) {
	got := run(t, "plan", "-o", "json").document(t, exitSomethingToDo)
	var shop *namespaceRow
	for i := range got.Namespaces {
		if got.Namespaces[i].Name == "shop" {
			shop = &got.Namespaces[i]
		}
	}
	if shop == nil {
		t.Fatal("The plan has no namespace shop")
	}
	if want := (pods{Eligible: 6, Meshed: 3, NotExpected: 1}); shop.Pods != want {
		t.Errorf("The Pods are %+v, want %+v", shop.Pods, want)
	}
	var rows []string
	for _, w := range shop.Workloads {
		rows = append(rows, fmt.Sprintf("%s/%s %s %d/%d %s inject=%t revision=%s %s %s", w.Group, w.Kind, w.Name, w.Meshed, w.Pods, w.Finding, w.Expected.Inject, w.Expected.Revision, w.Action, w.Reason))
	}
	want := []string{
		"apps/Deployment cart 2/2 Meshed inject=true revision=default None Expected",
		"apps/Deployment legacy 0/1 NotExpected inject=false revision= None PodLabelOptOut",
		"apps/Deployment web 1/3 Missing inject=true revision=default Restart RestartDue",
		"/Pod debug 0/1 Missing inject=true revision=default Hold NoController",
	}
	if !slices.Equal(rows, want) {
		t.Errorf("The workloads are\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	run(t, "plan", "-o", "yaml").check(t, exitSomethingToDo, "policyAssumed: true", "- name: shop\n")
}

func testPlanOfOneNamespace(t *testing.T, _ *world) {
	got := run(t, "plan", "-n", "shop", "-o", "json").document(t, exitSomethingToDo)
	if len(got.Namespaces) != 1 || got.Namespaces[0].Name != "shop" {
		t.Errorf("The namespaces are %+v, want shop alone", got.Namespaces)
	}
	run(t, "plan", "-n", "done").check(t, exitNothingToDo, "done: 2 of 2 Pods are in the mesh")
	run(t, "plan", "-n", "nowhere").check(t, exitError, "there is no namespace nowhere")
	run(t, "plan", "-n", "kube-system").check(t, exitNothingToDo, "No MeshPolicy governs the namespace kube-system", "fullmesh.dev/include=true")
}

func testPlanWithPolicies(t *testing.T, w *world) {
	policy := builder.Reporting("shops").Over("kubernetes.io/metadata.name", "shop").Build()
	w.create(t, policy)
	got := run(t, "plan", "-o", "json").document(t, exitSomethingToDo)
	if got.PolicyAssumed {
		t.Error("policyAssumed is true, want false")
	}
	if len(got.Namespaces) != 1 || got.Namespaces[0].Policy != "shops" {
		t.Fatalf("The namespaces are %+v, want shop alone, governed by shops", got.Namespaces)
	}
	reasonOf := func(document *planDocument) string {
		workloads := document.Namespaces[0].Workloads
		return workloads[slices.IndexFunc(workloads, func(row workloadRow) bool { return row.Name == "web" })].Reason
	}
	if reason := reasonOf(got); reason != "ReportMode" {
		t.Errorf("The reason under a policy in mode Report is %s, want ReportMode", reason)
	}
	run(t, "plan", "-n", "done").check(t, exitNothingToDo, "No MeshPolicy governs the namespace done")

	policy.Spec.Mode = v1alpha1.ModeEnforce
	policy.Spec.SettleSeconds = new(int32(2))
	if err := w.admin.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	if reason := reasonOf(run(t, "plan", "-o", "json").document(t, exitSomethingToDo)); reason != "RestartDue" {
		t.Errorf("The reason under a policy in mode Enforce is %s, want RestartDue", reason)
	}
}

func testPlanKnowsOfAMissingGuard(t *testing.T, w *world) {
	setGuard := func(status metav1.ConditionStatus, reason string) {
		var policy v1alpha1.MeshPolicy
		if err := w.admin.Get(t.Context(), client.ObjectKey{Name: "shops"}, &policy); err != nil {
			t.Fatal(err)
		}
		policy.Status.ObservedGeneration = new(policy.Generation)
		policy.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRestartsAllowed, Status: status, Reason: reason, LastTransitionTime: metav1.Now()}}
		if err := w.admin.Status().Update(t.Context(), &policy); err != nil {
			t.Fatal(err)
		}
	}
	setGuard(metav1.ConditionFalse, v1alpha1.ReasonGuardMissing)
	run(t, "plan").check(t, exitSomethingToDo, "GuardMissing", "Apply config/guard")
	setGuard(metav1.ConditionTrue, v1alpha1.ReasonEnforcing)
	run(t, "plan").check(t, exitSomethingToDo, "1 workload to restart")
}

// What kubectl get prints of a cluster says what the cluster says.
func testPlanOfADumpOfTheCluster(t *testing.T, w *world) {
	files := map[string]string{}
	for _, kind := range append(controllers.Kinds(), &v1alpha1.MeshPolicy{}) {
		gvk, err := w.admin.GroupVersionKindFor(kind)
		if err != nil {
			t.Fatal(err)
		}
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		err = w.admin.List(t.Context(), list)
		if meta.IsNoMatchError(err) {
			continue // an optional kind, of which this cluster has no definition
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := yaml.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		files[gvk.Kind+".yaml"] = string(data)
	}
	want := run(t, "plan", "-o", "json").document(t, exitSomethingToDo)
	got := run(t, "plan", "-o", "json", "-f", write(t, files)).document(t, exitSomethingToDo)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(planDocument{}, namespaceRow{})); diff != "" {
		t.Errorf("The dump says something else (-cluster +dump):\n%s", diff)
	}
}

func testExplain(t *testing.T, _ *world) {
	run(t, "explain", "deploy/web", "-n", "shop").check(t, exitSomethingToDo, "MeshPolicy shops governs it", "Restart (RestartDue)", "assumed: no dry run is made here")
	run(t, "explain", "pod/web-0", "-n", "shop").check(t, exitSomethingToDo, "Pod web-0 of Deployment/web in namespace shop", "a sidecar, revision default")
	run(t, "explain", "deploy/api").check(t, exitNothingToDo, "No MeshPolicy governs the namespace done")
	run(t, "explain", "deploy/webb", "-n", "shop").check(t, exitError, "there is no deployment/webb in namespace shop in this cluster; near it: deployment/web")
}

func testPlanWhenThereIsNothingToDo(t *testing.T, w *world) {
	w.create(t, builder.Enforcing("done").Over("kubernetes.io/metadata.name", "done").Build())
	run(t, "plan", "-n", "done").check(t, exitNothingToDo, "done: 2 of 2 Pods are in the mesh (MeshPolicy done)")
}

// Every request that plan makes is a list, and the discovery of which kinds there are.
func testPlanWritesNothing(t *testing.T, w *world) {
	kubeconfig, user := w.account(t, "planner", toList()...)
	got := run(t, "plan", "--kubeconfig", kubeconfig)
	got.check(t, exitSomethingToDo, "shop: 3 of 6 Pods are in the mesh", "Whether everything is stopped cannot be seen")
	events, err := w.cluster.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lists := 0
	for _, event := range events {
		switch {
		case event.User != user:
		case event.Resource == "" && event.Verb == "get":
		case event.Verb == "list" && !event.DryRun:
			lists++
		default:
			t.Errorf("plan made the request %s %s", event.Verb, event.URI)
		}
	}
	if lists < 10 {
		t.Errorf("The audit log has %d lists of the account, want at least one for each kind", lists)
	}
}

func testPlanWithoutRights(t *testing.T, w *world) {
	for i, resource := range []string{"pods", "statefulsets", "cronjobs", "poddisruptionbudgets", "mutatingwebhookconfigurations", "meshpolicies", "meshrestarts"} {
		rules := toList()
		for i := range rules {
			rules[i].Resources = slices.DeleteFunc(rules[i].Resources, func(r string) bool { return r == resource })
		}
		rules = slices.DeleteFunc(rules, func(rule rbacv1.PolicyRule) bool { return len(rule.Resources) == 0 })
		kubeconfig, _ := w.account(t, fmt.Sprintf("planner-%d", i), rules...)
		run(t, "plan", "--kubeconfig", kubeconfig).check(t, exitError, `cannot list resource "`+resource+`"`, "needs to list")
	}
}

func testStop(t *testing.T, w *world) {
	run(t, "stop").check(t, exitError, "there is no namespace fullmesh-system", "--namespace")
	run(t, "stop", "--clear").check(t, exitError, "there is no namespace fullmesh-system", "--namespace")
	w.create(t, builder.Namespace(defaultNamespace).Build())

	run(t, "stop", "--clear").check(t, exitNothingToDo, "Nothing was stopped")
	run(t, "stop", "--reason", "checkout is down").check(t, exitNothingToDo, "Stopped", "fullmesh stop --clear")
	var button corev1.ConfigMap
	key := client.ObjectKey{Namespace: defaultNamespace, Name: v1alpha1.StopConfigMap}
	if err := w.admin.Get(t.Context(), key, &button); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(button.Data[stoppedBy], "admin") || button.Data[stoppedReason] != "checkout is down" {
		t.Errorf("The ConfigMap says %v, want admin and the reason", button.Data)
	}
	if _, err := time.Parse(time.RFC3339, button.Data[stoppedAt]); err != nil {
		t.Errorf("The ConfigMap does not say when: %v", err)
	}
	run(t, "plan").check(t, exitSomethingToDo, "Stopped", "Run: fullmesh stop --clear")
	run(t, "stop", "--reason", "again").check(t, exitNothingToDo, "stopped already", "by admin", "checkout is down")

	run(t, "stop", "--clear").check(t, exitNothingToDo, "Cleared")
	run(t, "stop", "--clear").check(t, exitNothingToDo, "Nothing was stopped")
	if err := w.admin.Get(t.Context(), key, &button); !apierrors.IsNotFound(err) {
		t.Errorf("The ConfigMap is still there: %v", err)
	}
	run(t, "plan").check(t, exitSomethingToDo, "1 workload to restart")
	kubeconfig, _ := w.account(t, "nobody")
	run(t, "stop", "--kubeconfig", kubeconfig).check(t, exitError, `cannot create resource "configmaps"`)
}

func testStopWithoutRights(t *testing.T, w *world) {
	kubeconfig, user := w.account(t, "passer-by")
	for _, args := range [][]string{{"stop"}, {"stop", "--clear"}} {
		run(t, append(args, "--kubeconfig", kubeconfig)...).check(t, exitError, user, "stop needs to get, create and delete the ConfigMap fullmesh-stop in namespace fullmesh-system")
	}
}

// observe writes the status of every policy as the operator would at full mesh.
func (w *world) observe(t *testing.T) {
	t.Helper()
	var policies v1alpha1.MeshPolicyList
	if err := w.admin.List(t.Context(), &policies); err != nil {
		t.Fatal(err)
	}
	for i := range policies.Items {
		policy := &policies.Items[i]
		policy.Status.ObservedGeneration = new(policy.Generation)
		meta.SetStatusCondition(&policy.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionFullMesh, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllMeshed})
		if err := w.admin.Status().Update(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
}

// report writes a report as the operator would.
func (w *world) report(ctx context.Context, wanted v1alpha1.MeshReport) error {
	object := wanted.DeepCopy()
	err := w.admin.Create(ctx, object)
	if apierrors.IsAlreadyExists(err) {
		err = w.admin.Get(ctx, client.ObjectKeyFromObject(object), object)
	}
	if err != nil {
		return err
	}
	object.Status = wanted.Status
	return w.admin.Status().Update(ctx, object)
}

func testStatus(t *testing.T, w *world) {
	run(t, "status").check(t, exitSomethingToDo, "The operator has not looked at MeshPolicy done")
	run(t, "status", "-n", "nowhere").check(t, exitError, "there is no namespace nowhere")
	run(t, "status", "-n", "shop").check(t, exitSomethingToDo, "There is no MeshReport in the namespace shop")

	w.observe(t)
	for _, wanted := range []v1alpha1.MeshReport{report("shop", 6, 3, heldRow, inFlightRow), report("done", 2, 2)} {
		if err := w.report(t.Context(), wanted); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "status").check(t, exitSomethingToDo, "shops", "shop: 3 of 6 Pods are in the mesh, 1 workload being restarted, 1 held", "StatefulSet/db", "WouldCauseDowntime")
	run(t, "status", "-n", "done").check(t, exitNothingToDo, "done: 2 of 2 Pods are in the mesh")
	run(t, "status", "-o", "yaml", "-n", "shop").check(t, exitSomethingToDo, `fullMesh: "False"`)
}

// One who may read the reports of a namespace may see its status; the rest names what is missing.
func testStatusWithoutRights(t *testing.T, w *world) {
	kubeconfig, _ := w.account(t, "owner", rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{"fullmesh.dev"}, Resources: []string{"meshreports"}})
	run(t, "status", "-n", "done", "--kubeconfig", kubeconfig).check(t, exitNothingToDo, "done: 2 of 2 Pods are in the mesh")
	run(t, "status", "--kubeconfig", kubeconfig).check(t, exitError, `cannot list resource "meshpolicies"`, "fullmesh-view")
	run(t, "status", "-n", "shop", "--watch", "--kubeconfig", kubeconfig).check(t, exitError, `cannot watch resource "meshreports"`)
}

func testStatusGoesOn(t *testing.T, w *world) {
	errs := make(chan error, 1)
	var out lines
	out.onLine = func(line string) {
		// Each state is written when the one before has been shown.
		switch {
		case strings.HasPrefix(line, "shop: 3 of 6"):
			errs <- w.report(t.Context(), report("shop", 6, 5, inFlightRow))
		case strings.HasPrefix(line, "shop: 5 of 6"):
			errs <- w.report(t.Context(), report("shop", 6, 6))
		}
	}
	var stderr bytes.Buffer
	status := make(chan int, 1)
	go func() {
		status <- Run(t.Context(), "test", []string{"status", "--watch", "--until", "full-mesh"}, &out, &stderr)
	}()
	for range 2 {
		select {
		case err := <-errs:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("What changed was not shown:\n%s%s", out.String(), stderr.String())
		}
	}
	select {
	case got := <-status:
		if got != exitNothingToDo || !strings.Contains(out.String(), "shop: 6 of 6 Pods are in the mesh") {
			t.Errorf("The exit status is %d, want 0:\n%s%s", got, out.String(), stderr.String())
		}
	case <-time.After(time.Minute):
		t.Fatalf("It does not end:\n%s", out.String())
	}

	interrupted, interrupt := context.WithTimeout(t.Context(), time.Second)
	defer interrupt()
	if got := Run(interrupted, "test", []string{"status", "-w"}, &bytes.Buffer{}, &stderr); got != exitNothingToDo {
		t.Errorf("Interrupted at full mesh, the exit status is %d, want 0:\n%s", got, stderr.String())
	}
}

// lines collects output and calls a function for each line of it.
type lines struct {
	onLine func(string)

	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(data []byte) (int, error) {
	l.mu.Lock()
	l.text.Write(data)
	l.mu.Unlock()
	for line := range strings.Lines(string(data)) {
		l.onLine(line)
	}
	return len(data), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// result is what became of a command.
type result struct {
	args           []string
	status         int
	stdout, stderr string
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := Run(t.Context(), "test", args, &stdout, &stderr)
	return result{args, status, stdout.String(), stderr.String()}
}

// check demands an exit status and what is said, on stdout or stderr.
func (r result) check(t *testing.T, status int, says ...string) {
	t.Helper()
	said := r.stdout + r.stderr
	if r.status != status {
		t.Errorf("fullmesh %s: the exit status is %d, want %d\n%s", strings.Join(r.args, " "), r.status, status, said)
	}
	for _, want := range says {
		if !strings.Contains(said, want) {
			t.Errorf("fullmesh %s does not say %q:\n%s", strings.Join(r.args, " "), want, said)
		}
	}
}

// document reads what plan -o json printed, and demands that stdout holds nothing else.
func (r result) document(t *testing.T, status int) *planDocument {
	t.Helper()
	r.check(t, status)
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	decoder.DisallowUnknownFields()
	document := &planDocument{}
	if err := decoder.Decode(document); err != nil {
		t.Fatalf("Reading what fullmesh %s printed: %v\n%s", strings.Join(r.args, " "), err, r.stdout)
	}
	if decoder.More() {
		t.Errorf("There is more than one document:\n%s", r.stdout)
	}
	return document
}
