package command

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestExplanationIsPrinted(t *testing.T) {
	for _, test := range []struct {
		golden string
		status int
		args   []string
	}{
		{"explain-web.txt", exitSomethingToDo, []string{"deploy/web", "-n", "shop"}},
		{"explain-pod.txt", exitSomethingToDo, []string{"pod/batcher-6b5d4c7f8b-mmk86", "-n", "shop"}},
		{"explain-legacy.txt", exitNothingToDo, []string{"deploy/legacy", "-n", "shop"}},
		{"explain-ledger.json", exitSomethingToDo, []string{"deploy/ledger", "-o", "json"}},
	} {
		t.Run(test.golden, func(t *testing.T) {
			got := run(t, append([]string{"explain", "-f", "testdata/dump"}, test.args...)...)
			got.check(t, test.status)
			checkGolden(t, test.golden, []byte(got.stdout))
		})
	}
}

// explained runs explain on the dump in testdata.
func explained(t *testing.T, status int, args ...string) *explanation {
	t.Helper()
	got := run(t, append([]string{"explain", "-f", "testdata/dump", "-o", "json"}, args...)...)
	got.check(t, status)
	var document explanation
	if err := json.Unmarshal([]byte(got.stdout), &document); err != nil {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	return &document
}

func TestWorkloadsAreNamedAsForKubectl(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		kind   string
		name   string
		pod    string
	}{
		{[]string{"Deployment/web"}, exitSomethingToDo, "Deployment", "web", ""},
		{[]string{"deployments/web"}, exitSomethingToDo, "Deployment", "web", ""},
		{[]string{"deployment.apps/web"}, exitSomethingToDo, "Deployment", "web", ""},
		{[]string{"DEPLOY/web", "-n", "shop"}, exitSomethingToDo, "Deployment", "web", ""},
		{[]string{"sts/cache"}, exitSomethingToDo, "StatefulSet", "cache", ""},
		{[]string{"job/migrate"}, exitNothingToDo, "Job", "migrate", ""},
		{[]string{"cj/report"}, exitNothingToDo, "CronJob", "report", ""},
		{[]string{"po/debug"}, exitSomethingToDo, "Pod", "debug", "debug"},
		{[]string{"pods/web-7d4b9c6f5d-fw7nc"}, exitSomethingToDo, "Deployment", "web", "web-7d4b9c6f5d-fw7nc"},
		{[]string{"pod/report-29538720-7wq2n"}, exitNothingToDo, "CronJob", "report", "report-29538720-7wq2n"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			got := explained(t, test.status, test.args...)
			pod := ""
			if got.Pod != nil {
				pod = got.Pod.Name
			}
			if got.Kind != test.kind || got.Name != test.name || pod != test.pod {
				t.Errorf("it explains %s/%s and Pod %q", got.Kind, got.Name, pod)
			}
		})
	}
}

func TestWhatIsNotThereIsAnErrorWithNearNames(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"web"}, `"web" is not KIND/NAME, for instance deployment/web`},
		{[]string{"deploy/"}, "is not KIND/NAME"},
		{[]string{"a/b/c"}, "is not KIND/NAME"},
		{[]string{"deploy/wbe"}, "there is no deployment/wbe in this dump; near it: deployment/web in shop"},
		{[]string{"deploy/wbe", "-n", "shop"}, "there is no deployment/wbe in namespace shop in this dump; near it: deployment/web"},
		{[]string{"deploy/db", "-n", "shop"}, "near it: statefulset/db"},
		{[]string{"deploy/db.mysql", "-n", "shop"}, "there is no deployment/db.mysql in namespace shop in this dump\n"},
		{[]string{"pod/web-7d4b9c6f5d-fw7nd", "-n", "shop"}, "near it: pod/web-7d4b9c6f5d-fw7nc"},
		{[]string{"rs/web-7d4b9c6f5d", "-n", "shop"}, "deployment/web"},
		{[]string{"deploy/web", "-n", "shopp"}, "there is no namespace shopp in this dump"},
		{[]string{"deploy.example.com/web"}, "there is no deployment.example.com/web"},
		{[]string{"deploy/web", "-o", "table"}, "must be text, json or yaml"},
		{nil, "accepts 1 arg(s)"},
	} {
		run(t, append([]string{"explain", "-f", "testdata/dump"}, test.args...)...).check(t, exitError, test.want)
	}
	twice := strings.ReplaceAll(shopNamespace+webDeployment, "shop", "other") + shopNamespace + webDeployment
	runWith(t, twice, "explain", "deploy/web", "-f", "-").check(t, exitError, "there are several deployment/web, in the namespaces other, shop; say which with -n")
}

