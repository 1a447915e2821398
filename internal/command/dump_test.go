package command

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// runWith runs a command line with something on standard input.
func runWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := runWithInput(t.Context(), "test", args, strings.NewReader(stdin), &stdout, &stderr)
	return result{args, status, stdout.String(), stderr.String()}
}

// write writes files into a directory and returns its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	directory := t.TempDir()
	for name, text := range files {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "dump", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPlanOfADump(t *testing.T) {
	got := run(t, "plan", "-f", "testdata/dump")
	got.check(t, exitSomethingToDo)
	checkGolden(t, "plan-dump.txt", []byte(got.stdout))
	if want := "Passed over, because it decides nothing: 1 Ingress.\n"; got.stderr != want {
		t.Errorf("on standard error:\n%s\nwant:\n%s", got.stderr, want)
	}
}

// However a dump was written down, it is the same dump.
func TestPlanOfADumpInEveryForm(t *testing.T) {
	cluster, istio := testdata(t, "cluster.yaml"), testdata(t, "istio.yaml")
	inJSON := func(documents string) string {
		var all []string
		for document := range strings.SplitSeq(documents, "\n---\n") {
			data, err := yaml.YAMLToJSON([]byte(document))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(data))
		}
		return strings.Join(all, "\n")
	}
	inUTF16 := func(order unicode.Endianness) string {
		encoded, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(cluster)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	want := run(t, "plan", "-f", "testdata/dump", "-o", "json").document(t, exitSomethingToDo)
	if len(want.Namespaces) != 3 {
		t.Fatalf("there are %d namespaces", len(want.Namespaces))
	}
	for name, test := range map[string]struct {
		files map[string]string
		stdin string
		args  []string
	}{
		"the files one by one":            {map[string]string{"c.yaml": cluster, "i.yaml": istio}, "", []string{"-f", "c.yaml", "-f", "i.yaml"}},
		"in the other order":              {map[string]string{"c.yaml": cluster, "i.yaml": istio}, "", []string{"-f", "i.yaml", "-f", "c.yaml"}},
		"twice":                           {map[string]string{"c.yaml": cluster, "i.yaml": istio}, "", []string{"-f", ".", "-f", "c.yaml"}},
		"on standard input":               {nil, cluster + "---\n" + istio, []string{"-f", "-"}},
		"in JSON":                         {map[string]string{"c.json": inJSON(cluster), "i.json": inJSON(istio)}, "", []string{"-f", "."}},
		"in JSON on standard input":       {nil, inJSON(cluster) + inJSON(istio), []string{"-f", "-"}},
		"in JSON that is called YAML":     {map[string]string{"c.yml": inJSON(cluster), "i.yaml": istio}, "", []string{"-f", "."}},
		"with lists of one kind":          {map[string]string{"c.yaml": cluster, "i.json": `{"kind":"MutatingWebhookConfigurationList","apiVersion":"admissionregistration.k8s.io/v1","items":[` + strings.ReplaceAll(inJSON(strings.Join(strings.SplitN(istio, "\n---\n", 3)[:2], "\n---\n")), "\n", ",") + `]}`, "m.yaml": strings.SplitN(istio, "\n---\n", 3)[2]}, "", []string{"-f", "."}},
		"in directories of directories":   {map[string]string{"a/b/c.yaml": cluster, "i/i.YAML": istio, "i/notes.txt": "not: [read"}, "", []string{"-f", "."}},
		"with a byte order mark":          {map[string]string{"c.yaml": "\uFEFF" + cluster, "i.yaml": istio}, "", []string{"-f", "."}},
		"in the encoding of PowerShell":   {map[string]string{"c.yaml": inUTF16(unicode.LittleEndian), "i.yaml": istio}, "", []string{"-f", "."}},
		"in the other order of bytes":     {map[string]string{"c.yaml": inUTF16(unicode.BigEndian), "i.yaml": istio}, "", []string{"-f", "."}},
		"with Windows' ends of lines":     {map[string]string{"c.yaml": strings.ReplaceAll(cluster, "\n", "\r\n"), "i.yaml": istio}, "", []string{"-f", "."}},
		"with empty documents in between": {map[string]string{"c.yaml": "---\n# a comment\n---\n" + cluster + "---\n", "i.yaml": "---\nnull\n---\n" + istio}, "", []string{"-f", "."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(write(t, test.files))
			got := runWith(t, test.stdin, append([]string{"plan", "-o", "json"}, test.args...)...)
			if diff := cmp.Diff(want, got.document(t, exitSomethingToDo), cmp.AllowUnexported(planDocument{}), cmp.AllowUnexported(namespaceRow{})); diff != "" {
				t.Errorf("the plan differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBrokenDumpsNameFileAndDocument(t *testing.T) {
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n"
	for name, test := range map[string]struct {
		file, text, want string
	}{
		"a tab":                              {"a.yaml", "a: 1\nb:\n\tc: 2\n", "a.yaml, document 1: error converting YAML to JSON: yaml: line 3: found character that cannot start any token"},
		"a key in the wrong place":           {"a.yaml", deployment + "spec:\n  replicas: 2\n template: {}\n", "a.yaml, document 1: error converting YAML to JSON: yaml: line 5: did not find expected key"},
		"in the second document":             {"a.yaml", deployment + "---\n" + "a: b: c\n", "a.yaml, document 2: error converting YAML to JSON: yaml: mapping values are not allowed"},
		"an unknown anchor":                  {"a.yaml", "a: *b\n", "a.yaml, document 1: error converting YAML to JSON: yaml: unknown anchor 'b' referenced"},
		"a word for a number":                {"a.yaml", "---\n" + deployment + "spec: {replicas: three}\n", "a.yaml, document 1: reading a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"},
		"a word for a number, in a list":     {"a.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- apiVersion: v1\n  kind: Pod\n  spec: 3\n", "a.yaml, document 1, item 2: reading a Pod: "},
		"a key that is a mapping":            {"a.yaml", "kind: Pod\n? {a: b}\n: c\n", "a.yaml, document 1: "},
		"no name":                            {"a.yaml", "apiVersion: apps/v1\nkind: Deployment\n", "a.yaml, document 1: the Deployment has no name"},
		"a UID twice":                        {"a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: \"1\"}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, uid: \"1\"}\n", "a.yaml, document 2: Pod default/b has the UID of Pod default/a at a.yaml, document 1"},
		"a bomb of aliases":                  {"a.yaml", bomb(), "excessive aliasing"},
		"JSON that ends too early":           {"a.json", "{\n\"kind\": \"Pod\",\n\"metadata\": {\n", "a.json, document 1: unexpected EOF"},
		"JSON with a brace too many":         {"a.json", "{\"kind\": \"Pod\"}\n{\n\"kind\": \"Pod\"\n}}\n", "a.json, document 3: "},
		"JSON with a word for a number":      {"a.json", "{\"kind\": \"List\", \"apiVersion\": \"v1\",\n\"items\": [\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"a\"}},\n\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": 3}]}", "a.json, document 1, item 2: reading a Pod: "},
		"YAML in a file that is called JSON": {"a.json", "kind: Pod\n  a: b\n", "a.json, document 1: error converting YAML to JSON: yaml: line 2: mapping values are not allowed"},
		"something that is nothing":          {"a.yaml", "just a text\n", "there is no object in it that is looked at"},
		"nothing":                            {"a.yaml", "", "there is no object in it that is looked at"},
		"a Deployment of long ago":           {"a.yaml", strings.ReplaceAll(deployment, "apps/v1", "extensions/v1beta1"), "there is no object in it that is looked at"},
		"no Namespace":                       {"a.yaml", deployment, "the dump has no Namespaces, and their labels decide"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(write(t, map[string]string{test.file: test.text}))
			got := run(t, "plan", "-f", test.file)
			got.check(t, exitError, test.want)
			if got.stdout != "" {
				t.Errorf("on standard output:\n%s", got.stdout)
			}
		})
	}
}

// bomb is a document of a few lines that would fill any memory.
func bomb() string {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		before := string(rune('0' + i))
		text += "a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat("*a"+before+", ", 10) + "*a" + before + "]\n"
	}
	return text
}

func TestDumpsThatAreNotThere(t *testing.T) {
	t.Chdir(write(t, map[string]string{"empty/readme.md": "no objects"}))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"plan", "-f", "gone.yaml"}, "gone.yaml: no such file"},
		{[]string{"plan", "-f", "empty"}, "directory empty has no file that ends in .yaml, .yml, .json"},
		{[]string{"plan", "-f", "empty", "--kubeconfig", "k"}, "none of the others can be"},
		{[]string{"explain", "deploy/web", "-f", "empty", "--context", "k"}, "none of the others can be"},
	} {
		run(t, test.args...).check(t, exitError, test.want)
	}
	runWith(t, "a: [", "plan", "-f", "-").check(t, exitError, "standard input, document 1: ")
}

