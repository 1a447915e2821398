// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

const (
	operatorNamespace = "fullmesh-system"
	injectorNamespace = "istio-system"
	// shop is the namespace that is attacked, and has one of each.
	shop = "shop"

	account = "system:serviceaccount:fullmesh-system:fullmesh"
)

// The admission policies of config/guard.
const (
	restartOnly    = "fullmesh-restart-only"
	noSubresources = "fullmesh-no-subresources"
	podsDryRunOnly = "fullmesh-pods-dry-run-only"
	evictOnly      = "fullmesh-evict-only"
	ledgerOnly     = "fullmesh-ledger"
)

// restartedBy is the annotation on a template that restarts a workload and names the MeshRestart.
const restartedBy = "fullmesh.dev/restarted-by"

// caller sends requests as somebody.
type caller struct {
	client.Client
	kube   kubernetes.Interface
	config *rest.Config
	// dryRun is for requests that the Client does not make; the Client knows by itself.
	dryRun []string
}

// world is a cluster in which Fullmesh is installed, with something to attack.
type world struct {
	// admin may everything.
	admin caller
	// rehearsal is the administrator, with dryRun.
	rehearsal caller
	// operator has a token of the operator's account.
	operator caller
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := cluster.ForTest(t, cluster.Options{APIServerOnly: true})
	w := install(t, c)
	for _, namespace := range []string{injectorNamespace, shop} {
		// In a whole cluster, a controller makes it.
		w.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}})
	}
	for _, object := range things() {
		w.create(t, object)
	}
	w.createRollout(t, c)
	w.awaitGuard(t)
	w.record(t, meshRestart(shop, "deployment-web-1"))
	return w
}

// record creates a MeshRestart, which only the operator may.
func (w *world) record(t *testing.T, restart *v1alpha1.MeshRestart) {
	t.Helper()
	if err := w.operator.Create(t.Context(), restart); err != nil {
		t.Fatalf("Creating MeshRestart %s: %v", client.ObjectKeyFromObject(restart), err)
	}
}

// install installs Fullmesh in a cluster, and makes the namespaces.
func install(t *testing.T, c *cluster.Cluster) *world {
	t.Helper()
	w := &world{admin: newCaller(t, c.Config())}
	for _, namespace := range []string{injectorNamespace, shop} {
		w.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	}
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := manifests.Apply(t.Context(), w.admin, root, "config/crd", "config/rbac", "config/guard"); err != nil {
		t.Fatal(err)
	}
	w.rehearsal = rehearsing(w.admin)
	w.operator = accountCaller(t, c, operatorNamespace, "fullmesh")
	return w
}

// rehearsing sends the same requests with dryRun.
func rehearsing(c caller) caller {
	c.Client = client.NewDryRunClient(c.Client)
	c.dryRun = []string{metav1.DryRunAll}
	return c
}

// accountCaller has a token of a ServiceAccount.
func accountCaller(t *testing.T, c *cluster.Cluster, namespace, name string) caller {
	t.Helper()
	kubeconfig, err := c.ServiceAccountKubeconfig(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return newCaller(t, config)
}

func newCaller(t *testing.T, config *rest.Config) caller {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return caller{Client: c, kube: kube, config: config}
}

func (w *world) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := w.admin.Create(t.Context(), object, client.FieldOwner("owner")); err != nil {
		t.Fatalf("Creating %T %s: %v", object, client.ObjectKeyFromObject(object), err)
	}
}

// The workloads that are attacked. Each has what an attack would change or take away.

func deployment() *appsv1.Deployment {
	template := template("web", map[string]string{"prometheus.io/scrape": "true"})
	template.Finalizers = []string{"example.com/hold"}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: workloadMeta("web"),
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: template,
		},
	}
}

// statefulSet has a template without annotations.
func statefulSet() *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: workloadMeta("db"),
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(3)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: template("db", nil),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
					},
				},
			}},
		},
	}
}

// daemonSet has neither annotations of its own nor on its template.
func daemonSet() *appsv1.DaemonSet {
	meta := workloadMeta("agent")
	meta.Annotations = nil
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: meta,
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}},
			Template: template("agent", nil),
		},
	}
}

// replicaSet is one without owner.
func replicaSet() *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "old", Annotations: map[string]string{"owner": "shop"}},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "old"}},
			Template: template("old", nil),
		},
	}
}

func workloadMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:   shop,
		Name:        name,
		Labels:      map[string]string{"team": "shop"},
		Annotations: map[string]string{"owner": "shop", v1alpha1.RestartAnnotation: v1alpha1.RestartDisabled},
		Finalizers:  []string{"example.com/hold"},
		OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "example.com/v1", Kind: "App", Name: "shop", UID: "0b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d"},
		},
	}
}

func template(app string, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1"}}},
	}
}

func pod(name string) *corev1.Pod {
	template := template(name, nil)
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: name, Labels: template.Labels},
		Spec:       template.Spec,
	}
}

func meshPolicy() *v1alpha1.MeshPolicy {
	return &v1alpha1.MeshPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "policy"},
		Spec:       v1alpha1.MeshPolicySpec{Mode: v1alpha1.ModeReport},
	}
}

func webhookConfiguration() *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-sidecar-injector"}}
}