// What explain says and what plan says is one decision.
func TestExplainSaysWhatPlanSays(t *testing.T) {
	plan := run(t, "plan", "-f", "testdata/dump", "-o", "json").document(t, exitSomethingToDo)
	workloads := 0
	for _, namespace := range plan.Namespaces {
		for _, row := range namespace.Workloads {
			status := exitNothingToDo
			if row.needsSomething() {
				status = exitSomethingToDo
			}
			got := explained(t, status, strings.ToLower(row.Kind)+"/"+row.Name, "-n", namespace.Name)
			if got.Verdict.Message != row.Message || string(got.Verdict.Reason) != row.Reason || got.Verdict.Action != row.Action || got.Finding.Finding != row.Finding {
				t.Errorf("%s: explain says %+v, and plan %+v", &row, got.Verdict, row)
			}
			holds := slices.ContainsFunc(got.Phases, func(phase restart.TracedPhase) bool { return phase.Answer == restart.AnswerHolds })
			if (row.Action == v1alpha1.ActionHold) != holds {
				t.Errorf("%s is %s, and a phase holds: %t", &row, row.Action, holds)
			}
			running := 0
			for _, group := range got.Pods {
				if group.State == "Running" {
					running += group.Pods
				}
			}
			if running != row.Pods {
				t.Errorf("%s: explain groups %d Pods, and plan counts %d", &row, running, row.Pods)
			}
			workloads++
		}
	}
	if workloads < 10 {
		t.Errorf("only %d workloads were looked at", workloads)
	}
}

func TestExplainWhereNoPolicyGoverns(t *testing.T) {
	policy := "apiVersion: fullmesh.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {name: p}\nspec: {mode: Enforce, namespaceSelector: {matchLabels: {team: another}}}\n---\n"
	dump := policy + shopNamespace + webDeployment + webReplicaSet + webPods + testdata(t, "istio.yaml")
	got := runWith(t, dump, "explain", "deploy/web", "-f", "-")
	got.check(t, exitNothingToDo, "No MeshPolicy governs the namespace shop", "An administrator can have a MeshPolicy govern the namespace shop", "Missing (SidecarMissing)")
	system := strings.ReplaceAll(dump, "shop", "kube-system")
	runWith(t, system, "explain", "deploy/web", "-f", "-").check(t, exitNothingToDo, "are governed only with the label fullmesh.dev/include=true")
}

func TestExplainOnATerminalIsWrapped(t *testing.T) {
	dumped, err := readDump([]string{"testdata/dump"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	options := &subjectOptions{istioNamespace: mesh.IstioNamespace, operatorNamespace: defaultNamespace}
	var printed strings.Builder
	s, err := options.newDumpSubject(dumped, screen{Writer: &printed})
	if err != nil {
		t.Fatal(err)
	}
	key, pod, err := s.resolve(target{kind: "deployment", name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	s.explain(key, pod).print(screen{&printed, 120})
	for line := range strings.Lines(printed.String()) {
		if len(line) > 121 {
			t.Errorf("a line has %d characters: %s", len(line), line)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"web", "web", 0}, {"web", "", 3}, {"", "web", 3}, {"wbe", "web", 2}, {"cart", "carts", 1}, {"kitten", "sitting", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("%q and %q are %d apart, want %d", test.a, test.b, got, test.want)
		}
	}
}

// A restart by hand is proposed only where nothing speaks against a restart but that nobody wanted it.
func TestRestartByHandIsProposedWhereItHelps(t *testing.T) {
	held := func(reason restart.Reason, risks ...restart.Reason) *restart.Trace {
		p := newPicture()
		p.SetNamespace(builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(then).Build(), now)
		p.run(builder.Deployment("shop", "web").Replicas(2).CreatedAt(then).RolledOut().Build(), 0, 2)
		workload := p.Snapshot().Namespaces[0].Workloads[0]
		return &restart.Trace{Risks: risks, Verdict: restart.Verdict{Workload: workload, Action: v1alpha1.ActionHold, Reason: reason}}
	}
	for reason, want := range map[restart.Reason]bool{
		restart.ReasonOptedOut: true, restart.ReasonReportMode: true, restart.ReasonWouldCauseDowntime: true,
		restart.ReasonRestartFailed: false, restart.ReasonOwnedByOperator: false, restart.ReasonCreationDenied: false, restart.ReasonInjectedPodsFailing: false,
		restart.ReasonRestartDue: false,
	} {
		if got := restartByHand(held(reason), false) != ""; got != want {
			t.Errorf("%s: proposed is %t", reason, got)
		}
	}
	if restartByHand(held(restart.ReasonRestartDue), true) == "" {
		t.Error("where a policy is only assumed, nobody else restarts it")
	}
	if restartByHand(held(restart.ReasonOptedOut, restart.ReasonWouldCauseDowntime), false) == "" {
		t.Error("a moment without Pods is for its owner to choose")
	}
	if proposed := restartByHand(held(restart.ReasonOptedOut, restart.ReasonWouldCauseDowntime, restart.ReasonStrictMTLS), false); proposed != "" {
		t.Errorf("it would refuse its callers, and proposed is %s", proposed)
	}
	if proposed := restartByHand(held(""), false); proposed != "" {
		t.Errorf("what it risks is not known where no policy governs it, and proposed is %s", proposed)
	}
}
