package inventory_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestCauseIsReadAsItWasWritten(t *testing.T) {
	for token, cause := range map[string]inventory.Cause{
		"1/Missing/1-27/u-1/1764000000":          {Finding: v1alpha1.FindingMissing, Revision: "1-27", UID: "u-1", Newest: 1764000000},
		"1/Missing/1-27/u-1/1764000000/0f3c2a91": {Finding: v1alpha1.FindingMissing, Revision: "1-27", UID: "u-1", Newest: 1764000000, Retry: "0f3c2a91"},
	} {
		if got := cause.String(); got != token {
			t.Errorf("written as %q, want %q", got, token)
		}
		got, err := inventory.ParseCause(token)
		if diff := cmp.Diff(cause, got); diff != "" || err != nil {
			t.Errorf("read (-want +got), %v:\n%s", err, diff)
		}
	}
}

// A cause is the same as one before it where no more than Pods have gone since: those that are left
// were to be replaced then already.
func TestCauseCoversWhatIsLeftOfIt(t *testing.T) {
	tried := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: "u-1", Newest: 100}
	for name, test := range map[string]struct {
		change func(*inventory.Cause)
		covers bool
	}{
		"itself":           {func(*inventory.Cause) {}, true},
		"older Pods":       {func(c *inventory.Cause) { c.Newest = 99 }, true},
		"newer Pods":       {func(c *inventory.Cause) { c.Newest = 101 }, false},
		"another finding":  {func(c *inventory.Cause) { c.Finding = v1alpha1.FindingStale }, false},
		"another revision": {func(c *inventory.Cause) { c.Revision = "canary" }, false},
		"another workload": {func(c *inventory.Cause) { c.UID = "u-2" }, false},
		"asked for again":  {func(c *inventory.Cause) { c.Retry = "0f3c2a91" }, false},
	} {
		now := tried
		test.change(&now)
		if got := tried.Covers(now); got != test.covers {
			t.Errorf("%s: covered %t", name, got)
		}
	}
}

func TestCauseThatIsNotKnownIsAnError(t *testing.T) {
	for _, token := range []string{"", "2/Missing/default/u-1/1764000000", "1/Missing/default/u-1", "1/Missing/default/u-1/1/2/3", "1/Missing/default/u-1/1/", "1/Missing/default/u-1/now", "yes"} {
		if cause, err := inventory.ParseCause(token); err == nil || !strings.Contains(err.Error(), "not a cause that this version knows") {
			t.Errorf("%q: read as %v, %v", token, cause, err)
		}
	}
}

func FuzzParseCause(f *testing.F) {
	f.Add("1/Missing/default/u-1/1764000000")
	f.Add("1/////0")
	f.Add("1/Missing/default/u-1/1764000000/0f3c2a91")
	f.Fuzz(func(t *testing.T, token string) {
		cause, err := inventory.ParseCause(token)
		if err != nil {
			return
		}
		again, err := inventory.ParseCause(cause.String())
		if err != nil || again != cause {
			t.Errorf("%q is read as %v, and written again as %v (%v)", token, cause, again, err)
		}
	})
}

func TestRecordIsReadFromItsObject(t *testing.T) {
	began := inventory.NewRecord(inventory.Cause{Finding: v1alpha1.FindingMissing, UID: "u-1", Newest: 7}, "RolloutRestart", "hash", noon.Add(time.Millisecond))
	ended := began.Ended(v1alpha1.ResultFailed, "It did not work.", noon.Add(time.Minute))
	for name, test := range map[string]struct {
		annotation string
		want       *inventory.Record
		wantError  string
	}{
		"one that is in flight":                              {began.String(), &began, ""},
		"one that has ended":                                 {ended.String(), &ended, ""},
		"none where there is none":                           {"", nil, ""},
		"none where it is another object's":                  {strings.ReplaceAll(began.String(), "u-1", "u-2"), nil, ""},
		"an error where it is no record":                     {"yes", nil, "is not a record"},
		"an error where its format is newer":                 {strings.Replace(began.String(), `"version":1`, `"version":2`, 1), nil, "has format 2 and this version knows 1"},
		"an error where its format is newer and another one": {`{"version":2,"cause":{},"start":1764000000}`, nil, "has format 2 and this version knows 1"},
		"an error where it has no format":                    {`{}`, nil, "which no version writes"},
		"an error where its format is another one":           {`{"version":1,"cause":{}}`, nil, "is not a record"},
		"an error where its cause is unknown": {strings.Replace(began.String(), "1/Missing", "2/Missing", 1), nil,
			"not a cause that this version knows"},
	} {
		t.Run(name, func(t *testing.T) {
			deployment := builder.Deployment("shop", "cart").UID("u-1")
			if test.annotation != "" {
				deployment.Annotated(v1alpha1.LastRestartAnnotation, test.annotation)
			}
			workload := only(t, inventory.FromDeployment(deployment.Build()))
			if diff := cmp.Diff(test.want, workload.Record); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			if test.wantError == "" != (workload.RecordError == nil) || test.wantError != "" && !strings.Contains(workload.RecordError.Error(), test.wantError) {
				t.Errorf("error %v, want %q", workload.RecordError, test.wantError)
			}
			if inFlight := name == "one that is in flight"; workload.Record.InFlight() != inFlight {
				t.Errorf("in flight: %t", workload.Record.InFlight())
			}
			if failed := name == "one that has ended"; workload.Record.Failed() != failed {
				t.Errorf("failed: %t", workload.Record.Failed())
			}
		})
	}
}