// parts of a dump that was written by hand.
const (
	shopNamespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n---\n"
	webDeployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 3, template: {metadata: {labels: {app: web}}}}\n---\n"
	webReplicaSet = "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web}]}\n---\n"
	webPods       = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1-a, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1}]}\n---\n" +
		"apiVersion: v1\nkind: Pod\nmetadata: {name: web-1-b, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1}]}\n---\n"
	logsDaemonSet = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: logs, namespace: shop}\n---\n" +
		"apiVersion: v1\nkind: Pod\nmetadata: {name: logs-a, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: logs}]}\n---\n"
)

// Objects without UID, status and times are understood as far as they go.
func TestDumpThatWasWrittenByHand(t *testing.T) {
	dump := shopNamespace + webDeployment + webReplicaSet + webPods + logsDaemonSet +
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db, namespace: shop}\nspec: {replicas: 1}\n---\n" +
		"apiVersion: v1\nkind: Pod\nmetadata: {name: db-0, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db}]}\n---\n" +
		"apiVersion: v1\nkind: Pod\nmetadata: {name: alone}\n---\n" +
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n" + testdata(t, "istio.yaml")
	got := runWith(t, dump, "plan", "-f", "-", "-o", "json")
	got.check(t, exitSomethingToDo, "8 objects have no status")
	verdicts := map[string]string{}
	for _, namespace := range got.document(t, exitSomethingToDo).Namespaces {
		for _, workload := range namespace.Workloads {
			verdicts[namespace.Name+" "+workload.String()] = string(workload.Action) + " " + workload.Reason
		}
	}
	want := map[string]string{
		"default Pod/alone":   "None NamespaceNotLabelled",
		"shop Deployment/web": "Restart RestartDue",
		"shop DaemonSet/logs": "Hold WouldCauseDowntime",
		"shop StatefulSet/db": "Hold WouldCauseDowntime",
	}
	if diff := cmp.Diff(want, verdicts); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func TestWhatADumpLacksIsSaid(t *testing.T) {
	istio := testdata(t, "istio.yaml")
	webhooks, _, _ := strings.Cut(istio, "---\napiVersion: v1\ndata:")
	for name, test := range map[string]struct {
		dump string
		want []string
	}{
		"nothing":        {shopNamespace + webDeployment + webReplicaSet + webPods + istio, nil},
		"the webhooks":   {shopNamespace + webDeployment + webReplicaSet + webPods, []string{"The dump has no MutatingWebhookConfigurations"}},
		"the ConfigMaps": {shopNamespace + webDeployment + webReplicaSet + webPods + webhooks, []string{"The dump has no ConfigMap istio-sidecar-injector in namespace istio-system", "kubectl get configmaps -n istio-system"}},
		"the MeshRestarts": {
			shopNamespace + webDeployment + webReplicaSet + webPods + istio + "---\napiVersion: fullmesh.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {name: p}\n",
			[]string{"The dump has a MeshPolicy and no MeshRestarts", "kubectl get meshrestarts -A -o yaml"},
		},
		"the right ConfigMaps":   {shopNamespace + webDeployment + webReplicaSet + webPods + strings.ReplaceAll(istio, "namespace: istio-system\n  resource", "namespace: mesh\n  resource"), []string{"There is a ConfigMap mesh/istio-sidecar-injector; with --istio-namespace mesh it counts"}},
		"the Pods":               {shopNamespace + webDeployment + istio, []string{"The dump has no Pods"}},
		"a Namespace":            {shopNamespace + webDeployment + webReplicaSet + webPods + istio + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: elsewhere}\n", []string{"does not have every Namespace, and says nothing about what is in elsewhere."}},
		"the ReplicaSets":        {shopNamespace + webDeployment + webPods + istio, []string{"does not have every ReplicaSet: 2 Pods are of one that is not there, and they stand under the ReplicaSet", "kubectl get replicasets -A"}},
		"the Rollouts":           {shopNamespace + strings.ReplaceAll(webReplicaSet, "apps/v1, kind: Deployment", "argoproj.io/v1alpha1, kind: Rollout") + webPods + istio, []string{"does not have every Rollout: 2 Pods are of one that is not there, and nothing can be decided", "kubectl get rollouts -A"}},
		"the Deployments":        {shopNamespace + webReplicaSet + webPods + istio, []string{"does not have every Deployment: 2 Pods are of one that is not there, and nothing can be decided"}},
		"objects of known kinds": {shopNamespace + webDeployment + webReplicaSet + webPods + istio + "---\nkind: Secret\n---\nkind: Secret\n---\nkind: Pod\napiVersion: v7\n---\na: 1\n", []string{"Passed over, because it decides nothing: 1 Pod of v7, 2 Secret.", "Passed over what has no kind, first at standard input, document 13."}},
	} {
		t.Run(name, func(t *testing.T) {
			got := runWith(t, test.dump, "plan", "-f", "-")
			for _, want := range test.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("on standard error there is no %q:\n%s", want, got.stderr)
				}
			}
			if lines := strings.Count(got.stderr, "\n"); test.want == nil && lines != 1 { // that there is no status
				t.Errorf("on standard error:\n%s", got.stderr)
			}
		})
	}
}