// things are one of each kind that the operator reads or an attack aims at.
func things() []client.Object {
	inShop := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: shop, Name: name} }
	return []client.Object{
		deployment(), statefulSet(), daemonSet(), pod("web-0"), meshPolicy(), webhookConfiguration(),
		&corev1.Secret{ObjectMeta: inShop("password")},
		&corev1.ConfigMap{ObjectMeta: inShop("settings")},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: injectorNamespace, Name: "istio-sidecar-injector"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.StopConfigMap}},
		replicaSet(),
		&policyv1.PodDisruptionBudget{ObjectMeta: inShop("web"), Spec: policyv1.PodDisruptionBudgetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}},
	}
}

// createRollout installs Argo's definitions with one Rollout, and applies that one server-side, as
// GitOps tools do.
func (w *world) createRollout(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if err := c.DefineRollouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.create(t, builder.Definition("security.istio.io", "v1beta1", "PeerAuthentication", "peerauthentications"))
	var last error
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true,
		func(ctx context.Context) (bool, error) {
			last = w.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(rollout()), client.FieldOwner("gitops"))
			return last == nil, nil
		}); err != nil {
		t.Fatalf("Applying the Rollout: %v", errors.Join(err, last))
	}
}

// rollout has a template without metadata.
func rollout() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("argoproj.io/v1alpha1")
	object.SetKind("Rollout")
	object.SetNamespace(shop)
	object.SetName("canary")
	object.Object["spec"] = map[string]any{
		"replicas": int64(3),
		"selector": map[string]any{"matchLabels": map[string]any{"app": "canary"}},
		"template": map[string]any{
			"spec": map[string]any{"containers": []any{map[string]any{"name": "app", "image": "example.com/app:1"}}},
		},
	}
	return object
}

// grantEverything makes the operator's account an administrator, and takes it back when the test
// is over.
func (w *world) grantEverything(t *testing.T) {
	t.Helper()
	w.create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "too-much"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: operatorNamespace, Name: "fullmesh"}},
	})
	await(t, "the account is an administrator", func(ctx context.Context) error {
		_, err := w.operator.kube.CoreV1().Secrets(shop).List(ctx, metav1.ListOptions{})
		return err
	})
}

// awaitGuard waits until the API server has compiled the policies.
func (w *world) awaitGuard(t *testing.T) {
	t.Helper()
	dryRun := client.NewDryRunClient(w.operator.Client)
	await(t, "policy "+restartOnly+" is in force", func(ctx context.Context) error {
		return refusedByPolicy(jsonPatch(ctx, dryRun, deployment(), `[{"op":"add","path":"/spec/paused","value":true}]`), restartOnly, "")
	})
	await(t, "policy "+evictOnly+" is in force", func(ctx context.Context) error {
		return refusedByPolicy(evict(ctx, caller{Client: dryRun}, nil), evictOnly, "")
	})
	w.awaitLedgerGuard(t)
	await(t, "policy "+podsDryRunOnly+" is in force", func(ctx context.Context) error {
		// Were it created, it would be deleted by nobody; so it has a name of its own.
		probe := pod("")
		probe.GenerateName = "probe-"
		return refusedByPolicy(w.operator.Create(ctx, probe), podsDryRunOnly, "")
	})
}

// awaitLedgerGuard is awaitGuard for the policy on the ledger, by the request with which the operator tries it.
func (w *world) awaitLedgerGuard(t *testing.T) {
	t.Helper()
	await(t, "policy "+ledgerOnly+" is in force", func(ctx context.Context) error {
		return refusedByPolicy(rehearsing(w.operator).Create(ctx, meshRestart(operatorNamespace, "guard-probe")), ledgerOnly, probeMessage)
	})
}

// awaitLimit is more than the garbage collector takes to learn of a new kind, which it asks for every 30 s.
const awaitLimit = 2 * time.Minute

func await(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	if err := cluster.Eventually(t.Context(), 100*time.Millisecond, awaitLimit, condition); err != nil {
		t.Fatalf("Waiting until %s: %v", what, err)
	}
}

func jsonPatch(ctx context.Context, c client.Client, object client.Object, patch string, options ...client.PatchOption) error {
	options = append(options, client.FieldOwner("fullmesh"))
	return c.Patch(ctx, object, client.RawPatch(types.JSONPatchType, []byte(patch)), options...)
}

// refusal says whether an error is the refusal that an attack must meet; nil if so.
type refusal func(error) error

// byPolicy is a refusal by an admission policy of ours, with a message.
func byPolicy(policy, message string) refusal {
	return func(err error) error { return refusedByPolicy(err, policy, message) }
}

func refusedByPolicy(err error, policy, message string) error {
	return refused(err, apierrors.IsForbidden,
		fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", policy, policy, message))
}

// byRBAC is a refusal because no role gives the operator a verb on a resource.
func byRBAC(verb, resource string) refusal { return byRBACOf(account, verb, resource) }

// byRBACOf is byRBAC for another user.
func byRBACOf(user, verb, resource string) refusal {
	return func(err error) error {
		return refused(err, apierrors.IsForbidden,
			fmt.Sprintf("User %q cannot %s resource %q", user, verb, resource))
	}
}

// byAPI is a refusal for everybody: such a field never changes.
func byAPI(message string) refusal {
	return func(err error) error { return refused(err, apierrors.IsInvalid, message) }
}

func refused(err error, status func(error) bool, want string) error {
	switch {
	case err == nil:
		return fmt.Errorf("it was not refused; want %q", want)
	case !status(err) || !strings.Contains(err.Error(), want):
		return fmt.Errorf("it was refused by something else; want %q: %w", want, err)
	}
	return nil
}