// only is the picture of one workload by itself.
func only(t *testing.T, object *inventory.Object) *inventory.Workload {
	t.Helper()
	i := inventory.New()
	i.SetNamespace(builder.Namespace(object.Namespace).Build(), noon)
	i.SetObject(object)
	return i.Snapshot().Namespaces[0].Workloads[0]
}

// Anybody who may annotate a workload may write a record. What this version cannot have written is
// not believed.
func TestForgedRecordsAreNotBelieved(t *testing.T) {
	const uid = "u-1"
	genuine := inventory.NewRecord(inventory.Cause{Finding: v1alpha1.FindingMissing, UID: uid, Newest: 7}, v1alpha1.MethodRolloutRestart, "", noon)
	forge := func(change func(*inventory.Record)) string {
		forged := genuine
		change(&forged)
		return forged.String()
	}
	judge := func(workload metav1.Object) *inventory.Workload {
		i := inventory.New()
		i.SetNamespace(builder.Namespace("shop").Build(), noon)
		switch workload := workload.(type) {
		case *appsv1.Deployment:
			i.SetObject(inventory.FromDeployment(workload))
		case *batchv1.CronJob:
			i.SetObject(inventory.FromCronJob(workload))
		}
		return i.Snapshot().Namespaces[0].Workloads[0]
	}
	cart := func(record string) *inventory.Workload {
		return judge(builder.Deployment("shop", "cart").UID(uid).Annotated(v1alpha1.LastRestartAnnotation, record).Build())
	}
	if got := cart(genuine.String()); got.Record == nil || got.RecordError != nil {
		t.Fatalf("a genuine record: %v, %v", got.Record, got.RecordError)
	}
	for name, record := range map[string]string{
		"an unknown method":          forge(func(r *inventory.Record) { r.Method = "Magic" }),
		"a probe less than none":     forge(func(r *inventory.Record) { r.Probe.Policy = -1 }),
		"fewer Pods than none":       forge(func(r *inventory.Record) { r.Ready = -1 }),
		"an unknown result":          forge(func(r *inventory.Record) { r.Result = "Perhaps" }),
		"excused less than never":    forge(func(r *inventory.Record) { r.Excused = -1 }),
		"a cause that is no finding": forge(func(r *inventory.Record) { r.Cause = strings.Replace(r.Cause, "Missing", "Meshed", 1) }),
	} {
		if got := cart(record); got.Record != nil || got.RecordError == nil {
			t.Errorf("%s: record %v, error %v", name, got.Record, got.RecordError)
		}
	}
	cron := judge(builder.CronJob("shop", "nightly").UID(uid).Annotated(v1alpha1.LastRestartAnnotation, genuine.String()).Build())
	if cron.Record != nil || cron.RecordError != nil {
		t.Errorf("a CronJob, which is never restarted, has the record %v, %v", cron.Record, cron.RecordError)
	}
}

// A Pod that names a Deployment as its owner was not made by it: a Deployment makes ReplicaSets.
func TestPodThatNamesADeploymentStandsAlone(t *testing.T) {
	web := builder.Deployment("shop", "web").Build()
	i := inventory.New()
	i.SetNamespace(builder.Namespace("shop").Build(), noon)
	i.SetObject(inventory.FromDeployment(web))
	i.SetPod(mesh.CutDown(builder.Pod("shop", "rogue").OwnedBy(web).CreatedAt(noon).Build()))
	pods := map[mesh.Key]int{}
	for _, workload := range i.Snapshot().Namespaces[0].Workloads {
		pods[workload.Key] = workload.Pods.Running
	}
	want := map[mesh.Key]int{
		{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}: 0,
		{Kind: "Pod", Namespace: "shop", Name: "rogue"}:                     1,
	}
	if diff := cmp.Diff(want, pods); diff != "" {
		t.Errorf("running Pods (-want +got):\n%s", diff)
	}
}

// Nobody holds up others by a number in a template.
func TestPatienceIsBounded(t *testing.T) {
	for _, seconds := range []int64{-1, 1e9, 1e10, math.MaxInt64} {
		object := inventory.FromDeployment(builder.Deployment("shop", "web").With(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.TerminationGracePeriodSeconds = &seconds
			d.Spec.Template.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: math.MaxInt32, FailureThreshold: math.MaxInt32}
		}).Build())
		if got := object.Patience(); got != time.Hour {
			t.Errorf("with a grace period of %ds the patience is %s", seconds, got)
		}
	}
}