// The answer to a dump is the same on any day, and settling does not hide it.
func TestDumpIsDecidedUponAsOfItsNewestTime(t *testing.T) {
	const changed = `managedFields: [{manager: kubectl, operation: Update, apiVersion: v1, time: "2026-03-01T09:04:59Z", fieldsType: FieldsV1, fieldsV1: {"f:metadata": {"f:labels": {}}}}]`
	justLabelled := strings.Replace(shopNamespace, "metadata: {", "metadata: {"+changed+", ", 1)
	policy := "apiVersion: fullmesh.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {name: slow}\nspec: {mode: Enforce, namespaceSelector: {}, settleSeconds: 3600}\n---\n"
	got := runWith(t, justLabelled+policy+webDeployment+webReplicaSet+webPods+testdata(t, "istio.yaml"), "plan", "-f", "-", "-o", "json")
	document := got.document(t, exitSomethingToDo)
	if len(document.Namespaces) != 1 || len(document.Namespaces[0].Workloads) != 1 || document.Namespaces[0].Workloads[0].Reason != string(restart.ReasonRestartDue) || document.PolicyAssumed {
		t.Errorf("the plan is %+v", document)
	}

	inFlight := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop, uid: u, generation: 2}\n" +
		"spec: {replicas: 3, template: {metadata: {annotations: {" + v1alpha1.RestartedByAnnotation + ": deployment-web-1}}}}\n---\n" +
		"apiVersion: fullmesh.dev/v1alpha1\nkind: MeshRestart\n" +
		"metadata: {name: deployment-web-1, namespace: shop, uid: r, resourceVersion: \"7\", creationTimestamp: \"2026-03-01T09:00:00Z\"}\n" +
		"spec: {workload: {group: apps, kind: Deployment, name: web, uid: u, generation: 1}, policy: p, method: RolloutRestart, attempt: 1, inputsHash: 1-x,\n" +
		"  cause: {finding: Missing, revision: default, newestPodTime: \"1970-01-01T00:00:00Z\"}, replicas: 3, readyReplicas: 3}\n---\n"
	runWith(t, justLabelled+inFlight+webReplicaSet+webPods, "plan", "-f", "-").check(t, exitSomethingToDo, "RestartInProgress")
	much := strings.Replace(justLabelled, "09:04:59Z", "23:04:59Z", 1)
	runWith(t, much+inFlight+webReplicaSet+webPods, "plan", "-f", "-").check(t, exitSomethingToDo, "RestartEnded")
}

