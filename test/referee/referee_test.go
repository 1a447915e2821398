package referee

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// restartOf is a rollout restart of the workload web, of generation 1, for its Pods of second 100.
func restartOf(name string, with ...func(*inventory.Restart)) *inventory.Restart {
	r := &inventory.Restart{
		Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1",
		Workload: mesh.Key{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}, WorkloadUID: "web", Generation: 1,
		Policy: "production", Cause: inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", Newest: 100},
		Method: v1alpha1.MethodRolloutRestart, InputsHash: "v1-a", Attempt: 1,
	}
	for _, change := range with {
		change(r)
	}
	return r
}

func ended(result v1alpha1.RestartResult) func(*inventory.Restart) {
	return func(r *inventory.Restart) { r.Result = result }
}
func newest(second int64) func(*inventory.Restart) {
	return func(r *inventory.Restart) { r.Cause.Newest = second }
}
func byEviction(r *inventory.Restart)    { r.Method = v1alpha1.MethodEviction }
func otherInputs(r *inventory.Restart)   { r.InputsHash = "v1-b" }
func requested(r *inventory.Restart)     { r.Requests.Namespace = "again" }
func excused(r *inventory.Restart)       { r.Excuse = v1alpha1.ExcuseInjectorSilent }
func forLeftover(r *inventory.Restart)   { r.Cause.Finding = v1alpha1.FindingLeftover }
func excusedBefore(r *inventory.Restart) { r.Excused = maxExcused }
func ofOtherPolicy(r *inventory.Restart) { r.Policy = "other" }
func askedOfPolicy(r *inventory.Restart) { r.Requests.Policy = "again" }
func all[T any](several ...T) []T        { return several }
func begun(t *testing.T, several ...*inventory.Restart) *Ledger {
	t.Helper()
	l := &Ledger{}
	for _, r := range several {
		unfinished := *r
		unfinished.Result, unfinished.Excuse = "", ""
		if err := l.Write(&unfinished); err != nil {
			t.Fatal(err)
		}
		if touched, err := l.Touch("shop", r.Name, "web", 2); touched != (r.Method != v1alpha1.MethodEviction) || err != nil {
			t.Fatalf("%s: touched is %t, %v", r.Name, touched, err)
		}
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestNothingIsRestartedTwiceForOneCause(t *testing.T) {
	for name, test := range map[string]struct {
		before []*inventory.Restart
		next   *inventory.Restart
		may    bool
	}{
		"the first":                                  {nil, restartOf("b"), true},
		"one in flight":                              {all(restartOf("a")), restartOf("b", newest(200)), false},
		"the same after success":                     {all(restartOf("a", ended("Succeeded"))), restartOf("b", otherInputs), false},
		"the same after success, asked for":          {all(restartOf("a", ended("Succeeded"))), restartOf("b", requested), true},
		"newer Pods after success":                   {all(restartOf("a", ended("Succeeded"))), restartOf("b", newest(200)), true},
		"older Pods after success":                   {all(restartOf("a", ended("Succeeded"))), restartOf("b", newest(50)), false},
		"older Pods after evictions":                 {all(restartOf("a", byEviction, ended("Succeeded"))), restartOf("b", newest(50)), true},
		"the same Pods after evictions":              {all(restartOf("a", byEviction, ended("Succeeded"))), restartOf("b", byEviction), false},
		"another finding after success":              {all(restartOf("a", ended("Succeeded"))), restartOf("b", forLeftover), true},
		"newer Pods after failure":                   {all(restartOf("a", ended("Failed"))), restartOf("b", newest(200)), false},
		"other inputs after failure":                 {all(restartOf("a", ended("Failed"))), restartOf("b", otherInputs), true},
		"a request after failure":                    {all(restartOf("a", ended("Failed"))), restartOf("b", requested), true},
		"a request that failed already":              {all(restartOf("a", requested, ended("Failed"))), restartOf("b", requested), false},
		"a request that was taken back":              {all(restartOf("a", requested, ended("Failed"))), restartOf("b"), false},
		"a request on the policy":                    {all(restartOf("a", ended("Failed"))), restartOf("b", askedOfPolicy), true},
		"a request on another policy":                {all(restartOf("a", ended("Failed"))), restartOf("b", askedOfPolicy, ofOtherPolicy), false},
		"evictions after failed evictions":           {all(restartOf("a", byEviction, ended("Failed"))), restartOf("b", byEviction), true},
		"newer Pods after one without effect":        {all(restartOf("a", ended("Ineffective"))), restartOf("b", newest(200)), false},
		"newer Pods after an excuse":                 {all(restartOf("a", ended("Ineffective"), excused)), restartOf("b", newest(200)), true},
		"the same after it was taken back":           {all(restartOf("a", ended("Reverted"))), restartOf("b", newest(200)), false},
		"evictions after it was taken back":          {all(restartOf("a", ended("Reverted"))), restartOf("b", byEviction), true},
		"the same after an interruption":             {all(restartOf("a", ended("Interrupted"))), restartOf("b"), true},
		"the same after failure and an interruption": {all(restartOf("a", ended("Failed")), restartOf("x", otherInputs, ended("Interrupted"))), restartOf("b"), false},
		"what failed before the last that failed":    {all(restartOf("a", ended("Failed")), restartOf("x", otherInputs, ended("Failed"))), restartOf("b"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := begun(t, test.before...).MayStart(test.next); (err == nil) != test.may {
				t.Errorf("it may start: %t, want %t: %v", err == nil, test.may, err)
			}
		})
	}
}

func TestARestartIsWhatItWasUntilItEnds(t *testing.T) {
	for name, test := range map[string]struct {
		before *inventory.Restart
		write  func(l *Ledger) error
		want   string
	}{
		"created with a result":  {restartOf("a", ended("Succeeded")), func(l *Ledger) error { return l.Write(restartOf("b", ended("Failed"))) }, "created with the result"},
		"another spec":           {restartOf("a"), func(l *Ledger) error { return l.Write(restartOf("a", otherInputs)) }, "has changed"},
		"late completion":        {restartOf("a", ended("Failed")), func(l *Ledger) error { return l.Write(restartOf("a", ended("Succeeded"))) }, ""},
		"another result":         {restartOf("a", ended("Succeeded")), func(l *Ledger) error { return l.Write(restartOf("a", ended("Failed"))) }, "was Succeeded"},
		"no result any more":     {restartOf("a", ended("Failed")), func(l *Ledger) error { return l.Write(restartOf("a")) }, "was Failed"},
		"excused too often":      {restartOf("a", excusedBefore), func(l *Ledger) error { return l.Write(restartOf("a", excusedBefore, ended("Ineffective"), excused)) }, "excused"},
		"deleted in flight":      {restartOf("a"), func(l *Ledger) error { return l.Delete("shop", "a", false) }, "before it had ended"},
		"gone with its workload": {restartOf("a"), func(l *Ledger) error { return l.Delete("shop", "a", true) }, ""},
		"deleted when ended":     {restartOf("a", ended("Succeeded")), func(l *Ledger) error { return l.Delete("shop", "a", false) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.write(begun(t, test.before))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

func TestAWorkloadIsTouchedOnce(t *testing.T) {
	l := &Ledger{}
	touch := func(what string, name string, workload types.UID, generation int64, want bool, wantErr string) {
		t.Helper()
		touched, err := l.Touch("shop", name, workload, generation)
		if touched != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%s: touched is %t, want %t, %v", what, touched, want, err)
		}
	}
	for _, r := range all(restartOf("a"), restartOf("evicts", byEviction, func(r *inventory.Restart) { r.WorkloadUID = "db" }), restartOf("void")) {
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	touch("a name that no MeshRestart has", "none", "web", 2, false, "")
	touch("a name that was copied to another workload", "a", "other", 2, false, "")
	touch("an eviction", "evicts", "db", 2, false, "")
	touch("the first time", "a", "web", 2, true, "")
	touch("put back by somebody", "a", "web", 4, false, "")
	if err := l.Write(restartOf("a", ended("Succeeded"))); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(restartOf("void", ended("Reverted"))); err != nil {
		t.Fatal(err)
	}
	touch("after its end", "void", "web", 2, false, "after it had ended")
	if err := l.Delete("shop", "a", false); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(restartOf("late", newest(200))); err != nil {
		t.Fatal(err)
	}
	touch("of another generation", "late", "web", 3, true, "was made for generation 1")
	if got := len(l.Begun("web")); got != 2 {
		t.Errorf("%d restarts have begun, want 2", got)
	}
	if got := l.Unfinished(); len(got) != 2 || got[0].Name != "evicts" || got[1].Name != "late" {
		t.Errorf("unfinished are %v", got)
	}
}

func TestIntentsCountAgainstBudgets(t *testing.T) {
	l := begun(t, restartOf("done", ended("Succeeded")))
	for _, name := range []string{"a", "b"} {
		if err := l.Write(restartOf(name, func(r *inventory.Restart) { r.WorkloadUID = types.UID(name) })); err != nil {
			t.Fatal(err)
		}
	}
	used := l.InUse(func(r *inventory.Restart) (int, bool) { return 3, r.Namespace == "shop" })
	if want := (Usage{Workloads: 2, Pods: 6}); used != want {
		t.Errorf("in use are %+v, want %+v", used, want)
	}
	for budget, allows := range map[Usage]bool{{2, 6}: true, {1, 6}: false, {2, 5}: false} {
		if err := (Budget{"Policy", budget}).Allows(used); (err == nil) != allows {
			t.Errorf("%+v allows %+v: %v", budget, used, err)
		}
	}
}

func TestAPatchDoesNothingButRestart(t *testing.T) {
	const tests = `{"op":"test","path":"/metadata/uid","value":"u"},{"op":"test","path":"/metadata/generation","value":7}`
	const named = `{"op":"add","path":"/spec/template/metadata/annotations/fullmesh.dev~1restarted-by","value":"a"}`
	for name, test := range map[string]struct{ patch, wantErr string }{
		"a restart":               {"[" + tests + "," + named + "]", ""},
		"the first annotation":    {"[" + tests + `,{"op":"add","path":"/spec/template/metadata/annotations","value":{}},` + named + "]", ""},
		"a Rollout":               {"[" + tests + `,{"op":"add","path":"/spec/restartAt","value":"2026-01-01T00:00:00Z"}]`, ""},
		"both":                    {"[" + tests + "," + named + `,{"op":"add","path":"/spec/restartAt","value":"2026-01-01T00:00:00Z"}]`, "in one way"},
		"nothing":                 {"[" + tests + "]", "in one way"},
		"no tests":                {"[" + named + "]", "does not test"},
		"annotations of others":   {"[" + tests + `,{"op":"add","path":"/spec/template/metadata/annotations","value":{"a":"b"}},` + named + "]", "more than restart"},
		"metadata":                {"[" + tests + "," + named + `,{"op":"add","path":"/metadata/annotations/a","value":"b"}]`, "more than restart"},
		"something is taken away": {"[" + tests + "," + named + `,{"op":"remove","path":"/spec/template/metadata/annotations/a"}]`, "more than restart"},
		"a patch of another sort": {`{"metadata":{"annotations":{"a":"b"}}}`, "reading the patch"},
		"a name that is no text":  {"[" + tests + `,{"op":"add","path":"/spec/template/metadata/annotations/fullmesh.dev~1restarted-by","value":1}]`, "reading /spec"},
	} {
		t.Run(name, func(t *testing.T) {
			touch, err := ReadTouch([]byte(test.patch))
			if (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Fatalf("the error is %v, want %q", err, test.wantErr)
			}
			if err == nil && (touch.Workload != "u" || touch.Generation != 7 || (touch.Name != "a") == touch.RestartAt.IsZero()) {
				t.Errorf("it says %+v", touch)
			}
		})
	}
}