// A dump with its MeshRestarts says what was tried, and how it ended.
func TestRestartsInADumpAreExplained(t *testing.T) {
	failed := "apiVersion: fullmesh.dev/v1alpha1\nkind: MeshRestart\n" +
		"metadata: {name: deployment-web-1, namespace: shop, uid: r, resourceVersion: \"7\", creationTimestamp: \"2026-03-01T09:00:00Z\"}\n" +
		"spec: {workload: {group: apps, kind: Deployment, name: web, uid: web-uid, generation: 1}, policy: p, method: RolloutRestart, attempt: 1, inputsHash: 0-x,\n" +
		"  cause: {finding: Missing, revision: default, newestPodTime: \"2026-03-01T08:00:00Z\"}, replicas: 3, readyReplicas: 3}\n" +
		"status: {endTime: \"2026-03-01T09:02:00Z\", conditions: [{type: Finished, status: \"True\", reason: Failed, message: It crashes., " +
		"lastTransitionTime: \"2026-03-01T09:02:00Z\"}]}\n---\n"
	web := strings.Replace(webDeployment, "metadata: {", "metadata: {uid: web-uid, ", 1)
	dump := shopNamespace + web + webReplicaSet + webPods + failed + testdata(t, "istio.yaml")
	runWith(t, dump, "plan", "-f", "-").check(t, exitSomethingToDo, string(restart.ReasonRestartFailed), "It crashes.")
	runWith(t, dump, "explain", "deploy/web", "-f", "-").check(t, exitSomethingToDo,
		"Restarts by Fullmesh", "2026-03-01T09:00:00Z  Missing  RolloutRestart  Failed  It crashes.", "LastRestartFailed")
}

func TestRedButtonAndGuardInADump(t *testing.T) {
	objects := shopNamespace + webDeployment + webReplicaSet + webPods + testdata(t, "istio.yaml") + "---\n"
	stop := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + v1alpha1.StopConfigMap + ", namespace: fullmesh-system}\n"
	runWith(t, objects+stop, "plan", "-f", "-").check(t, exitSomethingToDo, string(restart.ReasonStopped))
	unguarded := "apiVersion: fullmesh.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {name: p}\nspec: {mode: Enforce, namespaceSelector: {}}\n" +
		"status: {conditions: [{type: " + v1alpha1.ConditionRestartsAllowed + ", status: \"False\", reason: " + v1alpha1.ReasonGuardMissing + "}]}\n"
	runWith(t, objects+unguarded, "plan", "-f", "-").check(t, exitSomethingToDo, string(restart.ReasonGuardMissing))
	runWith(t, objects, "plan", "-f", "-", "-n", "nowhere").check(t, exitError, "there is no namespace nowhere in this dump")
}

// Whatever a dump holds, it is read or refused, and what was read is decided upon and explained.
func FuzzDump(f *testing.F) {
	istio, err := os.ReadFile(filepath.Join("testdata", "dump", "istio.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(istio)
	f.Add([]byte(shopNamespace + webDeployment + webReplicaSet + webPods + logsDaemonSet))
	f.Add([]byte(`{"kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","uid":"1"}},{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"default"}}]}`))
	f.Add([]byte("apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: a, uid: x, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: x, controller: true}]}\n"))
	f.Add([]byte("a: &a {name: x}\nkind: Pod\napiVersion: v1\nmetadata: *a\n"))
	options := &subjectOptions{istioNamespace: mesh.IstioNamespace, operatorNamespace: defaultNamespace}
	notes := screen{Writer: io.Discard}
	f.Fuzz(func(_ *testing.T, data []byte) {
		d := newDump()
		if d.read("a.yaml", bytes.NewReader(data)) != nil || len(d.objects) == 0 {
			return
		}
		d.complete()
		s, err := options.newDumpSubject(d, notes)
		if err != nil {
			return
		}
		newPlanDocument(restart.Decide(s.Input), s.assumed).print(notes, true)
		for _, namespace := range s.Snapshot.Namespaces {
			for _, workload := range namespace.Workloads {
				s.explain(workload.Key, "a").print(notes)
			}
		}
		_, _, _ = s.resolve(target{kind: "deployment", name: "web"})
	})
}
